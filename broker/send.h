/*
 * Sends probes. Runs in the broker, on requests that were admitted.
 */
#ifndef POSTERN_BROKER_TRANSMIT_H
#define POSTERN_BROKER_TRANSMIT_H

#include <stddef.h>

#include "common/record.h"

enum {
	/* What a packet takes up in a socket's buffer beside its bytes. */
	TRANSMIT_OVERHEAD_BYTES = 768,
	/* Bytes of the probes of one call, each with its overhead: their answers, if this very host
	 * gives them, find room in half of the least buffer that a receiving socket has, which is
	 * twice net.core.rmem_max (broker/sockets.c). */
	TRANSMIT_BYTES = 212992,
};

/* Sends up to RECORD_BATCH probes of TRANSMIT_BYTES at most. Each request's slot must be free.
 * Probes that left are open afterwards; for each other one an event is queued on the channel. */
void transmit_probes(const struct record_probe *requests, size_t count);

#endif
