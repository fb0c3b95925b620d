/*
 * The broker's end of the channel, with the test as a front end that keeps the rules, breaks each
 * of them, does not read, or goes away.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "broker/channel.h"
#include "broker/descriptors.h"
#include "tests/support/sandbox.h"

enum {
	EXIT_VIOLATION = 65, /* EX_DATAERR */
	EXIT_MESSAGE = 1,
	EXIT_NOTHING = 2,
	EXIT_CLOSED = 3,
	MESSAGE_BYTES = RECORD_BATCH * sizeof(struct record_probe),
};

static int front_fd = -1;

/* Gives this process, as the broker, a channel on descriptor 0. */
static void connect_channel(int type)
{
	int ends[2];

	cr_assert_eq(socketpair(AF_UNIX, type, 0, ends), 0);
	/* Away from 0, which Criterion's workers may have left free. */
	front_fd = fcntl(ends[1], F_DUPFD, 10);
	cr_assert_geq(front_fd, 10);
	if (ends[0] != DESC_CHANNEL) {
		cr_assert_eq(dup2(ends[0], DESC_CHANNEL), DESC_CHANNEL);
		close(ends[0]);
	}
	if (ends[1] != DESC_CHANNEL)
		close(ends[1]);
}

static void start(void)
{
	connect_channel(SOCK_SEQPACKET);
}

TestSuite(channel, .init = start);

static void send_bytes(const void *bytes, size_t count)
{
	cr_assert_eq(send(front_fd, bytes, count, MSG_DONTWAIT), (ssize_t)count);
}

/* --- what comes in ---------------------------------------------------------------------------- */

/* In a child: what channel_read() makes of what is there. Violations end the process. */
static int read_once(void *context)
{
	struct channel_message message;

	(void)context;
	int null_fd = open("/dev/null", O_WRONLY);
	if (null_fd < 0 || dup2(null_fd, DESC_STDERR) != DESC_STDERR)
		return 99;
	switch (channel_read(&message)) {
	case CHANNEL_MESSAGE:
		return EXIT_MESSAGE;
	case CHANNEL_NOTHING:
		return EXIT_NOTHING;
	case CHANNEL_CLOSED:
		return EXIT_CLOSED;
	}
	return 98;
}

static void expect_end(int status, const char *what)
{
	struct sandbox_end end = sandbox_run(read_once, NULL);

	cr_expect_eq(end.signal, 0, "%s: signal %d", what, end.signal);
	cr_expect_eq(end.status, status, "%s: status %d", what, end.status);
}

Test(channel, nothing_there_is_nothing)
{
	struct channel_message message;

	cr_expect_eq(channel_read(&message), CHANNEL_NOTHING);
}

Test(channel, reads_batches_of_every_size)
{
	struct record_probe probes[RECORD_BATCH];
	struct record_cancel cancels[RECORD_BATCH];
	struct channel_message message;

	memset(probes, 0xee, sizeof(probes));
	memset(cancels, 0, sizeof(cancels));
	for (uint32_t i = 0; i < RECORD_BATCH; i++) {
		probes[i].kind = RECORD_PROBE;
		probes[i].cookie = i;
		cancels[i].kind = RECORD_CANCEL;
		cancels[i].cookie = ~i;
	}
	for (size_t count = 1; count <= RECORD_BATCH; count++) {
		send_bytes(probes, count * sizeof(probes[0]));
		send_bytes(cancels, count * sizeof(cancels[0]));
		cr_assert_eq(channel_read(&message), CHANNEL_MESSAGE);
		cr_expect_eq(message.kind, RECORD_PROBE);
		cr_assert_eq(message.count, count);
		cr_expect_eq(memcmp(message.probes, probes, count * sizeof(probes[0])), 0);
		cr_assert_eq(channel_read(&message), CHANNEL_MESSAGE);
		cr_expect_eq(message.kind, RECORD_CANCEL);
		cr_assert_eq(message.count, count);
		cr_expect_eq(memcmp(message.cancels, cancels, count * sizeof(cancels[0])), 0);
	}
	cr_expect_eq(channel_read(&message), CHANNEL_NOTHING);
}

Test(channel, a_front_end_that_is_gone_is_no_violation)
{
	close(front_fd);
	expect_end(EXIT_CLOSED, "closed");
}

/* Events nobody has read are lost with their reader. */
Test(channel, a_front_end_that_is_gone_without_reading_is_none_either)
{
	struct step_failure failure = {.step = NULL};

	cr_assert(channel_hello(0, &failure));
	close(front_fd);
	expect_end(EXIT_CLOSED, "closed with a hello unread");
}

/* Every length that is not one of whole records, and every kind that is not asked for. */
Test(channel, lengths_and_kinds_that_cannot_be)
{
	static uint8_t bytes[MESSAGE_BYTES + 200];
	static const uint8_t kinds[] = {
		0, RECORD_HELLO, RECORD_PROBE, RECORD_CANCEL, RECORD_EVENT, RECORD_EVENT_EXT, 0xff};
	static const size_t lengths[] = {1,
					 7,
					 8,
					 9,
					 63,
					 64,
					 65,
					 127,
					 RECORD_BATCH * sizeof(struct record_cancel),
					 (RECORD_BATCH + 1) * sizeof(struct record_cancel),
					 MESSAGE_BYTES,
					 MESSAGE_BYTES + 1,
					 MESSAGE_BYTES + 64};

	for (size_t k = 0; k < sizeof(kinds); k++) {
		size_t size = kinds[k] == RECORD_PROBE ? sizeof(struct record_probe)
						       : sizeof(struct record_cancel);
		memset(bytes, 0, sizeof(bytes));
		for (size_t at = 0; at < sizeof(bytes); at += size)
			bytes[at] = kinds[k];
		for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
			bool known = kinds[k] == RECORD_PROBE || kinds[k] == RECORD_CANCEL;
			bool good = known && lengths[i] % size == 0 &&
				    lengths[i] / size <= RECORD_BATCH;
			char what[60];
			snprintf(what, sizeof(what), "kind %d, %zu bytes", kinds[k], lengths[i]);
			send_bytes(bytes, lengths[i]);
			expect_end(good ? EXIT_MESSAGE : EXIT_VIOLATION, what);
		}
	}
}

Test(channel, records_of_two_kinds_in_one_message)
{
	struct record_probe probes[3];
	struct record_cancel cancels[16];

	memset(probes, 0, sizeof(probes));
	for (size_t i = 0; i < 3; i++)
		probes[i].kind = i == 2 ? RECORD_CANCEL : RECORD_PROBE;
	send_bytes(probes, sizeof(probes));
	expect_end(EXIT_VIOLATION, "a cancellation among probes");

	memset(cancels, 0, sizeof(cancels));
	for (size_t i = 0; i < 16; i++)
		cancels[i].kind = i == 8 ? RECORD_PROBE : RECORD_CANCEL;
	send_bytes(cancels, sizeof(cancels));
	expect_end(EXIT_VIOLATION, "a probe among cancellations");
}

Test(channel, reserved_bytes_of_a_cancellation)
{
	for (size_t i = 0; i < 3; i++) {
		struct record_cancel cancels[2] = {{.kind = RECORD_CANCEL},
						   {.kind = RECORD_CANCEL}};
		cancels[1].reserved[i] = 1;
		send_bytes(cancels, sizeof(cancels));
		expect_end(EXIT_VIOLATION, "a reserved byte");
	}
}

Test(channel, a_message_of_no_bytes_is_the_end)
{
	send_bytes("", 0);
	expect_end(EXIT_CLOSED, "no bytes");
}

Test(channel, descriptors_are_not_taken)
{
	struct record_cancel cancel = {.kind = RECORD_CANCEL};
	union {
		struct cmsghdr header;
		uint8_t bytes[CMSG_SPACE(sizeof(int))];
	} control = {.header = {.cmsg_level = SOL_SOCKET,
				.cmsg_type = SCM_RIGHTS,
				.cmsg_len = CMSG_LEN(sizeof(int))}};
	struct iovec piece = {&cancel, sizeof(cancel)};
	struct msghdr message = {.msg_iov = &piece,
				 .msg_iovlen = 1,
				 .msg_control = &control,
				 .msg_controllen = sizeof(control)};

	memcpy(CMSG_DATA(&control.header), &front_fd, sizeof(front_fd));
	cr_assert_eq(sendmsg(front_fd, &message, 0), (ssize_t)sizeof(cancel));
	expect_end(EXIT_VIOLATION, "a descriptor");
}

/* --- what goes out ---------------------------------------------------------------------------- */

Test(channel, says_hello)
{
	struct step_failure failure = {.step = NULL};
	struct record_hello hello;

	cr_assert(channel_hello(FEATURE_ICMP | FEATURE_MARK, &failure));
	cr_assert_eq(recv(front_fd, &hello, sizeof(hello), MSG_DONTWAIT), (ssize_t)sizeof(hello));
	cr_expect_eq(hello.kind, RECORD_HELLO);
	cr_expect_eq(hello.version, RECORD_VERSION);
	cr_expect_eq(hello.features, FEATURE_ICMP | FEATURE_MARK);
	cr_expect_eq(hello.slots, RECORD_SLOTS);
	cr_expect_eq(hello.batch, RECORD_BATCH);
	cr_expect_eq(hello.extension_bytes, RECORD_EXTENSION_BYTES);
	cr_expect_eq(hello.reserved[0] | hello.reserved[1] | hello.reserved[2], 0);
	cr_expect_eq(hello.reserved2[0] | hello.reserved2[1], 0);
}

static uint32_t next_plain, next_extended, messages;

/* Reads what is there and checks that each kind comes in the order in which it was queued. */
static void read_events(void)
{
	static union {
		struct record_event plain[RECORD_BATCH + 1];
		struct record_event_ext extended[RECORD_BATCH];
		uint8_t bytes[1];
	} in;
	ssize_t length;

	while ((length = recv(front_fd, &in, sizeof(in), MSG_DONTWAIT)) > 0) {
		bool is_plain = in.bytes[0] == RECORD_EVENT;
		size_t size = is_plain ? sizeof(in.plain[0]) : sizeof(in.extended[0]);
		size_t count = (size_t)length / size;
		messages++;
		cr_assert_eq((size_t)length % size, 0);
		cr_assert_leq(count, RECORD_BATCH);
		for (size_t i = 0; i < count; i++) {
			const struct record_event *event =
				is_plain ? &in.plain[i] : &in.extended[i].event;
			cr_assert_eq(event->kind, is_plain ? RECORD_EVENT : RECORD_EVENT_EXT);
			cr_assert_eq(event->cookie, is_plain ? next_plain++ : next_extended++);
			if (is_plain) {
				cr_assert_eq(event->extension_bytes, 0);
				continue;
			}
			const uint8_t *extension = in.extended[i].extension;
			size_t bytes = event->extension_bytes;
			cr_assert_eq(bytes, event->cookie % 513);
			for (size_t k = 0; k < RECORD_EXTENSION_BYTES; k++)
				cr_assert_eq(extension[k], k < bytes ? 0x9b : 0);
		}
	}
	cr_assert_eq(errno, EAGAIN);
}

static void queue(uint32_t plain, uint32_t extended)
{
	static uint32_t plain_cookie, extended_cookie;
	uint8_t extension[RECORD_EXTENSION_BYTES];

	memset(extension, 0x9b, sizeof(extension));
	for (uint32_t i = 0; i < plain; i++) {
		const struct record_event event = {.cookie = plain_cookie++};
		channel_event(&event, NULL);
	}
	for (uint32_t i = 0; i < extended; i++) {
		struct record_event event = {.cookie = extended_cookie++};
		event.extension_bytes = (uint16_t)(event.cookie % 513);
		channel_event(&event, extension);
	}
}

Test(channel, events_leave_in_batches)
{
	queue(RECORD_BATCH, 0);
	cr_expect(channel_ready());
	read_events();
	cr_expect_eq(next_plain, RECORD_BATCH);
	cr_expect_eq(messages, 1);
	cr_expect(channel_ready(), "nothing is left to send");
	read_events();
	cr_expect_eq(messages, 1);
}

/* A batch of answers, plain or extended, and a batch of refusals, over and over, to a reader that
 * is slow: nothing is lost, nothing overtakes its kind. */
Test(channel, a_slow_reader_loses_nothing)
{
	uint32_t plain = 0, extended = 0;
	int blocked = 0;

	for (int round = 0; round < 400; round++) {
		if (channel_ready()) {
			uint32_t some = (uint32_t)round % (RECORD_BATCH + 1);
			queue(RECORD_BATCH - some + RECORD_BATCH, some);
			plain += 2 * RECORD_BATCH - some;
			extended += some;
		} else {
			blocked++;
		}
		if (round % 16 == 15)
			read_events();
	}
	for (int round = 0; round < 100 && !channel_ready(); round++)
		read_events();
	read_events();
	cr_expect_eq(next_plain, plain);
	cr_expect_eq(next_extended, extended);
	cr_expect_gt(blocked, 20, "the channel was never full");
}

static int send_one(void *context)
{
	(void)context;
	queue(1, 0);
	return channel_ready() ? 1 : 2;
}

/* In a child: more events than there is room for, without asking for it. */
static int overfill(void *context)
{
	const struct record_event event = {.what = EVENT_ICMP, .extension_bytes = 4};
	static const uint8_t extension[4];
	const bool *is_extended = context;

	for (int i = 0; i < 100 * RECORD_BATCH; i++)
		channel_event(&event, *is_extended ? extension : NULL);
	return 98;
}

Test(channel, events_without_room_are_the_end)
{
	for (int is_extended = 0; is_extended < 2; is_extended++) {
		bool context = is_extended != 0;
		struct sandbox_end end = sandbox_run(overfill, &context);
		cr_expect_eq(end.signal, 0, "signal %d", end.signal);
		cr_expect_eq(end.status, 1, "status %d", end.status);
	}
}

Test(channel, nobody_to_send_to_is_the_end)
{
	close(front_fd);
	struct sandbox_end end = sandbox_run(send_one, NULL);
	cr_expect_eq(end.signal, 0);
	cr_expect_eq(end.status, 0);
}

/* --- what the channel is ---------------------------------------------------------------------- */

Test(channel, is_an_af_unix_seqpacket_socket)
{
	struct step_failure failure = {.step = NULL};

	cr_expect(channel_check(&failure));
	static const int wrong[] = {SOCK_STREAM, SOCK_DGRAM};
	for (size_t i = 0; i < 2; i++) {
		connect_channel(wrong[i]);
		memset(&failure, 0, sizeof(failure));
		cr_expect_not(channel_check(&failure));
		cr_expect_eq(failure.exit_status, STEP_BAD_CHANNEL);
		cr_expect_not_null(failure.step);
		cr_expect_not_null(failure.remedy);
	}
	int null_fd = open("/dev/null", O_RDWR);
	cr_assert_eq(dup2(null_fd, DESC_CHANNEL), DESC_CHANNEL);
	cr_expect_not(channel_check(&failure));
	cr_expect_eq(failure.exit_status, STEP_BAD_CHANNEL);
	close(DESC_CHANNEL);
	cr_expect_not(channel_check(&failure));
	cr_expect_eq(failure.exit_status, STEP_BAD_CHANNEL);
}
