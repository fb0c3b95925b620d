/*
 * Gives each probe an identity of its own: identifier, source port, sequence number, tag. Runs in
 * the broker; what it gives is never one that is open, nor one so lately closed that a late answer
 * could be taken for the new probe's.
 */
#ifndef POSTERN_BROKER_IDENTITY_H
#define POSTERN_BROKER_IDENTITY_H

#include <stdbool.h>
#include <stdint.h>

#include "broker/descriptors.h"
#include "broker/probe_table.h"
#include "common/record.h"

/* Port numbers that this broker holds, in host byte order. No other process of the network
 * namespace can hold them at the same time, so they tell its brokers' probes apart. */
struct held_ports {
	uint16_t udp[UDP_HOLDERS];
	uint16_t tcp[TCP_HOLDERS];
};

/* `secret` makes TCP sequence numbers and SCTP tags hard to guess for hosts off the path. */
void identity_start(const struct held_ports *held, uint64_t secret);

/* Whether two bytes of the UDP payload are to be chosen so that the checksum becomes
 * `identity.token`; otherwise the payload is the pattern throughout. */
enum identity_result {
	IDENTITY_NONE,    /* none is free now: EVENT_BUSY */
	IDENTITY_PATTERN, /* UDP: token is to be set to the checksum that the packet gets */
	IDENTITY_TUNED,   /* UDP: two payload bytes are to make the checksum `token` */
	IDENTITY_TOKEN,   /* other protocols: `token` as given */
};

/* Fills in *identity for a request that was checked. `payload_bytes` is what the packet has behind
 * its transport header, `now_ns` the monotonic clock. */
enum identity_result identity_take(const struct record_probe *request, uint32_t payload_bytes,
				   int64_t now_ns, struct probe_identity *identity);

#endif
