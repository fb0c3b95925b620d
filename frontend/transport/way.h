/*
 * What each transport (broker_link.c, udp.c, tcp.c) offers to transport.c, which holds them
 * together. Runs in the front end.
 */
#ifndef POSTERN_FRONTEND_TRANSPORT_WAY_H
#define POSTERN_FRONTEND_TRANSPORT_WAY_H

#include "frontend/transport/transport.h"

/* The functions of struct transport_sink and of transport.h, for one transport. `self` is what its
 * open function returned. Each registers its own descriptors with the epoll instance that it was
 * given, for level-triggered EPOLLIN (EPOLLOUT only while something waits to leave), with data.ptr
 * set to its own struct way: so transport.c knows whom to call. */
struct way {
	const struct way_functions *functions;
	void *self;
};

struct way_functions {
	void (*probe)(void *self, const struct probe_request *request);
	void (*cancel)(void *self, uint32_t cookie);
	void (*flush)(void *self);
	/* Reads what has arrived on any of its descriptors. Returns how many results were reported.
	 */
	size_t (*dispatch)(void *self, size_t most_results);
	int64_t (*next_ns)(const void *self);
	void (*close)(void *self);
};

/* Each fills *way. `epoll_fd` and `sink` outlive it. `way` has the address that descriptors are to
 * be registered with. The results go straight to the sink. Of ready() transport.c calls the sink's
 * itself: a way reports its features to `sink` as given by transport.c. */
void broker_link_open(struct way *way, int epoll_fd, const char *broker_path,
		      const struct transport_sink *sink);
void udp_open(struct way *way, int epoll_fd, const struct transport_sink *sink);
void tcp_open(struct way *way, int epoll_fd, const struct transport_sink *sink);

#endif
