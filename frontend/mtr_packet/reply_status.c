/*
 * What the end of a probe is called in the text protocol: from an event or an errno to the word
 * that the client gets. mtr ends its session on some of them (permission-denied, invalid-argument
 * and others), so those are used only for what they mean. Pure functions, in the packet front end.
 */
#include "frontend/packet_verdict.h"

#include <errno.h>
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>
#include <string.h>

static const char *const words[] = {
	[VERDICT_REPLY] = "reply",
	[VERDICT_TTL_EXPIRED] = "ttl-expired",
	[VERDICT_PACKET_TOO_BIG] = "packet-too-big",
	[VERDICT_NO_ROUTE] = "no-route",
	[VERDICT_NO_ROUTE_HOST] = "no-route-host",
	[VERDICT_NO_ROUTE_NETWORK] = "no-route-network",
	[VERDICT_HOST_DOWN] = "host-down",
	[VERDICT_NETWORK_DOWN] = "network-down",
	[VERDICT_NO_REPLY] = "no-reply",
	[VERDICT_PROBES_EXHAUSTED] = "probes-exhausted",
	[VERDICT_PERMISSION_DENIED] = "permission-denied",
	[VERDICT_ADDRESS_IN_USE] = "address-in-use",
	[VERDICT_ADDRESS_NOT_AVAILABLE] = "address-not-available",
	[VERDICT_INVALID_ARGUMENT] = "invalid-argument",
	[VERDICT_UNEXPECTED_ERROR] = "unexpected-error",
};

const char *verdict_word(enum verdict verdict)
{
	return words[verdict];
}

/* The two errors that have a verdict of their own, in each family (RFC 792, RFC 1191, RFC 4443). */
struct icmp_errors {
	uint8_t exceeded_type, exceeded_code;
	uint8_t too_big_type, too_big_code;
};

static const struct icmp_errors errors_4 = {ICMP_TIME_EXCEEDED, ICMP_EXC_TTL, ICMP_DEST_UNREACH,
					    ICMP_FRAG_NEEDED};
static const struct icmp_errors errors_6 = {ICMP6_TIME_EXCEEDED, ICMP6_TIME_EXCEED_TRANSIT,
					    ICMP6_PACKET_TOO_BIG, 0};

static const struct icmp_errors *errors_of(const struct record_probe *probe)
{
	return probe->family == 4 ? &errors_4 : &errors_6;
}

static bool is_too_big(const struct record_probe *probe, const struct record_event *event)
{
	const struct icmp_errors *errors = errors_of(probe);

	return event->what == EVENT_ICMP && event->icmp_type == errors->too_big_type &&
	       event->icmp_code == errors->too_big_code;
}

bool verdict_is_worth_fragments(const struct record_probe *probe, const struct record_event *event)
{
	return probe->family == 6 && !(probe->flags & PROBE_DONT_FRAGMENT) &&
	       is_too_big(probe, event);
}

/* Beyond those two, any error that the destination itself sends says that it was reached: so does
 * its time exceeded in reassembly, or its parameter problem (how IPv6 refuses a protocol). The same
 * from anyone else says that there is no way through. mtr 0.96 knows that as no-route-host only. */
enum verdict verdict_of_answer(const struct record_probe *probe, const struct record_event *event,
			       enum compat compat)
{
	const struct icmp_errors *errors = errors_of(probe);

	if (event->what == EVENT_REPLY)
		return VERDICT_REPLY;
	if (event->icmp_type == errors->exceeded_type && event->icmp_code == errors->exceeded_code)
		return VERDICT_TTL_EXPIRED;
	/* Unasked, "too big" would be a word that mtr does not know. */
	if ((probe->flags & PROBE_DONT_FRAGMENT) && is_too_big(probe, event))
		return VERDICT_PACKET_TOO_BIG;
	if (memcmp(event->responder, probe->destination, sizeof(event->responder)) == 0)
		return VERDICT_REPLY;
	return compat == COMPAT_0_96 ? VERDICT_NO_ROUTE_HOST : VERDICT_NO_ROUTE;
}

enum verdict verdict_of_errno(const struct record_probe *probe, int error, enum compat compat)
{
	switch (error) {
	case ENETUNREACH:
		return compat == COMPAT_0_96 ? VERDICT_NO_ROUTE_NETWORK : VERDICT_NO_ROUTE;
	case EHOSTUNREACH:
		return compat == COMPAT_0_96 ? VERDICT_NO_ROUTE_HOST : VERDICT_NO_ROUTE;
	case EHOSTDOWN:
		return compat == COMPAT_0_96 ? VERDICT_HOST_DOWN : VERDICT_NO_ROUTE;
	case ENETDOWN:
		return VERDICT_NETWORK_DOWN;
	case EMFILE: /* the broker holds as many ports of the client's choice as it can */
		return VERDICT_PROBES_EXHAUSTED;
	case EPERM:
	case EACCES:
		return VERDICT_PERMISSION_DENIED;
	case EADDRINUSE:
		return VERDICT_ADDRESS_IN_USE;
	case EADDRNOTAVAIL:
		return VERDICT_ADDRESS_NOT_AVAILABLE;
	case EINVAL:
	case ENODEV:
		return VERDICT_INVALID_ARGUMENT;
	case EMSGSIZE:
		/* Without don't-fragment only a size that no packet can have ends here. */
		return probe->flags & PROBE_DONT_FRAGMENT ? VERDICT_PACKET_TOO_BIG
							  : VERDICT_INVALID_ARGUMENT;
	default:
		return VERDICT_UNEXPECTED_ERROR;
	}
}

bool verdict_is_shortage(int error)
{
	return error == ENOBUFS || error == EAGAIN || error == ENOMEM || error == EINTR;
}
