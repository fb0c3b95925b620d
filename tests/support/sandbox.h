/*
 * Runs a function in a child of its own and tells how the child ended: for what a process can do
 * only once, like entering a filter, or giving up its identity. Used by tests.
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

/* True in a build with sanitizers, where the front end's filters are not entered. */
bool sandbox_sanitized(void);

#endif
