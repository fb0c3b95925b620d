/*
 * ICMP and SCTP over the broker: queues probes until the channel takes them, in batches, and reads
 * its answers. Runs in the front end. The broker may be of another version or end at any moment, so
 * the length and kind of each record is checked; on a violation the link ends.
 */
#include "frontend/transport/broker_link.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/record.h"
#include "frontend/process/clock.h"
#include "frontend/transport/answer.h"
#include "frontend/transport/probe_number.h"
#include "frontend/transport/probe_record.h"

enum {
	MESSAGE_BYTES = RECORD_BATCH * sizeof(struct record_long_answer),
	WHY_BYTES = 512,
	/* A broker sends its hello within milliseconds, also on a busy machine within a second. */
	HELLO_WAIT_S = 5,
	FEATURES_OF_BROKER = FEATURE_ICMP | FEATURE_SCTP | FEATURE_ICMP << FEATURE_IPV6_SHIFT |
			     FEATURE_SCTP << FEATURE_IPV6_SHIFT | FEATURE_MARK,
};

enum link_state {
	LINK_STARTING, /* the hello is yet to come */
	LINK_UP,
	LINK_FAILED, /* to be reported to the sink */
	LINK_DOWN,   /* reported */
};

enum slot_state {
	SLOT_FREE,      /* the only state in which it holds no number */
	SLOT_QUEUED,    /* to be sent */
	SLOT_REFUSED,   /* not to be sent: `error` is to be reported */
	SLOT_OPEN,      /* sent, no answer yet */
	SLOT_CANCELLED, /* sent, the answer is not wanted */
};

struct slot {
	struct record_probe probe;
	enum slot_state state;
	int error;
	bool in_queue;
};

struct link {
	const struct transport_sink *sink;
	struct way *way; /* what epoll reports */
	struct broker_process broker;
	struct probe_numbers *numbers;
	int epoll_fd;
	int64_t hello_until_ns; /* a program that is no broker may be silent for ever */
	bool blocked;           /* the channel is full */
	enum link_state state;
	uint32_t features;   /* what is lost when the link ends */
	int error;           /* with LINK_FAILED */
	char why[WHY_BYTES]; /* the same */
	struct slot slots[RECORD_SLOTS];
	/* A circular queue of slots that wait, each in it at most once. */
	uint16_t queue[RECORD_SLOTS];
	uint32_t queue_first, queue_count;
	_Alignas(8) uint8_t message[MESSAGE_BYTES];
};

/* `what` is wrong with the broker. */
static void fail(struct link *link, int error, const char *what)
{
	link->state = LINK_FAILED;
	link->error = error;
	snprintf(link->why, sizeof(link->why), "%s: %s", link->broker.name, what);
}

/* --- requests ----------------------------------------------------------------------------------
 */

static struct slot *slot_of(struct link *link, uint32_t cookie)
{
	return &link->slots[cookie % RECORD_SLOTS];
}

static struct slot *queued_slot(struct link *link, uint32_t place)
{
	return &link->slots[link->queue[(link->queue_first + place) % RECORD_SLOTS]];
}

static bool first_is_refused(const struct link *link)
{
	return link->state == LINK_UP && link->queue_count > 0 &&
	       link->slots[link->queue[link->queue_first]].state == SLOT_REFUSED;
}

static void queue_add(struct link *link, struct slot *slot)
{
	if (slot->in_queue)
		return;
	slot->in_queue = true;
	link->queue[(link->queue_first + link->queue_count++) % RECORD_SLOTS] =
		(uint16_t)(slot - link->slots);
}

static void queue_remove_first(struct link *link)
{
	queued_slot(link, 0)->in_queue = false;
	link->queue_first = (link->queue_first + 1) % RECORD_SLOTS;
	link->queue_count--;
}

static void free_slot(struct link *link, struct slot *slot)
{
	probe_number_free(link->numbers, &slot->probe);
	slot->state = SLOT_FREE;
}

static void link_probe(void *self, const struct probe_request *request)
{
	struct link *link = self;
	struct slot *slot = slot_of(link, request->cookie);
	int64_t now_ns = clock_now_ns();

	if (slot->state == SLOT_OPEN || slot->state == SLOT_CANCELLED)
		probe_number_rest(link->numbers, &slot->probe, now_ns);
	else if (slot->state != SLOT_FREE)
		free_slot(link, slot);
	slot->error = probe_record_make(link->numbers, request, now_ns, &slot->probe);
	slot->state = slot->error ? SLOT_REFUSED : SLOT_QUEUED;
	queue_add(link, slot);
}

/* The broker is not told: its slot stays open until it gets another probe. Until then the number is
 * not given to any other, since the broker would know two of them. */
static void link_cancel(void *self, uint32_t cookie)
{
	struct link *link = self;
	struct slot *slot = slot_of(link, cookie);

	if (slot->probe.cookie != cookie)
		return;
	if (slot->state == SLOT_OPEN)
		slot->state = SLOT_CANCELLED;
	else if (slot->state == SLOT_QUEUED || slot->state == SLOT_REFUSED)
		free_slot(link, slot);
}

static void set_blocked(struct link *link, bool blocked)
{
	struct epoll_event event = {.events = blocked ? EPOLLIN | EPOLLOUT : EPOLLIN,
				    .data.ptr = link->way};

	if (link->blocked == blocked)
		return;
	link->blocked = blocked;
	(void)epoll_ctl(link->epoll_fd, EPOLL_CTL_MOD, link->broker.channel_fd, &event);
}

/* Sends one message. Returns false if there is nothing to send, the channel is full, or a refused
 * probe has to be reported first. That the broker has ended shows in reading. */
static bool send_batch(struct link *link)
{
	struct record_probe batch[RECORD_BATCH];
	size_t used = 0;
	uint32_t places = 0;

	for (; places < link->queue_count && used < RECORD_BATCH; places++) {
		const struct slot *slot = queued_slot(link, places);
		if (slot->state == SLOT_REFUSED)
			break;
		if (slot->state == SLOT_QUEUED)
			batch[used++] = slot->probe;
	}
	if (used > 0 && send(link->broker.channel_fd, batch, used * sizeof(*batch),
			     MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
		set_blocked(link, errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM);
		return false;
	}
	for (uint32_t i = 0; i < places; i++) {
		if (queued_slot(link, 0)->state == SLOT_QUEUED)
			queued_slot(link, 0)->state = SLOT_OPEN;
		queue_remove_first(link);
	}
	set_blocked(link, false);
	return places > 0;
}

static void link_flush(void *self)
{
	struct link *link = self;

	if (link->state != LINK_UP)
		return;
	while (send_batch(link))
		;
}

/* --- answers -----------------------------------------------------------------------------------
 */

static void report_failure(struct link *link, struct slot *slot, int error)
{
	const struct probe_result result = {
		.cookie = slot->probe.cookie,
		.kind = RESULT_FAILED,
		.error = error,
	};

	free_slot(link, slot);
	link->sink->result(link->sink->context, &result);
}

static size_t report_refused(struct link *link, size_t most)
{
	size_t count = 0;

	for (; count < most && first_is_refused(link); count++) {
		struct slot *slot = queued_slot(link, 0);
		queue_remove_first(link);
		report_failure(link, slot, slot->error);
		link_flush(link);
	}
	return count;
}

static void take_hello(struct link *link, size_t length)
{
	struct record_hello hello;

	if (length != sizeof(hello)) {
		fail(link, EPROTO, "its first message is no hello");
		return;
	}
	memcpy(&hello, link->message, sizeof(hello));
	if (hello.kind != RECORD_HELLO || hello.version != RECORD_VERSION ||
	    hello.slots != RECORD_SLOTS || hello.batch != RECORD_BATCH) {
		fail(link, EPROTO, "is of another version (install both programs again)");
		return;
	}
	link->state = LINK_UP;
	link->features = hello.features & FEATURES_OF_BROKER;
	link->sink->ready(link->sink->context, link->features);
}

/* NULL: the record is about a former probe of its slot, or one that was cancelled. */
static struct slot *open_slot(struct link *link, uint32_t cookie)
{
	struct slot *slot = slot_of(link, cookie);

	return slot->state == SLOT_OPEN && slot->probe.cookie == cookie ? slot : NULL;
}

/* When a message was read, on both clocks. */
struct read_time {
	int64_t now_ns;
	int64_t wall_offset_ns;
};

static void take_answer(struct link *link, const struct record_answer *answer, const uint8_t *data,
			const struct read_time *time)
{
	struct extension_info extension;
	struct probe_result result;
	struct slot *slot = open_slot(link, answer->cookie);

	if (slot == NULL)
		return;
	free_slot(link, slot);
	/* A damaged packet is no answer: the probe stays unanswered. */
	if (!answer_read(answer, data, &slot->probe, &result, &extension))
		return;
	result.rtt_ns = clock_rtt_ns(answer->sent_ns, answer->received_wall_ns,
				     time->wall_offset_ns, time->now_ns);
	link->sink->result(link->sink->context, &result);
}

/* While any process in the network namespace holds an exclusive flow label, the kernel takes only
 * leased ones. The label of its own choice is as constant. */
static bool repeat_without_label(struct link *link, struct slot *slot, int error)
{
	if (error != EINVAL || slot->probe.flow_label == 0)
		return false;
	slot->probe.flow_label = 0;
	slot->state = SLOT_QUEUED;
	queue_add(link, slot);
	return true;
}

/* Takes the record at `at`. Returns false if it is none of this kind. */
static bool take_record(struct link *link, uint8_t kind, const uint8_t *at,
			const struct read_time *time)
{
	const struct record_answer *answer = (const void *)at;
	bool is_long = kind == RECORD_LONG_ANSWER;

	if (*at != kind)
		return false;
	if (kind == RECORD_FAILURE) {
		struct slot *slot = open_slot(link, answer->cookie);
		if (slot != NULL && !repeat_without_label(link, slot, answer->error))
			report_failure(link, slot, answer->error);
		return true;
	}
	if (answer->data_bytes > (is_long ? RECORD_LONG_BYTES : RECORD_SHORT_BYTES) ||
	    answer->data_bytes > answer->packet_bytes)
		return false;
	take_answer(link, answer, is_long ? at + sizeof(*answer) : answer->data, time);
	return true;
}

static size_t record_bytes(uint8_t kind)
{
	switch (kind) {
	case RECORD_ANSWER:
	case RECORD_FAILURE:
		return sizeof(struct record_answer);
	case RECORD_LONG_ANSWER:
		return sizeof(struct record_long_answer);
	default:
		return 0;
	}
}

/* Takes a message of `length` bytes. Returns how many records it had. */
static size_t take_records(struct link *link, size_t length)
{
	const struct read_time time = {clock_now_ns(), clock_wall_offset_ns()};
	uint8_t kind = link->message[0];
	size_t size = record_bytes(kind);
	size_t count = 0;

	if (size == 0 || length % size != 0) {
		fail(link, EPROTO, "sent a message of wrong kind or length");
		return 0;
	}
	for (; count < length / size; count++) {
		if (!take_record(link, kind, link->message + count * size, &time)) {
			fail(link, EPROTO, "sent a wrong record");
			break;
		}
	}
	return count;
}

/* Reads one message. Returns how many records it had, 0 if there was none. */
static size_t receive(struct link *link)
{
	ssize_t length = recv(link->broker.channel_fd, link->message, MESSAGE_BYTES,
			      MSG_DONTWAIT | MSG_TRUNC);

	/* That the broker ended with requests unread is reported once, before what it sent. */
	if (length < 0 && errno == ECONNRESET)
		length = recv(link->broker.channel_fd, link->message, MESSAGE_BYTES,
			      MSG_DONTWAIT | MSG_TRUNC);
	if (length < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (length <= 0) {
		link->state = LINK_FAILED;
		link->error = broker_exit_reason(&link->broker, link->why, sizeof(link->why));
		return 0;
	}
	if (length > MESSAGE_BYTES) {
		fail(link, EPROTO, "sent a message that is too long");
		return 0;
	}
	if (link->state == LINK_STARTING) {
		take_hello(link, (size_t)length);
		return 0;
	}
	return take_records(link, (size_t)length);
}

/* Other probes of its features go another way, or end with down(). */
static void report_lost(struct link *link)
{
	for (uint32_t i = 0; i < RECORD_SLOTS; i++) {
		enum slot_state state = link->slots[i].state;

		if (state != SLOT_FREE && state != SLOT_CANCELLED)
			report_failure(link, &link->slots[i], EAGAIN);
	}
}

static void go_down(struct link *link)
{
	link->state = LINK_DOWN;
	broker_close(&link->broker);
	report_lost(link);
	link->sink->down(link->sink->context, link->features, link->error, link->why);
}

static size_t link_dispatch(void *self, size_t most_results)
{
	struct link *link = self;
	size_t count = report_refused(link, most_results);

	while (link->state < LINK_FAILED && count < most_results) {
		size_t records = receive(link);
		if (records == 0)
			break;
		count += records;
	}
	if (link->state == LINK_STARTING && clock_now_ns() >= link->hello_until_ns)
		fail(link, ETIMEDOUT, "sent no hello");
	if (link->state == LINK_FAILED)
		go_down(link);
	else
		link_flush(link);
	return count;
}

static int64_t link_next_ns(const void *self)
{
	const struct link *link = self;

	if (link->state == LINK_STARTING)
		return link->hello_until_ns;
	return link->state == LINK_FAILED || first_is_refused(link) ? 0 : INT64_MAX;
}

/* --- opening and closing -----------------------------------------------------------------------
 */

static void link_close(void *self)
{
	struct link *link = self;

	broker_close(&link->broker);
	broker_reap(&link->broker);
	probe_numbers_close(link->numbers);
	free(link);
}

static const struct way_functions functions = {
	.probe = link_probe,
	.cancel = link_cancel,
	.flush = link_flush,
	.dispatch = link_dispatch,
	.next_ns = link_next_ns,
	.close = link_close,
};

static struct link *link_open(struct way *way, int epoll_fd, const struct transport_sink *sink)
{
	struct link *link = calloc(1, sizeof(*link));

	if (link == NULL || (link->numbers = probe_numbers_open()) == NULL) {
		fputs("postern: out of memory\n", stderr);
		_exit(EXIT_FAILURE);
	}
	*way = (struct way){&functions, link};
	link->sink = sink;
	link->way = way;
	link->epoll_fd = epoll_fd;
	link->features = FEATURES_OF_BROKER;
	return link;
}

static void wait_for_hello(struct link *link)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = link->way};

	link->hello_until_ns = clock_now_ns() + (int64_t)HELLO_WAIT_S * NS_PER_S;
	if (epoll_ctl(link->epoll_fd, EPOLL_CTL_ADD, link->broker.channel_fd, &event) < 0)
		fail(link, errno, "epoll_ctl: cannot watch its channel");
}

void broker_link_attach(struct way *way, int epoll_fd, const struct broker_process *broker,
			const struct transport_sink *sink)
{
	struct link *link = link_open(way, epoll_fd, sink);

	link->broker = *broker;
	wait_for_hello(link);
}

void broker_link_open(struct way *way, int epoll_fd, const char *broker_path,
		      const struct transport_sink *sink)
{
	struct link *link = link_open(way, epoll_fd, sink);

	link->error = broker_open(broker_path, &link->broker, link->why, sizeof(link->why));
	if (link->error == 0)
		wait_for_hello(link);
	else
		link->state = LINK_FAILED;
}
