/*
 * Receives answers from the raw sockets and reports them. Runs in the broker.
 */
#ifndef POSTERN_BROKER_RECEIVE_H
#define POSTERN_BROKER_RECEIVE_H

#include <time.h>
#include <linux/errqueue.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "broker/probe_table.h"
#include "common/record.h"

/* What the kernel says about a packet beside its bytes. */
struct receive_control {
	struct timespec stamp; /* wall clock; all zero if there is none */
	bool has_ttl;
	uint8_t ttl;
	const uint8_t *local4; /* the address it was sent to, or NULL */
	const uint8_t *local6;
	uint32_t ifindex;
	const struct sock_extended_err *error; /* from an error queue, or NULL */
	size_t error_bytes;                    /* with the offender's address behind it */
};

/* Collects the control messages of a received message. */
void receive_control(struct msghdr *message, struct receive_control *control);

/* Closes the probe and queues the event that `event` was begun for. */
void receive_report(struct probe *probe, struct record_event *event, const uint8_t *extension,
		    const struct receive_control *control);

enum {
	/* Packets that are read in one call. Each has room for 64 kB, hence no more. */
	RECEIVE_BATCH = 64,
};

/* Reads a batch from one of the receiving raw sockets; at most RECEIVE_BATCH events are queued.
 * False if it was not full, so that no more is there. */
bool receive_raw(int socket);

#endif
