/*
 * Every argument of a request: its place in the probe, the limits of its range, the reason for each
 * fault.
 */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "frontend/mtr_packet/request.h"

static struct request request;

static enum request_kind parse_bytes(const char *bytes, size_t length)
{
	/* On the heap's edge, so that a sanitizer sees a byte too many. */
	char *copy = malloc(length > 0 ? length : 1);
	memcpy(copy, bytes, length);
	enum request_kind kind = request_parse((struct text){copy, length}, &request);
	free(copy);
	return kind;
}

static enum request_kind parse(const char *line)
{
	return parse_bytes(line, strlen(line));
}

/* A probe to 198.18.0.1 with these arguments. */
static enum request_kind parse_with(const char *arguments)
{
	char line[512];

	snprintf(line, sizeof(line), "7 send-probe ip-4 198.18.0.1 %s", arguments);
	return parse(line);
}

static void expect_fault(const char *arguments, const char *reason)
{
	char found[100];

	cr_assert_eq(parse_with(arguments), REQUEST_INVALID, "%s is not invalid", arguments);
	snprintf(found, sizeof(found), "%s-%s", request.fault.argument, request.fault.what);
	cr_assert_str_eq(found, reason);
	cr_assert_eq(request.token.length, 1);
}

static void expect_probe(const char *arguments)
{
	cr_assert_eq(parse_with(arguments), REQUEST_SEND_PROBE, "%s is not a probe: %s", arguments,
		     request.fault.what);
}

Test(mtr_packet_request, defaults)
{
	expect_probe("");
	cr_assert_eq(request.probe.family, 4);
	cr_assert_eq(request.probe.protocol, IPPROTO_ICMP);
	cr_assert_eq(request.probe.ttl, 255);
	cr_assert_eq(request.probe.size_bytes, 64);
	cr_assert_eq(request.probe.tos, 0);
	cr_assert_eq(request.probe.payload_byte, 0);
	cr_assert_eq(request.probe.flags, 0);
	cr_assert_eq(request.probe.port, 0);
	cr_assert_eq(request.probe.local_port, 0);
	cr_assert_eq(request.timeout_ns, 10000000000);
	cr_assert_eq(request.device.length, 0);
	cr_assert_eq(request.scope.length, 0);
	cr_assert_not(request.details);
	cr_assert_arr_eq(request.probe.destination, "\xc6\x12\x00\x01\0\0\0\0\0\0\0\0\0\0\0\0", 16);
	cr_assert_arr_eq(request.probe.source, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16);
}

static void expect_token(const char *text, const char *answered)
{
	char line[200];

	snprintf(line, sizeof(line), "%s check-support feature icmp", text);
	cr_assert_eq(parse(line), REQUEST_CHECK_SUPPORT, "token %s", text);
	cr_assert_eq(request.token.length, strlen(answered), "token %s", text);
	cr_assert_arr_eq(request.token.bytes, answered, strlen(answered));
}

Test(mtr_packet_request, tokens)
{
	expect_token("0", "0");
	expect_token("-2147483648", "-2147483648");
	expect_token("2147483647", "2147483647");
	expect_token("007", "007");
	expect_token("+5", "+5");
	expect_token("-0", "-0");
	expect_token("00000000000000000000000000000000005", "00000000005");
	expect_token("-00000000000000000002147483648", "-2147483648");

	static const char *const wrong[] = {"2147483648",
					    "-2147483649",
					    "x",
					    "1x",
					    "-",
					    "+",
					    "0x10",
					    "1.0",
					    "--1",
					    "99999999999999999999999",
					    "18446744073709551617"};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		char line[200];
		snprintf(line, sizeof(line), "%s check-support feature icmp", wrong[i]);
		cr_assert_eq(parse(line), REQUEST_PARSE_ERROR, "token %s", wrong[i]);
	}
}

Test(mtr_packet_request, parse_errors)
{
	static const char *const wrong[] = {"",
					    " ",
					    "\t \t",
					    "1",
					    " 1 ",
					    "send-probe",
					    "1 send-probe ip-4",
					    "1 send-probe ip-4 198.18.0.1 ttl",
					    "x send-probe ip-4 198.18.0.1",
					    "1 unknown-command-with-odd fields"};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		cr_assert_eq(parse(wrong[i]), REQUEST_PARSE_ERROR, "\"%s\"", wrong[i]);
}

Test(mtr_packet_request, sixteen_arguments_and_no_more)
{
	char line[1024] = "1 send-probe ip-4 198.18.0.1";

	for (int i = 1; i < REQUEST_ARGUMENTS; i++)
		strcat(line, " ttl 5");
	cr_assert_eq(parse(line), REQUEST_SEND_PROBE);
	strcat(line, " ttl 5");
	cr_assert_eq(parse(line), REQUEST_PARSE_ERROR);
	strcat(line, " ttl");
	cr_assert_eq(parse(line), REQUEST_PARSE_ERROR);
}

Test(mtr_packet_request, blanks_and_commands)
{
	cr_assert_eq(parse("\t 12 \t send-probe\tip-4  198.18.0.1 \t"), REQUEST_SEND_PROBE);
	cr_assert_arr_eq(request.token.bytes, "12", 2);
	cr_assert_eq(parse("1 send-probes"), REQUEST_UNKNOWN_COMMAND);
	cr_assert_eq(parse("1 send-prob"), REQUEST_UNKNOWN_COMMAND);
	cr_assert_eq(parse_bytes("1 send-probe\0", 13), REQUEST_UNKNOWN_COMMAND);
	cr_assert_eq(parse_bytes("1 \xff\xfe a b", 8), REQUEST_UNKNOWN_COMMAND);
	cr_assert_eq(parse("1 SEND-PROBE"), REQUEST_UNKNOWN_COMMAND);
}

Test(mtr_packet_request, check_support)
{
	cr_assert_eq(parse("1 check-support"), REQUEST_INVALID);
	cr_assert_eq(parse("1 check-support features icmp"), REQUEST_INVALID);
	cr_assert_eq(parse("1 check-support feature a feature icmp"), REQUEST_CHECK_SUPPORT);
	cr_assert_eq(request.feature.length, 4);
}

/* A number: the two edges of its range pass, one beyond each does not. */
struct range {
	const char *name;
	long long least, most;
};

static const struct range ranges[] = {
	{"ttl", 1, 255},         {"size", 0, 65535},      {"bit-pattern", -511, 255},
	{"tos", 0, 255},         {"port", 1, 65535},      {"local-port", 1024, 65535},
	{"mark", 0, 4294967295}, {"flow", 0, 4294967295}, {"details", 0, 1},
	{"dont-fragment", 0, 1},
};

Test(mtr_packet_request, ranges)
{
	for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
		const struct range *range = &ranges[i];
		char text[100], reason[100];
		for (int edge = 0; edge < 2; edge++) {
			long long inside = edge ? range->most : range->least;
			snprintf(text, sizeof(text), "%s %lld", range->name, inside);
			expect_probe(text);
			snprintf(text, sizeof(text), "%s %lld", range->name,
				 edge ? inside + 1 : inside - 1);
			snprintf(reason, sizeof(reason), "%s-out-of-range", range->name);
			expect_fault(text, reason);
		}
		static const char *const beyond[] = {"18446744073709551616", "-9223372036854775809",
						     "100000000000000000000000000000000000000000"};
		for (size_t j = 0; j < 3; j++) {
			snprintf(text, sizeof(text), "%s %s", range->name, beyond[j]);
			expect_fault(text, reason);
		}
		static const char *const no_number[] = {"x", "1x", "1.5", "-", "0x1", "\xc3\xa4"};
		snprintf(reason, sizeof(reason), "%s-not-a-number", range->name);
		for (size_t j = 0; j < 6; j++) {
			snprintf(text, sizeof(text), "%s %s", range->name, no_number[j]);
			expect_fault(text, reason);
		}
	}
}

Test(mtr_packet_request, numbers_go_to_their_places)
{
	expect_probe("ttl 3 size 1400 bit-pattern 170 tos 46 port 53 local-port 5001 mark 7 flow 9 "
		     "details 1 dont-fragment 1 protocol udp");
	cr_assert_eq(request.probe.ttl, 3);
	cr_assert_eq(request.probe.size_bytes, 1400);
	cr_assert_eq(request.probe.payload_byte, 170);
	cr_assert_eq(request.probe.tos, 46);
	cr_assert_eq(request.probe.port, 53);
	cr_assert_eq(request.probe.local_port, 5001);
	cr_assert_eq(request.probe.mark, 7);
	cr_assert_eq(request.probe.flow, 9);
	cr_assert_eq(request.probe.flags, REQUEST_MARK | REQUEST_FLOW | REQUEST_DONT_FRAGMENT);
	cr_assert(request.details);
	cr_assert_eq(request.probe.protocol, IPPROTO_UDP);
}

Test(mtr_packet_request, the_last_of_two_counts)
{
	expect_probe("ttl 3 ttl 4 dont-fragment 1 dont-fragment 0 ip-4 198.18.0.2 details 1 "
		     "details 0 protocol udp protocol icmp");
	cr_assert_eq(request.probe.ttl, 4);
	cr_assert_eq(request.probe.flags, 0);
	cr_assert_eq(request.probe.destination[3], 2);
	cr_assert_eq(request.probe.protocol, IPPROTO_ICMP);
	cr_assert_not(request.details);
}

Test(mtr_packet_request, a_fault_of_one_that_does_not_count_does_not_count)
{
	expect_probe("ttl 0 ttl 4 ip-4 nowhere ip-4 198.18.0.2 timeout x timeout 1");
	cr_assert_eq(request.probe.ttl, 4);
	cr_assert_eq(request.probe.destination[3], 2);
	expect_fault("ttl 4 ttl 0", "ttl-out-of-range");
}

Test(mtr_packet_request, negative_patterns_are_random_and_keep_their_low_bits)
{
	static const struct {
		const char *text;
		uint8_t byte;
		bool random;
	} patterns[] = {{"-1", 255, true}, {"-511", 1, true}, {"-256", 0, true},
			{"-0", 0, false},  {"0", 0, false},   {"170", 170, false}};
	for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
		char text[100];
		snprintf(text, sizeof(text), "bit-pattern %s", patterns[i].text);
		expect_probe(text);
		cr_assert_eq(request.probe.payload_byte, patterns[i].byte, "%s", text);
		cr_assert_eq(request.probe.random_payload, patterns[i].random, "%s", text);
	}
}

Test(mtr_packet_request, timeouts)
{
	static const struct {
		const char *text;
		int64_t ns;
	} right[] = {
		{"0", 0},
		{"1", 1000000000},
		{"0.5", 500000000},
		{".25", 250000000},
		{"3.", 3000000000},
		{"1.0000000019", 1000000001},
		{"2147483647", 2147483647000000000},
		{"99999999999999999999", 2147483647000000000},
	};
	char text[100];
	for (size_t i = 0; i < sizeof(right) / sizeof(right[0]); i++) {
		snprintf(text, sizeof(text), "timeout %s", right[i].text);
		expect_probe(text);
		cr_assert_eq(request.timeout_ns, right[i].ns, "timeout %s: %lld", right[i].text,
			     (long long)request.timeout_ns);
	}
	expect_fault("timeout -1", "timeout-out-of-range");
	expect_fault("timeout .", "timeout-not-a-number");
	expect_fault("timeout 1e3", "timeout-not-a-number");
	expect_fault("timeout 1.2.3", "timeout-not-a-number");
	expect_fault("timeout x", "timeout-not-a-number");
}

Test(mtr_packet_request, protocols_and_ports)
{
	expect_probe("protocol tcp");
	cr_assert_eq(request.probe.protocol, IPPROTO_TCP);
	cr_assert_eq(request.probe.port, 80);
	expect_probe("protocol sctp");
	cr_assert_eq(request.probe.protocol, IPPROTO_SCTP);
	cr_assert_eq(request.probe.port, 80);
	expect_probe("protocol udp");
	cr_assert_eq(request.probe.port, 0);
	expect_probe("port 9 protocol tcp");
	cr_assert_eq(request.probe.port, 9);
	/* Ports that the protocol does not have. */
	expect_probe("protocol icmp port 9 local-port 2000");
	cr_assert_eq(request.probe.port, 0);
	cr_assert_eq(request.probe.local_port, 0);
	expect_probe("protocol tcp local-port 2000");
	cr_assert_eq(request.probe.local_port, 0);
	expect_fault("protocol igmp", "protocol-unknown");
	expect_fault("protocol udpx", "protocol-unknown");
}

Test(mtr_packet_request, addresses)
{
	expect_fault("ip-4 198.18.0", "ip-4-not-an-address");
	expect_fault("ip-4 198.18.0.256", "ip-4-not-an-address");
	expect_fault("ip-4 ::1", "ip-4-not-an-address");
	expect_fault("ip-4 localhost", "ip-4-not-an-address");
	expect_fault("ip-4 "
		     "1111111111111111111111111111111111111111111111111111111111111111111111111",
		     "ip-4-not-an-address");
	expect_fault("local-ip-4 ::1", "local-ip-4-not-an-address");
	expect_fault("local-ip-6 198.18.0.1", "local-ip-6-not-an-address");
	expect_fault("local-ip-6 ::1", "local-ip-6-of-other-family");
	expect_fault("ip-6 ::1", "destination-of-both-families");
	expect_fault("ip-6 198.18.0.1", "ip-6-not-an-address");
	expect_fault("local-ip-4 224.0.0.1", "local-ip-4-not-unicast");
	expect_fault("local-ip-6 ::ffff:198.18.0.1", "local-ip-6-not-unicast");
	expect_probe("local-ip-4 0.0.0.0");
	expect_probe("local-ip-4 198.18.0.9");
	cr_assert_arr_eq(request.probe.source, "\xc6\x12\x00\x09\0\0\0\0\0\0\0\0\0\0\0\0", 16);

	cr_assert_eq(parse("1 send-probe ttl 1"), REQUEST_INVALID);
	cr_assert_str_eq(request.fault.what, "missing");
	cr_assert_eq(parse("1 send-probe ip-6 2001:db8::1 local-ip-4 198.18.0.1"), REQUEST_INVALID);
	cr_assert_eq(parse("1 send-probe ip-6 2001:db8::1 local-ip-6 2001:db8::2"),
		     REQUEST_SEND_PROBE);
	cr_assert_eq(request.probe.family, 6);
	cr_assert_eq(request.probe.source[15], 2);
	cr_assert_eq(parse_bytes("1 send-probe ip-4 198.18.0.1\0x", 30), REQUEST_INVALID);
}

Test(mtr_packet_request, only_unicast)
{
	static const char *const wrong[] = {"ip-4 0.0.0.0",
					    "ip-4 0.0.0.1",
					    "ip-4 224.0.0.1",
					    "ip-4 239.255.255.255",
					    "ip-4 240.0.0.1",
					    "ip-4 255.255.255.255",
					    "ip-6 ::",
					    "ip-6 ::5",
					    "ip-6 ::ffff:198.18.0.1",
					    "ip-6 ff02::1"};
	static const char *const right[] = {"ip-4 1.0.0.1", "ip-4 223.255.255.255", "ip-6 ::1",
					    "ip-6 feff::1"};
	char line[100];
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		snprintf(line, sizeof(line), "1 send-probe %s", wrong[i]);
		cr_assert_eq(parse(line), REQUEST_INVALID, "%s", wrong[i]);
		cr_assert_str_eq(request.fault.what, "not-unicast");
	}
	for (size_t i = 0; i < sizeof(right) / sizeof(right[0]); i++) {
		snprintf(line, sizeof(line), "1 send-probe %s", right[i]);
		cr_assert_eq(parse(line), REQUEST_SEND_PROBE, "%s", right[i]);
	}
}

/* Texts point into the line, so it must live as long. */
Test(mtr_packet_request, interfaces)
{
	static const char scoped[] = "1 send-probe ip-6 fe80::1%eth0.5 local-device veth1";

	cr_assert_eq(request_parse((struct text){scoped, strlen(scoped)}, &request),
		     REQUEST_SEND_PROBE);
	cr_assert_eq(request.scope.length, 6);
	cr_assert_arr_eq(request.scope.bytes, "eth0.5", 6);
	cr_assert_eq(request.device.length, 5);
	cr_assert_arr_eq(request.device.bytes, "veth1", 5);
	cr_assert_eq(request.probe.destination[0], 0xfe);
	expect_fault("ip-6 fe80::1%", "ip-6-not-an-address");
	expect_fault("ip-4 198.18.0.1%lo", "ip-4-not-an-address");
	cr_assert_eq(parse("1 send-probe ip-6 fe80::1%lo ip-6 fe80::2"), REQUEST_SEND_PROBE);
	cr_assert_eq(request.scope.length, 0);
}

Test(mtr_packet_request, unknown_arguments_are_ignored_with_their_values)
{
	static const char line[] = "1 send-probe ttls 5 ip-4 198.18.0.1 TTL 0 tt ttl ttl 9";

	cr_assert_eq(request_parse((struct text){line, strlen(line)}, &request),
		     REQUEST_SEND_PROBE);
	cr_assert_eq(request.probe.ttl, 9);
	cr_assert_eq(request.unknown_count, 3);
	cr_assert(text_equals(request.unknown[0], TEXT("ttls")));
	cr_assert(text_equals(request.unknown[1], TEXT("TTL")));
	cr_assert(text_equals(request.unknown[2], TEXT("tt")));
	expect_probe("feature icmp");

	char full[1024] = "1 send-probe";
	for (int i = 0; i < REQUEST_ARGUMENTS; i++)
		strcat(full, " x 5");
	cr_assert_eq(parse(full), REQUEST_INVALID);
	cr_assert_str_eq(request.fault.what, "missing");
	cr_assert_eq(request.unknown_count, REQUEST_ARGUMENTS);
}

Test(mtr_packet_request, the_first_fault_in_the_line_is_reported)
{
	expect_fault("ttl 0 tos 256", "ttl-out-of-range");
	expect_fault("tos 256 ttl 0", "tos-out-of-range");
}

Test(mtr_packet_request, no_flow_with_tcp)
{
	expect_fault("protocol tcp flow 1", "flow-with-tcp");
	expect_fault("flow 0 protocol tcp", "flow-with-tcp");
	expect_probe("flow 1 protocol udp");
	expect_probe("flow 1 protocol sctp");
}
