/*
 * The datagram sockets. Runs in the front end. All input is the front end's and the kernel's.
 */
#include "frontend/transport/dgram_pool.h"

#include <err.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "frontend/process/clock.h"
#include "frontend/transport/probe_socket.h"

/* A packet lives hardly longer. */
static const int64_t LATE_NS = INT64_C(10) * NS_PER_S;

/* After a burst to one port many sockets are idle, and other programs may want their ports. */
static const int64_t IDLE_NS = NS_PER_S;

/* --- groups ----------------------------------------------------------------------------------- */

static struct dgram_kind kind_of(const struct probe_request *request)
{
	bool is_flow = (request->flags & REQUEST_FLOW) != 0;
	struct dgram_kind kind = {
		.ifindex = request->ifindex,
		.local_port = request->local_port,
		.family = request->family,
		.protocol = request->protocol,
		.dont_fragment = (request->flags & REQUEST_DONT_FRAGMENT) != 0,
	};

	/* IPv6 ping sockets ignore the source in a control message. */
	if (request->protocol == IPPROTO_ICMP)
		memcpy(kind.source, request->source, sizeof(kind.source));
	if (kind.local_port == 0 && is_flow)
		kind.flow_socket = (uint16_t)(request->flow % DGRAM_FLOW_SOCKETS + 1);
	kind.fixed_port = request->protocol == IPPROTO_UDP && request->port != 0 && !is_flow &&
			  kind.local_port == 0;
	return kind;
}

static bool is_same_kind(const struct dgram_kind *a, const struct dgram_kind *b)
{
	return a->ifindex == b->ifindex && a->local_port == b->local_port &&
	       a->flow_socket == b->flow_socket && a->family == b->family &&
	       a->dont_fragment == b->dont_fragment && a->fixed_port == b->fixed_port &&
	       memcmp(a->source, b->source, sizeof(a->source)) == 0;
}

/* All its probes must have the same source port or identifier. */
static bool has_one_socket(const struct dgram_group *group)
{
	return group->kind.local_port != 0 || group->kind.flow_socket != 0;
}

static struct dgram_group *find_group(struct dgram_pool *pool, const struct dgram_kind *kind)
{
	struct dgram_group *group;

	TAILQ_FOREACH (group, &pool->all, in_all)
		if (is_same_kind(&group->kind, kind))
			break;
	return group;
}

static struct dgram_group *take_group(struct dgram_pool *pool, const struct dgram_kind *kind)
{
	struct dgram_group *group = find_group(pool, kind);

	if (group != NULL) {
		TAILQ_REMOVE(&pool->all, group, in_all);
	} else {
		group = calloc(1, sizeof(*group));
		if (group == NULL)
			err(EXIT_FAILURE, "memory for probes");
		group->kind = *kind;
		TAILQ_INIT(&group->queue);
		TAILQ_INIT(&group->sockets);
	}
	TAILQ_INSERT_HEAD(&pool->all, group, in_all);
	return group;
}

static void free_group_if_empty(struct dgram_pool *pool, struct dgram_group *group)
{
	if (!TAILQ_EMPTY(&group->queue) || !TAILQ_EMPTY(&group->sockets))
		return;
	TAILQ_REMOVE(&pool->all, group, in_all);
	free(group);
}

/* --- sockets ---------------------------------------------------------------------------------- */

/* Where a socket without open probes is. A local port is given back soon: others may want it. */
static struct dgram_socket_list *resting_list(struct dgram_pool *pool,
					      const struct dgram_socket *socket)
{
	bool is_closing = socket->is_retired || socket->group->kind.local_port != 0;

	return is_closing ? &pool->closing : &pool->idle;
}

static void close_socket(struct dgram_pool *pool, struct dgram_socket *socket)
{
	struct dgram_group *group = socket->group;

	TAILQ_REMOVE(resting_list(pool, socket), socket, in_list);
	TAILQ_REMOVE(&group->sockets, socket, in_group);
	close(socket->fd);
	free(socket->numbers_taken);
	socket->fd = -1;
	TAILQ_INSERT_HEAD(&pool->unused, socket, in_list);
	pool->source_ports[socket->source_port]--;
	pool->open--;
	free_group_if_empty(pool, group);
}

/* The one that has been idle for longest, of those with a source port; 0: any. */
static bool close_idle(struct dgram_pool *pool, uint16_t source_port)
{
	struct dgram_socket *socket;

	TAILQ_FOREACH (socket, &pool->idle, in_list)
		if (source_port == 0 || socket->source_port == source_port)
			break;
	if (socket != NULL)
		close_socket(pool, socket);
	return socket != NULL;
}

static void close_long_idle(struct dgram_pool *pool, int64_t idle_before_ns)
{
	struct dgram_socket *socket, *next;

	for (socket = TAILQ_FIRST(&pool->idle);
	     socket != NULL && socket->idle_since_ns < idle_before_ns; socket = next) {
		next = TAILQ_NEXT(socket, in_list);
		if (socket->group->kind.fixed_port)
			close_socket(pool, socket);
	}
}

void dgram_pool_tidy(struct dgram_pool *pool)
{
	struct dgram_socket *socket, *next;

	if (!TAILQ_EMPTY(&pool->idle))
		close_long_idle(pool, clock_now_ns() - IDLE_NS);
	for (socket = TAILQ_FIRST(&pool->closing); socket != NULL; socket = next) {
		next = TAILQ_NEXT(socket, in_list);
		if (socket->is_retired || TAILQ_EMPTY(&socket->group->queue))
			close_socket(pool, socket);
	}
}

/* A local port may be held by a socket of another kind, with DF or without, until that closes. */
static bool is_passing(const struct dgram_pool *pool, const struct dgram_kind *kind, int error)
{
	return transport_error_passes(error) ||
	       (error == EADDRINUSE && pool->source_ports[kind->local_port] > 0);
}

/* Closes an idle socket that has what an open one lacks. */
static bool make_room(struct dgram_pool *pool, const struct dgram_kind *kind, int error)
{
	if (error == EADDRINUSE && kind->local_port != 0)
		return close_idle(pool, kind->local_port);
	return (error == EMFILE || error == ENFILE) && close_idle(pool, 0);
}

/* Returns a descriptor or a negative errno. */
static int open_descriptor(struct dgram_pool *pool, struct dgram_socket *socket)
{
	int fd =
		dgram_socket_open(&socket->group->kind, &socket->answers_max, &socket->source_port);

	if (fd < pool->fd_limit)
		return fd;
	close(fd);
	return -EMFILE;
}

static struct dgram_socket *take_entry(struct dgram_pool *pool)
{
	struct dgram_socket *socket = TAILQ_FIRST(&pool->unused);

	if (socket == NULL)
		return &pool->sockets[pool->touched++];
	TAILQ_REMOVE(&pool->unused, socket, in_list);
	return socket;
}

static struct dgram_socket *open_socket(struct dgram_pool *pool, struct dgram_group *group,
					int *error)
{
	struct dgram_socket new = {.group = group}, *socket;
	struct epoll_event event = {.events = EPOLLIN};

	if (pool->open >= pool->open_max && !close_idle(pool, 0))
		return NULL;
	do
		new.fd = open_descriptor(pool, &new);
	while (new.fd < 0 && make_room(pool, &group->kind, -new.fd));
	if (new.fd < 0) {
		*error = is_passing(pool, &group->kind, -new.fd) ? 0 : -new.fd;
		return NULL;
	}

	socket = take_entry(pool);
	*socket = new;
	event.data.ptr = socket;
	if (epoll_ctl(pool->epoll_fd, EPOLL_CTL_ADD, socket->fd, &event) != 0)
		err(EXIT_FAILURE, "epoll for probes");
	TAILQ_INSERT_HEAD(&group->sockets, socket, in_group);
	TAILQ_INSERT_TAIL(resting_list(pool, socket), socket, in_list);
	pool->source_ports[socket->source_port]++;
	pool->open++;
	return socket;
}

bool dgram_pool_has_room(struct dgram_pool *pool, const struct dgram_socket *socket,
			 const struct probe_request *request)
{
	if (socket->is_retired || socket->open_probes == socket->answers_max)
		return false;
	return !socket->group->kind.fixed_port ||
	       !dgram_table_has(&pool->table, socket, request->destination, request->port);
}

struct dgram_socket *dgram_pool_choose(struct dgram_pool *pool, struct dgram_group *group,
				       int *error)
{
	const struct probe_request *request = &TAILQ_FIRST(&group->queue)->request;
	struct dgram_socket *socket;

	*error = 0;
	TAILQ_FOREACH (socket, &group->sockets, in_group)
		if (dgram_pool_has_room(pool, socket, request))
			return socket;
	if (has_one_socket(group) && !TAILQ_EMPTY(&group->sockets))
		return NULL;
	return open_socket(pool, group, error);
}

/* --- probes ----------------------------------------------------------------------------------- */

void dgram_pool_enqueue(struct dgram_pool *pool, struct dgram_probe *probe)
{
	struct dgram_kind kind = kind_of(&probe->request);
	struct dgram_group *group = take_group(pool, &kind);

	probe->group = group;
	probe->state = DGRAM_QUEUED;
	if (TAILQ_EMPTY(&group->queue))
		TAILQ_INSERT_TAIL(&pool->waiting, group, in_waiting);
	TAILQ_INSERT_TAIL(&group->queue, probe, queue);
}

static void dequeue(struct dgram_pool *pool, struct dgram_probe *probe)
{
	struct dgram_group *group = probe->group;

	TAILQ_REMOVE(&group->queue, probe, queue);
	if (TAILQ_EMPTY(&group->queue))
		TAILQ_REMOVE(&pool->waiting, group, in_waiting);
}

static void leave_socket(struct dgram_pool *pool, struct dgram_probe *probe)
{
	struct dgram_socket *socket = probe->socket;

	dgram_table_remove(probe);
	if (--socket->open_probes > 0)
		return;
	socket->idle_since_ns = clock_now_ns();
	TAILQ_INSERT_TAIL(resting_list(pool, socket), socket, in_list);
}

uint32_t dgram_pool_count_number(struct dgram_socket *socket, uint32_t most)
{
	uint32_t before = socket->numbers_used++;

	if (socket->numbers_used < most)
		return before;
	socket->numbers_used = 0;
	socket->is_retired = !has_one_socket(socket->group);
	return before;
}

void dgram_pool_place(struct dgram_pool *pool, struct dgram_probe *probe,
		      struct dgram_socket *socket)
{
	struct dgram_group *group = socket->group;

	dequeue(pool, probe);
	if (socket->open_probes++ == 0)
		TAILQ_REMOVE(resting_list(pool, socket), socket, in_list);
	probe->state = DGRAM_OPEN;
	probe->socket = socket;
	probe->number = pool->protocol->choose_number(pool, socket, &probe->request);
	dgram_table_add(&pool->table, probe);
	/* The first socket of a group is the one that most likely has room. */
	if (group->kind.fixed_port || socket->open_probes == socket->answers_max) {
		TAILQ_REMOVE(&group->sockets, socket, in_group);
		TAILQ_INSERT_TAIL(&group->sockets, socket, in_group);
	}
}

void dgram_pool_put_back(struct dgram_pool *pool, struct dgram_probe *probe)
{
	struct dgram_group *group = probe->socket->group;

	leave_socket(pool, probe);
	probe->group = group;
	probe->state = DGRAM_QUEUED;
	if (TAILQ_EMPTY(&group->queue))
		TAILQ_INSERT_HEAD(&pool->waiting, group, in_waiting);
	TAILQ_INSERT_HEAD(&group->queue, probe, queue);
}

void dgram_pool_remove(struct dgram_pool *pool, struct dgram_probe *probe)
{
	if (probe->state == DGRAM_OPEN) {
		leave_socket(pool, probe);
	} else if (probe->state == DGRAM_QUEUED) {
		dequeue(pool, probe);
		free_group_if_empty(pool, probe->group);
	}
	probe->state = DGRAM_FREE;
}

/* The ports do not tell the probes apart. Nor do they in a flow, but there the caller sees to it:
 * tracepath has one probe open at a time, and goes on when it has waited for that. */
static bool has_fixed_ports(const struct probe_request *request)
{
	return request->protocol == IPPROTO_UDP && request->port != 0 && request->local_port != 0 &&
	       !(request->flags & REQUEST_FLOW);
}

void dgram_pool_cancel(struct dgram_pool *pool, struct dgram_probe *probe)
{
	if (probe->state == DGRAM_OPEN) {
		struct dgram_socket *socket = probe->socket;

		socket->is_retired |= socket->group->kind.fixed_port;
		/* Of a probe that may have been answered no answer is expected any more. */
		if (has_fixed_ports(&probe->request) && !probe->may_be_answered)
			pool->late_until_ns[socket->source_port] = probe->sent_ns + LATE_NS;
	}
	dgram_pool_remove(pool, probe);
}

bool dgram_pool_is_late(const struct dgram_pool *pool, const struct dgram_probe *probe,
			int64_t now_ns)
{
	return has_fixed_ports(&probe->request) &&
	       now_ns < pool->late_until_ns[probe->socket->source_port];
}

/* --- opening and closing ---------------------------------------------------------------------- */

/* Half of the descriptors: the other transports need some, too. */
static uint32_t open_max(int fd_limit)
{
	if (fd_limit / 2 > DGRAM_SOCKETS_MAX)
		return DGRAM_SOCKETS_MAX;
	return fd_limit < 2 ? 1 : (uint32_t)fd_limit / 2;
}

void dgram_pool_open(struct dgram_pool *pool, const struct dgram_protocol *protocol)
{
	pool->protocol = protocol;
	TAILQ_INIT(&pool->all);
	TAILQ_INIT(&pool->waiting);
	TAILQ_INIT(&pool->idle);
	TAILQ_INIT(&pool->closing);
	TAILQ_INIT(&pool->unused);
	pool->fd_limit = probe_socket_fd_limit();
	pool->open_max = open_max(pool->fd_limit);
	pool->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (pool->epoll_fd < 0)
		err(EXIT_FAILURE, "epoll for probes");
}

void dgram_pool_close(struct dgram_pool *pool)
{
	struct dgram_group *group;

	for (uint32_t i = 0; i < pool->touched; i++)
		if (pool->sockets[i].fd >= 0) {
			close(pool->sockets[i].fd);
			free(pool->sockets[i].numbers_taken);
		}
	while ((group = TAILQ_FIRST(&pool->all)) != NULL) {
		TAILQ_REMOVE(&pool->all, group, in_all);
		free(group);
	}
	close(pool->epoll_fd);
}
