/*
 * The transport over the broker, against a broker that the test plays on the other end of a
 * socketpair: start, batches, a full channel, refused probes, and every way to misbehave or end.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/record.h"
#include "frontend/process/clock.h"
#include "frontend/transport/broker_link.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static struct way way;
static int epoll_fd;
static int broker_fd, broker_stderr_fd; /* the played broker's ends */

/* What was reported to the sink. */
static int readies, results, downs, down_error;
static int unfinished; /* results that have the probe sent again, which are not in `results` */
static uint32_t features, lost_features;
static char down_why[600];
static struct probe_result last_result;

static void on_ready(void *context, uint32_t all)
{
	(void)context;
	readies++;
	features = all;
}

static void on_result(void *context, const struct probe_result *result)
{
	(void)context;
	if (result->kind == RESULT_FAILED && result->error == EAGAIN) {
		cr_expect_eq(downs, 0, "before the caller knows that the way is gone");
		unfinished++;
		return;
	}
	results++;
	last_result = *result;
}

static void on_down(void *context, uint32_t lost, int error, const char *why)
{
	(void)context;
	downs++;
	lost_features = lost;
	down_error = error;
	snprintf(down_why, sizeof(down_why), "%s", why);
}

static const struct transport_sink sink = {NULL, on_ready, on_result, on_down};

static const uint32_t all_features = FEATURE_ICMP | FEATURE_SCTP |
				     FEATURE_ICMP << FEATURE_IPV6_SHIFT |
				     FEATURE_SCTP << FEATURE_IPV6_SHIFT | FEATURE_MARK;

static void start(void)
{
	int channel[2], errors[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, channel), 0);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, errors), 0);
	epoll_fd = epoll_create1(0);
	cr_assert_geq(epoll_fd, 0);
	broker_fd = channel[1];
	broker_stderr_fd = errors[1];
	const struct broker_process broker = {"postern-broker", -1, channel[0], errors[0]};
	broker_link_attach(&way, epoll_fd, &broker, &sink);
}

static void stop(void)
{
	way.functions->close(way.self);
}

TestSuite(broker_link, .init = start, .fini = stop);

static void dispatch(void)
{
	way.functions->dispatch(way.self, 10000);
}

static void flush(void)
{
	way.functions->flush(way.self);
}

static void cancel(uint32_t cookie)
{
	way.functions->cancel(way.self, cookie);
}

static void broker_sends(const void *bytes, size_t length)
{
	cr_assert_eq(send(broker_fd, bytes, length, 0), (ssize_t)length);
}

static struct record_hello right_hello(void)
{
	return (struct record_hello){.kind = RECORD_HELLO,
				     .version = RECORD_VERSION,
				     .features = FEATURE_ICMP | FEATURE_UDP,
				     .slots = RECORD_SLOTS,
				     .batch = RECORD_BATCH};
}

static void greet(void)
{
	struct record_hello hello = right_hello();

	broker_sends(&hello, sizeof(hello));
	dispatch();
	cr_assert_eq(readies, 1);
}

static struct probe_request request(uint32_t cookie)
{
	return (struct probe_request){
		.cookie = cookie,
		.family = 4,
		.protocol = IPPROTO_ICMP,
		.ttl = 3,
		.size_bytes = 64,
		.destination = {127, 0, 0, 1},
	};
}

static void queue_probe(uint32_t cookie)
{
	const struct probe_request probe = request(cookie);

	way.functions->probe(way.self, &probe);
}

static void expect_down(uint32_t lost, int error)
{
	dispatch();
	cr_assert_eq(downs, 1);
	cr_assert_eq(down_error, error, "error %d: %s", down_error, down_why);
	cr_assert_eq(lost_features, lost);
	cr_assert_gt(strlen(down_why), 0);
	/* Once, and nothing afterwards. */
	int before = results;
	dispatch();
	queue_probe(0);
	cancel(0);
	flush();
	dispatch();
	cr_assert_eq(downs, 1);
	cr_assert_eq(results, before);
	cr_assert_eq(way.functions->next_ns(way.self), INT64_MAX);
}

/* Reads one message of probes; returns how many there are. */
static size_t broker_reads_probes(struct record_probe probes[RECORD_BATCH])
{
	ssize_t length =
		recv(broker_fd, probes, RECORD_BATCH * sizeof(*probes), MSG_DONTWAIT | MSG_TRUNC);

	if (length < 0)
		return 0;
	size_t count = (size_t)length / sizeof(*probes);
	cr_assert_leq(count, RECORD_BATCH);
	cr_assert_eq((size_t)length % sizeof(*probes), 0);
	for (size_t i = 0; i < count; i++)
		cr_assert_eq(probes[i].kind, RECORD_PROBE);
	return count;
}

static size_t broker_reads(uint32_t cookies[RECORD_BATCH])
{
	struct record_probe probes[RECORD_BATCH];
	size_t count = broker_reads_probes(probes);

	for (size_t i = 0; i < count; i++)
		cookies[i] = probes[i].cookie;
	return count;
}

/* Sends one probe and has the broker read it. */
static struct record_probe open_probe(uint32_t cookie)
{
	struct record_probe probes[RECORD_BATCH];

	queue_probe(cookie);
	flush();
	cr_assert_eq(broker_reads_probes(probes), 1);
	cr_assert_eq(probes[0].cookie, cookie);
	return probes[0];
}

static void open_probes(uint32_t count)
{
	struct record_probe probes[RECORD_BATCH];

	for (uint32_t i = 0; i < count; i++)
		queue_probe(i);
	flush();
	for (uint32_t done = 0; done < count; done += (uint32_t)broker_reads_probes(probes))
		;
}

/* An echo reply: type, code and the rest zero, but for the checksum. */
static struct record_answer answer_to(uint32_t cookie)
{
	return (struct record_answer){
		.kind = RECORD_ANSWER,
		.protocol = IPPROTO_ICMP,
		.ttl = 60,
		.cookie = cookie,
		.responder = {127, 0, 0, 1},
		.packet_bytes = 8,
		.data_bytes = 8,
		.data = {0, 0, 0xff, 0xff},
	};
}

/* --- start -------------------------------------------------------------------------------------
 */

Test(broker_link, nothing_is_sent_before_the_hello)
{
	uint32_t cookies[RECORD_BATCH];

	queue_probe(5);
	flush();
	cr_assert_eq(broker_reads(cookies), 0);
	greet();
	cr_assert_eq(features, FEATURE_ICMP, "features that a broker cannot have");
	flush();
	cr_assert_eq(broker_reads(cookies), 1);
	cr_assert_eq(cookies[0], 5);
}

Test(broker_link, hello_of_another_version)
{
	struct record_hello hello = right_hello();

	hello.version++;
	broker_sends(&hello, sizeof(hello));
	expect_down(all_features, EPROTO);
	cr_assert_eq(readies, 0);
}

Test(broker_link, hello_of_wrong_length)
{
	char bytes[sizeof(struct record_hello) + 1] = {RECORD_HELLO};

	broker_sends(bytes, sizeof(bytes));
	expect_down(all_features, EPROTO);
}

Test(broker_link, answer_before_the_hello)
{
	struct record_answer answer = answer_to(0);

	broker_sends(&answer, sizeof(answer));
	expect_down(all_features, EPROTO);
	cr_assert_eq(results, 0);
}

Test(broker_link, second_hello)
{
	struct record_hello hello = right_hello();

	greet();
	broker_sends(&hello, sizeof(hello));
	expect_down(FEATURE_ICMP, EPROTO);
	cr_assert_eq(readies, 1);
}

/* --- answers -----------------------------------------------------------------------------------
 */

Test(broker_link, answers_are_reported_with_their_time)
{
	greet();
	open_probe(0x30009);
	struct record_answer answer = answer_to(0x30009);
	answer.sent_ns = clock_now_ns() - 5 * NS_PER_MS;
	answer.received_wall_ns = answer.sent_ns + 2 * NS_PER_MS - clock_wall_offset_ns();
	broker_sends(&answer, sizeof(answer));
	dispatch();
	cr_assert_eq(results, 1);
	cr_expect_eq(last_result.cookie, 0x30009);
	cr_expect_eq(last_result.kind, RESULT_REPLY);
	cr_expect_eq(last_result.responder[0], 127);
	cr_expect_lt(llabs(last_result.rtt_ns - 2 * NS_PER_MS), NS_PER_MS / 2);
	/* Once. */
	broker_sends(&answer, sizeof(answer));
	dispatch();
	cr_assert_eq(results, 1);
	cr_assert_eq(downs, 0);
}

Test(broker_link, batches_of_answers)
{
	static struct record_answer batch[RECORD_BATCH];

	greet();
	open_probes(8 * RECORD_BATCH + 1);
	for (uint32_t i = 0; i < 9; i++) {
		for (uint32_t k = 0; k < RECORD_BATCH; k++)
			batch[k] = answer_to(i * RECORD_BATCH + k);
		broker_sends(batch, i < 8 ? sizeof(batch) : sizeof(batch[0]));
	}
	dispatch();
	cr_assert_eq(results, 8 * RECORD_BATCH + 1);
	cr_assert_eq(last_result.cookie, 8 * RECORD_BATCH);
}

Test(broker_link, reports_no_more_results_than_asked_for)
{
	greet();
	open_probes(50);
	for (uint32_t i = 0; i < 50; i++) {
		struct record_answer answer = answer_to(i);
		broker_sends(&answer, sizeof(answer));
	}
	way.functions->dispatch(way.self, 10);
	cr_assert_eq(results, 10);
	dispatch();
	cr_assert_eq(results, 50);
}

Test(broker_link, long_answers)
{
	static struct record_long_answer batch[2];

	greet();
	open_probes(2);
	for (uint32_t i = 0; i < 2; i++) {
		batch[i].head = answer_to(i);
		batch[i].head.kind = RECORD_LONG_ANSWER;
		batch[i].head.packet_bytes = batch[i].head.data_bytes = RECORD_LONG_BYTES;
		batch[i].data[0] = 11;
		batch[i].data[1] = (uint8_t)i;
		batch[i].data[2] = 0xf4;
		batch[i].data[3] = (uint8_t)(0xff - i);
	}
	broker_sends(batch, sizeof(batch));
	dispatch();
	cr_assert_eq(results, 2);
	cr_expect_eq(last_result.kind, RESULT_ICMP);
	cr_expect_eq(last_result.icmp_type, 11);
	cr_expect_eq(last_result.icmp_code, 1);
}

Test(broker_link, failures_are_reported)
{
	struct record_answer failure = {.kind = RECORD_FAILURE, .cookie = 8, .error = ENETUNREACH};

	greet();
	open_probe(8);
	broker_sends(&failure, sizeof(failure));
	broker_sends(&failure, sizeof(failure));
	dispatch();
	cr_assert_eq(results, 1);
	cr_expect_eq(last_result.kind, RESULT_FAILED);
	cr_expect_eq(last_result.error, ENETUNREACH);
	cr_expect_eq(last_result.cookie, 8);
}

/* While a flow label is leased exclusively, the kernel takes no other. */
Test(broker_link, a_flow_label_that_is_not_taken_is_left_out)
{
	struct record_answer failure = {.kind = RECORD_FAILURE, .cookie = 5, .error = EINVAL};
	struct probe_request probe = request(5);
	struct record_probe first[RECORD_BATCH], second[RECORD_BATCH];

	greet();
	probe.family = 6;
	memcpy(probe.destination, (const uint8_t[16]){[15] = 1}, 16);
	probe.flags = REQUEST_FLOW;
	way.functions->probe(way.self, &probe);
	flush();
	cr_assert_eq(broker_reads_probes(first), 1);
	cr_assert_neq(first[0].flow_label, 0);
	broker_sends(&failure, sizeof(failure));
	dispatch();
	cr_assert_eq(results, 0);
	cr_assert_eq(broker_reads_probes(second), 1);
	first[0].flow_label = 0;
	cr_expect_arr_eq(&first[0], &second[0], sizeof(first[0]), "the same but for the label");
	/* Without a label the error is about something else. */
	broker_sends(&failure, sizeof(failure));
	dispatch();
	cr_assert_eq(results, 1);
	cr_expect_eq(last_result.error, EINVAL);
	cr_assert_eq(broker_reads_probes(second), 0);
}

Test(broker_link, damaged_answers_and_answers_to_former_probes_are_ignored)
{
	struct record_answer answers[4] = {answer_to(1), answer_to(0x10002), answer_to(3),
					   answer_to(9)};

	greet();
	open_probe(1);
	open_probe(2);
	open_probe(3);
	answers[0].data[2] = 0;
	cancel(3);
	broker_sends(answers, sizeof(answers));
	dispatch();
	cr_assert_eq(results, 0);
	cr_assert_eq(downs, 0);
	/* Only the answer to the one that is open is reported. */
	answers[1] = answer_to(2);
	broker_sends(answers, sizeof(answers));
	dispatch();
	cr_assert_eq(results, 1);
	cr_assert_eq(last_result.cookie, 2);
}

static void violation(const void *bytes, size_t length)
{
	greet();
	open_probes(2);
	broker_sends(bytes, length);
	expect_down(FEATURE_ICMP, EPROTO);
}

Test(broker_link, length_that_is_not_whole_records)
{
	struct record_answer batch[2] = {answer_to(0), answer_to(1)};

	violation(batch, sizeof(batch) - 1);
	cr_assert_eq(results, 0);
}

Test(broker_link, two_kinds_in_one_message)
{
	struct record_answer batch[2] = {answer_to(0), answer_to(1)};

	batch[1].kind = RECORD_FAILURE;
	violation(batch, sizeof(batch));
	cr_assert_eq(results, 1);
}

Test(broker_link, more_data_than_the_record_holds)
{
	struct record_answer answer = answer_to(0);

	answer.data_bytes = answer.packet_bytes = RECORD_SHORT_BYTES + 1;
	violation(&answer, sizeof(answer));
	cr_assert_eq(results, 0);
}

Test(broker_link, more_data_than_a_long_record_holds)
{
	struct record_long_answer answer = {.head = answer_to(0)};

	answer.head.kind = RECORD_LONG_ANSWER;
	answer.head.data_bytes = answer.head.packet_bytes = RECORD_LONG_BYTES + 1;
	violation(&answer, sizeof(answer));
	cr_assert_eq(results, 0);
}

Test(broker_link, more_data_than_the_packet_had)
{
	struct record_answer answer = answer_to(0);

	answer.packet_bytes = 7;
	violation(&answer, sizeof(answer));
	cr_assert_eq(results, 0);
}

Test(broker_link, message_that_is_too_long)
{
	static struct record_long_answer batch[RECORD_BATCH + 1];

	for (size_t i = 0; i < COUNT(batch); i++) {
		batch[i].head = answer_to(0);
		batch[i].head.kind = RECORD_LONG_ANSWER;
		memcpy(batch[i].data, batch[i].head.data, batch[i].head.data_bytes);
	}
	violation(batch, sizeof(batch));
	cr_assert_eq(results, 0);
}

Test(broker_link, unknown_kinds)
{
	for (int kind = 0; kind < 256; kind++) {
		char bytes[4 * sizeof(struct record_answer)] = {(char)kind};
		if (kind >= RECORD_ANSWER && kind <= RECORD_FAILURE)
			continue;
		stop();
		start();
		readies = downs = 0;
		violation(bytes, sizeof(bytes));
	}
}

/* --- requests ----------------------------------------------------------------------------------
 */

Test(broker_link, probes_leave_in_order_in_batches)
{
	uint32_t cookies[RECORD_BATCH], next = 0;

	greet();
	for (uint32_t i = 0; i < 3 * RECORD_BATCH + 40; i++)
		queue_probe(i);
	flush();
	while (next < 3 * RECORD_BATCH + 40) {
		size_t count = broker_reads(cookies);
		cr_assert_eq(count, next < 3 * RECORD_BATCH ? RECORD_BATCH : 40, "%zu at %u", count,
			     next);
		for (size_t i = 0; i < count; i++)
			cr_assert_eq(cookies[i], next++);
	}
}

/* What epoll reports of the channel now, which points at the way. */
static uint32_t channel_events(void)
{
	struct epoll_event event;

	if (epoll_wait(epoll_fd, &event, 1, 0) == 0)
		return 0;
	cr_assert_eq(event.data.ptr, &way);
	return event.events;
}

Test(broker_link, full_channel_loses_nothing)
{
	uint32_t cookies[RECORD_BATCH], next = 0;
	int blocked = 0;

	greet();
	for (uint32_t i = 0; i < RECORD_SLOTS; i++)
		queue_probe(i);
	flush();
	for (int round = 0; next < RECORD_SLOTS; round++) {
		cr_assert_lt(round, 100000);
		size_t count = broker_reads(cookies);
		for (size_t i = 0; i < count; i++)
			cr_assert_eq(cookies[i], next++);
		/* The rest leaves as soon as there is room again. */
		if (channel_events() == EPOLLOUT) {
			blocked++;
			dispatch();
		}
	}
	cr_assert_gt(blocked, 0, "the channel took everything at once: nothing was tested");
	cr_assert_eq(channel_events(), 0);
}

Test(broker_link, cancelled_before_it_left)
{
	uint32_t cookies[RECORD_BATCH];

	greet();
	queue_probe(1);
	queue_probe(2);
	queue_probe(3);
	cancel(2);
	cancel(0x10003);
	flush();
	cr_assert_eq(broker_reads(cookies), 2);
	cr_assert_eq(cookies[0], 1);
	cr_assert_eq(cookies[1], 3);
	/* The slot can be used again. */
	open_probe(0x10002);
	/* One that waits already leaves once. */
	queue_probe(4);
	cancel(4);
	open_probe(0x10004);
}

Test(broker_link, cancelled_after_it_left_and_used_again)
{
	greet();
	open_probe(7);
	cancel(7);
	open_probe(0x10007);
	struct record_answer answers[2] = {answer_to(7), answer_to(0x10007)};
	broker_sends(answers, sizeof(answers));
	dispatch();
	cr_assert_eq(results, 1);
	cr_assert_eq(last_result.cookie, 0x10007);
}

/* The broker still has the probe of a cancelled slot, and its answer may come after the slot was
 * used again. So no number of this flow, which has 65,536, is given twice. */
Test(broker_link, number_of_a_cancelled_probe_is_not_given_again)
{
	struct record_probe probes[RECORD_BATCH];
	static bool seen[65536];

	greet();
	for (uint32_t i = 0; i < 65536; i++) {
		struct probe_request probe = request(i % (RECORD_SLOTS / 2));
		probe.flags = REQUEST_FLOW;
		way.functions->probe(way.self, &probe);
		flush();
		cr_assert_eq(broker_reads_probes(probes), 1);
		cr_assert_not(seen[probes[0].number]);
		seen[probes[0].number] = true;
		cancel(probe.cookie);
	}
}

/* A broker that stands still while the probes time out and are sent anew for ever: what is queued
 * stays bounded by the slots, and what leaves in the end is what is open. */
Test(broker_link, a_broker_that_stands_still_costs_no_memory)
{
	uint32_t cookies[RECORD_BATCH];
	static uint32_t last[RECORD_SLOTS];
	size_t probes = 0;

	greet();
	for (uint32_t generation = 0; generation < 50; generation++) {
		for (uint32_t slot = 0; slot < RECORD_SLOTS; slot++) {
			if (generation > 0)
				cancel((generation - 1) << 16 | slot);
			queue_probe(generation << 16 | slot);
		}
		flush();
	}
	for (size_t count; (count = broker_reads(cookies)) > 0; probes += count) {
		for (size_t i = 0; i < count; i++)
			last[cookies[i] % RECORD_SLOTS] = cookies[i] >> 16;
		flush();
	}
	for (uint32_t slot = 0; slot < RECORD_SLOTS; slot++)
		cr_assert_eq(last[slot], 49);
	cr_assert_lt(probes, 2 * RECORD_SLOTS);
}

Test(broker_link, refused_probes_are_reported_and_others_leave)
{
	uint32_t cookies[RECORD_BATCH];

	for (uint32_t i = 0; i < 40; i++) {
		struct probe_request probe = request(i);
		if (i % 4 == 0)
			probe.destination[0] = 224;
		way.functions->probe(way.self, &probe);
	}
	cancel(4);
	cr_assert_gt(way.functions->next_ns(way.self), clock_now_ns(), "a result before ready()");
	greet();
	flush();
	cr_assert_eq(way.functions->next_ns(way.self), 0);
	dispatch();
	cr_assert_eq(way.functions->next_ns(way.self), INT64_MAX);
	cr_assert_eq(results, 9);
	cr_expect_eq(last_result.kind, RESULT_FAILED);
	cr_expect_eq(last_result.error, EINVAL);
	cr_expect_eq(last_result.cookie, 36);
	size_t count = 0;
	for (size_t more; (more = broker_reads(cookies)) > 0; count += more)
		for (size_t i = 0; i < more; i++)
			cr_expect_neq(cookies[i] % 4, 0);
	cr_assert_eq(count, 30);
}

/* --- a running broker --------------------------------------------------------------------------
 */

static struct sockaddr_un service; /* its socket, below /tmp */

/* Has the environment name a socket, which listens if `backlog` is not negative. */
static int make_service(int type, int backlog)
{
	int fd = socket(AF_UNIX, type, 0);

	service.sun_family = AF_UNIX;
	snprintf(service.sun_path, sizeof(service.sun_path), "/tmp/test_broker_link.%d.sock",
		 (int)getpid());
	unlink(service.sun_path);
	cr_assert_eq(bind(fd, (struct sockaddr *)&service, sizeof(service)), 0);
	if (backlog >= 0)
		cr_assert_eq(listen(fd, backlog), 0);
	setenv("POSTERN_BROKER", service.sun_path, 1);
	return fd;
}

/* Opens the link in the place of the one that the test began with. */
static void open_link(const char *path)
{
	stop();
	broker_link_open(&way, epoll_fd, path, &sink);
	cr_assert_eq(downs, 0, "reported before the first dispatch");
}

/* Opens the link and plays the broker that is behind the socket. */
static void connect_link(void)
{
	int listen_fd = make_service(SOCK_SEQPACKET, 1);

	open_link(NULL);
	broker_fd = accept(listen_fd, NULL, NULL);
	cr_assert_geq(broker_fd, 0);
	close(listen_fd);
	unlink(service.sun_path);
}

static void expect_why(const char *what)
{
	char why[sizeof(down_why)];

	snprintf(why, sizeof(why), "%s: %s", service.sun_path, what);
	cr_assert_str_eq(down_why, why);
}

Test(broker_link, running_broker_serves)
{
	connect_link();
	greet();
	open_probe(3);
	struct record_answer answer = answer_to(3);
	broker_sends(&answer, sizeof(answer));
	dispatch();
	cr_assert_eq(results, 1);
	close(broker_fd);
	expect_down(FEATURE_ICMP, ECONNRESET);
	expect_why("closed its channel");
}

Test(broker_link, peer_that_is_no_broker)
{
	connect_link();
	broker_sends("220 mail.example", 16);
	expect_down(all_features, EPROTO);
	expect_why("its first message is no hello");
}

Test(broker_link, running_broker_of_another_version)
{
	struct record_hello hello = right_hello();

	connect_link();
	hello.version = RECORD_VERSION - 1;
	broker_sends(&hello, sizeof(hello));
	expect_down(all_features, EPROTO);
	expect_why("is of another version (install both programs again)");
}

/* The socket that the environment names is the only broker then. */
static void expect_no_connection(int error)
{
	char why[sizeof(down_why)];

	open_link(NULL);
	expect_down(all_features, error);
	snprintf(why, sizeof(why), "POSTERN_BROKER: %s: %s", strerror(error),
		 getenv("POSTERN_BROKER"));
	cr_assert_str_eq(down_why, why);
	unlink(service.sun_path);
}

Test(broker_link, no_socket)
{
	setenv("POSTERN_BROKER", "/nonexistent/broker.sock", 1);
	expect_no_connection(ENOENT);
}

Test(broker_link, socket_that_does_not_listen)
{
	make_service(SOCK_SEQPACKET, -1);
	expect_no_connection(ECONNREFUSED);
}

Test(broker_link, socket_of_another_type)
{
	make_service(SOCK_STREAM, 1);
	expect_no_connection(EPROTOTYPE);
}

Test(broker_link, socket_path_that_is_too_long)
{
	char path[sizeof(service.sun_path) + 1];

	memset(path, 'x', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	setenv("POSTERN_BROKER", path, 1);
	expect_no_connection(ENAMETOOLONG);
}

Test(broker_link, full_queue_of_connections_is_not_waited_for, .timeout = 5)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);

	make_service(SOCK_SEQPACKET, 0);
	cr_assert_eq(connect(fd, (struct sockaddr *)&service, sizeof(service)), 0);
	expect_no_connection(EAGAIN);
}

/* --- the end -----------------------------------------------------------------------------------
 */

Test(broker_link, end_without_an_error_line)
{
	greet();
	close(broker_fd);
	expect_down(FEATURE_ICMP, ECONNRESET);
	cr_assert_str_eq(down_why, "postern-broker: closed its channel");
}

Test(broker_link, end_before_the_hello_with_an_error_line)
{
	static const char line[] = "postern-broker: raise \033CAP_NET_RAW: not permitted\nand more";

	cr_assert_eq(write(broker_stderr_fd, line, sizeof(line) - 1), sizeof(line) - 1);
	close(broker_fd);
	expect_down(all_features, ECONNRESET);
	cr_assert_str_eq(down_why, "postern-broker: raise ?CAP_NET_RAW: not permitted");
}

/* Other ways can take them. */
Test(broker_link, probes_without_an_answer_are_reported_at_the_end)
{
	struct record_answer answer = answer_to(0);

	greet();
	open_probes(4);
	broker_sends(&answer, sizeof(answer));
	dispatch();
	cancel(1);
	queue_probe(4);
	close(broker_fd);
	expect_down(FEATURE_ICMP, ECONNRESET);
	cr_expect_eq(results, 1);
	cr_expect_eq(unfinished, 3, "2, 3 and 4: %d", unfinished);
}

/* The kernel reports a reset channel once, to the first call, and before what is still to be
 * read. */
static void end_with_requests_unread(bool send_first)
{
	struct record_answer answer = answer_to(77);

	greet();
	open_probe(77);
	queue_probe(1);
	flush();
	broker_sends(&answer, sizeof(answer));
	close(broker_fd);
	queue_probe(2);
	if (send_first)
		flush();
	expect_down(FEATURE_ICMP, ECONNRESET);
	cr_assert_eq(results, 1, "what was sent before the end is lost");
}

Test(broker_link, end_with_requests_unread_is_noticed_reading)
{
	end_with_requests_unread(false);
}

Test(broker_link, end_with_requests_unread_is_noticed_sending)
{
	end_with_requests_unread(true);
}

/* --- programs ----------------------------------------------------------------------------------
 */

static void expect_no_child(void)
{
	cr_assert_eq(waitpid(-1, NULL, WNOHANG), -1);
	cr_assert_eq(errno, ECHILD);
}

/* Starts `path` as the broker and waits for its end. */
static void run_broker(const char *path)
{
	struct pollfd ready = {.fd = epoll_fd, .events = POLLIN};

	open_link(path);
	if (way.functions->next_ns(way.self) > 0)
		cr_assert_eq(poll(&ready, 1, 5000), 1);
	dispatch();
	cr_assert_eq(downs, 1);
	cr_assert_eq(lost_features, all_features);
	expect_no_child();
}

static void with_script(const char *script, void (*run)(const char *path))
{
	char path[] = "/tmp/test_broker_link.XXXXXX";
	int fd = mkstemp(path);

	cr_assert_geq(fd, 0);
	dprintf(fd, "#!/bin/sh\n%s\n", script);
	cr_assert_eq(fchmod(fd, 0700), 0);
	close(fd);
	run(path);
	unlink(path);
}

static void run_script(const char *script)
{
	with_script(script, run_broker);
}

Test(broker_link, a_program_that_is_not_there)
{
	run_broker("/nonexistent/postern-broker");
	cr_assert_eq(down_error, ENOENT);
	cr_assert_not_null(strstr(down_why, "/nonexistent/postern-broker"));
}

Test(broker_link, a_program_that_was_asked_for_goes_before_the_environment)
{
	setenv("POSTERN_BROKER", "/nonexistent/broker.sock", 1);
	run_broker("/bin/true");
}

Test(broker_link, a_program_that_is_no_broker)
{
	run_broker("/bin/true");
	cr_assert_eq(down_error, ECONNRESET);
	cr_assert_str_eq(down_why, "postern-broker: ended with exit status 0");
}

Test(broker_link, a_broker_without_privilege)
{
	run_script("echo postern-broker: no privilege >&2; exit 77");
	cr_assert_eq(down_error, EPERM);
	cr_assert_str_eq(down_why, "postern-broker: no privilege");
}

Test(broker_link, a_broker_that_is_killed)
{
	run_script("kill -9 $$");
	cr_assert_eq(down_error, ECONNRESET);
	cr_assert_str_eq(down_why, "postern-broker: ended by signal 9");
}

Test(broker_link, a_broker_gets_two_sockets_no_argument_and_no_environment)
{
	setenv("TEST_VARIABLE", "inherited", 1);
	run_script("[ -S /dev/fd/0 ] && [ -S /dev/fd/2 ] && "
		   "echo $#$TEST_VARIABLE $(readlink /proc/$$/fd/1) >&2");
	cr_assert_str_eq(down_why, "0 /dev/null");
}

static void close_broker(const char *path)
{
	open_link(path);
	stop();
	expect_no_child();
	start();
}

Test(broker_link, closing_waits_for_the_broker)
{
	with_script("exec cat", close_broker);
}

/* CAP_NET_RAW and CAP_NET_ADMIN of this process, if it has them, and nothing else. */
Test(broker_link, capabilities_for_marks_become_inheritable)
{
	if (geteuid() != 0)
		cr_skip_test("needs CAP_NET_RAW and CAP_NET_ADMIN");
	run_script("grep CapInh /proc/self/status >&2");
	cr_assert_str_eq(down_why, "CapInh:?0000000000003000");
}
