/*
 * Which probe requests are admitted. Runs in the broker, on records that a hostile program may have
 * written, and in the front end. Pure functions.
 */
#include "policy/admission.h"

#include <netinet/in.h>
#include <stddef.h>
#include <string.h>

enum {
	/* Below, ports are the system's: no local-port there. */
	FIRST_USER_PORT = 1024,
};

bool admission_is_unicast(uint8_t family, const uint8_t *address)
{
	static const uint8_t zero[16];
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

	if (family == 4)
		return address[0] != 0 && address[0] < 224;
	/* Under ::/96 there is the loopback address and nothing else (RFC 4291 2.5.5.1). */
	if (memcmp(address, zero, 12) == 0)
		return memcmp(address + 12, zero, 3) == 0 && address[15] == 1;
	return address[0] != 0xff && memcmp(address, mapped, sizeof(mapped)) != 0;
}

static bool is_zero(const uint8_t *bytes, size_t length)
{
	uint8_t any = 0;

	for (size_t i = 0; i < length; i++)
		any |= bytes[i];
	return any == 0;
}

static const char *ports_refusal(const struct record_probe *request)
{
	bool is_udp = request->protocol == IPPROTO_UDP;

	if (request->protocol == IPPROTO_ICMP && request->port != 0)
		return "a port for ICMP";
	if ((request->protocol == IPPROTO_TCP || request->protocol == IPPROTO_SCTP) &&
	    request->port == 0)
		return "no destination port";
	if (request->source_port != 0 && (!is_udp || request->source_port < FIRST_USER_PORT))
		return "a source port that cannot be chosen";
	return NULL;
}

static const char *addresses_refusal(const struct record_probe *request)
{
	size_t address_bytes = request->family == 4 ? 4 : 16;
	size_t rest_bytes = sizeof(request->source) - address_bytes;

	if (!is_zero(request->destination + address_bytes, rest_bytes) ||
	    !is_zero(request->source + address_bytes, rest_bytes))
		return "an address longer than its family's";
	if (!admission_is_unicast(request->family, request->destination))
		return "a destination that is not one host";
	if (is_zero(request->source, address_bytes))
		return "no source address";
	return NULL;
}

const char *admission_refusal(const struct record_probe *request)
{
	if (request->kind != RECORD_PROBE || request->reserved != 0)
		return "a record that is not a probe request";
	if (request->family != 4 && request->family != 6)
		return "an unknown address family";
	if (request->protocol != IPPROTO_ICMP && request->protocol != IPPROTO_UDP &&
	    request->protocol != IPPROTO_TCP && request->protocol != IPPROTO_SCTP)
		return "an unknown protocol";
	if (request->ttl == 0)
		return "a TTL of 0";
	if ((request->flags & ~PROBE_FLAGS) != 0 ||
	    ((request->flags & PROBE_MARK) == 0 && request->mark != 0) ||
	    ((request->flags & PROBE_FLOW) == 0 && request->flow != 0))
		return "unknown flags";
	if (request->ifindex > INT32_MAX)
		return "an interface index out of range";
	const char *refusal = ports_refusal(request);
	return refusal != NULL ? refusal : addresses_refusal(request);
}
