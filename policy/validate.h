/*
 * Which probe requests are admitted at all. The broker applies it to every request of its front
 * end, which may be anybody's program; the front end applies it before, to say what is wrong.
 */
#ifndef POSTERN_POLICY_ADMISSION_H
#define POSTERN_POLICY_ADMISSION_H

#include <stdbool.h>
#include <stdint.h>

#include "common/record.h"

/* Whether a destination (of family 4 or 6, network byte order) is one host: not unspecified,
 * multicast, broadcast, reserved (RFC 1112 4), or an IPv4 address in IPv6 clothes (RFC 4291
 * 2.5.5). Directed broadcasts are known to the kernel alone, which refuses them. */
bool admission_is_unicast(uint8_t family, const uint8_t *address);

/* NULL if the request is one that a broker may serve, else what is wrong with it. Whether the
 * source address is local and a route exists is the kernel's to check. */
const char *admission_refusal(const struct record_probe *request);

#endif
