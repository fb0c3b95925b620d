/*
 * The broker's first steps, started from a process that is arranged as badly as its caller can.
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
#include <sys/un.h>
#include <unistd.h>

#include "broker/fatal.h"
#include "broker/lockdown.h"
#include "broker/sanitise.h"
#include "policy/descriptors.h"
#include "tests/support/sandbox.h"

enum {
	GOOD = 42,
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
	bool has_channel = strchr(closed, '0') == NULL;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) != 0 || dup2(pair[0], 0) != 0)
		return 1;
	for (int i = 0; i < 500; i++)
		if (dup(pair[1]) < 0)
			return 2;
	for (; *closed != '\0'; closed++)
		close(*closed - '0');
	sanitise();
	struct stat channel;
	if (fstat(0, &channel) != 0 || !S_ISSOCK(channel.st_mode) != !has_channel ||
	    is_null_device(0) == has_channel || !is_null_device(1))
		return 3;
	if (fcntl(2, F_GETFD) < 0 || fcntl(3, F_GETFD) >= 0 || fcntl(400, F_GETFD) >= 0)
		return 4;
	return GOOD;
}

Test(sanitise, descriptors)
{
	static const char *const closed[] = {"", "1", "2", "12", "0", "01", "02", "012"};

	for (size_t i = 0; i < sizeof(closed) / sizeof(closed[0]); i++) {
		struct sandbox_end end = sandbox_run(with_descriptors, (void *)closed[i]);
		cr_expect(end.signal == 0 && end.status == GOOD,
			  "closed \"%s\": signal %d, status %d", closed[i], end.signal, end.status);
	}
}

static int stderr_is_left_alone(void *context)
{
	(void)context;
	int pipe_ends[2];

	if (pipe(pipe_ends) != 0 || dup2(pipe_ends[1], 2) != 2 || dup2(pipe_ends[1], 0) != 0)
		return 1;
	sanitise();
	return is_null_device(2) ? 2 : GOOD;
}

Test(sanitise, keeps_stderr)
{
	cr_expect_eq(sandbox_run(stderr_is_left_alone, NULL).status, GOOD);
}

/* SIGTERM and what cannot be blocked; 32 and 33 the C library keeps to itself. */
static bool is_let_through(int signal)
{
	return signal == SIGTERM || signal == SIGKILL || signal == SIGSTOP || signal == 32 ||
	       signal == 33;
}

static bool signals_are_blocked(void)
{
	sigset_t blocked;
	struct sigaction action;

	if (sigprocmask(SIG_BLOCK, NULL, &blocked) != 0)
		return false;
	for (int signal = 1; signal <= SIGRTMAX; signal++)
		if (sigismember(&blocked, signal) == is_let_through(signal))
			return false;
	return sigaction(SIGTERM, NULL, &action) == 0 && action.sa_handler == SIG_DFL;
}

static int with_signals(void *context)
{
	(void)context;
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
	sanitise();
	struct itimerval left;
	if (getitimer(ITIMER_REAL, &left) != 0 || left.it_value.tv_usec != 0 ||
	    getitimer(ITIMER_PROF, &left) != 0 || left.it_value.tv_usec != 0)
		return 4;
	if (!signals_are_blocked())
		return 5;
	for (int signal = 1; signal <= SIGRTMAX; signal++)
		if (!is_let_through(signal))
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

	signal(SIGTERM, SIG_IGN);
	sanitise();
	switch (*(const int *)context) {
	case SIGTERM:
		kill(getpid(), SIGTERM);
		break;
	case SIGSEGV:
		/* A page without access. */
		*(volatile char *)mmap(NULL, 1, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) = 0;
		break;
	case SIGILL:
	case SIGTRAP:
		__builtin_trap();
	case SIGSYS:
		lockdown();
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
static int without_a_reader(void *context)
{
	(void)context;
	struct rlimit none = {0, 0};
	char path[] = "/tmp/postern-test-XXXXXX";
	int pipe_ends[2];
	int file = mkstemp(path);

	if (file < 0 || unlink(path) != 0 || dup2(file, 2) != 2 || pipe(pipe_ends) != 0 ||
	    dup2(pipe_ends[1], 0) != 0 || setrlimit(RLIMIT_FSIZE, &none) != 0)
		return 1;
	sanitise(); /* closes the reader */
	if (write(0, "x", 1) >= 0 || errno != EPIPE)
		return 3;
	return write(2, "x", 1) < 0 && errno == EFBIG ? GOOD : 4;
}

Test(sanitise, writes_fail_and_do_not_kill)
{
	struct sandbox_end end = sandbox_run(without_a_reader, NULL);
	cr_expect(end.signal == 0 && end.status == GOOD, "signal %d, status %d", end.signal,
		  end.status);
}

static int with_the_rest(void *context)
{
	(void)context;
	struct rlimit core;

	if (setenv("LD_PRELOAD", "x", 1) != 0 || setenv("MALLOC_CHECK_", "3", 1) != 0)
		return 1;
	umask(0);
	sanitise();
	if (environ || getenv("LD_PRELOAD"))
		return 3;
	if (umask(0) != 077 || prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0)
		return 4;
	return getrlimit(RLIMIT_CORE, &core) == 0 && core.rlim_max == 0 ? GOOD : 5;
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
	struct rlimit now;

	if (setrlimit(RLIMIT_NOFILE, limit) != 0)
		return 1;
	sanitise();
	return getrlimit(RLIMIT_NOFILE, &now) == 0 && now.rlim_cur == limit->rlim_max ? GOOD : 3;
}

Test(sanitise, limit_of_descriptors)
{
	struct rlimit soft = {3, 300}, hard = {3, 3};

	cr_expect_eq(sandbox_run(with_few_descriptors, &soft).status, GOOD);
	cr_expect_eq(sandbox_run(with_few_descriptors, &hard).status, FATAL_SYSTEM);
}

/* --- the channel ------------------------------------------------------------------------------ */

/* A socket of this kind as descriptor 0: one end of a pair, alone, or listening. */
enum place { PAIRED, ALONE, LISTENING };

struct given {
	int type;
	enum place place;
	int status;
};

static int check_channel(void *context)
{
	const struct sockaddr_un any_name = {.sun_family = AF_UNIX};
	const struct given *given = context;
	int ends[2];
	int null_fd = open("/dev/null", O_RDWR);

	if (given->place == PAIRED) {
		if (socketpair(AF_UNIX, given->type, 0, ends) != 0)
			return 1;
	} else {
		ends[0] = socket(AF_UNIX, given->type, 0);
	}
	if (given->place == LISTENING &&
	    (bind(ends[0], (const struct sockaddr *)&any_name, sizeof(sa_family_t)) != 0 ||
	     listen(ends[0], 1) != 0))
		return 2;
	if (dup2(given->type != 0 ? ends[0] : null_fd, DESC_CHANNEL) < 0 ||
	    dup2(null_fd, DESC_STDERR) < 0)
		return 3;
	channel_check();
	return GOOD;
}

Test(sanitise, channel_is_a_connected_af_unix_seqpacket_socket)
{
	static const struct given cases[] = {
		{SOCK_SEQPACKET, PAIRED, GOOD},
		{SOCK_SEQPACKET, ALONE, FATAL_CHANNEL},
		{SOCK_SEQPACKET, LISTENING, FATAL_CHANNEL},
		{SOCK_STREAM, PAIRED, FATAL_CHANNEL},
		{SOCK_DGRAM, PAIRED, FATAL_CHANNEL},
		{0, ALONE, FATAL_CHANNEL}, /* no socket */
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		cr_expect_eq(sandbox_run(check_channel, (void *)&cases[i]).status, cases[i].status,
			     "%zu", i);
}
