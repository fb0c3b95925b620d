/*
 * The payload of ICMP echo requests, whichever way they leave. Pure functions. Runs in the front
 * end.
 */
#ifndef POSTERN_FRONTEND_TRANSPORT_ECHO_H
#define POSTERN_FRONTEND_TRANSPORT_ECHO_H

#include <stddef.h>
#include <stdint.h>

#include "common/record.h"
#include "frontend/transport/transport.h"

/* Adds `length` bytes that fill a payload to a sum of checksum_add(), from an even offset on. */
uint64_t echo_add_fill(uint64_t sum, uint8_t payload_byte, size_t length);

/* Chooses the end of the nonce so that all probes of the request's flow have the same ICMP
 * checksum. The payload has `payload_bytes`, of which the nonce is the first. */
void echo_keep_checksum(const struct probe_request *request, uint32_t sequence,
			size_t payload_bytes, uint8_t nonce[RECORD_NONCE_BYTES]);

#endif
