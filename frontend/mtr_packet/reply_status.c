/*
 * The name that the end of a probe has in the text protocol. mtr ends the user's session on some of
 * them (permission-denied, invalid-argument and others), so those are used only for what they mean.
 * Pure functions; run in mtr-packet.
 */
#include "frontend/mtr_packet/reply_status.h"

#include <errno.h>
#include <string.h>

#include "frontend/transport/icmp_types.h"

static const char *const names[] = {
	[STATUS_REPLY] = "reply",
	[STATUS_TTL_EXPIRED] = "ttl-expired",
	[STATUS_PACKET_TOO_BIG] = "packet-too-big",
	[STATUS_NO_ROUTE] = "no-route",
	[STATUS_NO_ROUTE_HOST] = "no-route-host",
	[STATUS_NO_ROUTE_NETWORK] = "no-route-network",
	[STATUS_HOST_DOWN] = "host-down",
	[STATUS_NETWORK_DOWN] = "network-down",
	[STATUS_NO_REPLY] = "no-reply",
	[STATUS_PERMISSION_DENIED] = "permission-denied",
	[STATUS_ADDRESS_IN_USE] = "address-in-use",
	[STATUS_ADDRESS_NOT_AVAILABLE] = "address-not-available",
	[STATUS_INVALID_ARGUMENT] = "invalid-argument",
	[STATUS_UNEXPECTED_ERROR] = "unexpected-error",
};

const char *reply_status_name(enum reply_status status)
{
	return names[status];
}

/* The code of "time exceeded in transit" in both families (RFC 792, RFC 4443 3.3). */
enum { EXCEEDED_IN_TRANSIT = 0 };

static bool is_too_big(const struct probe_request *probe, const struct probe_result *result)
{
	return result->kind == RESULT_ICMP &&
	       icmp_is_too_big(probe->family, result->icmp_type, result->icmp_code);
}

bool needs_fragments(const struct probe_request *probe, const struct probe_result *result)
{
	return probe->family == 6 && !(probe->flags & REQUEST_DONT_FRAGMENT) &&
	       is_too_big(probe, result);
}

/* Any other ICMP error that the destination itself sends shows that the probe reached it: port
 * unreachable, but also time exceeded in reassembly, or parameter problem, by which IPv6 refuses a
 * protocol. From another host it shows that the probe could not get through. */
enum reply_status reply_status_of_answer(const struct probe_request *probe,
					 const struct probe_result *result, enum compat compat)
{
	const struct icmp_types *types = icmp_types(probe->family);

	if (result->kind == RESULT_REPLY)
		return STATUS_REPLY;
	if (result->icmp_type == types->time_exceeded && result->icmp_code == EXCEEDED_IN_TRANSIT)
		return STATUS_TTL_EXPIRED;
	/* mtr does not know this name, so only a client that asks for it gets it. */
	if ((probe->flags & REQUEST_DONT_FRAGMENT) && is_too_big(probe, result))
		return STATUS_PACKET_TOO_BIG;
	if (memcmp(result->responder, probe->destination, sizeof(result->responder)) == 0)
		return STATUS_REPLY;
	return compat == COMPAT_0_96 ? STATUS_NO_ROUTE_HOST : STATUS_NO_ROUTE;
}

enum reply_status reply_status_of_errno(const struct probe_request *probe, int error,
					enum compat compat)
{
	switch (error) {
	case ENETUNREACH:
		return compat == COMPAT_0_96 ? STATUS_NO_ROUTE_NETWORK : STATUS_NO_ROUTE;
	case EHOSTUNREACH:
		return compat == COMPAT_0_96 ? STATUS_NO_ROUTE_HOST : STATUS_NO_ROUTE;
	case EHOSTDOWN:
		return compat == COMPAT_0_96 ? STATUS_HOST_DOWN : STATUS_NO_ROUTE;
	case ENETDOWN:
		return STATUS_NETWORK_DOWN;
	case EPERM:
	case EACCES:
		return STATUS_PERMISSION_DENIED;
	case EADDRINUSE:
		return STATUS_ADDRESS_IN_USE;
	case EADDRNOTAVAIL:
		return STATUS_ADDRESS_NOT_AVAILABLE;
	case EINVAL:
	case ENODEV:
	case EXDEV:
		return STATUS_INVALID_ARGUMENT;
	case EMSGSIZE:
		/* Without don't-fragment only a size that no packet can have fails. */
		return probe->flags & REQUEST_DONT_FRAGMENT ? STATUS_PACKET_TOO_BIG
							    : STATUS_INVALID_ARGUMENT;
	default:
		return STATUS_UNEXPECTED_ERROR;
	}
}
