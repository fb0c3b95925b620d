/*
 * What the front end may do once its broker runs: mtr-packet, and, included by their own tables,
 * tracepath and its helper. They read requests and answers that anyone may have sent. They send
 * probes by UDP, TCP and ping sockets of their user, and write to descriptors that are open. They
 * need no file and no process.
 *
 * Descriptors are not named: the process has no others than the standard three, the channel to the
 * broker, and such sockets.
 */
#include <asm/ioctls.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "policy/filter/table.h"

/* Protocol 0 is the family's own of the type: UDP or TCP. The type is in the low bits, beside
 * SOCK_CLOEXEC and SOCK_NONBLOCK. */
#define SOCKET(why, family, type, protocol)                                                        \
	ALLOW(socket, why, IS(0, family), HAS(1, 0xf, type), IS(2, protocol))
#define SET(why, level, option) ALLOW(setsockopt, why, IS(1, level), IS(2, option))
#define GET(why, level, option) ALLOW(getsockopt, why, IS(1, level), IS(2, option))

enum {
	FLOWINFO_SEND = 33, /* IPV6_FLOWINFO_SEND of linux/in6.h, which the C library's lack */
};

static const struct entry entries[] = {
	ALLOW(ppoll, "the one place to wait"),
	ALLOW(epoll_wait, "which sockets are ready"),
	ALLOW(epoll_pwait, "the same, on newer architectures; no signal mask to swap", IS_NULL(4)),
	ALLOW(recvmmsg, "answers and errors arrive"),
	ALLOW(recvmsg, "answers and errors arrive"),
	ALLOW(recvfrom, "recv(3) is this call"),
	ALLOW(sendmmsg, "probes leave"),
	ALLOW(sendto, "send(3) is this call"),
	ALLOW(read, "requests"),
	ALLOW(write, "replies, messages for people"),
	ALLOW(writev, "the same, by stdio of some C libraries"),
	ALLOW(clock_gettime, "the time, where the kernel maps no vdso"),
	ALLOW(poll, "as ppoll, from the C library"),

	SOCKET("UDP probes, routes", AF_INET, SOCK_DGRAM, 0),
	SOCKET("UDP probes, routes", AF_INET6, SOCK_DGRAM, 0),
	SOCKET("TCP probes", AF_INET, SOCK_STREAM, 0),
	SOCKET("TCP probes", AF_INET6, SOCK_STREAM, 0),
	SOCKET("ICMP probes without a broker", AF_INET, SOCK_DGRAM, IPPROTO_ICMP),
	SOCKET("ICMP probes without a broker", AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6),
	ALLOW(bind, "source addresses and ports"),
	ALLOW(connect, "TCP probes leave; the kernel looks up a route"),
	ALLOW(getsockname, "source address, port that the kernel chose"),
	ALLOW(epoll_ctl, "which sockets to wait for"),

	SET("TTL of a probe", IPPROTO_IP, IP_TTL),
	SET("TTL of a probe", IPPROTO_IPV6, IPV6_UNICAST_HOPS),
	SET("TOS of a probe", IPPROTO_IP, IP_TOS),
	SET("TOS of a probe", IPPROTO_IPV6, IPV6_TCLASS),
	SET("whether it may fragment", IPPROTO_IP, IP_MTU_DISCOVER),
	SET("whether it may fragment", IPPROTO_IPV6, IPV6_MTU_DISCOVER),
	SET("whether it may fragment", IPPROTO_IPV6, IPV6_DONTFRAG),
	SET("a port of each family's own", IPPROTO_IPV6, IPV6_V6ONLY),
	SET("ICMP errors", IPPROTO_IP, IP_RECVERR),
	SET("ICMP errors", IPPROTO_IPV6, IPV6_RECVERR),
	SET("extensions of ICMP errors", IPPROTO_IP, IP_RECVERR_RFC4884),
	SET("extensions of ICMP errors", IPPROTO_IPV6, IPV6_RECVERR_RFC4884),
	SET("TTL of an answer", IPPROTO_IP, IP_RECVTTL),
	SET("TTL of an answer", IPPROTO_IPV6, IPV6_RECVHOPLIMIT),
	SET("a port chosen as late as possible", IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT),
	SET("when an answer arrived", SOL_SOCKET, SO_TIMESTAMPNS),
	SET("reset at close", SOL_SOCKET, SO_LINGER),
	SET("the local port of a flow, used again", SOL_SOCKET, SO_REUSEADDR),
	SET("flow label of a flow", IPPROTO_IPV6, IPV6_AUTOFLOWLABEL),
	SET("flow label of a flow", IPPROTO_IPV6, FLOWINFO_SEND),
	SET("one interface", SOL_SOCKET, SO_BINDTOIFINDEX),
	SET("routing mark, for those who may", SOL_SOCKET, SO_MARK),
	SET("room for answers", SOL_SOCKET, SO_RCVBUF),
	GET("the error of a socket", SOL_SOCKET, SO_ERROR),
	GET("room granted", SOL_SOCKET, SO_RCVBUF),
	GET("round-trip time and repetitions", IPPROTO_TCP, TCP_INFO),
	GET("MTU of a route", IPPROTO_IP, IP_MTU),
	GET("MTU of a route", IPPROTO_IPV6, IPV6_MTU),
	ALLOW(ioctl, "index of an interface", IS(1, SIOCGIFINDEX)),

	ALLOW(brk, "memory"),
	ALLOW(mmap, "memory that cannot be executed; of no file, since none is open",
	      HAS_NOT(2, PROT_EXEC)),
	ALLOW(mremap, "memory: realloc(3)"),
	ALLOW(munmap, "memory"),
	ALLOW(madvise, "memory: malloc(3), where the user chose huge pages"),
	ALLOW(getrandom, "probe numbers"),

	ALLOW(fstat, "stdio looks at what it writes to"),
	ALLOW(newfstatat, "the same, as newer C libraries call it: opens nothing"),
	ALLOW(lseek, "stdio, on what is a file"),
	ALLOW(ioctl, "stdio asks whether it writes to a terminal", IS(1, TCGETS)),
	ALLOW(close, "sockets whose probe has ended"),

	ALLOW(restart_syscall, "go on waiting after a stop"),
	ALLOW(wait4, "the end of the broker and of the helper"),
	ALLOW(exit_group, "the end"),
};

const struct table table_mtr_packet = {
	.name = "mtr_packet",
	.otherwise = SCMP_ACT_KILL_PROCESS,
	.entries = entries,
	.count = COUNT(entries),
};
