/*
 * Opens every socket that the broker will ever have. Runs in the broker while it starts, the only
 * time at which it uses its privilege to open anything.
 */
#ifndef POSTERN_BROKER_SOCKETS_H
#define POSTERN_BROKER_SOCKETS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/hello.h"

/* What has been opened. The descriptor numbers are those of policy/descriptors.h. */
struct broker_sockets {
	uint32_t features; /* enum hello_features */
	uint16_t held_port[RECORD_PROBE_IDS];
};

/* Opens, binds, filters, locks and drains all sockets; fatal() if any of that fails. A family that
 * this kernel does not have is left out of `features`; its descriptors are duplicates of the
 * socket that only sends IPv4. */
void sockets_open(struct broker_sockets *sockets);

/* Whether this kernel takes a routing mark as a control message from a process that holds
 * CAP_NET_RAW, effective, as it is now. Some want CAP_NET_ADMIN. */
bool sockets_can_mark(void);

#endif
