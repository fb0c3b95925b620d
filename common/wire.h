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
	uint8_t family;                     /* 4 or 6 */
	size_t address_bytes, header_bytes; /* IP header without options or extension headers */
	/* Offsets in the IP header. The destination follows the source. */
	uint8_t ttl_at, protocol_at, length_at, source_at;
	uint8_t icmp_protocol, echo_request, echo_reply;
};

/* The description for family 4 or 6; NULL for any other number. */
const struct wire_family *wire_family(uint8_t family);

/* An IP packet, whole or quoted. */
struct wire_ip {
	const struct wire_family *family;
	uint8_t protocol, ttl; /* protocol of the transport header */
	/* `transport` is what follows the IP headers, as far as it is there; never beyond the IP
	 * length field. */
	const uint8_t *source, *destination, *transport;
	size_t transport_bytes;
	bool cut; /* the IP length field says that there was more */
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

#endif
