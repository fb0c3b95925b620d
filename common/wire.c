/*
 * Reads IP headers, of answers and of the probes they quote. Pure functions in both processes;
 * every byte may be forged and every length is checked against what is really there.
 */
#include "common/wire.h"

#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <sys/socket.h>

enum {
	IPV4_HEADER_BYTES = 20,
	IPV6_HEADER_BYTES = 40,
	/* A probe leaves with at most a fragment header; middle boxes may add one or two more. */
	IPV6_EXTENSIONS_MAX = 4,
};

static const struct wire_family families[] = {
	{
		.family = 4,
		.domain = AF_INET,
		.address_bytes = 4,
		.header_bytes = IPV4_HEADER_BYTES,
		.icmp_protocol = IPPROTO_ICMP,
		.echo_request = ICMP_ECHO,
		.echo_reply = ICMP_ECHOREPLY,
		.unreachable = ICMP_DEST_UNREACH,
		.time_exceeded = ICMP_TIME_EXCEEDED,
		.parameter_problem = ICMP_PARAMETERPROB,
		.packet_too_big = ICMP_DEST_UNREACH,
		.packet_too_big_code = ICMP_FRAG_NEEDED,
		.extension_length = 5,
		.extension_unit = 4,
	},
	{
		.family = 6,
		.domain = AF_INET6,
		.address_bytes = 16,
		.header_bytes = IPV6_HEADER_BYTES,
		.icmp_protocol = IPPROTO_ICMPV6,
		.echo_request = ICMP6_ECHO_REQUEST,
		.echo_reply = ICMP6_ECHO_REPLY,
		.unreachable = ICMP6_DST_UNREACH,
		.time_exceeded = ICMP6_TIME_EXCEEDED,
		.parameter_problem = ICMP6_PARAM_PROB,
		.packet_too_big = ICMP6_PACKET_TOO_BIG,
		.packet_too_big_code = -1,
		.extension_length = 4,
		.extension_unit = 8,
	},
};

const struct wire_family *wire_family(uint8_t family)
{
	if (family == 4)
		return &families[0];
	return family == 6 ? &families[1] : NULL;
}

static bool read_ipv4(const uint8_t *packet, size_t length, struct wire_ip *ip)
{
	size_t header_bytes = (size_t)(packet[0] & 15) * 4;

	if (header_bytes < IPV4_HEADER_BYTES || header_bytes > length)
		return false;
	ip->tos = packet[1];
	ip->ttl = packet[8];
	ip->protocol = packet[9];
	ip->later_fragment = (wire_get16(packet + 6) & 0x1fff) != 0;
	ip->source = packet + 12;
	ip->destination = packet + 16;
	ip->transport = packet + header_bytes;
	ip->transport_bytes = length - header_bytes;

	size_t total_bytes = wire_get16(packet + 2);
	if (total_bytes < header_bytes)
		return false;
	if (total_bytes - header_bytes < ip->transport_bytes)
		ip->transport_bytes = total_bytes - header_bytes;
	return true;
}

static bool is_ipv6_extension(uint8_t protocol)
{
	return protocol == IPPROTO_HOPOPTS || protocol == IPPROTO_ROUTING ||
	       protocol == IPPROTO_DSTOPTS || protocol == IPPROTO_FRAGMENT;
}

static bool read_ipv6(const uint8_t *packet, size_t length, struct wire_ip *ip)
{
	ip->tos = (uint8_t)(wire_get16(packet) >> 4);
	ip->ttl = packet[7];
	ip->protocol = packet[6];
	ip->later_fragment = false;
	ip->source = packet + 8;
	ip->destination = packet + 24;

	size_t payload_bytes = wire_get16(packet + 4);
	size_t end = length;
	if (payload_bytes < length - IPV6_HEADER_BYTES)
		end = IPV6_HEADER_BYTES + payload_bytes;

	size_t at = IPV6_HEADER_BYTES;
	for (int i = 0; is_ipv6_extension(ip->protocol); i++) {
		if (i == IPV6_EXTENSIONS_MAX || end - at < 8)
			return false;
		const uint8_t *header = packet + at;
		bool is_fragment = ip->protocol == IPPROTO_FRAGMENT;
		size_t header_bytes = is_fragment ? 8 : ((size_t)header[1] + 1) * 8;
		if (header_bytes > end - at)
			return false;
		ip->protocol = header[0];
		at += header_bytes;
		if (is_fragment && (wire_get16(header + 2) & 0xfff8) != 0) {
			ip->later_fragment = true;
			break;
		}
	}
	ip->transport = packet + at;
	ip->transport_bytes = end - at;
	return true;
}

bool wire_ip_read(const uint8_t *packet, size_t length, struct wire_ip *ip)
{
	if (length < 1)
		return false;
	ip->family = wire_family(packet[0] >> 4);
	if (ip->family == NULL || length < ip->family->header_bytes)
		return false;
	if (ip->family->family == 4)
		return read_ipv4(packet, length, ip);
	return read_ipv6(packet, length, ip);
}
