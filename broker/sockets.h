/*
 * Opens every socket that the broker will ever have. Runs in the broker while it starts, the only
 * time at which it uses its privilege to open anything.
 */
#ifndef POSTERN_BROKER_SOCKETS_H
#define POSTERN_BROKER_SOCKETS_H

#include <stdbool.h>
#include <stdint.h>

#include "broker/identity.h"
#include "policy/step.h"

enum {
	/* What a raw socket puts into its packets unless a control message says otherwise. */
	SOCKETS_DEFAULT_TTL = 255,
};

/* What has been opened. Descriptor numbers are those of descriptors.h. */
struct broker_sockets {
	uint32_t features; /* enum hello_features */
	struct held_ports held;
};

/* Opens, binds, filters, locks and drains all sockets; false with *failure filled in if any of that
 * fails, and the process is to end. A family that this kernel does not have is left out of
 * `features`; its descriptors are duplicates of /dev/null. */
bool sockets_open(struct broker_sockets *sockets, struct step_failure *failure);

/* The raw socket for a probe. `protocol` as in struct record_probe. */
int sockets_raw(uint8_t family, uint8_t protocol, bool dont_fragment);

/* Has a receiving raw socket hear packets to any address, or to none that matters: the kernel then
 * need not copy every packet of the protocol for its filter to reject. They are born deaf. False if
 * that cannot be; only where there is no loopback address, and only of making it deaf again. */
bool sockets_hear(int descriptor, bool any);

/* Binds DESC_ECHO to a unicast IPv4 address, in network byte order, unless it is bound to it. False
 * if the kernel refuses, because it is not this host's; the socket is then bound to no known
 * address. A subnet's broadcast address is not refused: probes leave from the address that the
 * route says then, and have no answer. */
bool sockets_echo_from(uint32_t address_be);

/* What sockets_raw(family, protocol, false) was asked for, from its descriptor: the receiving
 * sockets are DESC_RAW_FIRST and every second one after it. */
uint8_t sockets_raw_family(int descriptor);
uint8_t sockets_raw_protocol(int descriptor);

#endif
