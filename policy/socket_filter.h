/*
 * What the kernel lets into the broker's sockets: classic BPF programs that pass only packets which
 * could be answers to this broker's own probes. Runs in the broker while it starts. The programs
 * cannot be changed afterwards: they are locked, and setsockopt is gone.
 */
#ifndef POSTERN_POLICY_SOCKET_FILTER_H
#define POSTERN_POLICY_SOCKET_FILTER_H

#include <stddef.h>
#include <stdint.h>

/* The port numbers that this broker holds, host byte order: source ports of its probes and ICMP
 * echo identifiers. At most 200: a cBPF conditional jump reaches 255 instructions. */
struct socket_filter_ports {
	const uint16_t *port;
	size_t count;
};

/* Lets nothing in. Returns 0, or −1 with errno. */
int socket_filter_reject_all(int socket);

/* Lets in answers alone: the exact program for a raw socket of `family` (4 or 6) and `protocol`
 * (IPPROTO_ICMP for ICMP of either family, _UDP, _TCP, _SCTP). Returns 0, or −1 with errno. */
int socket_filter_exact(int socket, uint8_t family, uint8_t protocol,
			const struct socket_filter_ports *ports);

/* Makes the program on the socket final. Returns 0, or −1 with errno. */
int socket_filter_lock(int socket);

#endif
