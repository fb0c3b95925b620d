/*
 * Sends probes. Runs in the broker. What differs from probe to probe travels as control messages,
 * so that no option is ever set on a shared socket; requests for one socket leave in one system
 * call. The kernel refuses source addresses that are not this host's.
 */
#include "broker/transmit.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

#include "broker/build.h"
#include "broker/channel.h"
#include "broker/clock.h"
#include "broker/departure.h"
#include "broker/descriptors.h"
#include "broker/local_port.h"
#include "broker/large_table.h"
#include "broker/probe_table.h"
#include "broker/sockets.h"
#include "common/message.h"
#include "common/wire.h"
#include "policy/admission.h"
#include "policy/privilege.h"

/* Not in the C library's headers; <linux/in6.h> does not go together with them. */
#ifndef IPV6_FLOWINFO
#define IPV6_FLOWINFO 11
#endif

enum {
	/* TTL, TOS, mark, flow label and stamp of 24 bytes each, packet information of 40. */
	CONTROL_BYTES = 5 * CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(struct in6_pktinfo)),
	FLOW_LABEL_MASK = 0xfffff, /* RFC 8200 6 */
	/* Batches up to the first of these sizes have all their packets stamped by the kernel, up
	 * to the second every other one, larger ones every eighth. A stamp costs 0.4 us; an
	 * interruption of the process spoils the send times of those between two
	 * (tests/bench/NOTES.md). */
	FEW = 16,
	SOME = 64,
	/* Where stamps do not come, so many leave between two readings of the clock. */
	PACKETS_A_READING = 4,
	/* As many echo requests from one address are worth a call that binds a socket to it. */
	WORTH_BINDING = 16,
};

/* A probe on its way out. */
struct outgoing {
	const struct record_probe *request;
	struct probe *probe;
	int socket;
	struct iovec piece;
	union {
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	} to;
	_Alignas(struct cmsghdr) uint8_t control[CONTROL_BYTES];
	size_t control_bytes; /* where the next control message begins */
	size_t control_end;   /* where the last one ends */
};

static LARGE_TABLE struct outgoing outgoing[RECORD_BATCH];
/* Packets stand one behind the other, so that a batch of small ones stays small in the cache. */
static LARGE_TABLE uint8_t arena[TRANSMIT_BYTES];
static size_t arena_bytes;

static void refuse(const struct record_probe *request, int error)
{
	struct record_event event = {
		.what = error == EAGAIN || error == ENOBUFS ? EVENT_BUSY : EVENT_FAILED,
		.cookie = request->cookie,
		.error = error,
	};

	channel_event(&event, NULL);
}

static void add_control(struct outgoing *out, int level, int type, const void *data, size_t bytes)
{
	struct cmsghdr *control = (struct cmsghdr *)(void *)(out->control + out->control_bytes);

	/* As a whole: common/message.h */
	*control = (struct cmsghdr){
		.cmsg_len = (socklen_t)CMSG_LEN(bytes),
		.cmsg_level = level,
		.cmsg_type = type,
	};
	memcpy(CMSG_DATA(control), data, bytes);
	out->control_end = out->control_bytes + CMSG_LEN(bytes);
	out->control_bytes += CMSG_SPACE(bytes);
}

/* A flow's label: any constant will do (RFC 6437 3), except 0, which means "none". */
static uint32_t flow_label_be(uint32_t flow)
{
	uint32_t label = (flow + 1) * 0x9e3779b1u >> 12 & FLOW_LABEL_MASK;

	return htonl(label == 0 ? 1 : label);
}

static void address_ipv4(struct outgoing *out)
{
	const struct record_probe *request = out->request;
	struct in_pktinfo info = {.ipi_ifindex = (int)request->ifindex};
	int ttl = request->ttl;
	int tos = request->tos;

	out->to.in = (struct sockaddr_in){.sin_family = AF_INET};
	memcpy(&out->to.in.sin_addr, request->destination, sizeof(out->to.in.sin_addr));
	memcpy(&info.ipi_spec_dst, request->source, sizeof(info.ipi_spec_dst));
	if (out->socket != DESC_ECHO)
		add_control(out, IPPROTO_IP, IP_PKTINFO, &info, sizeof(info));
	if (ttl != SOCKETS_DEFAULT_TTL)
		add_control(out, IPPROTO_IP, IP_TTL, &ttl, sizeof(ttl));
	if (tos != 0)
		add_control(out, IPPROTO_IP, IP_TOS, &tos, sizeof(tos));
}

static void address_ipv6(struct outgoing *out)
{
	const struct record_probe *request = out->request;
	struct in6_pktinfo info = {.ipi6_ifindex = request->ifindex};
	int hop_limit = request->ttl;
	int traffic_class = request->tos;

	out->to.in6 = (struct sockaddr_in6){.sin6_family = AF_INET6};
	memcpy(&out->to.in6.sin6_addr, request->destination, sizeof(out->to.in6.sin6_addr));
	if (IN6_IS_ADDR_LINKLOCAL(&out->to.in6.sin6_addr))
		out->to.in6.sin6_scope_id = request->ifindex;
	memcpy(&info.ipi6_addr, request->source, sizeof(info.ipi6_addr));
	add_control(out, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof(info));
	if (hop_limit != SOCKETS_DEFAULT_TTL)
		add_control(out, IPPROTO_IPV6, IPV6_HOPLIMIT, &hop_limit, sizeof(hop_limit));
	if (traffic_class != 0)
		add_control(out, IPPROTO_IPV6, IPV6_TCLASS, &traffic_class, sizeof(traffic_class));
	if ((request->flags & PROBE_FLOW) != 0) {
		uint32_t label_be = flow_label_be(request->flow);
		add_control(out, IPPROTO_IPV6, IPV6_FLOWINFO, &label_be, sizeof(label_be));
	}
}

static uint32_t source_be(const struct record_probe *request)
{
	uint32_t address_be;

	memcpy(&address_be, request->source, sizeof(address_be));
	return address_be;
}

static bool is_plain_echo(const struct record_probe *request)
{
	return request->family == 4 && request->protocol == IPPROTO_ICMP &&
	       (request->flags & PROBE_DONT_FRAGMENT) == 0 && request->ifindex == 0;
}

/* The address of which echo requests leave by DESC_ECHO; 0: none. A source address as a control
 * message with each costs the kernel 4 % of all that it does for a probe. */
static uint32_t echo_source_be(const struct record_probe *requests, size_t count)
{
	if (count < WORTH_BINDING || !is_plain_echo(requests) ||
	    !admission_is_unicast(4, requests->source) || !sockets_echo_from(source_be(requests)))
		return 0;
	return source_be(requests);
}

/* Writes the packet into the arena, its addresses and choices next to it. False if it cannot leave
 * now; an event says so then. */
static bool prepare(struct outgoing *out, const struct record_probe *request, uint32_t echo_be,
		    int64_t now_ns)
{
	struct packet packet;

	out->request = request;
	out->probe = probe_slot(request->cookie);
	out->socket = sockets_raw(request->family, request->protocol,
				  (request->flags & PROBE_DONT_FRAGMENT) != 0);
	if (echo_be != 0 && is_plain_echo(request) && source_be(request) == echo_be)
		out->socket = DESC_ECHO;
	if (request->source_port != 0) {
		int error = local_port_hold(request->source_port);
		if (error != 0) {
			refuse(request, error);
			return false;
		}
	}
	if (!build_probe(request, now_ns, out->probe, &packet)) {
		refuse(request, EAGAIN);
		return false;
	}
	if (arena_bytes + sizeof(packet.header) + packet.payload_bytes > sizeof(arena)) {
		refuse(request, EAGAIN);
		return false;
	}
	out->piece.iov_base = arena + arena_bytes;
	out->piece.iov_len = packet.header_bytes + packet.payload_bytes;
	/* As many as there may be: the payload overwrites those that are no header. */
	memcpy(arena + arena_bytes, packet.header, sizeof(packet.header));
	memset(arena + arena_bytes + packet.header_bytes, request->payload_byte,
	       packet.payload_bytes);
	arena_bytes += out->piece.iov_len;

	out->control_bytes = 0;
	out->control_end = 0;
	if (request->family == 4)
		address_ipv4(out);
	else
		address_ipv6(out);
	if ((request->flags & PROBE_MARK) != 0)
		add_control(out, SOL_SOCKET, SO_MARK, &request->mark, sizeof(request->mark));

	out->probe->cookie = request->cookie;
	probe_open(out->probe);
	return true;
}

static void fill_header(struct msghdr *header, struct outgoing *out)
{
	*header = (struct msghdr){
		.msg_name = &out->to,
		.msg_namelen = out->request->family == 4 ? sizeof(out->to.in) : sizeof(out->to.in6),
		.msg_iov = &out->piece,
		.msg_iovlen = 1,
		.msg_control = out->control,
		/* Without padding at the end: up to a source address alone the kernel has room for
		 * it, for more it must allocate. */
		.msg_controllen = (socklen_t)out->control_end,
	};
}

/* Whether the kernel takes about as long over one as over the other. */
static bool is_alike(const struct record_probe *a, const struct record_probe *b)
{
	return a->ttl == b->ttl && a->size_bytes == b->size_bytes &&
	       memcmp(a->destination, b->destination, sizeof(a->destination)) == 0;
}

/* Every how many-th packet of a batch is stamped, if they are alike. */
static unsigned int stamp_distance(unsigned int count)
{
	if (count <= FEW)
		return 1;
	return count <= SOME ? 2 : 8;
}

/* Which of a batch the kernel is to stamp: of those alike the first and the last, too. */
static void choose_stamped(struct outgoing *const *batch, unsigned int count,
			   struct departure *departures)
{
	unsigned int distance = stamp_distance(count);
	unsigned int since = 0;

	for (unsigned int i = 0; i < count; i++, since++) {
		bool is_first = i == 0 || !is_alike(batch[i - 1]->request, batch[i]->request);
		bool is_last =
			i == count - 1 || !is_alike(batch[i]->request, batch[i + 1]->request);
		if (is_first)
			since = 0;
		departures[i] = (struct departure){
			.probe = batch[i]->probe,
			.is_stamped = is_last || since % distance == 0,
		};
		if (departures[i].is_stamped)
			add_control(batch[i], SOL_SOCKET, SO_TIMESTAMPING, &departure_flags,
				    sizeof(departure_flags));
	}
}

/* How many from the first on may leave in one call. */
static unsigned int call_length(struct outgoing *const *batch, unsigned int count)
{
	unsigned int length = 1;

	if (departure_is_stamped())
		return count;
	if (count > PACKETS_A_READING)
		count = PACKETS_A_READING;
	while (length < count && is_alike(batch[0]->request, batch[length]->request))
		length++;
	return length;
}

/* Sends `count` prepared probes on their common socket. */
static void send_batch(int socket, struct outgoing *const *batch, unsigned int count)
{
	static LARGE_TABLE struct mmsghdr messages[RECORD_BATCH];
	struct departure departures[RECORD_BATCH];
	unsigned int done = 0;

	choose_stamped(batch, count, departures);
	for (unsigned int i = 0; i < count; i++)
		fill_header(&messages[i].msg_hdr, batch[i]);
	while (done < count) {
		int64_t before_ns = clock_now_ns();
		int sent = message_send_many(socket, messages + done,
					     call_length(batch + done, count - done),
					     MSG_DONTWAIT | MSG_NOSIGNAL);
		if (sent > 0) {
			departure_note(socket, departures + done, (unsigned int)sent, before_ns);
			done += (unsigned int)sent;
		} else {
			int error = errno;
			probe_close(batch[done]->probe);
			refuse(batch[done]->request, error);
			done++;
		}
	}
}

static void send_marked(int socket, struct outgoing *const *batch, unsigned int count)
{
	bool has_mark = false;

	for (unsigned int i = 0; i < count; i++)
		has_mark |= (batch[i]->request->flags & PROBE_MARK) != 0;
	/* If the capability is not to be had, the kernel says EPERM for the marked ones. */
	bool raised = has_mark && privilege_mark_begin();
	send_batch(socket, batch, count);
	if (raised && !privilege_mark_end())
		channel_violation("marks, and the capability for them cannot be lowered again");
}

void transmit_probes(const struct record_probe *requests, size_t count)
{
	struct outgoing *batch[RECORD_BATCH];
	int64_t now_ns = clock_now_ns();
	uint32_t echo_be = echo_source_be(requests, count);
	size_t prepared = 0;

	arena_bytes = 0;
	for (size_t i = 0; i < count; i++)
		if (prepare(&outgoing[prepared], &requests[i], echo_be, now_ns))
			prepared++;
	/* Mostly all are for one socket; otherwise one round for each. */
	for (size_t i = 0; i < prepared; i++) {
		int socket = outgoing[i].socket;
		unsigned int same = 0;
		if (socket < 0)
			continue;
		for (size_t k = i; k < prepared; k++) {
			if (outgoing[k].socket != socket)
				continue;
			batch[same++] = &outgoing[k];
			outgoing[k].socket = -1;
		}
		send_marked(socket, batch, same);
	}
}
