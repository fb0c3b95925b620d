/*
 * Builds the packet of a probe: ICMP or ICMPv6 echo request, UDP datagram, TCP SYN, SCTP INIT. Runs
 * in the broker. The kernel writes the IP header, chooses nothing that is in it but the IPv4
 * identification, and computes the ICMPv6 checksum, which covers addresses.
 */
#include "broker/build.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>

#include "common/checksum.h"
#include "common/wire.h"

enum {
	ICMP_HEADER_BYTES = 8,
	UDP_HEADER_BYTES = 8,
	TCP_HEADER_BYTES = 20,
	SCTP_HEADER_BYTES = 12,
	SCTP_INIT_BYTES = 20,
	SCTP_INIT = 1,
	SCTP_PADDING = 0x8005, /* parameter, RFC 4820 4 */
	PARAMETER_HEAD_BYTES = 4,
	TCP_SYN = 0x02,
	TUNED_BYTES = 2,
};

/* The options of an ordinary SYN, in pieces that stand alone: maximum segment size 1460; SACK
 * permitted; window scale 7; timestamps. A probe carries as many as its size has room for, since
 * that looks to a firewall like what it lets through, and data in a SYN does not. */
static const uint8_t syn_options[] = {
	2, 4, 0x05, 0xb4,                         /* RFC 9293 3.7.1 */
	1, 1, 4,    2,                            /* RFC 2018 2 */
	1, 3, 3,    7,                            /* RFC 7323 2.2 */
	1, 1, 8,    10,   0, 0, 0, 1, 0, 0, 0, 0, /* RFC 7323 3.2 */
};
static const size_t syn_option_ends[] = {24, 12, 8, 4};

/* Bytes that the requested size leaves behind the headers of IP and transport. */
static uint32_t room(const struct record_probe *request, size_t transport_bytes)
{
	size_t headers = wire_family(request->family)->header_bytes + transport_bytes;

	return request->size_bytes > headers ? (uint32_t)(request->size_bytes - headers) : 0;
}

static size_t address_bytes(const struct record_probe *request)
{
	return wire_family(request->family)->address_bytes;
}

/* The 16-bit word that, added to `sum`, makes it `wanted` (one's complement, RFC 1071). */
static uint16_t tune(uint64_t sum, uint16_t wanted)
{
	return checksum_fold((uint64_t)wanted + (uint16_t)~checksum_fold(sum));
}

/* RFC 792; RFC 4443 4.1 */
static enum identity_result build_echo(const struct record_probe *request, int64_t now_ns,
				       struct probe *probe, struct packet *packet)
{
	const struct wire_family *wire = wire_family(request->family);
	uint32_t payload_bytes = room(request, ICMP_HEADER_BYTES);
	enum identity_result result = identity_take(request, now_ns, probe);
	if (result == IDENTITY_TUNED && payload_bytes < TUNED_BYTES)
		payload_bytes = TUNED_BYTES;

	packet->header[0] = wire->echo_request;
	wire_put16(packet->header + 4, probe->identity.source_port);
	wire_put16(packet->header + 6, probe->identity.port);
	packet->header_bytes = ICMP_HEADER_BYTES;
	packet->payload_bytes = payload_bytes - (result == IDENTITY_TUNED ? TUNED_BYTES : 0);
	uint64_t sum = checksum_add(0, packet->header, ICMP_HEADER_BYTES);
	sum = checksum_add_pattern(sum, request->payload_byte, packet->payload_bytes);
	if (result == IDENTITY_TUNED) {
		/* The pseudo header of ICMPv6 is constant for a flow but for the length. */
		if (request->family == 6)
			sum += ICMP_HEADER_BYTES + payload_bytes;
		probe->tuned_word = tune(sum, identity_flow_checksum(request->flow));
		wire_put16(packet->header + ICMP_HEADER_BYTES, probe->tuned_word);
		packet->header_bytes += TUNED_BYTES;
		sum += probe->tuned_word;
	}
	wire_put16(packet->header + 2, (uint16_t)~checksum_fold(sum));
	return result;
}

/* RFC 768 */
static enum identity_result build_udp(const struct record_probe *request, int64_t now_ns,
				      struct probe *probe, struct packet *packet)
{
	uint32_t payload_bytes = room(request, UDP_HEADER_BYTES);
	enum identity_result result = identity_take(request, now_ns, probe);
	if (result == IDENTITY_TUNED && payload_bytes < TUNED_BYTES)
		payload_bytes = TUNED_BYTES;
	struct probe_identity *identity = &probe->identity;
	uint32_t datagram_bytes = UDP_HEADER_BYTES + payload_bytes;

	wire_put16(packet->header, identity->source_port);
	wire_put16(packet->header + 2, identity->port);
	wire_put16(packet->header + 4, (uint16_t)datagram_bytes);
	packet->header_bytes = UDP_HEADER_BYTES;
	uint64_t sum = checksum_add_pseudo(0, identity->source, identity->destination,
					   address_bytes(request), IPPROTO_UDP, datagram_bytes);
	sum = checksum_add(sum, packet->header, UDP_HEADER_BYTES);
	if (result == IDENTITY_TUNED) {
		payload_bytes -= TUNED_BYTES;
		packet->header_bytes += TUNED_BYTES;
		sum = checksum_add_pattern(sum, request->payload_byte, payload_bytes);
		uint16_t tuned = tune(sum, (uint16_t)~identity->token);
		probe->tuned_word = tuned;
		wire_put16(packet->header + UDP_HEADER_BYTES, tuned);
	} else {
		sum = checksum_add_pattern(sum, request->payload_byte, payload_bytes);
		uint16_t checksum = (uint16_t)~checksum_fold(sum);
		identity->token = checksum == 0 ? 0xffff : checksum;
	}
	wire_put16(packet->header + 6, (uint16_t)identity->token);
	packet->payload_bytes = payload_bytes;
	return result;
}

/* RFC 9293 3.1 */
static enum identity_result build_syn(const struct record_probe *request, int64_t now_ns,
				      struct probe *probe, struct packet *packet)
{
	uint32_t payload_bytes = room(request, TCP_HEADER_BYTES);
	enum identity_result result = identity_take(request, now_ns, probe);
	struct probe_identity *identity = &probe->identity;
	size_t option_bytes = 0;

	for (size_t i = 0; i < sizeof(syn_option_ends) / sizeof(syn_option_ends[0]); i++) {
		if (payload_bytes >= syn_option_ends[i]) {
			option_bytes = syn_option_ends[i];
			break;
		}
	}
	memcpy(packet->header + TCP_HEADER_BYTES, syn_options, option_bytes);
	packet->header_bytes = (uint32_t)(TCP_HEADER_BYTES + option_bytes);
	packet->payload_bytes = payload_bytes - (uint32_t)option_bytes;
	probe->payload_bytes = (uint16_t)packet->payload_bytes;

	wire_put16(packet->header, identity->source_port);
	wire_put16(packet->header + 2, identity->port);
	wire_put32(packet->header + 4, identity->token);
	packet->header[12] = (uint8_t)(packet->header_bytes / 4 << 4);
	packet->header[13] = TCP_SYN;
	wire_put16(packet->header + 14, 0xfaf0); /* window 64240, as Linux offers */
	uint64_t sum = checksum_add_pseudo(0, identity->source, identity->destination,
					   address_bytes(request), IPPROTO_TCP,
					   packet->header_bytes + packet->payload_bytes);
	sum = checksum_add(sum, packet->header, packet->header_bytes);
	sum = checksum_add_pattern(sum, request->payload_byte, packet->payload_bytes);
	wire_put16(packet->header + 16, (uint16_t)~checksum_fold(sum));
	return result;
}

static uint32_t crc32c_add_pattern(uint32_t crc, uint8_t byte, uint32_t length)
{
	uint8_t piece[64];

	memset(piece, byte, sizeof(piece));
	for (; length > sizeof(piece); length -= (uint32_t)sizeof(piece))
		crc = crc32c_add(crc, piece, sizeof(piece));
	return crc32c_add(crc, piece, length);
}

/* RFC 9260 3.1 and 3.3.2 */
static enum identity_result build_init(const struct record_probe *request, int64_t now_ns,
				       struct probe *probe, struct packet *packet)
{
	uint32_t padding_bytes = room(request, SCTP_HEADER_BYTES + SCTP_INIT_BYTES);
	enum identity_result result = identity_take(request, now_ns, probe);
	struct probe_identity *identity = &probe->identity;
	uint8_t *chunk = packet->header + SCTP_HEADER_BYTES;
	uint32_t room_limit = (uint32_t)(UINT16_MAX - wire_family(request->family)->header_bytes -
					 SCTP_HEADER_BYTES - SCTP_INIT_BYTES);

	/* Chunks end at multiples of four bytes, so sizes are rounded up to that. */
	if (padding_bytes < PARAMETER_HEAD_BYTES)
		padding_bytes = 0;
	padding_bytes = (padding_bytes + 3) & ~3u;
	if (padding_bytes > room_limit)
		padding_bytes = room_limit & ~3u;
	wire_put16(packet->header, identity->source_port);
	wire_put16(packet->header + 2, identity->port);
	chunk[0] = SCTP_INIT;
	wire_put16(chunk + 2, (uint16_t)(SCTP_INIT_BYTES + padding_bytes));
	wire_put32(chunk + 4, identity->token);
	wire_put32(chunk + 8, 0xffff);           /* receiver window */
	wire_put16(chunk + 12, 1);               /* outbound streams */
	wire_put16(chunk + 14, 1);               /* inbound streams */
	wire_put32(chunk + 16, identity->token); /* initial TSN */
	packet->header_bytes = SCTP_HEADER_BYTES + SCTP_INIT_BYTES;
	packet->payload_bytes = 0;
	if (padding_bytes != 0) {
		wire_put16(chunk + SCTP_INIT_BYTES, SCTP_PADDING);
		wire_put16(chunk + SCTP_INIT_BYTES + 2, (uint16_t)padding_bytes);
		packet->header_bytes += PARAMETER_HEAD_BYTES;
		packet->payload_bytes = padding_bytes - PARAMETER_HEAD_BYTES;
	}
	uint32_t crc = crc32c_add(crc32c_start(), packet->header, packet->header_bytes);
	crc = crc32c_finish(crc32c_add_pattern(crc, request->payload_byte, packet->payload_bytes));
	for (int i = 0; i < 4; i++)
		packet->header[8 + i] = (uint8_t)(crc >> 8 * i);
	return result;
}

bool build_probe(const struct record_probe *request, int64_t now_ns, struct probe *probe,
		 struct packet *packet)
{
	memset(packet->header, 0, sizeof(packet->header));
	probe->payload_bytes = 0;
	enum identity_result result = IDENTITY_NONE;
	switch (request->protocol) {
	case IPPROTO_UDP:
		result = build_udp(request, now_ns, probe, packet);
		break;
	case IPPROTO_TCP:
		result = build_syn(request, now_ns, probe, packet);
		break;
	case IPPROTO_SCTP:
		result = build_init(request, now_ns, probe, packet);
		break;
	case IPPROTO_ICMP:
		result = build_echo(request, now_ns, probe, packet);
		break;
	}
	probe->is_tuned = result == IDENTITY_TUNED;
	return result != IDENTITY_NONE;
}
