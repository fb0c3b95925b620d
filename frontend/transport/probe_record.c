/*
 * Turns a probe request of the commands into the record that the broker understands: chooses number
 * and nonce, and keeps constant for a flow what routers hash. Runs in the front end. The broker
 * ends when a record is not allowed, so each is validated here before.
 */
#include "frontend/transport/probe_record.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "common/checksum.h"
#include "common/wire.h"
#include "frontend/transport/local_route.h"
#include "policy/validate.h"

enum {
	/* Labels are 1..0xfffff (RFC 6437 3), sums 1..0xfffe: 0xffff equals 0 (RFC 1071). */
	FLOW_LABELS = 0xfffff,
	FLOW_SUMS = 0xfffe,
};

/* On raw IPv6 sockets the kernel keeps to the interface only if it chooses the source itself or the
 * destination is link-local. So a source is left out if the kernel would choose it anyway. */
static int obey_interface(const struct probe_request *request, struct record_probe *probe)
{
	static const uint8_t unspecified[16];
	struct probe_request any_source = *request;
	struct local_route route;

	if (request->family == 4 || request->ifindex == 0 ||
	    memcmp(request->source, unspecified, 16) == 0 ||
	    wire_is_link_local(6, request->destination))
		return 0;
	memset(any_source.source, 0, 16);
	int error = local_route(&any_source, &route);
	if (error)
		return error;
	memset(probe->source, 0, 16);
	return memcmp(route.source, request->source, 16) == 0 ? 0 : EXDEV;
}

uint64_t probe_record_add_fill(uint64_t sum, const struct record_probe *probe, size_t length)
{
	sum += length / 2 * (uint64_t)(probe->payload_byte << 8 | probe->payload_byte);
	if (length % 2 != 0)
		sum += (uint64_t)probe->payload_byte << 8;
	return sum;
}

/* Chooses the end of the nonce so that the ICMP checksum is the same for all probes of the flow.
 * What is the same anyway need not be added: type, code, identifier and, in ICMPv6, addresses. */
static void keep_checksum(struct record_probe *probe, uint32_t flow, size_t payload_bytes)
{
	uint64_t sum = checksum_add(probe->number, probe->nonce, RECORD_NONCE_BYTES - 2);

	sum = probe_record_add_fill(sum, probe, payload_bytes - RECORD_NONCE_BYTES);
	if (probe->family == 6)
		sum += payload_bytes; /* of the pseudo header, RFC 8200 8.1 */
	uint64_t wanted = flow % FLOW_SUMS + 1;
	wire_put16(probe->nonce + RECORD_NONCE_BYTES - 2,
		   checksum_fold(wanted + (uint16_t)~checksum_fold(sum)));
}

static void set_nonce(struct probe_numbers *numbers, const struct probe_request *request,
		      struct record_probe *probe)
{
	size_t headers_bytes = wire_family(request->family)->header_bytes + WIRE_ICMP_HEADER_BYTES;
	bool is_flow = (request->flags & REQUEST_FLOW) != 0;

	if (is_flow && probe->size_bytes < headers_bytes + RECORD_NONCE_BYTES)
		probe->size_bytes = (uint16_t)(headers_bytes + RECORD_NONCE_BYTES);
	if (probe->size_bytes < headers_bytes + RECORD_NONCE_BYTES ||
	    (!is_flow && request->payload_byte != 0 && !request->random_payload))
		return;
	probe->flags |= PROBE_NONCE;
	probe_number_random(numbers, probe->nonce, RECORD_NONCE_BYTES);
	if (is_flow)
		keep_checksum(probe, request->flow, probe->size_bytes - headers_bytes);
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
	if (is_flow && request->family == 6) {
		probe->flags |= PROBE_FLOW_LABEL;
		probe->flow_label = request->flow % FLOW_LABELS + 1;
	}
	probe_number_take(numbers, probe,
			  is_flow ? (int)(request->flow % RECORD_PROBE_IDS) : PROBE_ID_ANY, now_ns);
	if (request->protocol == IPPROTO_SCTP)
		probe->port = request->port;
	else
		set_nonce(numbers, request, probe);

	if (validate_probe(probe))
		return EINVAL;
	return obey_interface(request, probe);
}
