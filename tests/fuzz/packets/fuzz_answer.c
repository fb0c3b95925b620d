/*
 * An entry point for libFuzzer (and AFL, which knows it too): arbitrary bytes as a packet that some
 * raw socket of the broker received, with probes of every kind open. `make fuzz` builds it.
 */
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "broker/match.h"
#include "common/wire.h"
#include "tests/support/probes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
	PROBES = 4,
	ADDRESS_BYTES = 16,
	HEAD_BYTES = 1 + 2 * ADDRESS_BYTES,
};

static void open_probes(void)
{
	static uint8_t packet[UINT16_MAX];

	for (uint32_t i = 0; i < PROBES; i++) {
		struct record_probe request = probes_request(
			i % 2 == 0 ? 4 : 6, i / 2 == 0 ? IPPROTO_ICMP : IPPROTO_SCTP);
		request.cookie = i;
		probes_open(&request, packet);
	}
}

/* The first byte chooses the socket; then come the addresses and the packet. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wire_ip ip;

	if (size < HEAD_BYTES)
		return 0;
	uint8_t family = data[0] & 1 ? 6 : 4;
	struct record_answer answer = {.protocol = data[0] & 2 ? IPPROTO_SCTP : IPPROTO_ICMP,
				       .cookie = PROBES};
	size_t address_bytes = wire_family(family)->address_bytes;
	memcpy(answer.responder, data + 1, address_bytes);
	memcpy(answer.local, data + 1 + ADDRESS_BYTES, address_bytes);
	data += HEAD_BYTES;
	size -= HEAD_BYTES;
	if (wire_ip_read(data, size, &ip) && ip.transport + ip.transport_bytes > data + size)
		abort();
	open_probes();
	bool matches = match_answer(family, &answer, data, size);
	if (matches != (answer.cookie < PROBES))
		abort();
	return 0;
}
