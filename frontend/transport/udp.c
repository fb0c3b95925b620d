/*
 * UDP probes by ordinary sockets, whose error queues get the ICMP errors about them. Runs in the
 * unprivileged front end. Distrusts what the network sends; the kernel has checked addresses and
 * ports.
 *
 * Sockets are opened and closed while sending only, never while answers are read: so an answer
 * always belongs to the socket that it was read from.
 */
#include "frontend/transport/way.h"

#include <err.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/record.h"
#include "frontend/process/clock.h"
#include "frontend/transport/ip_family.h"
#include "frontend/transport/local_route.h"
#include "frontend/transport/probe_socket.h"
#include "frontend/transport/udp_message.h"
#include "frontend/transport/udp_pool.h"

enum {
	/* Packets between two readings of the clock: with more, the send times get vague. */
	SEND_BATCH = 4,
	/* Measured: a packet leaves after 3/8 of the time that the kernel takes for it, or after
	 * this time: what follows is the driver's, or the answer's on a path within this host. */
	LEAVE_MAX_NS = 1000,
	/* A pending ICMP error makes a send fail, and another one may come before the next try. An
	 * error that persists so many times is the probe's own. */
	SEND_TRIES = 16,
	/* How soon queued probes are tried again that the kernel did not take. */
	RETRY_NS = NS_PER_MS,
	RECEIVE_BATCH = 64,
	EVENTS = 64,
	/* A flood of packets that answer nothing does not keep dispatch() from returning. */
	ROUNDS_MAX = 64,
	NONCE_POOL_BYTES = 256, /* getrandom(2) is not interrupted for so many */
};

struct udp {
	const struct transport_sink *sink;
	bool is_ready;
	bool in_dispatch;
	int64_t retry_ns; /* when queued probes are tried again; INT64_MAX: there are none */
	struct udp_probe_list failed;
	size_t nonces_left_bytes;
	uint8_t nonces[NONCE_POOL_BYTES];
	uint8_t fill_byte;
	size_t filled_bytes; /* of `fill` that are fill_byte */
	uint8_t fill[UINT16_MAX];
	struct mmsghdr messages[RECEIVE_BATCH];
	struct udp_outgoing outgoing[SEND_BATCH];
	struct udp_incoming incoming[RECEIVE_BATCH];
	struct udp_pool pool;
	struct udp_probe probes[TRANSPORT_SLOTS];
};

/* --- sending ---------------------------------------------------------------------------------- */

static void take_nonce(struct udp *udp, struct udp_probe *probe)
{
	probe->nonce_bytes = (uint8_t)udp_nonce_bytes(&probe->request);
	if (udp->nonces_left_bytes == 0) {
		if (getrandom(udp->nonces, NONCE_POOL_BYTES, 0) != NONCE_POOL_BYTES)
			err(EXIT_FAILURE, "getrandom");
		udp->nonces_left_bytes = NONCE_POOL_BYTES;
	}
	udp->nonces_left_bytes -= UDP_NONCE_BYTES;
	memcpy(probe->nonce, udp->nonces + udp->nonces_left_bytes, UDP_NONCE_BYTES);
}

/* Has `fill` begin with what the payload of the probe is filled with. */
static void prepare_fill(struct udp *udp, const struct probe_request *request)
{
	size_t bytes = udp_payload_bytes(request);

	if (udp->fill_byte == request->payload_byte && udp->filled_bytes >= bytes)
		return;
	memset(udp->fill, request->payload_byte, bytes);
	udp->fill_byte = request->payload_byte;
	udp->filled_bytes = bytes;
}

/* Those that leave together share the socket and `fill`. */
static bool may_join(struct udp *udp, const struct udp_socket *socket,
		     const struct udp_probe *first, const struct udp_probe *probe)
{
	return probe != NULL && probe->request.payload_byte == first->request.payload_byte &&
	       udp_payload_bytes(&probe->request) <= udp->filled_bytes &&
	       udp_pool_has_room(&udp->pool, socket, &probe->request);
}

/* The packets of one call leave at equal distances. */
static void note_sent(struct udp_probe *const *probes, int count, int64_t from_ns, int64_t to_ns)
{
	int64_t each_ns = (to_ns - from_ns) / count;
	int64_t leave_ns = each_ns * 3 / 8;

	if (leave_ns > LEAVE_MAX_NS)
		leave_ns = LEAVE_MAX_NS;
	for (int i = 0; i < count; i++)
		probes[i]->sent_ns = from_ns + each_ns * i + leave_ns;
}

/* The kernel has no buffer for now. */
static bool is_passing(int error)
{
	return error == EAGAIN || error == ENOBUFS || error == ENOMEM || error == EINTR;
}

/* Over IPv6 a host without any address of the scope has no route, but EADDRNOTAVAIL. A source that
 * is not local has different errors in sendmsg(2), and one in bind(2). */
static int send_error(const struct probe_request *request, int error)
{
	static const uint8_t unspecified[sizeof(request->source)];
	struct local_route route;

	if (memcmp(request->source, unspecified, sizeof(unspecified)) == 0)
		return error == EADDRNOTAVAIL ? ENETUNREACH : error;
	int route_error = local_route(request, &route);
	return route_error != 0 ? route_error : error;
}

static void compose(struct udp *udp, struct udp_probe *const *probes, int i, bool flow_label)
{
	udp_message_compose(&udp->messages[i].msg_hdr, &udp->outgoing[i], probes[i], udp->fill,
			    flow_label);
}

static void fail(struct udp *udp, struct udp_probe *probe, int error)
{
	udp_pool_remove(&udp->pool, probe);
	probe->state = UDP_FAILED;
	probe->error = send_error(&probe->request, error);
	probe->mtu_bytes = 0;
	TAILQ_INSERT_TAIL(&udp->failed, probe, queue);
}

/* Returns how many of the probes are done with, sent or failed: fewer than `count` if the kernel
 * takes no more for now. */
static int send_messages(struct udp *udp, struct udp_probe *const *probes, int count)
{
	int fd = probes[0]->socket->fd;
	int done = 0, tries = 0;

	while (done < count) {
		int64_t from_ns = clock_now_ns();
		int sent = sendmmsg(fd, udp->messages + done, (unsigned)(count - done),
				    MSG_DONTWAIT | MSG_NOSIGNAL);
		if (sent > 0) {
			note_sent(probes + done, sent, from_ns, clock_now_ns());
			done += sent;
			tries = 0;
			continue;
		}
		int error = errno;
		if (is_passing(error))
			break;
		/* A flow label of our choice is refused while an exclusive lease of one exists in
		 * this network namespace. The kernel's own label is constant for constant ports. */
		if (error == EINVAL)
			compose(udp, probes, done, false);
		if (++tries < SEND_TRIES)
			continue;
		fail(udp, probes[done], error);
		done++;
		tries = 0;
	}
	return done;
}

/* Sends what is first in the queue by this socket. Returns false if the kernel takes no more. */
static bool send_batch(struct udp *udp, struct udp_group *group, struct udp_socket *socket)
{
	struct udp_probe *probes[SEND_BATCH], *probe = TAILQ_FIRST(&group->queue);
	int count = 0;

	prepare_fill(udp, &probe->request);
	do {
		probes[count] = probe;
		udp_pool_place(&udp->pool, probe, socket);
		take_nonce(udp, probe);
		compose(udp, probes, count++, true);
		probe = TAILQ_FIRST(&group->queue);
	} while (count < SEND_BATCH && may_join(udp, socket, probes[0], probe));

	int done = send_messages(udp, probes, count);
	for (int i = count - 1; i >= done; i--)
		udp_pool_put_back(&udp->pool, probes[i]);
	return done == count;
}

/* Sends what is in the queue. Failures are reported before more is sent: about each packet that is
 * too long the kernel puts an entry into the error queue, which has room for answers only. */
static void send_group(struct udp *udp, struct udp_group *group)
{
	struct udp_socket *socket;
	int error;

	while (TAILQ_EMPTY(&udp->failed) && !TAILQ_EMPTY(&group->queue)) {
		socket = udp_pool_choose(&udp->pool, group, &error);
		if (error != 0)
			fail(udp, TAILQ_FIRST(&group->queue), error);
		else if (socket == NULL || !send_batch(udp, group, socket))
			return;
	}
}

static void send_waiting(struct udp *udp)
{
	struct udp_group *group, *next;

	udp_pool_tidy(&udp->pool);
	for (group = TAILQ_FIRST(&udp->pool.waiting); group != NULL; group = next) {
		next = TAILQ_NEXT(group, in_waiting);
		send_group(udp, group);
	}
	udp->retry_ns = TAILQ_EMPTY(&udp->pool.waiting) ? INT64_MAX : clock_now_ns() + RETRY_NS;
}

/* --- answers ---------------------------------------------------------------------------------- */

/* The slot is free before the sink is called, which may use it again. */
static void report(struct udp *udp, struct udp_probe *probe, struct probe_result *result)
{
	result->cookie = probe->request.cookie;
	if (probe->state == UDP_FAILED)
		TAILQ_REMOVE(&udp->failed, probe, queue);
	udp_pool_remove(&udp->pool, probe);
	udp->sink->result(udp->sink->context, result);
}

/* An error of this host's own: a probe was longer than the link allows. sendmsg(2) has said so; the
 * MTU is only here. */
static void note_mtu(struct udp *udp, const struct udp_socket *socket,
		     const uint8_t destination[16], uint32_t mtu_bytes)
{
	struct udp_probe *probe;

	TAILQ_FOREACH (probe, &udp->failed, queue)
		if (probe->socket == socket && probe->error == EMSGSIZE &&
		    memcmp(probe->request.destination, destination, 16) == 0)
			probe->mtu_bytes = mtu_bytes;
}

/* When a batch of answers is read: the clocks. */
struct read_time {
	int64_t now_ns;
	int64_t wall_offset_ns;
};

static int64_t rtt_ns(const struct udp_probe *probe, int64_t received_wall_ns,
		      const struct read_time *time)
{
	if (received_wall_ns == 0)
		return time->now_ns - probe->sent_ns;
	return clock_rtt_ns(probe->sent_ns, received_wall_ns, time->wall_offset_ns, time->now_ns);
}

/* Returns how many results were reported: 0 or 1. */
static size_t read_answer(struct udp *udp, const struct udp_socket *socket,
			  struct mmsghdr *received, const struct read_time *time)
{
	struct msghdr *message = &received->msg_hdr;
	const struct udp_incoming *memory = message->msg_name;
	struct probe_socket_error found = probe_socket_error(message);
	struct probe_result result = {
		.kind = RESULT_REPLY,
		.known = KNOWN_REPLY_TTL,
		.reply_ttl = found.reply_ttl,
	};
	struct extension_info extension;
	uint8_t peer[16]; /* the probe's destination */

	/* Of a datagram the payload is not the probe's. */
	size_t quoted_bytes = found.error != NULL ? received->msg_len : 0;
	if (message->msg_namelen == 0)
		return 0;
	result.responder_ifindex =
		ip_family_from_socket((const struct sockaddr *)&memory->peer, peer);
	if (found.error != NULL && found.error->ee_origin == SO_EE_ORIGIN_LOCAL) {
		note_mtu(udp, socket, peer, found.error->ee_info);
		return 0;
	}
	struct udp_probe *probe =
		udp_table_match(&udp->pool.table, socket, peer, ip_family_port(&memory->peer),
				memory->data, quoted_bytes);
	if (probe == NULL)
		return 0;

	memcpy(result.responder, peer, sizeof(peer));
	if (found.error != NULL)
		probe_socket_icmp(&found, udp_headers_bytes(&probe->request), memory->data,
				  received->msg_len, &extension, &result);
	result.rtt_ns = rtt_ns(probe, found.received_wall_ns, time);
	report(udp, probe, &result);
	return 1;
}

/* Reads one batch from the error queue (MSG_ERRQUEUE) or the receive queue (0). Returns how many
 * messages there were. */
static size_t read_batch(struct udp *udp, const struct udp_socket *socket, int queue,
			 size_t *reported)
{
	for (unsigned i = 0; i < RECEIVE_BATCH; i++)
		udp_message_prepare(&udp->messages[i].msg_hdr, &udp->incoming[i]);
	int count = recvmmsg(socket->fd, udp->messages, RECEIVE_BATCH, MSG_DONTWAIT | queue, NULL);
	if (count <= 0)
		return 0;
	struct read_time time = {clock_now_ns(), clock_wall_offset_ns()};
	for (int i = 0; i < count; i++)
		*reported += read_answer(udp, socket, &udp->messages[i], &time);
	return (size_t)count;
}

/* Returns whether there may be more. Reading the receive queue also takes a pending error that has
 * no entry in the error queue, for which epoll would go on waking. */
static bool read_socket(struct udp *udp, const struct epoll_event *event, size_t *reported)
{
	const struct udp_socket *socket = event->data.ptr;
	size_t errors = read_batch(udp, socket, MSG_ERRQUEUE, reported);
	size_t datagrams = 0;

	if (event->events & EPOLLIN || errors == 0)
		datagrams = read_batch(udp, socket, 0, reported);
	return errors == RECEIVE_BATCH || datagrams == RECEIVE_BATCH;
}

static size_t read_sockets(struct udp *udp, size_t most_results)
{
	struct epoll_event events[EVENTS];
	size_t reported = 0;
	bool is_more = true;

	for (int round = 0; round < ROUNDS_MAX && is_more && reported < most_results; round++) {
		int count = epoll_wait(udp->pool.epoll_fd, events, EVENTS, 0);

		is_more = count == EVENTS;
		for (int i = 0; i < count; i++)
			is_more |= read_socket(udp, &events[i], &reported);
	}
	return reported;
}

static size_t report_failed(struct udp *udp, size_t most_results)
{
	struct udp_probe *probe;
	size_t reported = 0;

	for (; reported < most_results && (probe = TAILQ_FIRST(&udp->failed)) != NULL; reported++) {
		struct probe_result result = {
			.kind = RESULT_FAILED,
			.error = probe->error,
			.mtu_bytes = probe->mtu_bytes,
		};
		report(udp, probe, &result);
	}
	return reported;
}

/* --- the functions of way.h ------------------------------------------------------------------- */

static void probe(void *self, const struct probe_request *request)
{
	struct udp *udp = self;
	struct udp_probe *slot = &udp->probes[request->cookie % TRANSPORT_SLOTS];

	slot->request = *request;
	udp_pool_enqueue(&udp->pool, slot);
}

static void cancel(void *self, uint32_t cookie)
{
	struct udp *udp = self;
	struct udp_probe *slot = &udp->probes[cookie % TRANSPORT_SLOTS];

	if (slot->state == UDP_FREE || slot->request.cookie != cookie)
		return;
	if (slot->state == UDP_FAILED)
		TAILQ_REMOVE(&udp->failed, slot, queue);
	udp_pool_cancel(&udp->pool, slot);
}

static void flush(void *self)
{
	struct udp *udp = self;

	if (!udp->in_dispatch)
		send_waiting(udp);
}

static size_t dispatch(void *self, size_t most_results)
{
	struct udp *udp = self;
	size_t reported;

	udp->in_dispatch = true;
	if (!udp->is_ready) {
		udp->is_ready = true;
		udp->sink->ready(udp->sink->context,
				 probe_socket_features(SOCK_DGRAM, FEATURE_UDP));
	}
	reported = read_sockets(udp, most_results);
	reported += report_failed(udp, most_results);
	udp->in_dispatch = false;
	send_waiting(udp);
	return reported;
}

static int64_t next_ns(const void *self)
{
	const struct udp *udp = self;

	return TAILQ_EMPTY(&udp->failed) ? udp->retry_ns : 0;
}

static void close_all(void *self)
{
	struct udp *udp = self;

	udp_pool_close(&udp->pool);
	free(udp);
}

void udp_open(struct way *way, int epoll_fd, const struct transport_sink *sink)
{
	static const struct way_functions functions = {
		probe, cancel, flush, dispatch, next_ns, close_all,
	};
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = way};
	struct udp *udp = calloc(1, sizeof(*udp));

	if (udp == NULL)
		err(EXIT_FAILURE, "memory for UDP probes");
	udp->sink = sink;
	udp->retry_ns = INT64_MAX;
	TAILQ_INIT(&udp->failed);
	udp_pool_open(&udp->pool);
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, udp->pool.epoll_fd, &event) != 0)
		err(EXIT_FAILURE, "epoll for UDP probes");
	*way = (struct way){&functions, udp};
}
