/*
 * Probes for tests of the broker. Runs in test programs only, with the broker's modules in the same
 * process; nothing is sent.
 */
#include "tests/support/probes.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "broker/build.h"
#include "broker/match.h"

struct record_probe probes_request(uint8_t family, uint8_t protocol)
{
	static const uint8_t nonce[RECORD_NONCE_BYTES] = {0xa1, 0xb2, 0xc3, 0xd4,
							  0xe5, 0xf6, 0x07, 0x18};
	bool is_icmp = protocol == IPPROTO_ICMP;
	struct record_probe request = {
		.kind = RECORD_PROBE,
		.family = family,
		.protocol = protocol,
		.ttl = 9,
		.tos = 0xb8,
		.payload_byte = 0x5a,
		.flags = is_icmp ? PROBE_NONCE : 0,
		.size_bytes = 64,
		.port = is_icmp ? 0 : 443,
		.number = is_icmp ? 0x1357 : 0x2468ace0,
		.probe_id = 3,
	};
	int domain = family == 4 ? AF_INET : AF_INET6;

	if (is_icmp)
		memcpy(request.nonce, nonce, sizeof(nonce));
	inet_pton(domain, family == 4 ? "198.18.0.1" : "2001:db8::1", request.source);
	inet_pton(domain, family == 4 ? "198.18.0.2" : "2001:db8::2", request.destination);
	return request;
}

size_t probes_open(const struct record_probe *request, uint8_t *packet)
{
	size_t bytes = build_probe(request, PROBES_FIRST_ID + request->probe_id, packet);

	match_open(request, packet, bytes, PROBES_SENT_NS);
	return bytes;
}
