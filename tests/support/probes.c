/*
 * Probes for tests of the broker. Runs in test programs only, with the broker's modules in the same
 * process; nothing is sent.
 */
#include "tests/support/probes.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdbool.h>

#include "broker/identity.h"

void probes_start(void)
{
	static struct held_ports held;

	for (unsigned int i = 0; i < HELD_PORTS; i++)
		held.port[i] = (uint16_t)(PROBES_FIRST_PORT + i);
	probe_table_start(0x5eed5eed5eed5eed);
	identity_start(&held, 0xfeedfacecafebeef);
}

struct record_probe probes_request(uint8_t family, uint8_t protocol)
{
	struct record_probe request = {
		.kind = RECORD_PROBE,
		.family = family,
		.protocol = protocol,
		.ttl = 9,
		.tos = 0xb8,
		.payload_byte = 0x5a,
		.size_bytes = 64,
		.port = protocol == IPPROTO_TCP || protocol == IPPROTO_SCTP ? 443 : 0,
	};
	int domain = family == 4 ? AF_INET : AF_INET6;

	inet_pton(domain, family == 4 ? "198.18.0.1" : "2001:db8::1", request.source);
	inet_pton(domain, family == 4 ? "198.18.0.2" : "2001:db8::2", request.destination);
	return request;
}

struct probe *probes_open(const struct record_probe *request, int64_t now_ns, struct packet *packet)
{
	struct probe *probe = probe_slot(request->cookie);

	if (!build_probe(request, now_ns, probe, packet))
		return NULL;
	probe->cookie = request->cookie;
	probe->sent_ns = now_ns;
	probe_open(probe);
	return probe;
}

bool probes_holds(uint16_t port)
{
	return port >= PROBES_FIRST_PORT && port < PROBES_FIRST_PORT + HELD_PORTS;
}
