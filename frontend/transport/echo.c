/*
 * The payload of ICMP echo requests. Pure functions. Runs in the front end.
 */
#include "frontend/transport/echo.h"

#include "common/checksum.h"
#include "common/wire.h"

enum {
	FLOW_SUMS = 0xfffe, /* 1..0xfffe: 0xffff equals 0 (RFC 1071) */
	NONCE_END = RECORD_NONCE_BYTES - 2,
};

uint64_t echo_add_fill(uint64_t sum, uint8_t payload_byte, size_t length)
{
	sum += length / 2 * (uint64_t)(payload_byte << 8 | payload_byte);
	if (length % 2 != 0)
		sum += (uint64_t)payload_byte << 8;
	return sum;
}

/* What is the same anyway need not be added: type, code, identifier and, in ICMPv6, addresses. */
void echo_keep_checksum(const struct probe_request *request, uint32_t sequence,
			size_t payload_bytes, uint8_t nonce[RECORD_NONCE_BYTES])
{
	uint64_t sum = checksum_add(sequence, nonce, NONCE_END);

	sum = echo_add_fill(sum, request->payload_byte, payload_bytes - RECORD_NONCE_BYTES);
	if (request->family == 6)
		sum += payload_bytes; /* of the pseudo header, RFC 8200 8.1 */
	uint64_t wanted = request->flow % FLOW_SUMS + 1;
	wire_put16(nonce + NONCE_END, checksum_fold(wanted + (uint16_t)~checksum_fold(sum)));
}
