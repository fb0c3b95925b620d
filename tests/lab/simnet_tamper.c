/*
 * Forged and corrupt answers, to prove that a prober takes no answer that is not its own. Forged
 * ones have right checksums everywhere, so that only the forged field gives them away. Part of
 * simnet, a test program.
 */
#include "tests/lab/simnet_tamper.h"

#include <netinet/in.h>

enum {
	ERROR_HEADER_BYTES = 8,
	/* Flipped in an address's last byte: far from any address that the lab gives out. */
	ADDRESS_FLIP = 0x40,
	ID_FLIP = 0x5a5a,
};

static bool is_icmp(uint8_t protocol)
{
	return protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6;
}

static void flip16(uint8_t *transport, size_t length, size_t offset)
{
	if (offset + 2 <= length)
		put16(transport + offset, get16(transport + offset) ^ ID_FLIP);
}

static uint8_t other_protocol(uint8_t protocol)
{
	return protocol == IPPROTO_UDP ? IPPROTO_TCP : IPPROTO_UDP;
}

/* What identifies a probe within its protocol. An INIT is known by its initiate tag, since the
 * verification tag of an INIT is zero. */
static void forge_transport(uint32_t forge, uint8_t protocol, bool quoted, uint8_t *at,
			    size_t length)
{
	size_t sctp_tag = quoted ? 16 : 4;

	if (forge & FORGE_ID && is_icmp(protocol))
		flip16(at, length, 4);
	if (forge & FORGE_SEQUENCE && is_icmp(protocol))
		flip16(at, length, 6);
	if (forge & FORGE_SEQUENCE && protocol == IPPROTO_TCP)
		flip16(at, length, quoted ? 4 : 8);
	if (forge & (FORGE_ID | FORGE_SEQUENCE) && protocol == IPPROTO_SCTP)
		flip16(at, length, sctp_tag);
	if (is_icmp(protocol))
		return;
	/* An answer to the probe has the probe's ports the other way round. */
	if (forge & FORGE_SOURCE_PORT)
		flip16(at, length, quoted ? 0 : 2);
	if (forge & FORGE_DESTINATION_PORT)
		flip16(at, length, quoted ? 2 : 0);
}

static void forge_quote_header(uint32_t forge, const struct packet_view *probe, uint8_t *quote,
			       size_t length)
{
	size_t source_end = probe->family == 4 ? 15 : 23;
	size_t destination_end = probe->family == 4 ? 19 : 39;
	size_t protocol_at = probe->family == 4 ? 9 : 6;

	if (probe->family == 6 && probe->fragment)
		protocol_at = (size_t)(probe->transport - probe->bytes) - 8;
	if (forge & FORGE_SOURCE && source_end < length)
		quote[source_end] ^= ADDRESS_FLIP;
	if (forge & FORGE_DESTINATION && destination_end < length)
		quote[destination_end] ^= ADDRESS_FLIP;
	if (forge & FORGE_PROTOCOL && protocol_at < length)
		quote[protocol_at] = other_protocol(probe->protocol);
	if (probe->family == 4 && length >= (size_t)(quote[0] & 15) * 4)
		packet_ip4_checksum(quote);
}

static void tamper_error(const struct net_tamper *tamper, const struct packet_view *probe,
			 size_t extension_offset, struct packet *packet)
{
	uint8_t *error = packet_transport(packet);
	uint8_t *quote = error + ERROR_HEADER_BYTES;
	size_t length = packet->transport_bytes - ERROR_HEADER_BYTES;
	size_t transport_at = (size_t)(probe->transport - probe->bytes);

	if (length > transport_at)
		forge_transport(tamper->forge, probe->protocol, true, quote + transport_at,
				length - transport_at);
	forge_quote_header(tamper->forge, probe, quote, length);
	if (tamper->corrupt & CORRUPT_QUOTE && length > 6) {
		if (probe->family == 4)
			quote[0] = 0x4f; /* claims 60 bytes of header */
		else
			quote[6] = IPPROTO_HOPOPTS; /* claims an extension header */
	}
	if (tamper->corrupt & CORRUPT_EXTENSION && extension_offset)
		flip16(error, packet->transport_bytes, extension_offset + 2);
	if (tamper->corrupt & CORRUPT_LENGTH)
		error[probe->family == 4 ? 5 : 4] = 255;
}

void tamper_fields(const struct net_tamper *tamper, const struct packet_view *probe, bool is_error,
		   size_t extension_offset, struct packet *packet, struct packet_header *header)
{
	size_t kept = (size_t)tamper->truncate_bytes + (is_error ? ERROR_HEADER_BYTES : 0);

	if (is_error) {
		tamper_error(tamper, probe, extension_offset, packet);
	} else {
		size_t last = header->source.family == 4 ? 3 : 15;

		forge_transport(tamper->forge, probe->protocol, false, packet_transport(packet),
				packet->transport_bytes);
		if (tamper->forge & FORGE_DESTINATION)
			header->source.bytes[last] ^= ADDRESS_FLIP;
		if (tamper->forge & FORGE_SOURCE)
			header->destination.bytes[last] ^= ADDRESS_FLIP;
		if (tamper->forge & FORGE_PROTOCOL)
			header->protocol = other_protocol(probe->protocol);
	}
	if (tamper->truncate_bytes >= 0 && kept < packet->transport_bytes)
		packet->transport_bytes = kept;
}

size_t tamper_finished(const struct net_tamper *tamper, const struct packet_header *header,
		       struct packet *packet)
{
	uint8_t *start = packet_start(packet);
	int offset = packet_checksum_offset(header->protocol);

	if (tamper->corrupt & CORRUPT_CHECKSUM && offset >= 0)
		flip16(packet_transport(packet), packet->transport_bytes, (size_t)offset);
	if (tamper->corrupt & CORRUPT_IP_CHECKSUM && header->source.family == 4)
		flip16(start, packet_length(packet), 10);
	if (tamper->corrupt & CORRUPT_CUT)
		return packet->header_bytes + packet->transport_bytes / 2;
	return packet_length(packet);
}
