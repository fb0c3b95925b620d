/*
 * An entry point for libFuzzer (and AFL, which knows it too): arbitrary bytes as a packet that some
 * raw socket of the broker received, with probes of every kind open. `make fuzz` builds it.
 */
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "broker/answer.h"
#include "common/wire.h"
#include "tests/support/packet.h"
#include "tests/support/probes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t protocols[] = {IPPROTO_ICMP, IPPROTO_UDP, IPPROTO_TCP, IPPROTO_SCTP};

static void open_probes(void)
{
	struct packet packet;

	probes_start();
	for (uint32_t i = 0; i < 8; i++) {
		struct record_probe request = probes_request(i % 2 == 0 ? 4 : 6, protocols[i / 2]);
		request.cookie = i;
		if (probes_open(&request, INT64_C(100000000000), &packet) == NULL)
			abort();
	}
}

/* The first byte chooses the socket; then come the addresses, for IPv6, and the packet. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool is_open;
	struct record_event event;
	const uint8_t *extension;
	struct wire_ip ip;

	if (!is_open)
		open_probes();
	is_open = true;
	if (size < 33)
		return 0;
	struct received received = {
		.family = data[0] & 1 ? 6 : 4,
		.protocol = protocols[data[0] >> 1 & 3],
		.source = data + 1,
		.destination = data + 17,
		.transport = data + 33,
		.transport_bytes = size - 33,
	};
	if (wire_ip_read(received.transport, received.transport_bytes, &ip) &&
	    ip.transport + ip.transport_bytes > data + size)
		abort();
	const struct probe *probe = answer_recognise(&received, &event, &extension);
	if (probe != NULL && !probe->open)
		abort();
	if (probe != NULL && extension != NULL && extension + event.extension_bytes > data + size)
		abort();
	return 0;
}
