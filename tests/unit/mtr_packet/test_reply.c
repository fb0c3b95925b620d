/*
 * Reply lines, byte for byte, in both families; and the longest that there can be.
 */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "frontend/packet_reply.h"

static char line[REPLY_BYTES];
static const struct token token = {3, "-42"};
static struct record_event event;
static struct extension_info extension;
static struct reply_answer answer;

static void start(void)
{
	memset(&event, 0, sizeof(event));
	memset(&extension, 0, sizeof(extension));
	event.kind = RECORD_EVENT;
	event.what = EVENT_ICMP;
	event.sent_ns = 5000000000;
	event.received_ns = 5001234567;
	answer = (struct reply_answer){
		.token = &token, .verdict = VERDICT_TTL_EXPIRED, .family = 4, .event = &event};
	inet_pton(AF_INET, "198.18.0.254", event.responder);
}

TestSuite(packet_reply, .init = start);

static void expect(size_t length, const char *text)
{
	cr_assert_eq(length, strlen(text), "%.*s", (int)length, line);
	cr_assert_arr_eq(line, text, length, "%.*s", (int)length, line);
}

Test(packet_reply, short_ones)
{
	struct fault whole = {NULL, "unknown-argument"}, parts = {"ttl", "out-of-range"};

	expect(reply_word(line, &token, "no-reply"), "-42 no-reply\n");
	expect(reply_number(line, &token, "unexpected-error", "errno", 104),
	       "-42 unexpected-error errno 104\n");
	expect(reply_number(line, &token, "packet-too-big", "mtu", 0),
	       "-42 packet-too-big mtu 0\n");
	expect(reply_fault(line, &token, &whole), "-42 invalid-argument reason unknown-argument\n");
	expect(reply_fault(line, &token, &parts), "-42 invalid-argument reason ttl-out-of-range\n");
	expect(reply_support(line, &token, "ok"), "-42 feature-support support ok\n");
}

Test(packet_reply, answers)
{
	expect(reply_answer(line, &answer),
	       "-42 ttl-expired ip-4 198.18.0.254 round-trip-time 1235\n");
	inet_pton(AF_INET, "0.10.255.1", event.responder);
	event.received_ns = event.sent_ns;
	expect(reply_answer(line, &answer), "-42 ttl-expired ip-4 0.10.255.1 round-trip-time 0\n");
	event.received_ns = event.sent_ns - 5000;
	expect(reply_answer(line, &answer), "-42 ttl-expired ip-4 0.10.255.1 round-trip-time 0\n");

	answer.family = 6;
	answer.verdict = VERDICT_NO_ROUTE;
	inet_pton(AF_INET6, "2001:db8::ff:1", event.responder);
	expect(reply_answer(line, &answer), "-42 no-route ip-6 2001:db8::ff:1 round-trip-time 0\n");
}

Test(packet_reply, mpls)
{
	extension.mpls_count = 2;
	extension.mpls[0] = (struct extension_mpls){24001, 0, 1, 1};
	extension.mpls[1] = (struct extension_mpls){16005, 7, 0, 255};
	answer.extension = &extension;
	expect(reply_answer(line, &answer),
	       "-42 ttl-expired ip-4 198.18.0.254 round-trip-time 1235 "
	       "mpls 24001,0,1,1,16005,7,0,255\n");
	extension.mpls_count = 0;
	expect(reply_answer(line, &answer),
	       "-42 ttl-expired ip-4 198.18.0.254 round-trip-time 1235\n");
}

Test(packet_reply, too_big)
{
	answer.verdict = VERDICT_PACKET_TOO_BIG;
	answer.details = true;
	event.icmp_type = 3;
	event.icmp_code = 4;
	event.mtu_bytes = 1400;
	expect(reply_answer(line, &answer),
	       "-42 packet-too-big ip-4 198.18.0.254 round-trip-time 1235 mtu 1400 icmp-type 3 "
	       "icmp-code 4\n");
}

Test(packet_reply, details_only_where_known_and_asked_for)
{
	event.icmp_type = 11;
	event.reply_ttl = 63;
	event.quoted_ttl = 1;
	event.quoted_tos = 184;
	event.known = EVENT_REPLY_TTL | EVENT_QUOTED;
	expect(reply_answer(line, &answer),
	       "-42 ttl-expired ip-4 198.18.0.254 round-trip-time 1235\n");
	answer.details = true;
	expect(reply_answer(line, &answer),
	       "-42 ttl-expired ip-4 198.18.0.254 round-trip-time 1235 icmp-type 11 icmp-code 0 "
	       "reply-ttl 63 quoted-ttl 1 quoted-tos 184\n");
	event.what = EVENT_REPLY;
	event.known = 0;
	answer.verdict = VERDICT_REPLY;
	expect(reply_answer(line, &answer), "-42 reply ip-4 198.18.0.254 round-trip-time 1235\n");
}

Test(packet_reply, the_interface_where_the_probe_came_in)
{
	answer.details = true;
	answer.extension = &extension;
	event.what = EVENT_REPLY;
	extension.interface_count = 2;
	extension.interfaces[0] = (struct extension_interface){
		.role = EXTENSION_OUTGOING, .has_index = true, .index = 2, .name = "out"};
	extension.interfaces[1] = (struct extension_interface){.role = EXTENSION_INCOMING,
							       .has_index = true,
							       .index = 7,
							       .address_family = 6,
							       .name = "ge-0/0/1"};
	inet_pton(AF_INET6, "fe80::7", extension.interfaces[1].address);
	expect(reply_answer(line, &answer),
	       "-42 ttl-expired ip-4 198.18.0.254 round-trip-time 1235 interface ge-0/0/1 "
	       "interface-index 7 interface-ip fe80::7\n");
	extension.interface_count = 1;
	expect(reply_answer(line, &answer),
	       "-42 ttl-expired ip-4 198.18.0.254 round-trip-time 1235 interface out "
	       "interface-index 2\n");
}

/* mtr takes sixteen arguments a line; the buffer takes all that there can be. */
Test(packet_reply, the_longest)
{
	static const struct token longest = {TOKEN_BYTES, "-2147483648"};
	const char *address = "2001:db8:1111:2222:3333:4444:5555:6666";

	answer = (struct reply_answer){&longest,  VERDICT_NO_ROUTE_NETWORK, 6, true, &event,
				       &extension};
	event.sent_ns = 0;
	event.received_ns = INT64_MAX;
	event.icmp_type = event.icmp_code = event.reply_ttl = 255;
	event.quoted_ttl = event.quoted_tos = 255;
	event.mtu_bytes = UINT32_MAX;
	event.known = EVENT_REPLY_TTL | EVENT_QUOTED;
	inet_pton(AF_INET6, address, event.responder);
	extension.mpls_count = EXTENSION_MPLS_LABELS;
	for (size_t i = 0; i < EXTENSION_MPLS_LABELS; i++)
		extension.mpls[i] = (struct extension_mpls){0xfffff, 7, 1, 255};
	extension.interface_count = 1;
	extension.interfaces[0] = (struct extension_interface){
		.has_index = true, .index = UINT32_MAX, .address_family = 6};
	memset(extension.interfaces[0].name, 'n', EXTENSION_NAME_BYTES - 1);
	inet_pton(AF_INET6, address, extension.interfaces[0].address);

	char *room = malloc(REPLY_BYTES);
	size_t length = reply_answer(room, &answer);
	cr_assert_leq(length, REPLY_BYTES);
	int arguments = -2;
	for (size_t i = 0; i < length; i++)
		arguments += room[i] == ' ' || room[i] == '\n';
	cr_assert_leq(arguments, 2 * REQUEST_ARGUMENTS, "%d", arguments);
	free(room);
}
