/*
 * Reads and makes IP packets for simnet, with every checksum. A part of a test program; distrusts
 * what it receives, since a prober under test may send anything.
 */
#include "tests/lab/simnet_packet.h"

#include <netinet/in.h>
#include <string.h>

uint32_t packet_sum(uint32_t sum, const void *bytes, size_t length)
{
	const uint8_t *at = bytes;
	uint64_t wide = sum;

	for (; length > 1; length -= 2, at += 2)
		wide += get16(at);
	if (length)
		wide += (uint32_t)at[0] << 8;
	while (wide >> 32)
		wide = (wide & 0xffffffffu) + (wide >> 32);
	return (uint32_t)wide;
}

uint16_t packet_sum_fold(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

/* CRC32c (RFC 9260, appendix A), bit by bit: an INIT is short. */
static uint32_t crc32c(const uint8_t *bytes, size_t length, size_t hole)
{
	uint32_t crc = 0xffffffffu;

	for (size_t i = 0; i < length; i++) {
		crc ^= i >= hole && i < hole + 4 ? 0 : bytes[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
	}
	return ~crc;
}

/* The CRC is transmitted least significant byte first. */
static void put_crc32c(uint8_t *at, uint32_t crc)
{
	at[0] = (uint8_t)crc;
	at[1] = (uint8_t)(crc >> 8);
	at[2] = (uint8_t)(crc >> 16);
	at[3] = (uint8_t)(crc >> 24);
}

static uint32_t pseudo_header(const struct net_address *source,
			      const struct net_address *destination, uint8_t protocol,
			      size_t length)
{
	size_t address_bytes = source->family == 4 ? 4 : 16;
	uint32_t sum = (uint32_t)protocol + (uint32_t)(length >> 16) + (uint32_t)(length & 0xffff);

	sum = packet_sum(sum, source->bytes, address_bytes);
	return packet_sum(sum, destination->bytes, address_bytes);
}

int packet_checksum_offset(uint8_t protocol)
{
	switch (protocol) {
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		return 2;
	case IPPROTO_UDP:
		return 6;
	case IPPROTO_TCP:
		return 16;
	case IPPROTO_SCTP:
		return 8;
	default:
		return -1;
	}
}

static bool read_ip4(const uint8_t *bytes, size_t length, struct packet_view *view)
{
	size_t header_bytes = (size_t)(bytes[0] & 15) * 4;
	size_t total_bytes;
	uint16_t fragment;

	if (length < 20 || header_bytes < 20)
		return false;
	total_bytes = get16(bytes + 2);
	if (total_bytes > length || header_bytes > total_bytes)
		return false;
	if (packet_sum_fold(packet_sum(0, bytes, header_bytes)) != 0)
		return false;
	fragment = get16(bytes + 6);
	view->tos = bytes[1];
	view->ttl = bytes[8];
	view->protocol = bytes[9];
	view->dont_fragment = fragment & 0x4000;
	view->more_fragments = fragment & 0x2000;
	view->fragment_offset_bytes = (fragment & 0x1fffu) * 8;
	view->fragment = view->more_fragments || view->fragment_offset_bytes;
	view->fragment_id = get16(bytes + 4);
	view->source.family = view->destination.family = 4;
	memcpy(view->source.bytes, bytes + 12, 4);
	memcpy(view->destination.bytes, bytes + 16, 4);
	view->total_bytes = total_bytes;
	view->transport = bytes + header_bytes;
	view->transport_bytes = total_bytes - header_bytes;
	return true;
}

/* Walks the extension headers to the transport header. */
static bool read_ip6_chain(struct packet_view *view, uint8_t next)
{
	const uint8_t *at = view->bytes + 40;
	size_t left = view->total_bytes - 40;

	while (next == IPPROTO_HOPOPTS || next == IPPROTO_DSTOPTS || next == IPPROTO_ROUTING ||
	       next == IPPROTO_FRAGMENT) {
		size_t bytes;

		if (left < 8)
			return false;
		bytes = next == IPPROTO_FRAGMENT ? 8 : ((size_t)at[1] + 1) * 8;
		if (bytes > left)
			return false;
		if (next == IPPROTO_FRAGMENT) {
			view->fragment = true;
			view->fragment_offset_bytes = get16(at + 2) & 0xfff8u;
			view->more_fragments = at[3] & 1;
			view->fragment_id = get32(at + 4);
		}
		next = at[0];
		at += bytes;
		left -= bytes;
		if (view->fragment_offset_bytes)
			break;
	}
	view->protocol = next;
	view->transport = at;
	view->transport_bytes = left;
	return true;
}

static bool read_ip6(const uint8_t *bytes, size_t length, struct packet_view *view)
{
	if (length < 40)
		return false;
	view->total_bytes = 40 + (size_t)get16(bytes + 4);
	if (view->total_bytes > length)
		return false;
	view->tos = (uint8_t)(get16(bytes) >> 4);
	view->flow_label = get32(bytes) & 0xfffff;
	view->ttl = bytes[7];
	view->dont_fragment = true;
	view->source.family = view->destination.family = 6;
	memcpy(view->source.bytes, bytes + 8, 16);
	memcpy(view->destination.bytes, bytes + 24, 16);
	return read_ip6_chain(view, bytes[6]);
}

bool packet_read(const uint8_t *bytes, size_t length, struct packet_view *view)
{
	memset(view, 0, sizeof(*view));
	if (length < 1)
		return false;
	view->bytes = bytes;
	view->family = bytes[0] >> 4;
	if (view->family == 4)
		return read_ip4(bytes, length, view);
	return view->family == 6 && read_ip6(bytes, length, view);
}

bool packet_transport_intact(const struct packet_view *view)
{
	const uint8_t *at = view->transport;
	size_t length = view->transport_bytes;
	uint32_t sum = 0;

	switch (view->protocol) {
	case IPPROTO_SCTP: {
		uint8_t right[4];

		if (length < 12)
			return false;
		put_crc32c(right, crc32c(at, length, 8));
		return memcmp(right, at + 8, 4) == 0;
	}
	case IPPROTO_UDP:
		if (length < 8 || get16(at + 4) != length)
			return false;
		if (get16(at + 6) == 0) /* RFC 768: none; RFC 8200 forbids that */
			return view->family == 4;
		break;
	case IPPROTO_TCP:
		if (length < 20 || (size_t)(at[12] >> 4) * 4 > length || at[12] >> 4 < 5)
			return false;
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		if (length < 8)
			return false;
		break;
	default:
		return true;
	}
	if (view->protocol != IPPROTO_ICMP)
		sum = pseudo_header(&view->source, &view->destination, view->protocol, length);
	return packet_sum_fold(packet_sum(sum, at, length)) == 0;
}

void packet_ip4_checksum(uint8_t *header)
{
	put16(header + 10, 0);
	put16(header + 10, packet_sum_fold(packet_sum(0, header, (size_t)(header[0] & 15) * 4)));
}

size_t packet_header_bytes(const struct packet_header *header)
{
	if (header->source.family == 4)
		return 20u + header->ip_option_bytes;
	return 40u + 8u * header->hop_by_hop + 8u * header->destination_options;
}

static void finish_transport(struct packet *packet, const struct packet_header *header)
{
	uint8_t *at = packet_transport(packet);
	size_t length = packet->transport_bytes;
	int offset = packet_checksum_offset(header->protocol);
	uint32_t sum = 0;
	uint16_t checksum;

	if (header->protocol == IPPROTO_SCTP && length >= 12) {
		put_crc32c(at + 8, crc32c(at, length, 8));
		return;
	}
	if (offset < 0 || (size_t)offset + 2 > length)
		return;
	put16(at + offset, 0);
	if (header->protocol != IPPROTO_ICMP)
		sum = pseudo_header(&header->source, &header->destination, header->protocol,
				    length);
	checksum = packet_sum_fold(packet_sum(sum, at, length));
	if (checksum == 0 && header->protocol == IPPROTO_UDP)
		checksum = 0xffff;
	put16(at + offset, checksum);
}

/* A router alert (RFC 2113), then no-operations. */
static void put_ip4_options(uint8_t *at, size_t length)
{
	static const uint8_t router_alert[4] = {148, 4, 0, 0};

	memset(at, 1, length);
	if (length >= sizeof(router_alert))
		memcpy(at, router_alert, sizeof(router_alert));
}

static void finish_ip4(uint8_t *at, const struct packet *packet, const struct packet_header *header)
{
	memset(at, 0, 20);
	at[0] = (uint8_t)(0x40 | packet->header_bytes / 4);
	at[1] = header->tos;
	put16(at + 2, (uint32_t)packet_length(packet));
	put16(at + 4, header->id);
	at[8] = header->ttl;
	at[9] = header->protocol;
	memcpy(at + 12, header->source.bytes, 4);
	memcpy(at + 16, header->destination.bytes, 4);
	put_ip4_options(at + 20, header->ip_option_bytes);
	packet_ip4_checksum(at);
}

static void finish_ip6(uint8_t *at, const struct packet *packet, const struct packet_header *header)
{
	uint8_t *next = at + 6;
	uint8_t *end = at + 40;

	put32(at, 6u << 28 | (uint32_t)header->tos << 20);
	put16(at + 4, (uint32_t)(packet_length(packet) - 40));
	at[7] = header->ttl;
	memcpy(at + 8, header->source.bytes, 16);
	memcpy(at + 24, header->destination.bytes, 16);
	for (int i = 0; i < 2; i++) {
		static const uint8_t pad[6] = {1, 4}; /* PadN, four bytes of nothing */

		if (!(i == 0 ? header->hop_by_hop : header->destination_options))
			continue;
		*next = i == 0 ? IPPROTO_HOPOPTS : IPPROTO_DSTOPTS;
		next = end;
		end[1] = 0;
		memcpy(end + 2, pad, sizeof(pad));
		end += 8;
	}
	*next = header->protocol;
}

void packet_finish(struct packet *packet, const struct packet_header *header)
{
	finish_transport(packet, header);
	packet->header_bytes = packet_header_bytes(header);
	if (header->source.family == 4)
		finish_ip4(packet_start(packet), packet, header);
	else
		finish_ip6(packet_start(packet), packet, header);
}
