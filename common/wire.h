/*
 * Small views of the headers that probes and answers carry. Pure functions on hostile bytes, used
 * by both sides; nothing here allocates or keeps state. One description serves IPv4 and IPv6.
 */
#ifndef POSTERN_COMMON_WIRE_H
#define POSTERN_COMMON_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* What the two families do differently, as data. */
struct wire_family {
	uint8_t family; /* 4 or 6 */
	int domain;     /* AF_INET or AF_INET6 */
	size_t address_bytes;
	size_t header_bytes; /* IP header without options or extension headers */
	uint8_t icmp_protocol;
	uint8_t echo_request;
	uint8_t echo_reply;
	uint8_t unreachable;
	uint8_t time_exceeded;
	uint8_t parameter_problem;
	uint8_t packet_too_big;   /* a type of its own in ICMPv6; in ICMPv4 `unreachable` ... */
	int packet_too_big_code;  /* ... with this code; −1: any code */
	uint8_t extension_length; /* offset of RFC 4884's length byte in the ICMP header */
	uint8_t extension_unit;   /* and the bytes that it counts in */
};

/* The description for family 4 or 6; NULL for any other number. */
const struct wire_family *wire_family(uint8_t family);

/* Copies an address into the first bytes of 16. Both sizes are known when this is compiled: no
 * function is called for so few bytes, of which every packet has some. */
static inline void wire_copy_address(uint8_t *to, const uint8_t *from,
				     const struct wire_family *wire)
{
	if (wire->family == 4)
		memcpy(to, from, 4);
	else
		memcpy(to, from, 16);
}

/* An IP packet, whole or quoted. */
struct wire_ip {
	const struct wire_family *family;
	uint8_t protocol; /* of the transport header; IPv6 extension headers are stepped over */
	uint8_t ttl;
	uint8_t tos;
	bool later_fragment; /* not the first: it has no transport header */
	const uint8_t *source;
	const uint8_t *destination;
	const uint8_t *transport; /* what follows the IP headers ... */
	size_t transport_bytes;   /* ... as far as it is there; never beyond the IP length field */
};

/* Reads the IP headers of a packet of `length` bytes, which may be cut off anywhere. Returns false
 * if a header is incomplete or inconsistent: version, IPv4 header length (RFC 791 3.1), more
 * extension headers than a probe could have (RFC 8200 4.1). */
bool wire_ip_read(const uint8_t *packet, size_t length, struct wire_ip *ip);

/* Big-endian fields at any alignment. */
static inline uint16_t wire_get16(const uint8_t *at)
{
	return (uint16_t)(at[0] << 8 | at[1]);
}

static inline uint32_t wire_get32(const uint8_t *at)
{
	return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
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
