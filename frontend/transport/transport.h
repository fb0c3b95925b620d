/*
 * The way probes leave the front end and answers come back. Runs in the unprivileged front end.
 * Personalities (packet, tracepath) know only this interface; what is behind it (today a broker on
 * a socketpair, broker_link.c) may change per family and protocol.
 *
 * One descriptor to poll, no threads, no blocking call after transport_open(). Everything a
 * transport has to say comes through the sink's functions, from within transport_dispatch() only.
 */
#ifndef POSTERN_FRONTEND_TRANSPORT_H
#define POSTERN_FRONTEND_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/record.h"

struct transport;

struct transport_sink {
	void *context; /* passed to each function below */
	/* Once, before any event: what works. */
	void (*hello)(void *context, const struct record_hello *hello);
	/* A probe ended. `extension` is event->extension_bytes long, or NULL; valid during the
	 * call. The cookie may be one that was cancelled meanwhile: ignore it then. */
	void (*event)(void *context, const struct record_event *event, const uint8_t *extension);
	/* The transport is gone (broker died or could not start), once: `error` is an errno for
	 * every open and every later probe, `why` one line without newline for people. */
	void (*down)(void *context, int error, const char *why);
};

/* Starts the transport. `broker_path` overrides where the broker is looked for, or NULL. Never
 * NULL: what goes wrong, even at start, is told through sink->down at the first dispatch. The
 * caller keeps `sink` alive until transport_close(). */
struct transport *transport_open(const char *broker_path, const struct transport_sink *sink);
void transport_close(struct transport *transport);
/* The same where the process ends next: without giving memory back, which goes with it. */
void transport_leave(struct transport *transport);

/* The descriptor to poll and the events (POLLIN, POLLOUT) it is to be polled for now; −1 when the
 * transport is down and has said so. */
int transport_fd(const struct transport *transport);
short transport_poll_events(const struct transport *transport);

/* Queues a probe or a cancellation; they leave in order at transport_flush(). At most
 * RECORD_SLOTS probes may be open: the cookie's low 16 bits name a slot of the caller's that is
 * free. Before the hello they are kept. After the transport went down they are ignored. */
void transport_probe(struct transport *transport, const struct record_probe *probe);
void transport_cancel(struct transport *transport, uint32_t cookie);

/* Sends what is queued as far as the transport takes it now; the rest leaves in a later call. */
void transport_flush(struct transport *transport);

/* Reads what has arrived and calls the sink; returns when nothing is left or `most_events` were
 * told. Call it when poll() says so, and once after transport_open(). */
void transport_dispatch(struct transport *transport, size_t most_events);

#endif
