/*
 * The broker's first step, started from a process that is arranged as badly as its caller can.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
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

static bool signals_are_reset(void)
{
	sigset_t blocked;
	struct sigaction action;

	if (sigprocmask(SIG_BLOCK, NULL, &blocked) != 0)
		return false;
	for (int signal = 1; signal < NSIG; signal++) {
		if (sigismember(&blocked, signal) == 1)
			return false;
		if (signal == SIGKILL || signal == SIGSTOP || sigaction(signal, NULL, &action) != 0)
			continue;
		bool ignored = signal == SIGPIPE || signal == SIGINT || signal == SIGQUIT ||
			       signal == SIGHUP || signal == SIGXFSZ;
		if (action.sa_handler != (ignored ? SIG_IGN : SIG_DFL))
			return false;
	}
	return true;
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
	return signals_are_reset() ? GOOD : 5;
}

Test(sanitise, signals_and_timers)
{
	struct sandbox_end end = sandbox_run(with_signals, NULL);
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
