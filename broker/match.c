/*
 * Recognises answers. Runs in the broker and distrusts every byte: lengths are checked before
 * anything is read, checksums before anything is believed, and addresses, ports, identifiers and
 * sequence numbers must all be those of one open probe. One path serves IPv4 and IPv6.
 */
#include "broker/answer.h"

#include <netinet/in.h>
#include <string.h>

#include "broker/identity.h"
#include "common/checksum.h"
#include "common/wire.h"

enum {
	ICMP_HEADER_BYTES = 8,
	TCP_HEADER_BYTES = 20,
	UDP_HEADER_BYTES = 8,
	SCTP_HEADER_BYTES = 12,
	SCTP_CHUNK_HEAD_BYTES = 4,
	SCTP_INIT = 1,
	SCTP_INIT_ACK = 2,
	SCTP_ABORT = 6,
	SCTP_TAG_REFLECTED = 1, /* the T bit, RFC 9260 3.3.7 */
	TCP_SYN = 0x02,
	TCP_RST = 0x04,
	TCP_ACK = 0x10,
	/* Every ICMP error quotes at least this much of what follows the IP header (RFC 792). */
	QUOTED_TRANSPORT_BYTES = 8,
	/* Where routers older than RFC 4884 put an extension (its section 5.5). */
	OLD_EXTENSION_OFFSET = 128,
	EXTENSION_HEAD_BYTES = 4,
	EXTENSION_VERSION = 2,
};

static uint64_t transport_sum(const struct received *received, bool with_pseudo_header,
			      uint8_t protocol)
{
	uint64_t sum = 0;

	if (with_pseudo_header)
		sum = checksum_add_pseudo(
			0, received->source, received->destination,
			wire_family(received->family)->address_bytes, protocol,
			(uint32_t)(received->transport_bytes + received->tail_bytes));
	sum = checksum_add(sum, received->transport, received->transport_bytes);
	return checksum_add(sum, received->tail, received->tail_bytes);
}

static bool icmp_checksum_holds(const struct received *received)
{
	const struct wire_family *wire = wire_family(received->family);

	return checksum_fold(transport_sum(received, wire->family == 6, wire->icmp_protocol)) ==
	       0xffff;
}

/* TCP and UDP. A packet from this very machine may not have its checksum yet, since no wire has
 * seen it: then the field holds the sum of the pseudo header alone. */
static bool pseudo_checksum_holds(const struct received *received, size_t field_offset)
{
	if (checksum_fold(transport_sum(received, true, received->protocol)) == 0xffff)
		return true;
	uint64_t pseudo = checksum_add_pseudo(
		0, received->source, received->destination,
		wire_family(received->family)->address_bytes, received->protocol,
		(uint32_t)(received->transport_bytes + received->tail_bytes));
	return wire_get16(received->transport + field_offset) == checksum_fold(pseudo);
}

static bool crc32c_holds(const struct received *received)
{
	static const uint8_t zero[4];
	const uint8_t *at = received->transport;
	uint32_t told =
		(uint32_t)at[11] << 24 | (uint32_t)at[10] << 16 | (uint32_t)at[9] << 8 | at[8];

	if (told == 0) /* RFC 9653, and packets of this machine as above */
		return true;
	uint32_t crc = crc32c_add(crc32c_start(), at, 8);
	crc = crc32c_add(crc, zero, sizeof(zero));
	crc = crc32c_add(crc, at + SCTP_HEADER_BYTES,
			 received->transport_bytes - SCTP_HEADER_BYTES);
	crc = crc32c_add(crc, received->tail, received->tail_bytes);
	return crc32c_finish(crc) == told;
}

/* The identity of a probe whose addressee sent this packet: the packet's, turned round. */
static void turn_round(const struct received *received, struct probe_identity *identity)
{
	const struct wire_family *wire = wire_family(received->family);

	memset(identity, 0, sizeof(*identity));
	identity->family = received->family;
	identity->protocol = received->protocol;
	wire_copy_address(identity->destination, received->source, wire);
	wire_copy_address(identity->source, received->destination, wire);
	identity->source_port = wire_get16(received->transport + 2);
	identity->port = wire_get16(received->transport);
}

static struct probe *find_echo_reply(const struct received *received)
{
	struct probe_identity identity;

	turn_round(received, &identity);
	identity.source_port = wire_get16(received->transport + 4);
	identity.port = wire_get16(received->transport + 6);
	return probe_find(&identity);
}

static struct probe *find_by_datagram(const struct received *received)
{
	struct probe_identity identity;

	if (received->transport_bytes < UDP_HEADER_BYTES)
		return NULL;
	/* Only IPv4 has datagrams without a checksum (RFC 768; RFC 8200 8.1). */
	bool has_checksum = received->family == 6 || wire_get16(received->transport + 6) != 0;
	if (has_checksum && !pseudo_checksum_holds(received, 6))
		return NULL;
	turn_round(received, &identity);
	return probe_find_ports(&identity, NULL);
}

/* A SYN/ACK or RST acknowledges the SYN, and may acknowledge the data in it (RFC 9293 3.10.7). */
static struct probe *find_by_segment(const struct received *received)
{
	struct probe_identity identity;

	if (received->transport_bytes < TCP_HEADER_BYTES)
		return NULL;
	uint8_t flags = received->transport[13];
	if ((flags & TCP_ACK) == 0 || (flags & (TCP_SYN | TCP_RST)) == 0 ||
	    !pseudo_checksum_holds(received, 16))
		return NULL;
	turn_round(received, &identity);
	uint32_t acknowledged = wire_get32(received->transport + 8) - 1;
	struct probe *probe = NULL;
	while ((probe = probe_find_ports(&identity, probe)) != NULL) {
		uint32_t data_bytes = acknowledged - probe->identity.token;
		if (data_bytes == 0 || data_bytes == probe->payload_bytes)
			return probe;
	}
	return NULL;
}

/* The only open probe with these ports, if there is only one. */
static struct probe *find_only(const struct probe_identity *identity)
{
	struct probe *probe = probe_find_ports(identity, NULL);

	if (probe != NULL && probe_find_ports(identity, probe) != NULL)
		return NULL;
	return probe;
}

static struct probe *find_by_chunk(const struct received *received)
{
	struct probe_identity identity;

	if (received->transport_bytes < SCTP_HEADER_BYTES + SCTP_CHUNK_HEAD_BYTES)
		return NULL;
	uint8_t chunk = received->transport[SCTP_HEADER_BYTES];
	uint8_t chunk_flags = received->transport[SCTP_HEADER_BYTES + 1];
	if ((chunk != SCTP_INIT_ACK && chunk != SCTP_ABORT) || !crc32c_holds(received))
		return NULL;
	turn_round(received, &identity);
	identity.token = wire_get32(received->transport + 4);
	/* An ABORT that reflects the INIT's own tag, which is 0, names no probe more exactly. */
	if (chunk == SCTP_ABORT && (chunk_flags & SCTP_TAG_REFLECTED) != 0 && identity.token == 0)
		return find_only(&identity);
	return probe_find(&identity);
}

static struct probe *find_quoted_udp(struct probe_identity *identity, const struct wire_ip *quoted)
{
	identity->token = wire_get16(quoted->transport + 6);
	struct probe *probe = probe_find(identity);
	if (probe != NULL)
		return probe;
	probe = probe_find_ports(identity, NULL);
	return probe != NULL && identity_ports_suffice(probe) ? probe : NULL;
}

static struct probe *find_quoted_init(struct probe_identity *identity, const struct wire_ip *quoted)
{
	if (quoted->transport_bytes < SCTP_HEADER_BYTES + SCTP_CHUNK_HEAD_BYTES + 4)
		return find_only(identity);
	if (quoted->transport[SCTP_HEADER_BYTES] != SCTP_INIT)
		return NULL;
	identity->token = wire_get32(quoted->transport + SCTP_HEADER_BYTES + SCTP_CHUNK_HEAD_BYTES);
	return probe_find(identity);
}

static struct probe *find_quoted(const struct wire_ip *quoted)
{
	struct probe_identity identity;
	const uint8_t *at = quoted->transport;

	if (quoted->later_fragment || quoted->transport_bytes < QUOTED_TRANSPORT_BYTES)
		return NULL;
	memset(&identity, 0, sizeof(identity));
	identity.family = quoted->family->family;
	identity.protocol = quoted->protocol;
	wire_copy_address(identity.destination, quoted->destination, quoted->family);
	wire_copy_address(identity.source, quoted->source, quoted->family);
	identity.source_port = wire_get16(at);
	identity.port = wire_get16(at + 2);
	if (quoted->protocol == quoted->family->icmp_protocol) {
		if (at[0] != quoted->family->echo_request || at[1] != 0)
			return NULL;
		identity.protocol = IPPROTO_ICMP;
		identity.source_port = wire_get16(at + 4);
		identity.port = wire_get16(at + 6);
		return probe_find(&identity);
	}
	switch (quoted->protocol) {
	case IPPROTO_UDP:
		return find_quoted_udp(&identity, quoted);
	case IPPROTO_TCP:
		identity.token = wire_get32(at + 4);
		return probe_find(&identity);
	case IPPROTO_SCTP:
		return find_quoted_init(&identity, quoted);
	default:
		return NULL;
	}
}

/* Where RFC 4884 says that the extension structure is, or 0. *quote_bytes is cut to what is quoted,
 * without padding's end or extension. */
static size_t extension_offset(const struct received *received, const struct wire_family *wire,
			       size_t *quote_bytes, struct record_event *event)
{
	const uint8_t *icmp = received->transport;
	size_t length_bytes = (size_t)icmp[wire->extension_length] * wire->extension_unit;

	if (event->icmp_type != wire->unreachable && event->icmp_type != wire->time_exceeded &&
	    (wire->family == 6 || event->icmp_type != wire->parameter_problem))
		return 0;
	if (length_bytes != 0) {
		if (length_bytes + EXTENSION_HEAD_BYTES > *quote_bytes)
			return 0;
		*quote_bytes = length_bytes;
		event->known |= EVENT_EXTENSION_TOLD;
		return ICMP_HEADER_BYTES + length_bytes;
	}
	return *quote_bytes >= OLD_EXTENSION_OFFSET + EXTENSION_HEAD_BYTES
		       ? ICMP_HEADER_BYTES + OLD_EXTENSION_OFFSET
		       : 0;
}

static void find_extension(const struct received *received, size_t offset,
			   struct record_event *event, const uint8_t **extension)
{
	if (offset == 0 || received->transport[offset] >> 4 != EXTENSION_VERSION)
		return;
	const uint8_t *at = received->transport + offset;
	size_t bytes = received->transport_bytes - offset;
	bool was_told = (event->known & EVENT_EXTENSION_TOLD) != 0;
	/* In the old place there may be just more of the quoted packet: the checksum decides. */
	if (!was_told &&
	    (wire_get16(at + 2) == 0 || checksum_fold(checksum_add(0, at, bytes)) != 0xffff))
		return;
	if (bytes > RECORD_EXTENSION_BYTES || received->tail_bytes != 0)
		event->known |= EVENT_EXTENSION_CUT;
	if (bytes > RECORD_EXTENSION_BYTES)
		bytes = RECORD_EXTENSION_BYTES;
	event->extension_bytes = (uint16_t)bytes;
	*extension = at;
}

static uint32_t next_hop_mtu(const struct received *received, const struct wire_family *wire,
			     const struct record_event *event)
{
	if (event->icmp_type != wire->packet_too_big)
		return 0;
	if (wire->packet_too_big_code < 0)
		return wire_get32(received->transport + 4); /* RFC 4443 3.2 */
	if (event->icmp_code != wire->packet_too_big_code)
		return 0;
	return wire_get16(received->transport + 6); /* RFC 1191 4 */
}

static struct probe *recognise_error(const struct received *received,
				     const struct wire_family *wire, struct record_event *event,
				     const uint8_t **extension)
{
	struct wire_ip quoted;
	size_t quote_bytes = received->transport_bytes - ICMP_HEADER_BYTES;

	event->what = EVENT_ICMP;
	event->icmp_type = received->transport[0];
	event->icmp_code = received->transport[1];
	if (event->icmp_type != wire->unreachable && event->icmp_type != wire->time_exceeded &&
	    event->icmp_type != wire->parameter_problem && event->icmp_type != wire->packet_too_big)
		return NULL;
	size_t offset = extension_offset(received, wire, &quote_bytes, event);
	if (!wire_ip_read(received->transport + ICMP_HEADER_BYTES, quote_bytes, &quoted) ||
	    quoted.family != wire)
		return NULL;
	struct probe *probe = find_quoted(&quoted);
	if (probe == NULL)
		return NULL;
	event->known |= EVENT_QUOTED;
	event->quoted_ttl = quoted.ttl;
	event->quoted_tos = quoted.tos;
	event->mtu_bytes = next_hop_mtu(received, wire, event);
	find_extension(received, offset, event, extension);
	return probe;
}

static struct probe *recognise_icmp(const struct received *received, struct record_event *event,
				    const uint8_t **extension)
{
	const struct wire_family *wire = wire_family(received->family);

	if (received->transport_bytes < ICMP_HEADER_BYTES || !icmp_checksum_holds(received))
		return NULL;
	if (received->transport[0] == wire->echo_reply && received->transport[1] == 0)
		return find_echo_reply(received);
	return recognise_error(received, wire, event, extension);
}

struct probe *answer_recognise(const struct received *received, struct record_event *event,
			       const uint8_t **extension)
{
	struct probe *probe = NULL;

	memset(event, 0, sizeof(*event));
	*extension = NULL;
	event->what = EVENT_REPLY;
	event->known = EVENT_REPLY_TTL;
	event->reply_ttl = received->ttl;
	switch (received->protocol) {
	case IPPROTO_ICMP:
		probe = recognise_icmp(received, event, extension);
		break;
	case IPPROTO_UDP:
		probe = find_by_datagram(received);
		break;
	case IPPROTO_TCP:
		probe = find_by_segment(received);
		break;
	case IPPROTO_SCTP:
		probe = find_by_chunk(received);
		break;
	}
	if (probe == NULL)
		return NULL;
	wire_copy_address(event->responder, received->source, wire_family(received->family));
	if (event->extension_bytes == 0)
		event->known &= (uint8_t)~EVENT_EXTENSION_TOLD;
	return probe;
}
