/*
 * Turns a probe request of the commands into the record that the broker understands: chooses number
 * and nonce, and keeps constant for a flow what routers hash. Runs in the front end. The broker
 * ends when a record is not allowed, so each is validated here before.
 */
#include "frontend/transport/probe_record.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "common/wire.h"
#include "frontend/process/random.h"
#include "frontend/transport/echo.h"
#include "frontend/transport/ip_family.h"
#include "frontend/transport/local_route.h"
#include "policy/validate.h"

/* On raw IPv6 sockets the kernel keeps to the interface only if it chooses the source itself or the
 * destination is link-local. So a source is left out if the kernel would choose it anyway. */
static int obey_interface(const struct probe_request *request, struct record_probe *probe)
{
	struct probe_request any_source = *request;
	struct local_route route;

	if (request->family == 4 || request->ifindex == 0 ||
	    ip_family_is_unspecified(request->source) ||
	    ip_family_is_link_local(6, request->destination))
		return 0;
	memset(any_source.source, 0, 16);
	int error = local_route(&any_source, &route);
	if (error)
		return error;
	memset(probe->source, 0, 16);
	return memcmp(route.source, request->source, 16) == 0 ? 0 : EXDEV;
}

static void set_nonce(const struct probe_request *request, struct record_probe *probe)
{
	size_t headers_bytes = wire_family(request->family)->header_bytes + WIRE_ICMP_HEADER_BYTES;
	bool is_flow = (request->flags & REQUEST_FLOW) != 0;

	if (is_flow && probe->size_bytes < headers_bytes + RECORD_NONCE_BYTES)
		probe->size_bytes = (uint16_t)(headers_bytes + RECORD_NONCE_BYTES);
	if (probe->size_bytes < headers_bytes + RECORD_NONCE_BYTES ||
	    (!is_flow && request->payload_byte != 0 && !request->random_payload))
		return;
	probe->flags |= PROBE_NONCE;
	random_bytes(probe->nonce, RECORD_NONCE_BYTES);
	if (is_flow)
		echo_keep_checksum(request, probe->number, probe->size_bytes - headers_bytes,
				   probe->nonce);
}

int probe_record_make(struct probe_numbers *numbers, const struct probe_request *request,
		      int64_t now_ns, struct record_probe *probe)
{
	bool is_flow = (request->flags & REQUEST_FLOW) != 0;

	*probe = (struct record_probe){
		.kind = RECORD_PROBE,
		.family = request->family,
		.protocol = request->protocol,
		.ttl = request->ttl,
		.tos = request->tos,
		.payload_byte = request->payload_byte,
		.cookie = request->cookie,
		.size_bytes = request->size_bytes,
		.ifindex = request->ifindex,
	};
	memcpy(probe->destination, request->destination, sizeof(probe->destination));
	memcpy(probe->source, request->source, sizeof(probe->source));
	if (request->flags & REQUEST_DONT_FRAGMENT)
		probe->flags |= PROBE_DONT_FRAGMENT;
	if (request->flags & REQUEST_MARK) {
		probe->flags |= PROBE_MARK;
		probe->mark = request->mark;
	}
	if (is_flow && request->family == 6)
		probe->flow_label = ip_family_flow_label(request->flow);
	probe_number_take(numbers, probe,
			  is_flow ? (int)(request->flow % RECORD_PROBE_IDS) : PROBE_ID_ANY, now_ns);
	if (request->protocol == IPPROTO_SCTP)
		probe->port = request->port;
	else
		set_nonce(request, probe);

	if (validate_probe(probe))
		return EINVAL;
	return obey_interface(request, probe);
}
