/*
 * What the front end may do once its broker runs: the packet personality, which mtr drives, and,
 * included by its own table, tracepath's prober. They read requests and answers that strangers
 * composed; they need no file, no new socket, no process, and no right of their user but to write
 * what they were started to write.
 *
 * Descriptors are not named: the process has no other than the standard three, its channel and its
 * route socket, and it cannot get any.
 */
#include <asm/ioctls.h>
#include <fcntl.h>
#include <sys/mman.h>

#include "policy/filter/table.h"

static const struct entry entries[] = {
	ALLOW(ppoll, "the one place to wait"),
	ALLOW(sched_yield, "short waits: look again, but let others run first"),
	ALLOW(recvmsg, "events from the broker, routes from the kernel"),
	ALLOW(sendmsg, "probes to the broker, questions about routes to the kernel"),
	ALLOW(recvmmsg, "several of them"),
	ALLOW(sendmmsg, "several of them"),
	ALLOW(recvfrom, "recv(3) is this call"),
	ALLOW(sendto, "send(3) is this call"),
	ALLOW(read, "requests"),
	ALLOW(write, "replies, messages for people"),
	ALLOW(writev, "replies in several pieces"),
	ALLOW(pwritev2, "replies, without waiting"),
	ALLOW(clock_gettime, "the time, where the kernel maps no vdso"),
	ALLOW(poll, "as ppoll, from the C library"),

	ALLOW(brk, "memory"),
	ALLOW(mmap, "memory that cannot be executed; of no file, since none is open",
	      HAS_NOT(2, PROT_EXEC)),
	ALLOW(mremap, "memory: realloc(3)"),
	ALLOW(munmap, "memory"),
	ALLOW(madvise, "memory: free(3) gives back"),
	ALLOW(mprotect, "memory: malloc(3) grows; never executable", HAS_NOT(2, PROT_EXEC)),
	ALLOW(futex, "locks inside the C library"),
	ALLOW(getrandom, "malloc(3) and hash tables"),

	ALLOW(fstat, "stdio looks at what it writes to"),
	ALLOW(newfstatat, "the same, as newer C libraries call it: opens nothing"),
	ALLOW(lseek, "stdio, on what is a file"),
	ALLOW(ioctl, "stdio asks whether it writes to a terminal", IS(1, TCGETS)),
	ALLOW(fcntl, "non-blocking mode; no owner, whom signals would reach", IS(1, F_SETFL)),
	ALLOW(fcntl, "the same", IS(1, F_GETFL)),
	ALLOW(fcntl, "is it open", IS(1, F_GETFD)),
	ALLOW(fcntl, "close it in children", IS(1, F_SETFD)),
	ALLOW(close, "what is no longer needed"),
	ALLOW(shutdown, "the channel"),
	ALLOW(getsockopt, "the error of a socket"),

	ALLOW(rt_sigaction, "how to end"),
	ALLOW(rt_sigprocmask, "how to end"),
	ALLOW(rt_sigreturn, "back from a signal handler"),
	ALLOW(restart_syscall, "go on waiting after a stop"),
	ALLOW(wait4, "the broker's end, its exit status"),
	ALLOW(getpid, "abort(3)"),
	ALLOW(gettid, "abort(3)"),
	ALLOW(exit_group, "the end"),
};

const struct table table_packet = {
	.name = "packet",
	.otherwise = SCMP_ACT_KILL_PROCESS,
	.entries = entries,
	.count = COUNT(entries),
};
