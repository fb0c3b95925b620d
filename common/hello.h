/*
 * The first message of the channel, by which the broker says what works. Both sides compile it;
 * common/record.h has all other messages, and the rules for all.
 */
#ifndef POSTERN_COMMON_HELLO_H
#define POSTERN_COMMON_HELLO_H

#include <stdint.h>

#include "common/record.h"

enum {
	/* Raised whenever the layout or meaning of any record changes; both sides must agree
	   exactly. */
	RECORD_VERSION = 2,
};

/* What works in this broker on this machine. A protocol bit is shifted by its family's offset. */
enum hello_features {
	FEATURE_ICMP = 1u << 0,
	FEATURE_SCTP = 1u << 3, /* between them: UDP and TCP, which are not the broker's */
	FEATURE_IPV6_SHIFT = 8, /* IPv4 bits as above, IPv6 bits shifted left by this */
	FEATURE_MARK = 1u << 16,
};

/* The first message of every broker: it has given up everything it could and is ready. */
struct record_hello {
	uint8_t kind; /* RECORD_HELLO */
	uint8_t reserved[3];
	uint32_t version;  /* RECORD_VERSION */
	uint32_t features; /* enum hello_features */
	uint32_t slots;    /* probes that may be open at once: RECORD_SLOTS */
	uint32_t batch;    /* records in one message at most: RECORD_BATCH */
	uint32_t reserved2;
	uint16_t held_port[RECORD_PROBE_IDS]; /* record_probe's probe_id is an index to it */
};
_Static_assert(sizeof(struct record_hello) == 56, "hello record layout");

#endif
