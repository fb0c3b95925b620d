/*
 * IPv4 and IPv6 as data: what the socket interface calls the same thing in each family. Runs in the
 * front end.
 */
#ifndef POSTERN_FRONTEND_TRANSPORT_IP_FAMILY_H
#define POSTERN_FRONTEND_TRANSPORT_IP_FAMILY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

/* Socket options of `level`, but `domain`, the address family, and `icmp`, a protocol. */
struct ip_family {
	int domain;
	int level;
	int icmp; /* protocol of sockets */
	int ttl;
	int tos;
	int recverr; /* option, and type of the control message that has the error */
	int recverr_rfc4884;
	int mtu;
	int mtu_discover; /* IP_PMTUDISC_* are the same in both families */
};

/* `family` is 4 or 6. */
const struct ip_family *ip_family(uint8_t family);

/* The IPv6 label of a flow: never 0, which means none (RFC 6437 3). */
uint32_t ip_family_flow_label(uint32_t flow);

/* Is it all zero, which leaves the choice to the kernel? */
bool ip_family_is_unspecified(const uint8_t address[16]);

/* Fills *to and returns its length. The address is in network byte order, an IPv4 address in the
 * first four bytes. `ifindex` becomes the scope of an IPv6 address that is link-local. */
socklen_t ip_family_to_socket(uint8_t family, const uint8_t address[16], uint16_t port,
			      uint32_t ifindex, struct sockaddr_storage *to);

/* The reverse: the address of an AF_INET or AF_INET6 socket address, its rest zero. Returns the
 * scope of a link-local address, otherwise 0. */
uint32_t ip_family_from_socket(const struct sockaddr *from, uint8_t address[16]);

/* The port of an AF_INET or AF_INET6 socket address. */
uint16_t ip_family_port(const struct sockaddr_storage *address);

/* RFC 4291 2.5.6. The address is in network byte order. */
bool ip_family_is_link_local(uint8_t family, const uint8_t *address);

#endif
