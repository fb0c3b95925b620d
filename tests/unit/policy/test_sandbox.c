/*
 * The sandboxes of the front end: which system calls end the process, which capabilities are left,
 * and that ordinary work with the C library still goes on. What root's files and processes are
 * safe from is in tests/hostile.
 */
#include <cap-ng.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netdb.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "policy/sandbox.h"
#include "tests/support/sandbox.h"

enum {
	SURVIVED = 42,
	NO_FILTER = 43,
	MOST_ARGUMENTS = 4,
};

struct attempt {
	int (*enter)(void);
	long number;
	long arguments[MOST_ARGUMENTS];
	const char *what;
};

static int make_attempt(void *context)
{
	const struct attempt *attempt = context;
	const long *a = attempt->arguments;

	if (attempt->enter() != 0)
		return NO_FILTER;
	errno = 0;
	syscall(attempt->number, a[0], a[1], a[2], a[3], 0, 0);
	return errno == EPERM || errno == ENOSYS ? errno : SURVIVED;
}

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* What no process of the front end does, with arguments that would fail harmlessly if it were
 * allowed. */
static const struct attempt by_none[] = {
	{NULL, SYS_execve, {0, 0, 0}, "another program"},
	{NULL, SYS_execveat, {-1, 0, 0}, "another program"},
	{NULL, SYS_ptrace, {-1, 0, 0}, "another process' memory"},
	{NULL, SYS_process_vm_readv, {-1, 0, 0}, "another process' memory"},
	{NULL, SYS_process_vm_writev, {-1, 0, 0}, "another process' memory"},
	{NULL, SYS_pidfd_open, {-1, 0}, "another process"},
	{NULL, SYS_pidfd_getfd, {-1, 0}, "another process' descriptors"},
	{NULL, SYS_clone, {SIGCHLD, -1, 0}, "a process"},
	{NULL, SYS_socket, {AF_INET, SOCK_RAW, 1}, "a raw socket"},
	{NULL, SYS_socket, {AF_INET6, SOCK_RAW, 58}, "a raw socket"},
	{NULL, SYS_socket, {AF_VSOCK, SOCK_STREAM, 0}, "a socket to the hypervisor"},
	{NULL, SYS_socket, {AF_PACKET, SOCK_DGRAM, 0}, "a packet socket"},
	{NULL, SYS_socket, {AF_NETLINK, SOCK_RAW, 16}, "generic netlink"},
	{NULL, SYS_openat, {-1, 0, 01}, "a file to write"},
	{NULL, SYS_openat, {-1, 0, 02}, "a file to change"},
	{NULL, SYS_openat, {-1, 0, 0100}, "a file to make"},
	{NULL, SYS_unlinkat, {-1, 0, 0}, "a file removed"},
	{NULL, SYS_renameat2, {-1, 0, -1, 0}, "a file renamed"},
	{NULL, SYS_fchmodat, {-1, 0, 0}, "the mode of a file"},
	{NULL, SYS_mount, {0, 0, 0, 0}, "mounts"},
	{NULL, SYS_unshare, {-1}, "a user namespace, and with it more of the kernel"},
	{NULL, SYS_setns, {-1, 0}, "a namespace"},
	{NULL, SYS_bpf, {-1, 0, 0}, "bpf"},
	{NULL, SYS_perf_event_open, {0, -1, -1, -1}, "perf"},
	{NULL, SYS_keyctl, {-1, 0, 0}, "keys"},
	{NULL, SYS_io_uring_setup, {0, 0}, "io_uring, which filters do not see"},
	{NULL, SYS_userfaultfd, {-1}, "userfaultfd"},
	{NULL, SYS_memfd_create, {0, -1}, "files in memory, which can be executed"},
	{NULL, SYS_ioctl, {0, 0x5412, 0}, "TIOCSTI: input for the shell"},
	{NULL, SYS_prctl, {-1, 0, 0, 0}, "prctl"},
	{NULL, SYS_seccomp, {-1, 0, 0}, "another filter"},
	{NULL, SYS_fcntl, {0, 8, 0, 0}, "F_SETOWN: which process gets signals"},
	{NULL, SYS_fcntl, {0, 10, 9, 0}, "F_SETSIG: which signal"},
	{NULL, SYS_kill, {-1, 0}, "signals"},
	{NULL, SYS_tgkill, {-1, -1, 0}, "signals"},
};

/* What only the helper that looks up names does. */
static const struct attempt by_names_only[] = {
	{NULL, SYS_openat, {-1, 0, 0}, "a file to read"},
	{NULL, SYS_socket, {AF_UNIX, SOCK_STREAM, 0}, "a local socket"},
	{NULL, SYS_socket, {AF_NETLINK, SOCK_RAW, 0}, "routes and addresses"},
	{NULL, SYS_setsockopt, {-1, 0, 0, 0}, "a socket option"},
	{NULL, SYS_getsockopt, {-1, 0, 0, 0}, "a socket option"},
	{NULL, SYS_fcntl, {-1, F_SETFL, 0, 0}, "the mode of a descriptor"},
	{NULL, SYS_sendmsg, {-1, 0, 0, 0}, "a descriptor passed on"},
	{NULL, SYS_mmap, {0, 0, PROT_EXEC, 0}, "code"},
	{NULL, SYS_mprotect, {0, 0, PROT_EXEC, 0}, "code"},
};

static void skip_if_sanitized(void)
{
	if (sandbox_sanitized())
		cr_skip_test("with sanitizers the front end enters no filter");
}

static void expect(int (*enter)(void), const struct attempt *attempts, size_t count, int signal,
		   int status)
{
	for (size_t i = 0; i < count; i++) {
		struct attempt attempt = attempts[i];
		attempt.enter = enter;
		struct sandbox_end end = sandbox_run(make_attempt, &attempt);
		cr_expect(end.signal == signal && end.status == status,
			  "call %ld, %s: signal %d, status %d", attempt.number, attempt.what,
			  end.signal, end.status);
	}
}

Test(sandbox, mtr_packet_ends_at_what_it_may_not, .timeout = 60)
{
	skip_if_sanitized();
	expect(sandbox_mtr_packet, by_none, COUNT(by_none), SIGSYS, 0);
	expect(sandbox_mtr_packet, by_names_only, COUNT(by_names_only), SIGSYS, 0);
}

Test(sandbox, tracepath_ends_at_what_it_may_not, .timeout = 60)
{
	skip_if_sanitized();
	expect(sandbox_tracepath, by_none, COUNT(by_none), SIGSYS, 0);
	expect(sandbox_tracepath, by_names_only, COUNT(by_names_only), SIGSYS, 0);
}

Test(sandbox, names_is_refused_what_it_may_not, .timeout = 60)
{
	static const struct attempt threads[] = {
		{NULL, SYS_clone3, {0, 0}, "flags in memory"},
	};

	skip_if_sanitized();
	expect(sandbox_names, by_none, COUNT(by_none), 0, EPERM);
	expect(sandbox_names, by_names_only, COUNT(by_names_only), 0, SURVIVED);
	expect(sandbox_names, threads, COUNT(threads), 0, ENOSYS);
}

/* A child that has entered waits for the end of its standard input; its parent reads its status. */
static uint64_t status_within(int (*enter)(void), const char *format)
{
	int start[2], end[2];
	char path[64], line[256], byte;
	uint64_t value = UINT64_MAX;

	cr_assert(pipe(start) == 0 && pipe(end) == 0);
	pid_t child = fork();
	if (child == 0) {
		close(end[1]);
		bool entered = enter() == 0 && write(start[1], "", 1) == 1;
		syscall(SYS_exit_group, entered && read(end[0], &byte, 1) == 0 ? 0 : 1);
	}
	close(start[1]);
	cr_assert_eq(read(start[0], &byte, 1), 1, "the child has not entered");
	snprintf(path, sizeof(path), "/proc/%d/status", child);
	FILE *status = fopen(path, "re");
	cr_assert_not_null(status);
	while (value == UINT64_MAX && fgets(line, sizeof(line), status))
		if (sscanf(line, format, &value) != 1)
			value = UINT64_MAX;
	fclose(status);
	close(start[0]);
	close(end[0]);
	close(end[1]);
	waitpid(child, NULL, 0);
	return value;
}

#define CAPABILITY(n) (UINT64_C(1) << (n))

Test(sandbox, no_capability_is_left_but_for_marks, .timeout = 30)
{
	static const struct {
		int (*enter)(void);
		uint64_t kept;
	} cases[] = {
		{sandbox_mtr_packet, CAPABILITY(CAP_NET_RAW)},
		{sandbox_tracepath, 0},
		{sandbox_names, 0},
	};
	static const char *const none[] = {"CapInh: %" SCNx64, "CapBnd: %" SCNx64,
					   "CapAmb: %" SCNx64};

	capng_get_caps_process();
	if (!capng_have_capability(CAPNG_EFFECTIVE, CAP_NET_RAW) ||
	    !capng_have_capability(CAPNG_EFFECTIVE, CAP_SETPCAP))
		cr_skip_test("no capabilities to drop");
	for (size_t i = 0; i < COUNT(cases); i++) {
		cr_expect_eq(status_within(cases[i].enter, "CapPrm: %" SCNx64), cases[i].kept);
		cr_expect_eq(status_within(cases[i].enter, "CapEff: %" SCNx64), cases[i].kept);
		cr_expect_eq(status_within(cases[i].enter, "NoNewPrivs: %" SCNx64), 1);
		for (size_t j = 0; j < COUNT(none); j++)
			cr_expect_eq(status_within(cases[i].enter, none[j]), 0, "case %zu, %s", i,
				     none[j]);
	}
}

static bool drop(unsigned capability)
{
	return capng_get_caps_process() == 0 &&
	       capng_update(CAPNG_DROP, CAPNG_EFFECTIVE | CAPNG_PERMITTED, capability) == 0 &&
	       capng_apply(CAPNG_SELECT_CAPS) == 0;
}

static int names_without_setgid(void)
{
	return drop(CAP_SETGID) ? sandbox_names() : -1;
}

static int names_without_setuid(void)
{
	return drop(CAP_SETUID) ? sandbox_names() : -1;
}

/* User and group do not depend on each other. */
Test(sandbox, names_of_root_are_an_unprivileged_users, .timeout = 30)
{
	static const struct {
		int (*enter)(void);
		uint64_t user, group;
	} cases[] = {
		{sandbox_names, 65534, 65534},
		{names_without_setgid, 65534, 0},
		{names_without_setuid, 0, 65534},
	};

	capng_get_caps_process();
	if (geteuid() != 0 || !capng_have_capability(CAPNG_EFFECTIVE, CAP_SETUID) ||
	    !capng_have_capability(CAPNG_EFFECTIVE, CAP_SETGID))
		cr_skip_test("not root, or root that cannot become another user");
	for (size_t i = 0; i < COUNT(cases); i++) {
		cr_expect_eq(status_within(cases[i].enter, "Uid: %*u %" SCNu64), cases[i].user,
			     "case %zu", i);
		cr_expect_eq(status_within(cases[i].enter, "Gid: %*u %" SCNu64), cases[i].group,
			     "case %zu", i);
	}
}

/* The mark of a packet can be set where the caller could set it anyway, and nowhere else. */
static int set_mark(void *context)
{
	int (*const *enter)(void) = context;
	int mark = 1;

	if ((*enter)() != 0)
		return NO_FILTER;
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	return setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)) == 0 ? SURVIVED : errno;
}

Test(sandbox, marks_are_for_those_who_may)
{
	int (*enter[])(void) = {sandbox_mtr_packet, sandbox_tracepath};

	capng_get_caps_process();
	if (!capng_have_capability(CAPNG_PERMITTED, CAP_NET_RAW))
		cr_skip_test("no capability for marks");
	cr_expect_eq(sandbox_run(set_mark, &enter[0]).status, SURVIVED);
	cr_expect_eq(sandbox_run(set_mark, &enter[1]).status, EPERM);
}

#ifdef __x86_64__
static int call_32_bit(void *context)
{
	int (*const *enter)(void) = context;

	if ((*enter)() != 0)
		return NO_FILTER;
	sandbox_call_32_bit();
	return SURVIVED;
}

Test(sandbox, the_32_bit_entry_ends_it)
{
	int (*filters[])(void) = {sandbox_mtr_packet, sandbox_tracepath, sandbox_names};

	skip_if_sanitized();
	if (!sandbox_has_32_bit())
		cr_skip_test("int 0x80 does not work here, filter or not");
	for (size_t i = 0; i < COUNT(filters); i++) {
		struct sandbox_end end = sandbox_run(call_32_bit, &filters[i]);
		cr_expect_eq(end.signal, SIGSYS, "filter %zu: signal %d", i, end.signal);
	}
}

/* Even a call that all of them allow. */
Test(sandbox, x32_ends_it)
{
	static const struct attempt x32[] = {{NULL, SANDBOX_X32 | SYS_exit_group, {0}, "x32"}};

	skip_if_sanitized();
	expect(sandbox_mtr_packet, x32, COUNT(x32), SIGSYS, 0);
	expect(sandbox_tracepath, x32, COUNT(x32), SIGSYS, 0);
	expect(sandbox_names, x32, COUNT(x32), SIGSYS, 0);
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
	int (*const *enter)(void) = context;
	struct timespec now;
	int ends[2];

	if (pipe(ends) != 0 || !freopen("/dev/null", "w", stdout))
		return NO_FILTER;
	FILE *out = fdopen(ends[1], "w");
	if (!out || (*enter)() != 0)
		return NO_FILTER;
	for (size_t size = 16; size < 64u << 20; size *= 4) {
		unsigned char *memory = calloc(1, size);
		unsigned char *more = memory ? realloc(memory, 2 * size) : NULL;
		if (!more || sum(more, size) != 0)
			return 1;
		free(more);
	}
	if (fprintf(out, "%d %s %.3f\n", 1, "a", 0.5) < 0 || fclose(out) != 0)
		return 2;
	char line[32];
	if (read(ends[0], line, sizeof(line)) <= 0 || clock_gettime(CLOCK_MONOTONIC, &now) != 0)
		return 3;
	if (puts("nothing") < 0 || fflush(stdout) != 0)
		return 4;
	return SURVIVED;
}

Test(sandbox, ordinary_work_goes_on, .timeout = 30)
{
	int (*filters[])(void) = {sandbox_mtr_packet, sandbox_tracepath, sandbox_names};

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

	if (sandbox_names() != 0)
		return NO_FILTER;
	if (getaddrinfo("localhost", NULL, &(struct addrinfo){.ai_family = AF_INET}, &found) != 0)
		return 1;
	if (getnameinfo(found->ai_addr, found->ai_addrlen, name, sizeof(name), NULL, 0,
			NI_NAMEREQD) != 0)
		return 2;
	freeaddrinfo(found);
	return SURVIVED;
}

Test(sandbox, names_are_looked_up, .timeout = 30)
{
	struct sandbox_end end = sandbox_run(look_up, NULL);
	cr_expect(end.signal == 0 && end.status == SURVIVED, "signal %d, status %d", end.signal,
		  end.status);
}
