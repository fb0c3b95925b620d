/*
 * ARP and IPv6 neighbour discovery for the gateway addresses.
 */
#ifndef POSTERN_TESTS_LAB_SIMNET_NEIGHBOUR_H
#define POSTERN_TESTS_LAB_SIMNET_NEIGHBOUR_H

#include "tests/lab/simnet_packet.h"

enum { NEIGHBOUR_FRAME_BYTES = 14 + 40 + 32 };

/* If the frame asks for the hardware address of one of the gateways, writes the answer to `out`
 * (NEIGHBOUR_FRAME_BYTES) and returns its length, otherwise 0. */
size_t neighbour_answer(const struct net *net, const uint8_t *frame, size_t length,
			const uint8_t *mac, uint8_t *out);

#endif
