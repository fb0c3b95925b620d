/*
 * Sends probes. Runs in the broker, on requests that were admitted.
 */
#ifndef POSTERN_BROKER_TRANSMIT_H
#define POSTERN_BROKER_TRANSMIT_H

#include <stddef.h>

#include "common/record.h"

/* Sends up to RECORD_BATCH probes. Each request's slot must be free. Probes that left are open
 * afterwards; for each other one an event is queued on the channel. */
void transmit_probes(const struct record_probe *requests, size_t count);

#endif
