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
#include "frontend/memory.h"

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

enum chain_kind {
	PROBES,
	CANCELLATIONS,
	CHAINS,
};

/* Slots that have something to say, the first one first. */
struct chain {
	uint32_t count, first, last;
};

/* What each slot has to say. A slot that is cancelled before its probe left has nothing more to
 * say; one that is cancelled after and used again has to say both, the cancellation first. So it is
 * in each chain once at most, and no client can make them grow. */
struct outgoing {
	struct record_probe probe;
	uint32_t next[CHAINS];     /* the slot behind this one */
	uint32_t cancelled_cookie; /* a former one of this slot */
	bool queued;               /* in PROBES */
	bool wanted;               /* and the probe is to be sent */
	bool cancelled;            /* in CANCELLATIONS */
};

struct outbox {
	struct chain chains[CHAINS];
	struct outgoing slots[RECORD_SLOTS];
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
	_Alignas(16) uint8_t in[MESSAGES][MESSAGE_BYTES];
	struct outbox out;
};

/* --- what is to be sent ------------------------------------------------------------------------
 */

static void chain_add(struct outbox *out, enum chain_kind kind, uint32_t slot)
{
	struct chain *chain = &out->chains[kind];

	if (chain->count++ == 0)
		chain->first = slot;
	else
		out->slots[chain->last].next[kind] = slot;
	chain->last = slot;
}

static struct outgoing *chain_take(struct outbox *out, enum chain_kind kind)
{
	struct chain *chain = &out->chains[kind];
	struct outgoing *first = &out->slots[chain->first];

	chain->first = first->next[kind];
	chain->count--;
	return first;
}

void transport_probe(struct transport *transport, const struct record_probe *probe)
{
	uint32_t slot = probe->cookie % RECORD_SLOTS;
	struct outgoing *outgoing = &transport->out.slots[slot];

	if (transport->state >= LINK_FAILED)
		return;
	outgoing->probe = *probe;
	outgoing->wanted = true;
	if (!outgoing->queued)
		chain_add(&transport->out, PROBES, slot);
	outgoing->queued = true;
}

void transport_cancel(struct transport *transport, uint32_t cookie)
{
	uint32_t slot = cookie % RECORD_SLOTS;
	struct outgoing *outgoing = &transport->out.slots[slot];

	if (transport->state >= LINK_FAILED)
		return;
	if (outgoing->wanted && outgoing->probe.cookie == cookie) {
		outgoing->wanted = false;
		return;
	}
	if (outgoing->cancelled)
		return;
	outgoing->cancelled = true;
	outgoing->cancelled_cookie = cookie;
	chain_add(&transport->out, CANCELLATIONS, slot);
}

/* --- sending -----------------------------------------------------------------------------------
 */

/* One system call's worth of messages of one kind. */
struct parcel {
	struct mmsghdr messages[MESSAGES];
	struct iovec pieces[MESSAGES];
	uint32_t slots[MESSAGES]; /* of the chain that each message uses up */
	uint32_t count;
};

static void parcel_add(struct parcel *parcel, void *bytes, size_t length, uint32_t slots)
{
	uint32_t i = parcel->count++;

	parcel->pieces[i] = (struct iovec){bytes, length};
	parcel->messages[i] = (struct mmsghdr){
		.msg_hdr = {.msg_iov = &parcel->pieces[i], .msg_iovlen = 1},
	};
	parcel->slots[i] = slots;
}

/* Returns how many slots of the chain have been served. An error other than a full channel means
 * that the broker is gone: what it said before is still to be read, so the reading side finds out.
 */
static uint32_t parcel_send(struct transport *transport, struct parcel *parcel)
{
	uint32_t slots = 0;
	int sent;

	do {
		sent = message_send_many(transport->broker.channel_fd, parcel->messages,
					 parcel->count, MSG_DONTWAIT | MSG_NOSIGNAL);
	} while (sent < 0 && errno == EINTR);
	if (sent < 0 || (uint32_t)sent < parcel->count)
		transport->blocked = true;
	if (sent < 0 && errno != EAGAIN && errno != ENOBUFS)
		transport->send_failed = true;
	for (int i = 0; i < sent; i++)
		slots += parcel->slots[i];
	return slots;
}

static void send_cancellations(struct transport *transport)
{
	static struct record_cancel records[MESSAGES]
					   [RECORD_BATCH]; /* too large for small stacks */
	struct outbox *out = &transport->out;
	uint32_t left = out->chains[CANCELLATIONS].count;
	uint32_t slot = out->chains[CANCELLATIONS].first;
	struct parcel parcel = {.count = 0};

	while (left > 0 && parcel.count < MESSAGES) {
		struct record_cancel *message = records[parcel.count];
		uint32_t used = 0;
		for (; used < transport->batch && left > 0; used++, left--) {
			message[used] = (struct record_cancel){
				.kind = RECORD_CANCEL, .cookie = out->slots[slot].cancelled_cookie};
			slot = out->slots[slot].next[CANCELLATIONS];
		}
		parcel_add(&parcel, message, used * sizeof(*message), used);
	}
	for (uint32_t done = parcel_send(transport, &parcel); done > 0; done--)
		chain_take(out, CANCELLATIONS)->cancelled = false;
}

static void send_probes(struct transport *transport)
{
	static struct record_probe records[MESSAGES][RECORD_BATCH]; /* too large for small stacks */
	struct outbox *out = &transport->out;
	uint32_t count = out->chains[PROBES].count, place = 0, done = 0;
	uint32_t slot = out->chains[PROBES].first;
	struct parcel parcel = {.count = 0};

	while (place < count && parcel.count < MESSAGES) {
		/* One alone leaves from where it is. */
		struct record_probe *message =
			count > 1 ? records[parcel.count] : &out->slots[slot].probe;
		uint32_t from = place, used = 0;
		for (; used < transport->batch && place < count; place++) {
			if (out->slots[slot].wanted)
				message[used++] = out->slots[slot].probe;
			slot = out->slots[slot].next[PROBES];
		}
		if (used == 0)
			break;
		parcel_add(&parcel, message, used * sizeof(*message), place - from);
	}
	if (parcel.count > 0)
		done = parcel_send(transport, &parcel);
	/* What was cancelled behind the last message goes with it. */
	if (!transport->blocked)
		done = place;
	for (; done > 0; done--) {
		struct outgoing *outgoing = chain_take(out, PROBES);
		outgoing->queued = false;
		outgoing->wanted = false;
	}
}

void transport_flush(struct transport *transport)
{
	if (transport->state != LINK_UP)
		return;
	transport->blocked = false;
	while (transport->out.chains[CANCELLATIONS].count > 0 && !transport->blocked)
		send_cancellations(transport);
	while (transport->out.chains[PROBES].count > 0 && !transport->blocked)
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
		/* The hello comes alone: nothing has been sent that could be answered. */
		bool greeting = transport->state == LINK_GREETING;
		size_t most = (most_events - told + RECORD_BATCH - 1) / RECORD_BATCH;
		if (greeting)
			most = 1;
		else if (most > MESSAGES)
			most = MESSAGES;
		size_t count = receive(transport, most, &told);
		if ((count < most || greeting) && transport->peer_reset == had_reset)
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
	struct transport *transport = memory_open(sizeof(*transport));

	if (!transport)
		return NULL;
	memory_warm(&transport->out);
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

void transport_leave(struct transport *transport)
{
	broker_bury(&transport->broker);
}

void transport_close(struct transport *transport)
{
	transport_leave(transport);
	memory_close(transport, sizeof(*transport));
}

int transport_fd(const struct transport *transport)
{
	return transport->broker.channel_fd;
}

short transport_poll_events(const struct transport *transport)
{
	return transport->blocked && !transport->send_failed ? POLLIN | POLLOUT : POLLIN;
}
