/*
 * Probes for tests of the broker: requests as a front end would write them, and the broker's own
 * modules that turn them into open probes.
 */
#ifndef POSTERN_TESTS_SUPPORT_PROBES_H
#define POSTERN_TESTS_SUPPORT_PROBES_H

#include <stdint.h>

#include "broker/build.h"
#include "broker/probe_table.h"
#include "common/record.h"

enum {
	/* The ports that the broker under test is told it holds begin here. */
	PROBES_FIRST_PORT = 40000,
};

/* Empties the tables: for the beginning of a test, which has a process of its own. */
void probes_start(void);

/* A request from 198.18.0.1 or 2001:db8::1 to ...2, TTL 9, size 64, TOS 0xb8; TCP and SCTP to port
 * 443, UDP to any. */
struct record_probe probes_request(uint8_t family, uint8_t protocol);

/* Builds the request's packet and opens the probe in the slot that its cookie names. NULL if there
 * is no identity for it. */
struct probe *probes_open(const struct record_probe *request, int64_t now_ns,
			  struct packet *packet);

/* Whether `port` is among those that the broker holds. */
bool probes_holds(uint16_t port);

#endif
