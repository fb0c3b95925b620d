/*
 * Runs a function in a child process and tells how the child ended: for what a process can do only
 * once, as entering a filter or giving up its identity. Used by tests.
 */
#ifndef POSTERN_TESTS_SUPPORT_SANDBOX_H
#define POSTERN_TESTS_SUPPORT_SANDBOX_H

#include <stdbool.h>

struct sandbox_end {
	int signal; /* that ended the child, or 0 */
	int status; /* its exit status, if no signal did */
};

/* The child calls body(context) and exits with what it returns, without running exit handlers. The
 * child has no core file and is killed after ten seconds. */
struct sandbox_end sandbox_run(int (*body)(void *context), void *context);

/* From here on, socket(2) fails with `error` if its argument number `argument`, from 0 on, is
 * `value`: as on a kernel without IPv6, or in a container that denies raw sockets. Returns whether
 * that was done. */
bool sandbox_fail_sockets(unsigned int argument, int value, int error);

#ifdef __x86_64__
/* A harmless call by the 32-bit entry (int $0x80), which a filter must forbid as well: true if the
 * call succeeded. Where there is no such entry the process is ended by SIGSEGV. */
bool sandbox_call_32_bit(void);

/* Whether there is one: some kernels and hypervisors have none. Tried in a child process. */
bool sandbox_has_32_bit(void);

/* Added to the number of a call it makes an x32 call of it, where the kernel has these; filters see
 * it in any case. */
#define SANDBOX_X32 0x40000000
#endif

/* True in a build with sanitizers, where the front end's filters are not entered. */
bool sandbox_sanitized(void);

#endif
