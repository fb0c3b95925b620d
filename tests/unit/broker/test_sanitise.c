/*
 * The broker's first step, started from a process that is arranged as badly as its caller can.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include "policy/privilege.h"
#include "tests/support/sandbox.h"

enum {
	GOOD = 42,
	DESCRIPTORS = 250,
};

static bool is_null_device(int fd)
{
	struct stat here, null;

	return fstat(fd, &here) == 0 && stat("/dev/null", &null) == 0 &&
	       here.st_rdev == null.st_rdev && S_ISCHR(here.st_mode);
}

static int with_descriptors(void *context)
{
	const char *closed = context;
	struct step_failure failure;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) != 0 || dup2(pair[0], 0) != 0)
		return 1;
	for (int i = 0; i < 500; i++)
		if (dup(pair[1]) < 0)
			return 2;
	for (; *closed != '\0'; closed++)
		close(*closed - '0');
	if (!privilege_sanitise(DESCRIPTORS, &failure))
		return failure.exit_status;
	struct stat channel;
	if (fstat(0, &channel) != 0 || !S_ISSOCK(channel.st_mode) || !is_null_device(1))
		return 3;
	if (fcntl(2, F_GETFD) < 0 || fcntl(3, F_GETFD) >= 0 || fcntl(400, F_GETFD) >= 0)
		return 4;
	return GOOD;
}

Test(sanitise, descriptors)
{
	static const struct {
		const char *closed;
		int status;
	} cases[] = {
		{"", GOOD}, {"1", GOOD}, {"2", GOOD}, {"12", GOOD},
		{"0", 64},  {"01", 64},  {"012", 64},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct sandbox_end end = sandbox_run(with_descriptors, (void *)cases[i].closed);
		cr_expect(end.signal == 0 && end.status == cases[i].status,
			  "closed \"%s\": signal %d, status %d", cases[i].closed, end.signal,
			  end.status);
	}
}

static int stderr_is_left_alone(void *context)
{
	(void)context;
	struct step_failure failure;
	int pipe_ends[2];

	if (pipe(pipe_ends) != 0 || dup2(pipe_ends[1], 2) != 2 || dup2(pipe_ends[1], 0) != 0)
		return 1;
	return privilege_sanitise(DESCRIPTORS, &failure) && !is_null_device(2) ? GOOD : 2;
}

Test(sanitise, keeps_stderr)
{
	cr_expect_eq(sandbox_run(stderr_is_left_alone, NULL).status, GOOD);
}

/* Nothing gets through but SIGTERM, and what the kernel lets nobody block. */
static bool signals_are_held_off(void)
{
	const uint64_t expected = ~(UINT64_C(1) << (SIGTERM - 1) | UINT64_C(1) << (SIGKILL - 1) |
				    UINT64_C(1) << (SIGSTOP - 1));
	uint64_t blocked = 0;
	struct sigaction action;

	/* The C library does not show the signals that it keeps to itself. */
	return syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &blocked, sizeof(blocked)) == 0 &&
	       blocked == expected && sigaction(SIGTERM, NULL, &action) == 0 &&
	       action.sa_handler == SIG_DFL;
}

static int with_signals(void *context)
{
	(void)context;
	struct step_failure failure;
	sigset_t all;
	const struct itimerval soon = {.it_interval = {0, 1000}, .it_value = {0, 1000}};

	sigfillset(&all);
	if (sigprocmask(SIG_SETMASK, &all, NULL) != 0 || setitimer(ITIMER_REAL, &soon, NULL) != 0 ||
	    setitimer(ITIMER_PROF, &soon, NULL) != 0)
		return 1;
	for (int signal = 1; signal <= SIGSYS; signal += 2)
		if (signal != SIGKILL && signal != SIGSTOP &&
		    sigaction(signal, &(struct sigaction){.sa_handler = SIG_IGN}, NULL) != 0)
			return 2;
	raise(SIGTERM); /* pending */
	usleep(5000);   /* and so is SIGALRM */
	if (!privilege_sanitise(DESCRIPTORS, &failure))
		return 3;
	struct itimerval left;
	if (getitimer(ITIMER_REAL, &left) != 0 || left.it_value.tv_usec != 0 ||
	    getitimer(ITIMER_PROF, &left) != 0 || left.it_value.tv_usec != 0)
		return 4;
	if (!signals_are_held_off())
		return 5;
	for (int signal = 1; signal <= SIGRTMAX; signal++)
		if (signal != SIGTERM && signal != SIGKILL && signal != SIGSTOP)
			syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), signal);
	return GOOD;
}

Test(sanitise, signals_and_timers)
{
	struct sandbox_end end = sandbox_run(with_signals, NULL);
	cr_expect(end.signal == 0 && end.status == GOOD, "signal %d, status %d", end.signal,
		  end.status);
}

/* What ends the process all the same. */
static int with_an_end(void *context)
{
	struct step_failure failure;

	signal(SIGTERM, SIG_IGN);
	if (!privilege_sanitise(DESCRIPTORS, &failure))
		return 1;
	switch (*(const int *)context) {
	case SIGTERM:
		kill(getpid(), SIGTERM);
		break;
	case SIGSEGV:
		/* A page that nobody may touch. */
		*(volatile char *)mmap(NULL, 1, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) = 0;
		break;
	case SIGILL:
	case SIGTRAP:
		__builtin_trap();
	case SIGSYS:
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && seccomp_enter_broker(&failure))
			getppid();
		break;
	}
	return 2;
}

Test(sanitise, faults_and_sigterm_end_the_process)
{
#if defined(__x86_64__) || defined(__i386__)
	int trap = SIGILL;
#else
	int trap = SIGTRAP;
#endif
	const int ends[] = {SIGTERM, SIGSEGV, SIGSYS, trap};

	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		struct sandbox_end end = sandbox_run(with_an_end, (void *)&ends[i]);
		cr_expect_eq(end.signal, ends[i], "%d: signal %d, status %d", ends[i], end.signal,
			     end.status);
	}
}

/* What is no use to write to says so, instead of killing the writer. */
static int with_nobody_to_read(void *context)
{
	(void)context;
	struct step_failure failure;
	struct rlimit none = {0, 0};
	char path[] = "/tmp/postern-test-XXXXXX";
	int pipe_ends[2];
	int file = mkstemp(path);

	if (file < 0 || unlink(path) != 0 || dup2(file, 2) != 2 || pipe(pipe_ends) != 0 ||
	    dup2(pipe_ends[1], 0) != 0 || setrlimit(RLIMIT_FSIZE, &none) != 0)
		return 1;
	if (!privilege_sanitise(DESCRIPTORS, &failure)) /* closes the reader */
		return 2;
	if (write(0, "x", 1) >= 0 || errno != EPIPE)
		return 3;
	return write(2, "x", 1) < 0 && errno == EFBIG ? GOOD : 4;
}

Test(sanitise, writes_fail_and_do_not_kill)
{
	struct sandbox_end end = sandbox_run(with_nobody_to_read, NULL);
	cr_expect(end.signal == 0 && end.status == GOOD, "signal %d, status %d", end.signal,
		  end.status);
}

static int with_the_rest(void *context)
{
	(void)context;
	struct step_failure failure;
	char directory[16];
	struct rlimit core;

	if (setenv("LD_PRELOAD", "x", 1) != 0 || setenv("MALLOC_CHECK_", "3", 1) != 0)
		return 1;
	umask(0);
	if (!privilege_sanitise(DESCRIPTORS, &failure))
		return 2;
	if (environ[0] || getenv("LD_PRELOAD"))
		return 3;
	if (umask(0) != 077 || prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0)
		return 4;
	if (getrlimit(RLIMIT_CORE, &core) != 0 || core.rlim_max != 0)
		return 5;
	return getcwd(directory, sizeof(directory)) && strcmp(directory, "/") == 0 ? GOOD : 6;
}

Test(sanitise, everything_else)
{
	struct sandbox_end end = sandbox_run(with_the_rest, NULL);
	cr_expect(end.signal == 0 && end.status == GOOD, "signal %d, status %d", end.signal,
		  end.status);
}

static int with_few_descriptors(void *context)
{
	const struct rlimit *limit = context;
	struct step_failure failure;
	struct rlimit now;

	if (setrlimit(RLIMIT_NOFILE, limit) != 0)
		return 1;
	if (!privilege_sanitise(DESCRIPTORS, &failure))
		return failure.error == EMFILE && failure.remedy ? 71 : 2;
	return getrlimit(RLIMIT_NOFILE, &now) == 0 && now.rlim_cur >= DESCRIPTORS ? GOOD : 3;
}

Test(sanitise, limit_of_descriptors)
{
	/* Some more than were asked for are needed on the way. */
	struct rlimit soft = {3, 300}, hard = {3, 3}, just = {DESCRIPTORS + 8, DESCRIPTORS + 8};

	cr_expect_eq(sandbox_run(with_few_descriptors, &soft).status, GOOD);
	cr_expect_eq(sandbox_run(with_few_descriptors, &just).status, GOOD);
	cr_expect_eq(sandbox_run(with_few_descriptors, &hard).status, 71);
}
