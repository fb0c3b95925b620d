/*
 * Reads IP headers, of answers and of the probes they quote. Pure functions in both processes.
 * Every byte may be forged, and every length is checked against what is really there.
 */
#include "common/wire.h"

#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>

enum { FRAGMENT_HEADER_BYTES = 8 }; /* RFC 8200 4.5 */

/* clang-format off */
static const struct wire_family ipv4 = {
	.family = 4, .address_bytes = 4, .header_bytes = 20,
	.ttl_at = 8, .protocol_at = 9, .length_at = 2, .source_at = 12,
	.icmp_protocol = IPPROTO_ICMP, .echo_request = ICMP_ECHO, .echo_reply = ICMP_ECHOREPLY,
};

static const struct wire_family ipv6 = {
	.family = 6, .address_bytes = 16, .header_bytes = 40,
	.ttl_at = 7, .protocol_at = 6, .length_at = 4, .source_at = 8,
	.icmp_protocol = IPPROTO_ICMPV6,
	.echo_request = ICMP6_ECHO_REQUEST, .echo_reply = ICMP6_ECHO_REPLY,
};
/* clang-format on */

const struct wire_family *wire_family(uint8_t family)
{
	return family == 4 ? &ipv4 : family == 6 ? &ipv6 : NULL;
}

bool wire_ip_read(const uint8_t *packet, size_t length, struct wire_ip *ip)
{
	const struct wire_family *wire = length > 0 ? wire_family(packet[0] >> 4) : NULL;
	uint16_t fragment_offset = 0;

	if (wire == NULL || length < wire->header_bytes)
		return false;
	ip->family = wire;
	ip->ttl = packet[wire->ttl_at];
	ip->protocol = packet[wire->protocol_at];
	ip->source = packet + wire->source_at;
	ip->destination = ip->source + wire->address_bytes;
	size_t header_bytes = wire->header_bytes;
	size_t total_bytes = wire_get16(packet + wire->length_at);
	if (wire->family == 4) {
		fragment_offset = wire_get16(packet + 6) & 0x1fff;
		header_bytes = (size_t)(packet[0] & 15) * 4;
	} else {
		total_bytes += wire->header_bytes;
	}
	ip->cut = total_bytes > length;
	if (ip->cut)
		total_bytes = length;
	if (ip->protocol == IPPROTO_FRAGMENT && wire->family == 6) {
		if (total_bytes < header_bytes + FRAGMENT_HEADER_BYTES)
			return false;
		ip->protocol = packet[header_bytes];
		fragment_offset = wire_get16(packet + header_bytes + 2) & 0xfff8;
		header_bytes += FRAGMENT_HEADER_BYTES;
	}
	if (header_bytes < wire->header_bytes || header_bytes > total_bytes || fragment_offset != 0)
		return false;
	ip->transport = packet + header_bytes;
	ip->transport_bytes = total_bytes - header_bytes;
	return true;
}
