/*
 * The front end's filters: what must not be possible in them, and that ordinary work with the C
 * library still is.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "policy/confine.h"
#include "tests/support/sandbox.h"

enum {
	SURVIVED = 42,
	NO_FILTER = 43,
	MOST_ARGUMENTS = 4,
};

struct attempt {
	int (*confine)(void);
	long number;
	long arguments[MOST_ARGUMENTS];
	const char *what;
};

static int make_attempt(void *context)
{
	const struct attempt *attempt = context;
	const long *a = attempt->arguments;

	if (attempt->confine() != 0)
		return NO_FILTER;
	errno = 0;
	syscall(attempt->number, a[0], a[1], a[2], a[3], 0, 0);
	return errno == EPERM || errno == ENOSYS ? errno : SURVIVED;
}

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* What nobody in the front end does, with arguments that would fail harmlessly if it were allowed.
 */
static const struct attempt nobody[] = {
	{NULL, SYS_execve, {0, 0, 0}, "another program"},
	{NULL, SYS_execveat, {-1, 0, 0}, "another program"},
	{NULL, SYS_ptrace, {-1, 0, 0}, "another process' memory"},
	{NULL, SYS_process_vm_readv, {-1, 0, 0}, "another process' memory"},
	{NULL, SYS_process_vm_writev, {-1, 0, 0}, "another process' memory"},
	{NULL, SYS_pidfd_open, {-1, 0}, "another process"},
	{NULL, SYS_pidfd_getfd, {-1, 0}, "another process' descriptors"},
	{NULL, SYS_clone, {SIGCHLD, -1, 0}, "a process"},
	{NULL, SYS_socket, {AF_INET, SOCK_RAW, 1}, "a raw socket"},
	{NULL, SYS_socket, {AF_PACKET, SOCK_DGRAM, 0}, "a packet socket"},
	{NULL, SYS_socket, {AF_NETLINK, SOCK_RAW, 16}, "generic netlink"},
	{NULL, SYS_openat, {-1, 0, 01}, "a file to write"},
	{NULL, SYS_openat, {-1, 0, 02}, "a file to change"},
	{NULL, SYS_openat, {-1, 0, 0100}, "a file to make"},
	{NULL, SYS_unlinkat, {-1, 0, 0}, "fewer files"},
	{NULL, SYS_renameat2, {-1, 0, -1, 0}, "files elsewhere"},
	{NULL, SYS_fchmodat, {-1, 0, 0}, "modes"},
	{NULL, SYS_mount, {0, 0, 0, 0}, "mounts"},
	{NULL, SYS_unshare, {-1}, "a user namespace, and with it the kernel's privileged half"},
	{NULL, SYS_setns, {-1, 0}, "a namespace"},
	{NULL, SYS_bpf, {-1, 0, 0}, "bpf"},
	{NULL, SYS_perf_event_open, {0, -1, -1, -1}, "perf"},
	{NULL, SYS_keyctl, {-1, 0, 0}, "keys"},
	{NULL, SYS_io_uring_setup, {0, 0}, "io_uring, which passes by filters"},
	{NULL, SYS_userfaultfd, {-1}, "userfaultfd"},
	{NULL, SYS_memfd_create, {0, -1}, "files in memory, which can be executed"},
	{NULL, SYS_ioctl, {0, 0x5412, 0}, "TIOCSTI: typing for the user"},
	{NULL, SYS_prctl, {-1, 0, 0, 0}, "prctl"},
	{NULL, SYS_seccomp, {-1, 0, 0}, "another filter"},
	{NULL, SYS_fcntl, {0, 8, 0, 0}, "F_SETOWN: whom signals reach"},
	{NULL, SYS_fcntl, {0, 10, 9, 0}, "F_SETSIG: which signal"},
	{NULL, SYS_kill, {-1, 0}, "signals"},
	{NULL, SYS_tgkill, {-1, -1, 0}, "signals"},
};

/* What only the helper that looks up names does. */
static const struct attempt only_resolver[] = {
	{NULL, SYS_openat, {-1, 0, 0}, "a file to read"},
	{NULL, SYS_socket, {AF_INET, SOCK_DGRAM, 0}, "a UDP socket"},
	{NULL, SYS_socket, {AF_UNIX, SOCK_STREAM, 0}, "a local socket"},
	{NULL, SYS_connect, {-1, 0, 0}, "a connection"},
	{NULL, SYS_bind, {-1, 0, 0}, "an address"},
	{NULL, SYS_setsockopt, {-1, 0, 0, 0}, "a socket option"},
	{NULL, SYS_mmap, {0, 0, PROT_EXEC, 0}, "code"},
	{NULL, SYS_mprotect, {0, 0, PROT_EXEC, 0}, "code"},
};

static void skip_if_sanitized(void)
{
	if (sandbox_sanitized())
		cr_skip_test("with sanitizers the front end enters no filter");
}

static void expect(int (*confine)(void), const struct attempt *attempts, size_t count, int signal,
		   int status)
{
	for (size_t i = 0; i < count; i++) {
		struct attempt attempt = attempts[i];
		attempt.confine = confine;
		struct sandbox_end end = sandbox_run(make_attempt, &attempt);
		cr_expect(end.signal == signal && end.status == status,
			  "call %ld, %s: signal %d, status %d", attempt.number, attempt.what,
			  end.signal, end.status);
	}
}

Test(confine, packet_kills_what_it_forbids, .timeout = 60)
{
	skip_if_sanitized();
	expect(confine_packet, nobody, COUNT(nobody), SIGSYS, 0);
	expect(confine_packet, only_resolver, COUNT(only_resolver), SIGSYS, 0);
}

Test(confine, tracepath_kills_what_it_forbids, .timeout = 60)
{
	skip_if_sanitized();
	expect(confine_tracepath, nobody, COUNT(nobody), SIGSYS, 0);
	expect(confine_tracepath, only_resolver, COUNT(only_resolver), SIGSYS, 0);
}

Test(confine, resolver_is_refused_what_it_may_not, .timeout = 60)
{
	static const struct attempt threads[] = {
		{NULL, SYS_clone3, {0, 0}, "flags in memory"},
	};

	skip_if_sanitized();
	expect(confine_resolver, nobody, COUNT(nobody), 0, EPERM);
	expect(confine_resolver, only_resolver, COUNT(only_resolver), 0, SURVIVED);
	expect(confine_resolver, threads, COUNT(threads), 0, ENOSYS);
}

#ifdef __x86_64__
static int call_32_bit(void *context)
{
	int (*const *confine)(void) = context;

	if ((*confine)() != 0)
		return NO_FILTER;
	sandbox_call_32_bit();
	return SURVIVED;
}

Test(confine, the_32_bit_entry_kills)
{
	int (*filters[])(void) = {confine_packet, confine_tracepath, confine_resolver};

	skip_if_sanitized();
	if (!sandbox_has_32_bit())
		cr_skip_test("int 0x80 does not work here, filter or not");
	for (size_t i = 0; i < COUNT(filters); i++) {
		struct sandbox_end end = sandbox_run(call_32_bit, &filters[i]);
		cr_expect_eq(end.signal, SIGSYS, "filter %zu: signal %d", i, end.signal);
	}
}

/* Even a call that all of them allow. */
Test(confine, x32_kills)
{
	static const struct attempt x32[] = {{NULL, SANDBOX_X32 | SYS_exit_group, {0}, "x32"}};

	skip_if_sanitized();
	expect(confine_packet, x32, COUNT(x32), SIGSYS, 0);
	expect(confine_tracepath, x32, COUNT(x32), SIGSYS, 0);
	expect(confine_resolver, x32, COUNT(x32), SIGSYS, 0);
}
#endif

static int sum(const unsigned char *bytes, size_t size)
{
	int total = 0;

	for (size_t i = 0; i < size; i++)
		total += bytes[i];
	return total;
}

/* Memory in all sizes, stdio, time: what any code in the front end may use without thinking. stdio
 * asks a device more than a pipe or a file. */
static int work(void *context)
{
	int (*const *confine)(void) = context;
	struct timespec now;
	int ends[2];

	if (pipe(ends) != 0 || !freopen("/dev/null", "w", stdout) || (*confine)() != 0)
		return NO_FILTER;
	for (size_t size = 16; size < 64u << 20; size *= 4) {
		unsigned char *memory = calloc(1, size);
		unsigned char *more = memory ? realloc(memory, 2 * size) : NULL;
		if (!more || sum(more, size) != 0)
			return 1;
		free(more);
	}
	FILE *out = fdopen(ends[1], "w");
	if (!out || fprintf(out, "%d %s %.3f\n", 1, "a", 0.5) < 0 || fclose(out) != 0)
		return 2;
	char line[32];
	if (read(ends[0], line, sizeof(line)) <= 0 || clock_gettime(CLOCK_MONOTONIC, &now) != 0)
		return 3;
	if (puts("nothing") < 0 || fflush(stdout) != 0)
		return 4;
	return SURVIVED;
}

Test(confine, ordinary_work_goes_on, .timeout = 30)
{
	int (*filters[])(void) = {confine_packet, confine_tracepath, confine_resolver};

	for (size_t i = 0; i < COUNT(filters); i++) {
		struct sandbox_end end = sandbox_run(work, &filters[i]);
		cr_expect(end.signal == 0 && end.status == SURVIVED,
			  "filter %zu: signal %d, status %d", i, end.signal, end.status);
	}
}

/* localhost needs no name server; the modules, their files and sockets are used all the same. */
static int look_up(void *context)
{
	(void)context;
	struct addrinfo *found = NULL;
	char name[256];

	if (confine_resolver() != 0)
		return NO_FILTER;
	if (getaddrinfo("localhost", NULL, &(struct addrinfo){.ai_family = AF_INET}, &found) != 0)
		return 1;
	if (getnameinfo(found->ai_addr, found->ai_addrlen, name, sizeof(name), NULL, 0,
			NI_NAMEREQD) != 0)
		return 2;
	freeaddrinfo(found);
	return SURVIVED;
}

Test(confine, resolver_looks_up_names, .timeout = 30)
{
	struct sandbox_end end = sandbox_run(look_up, NULL);
	cr_expect(end.signal == 0 && end.status == SURVIVED, "signal %d, status %d", end.signal,
		  end.status);
}
