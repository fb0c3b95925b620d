/*
 * Opens every socket that the broker will ever have. Runs in the broker while it starts; the
 * packets that may already be arriving are hostile, so each socket lets nothing in before it is
 * told exactly what, and what slipped in before that is thrown away.
 */
#include "broker/sockets.h"

/* Before the kernel's headers: they then leave out what both define. */
#include <netinet/in.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/icmp.h>
#include <linux/icmpv6.h>
#include <netinet/udp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broker/departure.h"
#include "common/message.h"
#include "common/wire.h"
#include "policy/socket_filter.h"

/* From <netinet/in.h> of newer C libraries: the extensions of RFC 4884 in the error queue. */
#ifndef IP_RECVERR_RFC4884
#define IP_RECVERR_RFC4884 26
#endif
#ifndef IPV6_RECVERR_RFC4884
#define IPV6_RECVERR_RFC4884 31
#endif

enum {
	/* As much as the system lets anyone have (net.core.rmem_max, wmem_max). */
	SOCKET_BUFFER_BYTES = 8 << 20,
	/* Ports in TCP use that the kernel may offer for UDP before giving up: on a host that has
	 * every second port in use, one start in a million fails. */
	HOLD_TRIES = 20,
};

static const uint8_t protocols[RAW_PROTOCOLS] = {IPPROTO_ICMP, IPPROTO_UDP, IPPROTO_TCP,
						 IPPROTO_SCTP};
static const uint32_t protocol_features[RAW_PROTOCOLS] = {FEATURE_ICMP, FEATURE_UDP, FEATURE_TCP,
							  FEATURE_SCTP};

int sockets_raw(uint8_t family, uint8_t protocol, bool dont_fragment)
{
	int index = family == 6 ? RAW_PROTOCOLS : 0;

	while (protocols[index % RAW_PROTOCOLS] != protocol)
		index++;
	return DESC_RAW_FIRST + index * 2 + (dont_fragment ? 1 : 0);
}

uint8_t sockets_raw_family(int descriptor)
{
	return (descriptor - DESC_RAW_FIRST) / 2 < RAW_PROTOCOLS ? 4 : 6;
}

uint8_t sockets_raw_protocol(int descriptor)
{
	return protocols[(descriptor - DESC_RAW_FIRST) / 2 % RAW_PROTOCOLS];
}

static int set_option(int socket, int level, int option, int value)
{
	return setsockopt(socket, level, option, &value, sizeof(value));
}

/* Throws away what arrived before the socket let nothing in. Bounded: nothing new can arrive. */
static int drain(int socket)
{
	char byte;

	while (recv(socket, &byte, sizeof(byte), MSG_DONTWAIT | MSG_TRUNC) >= 0)
		;
	return errno == EAGAIN ? 0 : -1;
}

/* A socket at the next descriptor number, which is checked. */
static int open_at(int domain, int type, int protocol, int expected)
{
	int made = socket(domain, type | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);

	if (made >= 0 && made != expected) {
		errno = EBADF;
		return -1;
	}
	return made;
}

/* Every socket that packets could reach is born like this: deaf. */
static int open_deaf(int domain, int type, int protocol, int expected)
{
	int made = open_at(domain, type, protocol, expected);

	if (made < 0 || socket_filter_reject_all(made) != 0 || drain(made) != 0)
		return -1;
	return made;
}

/* Keeps a number occupied where there is no socket to put. */
static const char *occupy(int expected)
{
	if (fcntl(DESC_NULL, F_DUPFD_CLOEXEC, expected) != expected)
		return "keep a descriptor for a family that is not there";
	return NULL;
}

/* Per-packet choices travel as control messages; what a socket must be told once is here. */
static int set_fragmentation(int socket, const struct wire_family *wire, bool dont_fragment)
{
	/* DONT: may be fragmented, as the route's MTU demands. PROBE: never fragmented, and a path
	 * MTU that the kernel has learnt elsewhere does not stop a probe. */
	if (wire->family == 4)
		return set_option(socket, IPPROTO_IP, IP_MTU_DISCOVER,
				  dont_fragment ? IP_PMTUDISC_PROBE : IP_PMTUDISC_DONT);
	if (set_option(socket, IPPROTO_IPV6, IPV6_MTU_DISCOVER,
		       dont_fragment ? IPV6_PMTUDISC_PROBE : IPV6_PMTUDISC_DONT) != 0)
		return -1;
	return set_option(socket, IPPROTO_IPV6, IPV6_DONTFRAG, dont_fragment ? 1 : 0);
}

static int set_default_ttl(int socket, const struct wire_family *wire)
{
	if (wire->family == 4)
		return set_option(socket, IPPROTO_IP, IP_TTL, SOCKETS_DEFAULT_TTL);
	return set_option(socket, IPPROTO_IPV6, IPV6_UNICAST_HOPS, SOCKETS_DEFAULT_TTL);
}

/* Types that are no answers are turned away before the kernel even copies the packet. */
static int set_icmp_types(int socket, const struct wire_family *wire, bool receives)
{
	if (wire->family == 4) {
		struct icmp_filter block = {.data = ~0u};
		if (receives)
			block.data = ~(1u << wire->echo_reply | 1u << wire->unreachable |
				       1u << wire->time_exceeded | 1u << wire->parameter_problem);
		return setsockopt(socket, SOL_RAW, ICMP_FILTER, &block, sizeof(block));
	}
	struct icmp6_filter block;
	memset(&block, 0xff, sizeof(block));
	const uint8_t passes[] = {wire->echo_reply, wire->unreachable, wire->time_exceeded,
				  wire->parameter_problem, wire->packet_too_big};
	for (size_t i = 0; receives && i < sizeof(passes); i++)
		block.data[passes[i] / 32] &= ~(1u << passes[i] % 32);
	return setsockopt(socket, SOL_ICMPV6, ICMPV6_FILTER, &block, sizeof(block));
}

static int bind_address(int socket, const struct wire_family *wire, struct in_addr in,
			struct in6_addr in6)
{
	struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr = in};
	struct sockaddr_in6 name6 = {.sin6_family = AF_INET6, .sin6_addr = in6};

	if (wire->family == 4)
		return bind(socket, (struct sockaddr *)&name, sizeof(name));
	return bind(socket, (struct sockaddr *)&name6, sizeof(name6));
}

/* A socket that has nothing to hear would still be handed a copy of every packet of its protocol
 * that this host gets, to reject it: 0.3 us each. Bound to a loopback address that hardly anybody
 * uses it is handed almost none. Where there is no loopback address this saving fails, and nothing
 * else does. */
static int turn_away(int socket, const struct wire_family *wire)
{
	const struct in_addr nobody = {htonl(INADDR_LOOPBACK + (IN_CLASSA_HOST >> 1))};
	const struct in6_addr loopback = IN6ADDR_LOOPBACK_INIT;

	return bind_address(socket, wire, nobody, loopback);
}

static int set_receiving(int socket, const struct wire_family *wire)
{
	/* Kernel receive times; for IPv6, what an IPv4 raw socket sees in the header. */
	if (set_option(socket, SOL_SOCKET, SO_TIMESTAMPNS, 1) != 0)
		return -1;
	if (wire->family == 4)
		return 0;
	if (set_option(socket, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1) != 0)
		return -1;
	return set_option(socket, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
}

/* One raw socket up to the point where it only lacks the filter that lets answers in. */
static const char *open_raw(const struct wire_family *wire, uint8_t protocol, bool dont_fragment,
			    bool receives, int expected)
{
	uint8_t ip_protocol = protocol == IPPROTO_ICMP ? wire->icmp_protocol : protocol;
	int made = open_deaf(wire->domain, SOCK_RAW, ip_protocol, expected);

	if (made < 0)
		return "open a raw socket";
	if (set_fragmentation(made, wire, dont_fragment) != 0)
		return "set how a raw socket fragments";
	if (set_default_ttl(made, wire) != 0)
		return "set the TTL of a raw socket";
	if (protocol == IPPROTO_ICMP && set_icmp_types(made, wire, receives) != 0)
		return "set the ICMP types of a raw socket";
	if (departure_prepare(made) != 0)
		return "have what a raw socket sends stamped";
	/* The kernel grants what it allows; a smaller buffer is no failure. */
	(void)set_option(made, SOL_SOCKET, SO_SNDBUF, SOCKET_BUFFER_BYTES);
	(void)turn_away(made, wire);
	if (!receives)
		return NULL;
	(void)set_option(made, SOL_SOCKET, SO_RCVBUF, SOCKET_BUFFER_BYTES);
	if (set_receiving(made, wire) != 0)
		return "set what a raw socket reports";
	return NULL;
}

static bool family_exists(const struct wire_family *wire)
{
	int try = socket(wire->domain, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (try >= 0)
		close(try);
	return try >= 0 || errno != EAFNOSUPPORT;
}

/* Of each protocol the socket that may fragment receives, for both. */
static const char *open_raw_family(uint8_t family, bool exists, uint32_t *features)
{
	const struct wire_family *wire = wire_family(family);

	for (int i = 0; i < RAW_PROTOCOLS; i++) {
		for (int dont_fragment = 0; dont_fragment < 2; dont_fragment++) {
			int expected = sockets_raw(family, protocols[i], dont_fragment != 0);
			const char *failed =
				exists ? open_raw(wire, protocols[i], dont_fragment != 0,
						  dont_fragment == 0, expected)
				       : occupy(expected);
			if (failed != NULL)
				return failed;
		}
		if (exists)
			*features |= protocol_features[i] << (family == 6 ? FEATURE_IPV6_SHIFT : 0);
	}
	return NULL;
}

static const char *open_all_raw(uint32_t *features)
{
	bool has_ipv4 = family_exists(wire_family(4));
	const char *failed = open_raw_family(4, has_ipv4, features);

	if (failed == NULL)
		failed = open_raw_family(6, family_exists(wire_family(6)), features);
	if (failed == NULL)
		failed = has_ipv4 ? open_raw(wire_family(4), IPPROTO_ICMP, false, false, DESC_ECHO)
				  : occupy(DESC_ECHO);
	return failed;
}

bool sockets_hear(int descriptor, bool any)
{
	const struct wire_family *wire = wire_family(sockets_raw_family(descriptor));
	const struct in6_addr any6 = IN6ADDR_ANY_INIT;

	if (any)
		return bind_address(descriptor, wire, (struct in_addr){INADDR_ANY}, any6) == 0;
	return turn_away(descriptor, wire) == 0;
}

bool sockets_echo_from(uint32_t address_be)
{
	static uint32_t bound_be;
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = address_be};

	if (bound_be == address_be)
		return true;
	bool is_bound = bind(DESC_ECHO, (struct sockaddr *)&address, sizeof(address)) == 0;
	bound_be = is_bound ? address_be : 0;
	return is_bound;
}

/* A socket that is to hold a port takes it in both families at once, where there are two. */
static int holder_domain(uint32_t features)
{
	return features >> FEATURE_IPV6_SHIFT & FEATURE_ICMP ? AF_INET6 : AF_INET;
}

/* The sockets for source ports of the user's choice stay unbound until one is chosen. An ordinary
 * UDP socket gets, through its error queue, just the errors that belong to its own port, so that no
 * raw socket has to be open to ports that were not known at start. */
static const char *open_local(int expected, uint32_t features)
{
	int domain = holder_domain(features);
	int made = open_at(domain, SOCK_DGRAM, IPPROTO_UDP, expected);

	if (made < 0)
		return "open a socket for local ports";
	(void)set_option(made, SOL_SOCKET, SO_RCVBUF, SOCKET_BUFFER_BYTES);
	if (set_option(made, IPPROTO_IP, IP_RECVERR, 1) != 0 ||
	    set_option(made, IPPROTO_IP, IP_RECVTTL, 1) != 0 ||
	    set_option(made, IPPROTO_IP, IP_PKTINFO, 1) != 0 ||
	    set_option(made, SOL_SOCKET, SO_TIMESTAMPNS, 1) != 0)
		return "set what a socket for local ports reports";
	/* Since Linux 5.9; without it such answers lack their extensions, which is all. */
	(void)set_option(made, IPPROTO_IP, IP_RECVERR_RFC4884, 1);
	if (domain == AF_INET)
		return NULL;
	if (set_option(made, IPPROTO_IPV6, IPV6_V6ONLY, 0) != 0 ||
	    set_option(made, IPPROTO_IPV6, IPV6_RECVERR, 1) != 0 ||
	    set_option(made, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1) != 0 ||
	    set_option(made, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1) != 0)
		return "set what a socket for local ports reports";
	(void)set_option(made, IPPROTO_IPV6, IPV6_RECVERR_RFC4884, 1);
	return NULL;
}

/* How ports are held here. */
struct holding {
	int domain;     /* AF_INET6: in both families at once */
	bool is_v6only; /* that takes an option: net.ipv6.bindv6only is set */
	uint16_t last;  /* port up to which others may follow the one before, 0: none */
};

/* The text of a small file in /proc; empty if there is none. */
static void read_setting(const char *path, char *text, size_t size)
{
	ssize_t length = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd >= 0) {
		length = read(fd, text, size - 1);
		(void)close(fd); /* nothing was written */
	}
	text[length > 0 ? length : 0] = '\0';
}

/* The last port that the kernel hands out by itself; 0 if it does not say, or if there are some in
 * between that it does not hand out. Whoever could have the broker read another file would only
 * choose ports that every user may bind. */
static uint16_t last_local_port(void)
{
	char text[32];
	char *end;

	read_setting("/proc/sys/net/ipv4/ip_local_reserved_ports", text, sizeof(text));
	if (text[0] != '\n')
		return 0;
	read_setting("/proc/sys/net/ipv4/ip_local_port_range", text, sizeof(text));
	(void)strtoul(text, &end, 10);
	unsigned long last = strtoul(end, NULL, 10);
	return last <= UINT16_MAX ? (uint16_t)last : 0;
}

static const char *find_out_how_to_hold(uint32_t features, struct holding *holding)
{
	socklen_t bytes = sizeof(int);
	int is_v6only = 0;

	holding->domain = holder_domain(features);
	/* One socket, of any kind, that was not told yet speaks for all. */
	if (holding->domain == AF_INET6 &&
	    getsockopt(sockets_raw(6, IPPROTO_ICMP, false), IPPROTO_IPV6, IPV6_V6ONLY, &is_v6only,
		       &bytes) != 0)
		return "hold a port in both families";
	holding->is_v6only = is_v6only != 0;
	holding->last = last_local_port();
	return NULL;
}

static const char *bind_port(int socket, const struct holding *holding, uint16_t *port)
{
	struct sockaddr_in6 any6 = {.sin6_family = AF_INET6, .sin6_port = htons(*port)};
	struct sockaddr_in any4 = {.sin_family = AF_INET, .sin_port = htons(*port)};
	bool both = holding->domain == AF_INET6;
	struct sockaddr *any = both ? (struct sockaddr *)&any6 : (struct sockaddr *)&any4;
	socklen_t bytes = both ? sizeof(any6) : sizeof(any4);

	if (holding->is_v6only && set_option(socket, IPPROTO_IPV6, IPV6_V6ONLY, 0) != 0)
		return "hold a port in both families";
	if (bind(socket, any, bytes) != 0)
		return "hold a port";
	if (*port != 0)
		return NULL;
	if (getsockname(socket, any, &bytes) != 0)
		return "ask which port is held";
	*port = ntohs(both ? any6.sin6_port : any4.sin_port);
	return NULL;
}

/* Reserves a port that nobody else in the namespace can have, in UDP and then the same in TCP; the
 * kernel's choice if *port is 0. Neither socket is ever read: what arrives at the UDP one fills a
 * buffer of the least size, and to a TCP socket that neither listens nor connects nothing is
 * delivered. */
static const char *hold_port(int expected, const struct holding *holding, uint16_t *port)
{
	int udp = open_at(holding->domain, SOCK_DGRAM, 0, expected);

	if (udp < 0 || set_option(udp, SOL_SOCKET, SO_RCVBUF, 0) != 0)
		return "open a UDP socket to hold a port";
	const char *failed = bind_port(udp, holding, port);
	if (failed != NULL)
		return failed;
	int tcp = open_at(holding->domain, SOCK_STREAM, 0, expected + 1);
	if (tcp < 0)
		return "open a TCP socket to hold a port";
	return bind_port(tcp, holding, port);
}

/* The port after `previous` if it is to be had: ports in a row make the filters short, and to take
 * one costs less than to have the kernel look for one. Otherwise the kernel chooses: for UDP, and
 * TCP may have that one in use; then another is tried. */
static const char *hold_some_port(int expected, const struct holding *holding, uint16_t previous,
				  uint16_t *port)
{
	bool is_next = previous != 0 && previous < holding->last;
	const char *failed = NULL;

	for (int i = 0; i < HOLD_TRIES; i++) {
		*port = is_next ? (uint16_t)(previous + 1) : 0;
		failed = hold_port(expected, holding, port);
		if (failed == NULL || (!is_next && errno != EADDRINUSE))
			break;
		is_next = false;
		int error = errno;
		close(expected);
		close(expected + 1);
		errno = error;
	}
	return failed;
}

static const char *hold_ports(struct broker_sockets *sockets)
{
	struct holding holding;
	const char *failed = NULL;
	uint16_t previous = 0;

	for (int i = 0; i < LOCAL_PORTS && failed == NULL; i++)
		failed = open_local(DESC_LOCAL_FIRST + i, sockets->features);
	if (failed == NULL)
		failed = find_out_how_to_hold(sockets->features, &holding);
	for (int i = 0; i < HELD_PORTS && failed == NULL; i++) {
		failed = hold_some_port(DESC_HELD_FIRST + 2 * i, &holding, previous,
					&sockets->held.port[i]);
		previous = sockets->held.port[i];
	}
	return failed;
}

/* The last step: receiving sockets hear answers, and no filter changes any more. */
static const char *let_answers_in(const struct broker_sockets *sockets)
{
	const struct socket_filter_ports ports = {.port = sockets->held.port, .count = HELD_PORTS};

	if (sockets->features & FEATURE_ICMP && socket_filter_lock(DESC_ECHO) != 0)
		return "lock a raw socket's filter";
	for (int fd = DESC_RAW_FIRST; fd <= DESC_RAW_LAST; fd++) {
		uint8_t family = sockets_raw_family(fd);
		uint8_t protocol = sockets_raw_protocol(fd);
		bool exists = (sockets->features >> (family == 6 ? FEATURE_IPV6_SHIFT : 0) &
			       FEATURE_ICMP) != 0;
		bool receives = (fd - DESC_RAW_FIRST) % 2 == 0;
		if (!exists)
			continue;
		if (receives && socket_filter_exact(fd, family, protocol, &ports) != 0)
			return "attach a raw socket's filter";
		if (socket_filter_lock(fd) != 0)
			return "lock a raw socket's filter";
	}
	return NULL;
}

/* Whether the kernel takes a routing mark with a packet: older ones want CAP_NET_ADMIN for it. A
 * TTL that no packet can have stands behind the mark, so that EINVAL means that the mark was
 * allowed, and nothing is sent in any case. Needs CAP_NET_RAW effective, as marks do later. */
static bool can_mark(void)
{
	_Alignas(struct cmsghdr) uint8_t control[2 * CMSG_SPACE(sizeof(int))] = {0};
	const int types[][2] = {{SOL_SOCKET, SO_MARK}, {IPPROTO_IP, IP_TTL}};
	const int values[] = {1, 256};
	struct sockaddr_in nobody = {.sin_family = AF_INET};
	struct msghdr message = {
		.msg_name = &nobody,
		.msg_namelen = sizeof(nobody),
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *at = CMSG_FIRSTHDR(&message);

	for (size_t i = 0; i < 2; i++, at = message_next_control(&message, at)) {
		*at = (struct cmsghdr){
			.cmsg_len = CMSG_LEN(sizeof(int)),
			.cmsg_level = types[i][0],
			.cmsg_type = types[i][1],
		};
		memcpy(CMSG_DATA(at), &values[i], sizeof(int));
	}
	int any_ipv4 = sockets_raw(4, IPPROTO_ICMP, false);
	return sendmsg(any_ipv4, &message, MSG_DONTWAIT) < 0 && errno == EINVAL;
}

bool sockets_open(struct broker_sockets *sockets, struct step_failure *failure)
{
	memset(sockets, 0, sizeof(*sockets));
	const char *failed = open_all_raw(&sockets->features);

	if (failed == NULL)
		failed = hold_ports(sockets);
	if (failed == NULL)
		failed = let_answers_in(sockets);
	if (failed != NULL)
		return step_failed(failure, failed, "see postern-broker(8), Diagnostics");
	sockets->features |= FEATURE_DEVICE | FEATURE_LOCAL_PORT;
	if (can_mark())
		sockets->features |= FEATURE_MARK;
	return true;
}
