/*
 * The broker link against a broker that the test plays on the other end of a socketpair: greeting,
 * batches, a channel that is full, and every way to misbehave or die.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "frontend/broker_link.h"

static struct transport *transport;
static int broker_fd, broker_words_fd; /* the played broker's ends */

/* What the sink was told. */
static int hellos, events, downs, down_error;
static char down_why[600];
static struct record_event last_event;
static uint8_t last_extension[RECORD_EXTENSION_BYTES];
static bool had_extension;

static void on_hello(void *context, const struct record_hello *hello)
{
	(void)context;
	cr_assert_eq(hello->slots, RECORD_SLOTS);
	hellos++;
}

static void on_event(void *context, const struct record_event *event, const uint8_t *extension)
{
	(void)context;
	events++;
	last_event = *event;
	had_extension = extension != NULL;
	if (extension)
		memcpy(last_extension, extension, event->extension_bytes);
}

static void on_down(void *context, int error, const char *why)
{
	(void)context;
	downs++;
	down_error = error;
	snprintf(down_why, sizeof(down_why), "%s", why);
}

static void start(void)
{
	int channel[2], words[2];
	const struct transport_sink sink = {NULL, on_hello, on_event, on_down};

	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, channel), 0);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, words), 0);
	broker_fd = channel[1];
	broker_words_fd = words[1];
	const struct broker_process broker = {-1, channel[0], words[0]};
	transport = broker_link_open(&broker, &sink);
	cr_assert_not_null(transport);
	hellos = events = downs = 0;
}

static void stop(void)
{
	transport_close(transport);
}

TestSuite(broker_link, .init = start, .fini = stop);

static void broker_says(const void *bytes, size_t length)
{
	cr_assert_eq(send(broker_fd, bytes, length, 0), (ssize_t)length);
}

static struct record_hello right_hello(void)
{
	return (struct record_hello){.kind = RECORD_HELLO,
				     .version = RECORD_VERSION,
				     .slots = RECORD_SLOTS,
				     .batch = RECORD_BATCH,
				     .extension_bytes = RECORD_EXTENSION_BYTES};
}

static void greet(void)
{
	struct record_hello hello = right_hello();

	broker_says(&hello, sizeof(hello));
	transport_dispatch(transport, 1);
	cr_assert_eq(hellos, 1);
}

static void dispatch(void)
{
	transport_dispatch(transport, 10000);
}

static void expect_down(int error)
{
	dispatch();
	cr_assert_eq(downs, 1);
	cr_assert_eq(down_error, error, "error %d: %s", down_error, down_why);
	cr_assert_gt(strlen(down_why), 0);
	/* Once, and nothing afterwards. */
	dispatch();
	cr_assert_eq(downs, 1);
	cr_assert_eq(transport_fd(transport), -1);
	struct record_probe probe = {.kind = RECORD_PROBE};
	transport_probe(transport, &probe);
	transport_cancel(transport, 0);
	transport_flush(transport);
	dispatch();
	cr_assert_eq(downs, 1);
}

static void queue_probe(uint32_t cookie)
{
	struct record_probe probe = {.kind = RECORD_PROBE, .family = 4, .cookie = cookie};

	transport_probe(transport, &probe);
}

/* Reads one message; returns the number of records and their cookies. */
static size_t broker_hears(uint8_t kind, uint32_t cookies[RECORD_BATCH])
{
	uint8_t bytes[RECORD_BATCH * sizeof(struct record_probe) + 1];
	size_t size =
		kind == RECORD_PROBE ? sizeof(struct record_probe) : sizeof(struct record_cancel);
	size_t at = kind == RECORD_PROBE ? offsetof(struct record_probe, cookie)
					 : offsetof(struct record_cancel, cookie);
	ssize_t length = recv(broker_fd, bytes, sizeof(bytes), MSG_DONTWAIT);

	if (length < 0)
		return 0;
	cr_assert_eq((size_t)length % size, 0);
	cr_assert_leq((size_t)length / size, RECORD_BATCH);
	for (size_t i = 0; i < (size_t)length / size; i++) {
		cr_assert_eq(bytes[i * size], kind);
		memcpy(&cookies[i], bytes + i * size + at, sizeof(cookies[i]));
	}
	return (size_t)length / size;
}

/* --- greeting ----------------------------------------------------------------------------------
 */

Test(broker_link, greets_before_anything_is_sent)
{
	uint32_t cookies[RECORD_BATCH];

	queue_probe(5);
	transport_flush(transport);
	cr_assert_eq(broker_hears(RECORD_PROBE, cookies), 0);
	greet();
	transport_flush(transport);
	cr_assert_eq(broker_hears(RECORD_PROBE, cookies), 1);
	cr_assert_eq(cookies[0], 5);
}

Test(broker_link, hello_of_another_version)
{
	struct record_hello hello = right_hello();

	hello.version++;
	broker_says(&hello, sizeof(hello));
	expect_down(EPROTO);
	cr_assert_eq(hellos, 0);
}

Test(broker_link, hello_that_is_short_or_long)
{
	char bytes[sizeof(struct record_hello) + 1] = {RECORD_HELLO};

	broker_says(bytes, sizeof(bytes));
	expect_down(EPROTO);
}

Test(broker_link, hello_that_allows_nothing)
{
	struct record_hello hello = right_hello();

	hello.batch = 0;
	broker_says(&hello, sizeof(hello));
	expect_down(EPROTO);
}

Test(broker_link, event_before_hello)
{
	struct record_event event = {.kind = RECORD_EVENT, .what = EVENT_REPLY};

	broker_says(&event, sizeof(event));
	expect_down(EPROTO);
	cr_assert_eq(events, 0);
}

Test(broker_link, second_hello)
{
	struct record_hello hello = right_hello();

	greet();
	broker_says(&hello, sizeof(hello));
	expect_down(EPROTO);
	cr_assert_eq(hellos, 1);
}

/* --- events ------------------------------------------------------------------------------------
 */

Test(broker_link, batches_of_events)
{
	struct record_event batch[RECORD_BATCH] = {{0}};

	greet();
	for (int i = 0; i < RECORD_BATCH; i++)
		batch[i] = (struct record_event){
			.kind = RECORD_EVENT, .what = EVENT_REPLY, .cookie = (uint32_t)i};
	for (int i = 0; i < 8; i++)
		broker_says(batch, sizeof(batch));
	broker_says(batch, sizeof(batch[0]));
	dispatch();
	cr_assert_eq(events, 8 * RECORD_BATCH + 1);
	cr_assert_eq(last_event.cookie, 0);
	cr_assert_not(had_extension);
}

Test(broker_link, tells_no_more_events_than_asked_for)
{
	struct record_event event = {.kind = RECORD_EVENT, .what = EVENT_REPLY};

	greet();
	for (int i = 0; i < 50; i++)
		broker_says(&event, sizeof(event));
	transport_dispatch(transport, 10);
	cr_assert_leq(events, 10 + RECORD_BATCH);
	int told = events;
	cr_assert_gt(told, 0);
	for (int i = 0; i < 50; i++)
		transport_dispatch(transport, 10);
	cr_assert_eq(events, 50);
}

Test(broker_link, extended_events)
{
	struct record_event_ext batch[2] = {
		{.event = {.kind = RECORD_EVENT_EXT, .what = EVENT_ICMP, .extension_bytes = 4},
		 .extension = {1, 2, 3, 4}},
		{.event = {.kind = RECORD_EVENT_EXT,
			   .what = EVENT_ICMP,
			   .cookie = 9,
			   .extension_bytes = RECORD_EXTENSION_BYTES}}};

	greet();
	memset(batch[1].extension, 0xee, RECORD_EXTENSION_BYTES);
	broker_says(batch, sizeof(batch));
	dispatch();
	cr_assert_eq(events, 2);
	cr_assert(had_extension);
	cr_assert_eq(last_event.cookie, 9);
	cr_assert_eq(last_extension[RECORD_EXTENSION_BYTES - 1], 0xee);
}

Test(broker_link, extension_longer_than_its_record)
{
	struct record_event_ext event = {
		.event = {.kind = RECORD_EVENT_EXT, .extension_bytes = RECORD_EXTENSION_BYTES + 1}};

	greet();
	broker_says(&event, sizeof(event));
	expect_down(EPROTO);
	cr_assert_eq(events, 0);
}

Test(broker_link, extension_in_a_plain_event)
{
	struct record_event event = {.kind = RECORD_EVENT, .extension_bytes = 1};

	greet();
	broker_says(&event, sizeof(event));
	expect_down(EPROTO);
}

Test(broker_link, odd_length)
{
	struct record_event batch[2] = {{.kind = RECORD_EVENT}, {.kind = RECORD_EVENT}};

	greet();
	broker_says(batch, sizeof(batch) - 1);
	expect_down(EPROTO);
}

Test(broker_link, two_kinds_in_one_message)
{
	struct record_event batch[2] = {{.kind = RECORD_EVENT, .what = EVENT_REPLY},
					{.kind = RECORD_PROBE}};

	greet();
	broker_says(batch, sizeof(batch));
	expect_down(EPROTO);
	cr_assert_eq(events, 1);
}

Test(broker_link, longer_than_any_message)
{
	static char bytes[RECORD_BATCH * sizeof(struct record_event_ext) + 576];

	greet();
	memset(bytes, RECORD_EVENT_EXT, sizeof(bytes));
	broker_says(bytes, sizeof(bytes));
	expect_down(EPROTO);
	cr_assert_eq(events, 0);
}

Test(broker_link, garbage)
{
	greet();
	srand(3);
	char bytes[577];
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (char)rand();
	broker_says(bytes, sizeof(bytes));
	expect_down(EPROTO);
}

/* --- requests ----------------------------------------------------------------------------------
 */

Test(broker_link, probes_leave_in_order_in_batches)
{
	uint32_t cookies[RECORD_BATCH], next = 0;

	greet();
	for (uint32_t i = 0; i < 3 * RECORD_BATCH + 40; i++)
		queue_probe(i);
	transport_flush(transport);
	while (next < 3 * RECORD_BATCH + 40) {
		size_t count = broker_hears(RECORD_PROBE, cookies);
		cr_assert_eq(count, next < 3 * RECORD_BATCH ? RECORD_BATCH : 40, "%zu at %u", count,
			     next);
		for (size_t i = 0; i < count; i++)
			cr_assert_eq(cookies[i], next++);
	}
	cr_assert_eq(transport_poll_events(transport), POLLIN);
}

Test(broker_link, smaller_batches_where_the_broker_says_so)
{
	struct record_hello hello = right_hello();
	uint32_t cookies[RECORD_BATCH];

	hello.batch = 3;
	broker_says(&hello, sizeof(hello));
	dispatch();
	for (uint32_t i = 0; i < 7; i++)
		queue_probe(i);
	transport_flush(transport);
	cr_assert_eq(broker_hears(RECORD_PROBE, cookies), 3);
	cr_assert_eq(broker_hears(RECORD_PROBE, cookies), 3);
	cr_assert_eq(broker_hears(RECORD_PROBE, cookies), 1);
}

Test(broker_link, full_channel_loses_nothing)
{
	uint32_t cookies[RECORD_BATCH], next = 0;
	bool was_blocked = false;

	greet();
	for (uint32_t i = 0; i < RECORD_SLOTS; i++)
		queue_probe(i);
	for (int round = 0; next < RECORD_SLOTS; round++) {
		cr_assert_lt(round, 100000);
		transport_flush(transport);
		was_blocked |= transport_poll_events(transport) == (POLLIN | POLLOUT);
		size_t count = broker_hears(RECORD_PROBE, cookies);
		for (size_t i = 0; i < count; i++)
			cr_assert_eq(cookies[i], next++);
	}
	cr_assert(was_blocked, "the channel took everything at once: nothing was tested");
	cr_assert_eq(transport_poll_events(transport), POLLIN);
}

Test(broker_link, cancelled_before_it_left)
{
	uint32_t cookies[RECORD_BATCH];

	greet();
	queue_probe(1);
	queue_probe(2);
	queue_probe(3);
	transport_cancel(transport, 2);
	transport_flush(transport);
	cr_assert_eq(broker_hears(RECORD_PROBE, cookies), 2);
	cr_assert_eq(cookies[0], 1);
	cr_assert_eq(cookies[1], 3);
	cr_assert_eq(broker_hears(RECORD_CANCEL, cookies), 0);
	/* The slot is as good as new. */
	queue_probe(0x10002);
	transport_flush(transport);
	cr_assert_eq(broker_hears(RECORD_PROBE, cookies), 1);
	cr_assert_eq(cookies[0], 0x10002);
}

Test(broker_link, cancelled_after_it_left_and_used_again)
{
	uint32_t cookies[RECORD_BATCH];

	greet();
	queue_probe(7);
	transport_flush(transport);
	cr_assert_eq(broker_hears(RECORD_PROBE, cookies), 1);
	transport_cancel(transport, 7);
	queue_probe(0x10007);
	transport_flush(transport);
	cr_assert_eq(broker_hears(RECORD_CANCEL, cookies), 1);
	cr_assert_eq(cookies[0], 7);
	cr_assert_eq(broker_hears(RECORD_PROBE, cookies), 1);
	cr_assert_eq(cookies[0], 0x10007);
}

/* A broker that stands still while the client's probes time out and are sent anew for ever: what is
 * queued stays bounded by the slots, and what leaves in the end is what is open. */
Test(broker_link, a_broker_that_stands_still_costs_no_memory)
{
	uint32_t cookies[RECORD_BATCH];
	int probes = 0, cancels = 0;

	greet();
	for (uint32_t generation = 0; generation < 50; generation++) {
		for (uint32_t slot = 0; slot < RECORD_SLOTS; slot++) {
			if (generation > 0)
				transport_cancel(transport, (generation - 1) << 16 | slot);
			queue_probe(generation << 16 | slot);
		}
		transport_flush(transport);
	}
	for (int idle = 0; idle < 2;) {
		/* Kinds come in messages of their own; the first byte says which. */
		uint8_t kind = 0;
		transport_flush(transport);
		if (recv(broker_fd, &kind, 1, MSG_DONTWAIT | MSG_PEEK) < 1) {
			idle++;
			continue;
		}
		size_t count = broker_hears(kind, cookies);
		if (kind == RECORD_PROBE)
			probes += (int)count;
		else
			cancels += (int)count;
	}
	/* The first ones that the channel took, then the last generation, then nothing. */
	cr_assert_eq(probes - cancels, RECORD_SLOTS);
	cr_assert_lt(probes, 2 * RECORD_SLOTS);
}

/* --- the end -----------------------------------------------------------------------------------
 */

Test(broker_link, end_without_a_word)
{
	greet();
	close(broker_fd);
	expect_down(ECONNRESET);
}

Test(broker_link, end_before_the_hello_with_words)
{
	static const char words[] =
		"postern-broker: raise \033CAP_NET_RAW: not permitted\nand more";

	cr_assert_eq(write(broker_words_fd, words, sizeof(words) - 1), sizeof(words) - 1);
	close(broker_fd);
	expect_down(ECONNRESET);
	cr_assert_str_eq(down_why, "postern-broker: raise ?CAP_NET_RAW: not permitted");
}

/* The kernel tells a reset channel once, to whichever call comes first, and before what is still to
 * be read. */
static void end_with_requests_unread(bool send_first)
{
	struct record_event event = {.kind = RECORD_EVENT, .what = EVENT_REPLY, .cookie = 77};

	greet();
	queue_probe(1);
	transport_flush(transport);
	broker_says(&event, sizeof(event));
	close(broker_fd);
	queue_probe(2);
	if (send_first)
		transport_flush(transport);
	expect_down(ECONNRESET);
	cr_assert_eq(events, 1, "what was said before the end is lost");
}

Test(broker_link, end_with_requests_unread_is_noticed_reading)
{
	end_with_requests_unread(false);
}

Test(broker_link, end_with_requests_unread_is_noticed_sending)
{
	end_with_requests_unread(true);
}

Test(broker_link, a_program_that_is_not_there)
{
	const struct transport_sink sink = {NULL, on_hello, on_event, on_down};
	struct transport *other = transport_open("/nonexistent/postern-broker", &sink);

	cr_assert_not_null(other);
	cr_assert_eq(downs, 0, "told before the first dispatch");
	transport_dispatch(other, 1);
	cr_assert_eq(downs, 1);
	cr_assert_eq(down_error, ENOENT);
	cr_assert_not_null(strstr(down_why, "/nonexistent/postern-broker"));
	transport_close(other);
	/* Nor is anything left of who tried to run it. */
	cr_assert_eq(waitpid(-1, NULL, WNOHANG), -1);
	cr_assert_eq(errno, ECHILD);
}

Test(broker_link, a_program_that_is_no_broker)
{
	const struct transport_sink sink = {NULL, on_hello, on_event, on_down};
	struct transport *other = transport_open("/bin/true", &sink);
	struct pollfd ready = {.fd = transport_fd(other), .events = POLLIN};

	cr_assert_eq(poll(&ready, 1, 5000), 1);
	transport_dispatch(other, 1);
	cr_assert_eq(downs, 1);
	cr_assert_eq(down_error, ECONNRESET);
	cr_assert_str_eq(down_why, "postern-broker: ended with exit status 0");
	transport_close(other);
}
