/*
 * The open probes, and which of them a packet answers. Runs in the broker, on packets that anyone
 * may have sent.
 */
#ifndef POSTERN_BROKER_MATCH_H
#define POSTERN_BROKER_MATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/record.h"

/* Opens the slot that the request's cookie names, after closing the probe that was open in it.
 * `packet` is what was sent, from the transport header on; `sent_ns` by CLOCK_MONOTONIC. */
void match_open(const struct record_probe *request, const uint8_t *packet, size_t bytes,
		int64_t sent_ns);

/* Closes the slot that a cookie names, if it is open. */
void match_close(uint32_t cookie);

/* Whether a packet answers an open probe. If it does, closes the probe and fills in cookie and
 * sent_ns of the answer. The caller has filled in protocol, responder and local address. `packet`
 * is the answer from the transport header on, as far as it was read. */
bool match_answer(uint8_t family, struct record_answer *answer, const uint8_t *packet,
		  size_t bytes);

#endif
