/*
 * Which probe requests are valid. The broker applies it to every request of its front end, which
 * may be any program; the front end uses it to say what is wrong before it sends one.
 */
#ifndef POSTERN_POLICY_VALIDATE_H
#define POSTERN_POLICY_VALIDATE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/record.h"

/* Whether a destination (of family 4 or 6, network byte order) is one host: not unspecified,
 * multicast, broadcast, reserved (RFC 1112 4), or an IPv4 address within IPv6 (RFC 4291 2.5.5).
 * Directed broadcasts are known to the kernel alone, which refuses them. */
bool validate_is_unicast(uint8_t family, const uint8_t *address);

/* NULL if the broker may serve the request, else what is wrong with it. Whether the source address
 * is local and a route exists is for the kernel to check. */
const char *validate_probe(const struct record_probe *request);

#endif
