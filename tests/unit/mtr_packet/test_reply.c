/*
 * Reply lines, byte for byte, in both families; and the longest that there can be.
 */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "frontend/mtr_packet/reply.h"

static char line[REPLY_BYTES];
static const struct token token = {3, "-42"};
static struct probe_result result;
static struct extension_info extension;
static struct reply_answer answer;

static void start(void)
{
	memset(&result, 0, sizeof(result));
	memset(&extension, 0, sizeof(extension));
	result.kind = RESULT_ICMP;
	result.known = KNOWN_ICMP;
	result.rtt_ns = 1234567;
	answer = (struct reply_answer){
		.token = &token, .status = STATUS_TTL_EXPIRED, .family = 4, .result = &result};
	inet_pton(AF_INET, "198.18.0.254", result.responder);
}

TestSuite(mtr_packet_reply, .init = start);

static void expect(size_t length, const char *text)
{
	cr_assert_eq(length, strlen(text), "%.*s", (int)length, line);
	cr_assert_arr_eq(line, text, length, "%.*s", (int)length, line);
}

Test(mtr_packet_reply, short_ones)
{
	expect(write_reply(line, &token, "no-reply"), "-42 no-reply\n");
	expect(write_reply_number(line, &token, "unexpected-error", "errno", 104),
	       "-42 unexpected-error errno 104\n");
	expect(write_reply_number(line, &token, "packet-too-big", "mtu", 0),
	       "-42 packet-too-big mtu 0\n");
	expect(write_reply_fault(line, &token, (struct fault){"ttl", "out-of-range"}),
	       "-42 invalid-argument reason ttl-out-of-range\n");
	expect(write_reply_support(line, &token, "ok"), "-42 feature-support support ok\n");
}

Test(mtr_packet_reply, answers)
{
	expect(write_reply_answer(line, &answer),
	       "-42 ttl-expired ip-4 198.18.0.254 round-trip-time 1235\n");
	inet_pton(AF_INET, "0.10.255.1", result.responder);
	result.rtt_ns = 499;
	expect(write_reply_answer(line, &answer),
	       "-42 ttl-expired ip-4 0.10.255.1 round-trip-time 0\n");
	result.rtt_ns = 500;
	expect(write_reply_answer(line, &answer),
	       "-42 ttl-expired ip-4 0.10.255.1 round-trip-time 1\n");

	answer.family = 6;
	answer.status = STATUS_NO_ROUTE;
	inet_pton(AF_INET6, "2001:db8::ff:1", result.responder);
	expect(write_reply_answer(line, &answer),
	       "-42 no-route ip-6 2001:db8::ff:1 round-trip-time 1\n");
}

Test(mtr_packet_reply, mpls)
{
	extension.mpls_count = 2;
	extension.mpls[0] = (struct extension_mpls){24001, 0, 1, 1};
	extension.mpls[1] = (struct extension_mpls){16005, 7, 0, 255};
	result.extension = &extension;
	expect(write_reply_answer(line, &answer),
	       "-42 ttl-expired ip-4 198.18.0.254 round-trip-time 1235 "
	       "mpls 24001,0,1,1,16005,7,0,255\n");
	extension.mpls_count = 0;
	expect(write_reply_answer(line, &answer),
	       "-42 ttl-expired ip-4 198.18.0.254 round-trip-time 1235\n");
}

Test(mtr_packet_reply, too_big)
{
	answer.status = STATUS_PACKET_TOO_BIG;
	answer.details = true;
	result.icmp_type = 3;
	result.icmp_code = 4;
	result.mtu_bytes = 1400;
	expect(write_reply_answer(line, &answer),
	       "-42 packet-too-big ip-4 198.18.0.254 round-trip-time 1235 mtu 1400 icmp-type 3 "
	       "icmp-code 4\n");
}

Test(mtr_packet_reply, details_only_where_known_and_asked_for)
{
	result.icmp_type = 11;
	result.reply_ttl = 63;
	result.quoted_ttl = 1;
	result.quoted_tos = 184;
	result.known = KNOWN_ICMP | KNOWN_REPLY_TTL | KNOWN_QUOTED_TTL;
	expect(write_reply_answer(line, &answer),
	       "-42 ttl-expired ip-4 198.18.0.254 round-trip-time 1235\n");
	answer.details = true;
	expect(write_reply_answer(line, &answer),
	       "-42 ttl-expired ip-4 198.18.0.254 round-trip-time 1235 icmp-type 11 icmp-code 0 "
	       "reply-ttl 63 quoted-ttl 1 quoted-tos 184\n");
	result.kind = RESULT_REPLY;
	result.known = 0;
	answer.status = STATUS_REPLY;
	expect(write_reply_answer(line, &answer),
	       "-42 reply ip-4 198.18.0.254 round-trip-time 1235\n");
}

Test(mtr_packet_reply, the_interface_where_the_probe_came_in)
{
	answer.details = true;
	result.extension = &extension;
	result.known = 0;
	extension.interface_count = 2;
	extension.interfaces[0] = (struct extension_interface){
		.role = EXTENSION_OUTGOING, .has_index = true, .index = 2, .name = "out"};
	extension.interfaces[1] = (struct extension_interface){.role = EXTENSION_INCOMING,
							       .has_index = true,
							       .index = 7,
							       .address_family = 6,
							       .name = "ge-0/0/1"};
	inet_pton(AF_INET6, "fe80::7", extension.interfaces[1].address);
	expect(write_reply_answer(line, &answer),
	       "-42 ttl-expired ip-4 198.18.0.254 round-trip-time 1235 interface ge-0/0/1 "
	       "interface-index 7 interface-ip fe80::7\n");
	extension.interface_count = 1;
	expect(write_reply_answer(line, &answer),
	       "-42 ttl-expired ip-4 198.18.0.254 round-trip-time 1235 interface out "
	       "interface-index 2\n");
}

/* mtr takes sixteen arguments a line; the buffer takes all that there can be. */
Test(mtr_packet_reply, the_longest)
{
	static const struct token longest = {TOKEN_BYTES, "-2147483648"};
	const char *address = "2001:db8:1111:2222:3333:4444:5555:6666";

	answer = (struct reply_answer){&longest, STATUS_NO_ROUTE_NETWORK, 6, true, &result};
	result.rtt_ns = INT64_MAX - 500;
	result.extension = &extension;
	result.icmp_type = result.icmp_code = result.reply_ttl = 255;
	result.quoted_ttl = result.quoted_tos = 255;
	result.mtu_bytes = UINT32_MAX;
	result.known = KNOWN_ICMP | KNOWN_REPLY_TTL | KNOWN_QUOTED_TTL;
	inet_pton(AF_INET6, address, result.responder);
	extension.mpls_count = EXTENSION_MPLS_LABELS;
	for (size_t i = 0; i < EXTENSION_MPLS_LABELS; i++)
		extension.mpls[i] = (struct extension_mpls){0xfffff, 7, 1, 255};
	extension.interface_count = 1;
	extension.interfaces[0] = (struct extension_interface){
		.has_index = true, .index = UINT32_MAX, .address_family = 6};
	memset(extension.interfaces[0].name, 'n', EXTENSION_NAME_BYTES - 1);
	inet_pton(AF_INET6, address, extension.interfaces[0].address);

	char *room = malloc(REPLY_BYTES);
	size_t length = write_reply_answer(room, &answer);
	cr_assert_leq(length, REPLY_BYTES);
	int arguments = -2;
	for (size_t i = 0; i < length; i++)
		arguments += room[i] == ' ' || room[i] == '\n';
	cr_assert_leq(arguments, 2 * REQUEST_ARGUMENTS, "%d", arguments);
	free(room);
}
