/*
 * Source-address choice: asks the kernel (rtnetlink RTM_GETROUTE, RFC 3549; no privilege needed)
 * which source address, interface and MTU a probe would use. Runs in the front end; distrusts only
 * message lengths.
 */
#ifndef POSTERN_FRONTEND_ROUTE_H
#define POSTERN_FRONTEND_ROUTE_H

#include <stdbool.h>
#include <stdint.h>

struct route_query {
	uint8_t family;          /* 4 or 6 */
	uint8_t tos;             /* policy routing may look at it (IPv4) */
	bool has_mark;           /* `mark` is to be used */
	uint32_t mark;           /* routing mark */
	uint32_t ifindex;        /* outgoing interface, 0: any */
	uint8_t destination[16]; /* network byte order, IPv4 in the first four bytes */
	uint8_t source[16];      /* wanted source address, all zero: the kernel's choice */
};

struct route_answer {
	uint8_t source[16];
	uint32_t ifindex;
	uint32_t mtu_bytes;      /* of the route or its interface, without the learnt path MTU */
	uint32_t path_mtu_bytes; /* what the kernel has learnt for this destination, or mtu_bytes */
};

struct route_table;

/* Opens the netlink sockets; NULL with errno set on failure. Call it before confinement: later
 * calls use only send, recv and clock system calls on the descriptors opened here. */
struct route_table *route_open(void);
void route_close(struct route_table *table);

/* Answers from a cache that is dropped when the kernel reports that addresses, links, routes or
 * rules changed. Returns 0, or the errno a send would give: ENETUNREACH, EHOSTUNREACH, EACCES,
 * ENETDOWN; EADDRNOTAVAIL when `source` is not an address of this host. */
int route_lookup(struct route_table *table, const struct route_query *query,
		 struct route_answer *answer);

/* The descriptor that becomes readable when the kernel has changes to tell; route_lookup() reads
 * them by itself, so polling it is optional. */
int route_monitor_fd(const struct route_table *table);

#endif
