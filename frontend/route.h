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

/* Answers from a cache of bounded size, a few tens of nanoseconds on a hit; a miss costs a system
 * call or two. The cache is dropped when the kernel reports that addresses, links, routes or rules
 * changed, and an answer is used for two seconds at most (a path MTU is learnt without a report).
 * Returns 0, or the errno a send would give: ENETUNREACH (also when no source address can be
 * chosen, and for blackhole routes), EHOSTUNREACH, EACCES (prohibited; broadcast and multicast
 * destinations), ENETDOWN (the interface is down), ENODEV (there is no such interface);
 * EADDRNOTAVAIL when `source` is not an address of this host. Any other errno says that the kernel
 * could not be asked. *answer is all zero then. */
int route_lookup(struct route_table *table, const struct route_query *query,
		 struct route_answer *answer);

/* The index of an interface, or the name of an index (`name` has room for IF_NAMESIZE bytes): 0 or
 * an errno, ENODEV if there is none. Cached like routes. */
int route_interface_index(struct route_table *table, const char *name, uint32_t *ifindex);
int route_interface_name(struct route_table *table, uint32_t ifindex, char *name);

/* Reads what the kernel has reported and drops the caches if anything changed. Not required: the
 * functions above do it by themselves when the last time was a few milliseconds ago (a tick of the
 * coarse clock). */
void route_check_changes(struct route_table *table);

/* The descriptor that becomes readable when the kernel has changes to tell. */
int route_monitor_fd(const struct route_table *table);

/* For a loop that polls anyway, and so spares each probe the system call of looking for changes.
 * From the first call on the functions above look no longer: the descriptor is to be polled for
 * reading in each wait, and route_check_changes() called when it is ready, before the next lookup.
 * −1 while nothing is remembered that a change could make untrue, so that changes do not wake those
 * who are idle. */
int route_watch(struct route_table *table);

#endif
