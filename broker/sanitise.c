/*
 * The broker's first step: whatever the caller arranged before execve(2) is undone here. Runs in
 * the privileged process and distrusts everything a process inherits; it reads no argument and no
 * environment, it only throws them away.
 */
#include "policy/privilege.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

enum {
	/* The kernel's default for fs.nr_open: no descriptor number is above it unless the
	 * administrator raised that, and then the kernel has close_range(2). */
	MOST_DESCRIPTORS = 1 << 20,
	/* Above those that stay open: /proc's files while identity changes, Landlock's ruleset. */
	SPARE_DESCRIPTORS = 8,
};

/* The broker lives as long as its channel. What a terminal sends to its whole foreground group is
 * meant for the front end, which still wants its answers while it ends; and a write to a closed
 * stderr or channel, or to one that is a file at its limit of size, is to fail, not to kill. So
 * nothing is let through but SIGTERM, for whoever wants to end it, and what cannot be held off:
 * SIGKILL, SIGSTOP, and what the kernel raises for a fault of the process itself. Then it does not
 * matter which other signals wait already, or what was to be done on them. */
static bool hold_off_signals(struct step_failure *failure)
{
	const struct sigaction ignore = {.sa_handler = SIG_IGN};
	const struct sigaction standard = {.sa_handler = SIG_DFL};
	/* All that the kernel has: the C library's sets leave out those that it keeps to itself. */
	unsigned long blocked[_NSIG / 8 / sizeof(unsigned long)];

	memset(blocked, 0xff, sizeof(blocked));
	blocked[0] &= ~(1UL << (SIGTERM - 1));

	/* Ignoring it discards one that waits: it was sent to what the caller was before. */
	if (sigaction(SIGTERM, &ignore, NULL) != 0 || sigaction(SIGTERM, &standard, NULL) != 0)
		return step_failed(failure, "reset SIGTERM", NULL);
	if (syscall(SYS_rt_sigprocmask, SIG_SETMASK, blocked, NULL, sizeof(blocked)) != 0)
		return step_failed(failure, "block signals", NULL);
	return true;
}

/* Interval timers, alarm(2) among them, survive execve; POSIX timers do not. */
static bool disarm_timers(struct step_failure *failure)
{
	const struct itimerval never = {.it_value = {0, 0}};

	if (setitimer(ITIMER_REAL, &never, NULL) != 0 ||
	    setitimer(ITIMER_VIRTUAL, &never, NULL) != 0 ||
	    setitimer(ITIMER_PROF, &never, NULL) != 0)
		return step_failed(failure, "disarm an interval timer", NULL);
	return true;
}

static bool make_undumpable(struct step_failure *failure)
{
	const struct rlimit none = {0, 0};

	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
		return step_failed(failure, "become not dumpable", NULL);
	if (setrlimit(RLIMIT_CORE, &none) != 0)
		return step_failed(failure, "limit core files to 0 bytes", NULL);
	return true;
}

static bool close_all_above(int last)
{
	unsigned first = (unsigned)last + 1;

	if (syscall(SYS_close_range, first, ~0u, 0) == 0)
		return true;
	if (errno != ENOSYS && errno != EPERM) /* EPERM: a container's filter that predates it */
		return false;
	for (int fd = last + 1; fd < MOST_DESCRIPTORS; fd++)
		if (close(fd) != 0 && errno != EBADF && errno != EINTR)
			return false;
	return true;
}

/* Descriptor 0 must be there already: an absent channel must not become /dev/null. Number 1 is
 * closed before /dev/null is opened, so that the lowest free number is known and a low limit of
 * descriptors does not matter. */
static bool arrange_descriptors(struct step_failure *failure)
{
	if (fcntl(STDIN_FILENO, F_GETFD) < 0) {
		step_failed(failure, "find the channel on descriptor 0",
			    "it is started by postern, or by socket activation");
		failure->exit_status = STEP_BAD_CHANNEL;
		return false;
	}
	if (!close_all_above(STDERR_FILENO))
		return step_failed(failure, "close inherited descriptors", NULL);
	(void)close(STDOUT_FILENO); /* it may be closed already */
	if (open("/dev/null", O_RDWR | O_NOCTTY) != STDOUT_FILENO)
		return step_failed(failure, "open /dev/null as descriptor 1",
				   "the file system needs a /dev/null that everyone may open");
	if (fcntl(STDERR_FILENO, F_GETFD) < 0 && dup2(STDOUT_FILENO, STDERR_FILENO) < 0)
		return step_failed(failure, "make descriptor 2 valid", NULL);
	return true;
}

static bool allow_descriptors(unsigned descriptors, struct step_failure *failure)
{
	struct rlimit limit;

	descriptors += SPARE_DESCRIPTORS;
	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return step_failed(failure, "read the limit of open descriptors", NULL);
	if (limit.rlim_cur >= descriptors)
		return true;
	limit.rlim_cur = descriptors;
	if (limit.rlim_max < descriptors) {
		errno = EMFILE;
		return step_failed(failure, "have enough descriptors",
				   "raise the hard limit (ulimit -H -n) to 256 at least");
	}
	if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
		return step_failed(failure, "raise the limit of open descriptors", NULL);
	return true;
}

bool privilege_sanitise(unsigned descriptors, struct step_failure *failure)
{
	static char *empty_environment[] = {NULL};

	environ = empty_environment;
	/* Descriptors first: until they are in order, what is opened could become the channel, and
	 * a message could go to a descriptor that is not meant for people. */
	if (!arrange_descriptors(failure) || !make_undumpable(failure) || !disarm_timers(failure) ||
	    !hold_off_signals(failure) || !allow_descriptors(descriptors, failure))
		return false;
	umask(077);
	if (prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0) != 0)
		return step_failed(failure, "clear the parent death signal", NULL);
	/* Not to keep the caller's directory, and its file system, busy. */
	if (chdir("/") != 0)
		return step_failed(failure, "change to /", NULL);
	return true;
}
