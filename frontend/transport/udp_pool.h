/*
 * The sockets of UDP probes, and which of them a probe leaves by. Runs in the front end.
 *
 * The kernel shows an answer's socket, destination and destination port, and what the quote has of
 * the payload, but not the quoted UDP header. So probes are told apart
 *      - by destination port, where it changes from probe to probe: a socket uses each port once
 *        and is then retired;
 *      - by socket, where the destination port is fixed: a socket is retired when one of its probes
 *        is cancelled, which may still be answered;
 *      - by the nonce in the payload, where both ports are fixed. An answer whose quote does not
 *        show it counts only if one probe is open on these ports.
 *
 * Probes of one kind form a group with a queue and sockets of its own. A probe is queued until a
 * socket has room for its answer. A socket without open probes stays open until descriptors run
 * short, or until udp_pool_tidy() if it is retired.
 */
#ifndef POSTERN_FRONTEND_TRANSPORT_UDP_POOL_H
#define POSTERN_FRONTEND_TRANSPORT_UDP_POOL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "frontend/transport/udp_socket.h"
#include "frontend/transport/udp_table.h"

enum {
	/* 10,000 open probes need 55 with the default limit of the receive buffer, 4,096 to one
	 * fixed port need one each. */
	UDP_SOCKETS_MAX = 4096,
};

TAILQ_HEAD(udp_probe_list, udp_probe);
TAILQ_HEAD(udp_socket_list, udp_socket);
TAILQ_HEAD(udp_group_list, udp_group);

struct udp_socket {
	int fd; /* -1: none */
	uint32_t open_probes;
	uint32_t answers_max; /* how many answers its receive buffer holds */
	uint16_t source_port;
	uint16_t next_port; /* destination port, where it changes */
	bool is_retired;    /* takes no more probes */
	struct udp_group *group;
	TAILQ_ENTRY(udp_socket) in_group;
	TAILQ_ENTRY(udp_socket) in_list; /* `idle`, `closing` or `unused`, unless probes are open */
};

struct udp_group {
	struct udp_kind kind;
	struct udp_probe_list queue;
	struct udp_socket_list sockets;
	TAILQ_ENTRY(udp_group) in_all;
	TAILQ_ENTRY(udp_group) in_waiting; /* while its queue is not empty */
};

struct udp_pool {
	int epoll_fd;                   /* has all sockets, data.ptr is the struct udp_socket */
	struct udp_group_list all;      /* the last used first */
	struct udp_group_list waiting;  /* with queued probes */
	struct udp_socket_list idle;    /* the longest idle first */
	struct udp_socket_list closing; /* for udp_pool_tidy() */
	struct udp_socket_list unused;  /* entries of `sockets` that were closed */
	uint32_t touched;               /* entries of `sockets` that were ever used */
	uint32_t open;
	uint32_t open_max;
	uint16_t source_ports[UINT16_MAX + 1]; /* how many sockets have each */
	struct udp_socket sockets[UDP_SOCKETS_MAX];
	struct udp_table table; /* the open probes */
};

/* `pool` is zeroed memory. The process ends if there is no epoll instance to be had. */
void udp_pool_open(struct udp_pool *pool);
void udp_pool_close(struct udp_pool *pool);

/* Puts a probe at the end of its group's queue. */
void udp_pool_enqueue(struct udp_pool *pool, struct udp_probe *probe);

/* The socket for the first probe in the queue, opened if need be. NULL: the probe has to wait, or,
 * with an errno in *error, it cannot be sent. */
struct udp_socket *udp_pool_choose(struct udp_pool *pool, struct udp_group *group, int *error);

/* May the probe leave by this socket of its group now? */
bool udp_pool_has_room(struct udp_pool *pool, const struct udp_socket *socket,
		       const struct probe_request *request);

/* Moves a queued probe to the open ones of a socket that has room, and chooses its port. */
void udp_pool_place(struct udp_pool *pool, struct udp_probe *probe, struct udp_socket *socket);

/* Moves an open probe that has not left back to the head of the queue. */
void udp_pool_put_back(struct udp_pool *pool, struct udp_probe *probe);

/* Takes a probe out of its queue, or from the open ones. It is free then. */
void udp_pool_remove(struct udp_pool *pool, struct udp_probe *probe);

/* The same for a probe that may still be answered. */
void udp_pool_cancel(struct udp_pool *pool, struct udp_probe *probe);

/* Closes sockets that are of no more use. */
void udp_pool_tidy(struct udp_pool *pool);

#endif
