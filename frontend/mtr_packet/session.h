/*
 * One client's session: takes request lines, opens probes, and writes a reply line for what becomes
 * of each. Knows no transport, no descriptor of the client and no clock. Runs in mtr-packet; does
 * not trust the client's lines.
 */
#ifndef POSTERN_FRONTEND_MTR_PACKET_SESSION_H
#define POSTERN_FRONTEND_MTR_PACKET_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "frontend/mtr_packet/deadlines.h"
#include "frontend/mtr_packet/line.h"
#include "frontend/mtr_packet/reply_status.h"
#include "frontend/mtr_packet/slots.h"
#include "frontend/process/advice.h"
#include "frontend/process/output.h"
#include "frontend/transport/transport.h"

enum {
	WARNING_BYTES = ADVICE_BYTES,
	/* Different unknown argument names that are warned of. */
	UNKNOWN_NAMES_MAX = 8,
	UNKNOWN_NAME_BYTES = 32,
	/* ICMP, UDP, TCP and SCTP could be lost one by one. */
	LOST_WAYS_MAX = 4,
};

/* What a session needs from its caller. */
struct session_calls {
	/* transport_probe() and transport_cancel() */
	void (*probe)(struct transport *transport, const struct probe_request *request);
	void (*cancel)(struct transport *transport, uint32_t cookie);
	/* Writes a text of less than WARNING_BYTES to stderr. */
	void (*warn)(const char *text);
};

/* A way that is gone, or never was there. */
struct lost_way {
	uint32_t features;       /* what needs it: enum hello_features */
	int error;               /* what probes of these fail with */
	char why[WARNING_BYTES]; /* to be shown; empty: it was */
};

struct session {
	const struct session_calls *calls;
	struct transport *transport; /* the caller's */
	enum compat compat;
	int64_t now_ns; /* the caller sets it before each call below */

	struct slots *slots;
	struct deadlines *deadlines;
	struct output output;

	bool ready;        /* session_ready() was called */
	uint32_t features; /* what works: enum hello_features */
	uint32_t lost_count;
	struct lost_way lost[LOST_WAYS_MAX];
	uint32_t unknown_count;
	char unknown[UNKNOWN_NAMES_MAX][UNKNOWN_NAME_BYTES];
};

/* Reserves all memory that the session will use. Returns false with errno if there is none. */
bool session_open(struct session *session, const struct session_calls *calls, enum compat compat);
void session_close(struct session *session);

/* For struct transport_sink, with the session as context. */
void session_ready(void *context, uint32_t features);
void session_result(void *context, const struct probe_result *result);
void session_down(void *context, uint32_t lost, int error, const char *why);

/* Whether there is room for the reply to another line. Only then call the two below. */
bool session_accepts(const struct session *session);
void session_line(struct session *session, struct text line);
void session_line_too_long(struct session *session);

/* Replies to the probes whose time is up, and sends again those that waited for that. */
void session_expire(struct session *session);

/* When session_expire() has something to do; INT64_MAX: never. */
int64_t session_next_ns(const struct session *session);

/* How many requests have no reply yet. */
uint32_t session_open_probes(const struct session *session);

#endif
