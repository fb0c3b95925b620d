/*
 * What the end of a probe is called in the text protocol: from an event or an errno to the word
 * that the client gets. Pure functions; they run in the packet front end.
 */
#ifndef POSTERN_FRONTEND_PACKET_VERDICT_H
#define POSTERN_FRONTEND_PACKET_VERDICT_H

#include <stdbool.h>

#include "common/record.h"

/* Which mtr's words are spoken. */
enum compat {
	COMPAT_0_95,
	COMPAT_0_96,
};

enum verdict {
	VERDICT_REPLY,
	VERDICT_TTL_EXPIRED,
	VERDICT_PACKET_TOO_BIG,
	VERDICT_NO_ROUTE, /* what is not told apart any further */
	VERDICT_NO_ROUTE_HOST,
	VERDICT_NO_ROUTE_NETWORK,
	VERDICT_HOST_DOWN,
	VERDICT_NETWORK_DOWN,
	VERDICT_NO_REPLY,
	VERDICT_PROBES_EXHAUSTED, /* for good: local ports; a passing shortage waits */
	VERDICT_PERMISSION_DENIED,
	VERDICT_ADDRESS_IN_USE,
	VERDICT_ADDRESS_NOT_AVAILABLE,
	VERDICT_INVALID_ARGUMENT,
	VERDICT_UNEXPECTED_ERROR,
};

/* The verdict's name in the protocol. */
const char *verdict_word(enum verdict verdict);

/* What an EVENT_REPLY or EVENT_ICMP says about the probe that it answers. */
enum verdict verdict_of_answer(const struct record_probe *probe, const struct record_event *event,
			       enum compat compat);

/* A router refuses an IPv6 probe for its size, though it may be fragmented: this host has learnt
 * the path MTU from the same error (RFC 8201), and the probe gets through when it is sent again. */
bool verdict_is_worth_fragments(const struct record_probe *probe, const struct record_event *event);

/* What it means that a probe could not be sent. Not for shortages. */
enum verdict verdict_of_errno(const struct record_probe *probe, int error, enum compat compat);

/* This errno passes by itself: try again soon. */
bool verdict_is_shortage(int error);

#endif
