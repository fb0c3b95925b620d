/*
 * A session against a played broker and a clock that the test turns: one reply for each line, what
 * shortages do, what the hello allows, and the end of the broker. Routes are asked of the real
 * kernel, for the loopback only; nothing is sent.
 */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "frontend/broker_link.h"
#include "frontend/packet_session.h"

enum {
	MS = 1000000,
	ALL_FEATURES = 0x70f0f,
};

static struct session session;
static struct route_table *routes;
static int broker_fd;

static void on_down(void *context, int error, const char *why)
{
	cr_assert_gt(strlen(why), 0);
	session_down(context, error);
}

static void start(void)
{
	int channel[2], words[2];
	const struct transport_sink sink = {&session, session_hello, session_event, on_down};

	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, channel), 0);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, words), 0);
	broker_fd = channel[1];
	const struct broker_process broker = {-1, channel[0], words[0]};
	routes = route_open();
	cr_assert(session_open(&session, COMPAT_0_95, routes));
	session.transport = broker_link_open(&broker, &sink);
	session.now_ns = 1000 * (int64_t)MS;
}

static void stop(void)
{
	transport_close(session.transport);
	session_close(&session);
	route_close(routes);
}

TestSuite(packet_session, .init = start, .fini = stop);

/* --- both ends ---------------------------------------------------------------------------------
 */

static void dispatch(void)
{
	transport_dispatch(session.transport, 10000);
}

static void greet(uint32_t features, uint32_t slots)
{
	struct record_hello hello = {.kind = RECORD_HELLO,
				     .version = RECORD_VERSION,
				     .features = features,
				     .slots = slots,
				     .batch = RECORD_BATCH,
				     .extension_bytes = RECORD_EXTENSION_BYTES};

	cr_assert_eq(send(broker_fd, &hello, sizeof(hello), 0), sizeof(hello));
	dispatch();
	cr_assert(session_accepts(&session));
}

/* Without a route to the loopback (a namespace whose lo is down) there is nothing to test. */
static void need_loopback(void)
{
	struct route_query query = {.family = 4, .destination = {127, 0, 0, 1}};
	struct route_answer answer;

	if (!routes || route_lookup(routes, &query, &answer) != 0)
		cr_skip_test("no loopback");
}

static void say(const char *line)
{
	session_line(&session, (struct text){line, strlen(line)});
}

/* Takes all that waits for the client; it must be exactly this. */
static void expect_output(const char *text)
{
	size_t pending = output_pending(&session.output);
	const char *found = session.output.bytes + session.output.start;

	cr_assert(pending == strlen(text) && memcmp(found, text, pending) == 0,
		  "\"%.*s\" instead of \"%s\"", (int)pending, found, text);
	session.output.start = session.output.end;
}

/* The next probe that the broker gets. */
static struct record_probe heard_probe(void)
{
	struct record_probe probe = {0};

	transport_flush(session.transport);
	cr_assert_eq(recv(broker_fd, &probe, sizeof(probe), MSG_DONTWAIT), sizeof(probe));
	cr_assert_eq(probe.kind, RECORD_PROBE);
	return probe;
}

static void heard_nothing(void)
{
	char byte;

	transport_flush(session.transport);
	cr_assert_eq(recv(broker_fd, &byte, 1, MSG_DONTWAIT), -1);
}

static void answer(const struct record_probe *probe, uint8_t what, int error)
{
	struct record_event event = {.kind = RECORD_EVENT,
				     .what = what,
				     .cookie = probe->cookie,
				     .sent_ns = 5 * MS,
				     .received_ns = 7 * MS,
				     .error = error};

	memcpy(event.responder, probe->destination, sizeof(event.responder));
	cr_assert_eq(send(broker_fd, &event, sizeof(event), 0), sizeof(event));
	dispatch();
}

static void answer_icmp(const struct record_probe *probe, uint8_t type, uint8_t code, int mtu_bytes)
{
	struct record_event event = {.kind = RECORD_EVENT,
				     .what = EVENT_ICMP,
				     .icmp_type = type,
				     .icmp_code = code,
				     .cookie = probe->cookie,
				     .sent_ns = 5 * MS,
				     .received_ns = 7 * MS,
				     .mtu_bytes = (uint32_t)mtu_bytes};

	memcpy(event.responder, probe->destination, sizeof(event.responder));
	cr_assert_eq(send(broker_fd, &event, sizeof(event), 0), sizeof(event));
	dispatch();
}

static void turn_clock(int64_t by_ns)
{
	session.now_ns += by_ns;
	do
		session_expire(&session);
	while (session_next_ns(&session) <= session.now_ns);
}

#define PROBE "send-probe ip-4 127.0.0.1"

/* --- tests -------------------------------------------------------------------------------------
 */

Test(packet_session, takes_nothing_before_the_hello)
{
	cr_assert_not(session_accepts(&session));
	greet(ALL_FEATURES, RECORD_SLOTS);
}

/* From here on the kernel cannot be asked for routes. */
static void close_netlink(void)
{
	for (int fd = 3; fd < 100; fd++) {
		int domain = 0;
		socklen_t size = sizeof(domain);
		if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 &&
		    domain == AF_NETLINK)
			close(fd);
	}
}

Test(packet_session, what_a_line_will_ask_the_kernel_is_known_before_the_hello)
{
	static const char line[] = "7 send-probe ip-4 127.0.0.2"; /* nobody has asked yet */

	need_loopback();
	session_foresee(&session, (struct text){line, strlen(line)});
	session_foresee(&session, (struct text){"8 fly", strlen("8 fly")});
	close_netlink();
	heard_nothing();
	expect_output("");
	cr_assert_eq(session_open_probes(&session), 0);
	greet(ALL_FEATURES, RECORD_SLOTS);
	heard_nothing();
	say(line);
	cr_assert_arr_eq(heard_probe().source, "\x7f\0\0\1", 4);
	/* Its timeout began when it was taken. */
	cr_assert_eq(session_next_ns(&session), session.now_ns + 10000 * (int64_t)MS);
	expect_output("");
}

Test(packet_session, a_probe_and_its_answer)
{
	need_loopback();
	greet(ALL_FEATURES, RECORD_SLOTS);
	say("7 " PROBE " ttl 3 size 100");
	struct record_probe probe = heard_probe();
	cr_assert_eq(probe.ttl, 3);
	cr_assert_eq(probe.size_bytes, 100);
	cr_assert_arr_eq(probe.destination, "\x7f\0\0\1", 4);
	cr_assert_arr_eq(probe.source, "\x7f\0\0\1", 4, "no source address");
	expect_output("");
	answer(&probe, EVENT_REPLY, 0);
	expect_output("7 reply ip-4 127.0.0.1 round-trip-time 2000\n");
	cr_assert_eq(session_open_probes(&session), 0);
	cr_assert_eq(session_next_ns(&session), INT64_MAX);
	/* Told twice, it is answered once. */
	answer(&probe, EVENT_REPLY, 0);
	expect_output("");
}

Test(packet_session, every_other_line_is_answered_at_once)
{
	greet(ALL_FEATURES, RECORD_SLOTS);
	say("");
	say("1 fly");
	say("2 check-support feature icmp");
	say("3 check-support feature version");
	say("4 send-probe ip-4 127.0.0.1 ttl 0");
	session_line_too_long(&session);
	expect_output("0 command-parse-error\n1 unknown-command\n2 feature-support support ok\n"
		      "3 feature-support support 0.95-postern-" POSTERN_VERSION "\n"
		      "4 invalid-argument reason ttl-out-of-range\n0 command-buffer-overflow\n");
}

Test(packet_session, timeouts)
{
	need_loopback();
	greet(ALL_FEATURES, RECORD_SLOTS);
	say("1 " PROBE " timeout 0.010");
	say("2 " PROBE " timeout 0.005");
	struct record_probe probes[2];
	transport_flush(session.transport);
	cr_assert_eq(recv(broker_fd, probes, sizeof(probes), MSG_DONTWAIT), sizeof(probes));
	cr_assert_eq(session_next_ns(&session), session.now_ns + 5 * MS);
	turn_clock(5 * MS - 1);
	expect_output("");
	turn_clock(1);
	expect_output("2 no-reply\n");
	turn_clock(5 * MS);
	expect_output("1 no-reply\n");
	/* The broker is told, and what it still says goes nowhere. */
	struct record_cancel cancels[2];
	transport_flush(session.transport);
	cr_assert_eq(recv(broker_fd, cancels, sizeof(cancels), MSG_DONTWAIT), sizeof(cancels));
	cr_assert_eq(cancels[0].cookie, probes[1].cookie);
	answer(&probes[0], EVENT_REPLY, 0);
	expect_output("");
}

Test(packet_session, timeout_of_zero_sends_and_answers)
{
	need_loopback();
	greet(ALL_FEATURES, RECORD_SLOTS);
	say("1 " PROBE " timeout 0");
	heard_probe();
	turn_clock(0);
	expect_output("1 no-reply\n");
}

Test(packet_session, passing_shortages_are_waited_for)
{
	static const struct {
		uint8_t what;
		int error;
	} shortages[] = {{EVENT_BUSY, 0}, {EVENT_FAILED, ENOBUFS}, {EVENT_FAILED, EAGAIN}};

	need_loopback();
	greet(ALL_FEATURES, RECORD_SLOTS);
	say("1 " PROBE " timeout 1");
	int64_t waited_ns = 0;
	for (int i = 0; i < 3; i++) {
		struct record_probe probe = heard_probe();
		answer(&probe, shortages[i].what, shortages[i].error);
		expect_output("");
		heard_nothing();
		/* Nothing is on its way that could be answered. */
		answer(&probe, EVENT_REPLY, 0);
		expect_output("");
		int64_t wait_ns = session_next_ns(&session) - session.now_ns;
		cr_assert_gt(wait_ns, waited_ns, "no longer than before");
		cr_assert_lt(wait_ns, 100 * MS);
		waited_ns = wait_ns;
		turn_clock(wait_ns - 1);
		heard_nothing();
		turn_clock(1);
	}
	struct record_probe probe = heard_probe();
	answer(&probe, EVENT_REPLY, 0);
	expect_output("1 reply ip-4 127.0.0.1 round-trip-time 2000\n");
	cr_assert_eq(session_next_ns(&session), INT64_MAX);
}

Test(packet_session, a_shortage_that_does_not_pass_ends_at_the_timeout)
{
	need_loopback();
	greet(ALL_FEATURES, RECORD_SLOTS);
	int64_t from_ns = session.now_ns;
	say("1 " PROBE " timeout 1");
	while (session_open_probes(&session) > 0) {
		struct record_probe probe = heard_probe();
		answer(&probe, EVENT_BUSY, 0);
		turn_clock(session_next_ns(&session) - session.now_ns);
	}
	cr_assert_eq(session.now_ns - from_ns, 1000 * MS);
	expect_output("1 no-reply\n");
}

Test(packet_session, ipv6_probes_that_may_be_fragmented_are_sent_again)
{
	static const struct in6_addr loopback = IN6ADDR_LOOPBACK_INIT;
	struct route_query query = {.family = 6};
	struct route_answer route;

	memcpy(query.destination, &loopback, sizeof(query.destination));
	if (!routes || route_lookup(routes, &query, &route) != 0)
		cr_skip_test("no IPv6 loopback");
	greet(ALL_FEATURES, RECORD_SLOTS);
	say("1 send-probe ip-6 ::1 size 1500");
	for (int i = 0; i < 2; i++) {
		struct record_probe probe = heard_probe();
		answer_icmp(&probe, 2, 0, 1400 - i * 100);
		expect_output("");
		turn_clock(session_next_ns(&session) - session.now_ns);
	}
	struct record_probe probe = heard_probe();
	answer(&probe, EVENT_REPLY, 0);
	expect_output("1 reply ip-6 ::1 round-trip-time 2000\n");

	say("2 send-probe ip-6 ::1 size 1500 dont-fragment 1");
	probe = heard_probe();
	answer_icmp(&probe, 2, 0, 1400);
	expect_output("2 packet-too-big ip-6 ::1 round-trip-time 2000 mtu 1400\n");

	/* Somebody says so for ever. */
	say("3 send-probe ip-6 ::1 size 1500");
	for (int i = 0; session_open_probes(&session) > 0; i++) {
		cr_assert_lt(i, 20);
		probe = heard_probe();
		answer_icmp(&probe, 2, 0, 1400);
		if (session_open_probes(&session) > 0)
			turn_clock(session_next_ns(&session) - session.now_ns);
	}
	expect_output("3 reply ip-6 ::1 round-trip-time 2000\n");
}

Test(packet_session, failures)
{
	static const struct {
		int error;
		const char *text;
	} failures[] = {
		{ENETUNREACH, "1 no-route\n"},
		{ENETDOWN, "1 network-down\n"},
		{EACCES, "1 permission-denied\n"},
		{EADDRINUSE, "1 address-in-use\n"},
		{EADDRNOTAVAIL, "1 address-not-available\n"},
		{EINVAL, "1 invalid-argument reason probe-refused\n"},
		{EMSGSIZE, "1 invalid-argument reason size-out-of-range\n"},
		{ENODEV, "1 invalid-argument reason local-device-unknown\n"},
		{EIO, "1 unexpected-error errno 5\n"},
	};

	need_loopback();
	greet(ALL_FEATURES, RECORD_SLOTS);
	for (size_t i = 0; i < sizeof(failures) / sizeof(failures[0]); i++) {
		int64_t from_ns = session.now_ns;
		say("1 " PROBE);
		do {
			struct record_probe probe = heard_probe();
			answer(&probe, EVENT_FAILED, failures[i].error);
			if (session_open_probes(&session) > 0)
				turn_clock(session_next_ns(&session) - session.now_ns);
		} while (session_open_probes(&session) > 0);
		expect_output(failures[i].text);
		cr_assert_leq(session.now_ns - from_ns, 20 * MS);
	}
	say("2 " PROBE " dont-fragment 1 size 65535");
	struct record_probe probe = heard_probe();
	cr_assert_eq(probe.flags, PROBE_DONT_FRAGMENT);
	answer(&probe, EVENT_FAILED, EMSGSIZE);
	size_t length = output_pending(&session.output);
	cr_assert_gt(length, 22);
	cr_assert_arr_eq(session.output.bytes + session.output.start, "2 packet-too-big mtu ", 21);
}

/* Addresses may change between the question for a route and the sending. */
Test(packet_session, a_source_that_the_kernel_refuses_is_asked_for_again)
{
	need_loopback();
	greet(ALL_FEATURES, RECORD_SLOTS);
	say("1 " PROBE);
	struct record_probe probe = heard_probe();
	answer(&probe, EVENT_FAILED, EINVAL);
	expect_output("");
	turn_clock(session_next_ns(&session) - session.now_ns);
	struct record_probe again = heard_probe();
	cr_assert_arr_eq(again.source, probe.source, sizeof(probe.source));
	answer(&again, EVENT_REPLY, 0);
	expect_output("1 reply ip-4 127.0.0.1 round-trip-time 2000\n");

	/* One that the client has chosen stays. */
	say("2 " PROBE " local-ip-4 127.0.0.9");
	for (int i = 0; i < 2; i++) {
		probe = heard_probe();
		cr_assert_eq(probe.source[3], 9);
		answer(&probe, EVENT_FAILED, EINVAL);
		turn_clock(session_next_ns(&session) - session.now_ns);
	}
	probe = heard_probe();
	answer(&probe, EVENT_REPLY, 0);
	expect_output("2 reply ip-4 127.0.0.1 round-trip-time 2000\n");
}

Test(packet_session, what_the_hello_lacks)
{
	greet(FEATURE_ICMP | FEATURE_UDP, RECORD_SLOTS);
	say("1 " PROBE " protocol tcp");
	expect_output("1 invalid-argument reason protocol-not-supported\n");
	say("2 send-probe ip-6 ::1");
	expect_output("2 invalid-argument reason ip-version-not-supported\n");
	say("3 " PROBE " mark 1");
	expect_output("3 permission-denied\n");
	say("4 " PROBE " local-device lo");
	expect_output("4 permission-denied\n");
	say("5 " PROBE " protocol udp local-port 2000");
	expect_output("5 permission-denied\n");

	static const struct {
		const char *name, *answer;
	} support[] = {{"send-probe", "ok"}, {"ip-4", "ok"}, {"ip-6", "no"},
		       {"icmp", "ok"},       {"udp", "ok"},  {"tcp", "no"},
		       {"sctp", "no"},       {"mark", "no"}, {"local-device", "no"},
		       {"details", "ok"},    {"flow", "ok"}, {"dont-fragment", "ok"},
		       {"icm", "no"},        {"icmpx", "no"}};
	for (size_t i = 0; i < sizeof(support) / sizeof(support[0]); i++) {
		char line[100], expected[100];
		snprintf(line, sizeof(line), "1 check-support feature %s", support[i].name);
		snprintf(expected, sizeof(expected), "1 feature-support support %s\n",
			 support[i].answer);
		say(line);
		expect_output(expected);
	}
}

Test(packet_session, interfaces)
{
	greet(ALL_FEATURES, RECORD_SLOTS);
	need_loopback();
	say("1 " PROBE " local-device lo");
	cr_assert_gt(heard_probe().ifindex, 0);
	say("2 " PROBE " local-device nosuchdevice");
	expect_output("2 invalid-argument reason local-device-unknown\n");
	say("3 send-probe ip-6 fe80::1%nosuchdevice");
	expect_output("3 invalid-argument reason ip-6-unknown-interface\n");
	say("4 send-probe ip-6 fe80::1%4294967297 local-device lo");
	expect_output("4 invalid-argument reason ip-6-unknown-interface\n");
}

Test(packet_session, no_more_lines_than_slots)
{
	need_loopback();
	greet(ALL_FEATURES, 3);
	for (int i = 0; i < 3; i++) {
		cr_assert(session_accepts(&session));
		say("1 " PROBE);
	}
	cr_assert_not(session_accepts(&session));
	struct record_probe probes[3];
	transport_flush(session.transport);
	cr_assert_eq(recv(broker_fd, probes, sizeof(probes), MSG_DONTWAIT), sizeof(probes));
	answer(&probes[1], EVENT_REPLY, 0);
	cr_assert(session_accepts(&session));
}

Test(packet_session, no_more_lines_than_the_client_reads_replies)
{
	greet(ALL_FEATURES, RECORD_SLOTS);
	int lines = 0;
	while (session_accepts(&session)) {
		say("1 fly");
		cr_assert_lt(++lines, 100000);
	}
	cr_assert_lt(output_pending(&session.output), 300000);
	session.output.start = session.output.end;
	cr_assert(session_accepts(&session));
}

/* The promise of the output's capacity: with all slots open, the longest replies fit. */
Test(packet_session, room_for_the_reply_of_everything_that_is_open)
{
	need_loopback();
	greet(ALL_FEATURES, RECORD_SLOTS);
	for (int i = 0; i < RECORD_SLOTS; i++) {
		cr_assert(session_accepts(&session));
		say("-2147483648 " PROBE " timeout 1 details 1");
	}
	cr_assert_eq(session_open_probes(&session), RECORD_SLOTS);
	turn_clock(1000 * (int64_t)MS);
	cr_assert_eq(session_open_probes(&session), 0);
	cr_assert_eq(output_pending(&session.output),
		     RECORD_SLOTS * strlen("-2147483648 no-reply\n"));
}

Test(packet_session, end_of_the_broker)
{
	need_loopback();
	greet(ALL_FEATURES, RECORD_SLOTS);
	for (int i = 0; i < 1000; i++)
		say("5 " PROBE);
	close(broker_fd);
	dispatch();
	cr_assert_eq(session_open_probes(&session), 0);
	cr_assert_eq(output_pending(&session.output),
		     1000 * strlen("5 unexpected-error errno 104\n"));
	session.output.start = session.output.end;
	cr_assert(session_accepts(&session));
	say("6 " PROBE);
	say("7 fly");
	say("8 check-support feature icmp");
	expect_output("6 unexpected-error errno 104\n7 unknown-command\n"
		      "8 feature-support support no\n");
}

Test(packet_session, without_privilege)
{
	session_down(&session, EPERM);
	cr_assert(session_accepts(&session));
	say("1 " PROBE);
	say("2 check-support feature send-probe");
	say("3 check-support feature version");
	expect_output("1 permission-denied\n2 feature-support support no\n"
		      "3 feature-support support 0.95-postern-" POSTERN_VERSION "\n");
}

Test(packet_session, version_of_the_other_dialect)
{
	session.compat = COMPAT_0_96;
	greet(ALL_FEATURES, RECORD_SLOTS);
	say("3 check-support feature version");
	expect_output("3 feature-support support 0.96-postern-" POSTERN_VERSION "\n");
}
