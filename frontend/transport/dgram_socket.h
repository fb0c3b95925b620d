/*
 * Opens the datagram sockets that probes leave by. Runs in the front end.
 */
#ifndef POSTERN_FRONTEND_TRANSPORT_DGRAM_SOCKET_H
#define POSTERN_FRONTEND_TRANSPORT_DGRAM_SOCKET_H

#include <stdbool.h>
#include <stdint.h>

/* Probes of one kind share sockets: what a control message cannot set for a single packet. */
struct dgram_kind {
	uint32_t ifindex;     /* the socket is bound to this interface; 0: none */
	uint16_t local_port;  /* 0: the kernel's choice */
	uint16_t flow_socket; /* which of the sockets that flows are spread over, from 1; 0: none */
	uint8_t family;       /* 4 or 6 */
	uint8_t protocol;     /* IPPROTO_UDP, or IPPROTO_ICMP in either family */
	bool dont_fragment;
	uint8_t source[16]; /* the socket is bound to it; all zero: any */
	bool fixed_port;    /* the source port tells its probes apart, not the destination port */
};

/* Returns a bound, non-blocking descriptor that reports ICMP errors with their time stamps, or a
 * negative errno. *answers_max is how many answers its receive buffer holds at least,
 * *source_port the port or echo identifier that it has. */
int dgram_socket_open(const struct dgram_kind *kind, uint32_t *answers_max, uint16_t *source_port);

#endif
