/*
 * The packets of simnet's internet: who answers a probe, with what bytes, and how exactly a
 * tampered answer differs from a right one. Probes and expectations are written from the RFCs'
 * layouts; two checksums come from published examples.
 */
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "tests/lab/simnet_answer.h"
#include "tests/lab/simnet_extension.h"
#include "tests/lab/simnet_parse.h"

enum { PROBE_BYTES = 2048, MAX_ANSWERS = 4, ANSWER_BYTES = 2048 };

static struct net net;

struct answers {
	size_t count;
	size_t length[MAX_ANSWERS];
	uint64_t after_ns[MAX_ANSWERS];
	uint8_t bytes[MAX_ANSWERS][ANSWER_BYTES];
	struct packet_view view;
};

static struct answers answers;

static void parse(const char *text)
{
	char message[256];

	cr_assert(net_parse("test", text, &net, message, sizeof message), "%s", message);
}

static struct net_address address(const char *text)
{
	struct net_address parsed;

	cr_assert(net_parse_address(text, &parsed));
	return parsed;
}

static void keep(void *context, const uint8_t *bytes, size_t length, uint64_t after_ns)
{
	struct answers *kept = context;

	cr_assert_lt(kept->count, MAX_ANSWERS);
	cr_assert_leq(length, ANSWER_BYTES);
	memcpy(kept->bytes[kept->count], bytes, length);
	kept->length[kept->count] = length;
	kept->after_ns[kept->count++] = after_ns;
}

/* A probe of `protocol` with a recognisable transport header and `total` bytes in all. */
static struct packet_view probe(const char *to, uint8_t protocol, uint8_t ttl, size_t total)
{
	static struct packet packet;
	struct packet_header header = {
		.destination = address(to), .protocol = protocol, .ttl = ttl, .tos = 0x2c};
	struct packet_view view;
	uint8_t *at = packet_transport(&packet);

	header.source = address(header.destination.family == 4 ? "198.18.0.1" : "2001:db8::1");
	packet.transport_bytes = total - packet_header_bytes(&header);
	memset(at, 'p', packet.transport_bytes);
	put16(at, 40000);
	put16(at + 2, 33434);
	if (protocol == IPPROTO_UDP)
		put16(at + 4, (uint32_t)packet.transport_bytes);
	if (protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6) {
		at[0] = protocol == IPPROTO_ICMP ? 8 : 128;
		at[1] = 0;
		put16(at + 4, 0x1234);
		put16(at + 6, 7);
	}
	if (protocol == IPPROTO_TCP) {
		put32(at + 4, 1000);
		at[12] = 5 << 4;
		at[13] = 2;
	}
	packet_finish(&packet, &header);
	if (header.destination.family == 4) {
		packet_start(&packet)[6] = 0x40; /* DF */
		packet_ip4_checksum(packet_start(&packet));
	}
	cr_assert(packet_read(packet_start(&packet), packet_length(&packet), &view));
	cr_assert(packet_transport_intact(&view));
	return view;
}

/* Lets a probe travel and collects the answers; answers.view shows the first. */
static enum path_fate send_probe(const struct packet_view *view)
{
	struct path_end end;
	struct answer_way way = {1500, keep, &answers};

	memset(&answers, 0, sizeof answers);
	path_walk(&net, view, &end);
	if (end.fate == PATH_ANSWERED) {
		cr_assert(answer_make(view, &end, end.answer, 0, &way));
	} else if (end.fate == PATH_ARRIVED) {
		const struct net_rule *rule = path_rule(end.destination, view);

		answer_make(view, &end, rule->answer, rule->data_bytes, &way);
	}
	if (answers.count)
		packet_read(answers.bytes[0], answers.length[0], &answers.view);
	return end.fate;
}

static const uint8_t *quote(void)
{
	return answers.view.transport + 8;
}

Test(simnet_packet, published_checksums)
{
	/* the IPv4 header of many textbooks, checksum b861 */
	uint8_t header[20] = {0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11,
			      0,    0,    0xc0, 0xa8, 0x00, 0x01, 0xc0, 0xa8, 0x00, 0xc7};
	/* RFC 3720 B.4: 32 bytes of zeros have the CRC32c aa 36 91 8a */
	uint8_t zeros[32] = {[8] = 0xaa, 0x36, 0x91, 0x8a};
	struct packet_view view = {
		.protocol = IPPROTO_SCTP, .transport = zeros, .transport_bytes = sizeof zeros};

	packet_ip4_checksum(header);
	cr_assert_eq(get16(header + 10), 0xb861);
	cr_assert(packet_transport_intact(&view));
	zeros[31] = 1;
	cr_assert_not(packet_transport_intact(&view));
}

Test(simnet_packet, a_wrong_checksum_is_seen)
{
	static const uint8_t protocols[] = {IPPROTO_ICMP, IPPROTO_UDP, IPPROTO_TCP};
	uint8_t bytes[64];
	struct packet_view view;

	for (size_t i = 0; i < sizeof protocols; i++) {
		view = probe("203.0.113.1", protocols[i], 9, sizeof bytes);
		memcpy(bytes, view.bytes, sizeof bytes);
		bytes[63] ^= 1;
		cr_assert(packet_read(bytes, sizeof bytes, &view));
		cr_assert_not(packet_transport_intact(&view));
	}
	bytes[8] ^= 1;
	cr_assert_not(packet_read(bytes, sizeof bytes, &view), "IPv4 header checksum");
}

Test(simnet_path, a_hop_answers_when_the_ttl_ends)
{
	struct packet_view view;

	parse("hop address 198.18.0.2 delay 2ms\nhop address 198.18.1.2 delay 3ms tos 8\n"
	      "dest 203.0.113.1\n");
	view = probe("203.0.113.1", IPPROTO_UDP, 2, 60);
	cr_assert_eq(send_probe(&view), PATH_ANSWERED);
	cr_assert_eq(answers.count, 1);
	cr_assert_eq(answers.after_ns[0], 5000000);
	cr_assert_eq(answers.view.ttl, 254, "one hop on the way back");
	cr_assert(packet_transport_intact(&answers.view));
	cr_assert_eq(answers.view.transport[0], 11);
	cr_assert_eq(answers.view.transport_bytes, 8 + 60, "all is quoted");
	cr_assert_eq(quote()[8], 1, "the TTL that was left");
	cr_assert_eq(quote()[1], 8, "the rewritten TOS");
	cr_assert_eq(packet_sum_fold(packet_sum(0, quote(), 20)), 0);
	cr_assert_arr_eq(quote() + 20, view.transport, 40);
}

Test(simnet_path, destinations_answer_in_the_probes_protocol)
{
	struct packet_view view;

	parse("hop address 198.18.0.2\ndest 203.0.113.1 on tcp:33434=syn-ack on udp=data:5\n"
	      "dest 2001:db8:ff::1\n");
	view = probe("203.0.113.1", IPPROTO_ICMP, 9, 100);
	cr_assert_eq(send_probe(&view), PATH_ARRIVED);
	cr_assert_eq(answers.view.transport[0], 0);
	cr_assert_arr_eq(answers.view.transport + 4, view.transport + 4, 76);
	view = probe("203.0.113.1", IPPROTO_TCP, 9, 40);
	send_probe(&view);
	cr_assert_eq(answers.view.transport[13], 0x12);
	cr_assert_eq(get32(answers.view.transport + 8), 1001);
	cr_assert_eq(get16(answers.view.transport), 33434);
	view = probe("203.0.113.1", IPPROTO_UDP, 9, 60);
	send_probe(&view);
	cr_assert_eq(answers.view.transport_bytes, 13);
	cr_assert(packet_transport_intact(&answers.view));
	view = probe("2001:db8:ff::1", IPPROTO_TCP, 9, 60);
	send_probe(&view);
	cr_assert_eq(answers.view.transport[13], 0x14, "a closed port resets");
	cr_assert(packet_transport_intact(&answers.view));
}

Test(simnet_path, too_big_or_swallowed)
{
	struct packet_view view;

	parse("hop address 198.18.0.2,2001:db8::2 mtu 1400\nhop address 198.18.1.2 mtu 1300 "
	      "black-hole\ndest 203.0.113.1\ndest 2001:db8:ff::1\n");
	view = probe("203.0.113.1", IPPROTO_UDP, 9, 1401);
	cr_assert_eq(send_probe(&view), PATH_ANSWERED);
	cr_assert(answers.view.transport[0] == 3 && answers.view.transport[1] == 4);
	cr_assert_eq(get16(answers.view.transport + 6), 1400);
	view = probe("203.0.113.1", IPPROTO_UDP, 1, 1401);
	send_probe(&view);
	cr_assert_eq(answers.view.transport[0], 11, "the TTL is looked at first");
	view = probe("203.0.113.1", IPPROTO_UDP, 9, 1400);
	cr_assert_eq(send_probe(&view), PATH_SWALLOWED);
	view = probe("203.0.113.1", IPPROTO_UDP, 9, 1300);
	cr_assert_eq(send_probe(&view), PATH_ARRIVED);
	view.dont_fragment = false;
	view.total_bytes = 1500;
	cr_assert_eq(send_probe(&view), PATH_ARRIVED);
	view = probe("2001:db8:ff::1", IPPROTO_UDP, 9, 1401);
	cr_assert_eq(send_probe(&view), PATH_ANSWERED);
	cr_assert_eq(answers.view.transport[0], 2);
	cr_assert_eq(get32(answers.view.transport + 4), 1400);
	cr_assert(packet_transport_intact(&answers.view));
}

Test(simnet_path, an_old_router_tells_no_mtu)
{
	struct packet_view view;

	parse("hop address 198.18.0.2 mtu 1400 tell-mtu 0\ndest 203.0.113.1\n");
	view = probe("203.0.113.1", IPPROTO_UDP, 9, 1401);
	send_probe(&view);
	cr_assert(answers.view.transport[0] == 3 && answers.view.transport[1] == 4);
	cr_assert_eq(get32(answers.view.transport + 4), 0);
}

Test(simnet_path, loss_is_what_the_seed_says)
{
	char fates[2][400];
	size_t lost = 0;

	for (int round = 0; round < 2; round++) {
		parse("seed 5\nhop address 198.18.0.2 loss 30%\ndest 203.0.113.1\n");
		for (size_t i = 0; i < sizeof fates[0]; i++) {
			struct packet_view view = probe("203.0.113.1", IPPROTO_ICMP, 9, 64);

			fates[round][i] = (char)send_probe(&view);
			lost += fates[round][i] == PATH_LOST;
		}
	}
	cr_assert_arr_eq(fates[0], fates[1], sizeof fates[0]);
	cr_assert(lost / 2 > 80 && lost / 2 < 160, "%zu of 400 lost at 30%%", lost / 2);
}

Test(simnet_path, a_rate_limit_is_a_token_bucket)
{
	struct net_rate rate = {.per_second = 2, .burst = 3};
	uint64_t now_ns = 1000000000;

	for (int i = 0; i < 3; i++)
		cr_assert(path_rate_allows(&rate, now_ns));
	cr_assert_not(path_rate_allows(&rate, now_ns + 400000000));
	cr_assert(path_rate_allows(&rate, now_ns + 600000000));
	cr_assert_not(path_rate_allows(&rate, now_ns + 600000000));
}

Test(simnet_path, flows_keep_to_one_address)
{
	bool used[2] = {false, false};
	uint8_t first = 0;

	parse("hop address 198.18.0.2,198.18.0.3\ndest 203.0.113.1\n");
	for (uint32_t port = 1; port < 40; port++) {
		struct packet_view view = probe("203.0.113.1", IPPROTO_UDP, 1, 60);

		put16((uint8_t *)(uintptr_t)view.transport, port);
		send_probe(&view);
		first = answers.view.source.bytes[3];
		used[first - 2] = true;
		send_probe(&view);
		cr_assert_eq(answers.view.source.bytes[3], first);
	}
	cr_assert(used[0] && used[1]);
}

static void check_extension(bool length_field, size_t quoted)
{
	size_t at = quoted < 128 ? 128 : quoted;
	const uint8_t *extension = quote() + at;

	cr_assert(packet_transport_intact(&answers.view));
	cr_assert_eq(answers.view.transport[5], length_field ? at / 4 : 0);
	cr_assert_eq(extension[0], 0x20);
	cr_assert_eq(
		packet_sum_fold(packet_sum(0, extension, answers.view.transport_bytes - 8 - at)),
		0);
	cr_assert_eq(get32(extension + 4), 0x000c0101u, "12 bytes, MPLS, label stack");
	cr_assert_eq(get32(extension + 8), 24001u << 12 | 3 << 9 | 1);
	cr_assert_eq(get32(extension + 12), 16005u << 12 | 1 << 8 | 9);
}

Test(simnet_answer, label_stacks_stand_where_rfc4884_says)
{
	struct packet_view view;

	parse("hop address 198.18.0.2 mpls 24001:3,16005:0:1:9\n"
	      "hop address 198.18.1.2 mpls 24001:3,16005:0:1:9 rfc4884 compat quote 8\n"
	      "dest 203.0.113.1\n");
	view = probe("203.0.113.1", IPPROTO_UDP, 1, 60);
	send_probe(&view);
	check_extension(true, 60);
	view = probe("203.0.113.1", IPPROTO_UDP, 1, 300);
	send_probe(&view);
	check_extension(true, 300);
	view = probe("203.0.113.1", IPPROTO_UDP, 2, 300);
	send_probe(&view);
	check_extension(false, 28);
	cr_assert_eq(quote()[28], 0, "padded with zeros");
}

Test(simnet_answer, interface_information_is_laid_out_as_in_rfc5837)
{
	static const uint8_t expected[] = {
		0x20, 0,   0,    0,           /* checksum is looked at elsewhere */
		0,    32,  2,    0x80 | 0x0f, /* outgoing; index, address, name, MTU */
		0,    0,   0,    7,           /* index */
		0,    1,   0,    0,           198, 18,  9,   9,                   /* address */
		12,   'g', 'e',  '-',         '0', '/', '0', '/', '1', '0', 0, 0, /* name */
		0,    0,   0x05, 0xdc};                                           /* MTU */
	uint8_t bytes[EXTENSION_BYTES];

	parse("hop interface outgoing,index=7,name=ge-0/0/10,address=198.18.9.9,mtu=1500\n");
	cr_assert_eq(extension_write(&net.hops[0].behaviour, bytes), sizeof expected);
	cr_assert_eq(packet_sum_fold(packet_sum(0, bytes, sizeof expected)), 0);
	bytes[2] = bytes[3] = 0;
	cr_assert_arr_eq(bytes, expected, sizeof expected);
}

Test(simnet_answer, headers_carry_options)
{
	struct packet_view view;

	parse("hop address 198.18.0.2,2001:db8::2 ip-options 8 ip6-headers hop-by-hop,destination\n"
	      "dest 203.0.113.1\ndest 2001:db8:ff::1\n");
	view = probe("203.0.113.1", IPPROTO_ICMP, 1, 64);
	send_probe(&view);
	cr_assert_eq(answers.bytes[0][0], 0x47);
	cr_assert_eq(answers.view.transport[0], 11);
	view = probe("2001:db8:ff::1", IPPROTO_ICMPV6, 1, 64);
	send_probe(&view);
	cr_assert_eq(answers.bytes[0][6], IPPROTO_HOPOPTS);
	cr_assert_eq(answers.bytes[0][40], IPPROTO_DSTOPTS);
	cr_assert_eq(answers.view.transport[0], 3);
	cr_assert(packet_transport_intact(&answers.view));
}

/* What differs between a tampered quote and the probe, as offsets in the quote. */
static void check_forged(const char *what, const char *to, uint8_t protocol, size_t first,
			 size_t last)
{
	char text[200];
	struct packet_view view;
	size_t different = 0;

	snprintf(text, sizeof text, "hop address 198.18.0.2,2001:db8::2 forge %s\n", what);
	parse(text);
	view = probe(to, protocol, 1, 100);
	send_probe(&view);
	cr_assert_eq(answers.count, 1);
	cr_assert(packet_transport_intact(&answers.view), "%s: forged, not corrupt", what);
	for (size_t i = 0; i < 100; i++) {
		bool header_checksum = view.family == 4 && (i == 10 || i == 11);

		if (quote()[i] == view.bytes[i] || header_checksum)
			continue;
		different++;
		cr_expect(i >= first && i <= last, "forge %s changed byte %zu", what, i);
	}
	cr_expect_gt(different, 0, "forge %s changed nothing", what);
}

Test(simnet_answer, forged_answers_differ_in_one_field)
{
	check_forged("id", "203.0.113.1", IPPROTO_ICMP, 24, 25);
	check_forged("sequence", "203.0.113.1", IPPROTO_ICMP, 26, 27);
	check_forged("source-port", "203.0.113.1", IPPROTO_UDP, 20, 21);
	check_forged("destination-port", "203.0.113.1", IPPROTO_TCP, 22, 23);
	check_forged("sequence", "203.0.113.1", IPPROTO_TCP, 24, 27);
	check_forged("source", "203.0.113.1", IPPROTO_UDP, 12, 15);
	check_forged("destination", "203.0.113.1", IPPROTO_UDP, 16, 19);
	check_forged("protocol", "203.0.113.1", IPPROTO_UDP, 9, 9);
	check_forged("id", "2001:db8:ff::1", IPPROTO_ICMPV6, 44, 45);
	check_forged("ports", "2001:db8:ff::1", IPPROTO_UDP, 40, 43);
	check_forged("source", "2001:db8:ff::1", IPPROTO_UDP, 8, 23);
	check_forged("destination", "2001:db8:ff::1", IPPROTO_UDP, 24, 39);
	check_forged("protocol", "2001:db8:ff::1", IPPROTO_TCP, 6, 6);
}

Test(simnet_answer, truncated_and_corrupt)
{
	struct packet_view view;

	parse("hop address 198.18.0.2 truncate 20\nhop address 198.18.1.2 corrupt checksum\n"
	      "hop address 198.18.2.2 corrupt cut\nhop address 198.18.3.2 corrupt ip-checksum\n");
	view = probe("203.0.113.1", IPPROTO_UDP, 1, 60);
	send_probe(&view);
	cr_assert_eq(answers.view.transport_bytes, 28);
	cr_assert(packet_transport_intact(&answers.view));
	view = probe("203.0.113.1", IPPROTO_UDP, 2, 60);
	send_probe(&view);
	cr_assert_eq(answers.view.transport_bytes, 68);
	cr_assert_not(packet_transport_intact(&answers.view));
	for (uint8_t ttl = 3; ttl <= 4; ttl++) {
		view = probe("203.0.113.1", IPPROTO_UDP, ttl, 60);
		send_probe(&view);
		cr_assert_not(packet_read(answers.bytes[0], answers.length[0], &answers.view));
	}
}

Test(simnet_answer, a_right_answer_can_follow)
{
	struct packet_view view;

	parse("hop address 198.18.0.2 delay 1ms forge id duplicate 1 late 2ms then-genuine 5ms\n");
	view = probe("203.0.113.1", IPPROTO_ICMP, 1, 64);
	send_probe(&view);
	cr_assert_eq(answers.count, 3);
	cr_assert(answers.after_ns[0] == 3000000 && answers.after_ns[1] == 3000000);
	cr_assert_eq(answers.after_ns[2], 6000000);
	cr_assert_neq(get16(quote() + 24), 0x1234);
	cr_assert(packet_read(answers.bytes[2], answers.length[2], &answers.view));
	cr_assert_eq(get16(quote() + 24), 0x1234);
}

Test(simnet_answer, an_error_is_no_cause_for_an_error)
{
	struct packet_view view;
	uint8_t bytes[64];
	struct path_end end;
	struct answer_way way = {1500, keep, &answers};

	parse("hop address 198.18.0.2\n");
	view = probe("203.0.113.1", IPPROTO_ICMP, 1, 64);
	memcpy(bytes, view.bytes, sizeof bytes);
	bytes[20] = 3;
	cr_assert(packet_read(bytes, sizeof bytes, &view));
	path_walk(&net, &view, &end);
	cr_assert_eq(end.fate, PATH_ANSWERED);
	cr_assert_not(answer_make(&view, &end, end.answer, 0, &way));
}
