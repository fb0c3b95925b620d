/*
 * The datagram sockets, and which of them a probe leaves by. Runs in the front end.
 *
 * The kernel shows an answer's socket, destination and destination port, and what the quote has of
 * the payload, but not the quoted UDP header. So UDP probes are told apart
 *      - by destination port, where it changes from probe to probe: a socket uses each port once
 *        and is then retired;
 *      - by socket, where the destination port is fixed: a socket is retired when one of its probes
 *        is cancelled, which may still be answered;
 *      - by the nonce in the payload, where both ports are fixed. An answer whose quote does not
 *        show it counts only if one probe is open on these ports.
 * ICMP echo has no ports. The socket stands for the identifier, and the kernel shows the sequence,
 * of which a socket uses each once as it does with changing ports.
 *
 * Probes of one kind form a group with a queue and sockets of its own. A probe is queued until a
 * socket has room for its answer. A socket without open probes stays open until descriptors run
 * short, or until dgram_pool_tidy() if it is retired.
 */
#ifndef POSTERN_FRONTEND_TRANSPORT_DGRAM_POOL_H
#define POSTERN_FRONTEND_TRANSPORT_DGRAM_POOL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "frontend/transport/dgram.h"
#include "frontend/transport/dgram_socket.h"
#include "frontend/transport/dgram_table.h"

enum {
	/* 10,000 open probes need 55 with the default limit of the receive buffer, 4,096 to one
	 * fixed port need one each. */
	DGRAM_SOCKETS_MAX = 4096,
	/* Flows are spread over so many source ports or identifiers. */
	DGRAM_FLOW_SOCKETS = 64,
};

TAILQ_HEAD(dgram_probe_list, dgram_probe);
TAILQ_HEAD(dgram_socket_list, dgram_socket);
TAILQ_HEAD(dgram_group_list, dgram_group);

struct dgram_socket {
	int fd; /* -1: none */
	uint32_t open_probes;
	uint32_t answers_max;   /* how many answers its receive buffer holds */
	uint16_t source_port;   /* ICMP: identifier */
	uint32_t numbers_used;  /* how many numbers its protocol has chosen */
	uint8_t *numbers_taken; /* ICMP: which, as a bitmap; NULL: none */
	bool is_retired;        /* takes no more probes */
	int64_t idle_since_ns;  /* when its last open probe ended */
	struct dgram_group *group;
	TAILQ_ENTRY(dgram_socket) in_group;
	TAILQ_ENTRY(dgram_socket)
	in_list; /* `idle`, `closing` or `unused`, unless probes are open */
};

struct dgram_group {
	struct dgram_kind kind;
	struct dgram_probe_list queue;
	struct dgram_socket_list sockets;
	TAILQ_ENTRY(dgram_group) in_all;
	TAILQ_ENTRY(dgram_group) in_waiting; /* while its queue is not empty */
};

struct dgram_pool {
	const struct dgram_protocol *protocol;
	int epoll_fd;                     /* has all sockets, data.ptr is the struct dgram_socket */
	struct dgram_group_list all;      /* the last used first */
	struct dgram_group_list waiting;  /* with queued probes */
	struct dgram_socket_list idle;    /* the longest idle first */
	struct dgram_socket_list closing; /* for dgram_pool_tidy() */
	struct dgram_socket_list unused;  /* entries of `sockets` that were closed */
	uint32_t touched;                 /* entries of `sockets` that were ever used */
	uint32_t open;
	uint32_t open_max;
	int fd_limit;                          /* descriptors are below it */
	uint16_t source_ports[UINT16_MAX + 1]; /* how many sockets have each */
	/* By source port: until then an answer may be to a probe that was cancelled. */
	int64_t late_until_ns[UINT16_MAX + 1];
	struct dgram_socket sockets[DGRAM_SOCKETS_MAX];
	struct dgram_table table; /* the open probes */
};

/* `pool` is zeroed memory. The process ends if there is no epoll instance to be had. */
void dgram_pool_open(struct dgram_pool *pool, const struct dgram_protocol *protocol);
void dgram_pool_close(struct dgram_pool *pool);

/* Puts a probe at the end of its group's queue. */
void dgram_pool_enqueue(struct dgram_pool *pool, struct dgram_probe *probe);

/* The socket for the first probe in the queue, opened if need be. NULL: the probe has to wait, or,
 * with an errno in *error, it cannot be sent. */
struct dgram_socket *dgram_pool_choose(struct dgram_pool *pool, struct dgram_group *group,
				       int *error);

/* May the probe leave by this socket of its group now? */
bool dgram_pool_has_room(struct dgram_pool *pool, const struct dgram_socket *socket,
			 const struct probe_request *request);

/* Moves a queued probe to the open ones of a socket that has room, and chooses its number. */
void dgram_pool_place(struct dgram_pool *pool, struct dgram_probe *probe,
		      struct dgram_socket *socket);

/* Moves an open probe that has not left back to the head of the queue. */
void dgram_pool_put_back(struct dgram_pool *pool, struct dgram_probe *probe);

/* Takes a probe out of its queue, or from the open ones. It is free then. */
void dgram_pool_remove(struct dgram_pool *pool, struct dgram_probe *probe);

/* The same for a probe that may still be answered. */
void dgram_pool_cancel(struct dgram_pool *pool, struct dgram_probe *probe);

/* May an answer that shows no nonce be to an earlier probe with the same ports, cancelled since? */
bool dgram_pool_is_late(const struct dgram_pool *pool, const struct dgram_probe *probe,
			int64_t now_ns);

/* Counts a number that was chosen for a probe of the socket, and returns how many were before.
 * After `most` of them the socket is retired, or counts from 0 again if it is the only one that its
 * probes may leave by. */
uint32_t dgram_pool_count_number(struct dgram_socket *socket, uint32_t most);

/* Closes sockets that are of no more use, or have not been for a while. */
void dgram_pool_tidy(struct dgram_pool *pool);

#endif
