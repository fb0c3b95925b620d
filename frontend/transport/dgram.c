/*
 * Probes by datagram sockets, whose error queues get the ICMP errors about them. Runs in the
 * unprivileged front end. Distrusts what the network sends; the kernel has checked addresses, ports
 * and ICMP checksums.
 *
 * Sockets are opened and closed while sending only, never while answers are read: so an answer
 * always belongs to the socket that it was read from.
 */
#include "frontend/transport/dgram.h"

#include <err.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "frontend/process/clock.h"
#include "frontend/process/random.h"
#include "frontend/transport/dgram_message.h"
#include "frontend/transport/dgram_pool.h"
#include "frontend/transport/ip_family.h"
#include "frontend/transport/local_route.h"
#include "frontend/transport/probe_socket.h"

enum {
	/* Packets between two readings of the clock: with more, the send times get vague. */
	SEND_BATCH = 4,
	/* Measured: a packet leaves after 3/8 of the time that the kernel takes for it, or after
	 * this time: what follows is the driver's, or the answer's on a path within this host. */
	LEAVE_MAX_NS = 1000,
	/* What a packet takes at most. The rest of a long call is an interruption, which must not
	 * make round-trip times too short. */
	EACH_MAX_NS = 50 * NS_PER_US,
	/* A pending ICMP error makes a send fail, and another one may come before the next try. */
	SEND_TRIES = 16,
	/* How soon queued probes are tried again that the kernel did not take. */
	RETRY_NS = NS_PER_MS,
	RECEIVE_BATCH = 64,
	EVENTS = 64,
	/* A flood of packets that answer nothing does not keep dispatch() from returning. */
	ROUNDS_MAX = 64,
};

struct dgram {
	const struct dgram_protocol *protocol;
	const struct transport_sink *sink;
	bool is_ready;
	bool in_dispatch;
	int64_t retry_ns; /* when queued probes are tried again; INT64_MAX: there are none */
	struct dgram_probe_list failed;
	uint8_t fill_byte;
	size_t filled_bytes; /* of `fill` that are fill_byte */
	uint8_t fill[UINT16_MAX];
	struct mmsghdr messages[RECEIVE_BATCH];
	struct dgram_outgoing outgoing[SEND_BATCH];
	struct dgram_incoming incoming[RECEIVE_BATCH];
	struct dgram_pool pool;
	struct dgram_probe probes[TRANSPORT_SLOTS];
};

/* --- sending ---------------------------------------------------------------------------------- */

/* Has `fill` begin with what the payload of the probe is filled with. */
static void prepare_fill(struct dgram *dgram, const struct probe_request *request)
{
	size_t bytes = dgram_payload_bytes(request);

	if (dgram->fill_byte == request->payload_byte && dgram->filled_bytes >= bytes)
		return;
	memset(dgram->fill, request->payload_byte, bytes);
	dgram->fill_byte = request->payload_byte;
	dgram->filled_bytes = bytes;
}

/* Those that leave together share the socket and `fill`. */
static bool may_join(struct dgram *dgram, const struct dgram_socket *socket,
		     const struct dgram_probe *first, const struct dgram_probe *probe)
{
	return probe != NULL && probe->request.payload_byte == first->request.payload_byte &&
	       dgram_payload_bytes(&probe->request) <= dgram->filled_bytes &&
	       dgram_pool_has_room(&dgram->pool, socket, &probe->request);
}

/* The packets of one call leave at equal distances. */
static void note_sent(struct dgram_probe *const *probes, int count, int64_t from_ns, int64_t to_ns)
{
	int64_t each_ns = (to_ns - from_ns) / count;
	if (each_ns > EACH_MAX_NS)
		each_ns = EACH_MAX_NS;
	int64_t leave_ns = each_ns * 3 / 8;
	if (leave_ns > LEAVE_MAX_NS)
		leave_ns = LEAVE_MAX_NS;
	for (int i = 0; i < count; i++)
		probes[i]->sent_ns = from_ns + each_ns * i + leave_ns;
}

/* Over IPv6 a host without any address of the scope has no route, but EADDRNOTAVAIL. A source that
 * is not local has different errors in sendmsg(2), and one in bind(2). */
static int send_error(const struct probe_request *request, int error)
{
	struct local_route route;

	if (ip_family_is_unspecified(request->source))
		return error == EADDRNOTAVAIL ? ENETUNREACH : error;
	int route_error = local_route(request, &route);
	return route_error != 0 ? route_error : error;
}

/* The errors that a pending ICMP message has (Linux icmp_err_convert[], icmpv6_err_convert()), and
 * a missing route as well. They may arrive faster than probes leave. */
static bool is_pending(const struct probe_request *request, int error)
{
	struct local_route route;

	switch (error) {
	case ECONNREFUSED:
	case EHOSTUNREACH:
	case ENETUNREACH:
	case EHOSTDOWN:
	case EACCES:
	case EPROTO:
	case ENOPROTOOPT:
		return local_route(request, &route) == 0;
	default:
		return false;
	}
}

static void compose(struct dgram *dgram, struct dgram_probe *const *probes, int i, bool flow_label)
{
	dgram_message_compose(&dgram->messages[i].msg_hdr, &dgram->outgoing[i], probes[i],
			      dgram->fill, flow_label);
}

static void fail(struct dgram *dgram, struct dgram_probe *probe, int error)
{
	dgram_pool_remove(&dgram->pool, probe);
	probe->state = DGRAM_FAILED;
	probe->error = error;
	probe->mtu_bytes = 0;
	TAILQ_INSERT_TAIL(&dgram->failed, probe, queue);
}

/* Returns how many of the probes are done with, sent or failed: fewer than `count` if the kernel
 * takes no more for now. */
static int send_messages(struct dgram *dgram, struct dgram_probe *const *probes, int count)
{
	int fd = probes[0]->socket->fd;
	int done = 0, tries = 0;

	while (done < count) {
		int64_t from_ns = clock_now_ns();
		int sent = sendmmsg(fd, dgram->messages + done, (unsigned)(count - done),
				    MSG_DONTWAIT | MSG_NOSIGNAL);
		if (sent > 0) {
			note_sent(probes + done, sent, from_ns, clock_now_ns());
			done += sent;
			tries = 0;
			continue;
		}
		int error = errno;
		if (transport_error_passes(error))
			break;
		/* A flow label of our choice is refused while an exclusive lease of one exists in
		 * this network namespace. The kernel's own label is constant for constant ports. */
		if (error == EINVAL)
			compose(dgram, probes, done, false);
		if (++tries < SEND_TRIES)
			continue;
		error = send_error(&probes[done]->request, error);
		if (transport_error_passes(error) || is_pending(&probes[done]->request, error))
			break;
		fail(dgram, probes[done], error);
		done++;
		tries = 0;
	}
	return done;
}

/* Sends what is first in the queue by this socket. Returns false if the kernel takes no more. */
static bool send_batch(struct dgram *dgram, struct dgram_group *group, struct dgram_socket *socket)
{
	struct dgram_probe *probes[SEND_BATCH], *probe = TAILQ_FIRST(&group->queue);
	int count = 0;

	prepare_fill(dgram, &probe->request);
	do {
		probes[count] = probe;
		dgram_pool_place(&dgram->pool, probe, socket);
		probe->nonce_bytes = (uint8_t)dgram_nonce_bytes(&probe->request);
		random_bytes(probe->nonce, sizeof(probe->nonce));
		probe->may_be_answered = false;
		dgram->protocol->finish(probe);
		compose(dgram, probes, count++, true);
		probe = TAILQ_FIRST(&group->queue);
	} while (count < SEND_BATCH && may_join(dgram, socket, probes[0], probe));

	int done = send_messages(dgram, probes, count);
	for (int i = count - 1; i >= done; i--)
		dgram_pool_put_back(&dgram->pool, probes[i]);
	return done == count;
}

/* Sends what is in the queue. Failures are reported before more is sent: about each packet that is
 * too long the kernel puts an entry into the error queue, which has room for answers only. */
static void send_group(struct dgram *dgram, struct dgram_group *group)
{
	struct dgram_socket *socket;
	int error;

	while (TAILQ_EMPTY(&dgram->failed) && !TAILQ_EMPTY(&group->queue)) {
		struct dgram_probe *first = TAILQ_FIRST(&group->queue);
		socket = dgram_pool_choose(&dgram->pool, group, &error);
		if (error != 0)
			fail(dgram, first, send_error(&first->request, error));
		else if (socket == NULL || !send_batch(dgram, group, socket))
			return;
	}
}

static void send_waiting(struct dgram *dgram)
{
	struct dgram_group *group, *next;

	dgram_pool_tidy(&dgram->pool);
	for (group = TAILQ_FIRST(&dgram->pool.waiting); group != NULL; group = next) {
		next = TAILQ_NEXT(group, in_waiting);
		send_group(dgram, group);
	}
	dgram->retry_ns = TAILQ_EMPTY(&dgram->pool.waiting) ? INT64_MAX : clock_now_ns() + RETRY_NS;
}

/* --- answers ---------------------------------------------------------------------------------- */

/* The slot is free before the sink is called, which may use it again. */
static void report(struct dgram *dgram, struct dgram_probe *probe, struct probe_result *result)
{
	result->cookie = probe->request.cookie;
	if (probe->state == DGRAM_FAILED)
		TAILQ_REMOVE(&dgram->failed, probe, queue);
	dgram_pool_remove(&dgram->pool, probe);
	dgram->sink->result(dgram->sink->context, result);
}

/* An error of this host's own: a probe was longer than the link allows. sendmsg(2) has said so; the
 * MTU is only here. */
static void note_mtu(struct dgram *dgram, const struct dgram_socket *socket,
		     const uint8_t destination[16], uint32_t mtu_bytes)
{
	struct dgram_probe *probe;

	TAILQ_FOREACH (probe, &dgram->failed, queue)
		if (probe->socket == socket && probe->error == EMSGSIZE &&
		    memcmp(probe->request.destination, destination, 16) == 0)
			probe->mtu_bytes = mtu_bytes;
}

/* When a batch of answers is read: the clocks. */
struct read_time {
	int64_t now_ns;
	int64_t wall_offset_ns;
};

static int64_t rtt_ns(const struct dgram_probe *probe, int64_t received_wall_ns,
		      const struct read_time *time)
{
	if (received_wall_ns == 0)
		return time->now_ns - probe->sent_ns;
	return clock_rtt_ns(probe->sent_ns, received_wall_ns, time->wall_offset_ns, time->now_ns);
}

/* Returns how many results were reported: 0 or 1. */
static size_t read_answer(struct dgram *dgram, const struct dgram_socket *socket,
			  struct mmsghdr *received, const struct read_time *time)
{
	struct msghdr *message = &received->msg_hdr;
	const struct dgram_incoming *memory = message->msg_name;
	struct probe_socket_error found = probe_socket_error(message);
	struct probe_result result = {
		.kind = RESULT_REPLY,
		.known = KNOWN_REPLY_TTL,
		.reply_ttl = found.reply_ttl,
	};
	struct extension_info extension;
	struct dgram_shown shown = {
		.payload = memory->data,
		.payload_bytes = received->msg_len,
	};

	if (message->msg_namelen == 0)
		return 0;
	result.responder_ifindex =
		ip_family_from_socket((const struct sockaddr *)&memory->peer, shown.destination);
	if (found.error != NULL && found.error->ee_origin == SO_EE_ORIGIN_LOCAL) {
		note_mtu(dgram, socket, shown.destination, found.error->ee_info);
		return 0;
	}
	shown.number = ip_family_port(&memory->peer);
	if (!dgram->protocol->read(&shown, socket->group->kind.family, found.error != NULL))
		return 0;
	struct dgram_probe *probe = dgram_table_match(&dgram->pool.table, socket, &shown);
	if (probe == NULL)
		return 0;
	bool shows_nonce = probe->nonce_bytes > 0 && shown.payload_bytes > 0;
	if (!shows_nonce && dgram_pool_is_late(&dgram->pool, probe, time->now_ns)) {
		probe->may_be_answered = true;
		return 0;
	}

	memcpy(result.responder, shown.destination, sizeof(shown.destination));
	if (found.error != NULL)
		probe_socket_icmp(&found, dgram_hidden_bytes(&probe->request), memory->data,
				  received->msg_len, &extension, &result);
	result.rtt_ns = rtt_ns(probe, found.received_wall_ns, time);
	report(dgram, probe, &result);
	return 1;
}

/* Reads one batch from the error queue (MSG_ERRQUEUE) or the receive queue (0). Returns how many
 * messages there were. */
static size_t read_batch(struct dgram *dgram, const struct dgram_socket *socket, int queue,
			 size_t *reported)
{
	for (unsigned i = 0; i < RECEIVE_BATCH; i++)
		dgram_message_prepare(&dgram->messages[i].msg_hdr, &dgram->incoming[i]);
	int count =
		recvmmsg(socket->fd, dgram->messages, RECEIVE_BATCH, MSG_DONTWAIT | queue, NULL);
	if (count <= 0)
		return 0;
	struct read_time time = {clock_now_ns(), clock_wall_offset_ns()};
	for (int i = 0; i < count; i++)
		*reported += read_answer(dgram, socket, &dgram->messages[i], &time);
	return (size_t)count;
}

/* Returns whether there may be more. Reading the receive queue also takes a pending error that has
 * no entry in the error queue, for which epoll would go on waking. */
static bool read_socket(struct dgram *dgram, const struct epoll_event *event, size_t *reported)
{
	const struct dgram_socket *socket = event->data.ptr;
	size_t errors = read_batch(dgram, socket, MSG_ERRQUEUE, reported);
	size_t datagrams = 0;

	if (event->events & EPOLLIN || errors == 0)
		datagrams = read_batch(dgram, socket, 0, reported);
	return errors == RECEIVE_BATCH || datagrams == RECEIVE_BATCH;
}

static size_t read_sockets(struct dgram *dgram, size_t most_results)
{
	struct epoll_event events[EVENTS];
	size_t reported = 0;
	bool is_more = true;

	for (int round = 0; round < ROUNDS_MAX && is_more && reported < most_results; round++) {
		int count = epoll_wait(dgram->pool.epoll_fd, events, EVENTS, 0);

		is_more = count == EVENTS;
		for (int i = 0; i < count; i++)
			is_more |= read_socket(dgram, &events[i], &reported);
	}
	return reported;
}

static size_t report_failed(struct dgram *dgram, size_t most_results)
{
	struct dgram_probe *probe;
	size_t reported = 0;

	for (; reported < most_results && (probe = TAILQ_FIRST(&dgram->failed)) != NULL;
	     reported++) {
		struct probe_result result = {
			.kind = RESULT_FAILED,
			.error = probe->error,
			.mtu_bytes = probe->mtu_bytes,
		};
		report(dgram, probe, &result);
	}
	return reported;
}

/* --- the functions of way.h ------------------------------------------------------------------- */

static void probe(void *self, const struct probe_request *request)
{
	struct dgram *dgram = self;
	struct dgram_probe *slot = &dgram->probes[request->cookie % TRANSPORT_SLOTS];

	slot->request = *request;
	dgram_pool_enqueue(&dgram->pool, slot);
}

static void cancel(void *self, uint32_t cookie)
{
	struct dgram *dgram = self;
	struct dgram_probe *slot = &dgram->probes[cookie % TRANSPORT_SLOTS];

	if (slot->state == DGRAM_FREE || slot->request.cookie != cookie)
		return;
	if (slot->state == DGRAM_FAILED)
		TAILQ_REMOVE(&dgram->failed, slot, queue);
	dgram_pool_cancel(&dgram->pool, slot);
}

static void flush(void *self)
{
	struct dgram *dgram = self;

	if (!dgram->in_dispatch)
		send_waiting(dgram);
}

/* A system call filter answers before the kernel looks at the descriptor. */
static bool may_send_and_receive(void)
{
	return sendmmsg(-1, NULL, 0, 0) < 0 && errno == EBADF &&
	       recvmmsg(-1, NULL, 0, 0, NULL) < 0 && errno == EBADF;
}

static size_t dispatch(void *self, size_t most_results)
{
	struct dgram *dgram = self;
	size_t reported;

	dgram->in_dispatch = true;
	if (!dgram->is_ready) {
		dgram->is_ready = true;
		dgram->sink->ready(dgram->sink->context,
				   may_send_and_receive() ? dgram->protocol->features() : 0);
	}
	reported = read_sockets(dgram, most_results);
	reported += report_failed(dgram, most_results);
	dgram->in_dispatch = false;
	send_waiting(dgram);
	return reported;
}

static int64_t next_ns(const void *self)
{
	const struct dgram *dgram = self;

	return TAILQ_EMPTY(&dgram->failed) ? dgram->retry_ns : 0;
}

static void close_all(void *self)
{
	struct dgram *dgram = self;

	dgram_pool_close(&dgram->pool);
	free(dgram);
}

void dgram_open(struct way *way, int epoll_fd, const struct dgram_protocol *protocol,
		const struct transport_sink *sink)
{
	static const struct way_functions functions = {
		probe, cancel, flush, dispatch, next_ns, close_all,
	};
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = way};
	struct dgram *dgram = calloc(1, sizeof(*dgram));

	if (dgram == NULL)
		err(EXIT_FAILURE, "memory for probes");
	dgram->protocol = protocol;
	dgram->sink = sink;
	dgram->retry_ns = INT64_MAX;
	TAILQ_INIT(&dgram->failed);
	dgram_pool_open(&dgram->pool, protocol);
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, dgram->pool.epoll_fd, &event) != 0)
		err(EXIT_FAILURE, "epoll for probes");
	*way = (struct way){&functions, dgram};
}
