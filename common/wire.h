/*
 * The headers that probes and answers carry. Pure functions on hostile bytes, used by both sides.
 * One description serves IPv4 and IPv6.
 */
#ifndef POSTERN_COMMON_WIRE_H
#define POSTERN_COMMON_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	WIRE_ICMP_HEADER_BYTES = 8,
	WIRE_SCTP_HEADER_BYTES = 12,
	WIRE_SCTP_INIT_BYTES = 20, /* the chunk without parameters */
	/* Chunk types, RFC 9260 3.2 */
	WIRE_SCTP_INIT = 1,
	WIRE_SCTP_INIT_ACK = 2,
	WIRE_SCTP_ABORT = 6,
};

/* What is different between the two families, as data. */
struct wire_family {
	uint8_t family; /* 4 or 6 */
	size_t address_bytes;
	size_t header_bytes; /* IP header without options or extension headers */
	/* Offsets in the IP header. The destination follows the source. */
	uint8_t ttl_at, protocol_at, length_at, source_at;
	uint8_t icmp_protocol, echo_request, echo_reply;
	uint8_t unreachable, time_exceeded, parameter_problem;
	uint8_t packet_too_big;   /* a type of its own in ICMPv6; in ICMPv4 `unreachable` ... */
	int packet_too_big_code;  /* ... with this code; −1: any code */
	uint8_t extension_length; /* offset of RFC 4884's length byte in the ICMP header */
	uint8_t extension_unit;   /* and the bytes that it counts in */
};

/* The description for family 4 or 6; NULL for any other number. */
const struct wire_family *wire_family(uint8_t family);

/* An IP packet, whole or quoted. */
struct wire_ip {
	const struct wire_family *family;
	uint8_t protocol; /* of the transport header */
	uint8_t ttl, tos;
	const uint8_t *source, *destination;
	const uint8_t *transport; /* what follows the IP headers ... */
	size_t transport_bytes;   /* ... as far as it is there; never beyond the IP length field */
	bool cut;                 /* the IP length field says that there was more */
};

/* Reads the IP headers of a packet of `length` bytes, which may be cut off anywhere. Steps over an
 * IPv6 fragment header, the only extension header that probes have. False if a header is incomplete
 * or inconsistent, or the packet is a later fragment, which has no transport header. */
bool wire_ip_read(const uint8_t *packet, size_t length, struct wire_ip *ip);

/* Big-endian fields at any alignment. */
static inline uint16_t wire_get16(const uint8_t *at)
{
	return (uint16_t)(at[0] << 8 | at[1]);
}

static inline uint32_t wire_get32(const uint8_t *at)
{
	return (uint32_t)wire_get16(at) << 16 | wire_get16(at + 2);
}

static inline void wire_put16(uint8_t *at, uint16_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static inline void wire_put32(uint8_t *at, uint32_t value)
{
	wire_put16(at, (uint16_t)(value >> 16));
	wire_put16(at + 2, (uint16_t)value);
}

static inline bool wire_is_link_local(uint8_t family, const uint8_t *address)
{
	return family == 6 && address[0] == 0xfe && (address[1] & 0xc0) == 0x80;
}

#endif
