/*
 * What tracepath's helper may do, which looks up names. It runs the C library's name services:
 * modules of the administrator's choice, which read files, load shared objects, and talk to name
 * servers and local daemons; and it parses the answers of any name server. So it may do what
 * those need, but start no process, run no program and open no raw socket.
 *
 * What is not in the table fails with EPERM and the process goes on: a module that wants more finds
 * no name, which is all that is lost.
 */
#include <asm/ioctls.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sys/socket.h>

#include "policy/filter/table.h"

/* The type of a socket is in the low bits, beside SOCK_CLOEXEC and SOCK_NONBLOCK. */
#define TYPE(value) HAS(1, 0xf, (value))

static const struct entry entries[] = {
	ALLOW(socket, "name servers", IS(0, AF_INET), TYPE(SOCK_DGRAM)),
	ALLOW(socket, "name servers, long answers", IS(0, AF_INET), TYPE(SOCK_STREAM)),
	ALLOW(socket, "name servers", IS(0, AF_INET6), TYPE(SOCK_DGRAM)),
	ALLOW(socket, "name servers, long answers", IS(0, AF_INET6), TYPE(SOCK_STREAM)),
	ALLOW(socket, "local name services: nscd, systemd-resolved, avahi", IS(0, AF_UNIX)),
	ALLOW(socket, "getaddrinfo(3) asks which addresses this host has", IS(0, AF_NETLINK),
	      IS(2, 0)),
	ALLOW(getpeername, "which server answered"),
	ALLOW(sendmsg, "questions to local name services"),
	ALLOW(shutdown, "end of a connection"),
	ALLOW(setsockopt, "errors reported early"),
	ALLOW(getsockopt, "the error of a socket"),

	ALLOW(openat, "configuration, hosts, modules, as the user's rights permit; never to write",
	      HAS_NOT(2, O_ACCMODE | O_CREAT | O_TRUNC)),
	ALLOW(access, "is there nscd, a preload file"),
	ALLOW(faccessat, "the same"),
	ALLOW(faccessat2, "the same"),
	ALLOW(stat, "has resolv.conf changed"),
	ALLOW(lstat, "the same"),
	ALLOW(statx, "the same"),
	ALLOW(statfs, "what is mounted where"),
	ALLOW(readlink, "where modules are"),
	ALLOW(readlinkat, "where modules are"),
	ALLOW(getcwd, "where modules are"),
	ALLOW(pread64, "reading modules"),
	ALLOW(readv, "reading answers"),
	ALLOW(getdents64, "configuration directories"),
	ALLOW(mmap, "memory, and modules, which are code"),
	ALLOW(mprotect, "modules, once loaded"),
	ALLOW(ioctl, "how much there is to read", IS(1, FIONREAD)),
	ALLOW(dup, "stdio of modules"),
	ALLOW(fcntl, "stdio of modules", IS(1, F_DUPFD_CLOEXEC)),
	ALLOW(fcntl, "non-blocking mode; no owner, which would get signals", IS(1, F_SETFL)),
	ALLOW(fcntl, "the same", IS(1, F_GETFL)),
	ALLOW(fcntl, "is it open", IS(1, F_GETFD)),
	ALLOW(fcntl, "close it in children", IS(1, F_SETFD)),
	ALLOW(pipe2, "waking threads"),
	ALLOW(eventfd2, "waking threads"),
	ALLOW(epoll_create1, "waiting for answers"),
	ALLOW(epoll_pwait, "waiting for answers"),

	ALLOW(uname, "the host's own name"),
	ALLOW(sysinfo, "memory there is, for malloc(3)"),
	ALLOW(prlimit64, "size of stacks; own limits can only be lowered", IS(0, 0)),
	ALLOW(getuid, "is the program setuid"),
	ALLOW(geteuid, "is the program setuid"),
	ALLOW(getgid, "is the program setuid"),
	ALLOW(getegid, "is the program setuid"),
	ALLOW(gettimeofday, "the time, where the kernel maps no vdso"),
	ALLOW(time, "the time, where the kernel maps no vdso"),
	ALLOW(clock_getres, "the time"),
	ALLOW(clock_nanosleep, "waiting before another try"),
	ALLOW(nanosleep, "waiting before another try"),
	ALLOW(select, "waiting for answers"),
	ALLOW(pselect6, "waiting for answers"),

	ALLOW(clone, "threads, of this process only",
	      HAS(0, CLONE_THREAD | CLONE_VM, CLONE_THREAD | CLONE_VM)),
	REFUSE(clone3, ENOSYS, "its flags are in memory; the C library then uses clone"),
	ALLOW(set_robust_list, "threads"),
	ALLOW(rseq, "threads"),
	ALLOW(set_tid_address, "threads"),
	ALLOW(sched_getaffinity, "threads: how many processors"),
	ALLOW(sched_yield, "threads"),
	ALLOW(exit, "the end of a thread"),
	ALLOW(sigaltstack, "threads"),
	ALLOW(futex, "threads"),
	ALLOW(rt_sigaction, "threads"),
	ALLOW(rt_sigprocmask, "threads"),
	ALLOW(getpid, "numbers of questions"),
	ALLOW(gettid, "threads"),
};

const struct table table_names = {
	.name = "names",
	.otherwise = SCMP_ACT_ERRNO(EPERM),
	.entries = entries,
	.count = COUNT(entries),
	.includes = &table_mtr_packet,
};
