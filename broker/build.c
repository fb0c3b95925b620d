/*
 * Builds the packet of a probe: ICMP or ICMPv6 echo request, SCTP INIT. Runs in the broker. The
 * kernel writes the IP header and computes the ICMPv6 checksum, which covers addresses.
 */
#include "broker/build.h"

#include <netinet/in.h>
#include <string.h>

#include "common/checksum.h"
#include "common/wire.h"

/* RFC 4820 4 */
enum { PARAMETER_HEAD_BYTES = 4, PADDING_PARAMETER = 0x8005 };

/* Bytes that the requested size leaves behind the IP header and `header_bytes` more. */
static size_t room(const struct record_probe *request, size_t header_bytes)
{
	header_bytes += wire_family(request->family)->header_bytes;
	return request->size_bytes > header_bytes ? request->size_bytes - header_bytes : 0;
}

/* RFC 792; RFC 4443 4.1 */
static size_t build_echo(const struct record_probe *request, uint16_t id, uint8_t *packet)
{
	size_t payload_bytes = room(request, WIRE_ICMP_HEADER_BYTES);
	size_t bytes = WIRE_ICMP_HEADER_BYTES + payload_bytes;

	memset(packet, 0, WIRE_ICMP_HEADER_BYTES);
	packet[0] = wire_family(request->family)->echo_request;
	wire_put16(packet + 4, id);
	wire_put16(packet + 6, (uint16_t)request->number);
	memset(packet + WIRE_ICMP_HEADER_BYTES, request->payload_byte, payload_bytes);
	if ((request->flags & PROBE_NONCE) != 0)
		memcpy(packet + WIRE_ICMP_HEADER_BYTES, request->nonce,
		       payload_bytes < RECORD_NONCE_BYTES ? payload_bytes : RECORD_NONCE_BYTES);
	if (request->family == 4)
		wire_put16(packet + 2, (uint16_t)~checksum_fold(checksum_add(0, packet, bytes)));
	return bytes;
}

/* RFC 9260 3.1 and 3.3.2. A padding parameter makes the chunk as long as the request wants it. */
static size_t build_init(const struct record_probe *request, uint16_t id, uint8_t *packet)
{
	enum { header_bytes = WIRE_SCTP_HEADER_BYTES + WIRE_SCTP_INIT_BYTES };
	/* Type, receiver window of 65,535 bytes, one stream each way. */
	static const uint8_t init[header_bytes] = {
		[12] = WIRE_SCTP_INIT, [22] = 0xff, 0xff, 0, 1, 0, 1};
	size_t limit_bytes = UINT16_MAX - wire_family(request->family)->header_bytes;
	uint8_t *chunk = packet + WIRE_SCTP_HEADER_BYTES;
	uint8_t *padding = chunk + WIRE_SCTP_INIT_BYTES;
	size_t padding_bytes = room(request, header_bytes);

	/* Chunks end at multiples of four bytes. */
	padding_bytes = padding_bytes < PARAMETER_HEAD_BYTES ? 0 : (padding_bytes + 3) & ~(size_t)3;
	if (header_bytes + padding_bytes > limit_bytes)
		padding_bytes -= 4;
	size_t bytes = header_bytes + padding_bytes;

	memcpy(packet, init, sizeof(init));
	wire_put16(packet, id);
	wire_put16(packet + 2, request->port);
	wire_put16(chunk + 2, (uint16_t)(WIRE_SCTP_INIT_BYTES + padding_bytes));
	wire_put32(chunk + 4, request->number);
	wire_put32(chunk + 16, request->number); /* initial TSN */
	if (padding_bytes != 0) {
		memset(padding, request->payload_byte, padding_bytes);
		wire_put16(padding, PADDING_PARAMETER);
		wire_put16(padding + 2, (uint16_t)padding_bytes);
	}
	uint32_t crc = crc32c(0, packet, bytes);
	for (int i = 0; i < 4; i++)
		packet[8 + i] = (uint8_t)(crc >> 8 * i);
	return bytes;
}

size_t build_probe(const struct record_probe *request, uint16_t id, uint8_t *packet)
{
	if (request->protocol == IPPROTO_SCTP)
		return build_init(request, id, packet);
	return build_echo(request, id, packet);
}
