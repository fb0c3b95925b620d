/*
 * Composes the answers of simnet's internet: ICMP errors with quote and extension, and the direct
 * answers of each protocol. Part of simnet, a test program; reads probes that may be malformed.
 */
#include "tests/lab/simnet_answer.h"

#include "tests/lab/simnet_extension.h"
#include "tests/lab/simnet_tamper.h"

#include <netinet/in.h>
#include <string.h>

enum {
	ERROR_HEADER_BYTES = 8,
	/* RFC 1812 4.3.2.3 and RFC 4443 2.4(c): as large as an error message may get */
	ERROR_MAX_IP4 = 576,
	ERROR_MAX_IP6 = 1280,
	RFC4884_MIN = 128,

	TCP_SYN = 0x02,
	TCP_RST = 0x04,
	TCP_ACK = 0x10,

	SCTP_INIT = 1,
	SCTP_INIT_ACK = 2,
	SCTP_ABORT = 6,
};

/* An answer in the making. */
struct composition {
	struct packet packet;
	struct packet_header header;
	bool is_error;
	size_t extension_offset; /* in the transport part; 0: none */
};

struct icmp_kind {
	uint8_t type4;
	uint8_t code4;
	uint8_t type6;
	uint8_t code6;
	bool extensible; /* RFC 4884 4: in either family */
};

static const struct icmp_kind *icmp_kind(enum net_answer what)
{
	static const struct icmp_kind kinds[] = {
		[ANSWER_TIME_EXCEEDED] = {11, 0, 3, 0, true},
		[ANSWER_TOO_BIG] = {3, 4, 2, 0, false},
		[ANSWER_NET_UNREACHABLE] = {3, 0, 1, 0, true},
		[ANSWER_HOST_UNREACHABLE] = {3, 1, 1, 3, true},
		[ANSWER_PROTOCOL_UNREACHABLE] = {3, 2, 4, 1, false},
		[ANSWER_PORT_UNREACHABLE] = {3, 3, 1, 4, true},
		[ANSWER_PROHIBITED] = {3, 13, 1, 1, true},
	};

	if (what >= ANSWER_TIME_EXCEEDED && what < ANSWER_ECHO)
		return &kinds[what];
	return NULL;
}

/* RFC 1122 3.2.2, RFC 4443 2.4(e): no error about an error, or about an answer's answer. */
static bool may_be_complained_about(const struct packet_view *view)
{
	if (view->transport_bytes < 1)
		return true;
	if (view->protocol == IPPROTO_ICMP)
		return view->transport[0] == 8;
	if (view->protocol == IPPROTO_ICMPV6)
		return view->transport[0] == 128;
	return true;
}

/* How many bytes of the probe are quoted when `room` are left for it. */
static size_t quote_bytes(const struct packet_view *view, const struct net_behaviour *behaviour,
			  size_t room, bool extended)
{
	size_t header_bytes = view->family == 4 ? (size_t)(view->bytes[0] & 15) * 4 : 40;
	size_t unit = view->family == 4 ? 4 : 8;
	size_t bytes = view->total_bytes;

	if (behaviour->quote_bytes >= 0 && bytes > header_bytes + (size_t)behaviour->quote_bytes)
		bytes = header_bytes + (size_t)behaviour->quote_bytes;
	if (bytes > room)
		bytes = room;
	if (!extended)
		return bytes;
	if (!behaviour->rfc4884_length)
		return bytes < RFC4884_MIN ? bytes : RFC4884_MIN;
	/* the length field counts in units, and is one byte wide */
	if (bytes > 255 * unit)
		bytes = 255 * unit;
	return bytes < RFC4884_MIN || bytes % unit == 0 || bytes + unit <= room
		       ? bytes
		       : bytes / unit * unit;
}

/* The probe as it was where it ended. */
static void put_quote(uint8_t *at, const struct packet_view *view, const struct path_end *end,
		      size_t bytes)
{
	memcpy(at, view->bytes, bytes);
	if (view->family == 4) {
		at[1] = end->tos;
		at[8] = end->ttl;
		packet_ip4_checksum(at);
	} else {
		put16(at, (uint32_t)(6 << 12 | end->tos << 4 | (view->bytes[1] & 15)));
		at[7] = end->ttl;
	}
}

/* Puts the extension behind the quote, which is padded as RFC 4884 wants it. */
static void append_extension(struct composition *answer, const struct packet_view *view,
			     const struct net_behaviour *behaviour, size_t quoted,
			     const uint8_t *extension, size_t extension_bytes)
{
	uint8_t *at = packet_transport(&answer->packet);
	size_t unit = view->family == 4 ? 4 : 8;
	size_t padded = (quoted + unit - 1) / unit * unit;

	if (padded < RFC4884_MIN)
		padded = RFC4884_MIN;
	memset(at + ERROR_HEADER_BYTES + quoted, 0, padded - quoted);
	memcpy(at + ERROR_HEADER_BYTES + padded, extension, extension_bytes);
	if (behaviour->rfc4884_length)
		at[view->family == 4 ? 5 : 4] = (uint8_t)(padded / unit);
	answer->extension_offset = ERROR_HEADER_BYTES + padded;
	answer->packet.transport_bytes = answer->extension_offset + extension_bytes;
}

static void compose_error(struct composition *answer, const struct packet_view *view,
			  const struct path_end *end, enum net_answer what, size_t link_mtu_bytes)
{
	const struct icmp_kind *kind = icmp_kind(what);
	const struct net_behaviour *behaviour = end->behaviour;
	uint8_t extension[EXTENSION_BYTES];
	size_t extension_bytes = kind->extensible ? extension_write(behaviour, extension) : 0;
	size_t largest = view->family == 4 ? ERROR_MAX_IP4 : ERROR_MAX_IP6;
	size_t room;
	size_t quoted;
	uint8_t *at = packet_transport(&answer->packet);

	if (behaviour->quote_all || largest > link_mtu_bytes)
		largest = link_mtu_bytes;
	room = largest - packet_header_bytes(&answer->header) - ERROR_HEADER_BYTES;
	/* A structure that fills the message leaves the quote its least. */
	room = room > extension_bytes + RFC4884_MIN ? room - extension_bytes : RFC4884_MIN;
	quoted = quote_bytes(view, behaviour, room, extension_bytes != 0);

	answer->is_error = true;
	answer->header.protocol = view->family == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6;
	memset(at, 0, ERROR_HEADER_BYTES);
	at[0] = view->family == 4 ? kind->type4 : kind->type6;
	at[1] = view->family == 4 ? kind->code4 : kind->code6;
	if (what == ANSWER_TOO_BIG)
		put32(at + 4, end->mtu_bytes);
	else if (view->family == 6 && what == ANSWER_PROTOCOL_UNREACHABLE)
		put32(at + 4, 6); /* parameter problem: the next header field is the fault */
	put_quote(at + ERROR_HEADER_BYTES, view, end, quoted);
	answer->packet.transport_bytes = ERROR_HEADER_BYTES + quoted;
	if (extension_bytes)
		append_extension(answer, view, behaviour, quoted, extension, extension_bytes);
}

static bool compose_echo(struct composition *answer, const struct packet_view *view)
{
	uint8_t *at = packet_transport(&answer->packet);

	if (view->transport_bytes < 8 || !may_be_complained_about(view))
		return false;
	memcpy(at, view->transport, view->transport_bytes);
	at[0] = view->family == 4 ? 0 : 129;
	/* the largest packet has no room for options as well */
	if (view->transport_bytes > 65535 - 60) {
		answer->header.ip_option_bytes = 0;
		answer->header.hop_by_hop = answer->header.destination_options = false;
	}
	answer->packet.transport_bytes = view->transport_bytes;
	return true;
}

static void swap_ports(uint8_t *at, const struct packet_view *view)
{
	put16(at, get16(view->transport + 2));
	put16(at + 2, get16(view->transport));
}

static bool compose_data(struct composition *answer, const struct packet_view *view,
			 uint32_t data_bytes)
{
	uint8_t *at = packet_transport(&answer->packet);

	if (view->transport_bytes < 8)
		return false;
	swap_ports(at, view);
	put16(at + 4, 8 + data_bytes);
	put16(at + 6, 0);
	memset(at + 8, 'd', data_bytes);
	answer->packet.transport_bytes = 8 + data_bytes;
	return true;
}

static bool compose_tcp(struct composition *answer, const struct packet_view *view, bool accept)
{
	static const uint8_t maximum_segment[4] = {2, 4, 1460 >> 8, 1460 & 255};
	const uint8_t *probe = view->transport;
	uint8_t *at = packet_transport(&answer->packet);
	size_t data_bytes;
	uint32_t sequence;

	if (view->transport_bytes < 20 || (probe[13] & (TCP_SYN | TCP_ACK | TCP_RST)) != TCP_SYN)
		return false;
	sequence = get32(probe + 4);
	data_bytes = view->transport_bytes - (size_t)(probe[12] >> 4) * 4;
	memset(at, 0, 24);
	swap_ports(at, view);
	/* a host takes no data with a SYN, but a reset acknowledges all of the segment */
	put32(at + 8, sequence + 1 + (accept ? 0 : (uint32_t)data_bytes));
	if (accept) {
		put32(at + 4, sequence * 2654435761u + 1);
		put16(at + 14, 65535);
		memcpy(at + 20, maximum_segment, sizeof(maximum_segment));
	}
	at[13] = TCP_ACK | (accept ? TCP_SYN : TCP_RST);
	answer->packet.transport_bytes = accept ? 24 : 20;
	at[12] = (uint8_t)(answer->packet.transport_bytes / 4 << 4);
	return true;
}

static bool compose_sctp(struct composition *answer, const struct packet_view *view, bool accept)
{
	enum { COMMON = 12, INIT_BYTES = 20, COOKIE_BYTES = 20 };
	const uint8_t *probe = view->transport;
	uint8_t *at = packet_transport(&answer->packet);
	uint8_t *chunk = at + COMMON;
	uint32_t tag;

	/* RFC 9260 8.5.1: the verification tag of an INIT is zero, its initiate tag is not */
	if (view->transport_bytes < COMMON + INIT_BYTES || get32(probe + 4) != 0 ||
	    probe[COMMON] != SCTP_INIT || get16(probe + COMMON + 2) < INIT_BYTES)
		return false;
	tag = get32(probe + COMMON + 4);
	if (tag == 0)
		return false;
	memset(at, 0, COMMON + INIT_BYTES + COOKIE_BYTES);
	swap_ports(at, view);
	put32(at + 4, tag);
	if (!accept) {
		chunk[0] = SCTP_ABORT;
		put16(chunk + 2, 4);
		answer->packet.transport_bytes = COMMON + 4;
		return true;
	}
	chunk[0] = SCTP_INIT_ACK;
	put16(chunk + 2, INIT_BYTES + COOKIE_BYTES);
	put32(chunk + 4, tag * 2654435761u | 1);
	put32(chunk + 8, 65536);
	put16(chunk + 12, 10);
	put16(chunk + 14, 10);
	put32(chunk + 16, tag + 1);
	put16(chunk + INIT_BYTES, 7); /* state cookie */
	put16(chunk + INIT_BYTES + 2, COOKIE_BYTES);
	answer->packet.transport_bytes = COMMON + INIT_BYTES + COOKIE_BYTES;
	return true;
}

static bool compose(struct composition *answer, const struct packet_view *view,
		    const struct path_end *end, enum net_answer what, uint32_t data_bytes,
		    size_t link_mtu_bytes)
{
	answer->header.protocol = view->protocol;
	switch (what) {
	case ANSWER_SILENCE:
		return false;
	case ANSWER_ECHO:
		return compose_echo(answer, view);
	case ANSWER_UDP_DATA:
		return compose_data(answer, view, data_bytes);
	case ANSWER_SYN_ACK:
	case ANSWER_RST:
		return compose_tcp(answer, view, what == ANSWER_SYN_ACK);
	case ANSWER_INIT_ACK:
	case ANSWER_ABORT:
		return compose_sctp(answer, view, what == ANSWER_INIT_ACK);
	default:
		if (!may_be_complained_about(view))
			return false;
		compose_error(answer, view, end, what, link_mtu_bytes);
		return true;
	}
}

/* Hops on the way back take one from the TTL each. */
static uint8_t arrival_ttl(const struct path_end *end)
{
	size_t back =
		end->behaviour->back_hops >= 0 ? (size_t)end->behaviour->back_hops : end->hops;

	return (uint8_t)(back < end->behaviour->ttl ? end->behaviour->ttl - back : 1);
}

static void make_header(struct packet_header *header, const struct packet_view *view,
			const struct path_end *end)
{
	static uint16_t next_id;
	const struct net_behaviour *behaviour = end->behaviour;

	*header = (struct packet_header){
		.source = end->speaker,
		.destination = view->source,
		.ttl = arrival_ttl(end),
		.ip_option_bytes = behaviour->ip_option_bytes,
		.hop_by_hop = behaviour->hop_by_hop,
		.destination_options = behaviour->destination_options,
		.id = ++next_id,
	};
}

static void emit_tampered(struct composition *answer, const struct packet_view *view,
			  const struct path_end *end, const struct answer_way *way)
{
	const struct net_tamper *tamper = &end->behaviour->tamper;
	size_t length;

	tamper_fields(tamper, view, answer->is_error, answer->extension_offset, &answer->packet,
		      &answer->header);
	packet_finish(&answer->packet, &answer->header);
	length = tamper_finished(tamper, &answer->header, &answer->packet);
	for (uint32_t copy = 0; copy <= tamper->duplicates; copy++)
		way->emit(way->context, packet_start(&answer->packet), length,
			  end->delay_ns + tamper->late_ns);
}

bool answer_make(const struct packet_view *view, const struct path_end *end, enum net_answer what,
		 uint32_t data_bytes, const struct answer_way *way)
{
	static struct composition answer; /* large; there is one thread */
	const struct net_tamper *tamper = &end->behaviour->tamper;
	bool tampered = path_chance(&end->behaviour->random, tamper->share_ppm);

	for (int turn = 0; turn < 2; turn++) {
		bool genuine = turn == 1;

		if (genuine ? tampered && !tamper->then_genuine : !tampered)
			continue;
		make_header(&answer.header, view, end);
		answer.is_error = false;
		answer.extension_offset = 0;
		if (!compose(&answer, view, end, what, data_bytes, way->link_mtu_bytes))
			return false;
		if (!genuine) {
			emit_tampered(&answer, view, end, way);
			continue;
		}
		packet_finish(&answer.packet, &answer.header);
		way->emit(way->context, packet_start(&answer.packet), packet_length(&answer.packet),
			  end->delay_ns + (tampered ? tamper->genuine_ns : 0));
	}
	return true;
}
