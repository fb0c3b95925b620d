/*
 * One client's session: takes request lines, opens probes on the transport, and turns what becomes
 * of them into reply lines. Knows no descriptor of the client's and reads no clock; runs in the
 * packet front end.
 */
#ifndef POSTERN_FRONTEND_PACKET_SESSION_H
#define POSTERN_FRONTEND_PACKET_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "frontend/packet_deadlines.h"
#include "frontend/packet_line.h"
#include "frontend/packet_output.h"
#include "frontend/packet_slots.h"
#include "frontend/packet_verdict.h"
#include "frontend/route.h"
#include "frontend/transport.h"

struct session {
	enum compat compat;
	struct transport *transport; /* the caller's */
	struct route_table *routes;  /* the caller's */
	struct slots *slots;
	struct deadlines *deadlines;
	struct output output;
	struct record_hello hello; /* valid once `ready` */
	bool ready;                /* the transport has said hello or that it is down */
	int down_error;            /* what every probe now fails with, or 0 */
	int64_t now_ns;            /* the caller sets it before each call below */
};

/* Reserves everything that the session will use. `routes` may be NULL if the kernel refuses it:
 * each probe then fails. Returns false with errno set. */
bool session_open(struct session *session, enum compat compat, struct route_table *routes);
void session_close(struct session *session);

/* Functions for the transport's sink, with the session as context. */
void session_hello(void *context, const struct record_hello *hello);
void session_event(void *context, const struct record_event *event, const uint8_t *extension);
/* Answers every open probe. */
void session_down(void *context, int error);

/* May another line be taken? Only then call the two below: there is room for its reply, now or when
 * its probe ends. */
bool session_accepts(const struct session *session);
void session_line(struct session *session, struct text line);
void session_line_too_long(struct session *session);

/* Asks the kernel, and remembers, what a line that is taken soon will have to know: its route. It
 * is not answered by that. */
void session_foresee(struct session *session, struct text line);

/* Sends again what waited, and answers the probes whose time is up, as of now_ns; of very many,
 * some: session_next_ns() is not later than now_ns then. */
void session_expire(struct session *session);

/* When session_expire() has something to do next; INT64_MAX: nothing. */
int64_t session_next_ns(const struct session *session);

/* Probes that have not been answered. */
uint32_t session_open_probes(const struct session *session);

#endif
