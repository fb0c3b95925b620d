/*
 * Undoes what the caller arranged before execve(2). Runs in the privileged broker and distrusts
 * everything that a process inherits. It reads no argument and no environment.
 */
#include "broker/sanitise.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include "broker/fatal.h"
#include "policy/descriptors.h"

/* A descriptor of 0 to 2 that is closed would be the number of the next socket. /dev/null in place
 * of the channel is refused later. */
static void arrange_descriptors(void)
{
	int fd;

	if (syscall(SYS_close_range, DESC_STDERR + 1, ~0u, 0) != 0)
		fatal(FATAL_SYSTEM, "close inherited descriptors", errno, "Linux 5.9 or later");
	do
		fd = open("/dev/null", O_RDWR | O_NOCTTY);
	while (fd >= 0 && fd <= DESC_STDERR);
	if (fd < 0 || dup2(fd, DESC_NULL) < 0 || close(fd) != 0)
		fatal(FATAL_SYSTEM, "open /dev/null", errno, NULL);
}

/* libcap-ng and Landlock need a few descriptors beside the sockets. A hard limit that is too low
 * shows when one is opened. */
static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		fatal(FATAL_SYSTEM, "read the limit of descriptors", errno, NULL);
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
		fatal(FATAL_SYSTEM, "raise the limit of descriptors", errno, NULL);
}

/* The broker lives as long as its channel. What a terminal sends to its foreground group is meant
 * for the front end; a write to a closed channel must fail and not kill. */
static void block_signals(void)
{
	sigset_t blocked;

	sigfillset(&blocked);
	sigdelset(&blocked, SIGTERM);
	/* Ignored first: that discards a pending one, which was meant for the caller. */
	if (signal(SIGTERM, SIG_IGN) == SIG_ERR || signal(SIGTERM, SIG_DFL) == SIG_ERR ||
	    sigprocmask(SIG_SETMASK, &blocked, NULL) != 0)
		fatal(FATAL_SYSTEM, "block signals", errno, NULL);
}

/* Interval timers survive execve. */
static void stop_timers(void)
{
	const struct itimerval stopped = {.it_value = {0, 0}};

	if (setitimer(ITIMER_REAL, &stopped, NULL) != 0 ||
	    setitimer(ITIMER_VIRTUAL, &stopped, NULL) != 0 ||
	    setitimer(ITIMER_PROF, &stopped, NULL) != 0)
		fatal(FATAL_SYSTEM, "stop interval timers", errno, NULL);
}

void sanitise(void)
{
	const struct rlimit none = {0, 0};

	raise_descriptor_limit();
	arrange_descriptors();
	clearenv();
	umask(077);
	block_signals();
	stop_timers();
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 || setrlimit(RLIMIT_CORE, &none) != 0)
		fatal(FATAL_SYSTEM, "become not dumpable", errno, NULL);
}

void channel_check(void)
{
	struct sockaddr_storage peer;
	socklen_t peer_bytes = sizeof(peer), type_bytes = sizeof(int);
	int type = 0;

	/* A listening socket has no peer. */
	if (getsockopt(DESC_CHANNEL, SOL_SOCKET, SO_TYPE, &type, &type_bytes) != 0 ||
	    type != SOCK_SEQPACKET ||
	    getpeername(DESC_CHANNEL, (struct sockaddr *)&peer, &peer_bytes) != 0 ||
	    peer.ss_family != AF_UNIX)
		fatal(FATAL_CHANNEL, "descriptor 0 is no connected AF_UNIX SOCK_SEQPACKET socket",
		      0, "start mtr-packet or tracepath instead, which start the broker");
}
