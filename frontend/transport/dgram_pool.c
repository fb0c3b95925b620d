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
#include <sys/resource.h>
#include <unistd.h>

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

static bool close_longest_idle(struct dgram_pool *pool)
{
	struct dgram_socket *socket = TAILQ_FIRST(&pool->idle);

	if (socket != NULL)
		close_socket(pool, socket);
	return socket != NULL;
}

void dgram_pool_tidy(struct dgram_pool *pool)
{
	struct dgram_socket *socket, *next;

	for (socket = TAILQ_FIRST(&pool->closing); socket != NULL; socket = next) {
		next = TAILQ_NEXT(socket, in_list);
		if (socket->is_retired || TAILQ_EMPTY(&socket->group->queue))
			close_socket(pool, socket);
	}
}

/* A local port may be held by a socket of another kind, with DF or without, until that closes. */
static bool holds_local_port(const struct dgram_pool *pool, const struct dgram_kind *kind)
{
	const struct dgram_group *group;

	TAILQ_FOREACH (group, &pool->all, in_all)
		if (group->kind.local_port == kind->local_port &&
		    group->kind.family == kind->family && !TAILQ_EMPTY(&group->sockets))
			return true;
	return false;
}

/* Descriptors, buffers or a port that another probe will give back. */
static bool is_passing(const struct dgram_pool *pool, const struct dgram_kind *kind, int error)
{
	return error == EMFILE || error == ENFILE || error == ENOMEM || error == ENOBUFS ||
	       (error == EADDRINUSE && holds_local_port(pool, kind));
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

	if (pool->open >= pool->open_max && !close_longest_idle(pool))
		return NULL;
	do
		new.fd = dgram_socket_open(&group->kind, &new.answers_max, &new.source_port);
	while ((new.fd == -EMFILE || new.fd == -ENFILE) && close_longest_idle(pool));
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
	if (--socket->open_probes == 0)
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

void dgram_pool_cancel(struct dgram_pool *pool, struct dgram_probe *probe)
{
	if (probe->state == DGRAM_OPEN && probe->socket->group->kind.fixed_port)
		probe->socket->is_retired = true;
	dgram_pool_remove(pool, probe);
}

/* --- opening and closing ---------------------------------------------------------------------- */

/* Half of the descriptors: the other transports need some, too. */
static uint32_t open_max(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur / 2 > DGRAM_SOCKETS_MAX)
		return DGRAM_SOCKETS_MAX;
	return limit.rlim_cur < 2 ? 1 : (uint32_t)(limit.rlim_cur / 2);
}

void dgram_pool_open(struct dgram_pool *pool, const struct dgram_protocol *protocol)
{
	pool->protocol = protocol;
	TAILQ_INIT(&pool->all);
	TAILQ_INIT(&pool->waiting);
	TAILQ_INIT(&pool->idle);
	TAILQ_INIT(&pool->closing);
	TAILQ_INIT(&pool->unused);
	pool->open_max = open_max();
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
