/*
 * Recognises answers. Runs in the broker, on packets that anyone may have sent: one is an answer
 * only if everything in it agrees with an open probe.
 */
#ifndef POSTERN_BROKER_ANSWER_H
#define POSTERN_BROKER_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/probe_table.h"
#include "common/record.h"

/* A packet as a raw socket received it, from its transport header on. Every pointer refers to the
 * caller's buffers. */
struct received {
	uint8_t family;   /* 4 or 6 */
	uint8_t protocol; /* of the socket, as in struct record_probe */
	uint8_t ttl;
	const uint8_t *source; /* addresses of the family's size */
	const uint8_t *destination;
	const uint8_t *transport;
	size_t transport_bytes;
	const uint8_t *tail; /* what did not fit into the first buffer: only checksums look at it */
	size_t tail_bytes;
};

/* Finds the probe that the packet answers and fills in what the event says of the answer: what,
 * icmp_type, icmp_code, responder, mtu_bytes, known, reply_ttl, quoted_ttl, quoted_tos; with
 * *extension and event->extension_bytes set if there is one (pointing into `received`). Returns
 * NULL if it answers none. */
struct probe *answer_recognise(const struct received *received, struct record_event *event,
			       const uint8_t **extension);

#endif
