/*
 * Puts fragmented packets together, for destinations.
 */
#ifndef POSTERN_TESTS_LAB_SIMNET_REASSEMBLE_H
#define POSTERN_TESTS_LAB_SIMNET_REASSEMBLE_H

#include "tests/lab/simnet_packet.h"

/* Takes one fragment. Returns true when it completes its packet, which *whole then shows as if it
 * had come in one piece, until the next call. */
bool reassemble(const struct packet_view *fragment, uint64_t now_ns, struct packet_view *whole);

#endif
