/*
 * Opens every socket that the broker will ever have. Runs in the broker while it starts, when
 * packets that anyone has sent may already arrive. So each raw socket gets its final filter first,
 * and what came before that is thrown away.
 */
#include "broker/sockets.h"

/* Before the kernel's headers: they then leave out what both define. */
#include <netinet/in.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/icmp.h>
#include <linux/icmpv6.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broker/fatal.h"
#include "policy/descriptors.h"
#include "policy/socket_filter.h"

/* <linux/in6.h> has it, but cannot be included beside the C library's headers. */
#ifndef IPV6_FLOWINFO_SEND
#define IPV6_FLOWINFO_SEND 33
#endif

enum {
	/* The kernel grants up to net.core.rmem_max and wmem_max. */
	BUFFER_BYTES = 8 << 20,
	/* The kernel charges a received packet with its sk_buff as well, which is larger. */
	PACKET_CHARGE_MIN = 256,
	/* With MSG_CONFIRM, an empty message is checked and not sent. The kernel's MSG_PROBE, which
	 * the C library's headers call MSG_PROXY. */
	CHECK_ONLY = 0x10,
};

struct option {
	int level, name, value;
};

/* What is different between the families. */
struct family {
	uint8_t number; /* as in struct record_probe */
	int domain;
	uint8_t icmp_protocol;
	uint32_t feature_shift;
	const void *nowhere; /* an address to bind to that no packet has */
	socklen_t nowhere_bytes;
	/* Of every socket, of those that may fragment and may not, of those that receive. */
	struct option always[2], fragment[1], dont_fragment[2], receive[3];
};

/* No SCTP packet goes to the limited broadcast address, or to the reserved multicast address ff00::
 * (RFC 4291 2.7.1). */
static const struct sockaddr_in nowhere4 = {.sin_family = AF_INET,
					    .sin_addr.s_addr = INADDR_BROADCAST};
static const struct sockaddr_in6 nowhere6 = {.sin6_family = AF_INET6, .sin6_addr.s6_addr = {0xff}};

static const struct family ipv4 = {
	.number = 4,
	.domain = AF_INET,
	.icmp_protocol = IPPROTO_ICMP,
	.feature_shift = 0,
	.nowhere = &nowhere4,
	.nowhere_bytes = sizeof(nowhere4),
	.always = {{IPPROTO_IP, IP_TTL, 255}},
	.fragment = {{IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT}},
	/* PROBE: a path MTU that the kernel has learnt elsewhere stops no probe. */
	.dont_fragment = {{IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE}},
	.receive = {{SOL_SOCKET, SO_TIMESTAMPNS, 1}},
};

static const struct family ipv6 = {
	.number = 6,
	.domain = AF_INET6,
	.icmp_protocol = IPPROTO_ICMPV6,
	.feature_shift = FEATURE_IPV6_SHIFT,
	.nowhere = &nowhere6,
	.nowhere_bytes = sizeof(nowhere6),
	.always = {{IPPROTO_IPV6, IPV6_UNICAST_HOPS, 255}, {IPPROTO_IPV6, IPV6_FLOWINFO_SEND, 1}},
	.fragment = {{IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DONT}},
	.dont_fragment = {{IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE},
			  {IPPROTO_IPV6, IPV6_DONTFRAG, 1}},
	.receive = {{SOL_SOCKET, SO_TIMESTAMPNS, 1},
		    {IPPROTO_IPV6, IPV6_RECVPKTINFO, 1},
		    {IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1}},
};

static int set_option(int fd, struct option option)
{
	return setsockopt(fd, option.level, option.name, &option.value, sizeof(option.value));
}

/* A socket at its fixed number, which is the lowest free one. */
static int open_at(int expected, int domain, int type, int protocol)
{
	int fd = socket(domain, type | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);

	if (fd < 0 && errno == EMFILE)
		fatal(FATAL_SYSTEM, "open a socket", EMFILE,
		      "raise the hard limit of descriptors: ulimit -H -n 256");
	/* CAP_NET_RAW is held. */
	if (fd < 0 && (errno == EPERM || errno == EACCES))
		fatal(FATAL_NO_PRIVILEGE,
		      type == SOCK_RAW ? "open a raw socket" : "open a UDP socket", errno,
		      "denied by a system call filter, or by the user namespace");
	if (fd >= 0 && fd != expected)
		fatal(FATAL_SYSTEM, "a socket has not the number that it should", 0, NULL);
	return fd;
}

/* Holds a port that no other UDP socket of the network namespace can have. It is never read. */
static uint16_t hold_port(int expected)
{
	struct sockaddr_in any = {.sin_family = AF_INET};
	socklen_t bytes = sizeof(any);
	int fd = open_at(expected, AF_INET, SOCK_DGRAM, IPPROTO_UDP);

	if (fd < 0 || set_option(fd, (struct option){SOL_SOCKET, SO_RCVBUF, 0}) != 0)
		fatal(FATAL_SYSTEM, "open a UDP socket", errno, NULL);
	if (bind(fd, (struct sockaddr *)&any, bytes) != 0 ||
	    getsockname(fd, (struct sockaddr *)&any, &bytes) != 0)
		fatal(FATAL_SYSTEM, "hold a UDP port", errno,
		      "each broker takes 16 of net.ipv4.ip_local_port_range");
	return ntohs(any.sin_port);
}

/* The kernel drops all other types before it copies the packet for the socket: all types for one
 * that only sends. */
static int pass_answer_types(int fd, const struct family *family, bool receives)
{
	struct icmp_filter blocked = {
		.data = !receives ? ~0u
				  : ~(1u << ICMP_ECHOREPLY | 1u << ICMP_DEST_UNREACH |
				      1u << ICMP_TIME_EXCEEDED | 1u << ICMP_PARAMETERPROB)};
	static const uint8_t passed6[] = {ICMPV6_DEST_UNREACH, ICMPV6_PKT_TOOBIG,
					  ICMPV6_TIME_EXCEED, ICMPV6_PARAMPROB, ICMPV6_ECHO_REPLY};
	struct icmp6_filter blocked6;

	if (family->number == 4)
		return setsockopt(fd, SOL_RAW, ICMP_FILTER, &blocked, sizeof(blocked));
	memset(&blocked6, 0xff, sizeof(blocked6));
	for (size_t i = 0; i < sizeof(passed6) && receives; i++)
		blocked6.data[passed6[i] / 32] &= ~(1u << passed6[i] % 32);
	return setsockopt(fd, SOL_ICMPV6, ICMPV6_FILTER, &blocked6, sizeof(blocked6));
}

/* Throws away what came before the filter. Packets that pass it may keep coming, but behind those:
 * after as many as the buffer can hold, all of those are gone. */
static int drain(int fd)
{
	int buffer_bytes;
	socklen_t bytes = sizeof(buffer_bytes);

	if (getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer_bytes, &bytes) != 0)
		return -1;
	for (int left = buffer_bytes / PACKET_CHARGE_MIN; left >= 0; left--)
		if (recv(fd, NULL, 0, MSG_DONTWAIT | MSG_TRUNC) < 0)
			return errno == EAGAIN ? 0 : -1;
	return 0;
}

/* From here on the socket gets nothing but what its filter passes, and the filter is final. A raw
 * socket gets a copy of each packet of its protocol: one that only sends, or does not receive yet,
 * is bound to an address that no packet has. */
static void restrict_receive(int fd, uint8_t protocol, const struct family *family,
			     const uint16_t *held_port, bool receives)
{
	bool is_icmp = protocol == IPPROTO_ICMP;
	int error = is_icmp ? pass_answer_types(fd, family, receives) : 0;

	if (error == 0 && !(is_icmp && receives))
		error = bind(fd, family->nowhere, family->nowhere_bytes);
	if (error != 0)
		fatal(FATAL_SYSTEM, "restrict what a raw socket receives", errno, NULL);
	error = receives ? socket_filter_attach(fd, family->number, protocol, held_port)
			 : socket_filter_reject_all(fd);
	if (error != 0 || socket_filter_lock(fd) != 0)
		fatal(FATAL_SYSTEM, "attach a raw socket's filter", errno, NULL);
	if (drain(fd) != 0)
		fatal(FATAL_SYSTEM, "drain a raw socket", errno, NULL);
}

/* Sets those that have a name. */
static void set_options(int fd, const struct option *options, size_t count)
{
	for (size_t i = 0; i < count && options[i].name != 0; i++)
		if (set_option(fd, options[i]) != 0)
			fatal(FATAL_SYSTEM, "set an option of a raw socket", errno, NULL);
}

/* IP_RECVERR is never set: the error queue bypasses the filter. */
static void configure(int fd, const struct family *family, bool dont_fragment)
{
	const struct option buffers[] = {{SOL_SOCKET, SO_SNDBUF, BUFFER_BYTES},
					 {SOL_SOCKET, SO_RCVBUF, BUFFER_BYTES}};

	set_options(fd, family->always, 2);
	set_options(fd, buffers, dont_fragment ? 1 : 2);
	if (dont_fragment) {
		set_options(fd, family->dont_fragment, 2);
	} else {
		set_options(fd, family->fragment, 1);
		set_options(fd, family->receive, 3);
	}
}

/* The socket that may fragment receives for both. False if the kernel lacks the family. */
static bool open_raw(const struct family *family, uint8_t protocol, bool dont_fragment,
		     const uint16_t *held_port)
{
	int expected = descriptor_raw(family->number, protocol == IPPROTO_SCTP, dont_fragment);
	int fd = open_at(expected, family->domain, SOCK_RAW,
			 protocol == IPPROTO_ICMP ? family->icmp_protocol : protocol);

	if (fd < 0 && errno == EAFNOSUPPORT) {
		/* Nothing arrives there, and nothing can be sent to another family. */
		if (fcntl(DESC_ICMP4_DF, F_DUPFD_CLOEXEC, expected) != expected)
			fatal(FATAL_SYSTEM, "duplicate a descriptor", errno, NULL);
		return false;
	}
	if (fd < 0)
		fatal(FATAL_SYSTEM, "open a raw socket", errno, NULL);
	restrict_receive(fd, protocol, family, held_port, !dont_fragment);
	configure(fd, family, dont_fragment);
	return true;
}

static void open_protocol(uint8_t protocol, uint32_t feature, struct broker_sockets *sockets)
{
	static const struct family *const families[] = {&ipv4, &ipv6};

	for (size_t i = 0; i < 2; i++) {
		bool may_fragment = open_raw(families[i], protocol, false, sockets->held_port);
		bool dont_fragment = open_raw(families[i], protocol, true, sockets->held_port);
		if (may_fragment && dont_fragment)
			sockets->features |= feature << families[i]->feature_shift;
	}
}

/* In the order of the descriptor numbers. */
void sockets_open(struct broker_sockets *sockets)
{
	sockets->features = 0;
	for (int i = 0; i < RECORD_PROBE_IDS; i++)
		sockets->held_port[i] = hold_port(DESC_PROBE_ID_FIRST + i);
	open_protocol(IPPROTO_ICMP, FEATURE_ICMP, sockets);
	open_protocol(IPPROTO_SCTP, FEATURE_SCTP, sockets);
}

bool sockets_can_mark(void)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control = {.header = {.cmsg_len = CMSG_LEN(sizeof(int)),
				.cmsg_level = SOL_SOCKET,
				.cmsg_type = SO_MARK}};
	struct sockaddr_in loopback = {.sin_family = AF_INET,
				       .sin_port = htons(9),
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct msghdr message = {
		.msg_name = &loopback,
		.msg_namelen = sizeof(loopback),
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};

	/* The permission is checked first. Whether there is a route does not matter. */
	return sendmsg(DESC_PROBE_ID_FIRST, &message, MSG_CONFIRM | CHECK_ONLY) == 0 ||
	       errno != EPERM;
}
