/*
 * Sends probes. Runs in the broker.
 */
#ifndef POSTERN_BROKER_SEND_H
#define POSTERN_BROKER_SEND_H

#include <stdint.h>

#include "common/record.h"

/* Sends a valid request; `id` is the held port that it names. The probe is open then, unless the
 * kernel refuses it: a failure is queued. */
void send_probe(const struct record_probe *request, uint16_t id);

#endif
