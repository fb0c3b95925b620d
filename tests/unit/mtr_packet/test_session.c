/*
 * A session against a transport that the test plays and a clock that it sets: one reply for each
 * line, what temporary errors do, what the features allow, and the loss of a way. Interfaces and
 * routes are those of the loopback. Nothing is sent.
 */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/record.h"
#include "frontend/mtr_packet/session.h"
#include "frontend/process/clock.h"
#include "frontend/transport/local_route.h"

enum {
	ICMP_AND_SCTP = (FEATURE_ICMP | FEATURE_SCTP) * 0x101,
	ALL_FEATURES = FEATURE_PROTOCOLS * 0x101 | FEATURE_MARK,
};

static struct session session;

/* --- the transport ---------------------------------------------------------------------------- */

static struct probe_request sent[TRANSPORT_SLOTS];
static size_t sent_count, sent_read;
static uint32_t cancelled[10];
static size_t cancelled_count;
static char warnings[1000];

static void on_probe(struct transport *transport, const struct probe_request *request)
{
	cr_assert_null(transport);
	cr_assert_lt(sent_count, TRANSPORT_SLOTS);
	sent[sent_count++] = *request;
}

static void on_cancel(struct transport *transport, uint32_t cookie)
{
	cr_assert_null(transport);
	cancelled[cancelled_count++ % 10] = cookie;
}

static void on_warning(const char *text)
{
	cr_assert_lt(strlen(text), WARNING_BYTES);
	strcat(strcat(warnings, text), "\n");
}

static const struct session_calls calls = {on_probe, on_cancel, on_warning};

static void start(void)
{
	cr_assert(session_open(&session, &calls, COMPAT_0_95));
	session.now_ns = 1000 * (int64_t)NS_PER_MS;
}

static void stop(void)
{
	session_close(&session);
}

TestSuite(mtr_packet_session, .init = start, .fini = stop);

/* The next probe that the transport was given. */
static struct probe_request next_probe(void)
{
	cr_assert_lt(sent_read, sent_count, "no probe");
	return sent[sent_read++];
}

static void no_probe(void)
{
	cr_assert_eq(sent_read, sent_count, "a probe");
}

static struct probe_result result_of(const struct probe_request *probe, enum result_kind kind)
{
	struct probe_result result = {
		.cookie = probe->cookie, .kind = kind, .rtt_ns = 2 * NS_PER_MS};

	memcpy(result.responder, probe->destination, sizeof(result.responder));
	return result;
}

static void answer(const struct probe_request *probe, enum result_kind kind)
{
	const struct probe_result result = result_of(probe, kind);

	session_result(&session, &result);
}

static void fail(const struct probe_request *probe, int error)
{
	struct probe_result result = result_of(probe, RESULT_FAILED);

	result.error = error;
	session_result(&session, &result);
}

static void answer_too_big(const struct probe_request *probe)
{
	struct probe_result result = result_of(probe, RESULT_ICMP);

	result.known = KNOWN_ICMP;
	result.icmp_type = 2;
	result.mtu_bytes = 1400;
	session_result(&session, &result);
}

/* --- the client ------------------------------------------------------------------------------- */

static void request(const char *line)
{
	session_line(&session, (struct text){line, strlen(line)});
}

/* Takes all that waits for the client: it is exactly this. */
static void expect_output(const char *text)
{
	size_t pending = output_pending(&session.output);
	const char *found = session.output.bytes + session.output.start;

	cr_assert(pending == strlen(text) && memcmp(found, text, pending) == 0,
		  "\"%.*s\" instead of \"%s\"", (int)pending, found, text);
	session.output.start = session.output.end;
}

static void advance(int64_t by_ns)
{
	session.now_ns += by_ns;
	session_expire(&session);
	cr_assert_gt(session_next_ns(&session), session.now_ns);
}

static void advance_to_next(void)
{
	advance(session_next_ns(&session) - session.now_ns);
}

#define PROBE "send-probe ip-4 127.0.0.1"

/* --- tests ------------------------------------------------------------------------------------ */

Test(mtr_packet_session, takes_nothing_before_the_transport_is_ready)
{
	cr_assert_not(session_accepts(&session));
	session_ready(&session, ALL_FEATURES);
	cr_assert(session_accepts(&session));
}

Test(mtr_packet_session, a_probe_and_its_answer)
{
	static const uint8_t zero[16];

	session_ready(&session, ALL_FEATURES);
	request("7 " PROBE " ttl 3 size 100");
	struct probe_request probe = next_probe();
	cr_assert_eq(probe.ttl, 3);
	cr_assert_eq(probe.size_bytes, 100);
	cr_assert_arr_eq(probe.destination, "\x7f\0\0\1", 4);
	cr_assert_arr_eq(probe.source, zero, 16);
	expect_output("");
	answer(&probe, RESULT_REPLY);
	expect_output("7 reply ip-4 127.0.0.1 round-trip-time 2000\n");
	cr_assert_eq(session_open_probes(&session), 0);
	cr_assert_eq(session_next_ns(&session), INT64_MAX);
	/* A second result gets no second reply. */
	answer(&probe, RESULT_REPLY);
	expect_output("");
}

Test(mtr_packet_session, every_other_line_is_answered_at_once)
{
	session_ready(&session, ALL_FEATURES);
	request("");
	request("1 fly");
	request("2 check-support feature icmp");
	request("3 check-support feature version");
	request("4 send-probe ip-4 127.0.0.1 ttl 0");
	session_line_too_long(&session);
	expect_output("0 command-parse-error\n1 unknown-command\n2 feature-support support ok\n"
		      "3 feature-support support 0.95-postern-" POSTERN_VERSION "\n"
		      "4 invalid-argument reason ttl-out-of-range\n0 command-buffer-overflow\n");
	no_probe();
}

Test(mtr_packet_session, timeouts)
{
	session_ready(&session, ALL_FEATURES);
	request("1 " PROBE " timeout 0.010");
	request("2 " PROBE " timeout 0.005");
	struct probe_request first = next_probe(), second = next_probe();
	cr_assert_eq(session_next_ns(&session), session.now_ns + 5 * NS_PER_MS);
	advance(5 * NS_PER_MS - 1);
	expect_output("");
	advance(1);
	expect_output("2 no-reply\n");
	advance(5 * NS_PER_MS);
	expect_output("1 no-reply\n");
	/* The transport is told, and what it still reports is ignored. */
	cr_assert_eq(cancelled_count, 2);
	cr_assert_eq(cancelled[0], second.cookie);
	cr_assert_eq(cancelled[1], first.cookie);
	answer(&first, RESULT_REPLY);
	expect_output("");
}

Test(mtr_packet_session, timeout_of_zero_lets_the_probe_leave)
{
	session_ready(&session, ALL_FEATURES);
	request("1 " PROBE " timeout 0");
	request("2 " PROBE " timeout 0");
	struct probe_request probe = next_probe();
	session_expire(&session);
	expect_output("");
	answer(&probe, RESULT_REPLY);
	expect_output("1 reply ip-4 127.0.0.1 round-trip-time 2000\n");
	advance(10 * NS_PER_MS);
	expect_output("2 no-reply\n");
}

Test(mtr_packet_session, a_lost_probe_is_answered_at_once)
{
	session_ready(&session, ALL_FEATURES);
	request("1 " PROBE " protocol tcp");
	struct probe_request probe = next_probe();
	answer(&probe, RESULT_LOST);
	expect_output("1 no-reply\n");
	cr_assert_eq(session_next_ns(&session), INT64_MAX);
}

Test(mtr_packet_session, temporary_errors_are_retried)
{
	static const int errors[] = {ENOBUFS, EAGAIN, ENOMEM};

	session_ready(&session, ALL_FEATURES);
	request("1 " PROBE " timeout 1");
	int64_t waited_ns = 0;
	for (int i = 0; i < 3; i++) {
		struct probe_request probe = next_probe();
		fail(&probe, errors[i]);
		expect_output("");
		/* Nothing is on its way that could be answered. */
		answer(&probe, RESULT_REPLY);
		expect_output("");
		int64_t wait_ns = session_next_ns(&session) - session.now_ns;
		cr_assert_gt(wait_ns, waited_ns, "no longer than before");
		cr_assert_lt(wait_ns, 100 * NS_PER_MS);
		waited_ns = wait_ns;
		advance(wait_ns - 1);
		no_probe();
		advance(1);
	}
	struct probe_request probe = next_probe();
	answer(&probe, RESULT_REPLY);
	expect_output("1 reply ip-4 127.0.0.1 round-trip-time 2000\n");
	cr_assert_eq(session_next_ns(&session), INT64_MAX);
}

Test(mtr_packet_session, an_error_that_does_not_pass_ends_at_the_timeout)
{
	session_ready(&session, ALL_FEATURES);
	int64_t from_ns = session.now_ns;
	request("1 " PROBE " timeout 1");
	while (session_open_probes(&session) > 0) {
		struct probe_request probe = next_probe();
		fail(&probe, ENOBUFS);
		advance_to_next();
	}
	cr_assert_eq(session.now_ns - from_ns, NS_PER_S);
	expect_output("1 no-reply\n");
	cr_assert_eq(cancelled_count, 0);
}

Test(mtr_packet_session, ipv6_probes_that_may_be_fragmented_are_sent_again)
{
	session_ready(&session, ALL_FEATURES);
	request("1 send-probe ip-6 ::1 size 1500");
	for (int i = 0; i < 2; i++) {
		struct probe_request probe = next_probe();
		answer_too_big(&probe);
		expect_output("");
		advance_to_next();
	}
	struct probe_request probe = next_probe();
	answer(&probe, RESULT_REPLY);
	expect_output("1 reply ip-6 ::1 round-trip-time 2000\n");

	request("2 send-probe ip-6 ::1 size 1500 dont-fragment 1");
	probe = next_probe();
	answer_too_big(&probe);
	expect_output("2 packet-too-big ip-6 ::1 round-trip-time 2000 mtu 1400\n");

	/* The same error again and again. */
	request("3 send-probe ip-6 ::1 size 1500");
	for (int i = 0; session_open_probes(&session) > 0; i++) {
		cr_assert_lt(i, 20);
		probe = next_probe();
		answer_too_big(&probe);
		if (session_open_probes(&session) > 0)
			advance_to_next();
	}
	expect_output("3 reply ip-6 ::1 round-trip-time 2000\n");
}

static void need_loopback(uint8_t family)
{
	struct probe_request probe = {.family = family};
	struct local_route route;

	inet_pton(family == 4 ? AF_INET : AF_INET6, family == 4 ? "127.0.0.1" : "::1",
		  probe.destination);
	if (local_route(&probe, &route) != 0)
		cr_skip_test("no loopback");
}

Test(mtr_packet_session, failures)
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
		{EXDEV, "1 invalid-argument reason source-with-device\n"},
		{EIO, "1 unexpected-error errno 5\n"},
	};

	need_loopback(4);
	session_ready(&session, ALL_FEATURES);
	for (size_t i = 0; i < sizeof(failures) / sizeof(failures[0]); i++) {
		request("1 " PROBE);
		struct probe_request probe = next_probe();
		fail(&probe, failures[i].error);
		expect_output(failures[i].text);
	}
	cr_assert_eq(session_next_ns(&session), INT64_MAX);
}

Test(mtr_packet_session, larger_than_the_local_link)
{
	struct probe_request loopback = {.family = 4, .destination = {127, 0, 0, 1}};
	struct local_route route;
	char expected[100];

	session_ready(&session, ALL_FEATURES);
	if (local_route(&loopback, &route) != 0)
		cr_skip_test("no loopback");
	request("2 " PROBE " dont-fragment 1 size 65535");
	struct probe_request probe = next_probe();
	cr_assert_eq(probe.flags, REQUEST_DONT_FRAGMENT);
	fail(&probe, EMSGSIZE);
	snprintf(expected, sizeof(expected), "2 packet-too-big mtu %u\n", route.mtu_bytes);
	expect_output(expected);
}

Test(mtr_packet_session, a_source_that_is_not_local)
{
	static const int errors_of_raw_sockets[] = {EINVAL, ENETUNREACH};

	need_loopback(4);
	session_ready(&session, ALL_FEATURES);
	for (int i = 0; i < 2; i++) {
		request("1 " PROBE " local-ip-4 203.0.113.77");
		struct probe_request probe = next_probe();
		fail(&probe, errors_of_raw_sockets[i]);
		expect_output("1 address-not-available\n");
	}
}

Test(mtr_packet_session, features_that_are_missing)
{
	session_ready(&session, FEATURE_ICMP | FEATURE_UDP);
	request("1 " PROBE " protocol tcp");
	expect_output("1 invalid-argument reason protocol-not-supported\n");
	request("2 send-probe ip-6 ::1");
	expect_output("2 invalid-argument reason ip-version-not-supported\n");
	request("3 " PROBE " mark 1");
	expect_output("3 permission-denied\n");
	session_ready(&session, FEATURE_ICMP | FEATURE_UDP | FEATURE_ICMP << FEATURE_IPV6_SHIFT);
	request("4 send-probe ip-6 ::1 protocol udp");
	expect_output("4 invalid-argument reason protocol-not-supported\n");
	no_probe();
	session_ready(&session, FEATURE_ICMP | FEATURE_UDP);

	static const struct {
		const char *name, *answer;
	} support[] = {{"send-probe", "ok"}, {"ip-4", "ok"}, {"ip-6", "no"},
		       {"icmp", "ok"},       {"udp", "ok"},  {"tcp", "no"},
		       {"sctp", "no"},       {"mark", "no"}, {"local-device", "ok"},
		       {"details", "ok"},    {"flow", "ok"}, {"dont-fragment", "ok"},
		       {"icm", "no"},        {"icmpx", "no"}};
	for (size_t i = 0; i < sizeof(support) / sizeof(support[0]); i++) {
		char line[100], expected[100];
		snprintf(line, sizeof(line), "1 check-support feature %s", support[i].name);
		snprintf(expected, sizeof(expected), "1 feature-support support %s\n",
			 support[i].answer);
		request(line);
		expect_output(expected);
	}
}

Test(mtr_packet_session, marks_where_they_are_allowed)
{
	session_ready(&session, ALL_FEATURES);
	request("1 " PROBE " mark 7");
	cr_assert_eq(next_probe().mark, 7);
	expect_output("");
}

Test(mtr_packet_session, interfaces)
{
	uint32_t loopback = interface_index("lo", 2);
	char line[100];

	session_ready(&session, ALL_FEATURES);
	if (loopback == 0)
		cr_skip_test("no loopback");
	request("1 " PROBE " local-device lo");
	cr_assert_eq(next_probe().ifindex, loopback);
	request("1 send-probe ip-6 fe80::1%lo");
	cr_assert_eq(next_probe().ifindex, loopback);
	snprintf(line, sizeof(line), "1 send-probe ip-6 fe80::1%%%u local-device lo", loopback);
	request(line);
	cr_assert_eq(next_probe().ifindex, loopback);
	expect_output("");

	static const struct {
		const char *arguments, *reason;
	} faults[] = {
		{"ip-4 127.0.0.1 local-device nosuchdevice", "local-device-unknown"},
		{"ip-4 127.0.0.1 local-device anamethatistoolongforone", "local-device-unknown"},
		{"ip-4 127.0.0.1 local-device 1", "local-device-unknown"},
		{"ip-6 fe80::1%nosuchdevice", "ip-6-unknown-interface"},
		{"ip-6 fe80::1%0", "ip-6-unknown-interface"},
		{"ip-6 fe80::1%4294967297", "ip-6-unknown-interface"},
		{"ip-6 fe80::1%99999999999999999999999", "ip-6-unknown-interface"},
		{"ip-6 fe80::1%2147483647 local-device lo", "local-device-of-other-interface"},
	};
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		char expected[100];
		snprintf(line, sizeof(line), "2 send-probe %s", faults[i].arguments);
		snprintf(expected, sizeof(expected), "2 invalid-argument reason %s\n",
			 faults[i].reason);
		request(line);
		expect_output(expected);
	}
}

Test(mtr_packet_session, no_more_lines_than_slots)
{
	session_ready(&session, ALL_FEATURES);
	for (int i = 0; i < TRANSPORT_SLOTS; i++) {
		cr_assert(session_accepts(&session));
		request("1 " PROBE);
	}
	cr_assert_not(session_accepts(&session));
	answer(&sent[1], RESULT_REPLY);
	cr_assert(session_accepts(&session));
}

Test(mtr_packet_session, no_more_lines_than_the_client_reads_replies)
{
	session_ready(&session, ALL_FEATURES);
	int lines = 0;
	while (session_accepts(&session)) {
		request("1 fly");
		cr_assert_lt(++lines, 100000);
	}
	cr_assert_lt(output_pending(&session.output), 300000);
	session.output.start = session.output.end;
	cr_assert(session_accepts(&session));
}

Test(mtr_packet_session, room_for_the_longest_reply_to_everything_that_is_open)
{
	struct extension_info extension = {.mpls_count = EXTENSION_MPLS_LABELS};

	for (size_t i = 0; i < EXTENSION_MPLS_LABELS; i++)
		extension.mpls[i] = (struct extension_mpls){0xfffff, 7, 1, 255};
	session_ready(&session, ALL_FEATURES);
	for (int i = 0; i < TRANSPORT_SLOTS - 1; i++)
		request("-2147483648 " PROBE " details 1");
	while (session_accepts(&session))
		request("1 fly");
	for (size_t i = 0; i < sent_count; i++) {
		struct probe_result result = result_of(&sent[i], RESULT_ICMP);
		result.extension = &extension;
		session_result(&session, &result);
	}
	cr_assert_eq(session_open_probes(&session), 0);
	cr_assert_gt(output_pending(&session.output), (TRANSPORT_SLOTS - 1) * (size_t)300);
}

Test(mtr_packet_session, end_of_the_broker)
{
	session_ready(&session, ALL_FEATURES);
	for (int i = 0; i < 1000; i++)
		request(i % 2 ? "5 " PROBE : "5 " PROBE " protocol sctp");
	request("6 " PROBE " protocol udp");
	request("7 " PROBE " protocol tcp");
	/* One of them waits to be sent again. */
	fail(&sent[3], ENOBUFS);
	session_down(&session, ICMP_AND_SCTP, ECONNRESET, "postern-broker: killed");
	cr_assert_str_eq(warnings, "postern-broker: killed (see postern doctor)\n");
	cr_assert_eq(session_open_probes(&session), 2);
	cr_assert_eq(output_pending(&session.output),
		     1000 * strlen("5 unexpected-error errno 104\n"));
	session.output.start = session.output.end;
	advance(100 * NS_PER_MS);

	request("8 " PROBE);
	request("9 check-support feature icmp");
	request("9 check-support feature udp");
	request("9 check-support feature ip-4");
	expect_output("8 unexpected-error errno 104\n9 feature-support support no\n"
		      "9 feature-support support ok\n9 feature-support support ok\n");
	answer(&sent[1000], RESULT_REPLY);
	answer(&sent[1001], RESULT_REPLY);
	expect_output("6 reply ip-4 127.0.0.1 round-trip-time 2000\n"
		      "7 reply ip-4 127.0.0.1 round-trip-time 2000\n");
	request("9 " PROBE " protocol udp");
	cr_assert_eq(session_open_probes(&session), 1);
	/* Once is enough. */
	cr_assert_str_eq(warnings, "postern-broker: killed (see postern doctor)\n");
}

/* A client that does not ask for what is missing gets no warning. */
Test(mtr_packet_session, without_privilege)
{
	session_down(&session, ICMP_AND_SCTP | FEATURE_MARK, EPERM,
		     "postern-broker: no privilege (the remedy)");
	cr_assert_not(session_accepts(&session));
	session_ready(&session, FEATURE_UDP | FEATURE_TCP);
	cr_assert(session_accepts(&session));
	request("1 check-support feature send-probe");
	request("2 check-support feature ip-4");
	request("3 " PROBE " protocol udp");
	cr_assert_str_eq(warnings, "");
	request("4 " PROBE);
	cr_assert_str_eq(warnings, "postern-broker: no privilege (see postern doctor)\n");
	request("5 send-probe ip-6 ::1 protocol sctp");
	cr_assert_str_eq(warnings, "postern-broker: no privilege (see postern doctor)\n");
	expect_output("1 feature-support support ok\n2 feature-support support ok\n"
		      "4 permission-denied\n5 permission-denied\n");
}

/* mtr asks for nothing more after "no". */
Test(mtr_packet_session, without_privilege_check_support_warns)
{
	session_down(&session, ICMP_AND_SCTP, EACCES, "postern-broker: no privilege");
	session_ready(&session, FEATURE_UDP);
	request("1 check-support feature udp");
	cr_assert_str_eq(warnings, "");
	request("2 check-support feature icmp");
	cr_assert_str_eq(warnings, "postern-broker: no privilege (see postern doctor)\n");
	request("3 " PROBE);
	expect_output("1 feature-support support ok\n2 feature-support support no\n"
		      "3 permission-denied\n");
}

Test(mtr_packet_session, each_lost_way_has_its_error)
{
	static char long_reason[200];

	memset(long_reason, 'x', sizeof(long_reason) - 1);
	session_down(&session, ICMP_AND_SCTP, EPERM, long_reason);
	session_down(&session, FEATURE_UDP * 0x101, EIO, "udp");
	session_ready(&session, FEATURE_TCP);
	request("1 " PROBE);
	cr_assert_eq(strlen(warnings), WARNING_BYTES);
	request("2 " PROBE " protocol udp");
	request("3 " PROBE " protocol tcp");
	expect_output("1 permission-denied\n2 unexpected-error errno 5\n");
	next_probe();
	for (int i = 0; i < LOST_WAYS_MAX; i++)
		session_down(&session, FEATURE_TCP, EIO, "tcp");
	cr_assert_eq(session.lost_count, LOST_WAYS_MAX);
}

Test(mtr_packet_session, unknown_arguments_are_named_once)
{
	session_ready(&session, ALL_FEATURES);
	for (int i = 0; i < 3; i++)
		request("1 " PROBE " colour blue \x1b[2J 1");
	cr_assert_eq(sent_count, 3);
	cr_assert_str_eq(warnings, "unknown argument is ignored: colour\n"
				   "unknown argument is ignored: ?[2J\n");
	for (int i = 0; i < 100; i++) {
		char line[300];
		snprintf(line, sizeof(line), "1 " PROBE " name%d%0200d 1", i, i);
		request(line);
	}
	size_t lines = 0;
	for (const char *at = warnings; (at = strchr(at, '\n')); at++)
		lines++;
	cr_assert_eq(lines, UNKNOWN_NAMES_MAX);
}

Test(mtr_packet_session, version_of_the_other_mtr)
{
	session.compat = COMPAT_0_96;
	session_ready(&session, ALL_FEATURES);
	request("3 check-support feature version");
	request("4 " PROBE);
	struct probe_request probe = next_probe();
	fail(&probe, ENETUNREACH);
	expect_output("3 feature-support support 0.96-postern-" POSTERN_VERSION "\n"
		      "4 no-route-network\n");
}
