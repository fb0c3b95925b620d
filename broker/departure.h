/*
 * When probes left, as exactly as the kernel can tell: it stamps some of each batch, and the others
 * left in between.
 */
#ifndef POSTERN_BROKER_DEPARTURE_H
#define POSTERN_BROKER_DEPARTURE_H

#include <stdbool.h>
#include <stdint.h>

#include "broker/probe_table.h"

/* A probe of a batch that one sendmmsg(2) took, in the order in which it took them. */
struct departure {
	struct probe *probe;
	bool is_stamped; /* the kernel was asked to stamp it when it leaves */
};

/* Has the kernel stamp those packets of a socket that ask for it in a control message
 * (SOF_TIMESTAMPING_TX_SCHED, which departure_flags is). Returns 0, or −1 with errno. */
int departure_prepare(int socket);
extern const uint32_t departure_flags;

/* Whether stamps came for the last batch that had asked for some: where they do not, batches should
 * be short, and of packets that are alike. True at first. */
bool departure_is_stamped(void);

/* Notes in each of `count` probes, at most RECORD_BATCH, when it left. To be called once after each
 * sendmmsg(2) on the socket, which began at before_ns, CLOCK_MONOTONIC. */
void departure_note(int socket, const struct departure *batch, unsigned int count,
		    int64_t before_ns);

/* Throws away the stamps of packets that left late, because the kernel had first to ask for their
 * next hop's link address. */
void departure_forget(int socket);

#endif
