/*
 * IP packets as simnet sees and makes them: a view of a received one, and a builder that fills in
 * lengths and checksums. Written apart from common/ on purpose: the tests must not check Postern's
 * arithmetic with Postern's arithmetic.
 */
#ifndef POSTERN_TESTS_LAB_SIMNET_PACKET_H
#define POSTERN_TESTS_LAB_SIMNET_PACKET_H

#include "tests/lab/simnet_net.h"

enum {
	PACKET_HEADROOM = 128,             /* IP header with options or extension headers */
	PACKET_BYTES = 65535 + 40 + 2 * 8, /* the largest IPv6 packet that simnet handles */
};

/* A received IP packet; pointers lead into the frame. */
struct packet_view {
	uint8_t family;
	uint8_t protocol; /* behind extension headers and fragment header */
	uint8_t ttl;
	uint8_t tos;
	bool dont_fragment; /* always true for IPv6 */
	bool fragment;
	bool more_fragments;
	uint32_t fragment_id;
	uint32_t fragment_offset_bytes;
	uint32_t flow_label;
	struct net_address source;
	struct net_address destination;
	const uint8_t *bytes;
	size_t total_bytes;
	const uint8_t *transport;
	size_t transport_bytes;
};

/* Reads an IP packet of at most `length` bytes (padding behind it is cut off). Returns false if
 * version, lengths, extension headers or the IPv4 header checksum are wrong. */
bool packet_read(const uint8_t *bytes, size_t length, struct packet_view *view);

/* True if the checksum of ICMP, ICMPv6, UDP, TCP or SCTP is right; other protocols have none. Not
 * for fragments. */
bool packet_transport_intact(const struct packet_view *view);

/* A packet in the making. The transport part begins at bytes + PACKET_HEADROOM; packet_finish puts
 * the IP header right in front of it. */
struct packet {
	uint8_t bytes[PACKET_HEADROOM + PACKET_BYTES];
	size_t transport_bytes;
	size_t header_bytes; /* of IP, with options and extension headers; by packet_finish */
};

struct packet_header {
	struct net_address source;
	struct net_address destination;
	uint8_t protocol;
	uint8_t ttl;
	uint8_t tos;
	uint8_t ip_option_bytes;
	bool hop_by_hop;
	bool destination_options;
	uint16_t id;
};

static inline uint8_t *packet_transport(struct packet *packet)
{
	return packet->bytes + PACKET_HEADROOM;
}

/* The whole packet, once finished. */
static inline uint8_t *packet_start(struct packet *packet)
{
	return packet->bytes + PACKET_HEADROOM - packet->header_bytes;
}

static inline size_t packet_length(const struct packet *packet)
{
	return packet->header_bytes + packet->transport_bytes;
}

/* Bytes of IP header that packet_finish will make. */
size_t packet_header_bytes(const struct packet_header *header);

/* Writes the transport checksum and the IP header. */
void packet_finish(struct packet *packet, const struct packet_header *header);

/* Where a protocol keeps its checksum in its header; -1 if it has none. */
int packet_checksum_offset(uint8_t protocol);

/* Calculates the IPv4 header checksum anew. */
void packet_ip4_checksum(uint8_t *header);

/* RFC 1071; `sum` carries a part computed before. */
uint32_t packet_sum(uint32_t sum, const void *bytes, size_t length);
uint16_t packet_sum_fold(uint32_t sum); /* as a big-endian number to be written with put16 */

static inline uint16_t get16(const uint8_t *bytes)
{
	return (uint16_t)(bytes[0] << 8 | bytes[1]);
}

static inline uint32_t get32(const uint8_t *bytes)
{
	return (uint32_t)get16(bytes) << 16 | get16(bytes + 2);
}

static inline void put16(uint8_t *bytes, uint32_t value)
{
	bytes[0] = (uint8_t)(value >> 8);
	bytes[1] = (uint8_t)value;
}

static inline void put32(uint8_t *bytes, uint32_t value)
{
	put16(bytes, value >> 16);
	put16(bytes + 2, value & 0xffff);
}

#endif
