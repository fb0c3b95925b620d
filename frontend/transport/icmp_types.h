/*
 * ICMP errors of both families as data. Runs in the front end.
 */
#ifndef POSTERN_FRONTEND_TRANSPORT_ICMP_TYPES_H
#define POSTERN_FRONTEND_TRANSPORT_ICMP_TYPES_H

#include <stdbool.h>
#include <stdint.h>

struct icmp_types {
	uint8_t unreachable, time_exceeded, parameter_problem;
	uint8_t packet_too_big;   /* a type of its own in ICMPv6; in ICMPv4 `unreachable` ... */
	int packet_too_big_code;  /* ... with this code; −1: any code */
	uint8_t extension_length; /* offset of RFC 4884's length byte in the ICMP header */
	uint8_t extension_unit;   /* and the bytes that it counts in */
};

/* `family` is 4 or 6. */
const struct icmp_types *icmp_types(uint8_t family);

/* Is it the error that tells a next-hop MTU (RFC 1191 4, RFC 4443 3.2)? */
bool icmp_is_too_big(uint8_t family, uint8_t type, uint8_t code);

/* May it carry an extension structure (RFC 4884 4)? */
bool icmp_is_extensible(uint8_t family, uint8_t type);

#endif
