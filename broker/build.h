/*
 * Builds the packet of a probe. Runs in the broker; the request was checked before, and nothing
 * but the four kinds of packet below can come out, whatever it says.
 */
#ifndef POSTERN_BROKER_BUILD_H
#define POSTERN_BROKER_BUILD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/identity.h"
#include "broker/probe_table.h"
#include "common/record.h"

enum {
	/* TCP with the options of an ordinary SYN: 20 + 24; SCTP INIT with a padding parameter's
	 * head: 12 + 20 + 4. */
	BUILD_HEADER_BYTES = 44,
	BUILD_PAYLOAD_BYTES = 65535,
};

/* What follows the IP header: `header`, then `payload_bytes` times the request's payload byte. */
struct packet {
	uint8_t header[BUILD_HEADER_BYTES];
	uint32_t header_bytes;
	uint32_t payload_bytes;
};

/* Takes an identity for the request and writes the packet; `probe` gets identity and payload size.
 * False if no identity is free now: the request may be tried again in a few milliseconds. */
bool build_probe(const struct record_probe *request, int64_t now_ns, struct probe *probe,
		 struct packet *packet);

#endif
