/*
 * What this host's kernel would do with a probe: asked by connecting a UDP socket, which sends
 * nothing and needs no privilege. Runs in the front end, before and after it enters its sandbox.
 */
#ifndef POSTERN_FRONTEND_TRANSPORT_LOCAL_ROUTE_H
#define POSTERN_FRONTEND_TRANSPORT_LOCAL_ROUTE_H

#include "frontend/transport/transport.h"

struct local_route {
	uint8_t source[16]; /* the source address that the kernel chooses */
	uint32_t mtu_bytes; /* of the first link, whatever path MTU the kernel has cached */
};

/* Looks up family, destination, source, ifindex, tos and mark of the request. Returns 0, or an
 * errno as connect(2) gives it: ENETUNREACH, EACCES (broadcast), EADDRNOTAVAIL (the source is not
 * local). */
int local_route(const struct probe_request *request, struct local_route *route);

/* The index of an interface by its name (`length` bytes, no NUL needed); 0: there is none. Opens no
 * file and no netlink socket, unlike if_nametoindex(3). */
uint32_t interface_index(const char *name, size_t length);

#endif
