/*
 * The broker's end of the channel, with the test as a front end that keeps the rules, breaks each
 * of them, does not read, or goes away.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "broker/channel.h"
#include "broker/fatal.h"
#include "policy/descriptors.h"
#include "tests/support/sandbox.h"

enum {
	EXIT_REQUESTS = 1,
	EXIT_NOTHING = 2,
	MESSAGE_BYTES = RECORD_BATCH * sizeof(struct record_probe),
};

static int front_fd = -1;

/* Gives this process, as the broker, a channel on descriptor 0. */
static void start(void)
{
	int ends[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
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

TestSuite(channel, .init = start);

static void send_bytes(const void *bytes, size_t count)
{
	cr_assert_eq(send(front_fd, bytes, count, MSG_DONTWAIT), (ssize_t)count);
}

/* --- what comes in ---------------------------------------------------------------------------- */

static void silence_stderr(void)
{
	int null_fd = open("/dev/null", O_WRONLY);

	if (null_fd < 0 || dup2(null_fd, DESC_STDERR) != DESC_STDERR)
		_exit(99);
}

/* In a child: what channel_read() makes of what is there. */
static int read_once(void *context)
{
	const struct record_probe *requests;

	(void)context;
	silence_stderr();
	return channel_read(&requests) == 0 ? EXIT_NOTHING : EXIT_REQUESTS;
}

static void expect_end(int (*body)(void *context), int status, const char *what)
{
	struct sandbox_end end = sandbox_run(body, NULL);

	cr_expect_eq(end.signal, 0, "%s: signal %d", what, end.signal);
	cr_expect_eq(end.status, status, "%s: status %d", what, end.status);
}

Test(channel, reads_batches_of_every_size)
{
	struct record_probe sent[RECORD_BATCH];
	const struct record_probe *requests;

	memset(sent, 0xee, sizeof(sent));
	cr_expect_eq(channel_read(&requests), 0);
	for (size_t count = 1; count <= RECORD_BATCH; count++) {
		send_bytes(sent, count * sizeof(sent[0]));
		cr_assert_eq(channel_read(&requests), count);
		cr_expect_eq(memcmp(requests, sent, count * sizeof(sent[0])), 0);
	}
	cr_expect_eq(channel_read(&requests), 0);
}

Test(channel, a_front_end_that_is_gone_is_the_end)
{
	close(front_fd);
	expect_end(read_once, 0, "closed");
}

Test(channel, a_message_of_no_bytes_is_the_end)
{
	send_bytes("", 0);
	expect_end(read_once, 0, "no bytes");
}

Test(channel, lengths_that_cannot_be)
{
	static const uint8_t bytes[MESSAGE_BYTES + 200];
	static const size_t lengths[] = {1,
					 16,
					 79,
					 80,
					 81,
					 144,
					 159,
					 160,
					 161,
					 MESSAGE_BYTES - 1,
					 MESSAGE_BYTES,
					 MESSAGE_BYTES + 1,
					 MESSAGE_BYTES + 80};

	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		bool good = lengths[i] % 80 == 0 && lengths[i] <= MESSAGE_BYTES;
		char what[60];
		snprintf(what, sizeof(what), "%zu bytes", lengths[i]);
		send_bytes(bytes, lengths[i]);
		expect_end(read_once, good ? EXIT_REQUESTS : FATAL_BAD_REQUEST, what);
	}
}

Test(channel, descriptors_are_not_taken)
{
	struct record_probe probe = {.kind = RECORD_PROBE};
	union {
		struct cmsghdr header;
		uint8_t bytes[CMSG_SPACE(sizeof(int))];
	} control = {.header = {.cmsg_level = SOL_SOCKET,
				.cmsg_type = SCM_RIGHTS,
				.cmsg_len = CMSG_LEN(sizeof(int))}};
	struct iovec piece = {&probe, sizeof(probe)};
	struct msghdr message = {.msg_iov = &piece,
				 .msg_iovlen = 1,
				 .msg_control = &control,
				 .msg_controllen = sizeof(control)};

	memcpy(CMSG_DATA(&control.header), &front_fd, sizeof(front_fd));
	cr_assert_eq(sendmsg(front_fd, &message, 0), (ssize_t)sizeof(probe));
	expect_end(read_once, FATAL_BAD_REQUEST, "a descriptor");
}

/* --- what goes out ---------------------------------------------------------------------------- */

static uint32_t next_queued, next_read, messages;

/* The kinds change now and then, so that there are messages of one record and of many. */
static uint8_t kind_of(uint32_t cookie)
{
	static const uint8_t kinds[] = {RECORD_ANSWER, RECORD_ANSWER, RECORD_FAILURE,
					RECORD_LONG_ANSWER, RECORD_ANSWER};

	return kinds[cookie / 37 % sizeof(kinds)];
}

static void queue_next(uint8_t kind)
{
	struct record_long_answer answer = {.head = {.kind = kind, .cookie = next_queued}};

	next_queued++;
	channel_queue(&answer, kind == RECORD_LONG_ANSWER ? sizeof(answer) : sizeof(answer.head));
}

/* Reads what is there: whole records of one kind in each message, in the order of queueing. */
static void read_records(void)
{
	static uint8_t in[RECORD_BATCH * sizeof(struct record_long_answer)];
	ssize_t length;

	while ((length = recv(front_fd, in, sizeof(in), MSG_DONTWAIT)) > 0) {
		size_t size = in[0] == RECORD_LONG_ANSWER ? sizeof(struct record_long_answer)
							  : sizeof(struct record_answer);
		messages++;
		cr_assert_eq((size_t)length % size, 0);
		cr_assert_leq((size_t)length / size, RECORD_BATCH);
		for (size_t at = 0; at < (size_t)length; at += size) {
			uint32_t cookie;
			memcpy(&cookie, in + at + offsetof(struct record_answer, cookie),
			       sizeof(cookie));
			cr_assert_eq(cookie, next_read);
			cr_assert_eq(in[at], kind_of(next_read));
			next_read++;
		}
	}
	cr_assert_eq(errno, EAGAIN);
}

Test(channel, answers_leave_in_batches)
{
	for (int i = 0; i < 37; i++)
		queue_next(RECORD_ANSWER);
	cr_expect(channel_flush());
	read_records();
	cr_expect_eq(next_read, 37);
	cr_expect_eq(messages, 1);
	cr_expect(channel_flush(), "nothing is left to send");
	read_records();
	cr_expect_eq(messages, 1);
}

/* A batch of each kind, over and over, to a reader that is slow: nothing is lost or overtaken. */
Test(channel, a_slow_reader_loses_nothing)
{
	int blocked = 0;

	for (int round = 0; round < 400; round++) {
		bool has_room = channel_flush();
		blocked += !has_room;
		for (int i = 0; i < RECORD_BATCH && has_room; i++)
			queue_next(kind_of(next_queued));
		if (round % 16 == 15)
			read_records();
	}
	for (int round = 0; round < 100 && !channel_flush(); round++)
		read_records();
	read_records();
	cr_expect_eq(next_read, next_queued);
	cr_expect_gt(blocked, 20, "the channel was never full");
}

static int overfill(void *context)
{
	(void)context;
	silence_stderr();
	for (int i = 0; i <= RECORD_BATCH; i++)
		queue_next(RECORD_LONG_ANSWER);
	return 98;
}

Test(channel, records_without_room_are_the_end)
{
	expect_end(overfill, FATAL_SYSTEM, "one more than a batch");
}

static int send_one(void *context)
{
	(void)context;
	queue_next(RECORD_ANSWER);
	return channel_flush() ? 1 : 2;
}

Test(channel, nobody_to_send_to_is_the_end)
{
	close(front_fd);
	expect_end(send_one, 0, "closed");
}

/* The kernel reports a reset if something was left unread. */
Test(channel, a_front_end_that_is_gone_without_reading_is_the_end)
{
	queue_next(RECORD_ANSWER);
	cr_assert(channel_flush());
	close(front_fd);
	expect_end(read_once, 0, "closed with an answer unread");
}
