/*
 * Builds the packet of a probe. Runs in the broker. The request has been validated. The packet is
 * always an echo request or an SCTP INIT.
 */
#ifndef POSTERN_BROKER_BUILD_H
#define POSTERN_BROKER_BUILD_H

#include <stddef.h>
#include <stdint.h>

#include "common/record.h"

/* Writes what follows the IP header into `packet`, which has room for UINT16_MAX bytes. `id` is the
 * held port that the request names. Returns the length. */
size_t build_probe(const struct record_probe *request, uint16_t id, uint8_t *packet);

#endif
