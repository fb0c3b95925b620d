/*
 * The broker's end of the channel. Runs in the broker and distrusts the peer, which may be any
 * program that was given a socketpair: lengths, kinds and reserved bytes are checked here, meanings
 * by policy/admission.c. A peer that does not read its events stops the broker, not more.
 */
#include "broker/channel.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "broker/descriptors.h"
#include "broker/large_table.h"
#include "broker/last_line.h"

enum {
	EXIT_VIOLATION = 65, /* EX_DATAERR */
	/* A batch of answers and a batch of refused requests must find room. */
	EVENTS_ROOM = 2 * RECORD_BATCH,
	EVENTS_MAX = 2 * EVENTS_ROOM,
	EXTENDED_MAX = RECORD_BATCH,
	/* Extended events are nine times as long: so many make a message of some 9 kB. */
	EXTENDED_BATCH = 16,
	/* One byte more than the longest message, to notice longer ones. */
	READ_BYTES = RECORD_BATCH * sizeof(struct record_probe) + 1,
};

static LARGE_TABLE struct record_event events[EVENTS_MAX];
static size_t event_count;
static LARGE_TABLE struct record_event_ext extended[EXTENDED_MAX];
static size_t extended_count;

static LARGE_TABLE union {
	uint8_t kind;
	struct record_probe probes[RECORD_BATCH];
	struct record_cancel cancels[RECORD_BATCH];
	uint8_t bytes[READ_BYTES];
} incoming;

_Noreturn void channel_violation(const char *what)
{
	char line[200];
	int length = snprintf(line, sizeof(line), "postern-broker: the front end sent %s\n", what);

	if (length > 0 && (size_t)length < sizeof(line))
		last_line(line, (size_t)length);
	_exit(EXIT_VIOLATION);
}

bool channel_check(struct step_failure *failure)
{
	static const char *const remedy =
		"descriptor 0 must be one end of a socketpair(AF_UNIX, SOCK_SEQPACKET); start "
		"mtr-packet or tracepath instead, which make one";
	int domain = 0;
	int type = 0;
	socklen_t bytes = sizeof(int);

	failure->exit_status = STEP_BAD_CHANNEL;
	if (getsockopt(DESC_CHANNEL, SOL_SOCKET, SO_DOMAIN, &domain, &bytes) != 0 ||
	    getsockopt(DESC_CHANNEL, SOL_SOCKET, SO_TYPE, &type, &bytes) != 0) {
		step_failed(failure, "look at the channel on descriptor 0", remedy);
		failure->exit_status = STEP_BAD_CHANNEL;
		return false;
	}
	if (domain == AF_UNIX && type == SOCK_SEQPACKET)
		return true;
	*failure = (struct step_failure){.step = "the channel on descriptor 0 is another kind of "
						 "socket",
					 .remedy = remedy,
					 .exit_status = STEP_BAD_CHANNEL};
	return false;
}

/* 1: sent; 0: not now. A peer that is gone ends the broker like a closed channel. Not sendmsg(2),
 * which could pass a descriptor: policy/filter/table_broker.c says what that would give away. */
static int send_message(const void *bytes, size_t length)
{
	if (send(DESC_CHANNEL, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
		return 1;
	if (errno == EAGAIN || errno == ENOBUFS)
		return 0;
	_exit(0);
}

bool channel_hello(uint32_t features, struct step_failure *failure)
{
	struct record_hello hello = {
		.kind = RECORD_HELLO,
		.version = RECORD_VERSION,
		.features = features,
		.slots = RECORD_SLOTS,
		.batch = RECORD_BATCH,
		.extension_bytes = RECORD_EXTENSION_BYTES,
	};

	if (send_message(&hello, sizeof(hello)) == 1)
		return true;
	return step_failed(failure, "send the hello on the channel", "read from the channel");
}

/* Whether the message is a whole number of records of `size`, all of `kind`. */
static bool is_made_of(size_t length, size_t size, uint8_t kind)
{
	if (length == 0 || length % size != 0 || length / size > RECORD_BATCH)
		return false;
	for (size_t at = 0; at < length; at += size)
		if (incoming.bytes[at] != kind)
			return false;
	return true;
}

static void check_cancels(const struct channel_message *message)
{
	static const uint8_t zero[sizeof(message->cancels->reserved)];

	for (size_t i = 0; i < message->count; i++)
		if (memcmp(message->cancels[i].reserved, zero, sizeof(zero)) != 0)
			channel_violation("a cancellation whose reserved bytes are not zero");
}

enum channel_result channel_read(struct channel_message *message)
{
	struct iovec piece = {.iov_base = incoming.bytes, .iov_len = sizeof(incoming.bytes)};
	/* No room for control data: a descriptor that is passed sets MSG_CTRUNC and is closed. */
	struct msghdr header = {.msg_iov = &piece, .msg_iovlen = 1};
	ssize_t length = recvmsg(DESC_CHANNEL, &header, MSG_DONTWAIT);

	if (length < 0 && (errno == EAGAIN || errno == EINTR))
		return CHANNEL_NOTHING;
	if ((header.msg_flags & MSG_CTRUNC) != 0)
		channel_violation("a message with ancillary data");
	if (length <= 0)
		return CHANNEL_CLOSED;
	if ((header.msg_flags & MSG_TRUNC) != 0)
		channel_violation("a message that is too long");

	message->kind = incoming.kind;
	if (is_made_of((size_t)length, sizeof(struct record_probe), RECORD_PROBE)) {
		message->count = (size_t)length / sizeof(struct record_probe);
		message->probes = incoming.probes;
		return CHANNEL_MESSAGE;
	}
	if (!is_made_of((size_t)length, sizeof(struct record_cancel), RECORD_CANCEL))
		channel_violation("a message that is no whole number of records of one kind");
	message->count = (size_t)length / sizeof(struct record_cancel);
	message->cancels = incoming.cancels;
	check_cancels(message);
	return CHANNEL_MESSAGE;
}

void channel_event(const struct record_event *event, const uint8_t *extension)
{
	/* channel_has_room() was asked: this is for the day when somebody forgets to. */
	if (extension == NULL ? event_count == EVENTS_MAX : extended_count == EXTENDED_MAX)
		_exit(1);
	if (extension == NULL) {
		struct record_event *made = &events[event_count++];
		*made = *event;
		made->kind = RECORD_EVENT;
		made->extension_bytes = 0;
		return;
	}
	struct record_event_ext *made = &extended[extended_count++];
	memset(made, 0, sizeof(*made));
	made->event = *event;
	made->event.kind = RECORD_EVENT_EXT;
	memcpy(made->extension, extension, event->extension_bytes);
}

/* Sends the records of one kind from the front of their queue; how many are left. */
static size_t send_records(void *records, size_t size, size_t count, size_t batch)
{
	uint8_t *bytes = records;
	size_t sent = 0;

	while (sent < count) {
		size_t now = count - sent < batch ? count - sent : batch;
		if (send_message(bytes + sent * size, now * size) == 0)
			break;
		sent += now;
	}
	if (sent != 0 && sent != count)
		memmove(bytes, bytes + sent * size, (count - sent) * size);
	return count - sent;
}

bool channel_ready(void)
{
	event_count = send_records(events, sizeof(events[0]), event_count, RECORD_BATCH);
	if (event_count == 0)
		extended_count =
			send_records(extended, sizeof(extended[0]), extended_count, EXTENDED_BATCH);
	return event_count == 0 && extended_count == 0;
}

bool channel_has_room(void)
{
	return event_count <= EVENTS_MAX - EVENTS_ROOM && extended_count == 0;
}
