/*
 * The transport over a broker: queues probes until the channel takes them, in batches, and reads
 * events in large pieces. Runs in the front end. The broker is the more trusted side, but it may be
 * of another version or die at any byte: lengths and kinds are checked, and the link then ends.
 */
#include "frontend/broker_link.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/message.h"

enum {
	MESSAGE_BYTES = RECORD_BATCH * sizeof(struct record_event_ext),
	MESSAGES = 16, /* read, or written, by one system call */
	WHY_BYTES = 512,
	PATH_BYTES = 4096,
};

enum link_state {
	LINK_GREETING, /* the hello is yet to come */
	LINK_UP,
	LINK_FAILED, /* the sink is to be told */
	LINK_DOWN,   /* it was told */
};

/* A first-in first-out queue of at most one entry for each slot. */
struct queue {
	uint32_t head, count;
	uint32_t entries[RECORD_SLOTS];
};

/* What each slot has to say. A slot that is cancelled before its probe left has nothing more to
 * say; one that is cancelled after and used again has to say both, the cancellation first. So each
 * queue has a slot once at most, and no client can make them grow. */
struct outbox {
	struct queue probes;          /* slots whose probe is to be sent, if it still is wanted */
	struct queue cancellations;   /* cookies */
	bool queued[RECORD_SLOTS];    /* the slot is in `probes` */
	bool wanted[RECORD_SLOTS];    /* and its record is to be sent */
	bool cancelled[RECORD_SLOTS]; /* a cookie of the slot is in `cancellations` */
	struct record_probe records[RECORD_SLOTS];
};

struct transport {
	struct transport_sink sink;
	struct broker_process broker;
	enum link_state state;
	int error; /* with LINK_FAILED */
	char why[WHY_BYTES];
	uint32_t batch;   /* records in one message */
	bool blocked;     /* the channel took no more */
	bool send_failed; /* it never will */
	bool peer_reset;  /* told once; what the broker said before may still be read */
	struct outbox out;
	_Alignas(16) uint8_t in[MESSAGES][MESSAGE_BYTES];
};

/* --- queues ------------------------------------------------------------------------------------
 */

static void queue_push(struct queue *queue, uint32_t entry)
{
	queue->entries[(queue->head + queue->count++) % RECORD_SLOTS] = entry;
}

static uint32_t queue_at(const struct queue *queue, uint32_t place)
{
	return queue->entries[(queue->head + place) % RECORD_SLOTS];
}

static void queue_drop(struct queue *queue, uint32_t count)
{
	queue->head = (queue->head + count) % RECORD_SLOTS;
	queue->count -= count;
}

void transport_probe(struct transport *transport, const struct record_probe *probe)
{
	struct outbox *out = &transport->out;
	uint32_t slot = probe->cookie % RECORD_SLOTS;

	if (transport->state >= LINK_FAILED)
		return;
	out->records[slot] = *probe;
	out->wanted[slot] = true;
	if (!out->queued[slot])
		queue_push(&out->probes, slot);
	out->queued[slot] = true;
}

void transport_cancel(struct transport *transport, uint32_t cookie)
{
	struct outbox *out = &transport->out;
	uint32_t slot = cookie % RECORD_SLOTS;

	if (transport->state >= LINK_FAILED)
		return;
	if (out->wanted[slot] && out->records[slot].cookie == cookie) {
		out->wanted[slot] = false;
		return;
	}
	if (out->cancelled[slot])
		return;
	out->cancelled[slot] = true;
	queue_push(&out->cancellations, cookie);
}

/* --- sending -----------------------------------------------------------------------------------
 */

/* One system call's worth of messages of one kind. */
struct parcel {
	struct mmsghdr messages[MESSAGES];
	struct iovec pieces[MESSAGES];
	uint32_t entries[MESSAGES]; /* queue entries that each message uses up */
	uint32_t count;
};

static void parcel_add(struct parcel *parcel, void *bytes, size_t length, uint32_t entries)
{
	uint32_t i = parcel->count++;

	parcel->pieces[i] = (struct iovec){bytes, length};
	parcel->messages[i] = (struct mmsghdr){
		.msg_hdr = {.msg_iov = &parcel->pieces[i], .msg_iovlen = 1},
	};
	parcel->entries[i] = entries;
}

/* Returns the number of messages sent. An error other than a full channel means that the broker is
 * gone: what it said before is still to be read, so the reading side finds out. */
static uint32_t parcel_send(struct transport *transport, struct parcel *parcel)
{
	int sent;

	do {
		sent = message_send_many(transport->broker.channel_fd, parcel->messages,
					 parcel->count, MSG_DONTWAIT | MSG_NOSIGNAL);
	} while (sent < 0 && errno == EINTR);
	if (sent < 0 || (uint32_t)sent < parcel->count)
		transport->blocked = true;
	if (sent < 0 && errno != EAGAIN && errno != ENOBUFS)
		transport->send_failed = true;
	return sent < 0 ? 0 : (uint32_t)sent;
}

static void send_cancellations(struct transport *transport)
{
	struct queue *queue = &transport->out.cancellations;
	static struct record_cancel records[MESSAGES]
					   [RECORD_BATCH]; /* too large for small stacks */
	struct parcel parcel = {.count = 0};
	uint32_t place = 0;

	while (place < queue->count && parcel.count < MESSAGES) {
		struct record_cancel *message = records[parcel.count];
		uint32_t used = 0;
		for (; used < transport->batch && place < queue->count; used++, place++)
			message[used] = (struct record_cancel){.kind = RECORD_CANCEL,
							       .cookie = queue_at(queue, place)};
		parcel_add(&parcel, message, used * sizeof(*message), used);
	}
	uint32_t sent = parcel_send(transport, &parcel);
	for (uint32_t i = 0; i < sent; i++) {
		for (uint32_t entry = 0; entry < parcel.entries[i]; entry++)
			transport->out.cancelled[queue_at(queue, entry) % RECORD_SLOTS] = false;
		queue_drop(queue, parcel.entries[i]);
	}
}

static void send_probes(struct transport *transport)
{
	struct outbox *out = &transport->out;
	static struct record_probe records[MESSAGES][RECORD_BATCH]; /* too large for small stacks */
	struct parcel parcel = {.count = 0};
	uint32_t place = 0;

	while (place < out->probes.count && parcel.count < MESSAGES) {
		struct record_probe *message = records[parcel.count];
		uint32_t from = place, used = 0;
		for (; used < transport->batch && place < out->probes.count; place++) {
			uint32_t slot = queue_at(&out->probes, place);
			if (out->wanted[slot])
				message[used++] = out->records[slot];
		}
		if (used == 0)
			break;
		parcel_add(&parcel, message, used * sizeof(*message), place - from);
	}
	uint32_t sent = parcel.count > 0 ? parcel_send(transport, &parcel) : 0;
	uint32_t done = 0;
	for (uint32_t i = 0; i < sent; i++)
		done += parcel.entries[i];
	if (sent == parcel.count)
		done = place; /* what was cancelled behind the last message, too */
	for (uint32_t entry = 0; entry < done; entry++) {
		uint32_t slot = queue_at(&out->probes, entry);
		out->queued[slot] = false;
		out->wanted[slot] = false;
	}
	queue_drop(&out->probes, done);
}

void transport_flush(struct transport *transport)
{
	if (transport->state != LINK_UP)
		return;
	transport->blocked = false;
	while (transport->out.cancellations.count > 0 && !transport->blocked)
		send_cancellations(transport);
	while (transport->out.probes.count > 0 && !transport->blocked)
		send_probes(transport);
}

/* --- receiving ---------------------------------------------------------------------------------
 */

static void fail(struct transport *transport, int error, const char *why)
{
	transport->state = LINK_FAILED;
	transport->error = error;
	if (why)
		snprintf(transport->why, sizeof(transport->why), "%s", why);
}

static void take_hello(struct transport *transport, const uint8_t *bytes, size_t length)
{
	struct record_hello hello;

	if (length != sizeof(hello)) {
		fail(transport, EPROTO, "postern-broker: its first message is not a hello");
		return;
	}
	memcpy(&hello, bytes, sizeof(hello));
	if (hello.kind != RECORD_HELLO || hello.version != RECORD_VERSION) {
		fail(transport, EPROTO,
		     "postern-broker: it is of another version; install both programs again");
		return;
	}
	if (hello.slots == 0 || hello.batch == 0) {
		fail(transport, EPROTO, "postern-broker: its hello allows no probes");
		return;
	}
	transport->batch = hello.batch < RECORD_BATCH ? hello.batch : RECORD_BATCH;
	transport->state = LINK_UP;
	transport->sink.hello(transport->sink.context, &hello);
}

/* Tells the sink the events in one message; returns how many. */
static size_t take_events(struct transport *transport, const uint8_t *bytes, size_t length)
{
	bool extended = length > 0 && bytes[0] == RECORD_EVENT_EXT;
	size_t size = extended ? sizeof(struct record_event_ext) : sizeof(struct record_event);
	size_t told = 0;

	if (length % size != 0)
		fail(transport, EPROTO, "postern-broker: sent a message of an odd length");
	for (size_t at = 0; at < length && transport->state == LINK_UP; at += size, told++) {
		const struct record_event *event = (const void *)(bytes + at);
		if (event->kind != (extended ? RECORD_EVENT_EXT : RECORD_EVENT) ||
		    event->extension_bytes > (extended ? RECORD_EXTENSION_BYTES : 0)) {
			fail(transport, EPROTO, "postern-broker: sent a record that is no event");
			break;
		}
		transport->sink.event(transport->sink.context, event,
				      event->extension_bytes > 0 ? bytes + at + sizeof(*event)
								 : NULL);
	}
	return told;
}

static void receive_failed(struct transport *transport, int error)
{
	if (error == EAGAIN || error == EINTR)
		return;
	/* A broker that ended with probes unread resets the channel; events may still follow. */
	if (error == ECONNRESET && !transport->peer_reset) {
		transport->peer_reset = true;
		return;
	}
	fail(transport,
	     broker_last_words(&transport->broker, transport->why, sizeof(transport->why)), NULL);
}

/* Returns the number of messages read. */
static size_t receive(struct transport *transport, size_t most, size_t *told)
{
	struct mmsghdr messages[MESSAGES];
	struct iovec pieces[MESSAGES];

	if (most > MESSAGES)
		most = MESSAGES;
	for (size_t i = 0; i < most; i++) {
		pieces[i] = (struct iovec){transport->in[i], MESSAGE_BYTES};
		messages[i] = (struct mmsghdr){
			.msg_hdr = {.msg_iov = &pieces[i], .msg_iovlen = 1},
		};
	}
	int count = message_receive_many(transport->broker.channel_fd, messages, (unsigned int)most,
					 MSG_DONTWAIT);
	if (count < 0)
		receive_failed(transport, errno);
	for (int i = 0; i < count && transport->state < LINK_FAILED; i++) {
		size_t length = messages[i].msg_len;
		if (length == 0)
			receive_failed(transport, EPIPE);
		else if (messages[i].msg_hdr.msg_flags & MSG_TRUNC)
			fail(transport, EPROTO, "postern-broker: sent a message of an odd length");
		else if (transport->state == LINK_GREETING)
			take_hello(transport, transport->in[i], length);
		else
			*told += take_events(transport, transport->in[i], length);
	}
	return count < 0 ? 0 : (size_t)count;
}

void transport_dispatch(struct transport *transport, size_t most_events)
{
	size_t told = 0;

	while (transport->state < LINK_FAILED && told < most_events) {
		bool had_reset = transport->peer_reset;
		size_t most = (most_events - told + RECORD_BATCH - 1) / RECORD_BATCH;
		if (most > MESSAGES)
			most = MESSAGES;
		/* The hello says that events may come: read it alone. */
		if (transport->state == LINK_GREETING)
			most = 1;
		size_t count = receive(transport, most, &told);
		if (count < most && transport->peer_reset == had_reset)
			break;
	}
	if (transport->state == LINK_FAILED) {
		transport->state = LINK_DOWN;
		broker_leave(&transport->broker);
		transport->sink.down(transport->sink.context, transport->error, transport->why);
	}
}

/* --- opening and closing -----------------------------------------------------------------------
 */

struct transport *broker_link_open(const struct broker_process *broker,
				   const struct transport_sink *sink)
{
	struct transport *transport = calloc(1, sizeof(*transport));

	if (!transport)
		return NULL;
	transport->sink = *sink;
	transport->broker = *broker;
	transport->state = LINK_GREETING;
	transport->batch = RECORD_BATCH;
	return transport;
}

struct transport *transport_open(const char *broker_path, const struct transport_sink *sink)
{
	struct broker_process broker;
	char path[PATH_BYTES];

	broker_find(broker_path, path, sizeof(path));
	int error = broker_start(path, &broker);
	struct transport *transport = broker_link_open(&broker, sink);
	if (!transport) {
		fputs("postern: out of memory\n", stderr);
		_exit(EXIT_FAILURE);
	}
	if (error) {
		char why[WHY_BYTES];
		snprintf(why, sizeof(why), "cannot run the broker %.300s: %s", path,
			 strerror(error));
		fail(transport, error, why);
	}
	return transport;
}

void transport_close(struct transport *transport)
{
	broker_bury(&transport->broker);
	free(transport);
}

int transport_fd(const struct transport *transport)
{
	return transport->broker.channel_fd;
}

short transport_poll_events(const struct transport *transport)
{
	return transport->blocked && !transport->send_failed ? POLLIN | POLLOUT : POLLIN;
}
