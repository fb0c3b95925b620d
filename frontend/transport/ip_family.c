/*
 * IPv4 and IPv6 as data. Pure functions in the front end.
 */
#include "frontend/transport/ip_family.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

enum { FLOW_LABEL_MAX = 0xfffff };

const struct ip_family *ip_family(uint8_t family)
{
	static const struct ip_family four = {
		.domain = AF_INET,
		.level = IPPROTO_IP,
		.icmp = IPPROTO_ICMP,
		.ttl = IP_TTL,
		.tos = IP_TOS,
		.recverr = IP_RECVERR,
		.recverr_rfc4884 = IP_RECVERR_RFC4884,
		.mtu = IP_MTU,
		.mtu_discover = IP_MTU_DISCOVER,
	};
	static const struct ip_family six = {
		.domain = AF_INET6,
		.level = IPPROTO_IPV6,
		.icmp = IPPROTO_ICMPV6,
		.ttl = IPV6_UNICAST_HOPS,
		.tos = IPV6_TCLASS,
		.recverr = IPV6_RECVERR,
		.recverr_rfc4884 = IPV6_RECVERR_RFC4884,
		.mtu = IPV6_MTU,
		.mtu_discover = IPV6_MTU_DISCOVER,
	};

	return family == 4 ? &four : &six;
}

uint32_t ip_family_flow_label(uint32_t flow)
{
	return flow % FLOW_LABEL_MAX + 1;
}

bool ip_family_is_unspecified(const uint8_t address[16])
{
	static const uint8_t unspecified[16];

	return memcmp(address, unspecified, sizeof(unspecified)) == 0;
}

socklen_t ip_family_to_socket(uint8_t family, const uint8_t address[16], uint16_t port,
			      uint32_t ifindex, struct sockaddr_storage *to)
{
	struct sockaddr_in *four = (struct sockaddr_in *)to;
	struct sockaddr_in6 *six = (struct sockaddr_in6 *)to;

	memset(to, 0, sizeof(*to));
	if (family == 4) {
		four->sin_family = AF_INET;
		four->sin_port = htons(port);
		memcpy(&four->sin_addr, address, sizeof(four->sin_addr));
		return sizeof(*four);
	}
	six->sin6_family = AF_INET6;
	six->sin6_port = htons(port);
	memcpy(&six->sin6_addr, address, sizeof(six->sin6_addr));
	if (IN6_IS_ADDR_LINKLOCAL(&six->sin6_addr))
		six->sin6_scope_id = ifindex;
	return sizeof(*six);
}

uint32_t ip_family_from_socket(const struct sockaddr *from, uint8_t address[16])
{
	const struct sockaddr_in *four = (const struct sockaddr_in *)from;
	const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)from;

	memset(address, 0, 16);
	if (from->sa_family == AF_INET) {
		memcpy(address, &four->sin_addr, sizeof(four->sin_addr));
		return 0;
	}
	memcpy(address, &six->sin6_addr, sizeof(six->sin6_addr));
	return six->sin6_scope_id;
}

uint16_t ip_family_port(const struct sockaddr_storage *address)
{
	const struct sockaddr_in *four = (const struct sockaddr_in *)address;
	const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)address;

	return ntohs(address->ss_family == AF_INET ? four->sin_port : six->sin6_port);
}

bool ip_family_is_link_local(uint8_t family, const uint8_t *address)
{
	return family == 6 && address[0] == 0xfe && (address[1] & 0xc0) == 0x80;
}
