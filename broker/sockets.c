/*
 * Opens every socket that the broker will ever have. Runs in the broker while it starts; the
 * packets that may already be arriving are hostile, so each raw socket gets its last filter as soon
 * as it is there, and what slipped in before that is thrown away. The ports that these filters name
 * are therefore held first.
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
	/* A packet in a receive buffer counts with its sk_buff and the memory behind it, which is
	 * 512 bytes and more; this leaves room for processors that put one in at the same time. */
	LEAST_CHARGE = 128,
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

/* Throws away what arrived before the socket's filter was there. Packets that pass the filter may
 * come as fast as somebody likes, so "until nothing is left" would be no bound. But they queue up
 * behind those: once as many are gone as the buffer could ever have held, all of those are. The
 * kernel charges each packet to the buffer, and never less than LEAST_CHARGE. */
static int drain(int socket)
{
	int buffer_bytes;
	socklen_t bytes = sizeof(buffer_bytes);
	char byte;

	if (recv(socket, &byte, sizeof(byte), MSG_DONTWAIT | MSG_TRUNC) < 0)
		return errno == EAGAIN ? 0 : -1;
	if (getsockopt(socket, SOL_SOCKET, SO_RCVBUF, &buffer_bytes, &bytes) != 0)
		return -1;
	for (int left = buffer_bytes / LEAST_CHARGE; left > 0; left--)
		if (recv(socket, &byte, sizeof(byte), MSG_DONTWAIT | MSG_TRUNC) < 0)
			return errno == EAGAIN ? 0 : -1;
	return 0;
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
	return dont_fragment ? set_option(socket, IPPROTO_IPV6, IPV6_DONTFRAG, 1) : 0;
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

/* What a raw socket is to let in; NULL: nothing, since it only sends. */
static int set_filter(int socket, const struct wire_family *wire, uint8_t protocol,
		      const struct socket_filter_ports *ports)
{
	if (ports == NULL)
		return socket_filter_reject_all(socket);
	return socket_filter_exact(socket, wire->family, protocol, ports);
}

/* One raw socket. Once it is drained there is nothing in it, and nothing will be, that did not pass
 * its filter, and the filter is final. */
static const char *open_raw(const struct wire_family *wire, uint8_t protocol, bool dont_fragment,
			    const struct socket_filter_ports *ports, int expected)
{
	uint8_t ip_protocol = protocol == IPPROTO_ICMP ? wire->icmp_protocol : protocol;
	int made = open_at(wire->domain, SOCK_RAW, ip_protocol, expected);

	if (made < 0)
		return "open a raw socket";
	if (set_filter(made, wire, protocol, ports) != 0)
		return "attach a raw socket's filter";
	if (socket_filter_lock(made) != 0)
		return "lock a raw socket's filter";
	(void)turn_away(made, wire);
	if (drain(made) != 0)
		return "empty a raw socket";
	if (set_fragmentation(made, wire, dont_fragment) != 0)
		return "set how a raw socket fragments";
	if (set_default_ttl(made, wire) != 0)
		return "set the TTL of a raw socket";
	if (protocol == IPPROTO_ICMP && set_icmp_types(made, wire, ports != NULL) != 0)
		return "set the ICMP types of a raw socket";
	if (departure_prepare(made) != 0)
		return "have what a raw socket sends stamped";
	/* The kernel grants what it allows; a smaller buffer is no failure. Probes that must not be
	 * fragmented ask for an MTU, hop by hop: no flood that would need one. */
	if (!dont_fragment)
		(void)set_option(made, SOL_SOCKET, SO_SNDBUF, SOCKET_BUFFER_BYTES);
	if (ports == NULL)
		return NULL;
	/* Not before the socket is drained, since that takes as long as the buffer is large. */
	(void)set_option(made, SOL_SOCKET, SO_RCVBUF, SOCKET_BUFFER_BYTES);
	if (set_receiving(made, wire) != 0)
		return "set what a raw socket reports";
	return NULL;
}

/* Of each protocol the socket that may fragment receives, for both. */
static const char *open_raw_family(uint8_t family, bool exists,
				   const struct socket_filter_ports *ports, uint32_t *features)
{
	const struct wire_family *wire = wire_family(family);

	for (int i = 0; i < RAW_PROTOCOLS; i++) {
		for (int dont_fragment = 0; dont_fragment < 2; dont_fragment++) {
			int expected = sockets_raw(family, protocols[i], dont_fragment != 0);
			const char *failed =
				exists ? open_raw(wire, protocols[i], dont_fragment != 0,
						  dont_fragment == 0 ? ports : NULL, expected)
				       : occupy(expected);
			if (failed != NULL)
				return failed;
		}
		if (exists)
			*features |= protocol_features[i] << (family == 6 ? FEATURE_IPV6_SHIFT : 0);
	}
	return NULL;
}

/* Another processor may have been about to put a packet into a socket when its filter came, and
 * have done so after the socket was drained. By now, some hundred system calls later, it has. */
static const char *drain_again(bool has_ipv6)
{
	for (int fd = DESC_RAW_FIRST; fd <= DESC_RAW_LAST; fd += 2)
		if ((has_ipv6 || sockets_raw_family(fd) == 4) && drain(fd) != 0)
			return "empty a raw socket";
	return NULL;
}

/* A kernel that has sockets of IPv6 has those of IPv4. */
static const char *open_all_raw(bool has_ipv6, struct broker_sockets *sockets)
{
	const struct socket_filter_ports ports = {.port = sockets->held.port, .count = HELD_PORTS};
	const char *failed = open_raw(wire_family(4), IPPROTO_ICMP, false, NULL, DESC_ECHO);

	if (failed == NULL)
		failed = open_raw_family(4, true, &ports, &sockets->features);
	if (failed == NULL)
		failed = open_raw_family(6, has_ipv6, &ports, &sockets->features);
	if (failed == NULL)
		failed = drain_again(has_ipv6);
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

/* A socket that is to hold a port takes it in both families at once, where there are two. */
static const char *find_out_how_to_hold(struct holding *holding)
{
	socklen_t bytes = sizeof(int);
	int is_v6only = 0;
	int try = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	/* Any other failure is told of the socket that is to stay. */
	holding->domain = try >= 0 || errno != EAFNOSUPPORT ? AF_INET6 : AF_INET;
	if (try >= 0) {
		if (getsockopt(try, IPPROTO_IPV6, IPV6_V6ONLY, &is_v6only, &bytes) != 0)
			return "hold a port in both families";
		close(try);
	}
	holding->is_v6only = is_v6only != 0;
	holding->last = last_local_port();
	return NULL;
}

static int in_both_families(int socket, const struct holding *holding)
{
	return holding->is_v6only ? set_option(socket, IPPROTO_IPV6, IPV6_V6ONLY, 0) : 0;
}

static const char *bind_port(int socket, const struct holding *holding, uint16_t *port)
{
	struct sockaddr_in6 any6 = {.sin6_family = AF_INET6, .sin6_port = htons(*port)};
	struct sockaddr_in any4 = {.sin_family = AF_INET, .sin_port = htons(*port)};
	bool both = holding->domain == AF_INET6;
	struct sockaddr *any = both ? (struct sockaddr *)&any6 : (struct sockaddr *)&any4;
	socklen_t bytes = both ? sizeof(any6) : sizeof(any4);

	if (in_both_families(socket, holding) != 0)
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

static const char *hold_ports(const struct holding *holding, struct held_ports *held)
{
	const char *failed = NULL;
	uint16_t previous = 0;

	for (int i = 0; i < HELD_PORTS && failed == NULL; i++) {
		failed = hold_some_port(DESC_HELD_FIRST + 2 * i, holding, previous, &held->port[i]);
		previous = held->port[i];
	}
	return failed;
}

/* The sockets for source ports of the user's choice stay unbound until one is chosen. An ordinary
 * UDP socket gets, through its error queue, just the errors that belong to its own port, so that no
 * raw socket has to be open to ports that were not known at start. */
static const char *open_local(int expected, const struct holding *holding)
{
	int made = open_at(holding->domain, SOCK_DGRAM, IPPROTO_UDP, expected);

	if (made < 0)
		return "open a socket for local ports";
	(void)set_option(made, SOL_SOCKET, SO_RCVBUF, SOCKET_BUFFER_BYTES);
	if (set_option(made, IPPROTO_IP, IP_RECVERR, 1) != 0 ||
	    set_option(made, IPPROTO_IP, IP_RECVTTL, 1) != 0 ||
	    set_option(made, SOL_SOCKET, SO_TIMESTAMPNS, 1) != 0)
		return "set what a socket for local ports reports";
	/* Since Linux 5.9; without it such answers lack their extensions, which is all. */
	(void)set_option(made, IPPROTO_IP, IP_RECVERR_RFC4884, 1);
	if (holding->domain == AF_INET) {
		if (set_option(made, IPPROTO_IP, IP_PKTINFO, 1) != 0)
			return "set what a socket for local ports reports";
		return NULL;
	}
	if (in_both_families(made, holding) != 0)
		return "hold a port in both families";
	/* IPV6_RECVPKTINFO reports the address of an IPv4 packet, too. */
	if (set_option(made, IPPROTO_IPV6, IPV6_RECVERR, 1) != 0 ||
	    set_option(made, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1) != 0 ||
	    set_option(made, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1) != 0)
		return "set what a socket for local ports reports";
	(void)set_option(made, IPPROTO_IPV6, IPV6_RECVERR_RFC4884, 1);
	return NULL;
}

static const char *open_all_local(const struct holding *holding)
{
	const char *failed = NULL;

	for (int i = 0; i < LOCAL_PORTS && failed == NULL; i++)
		failed = open_local(DESC_LOCAL_FIRST + i, holding);
	return failed;
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
	struct holding holding;

	memset(sockets, 0, sizeof(*sockets));
	const char *failed = find_out_how_to_hold(&holding);
	if (failed == NULL)
		failed = hold_ports(&holding, &sockets->held);
	if (failed == NULL)
		failed = open_all_raw(holding.domain == AF_INET6, sockets);
	if (failed == NULL)
		failed = open_all_local(&holding);
	if (failed != NULL)
		return step_failed(failure, failed, "see postern-broker(8), Diagnostics");
	sockets->features |= FEATURE_DEVICE | FEATURE_LOCAL_PORT;
	if (can_mark())
		sockets->features |= FEATURE_MARK;
	return true;
}
