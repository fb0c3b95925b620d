/*
 * Which probe requests are valid. Runs in the broker, on records that a hostile program may have
 * written, and in the front end. Pure functions.
 */
#include "policy/validate.h"

#include <netinet/in.h>
#include <stddef.h>
#include <string.h>

enum { FLOW_LABEL_MAX = 0xfffff }; /* 20 bits, RFC 8200 3 */

static bool is_zero(const uint8_t *bytes, size_t length)
{
	static const uint8_t zero[16];

	return memcmp(bytes, zero, length) == 0;
}

bool validate_is_unicast(uint8_t family, const uint8_t *address)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

	if (family == 4)
		return address[0] != 0 && address[0] < 224;
	/* Under ::/96 there is the loopback address and nothing else (RFC 4291 2.5.5.1). */
	if (is_zero(address, 12))
		return is_zero(address + 12, 3) && address[15] == 1;
	return address[0] != 0xff && memcmp(address, mapped, sizeof(mapped)) != 0;
}

/* A field that has a flag is zero without it. */
static bool ranges_hold(const struct record_probe *request)
{
	bool is_icmp = request->protocol == IPPROTO_ICMP;
	uint16_t flags = request->flags;

	return (flags & ~PROBE_FLAGS) == 0 && ((flags & PROBE_MARK) != 0 || request->mark == 0) &&
	       ((flags & PROBE_NONCE) != 0 || is_zero(request->nonce, sizeof(request->nonce))) &&
	       request->flow_label <= (request->family == 6 ? FLOW_LABEL_MAX : 0) &&
	       request->ttl != 0 && request->ifindex <= INT32_MAX &&
	       request->probe_id < RECORD_PROBE_IDS &&
	       (is_icmp ? request->port == 0 : request->port != 0) &&
	       (is_icmp ? request->number <= UINT16_MAX : request->number != 0);
}

const char *validate_probe(const struct record_probe *request)
{
	size_t address_bytes = request->family == 4 ? 4 : 16;
	size_t rest_bytes = sizeof(request->source) - address_bytes;

	if (request->kind != RECORD_PROBE || !is_zero(request->reserved, sizeof(request->reserved)))
		return "a record that is not a probe";
	if ((request->family != 4 && request->family != 6) ||
	    (request->protocol != IPPROTO_ICMP && request->protocol != IPPROTO_SCTP))
		return "an unknown address family or protocol";
	if (!ranges_hold(request))
		return "a field out of range";
	if (!is_zero(request->destination + address_bytes, rest_bytes) ||
	    !is_zero(request->source + address_bytes, rest_bytes))
		return "an address longer than its family's";
	if (!validate_is_unicast(request->family, request->destination))
		return "a destination that is not one host";
	return NULL;
}
