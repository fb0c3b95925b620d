/*
 * Sends probes. Runs in the broker.
 */
#ifndef POSTERN_BROKER_SEND_H
#define POSTERN_BROKER_SEND_H

#include <stddef.h>
#include <stdint.h>

#include "common/record.h"

/* Sends the first of `count` valid requests, one to four of them. Returns how many: they are open
 * then, or a failure is queued. */
size_t send_group(const struct record_probe *requests, size_t count,
		  const uint16_t held_port[RECORD_PROBE_IDS]);

#endif
