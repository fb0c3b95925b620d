/*
 * Answers to ARP requests (RFC 826) and neighbour solicitations (RFC 4861), so that the host finds
 * the gateway that simnet plays. Part of simnet, a test program.
 */
#include "tests/lab/simnet_neighbour.h"

#include <net/ethernet.h>
#include <netinet/in.h>
#include <string.h>

enum { ETHERNET = 14, ARP = 28, SOLICITATION = 24, ADVERTISEMENT = 32 };

static bool is_gateway(const struct net *net, uint8_t family, const uint8_t *bytes)
{
	struct net_address address = {.family = family};

	memcpy(address.bytes, bytes, family == 4 ? 4 : 16);
	for (size_t i = 0; i < net->gateway_count; i++) {
		if (net_address_equal(&net->gateways[i], &address))
			return true;
	}
	return false;
}

static void put_ethernet(uint8_t *out, const uint8_t *to, const uint8_t *from, uint32_t type)
{
	memcpy(out, to, 6);
	memcpy(out + 6, from, 6);
	put16(out + 12, type);
}

static size_t answer_arp(const struct net *net, const uint8_t *frame, size_t length,
			 const uint8_t *mac, uint8_t *out)
{
	const uint8_t *request = frame + ETHERNET;
	uint8_t *reply = out + ETHERNET;

	/* Ethernet and IPv4, and a request */
	if (length < ETHERNET + ARP || get32(request) != 0x00010800u ||
	    get32(request + 4) != 0x06040001u || !is_gateway(net, 4, request + 24))
		return 0;
	put_ethernet(out, frame + 6, mac, ETHERTYPE_ARP);
	put32(reply, 0x00010800u);
	put32(reply + 4, 0x06040002u);
	memcpy(reply + 8, mac, 6);
	memcpy(reply + 14, request + 24, 4);
	memcpy(reply + 18, request + 8, 10);
	return ETHERNET + ARP;
}

static size_t answer_solicitation(const struct net *net, const struct packet_view *view,
				  const uint8_t *frame, const uint8_t *mac, uint8_t *out)
{
	static struct packet packet;
	struct packet_header header = {.protocol = IPPROTO_ICMPV6, .ttl = 255};
	static const uint8_t unspecified[16];
	uint8_t *at = packet_transport(&packet);
	const uint8_t *target = view->transport + 8;
	bool unspecified_source = memcmp(view->source.bytes, unspecified, 16) == 0;

	/* An unspecified source: a host checks whether the address is free, and may have it. */
	if (view->ttl != 255 || view->transport_bytes < SOLICITATION || unspecified_source ||
	    !is_gateway(net, 6, target) || !packet_transport_intact(view))
		return 0;
	memset(at, 0, ADVERTISEMENT);
	at[0] = 136;
	at[4] = 0xe0; /* router, solicited, override */
	memcpy(at + 8, target, 16);
	at[24] = 2; /* target link-layer address, one unit of eight bytes */
	at[25] = 1;
	memcpy(at + 26, mac, 6);
	packet.transport_bytes = ADVERTISEMENT;
	header.source.family = 6;
	memcpy(header.source.bytes, target, 16);
	header.destination = view->source;
	packet_finish(&packet, &header);
	put_ethernet(out, frame + 6, mac, ETHERTYPE_IPV6);
	memcpy(out + ETHERNET, packet_start(&packet), packet_length(&packet));
	return ETHERNET + packet_length(&packet);
}

size_t neighbour_answer(const struct net *net, const uint8_t *frame, size_t length,
			const uint8_t *mac, uint8_t *out)
{
	struct packet_view view;

	if (length < ETHERNET)
		return 0;
	if (get16(frame + 12) == ETHERTYPE_ARP)
		return answer_arp(net, frame, length, mac, out);
	if (get16(frame + 12) != ETHERTYPE_IPV6 ||
	    !packet_read(frame + ETHERNET, length - ETHERNET, &view) ||
	    view.protocol != IPPROTO_ICMPV6 || view.transport_bytes < 1 || view.transport[0] != 135)
		return 0;
	return answer_solicitation(net, &view, frame, mac, out);
}
