/*
 * One Ethernet interface, read and written in batches through AF_PACKET.
 */
#ifndef POSTERN_TESTS_LAB_SIMNET_LINK_H
#define POSTERN_TESTS_LAB_SIMNET_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/lab/simnet_queue.h"

enum {
	LINK_BATCH = 64,
	ETHERNET_BYTES = 14,
	MAC_BYTES = 6,
};

struct link_frame {
	const uint8_t *bytes;
	size_t length;
	uint64_t came_ns;      /* CLOCK_MONOTONIC, as the kernel saw it arrive */
	bool checksum_pending; /* the sender left the transport checksum to its network card */
};

struct link;

/* Opens the interface. On failure prints why and returns NULL. */
struct link *link_open(const char *interface);
void link_close(struct link *link);

int link_descriptor(const struct link *link);
size_t link_mtu(const struct link *link);

/* The address that simnet has there: not the interface's own, so that the kernel takes
 * nothing that comes in for itself. */
const uint8_t *link_mac(const struct link *link);

/* Takes up to LINK_BATCH frames without waiting; they stay valid until the next call. */
size_t link_receive(struct link *link, struct link_frame frames[LINK_BATCH]);

/* Sends and frees up to LINK_BATCH frames. Returns how many could not be sent. */
size_t link_send(struct link *link, struct queued_frame *frames[LINK_BATCH], size_t count);

/* Frames that came in faster than they were read, since the last call. */
uint64_t link_overflows(struct link *link);

#endif
