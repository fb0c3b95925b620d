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

/* Port numbers that this broker holds in TCP, the first HELD_UDP_PORTS in UDP, too; in host byte
 * order. No other process of the network namespace can hold them at the same time, so they tell its
 * brokers' probes apart. */
struct held_ports {
	uint16_t port[HELD_PORTS];
};

/* `secret` makes TCP sequence numbers and SCTP tags hard to guess for hosts off the path. */
void identity_start(const struct held_ports *held, uint64_t secret);

/* How the packet comes to carry its identity's token. */
enum identity_result {
	IDENTITY_NONE,    /* no identity is free now: EVENT_BUSY */
	IDENTITY_GIVEN,   /* `token` is final: TCP sequence number, SCTP tag, 0 for ICMP */
	IDENTITY_PATTERN, /* UDP: the payload is pure, `token` becomes the checksum that results */
	IDENTITY_TUNED, /* two payload bytes are to be chosen (and added where there are none): UDP,
			   so that the checksum becomes `token`; ICMP, so that it becomes
			   identity_flow_checksum() */
};

/* Fills in *probe's identity for a request that was checked; `now_ns` is the monotonic clock. */
enum identity_result identity_take(const struct record_probe *request, int64_t now_ns,
				   struct probe *probe);

/* Says that a probe was given up without an answer, which may still come: its identity is kept back
 * for ten seconds from now. */
void identity_given_up(const struct probe *probe, int64_t now_ns);

/* Whether nothing but this open UDP probe has had its ports since before answers to another could
 * come: then it does not matter if a translating router has spoilt the checksum that an error
 * quotes. */
bool identity_ports_suffice(const struct probe *probe);

/* The ICMP checksum (before complementing, host byte order) that all probes of a flow carry. */
uint16_t identity_flow_checksum(uint32_t flow);

#endif
