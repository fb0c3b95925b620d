/*
 * Probes for tests of the broker: requests as a front end writes them, and the packets that the
 * broker makes of them.
 */
#ifndef POSTERN_TESTS_SUPPORT_PROBES_H
#define POSTERN_TESTS_SUPPORT_PROBES_H

#include <stddef.h>
#include <stdint.h>

#include "common/record.h"

enum {
	/* The held ports of the broker under test begin here. */
	PROBES_FIRST_ID = 40000,
	PROBES_SENT_NS = 100000,
};

/* A request from 198.18.0.1 or 2001:db8::1 to ...2, TTL 9, size 64, TOS 0xb8; ICMP with a nonce,
 * SCTP to port 443. */
struct record_probe probes_request(uint8_t family, uint8_t protocol);

/* Builds the request's packet into `packet` of UINT16_MAX bytes and opens the probe, as sent at
 * PROBES_SENT_NS. Returns the packet's length. */
size_t probes_open(const struct record_probe *request, uint8_t *packet);

#endif
