/*
 * Writes the extension structure of RFC 4884 that a hop appends to its ICMP errors.
 */
#ifndef POSTERN_TESTS_LAB_SIMNET_EXTENSION_H
#define POSTERN_TESTS_LAB_SIMNET_EXTENSION_H

#include "tests/lab/simnet_net.h"

enum {
	/* header, a full label stack, four interfaces with everything */
	EXTENSION_BYTES = 4 + 4 + 4 * NET_LABELS + NET_INTERFACES * (4 + 4 + 20 + 64 + 4),
};

/* Returns the bytes written; 0 if there is no extension. `out` has EXTENSION_BYTES. */
size_t extension_write(const struct net_behaviour *behaviour, uint8_t *out);

#endif
