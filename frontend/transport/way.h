/*
 * What each transport (broker_link.c, udp.c, tcp.c, ping.c) offers to transport.c, which holds them
 * together. Runs in the front end.
 */
#ifndef POSTERN_FRONTEND_TRANSPORT_WAY_H
#define POSTERN_FRONTEND_TRANSPORT_WAY_H

#include "frontend/transport/transport.h"

/* The functions of transport.h, for one transport. `self` is what its open function set. */
struct way {
	const struct way_functions *functions;
	void *self;
};

struct way_functions {
	void (*probe)(void *self, const struct probe_request *request);
	void (*cancel)(void *self, uint32_t cookie);
	void (*flush)(void *self);
	/* Reads what has arrived on any of its descriptors. Returns how many results were reported.
	 * Is called once soon after the way was opened, and when one of its descriptors is ready or
	 * next_ns() has come. */
	size_t (*dispatch)(void *self, size_t most_results);
	int64_t (*next_ns)(const void *self);
	void (*close)(void *self);
};

/* Each fills *way and registers its descriptors with the epoll instance that it was given, for
 * level-triggered EPOLLIN (EPOLLOUT only while something waits to leave), with data.ptr set to
 * `way`. A transport with many sockets registers them with an epoll instance of its own and that
 * one with `epoll_fd`, so that its dispatch() knows which are ready.
 *
 * `epoll_fd`, `way` and `sink` outlive the transport. `sink` is transport.c's own, which passes on
 * to the commands'; its functions are called from within dispatch() only. Each transport calls
 * ready() with its own features once, all but the broker link at the first dispatch(): by then the
 * process has given up what it does not keep, and the features are true for what is left. Or it
 * calls down() instead. After down() it ignores what it is asked for. Right before, it reports its
 * open probes as failed by EAGAIN, which has them sent again, if there is another way.
 */
void broker_link_open(struct way *way, int epoll_fd, const char *broker_path,
		      const struct transport_sink *sink);
void udp_open(struct way *way, int epoll_fd, const struct transport_sink *sink);
void tcp_open(struct way *way, int epoll_fd, const struct transport_sink *sink);
void ping_open(struct way *way, int epoll_fd, const struct transport_sink *sink);

#endif
