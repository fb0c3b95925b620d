/*
 * Reading answers: what a packet says is reported as it says it, damaged packets are ignored, and
 * no forged byte makes the code read beyond the packet.
 */
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <string.h>

#include "common/wire.h"
#include "frontend/transport/answer.h"
#include "frontend/transport/ip_family.h"
#include "tests/support/packet.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const uint8_t families[] = {4, 6};

enum {
	ICMP_BYTES = 8,
	QUOTED_TTL = 1,
	QUOTED_TOS = 0x2e,
	REPLY_TTL = 57,
	PAYLOAD_BYTE = 0x5a,
};

/* The packet under test, from its transport header on, and what was read from it. */
static struct bytes packet;
static struct record_answer answer;
static struct record_probe probe;
static struct probe_result result;
static struct extension_info extension;

static void begin(uint8_t family, uint8_t protocol)
{
	static const uint8_t responders[2][16] = {{198, 18, 0, 2}, {0x20, 1, 0xd, 0xb8, [15] = 2}};

	packet.count = 0;
	probe = (struct record_probe){
		.family = family,
		.protocol = protocol,
		.cookie = 0x10003,
		.payload_byte = PAYLOAD_BYTE,
		.number = 0x1234,
	};
	answer = (struct record_answer){.protocol = protocol, .ttl = REPLY_TTL, .ifindex = 5};
	memcpy(answer.responder, responders[family == 6], 16);
	memcpy(answer.local, responders[family == 6], 16);
	answer.local[15] ^= 7;
}

/* Makes the checksum right. */
static void seal(void)
{
	if (answer.protocol == IPPROTO_SCTP) {
		memset(packet.at + 8, 0, 4);
		uint32_t crc = packet_crc32c(packet.at, packet.count);
		for (size_t i = 0; i < 4; i++)
			packet.at[8 + i] = (uint8_t)(crc >> 8 * i);
		return;
	}
	bytes_put16(&packet, 2, 0);
	bytes_put16(&packet, 2,
		    probe.family == 4
			    ? packet_checksum(packet.at, packet.count)
			    : packet_pseudo_checksum(6, answer.responder, answer.local,
						     IPPROTO_ICMPV6, packet.at, packet.count));
}

/* Reads at most `most` bytes of the packet, in memory of exactly that size. */
static bool read_first(size_t most)
{
	size_t count = packet.count < most ? packet.count : most;
	uint8_t *exact = packet_exact(packet.at, count);

	answer.packet_bytes = (uint32_t)packet.count;
	answer.data_bytes = (uint32_t)count;
	memset(&result, 0xcc, sizeof(result));
	bool is_answer = answer_read(&answer, exact, &probe, &result, &extension);
	packet_release(exact);
	return is_answer;
}

static bool read_all(void)
{
	return read_first(SIZE_MAX);
}

static void write_echo_reply(uint8_t family, size_t payload_bytes)
{
	begin(family, IPPROTO_ICMP);
	bytes_add16(&packet, family == 4 ? 0 : 129 << 8);
	bytes_add16(&packet, 0);
	bytes_add16(&packet, 40000);
	bytes_add16(&packet, probe.number);
	bytes_fill(&packet, PAYLOAD_BYTE, payload_bytes);
	seal();
}

/* An error of this type about an echo request with `option_bytes` of IPv4 options. */
static void write_error(uint8_t family, uint8_t type, uint8_t code, uint8_t option_bytes)
{
	const struct packet_ip ip = {
		.family = family,
		.protocol = family == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6,
		.ttl = QUOTED_TTL,
		.tos = QUOTED_TOS,
		.option_bytes = option_bytes,
	};

	begin(family, IPPROTO_ICMP);
	bytes_add8(&packet, type);
	bytes_add8(&packet, code);
	bytes_fill(&packet, 0, ICMP_BYTES - 2);
	packet_add_ip(&packet, &ip, 64);
	bytes_fill(&packet, 0x11, 64);
	seal();
}

/* --- replies -----------------------------------------------------------------------------------
 */

Test(answer, echo_reply)
{
	for (size_t i = 0; i < COUNT(families); i++) {
		write_echo_reply(families[i], 36);
		cr_assert(read_all());
		cr_expect_eq(result.cookie, 0x10003);
		cr_expect_eq(result.kind, RESULT_REPLY);
		cr_expect_eq(result.known, KNOWN_REPLY_TTL);
		cr_expect_eq(result.reply_ttl, REPLY_TTL);
		cr_expect_eq(result.mtu_bytes, 0);
		cr_expect_null(result.extension);
		cr_expect_arr_eq(result.responder, answer.responder, 16);
		cr_expect_eq(result.responder_ifindex, 0);
	}
}

/* The kernel has looked at those of ICMPv6. */
Test(answer, damaged_echo_reply_over_ipv4)
{
	for (size_t at = 0; at < ICMP_BYTES + 36; at++) {
		write_echo_reply(4, 36);
		packet.at[at] ^= 0x10;
		cr_expect_not(read_all(), "byte %zu", at);
	}
}

Test(answer, long_echo_reply_whose_rest_is_the_pattern)
{
	static const size_t least = RECORD_LONG_BYTES - ICMP_BYTES;

	for (size_t payload_bytes = least; payload_bytes < 2 * least; payload_bytes += 7) {
		write_echo_reply(4, payload_bytes);
		cr_expect(read_first(RECORD_LONG_BYTES), "%zu", payload_bytes);
		packet.at[10] ^= 1;
		cr_expect_not(read_first(RECORD_LONG_BYTES), "%zu", payload_bytes);
		if (payload_bytes > least) {
			write_echo_reply(4, payload_bytes);
			packet.at[packet.count - 1] ^= 1;
			seal();
			cr_expect_not(read_first(RECORD_LONG_BYTES), "%zu", payload_bytes);
		}
	}
}

Test(answer, scope_of_a_link_local_responder)
{
	static const struct {
		uint8_t family, first, second;
		bool is_link_local; /* fe80::/10, RFC 4291 2.4 */
	} cases[] = {
		{6, 0xfe, 0x80, true},  {6, 0xfe, 0xbf, true},  {6, 0xfe, 0x7f, false},
		{6, 0xfe, 0xc0, false}, {6, 0xff, 0x80, false}, {4, 0xfe, 0x80, false},
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		write_echo_reply(cases[i].family, 36);
		answer.responder[0] = cases[i].first;
		answer.responder[1] = cases[i].second;
		cr_assert(read_all());
		cr_expect_eq(result.responder_ifindex, cases[i].is_link_local ? 5 : 0, "%zu", i);
	}
}

static void write_init_ack(uint8_t family)
{
	begin(family, IPPROTO_SCTP);
	bytes_add32(&packet, 0x0050c000);
	bytes_add32(&packet, probe.number);
	bytes_add32(&packet, 0);
	bytes_add32(&packet, 0x02000014);
	bytes_fill(&packet, 0x33, 16);
	seal();
}

Test(answer, sctp_checksum)
{
	for (size_t i = 0; i < COUNT(families); i++) {
		write_init_ack(families[i]);
		cr_expect(read_all());
		cr_expect_eq(result.kind, RESULT_REPLY);
		for (size_t at = 0; at < packet.count; at++) {
			write_init_ack(families[i]);
			packet.at[at] ^= 0x40;
			cr_expect_not(read_all(), "byte %zu", at);
		}
		/* None at all: only from this host itself. */
		write_init_ack(families[i]);
		memset(packet.at + 8, 0, 4);
		cr_expect_not(read_all());
		memcpy(answer.responder, answer.local, 16);
		cr_expect(read_all());
		/* The rest that decides is not there. */
		write_init_ack(families[i]);
		packet.at[9] ^= 1;
		cr_expect(read_first(20));
	}
}

/* --- errors ------------------------------------------------------------------------------------
 */

Test(answer, errors)
{
	static const struct {
		uint8_t family, type, code;
		uint32_t rest; /* of the ICMP header */
		uint32_t mtu_bytes;
	} cases[] = {
		{4, 11, 0, 0, 0},         {4, 3, 1, 0, 0},
		{4, 3, 3, 0x0578, 0}, /* no other unreachable tells an MTU */
		{4, 3, 4, 0x0578, 0x578}, {4, 3, 4, 0, 0},
		{4, 12, 0, 0, 0},         {6, 3, 0, 0, 0},
		{6, 1, 4, 0, 0},          {6, 2, 0, 0x00010578, 0x10578},
		{6, 4, 1, 40, 0},
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		write_error(cases[i].family, cases[i].type, cases[i].code, 0);
		wire_put32(packet.at + 4, cases[i].rest);
		seal();
		cr_assert(read_all(), "%zu", i);
		cr_expect_eq(result.kind, RESULT_ICMP, "%zu", i);
		cr_expect_eq(result.known, KNOWN_REPLY_TTL | KNOWN_QUOTED_TTL | KNOWN_ICMP, "%zu",
			     i);
		cr_expect_eq(result.icmp_type, cases[i].type, "%zu", i);
		cr_expect_eq(result.icmp_code, cases[i].code, "%zu", i);
		cr_expect_eq(result.mtu_bytes, cases[i].mtu_bytes, "%zu", i);
		cr_expect_eq(result.quoted_ttl, QUOTED_TTL, "%zu", i);
		cr_expect_eq(result.quoted_tos, QUOTED_TOS, "%zu", i);
		cr_expect_null(result.extension, "%zu", i);
		packet.at[packet.count - 1] ^= 1;
		cr_expect_eq(read_all(), cases[i].family == 6, "%zu", i);
	}
}

Test(answer, neither_echo_reply_nor_one_of_four_errors)
{
	static const bool is_answer4[256] = {[0] = true, [3] = true, [11] = true, [12] = true};
	static const bool is_answer6[256] = {
		[1] = true, [2] = true, [3] = true, [4] = true, [129] = true};

	for (size_t i = 0; i < COUNT(families); i++)
		for (unsigned int type = 0; type < 256; type++) {
			write_error(families[i], (uint8_t)type, 0, 0);
			cr_expect_eq(read_all(), (families[i] == 4 ? is_answer4 : is_answer6)[type],
				     "IPv%d type %u", families[i], type);
		}
}

Test(answer, quoted_header_with_options)
{
	for (uint8_t option_bytes = 4; option_bytes <= 40; option_bytes += 4) {
		write_error(4, 11, 0, option_bytes);
		cr_assert(read_all());
		cr_expect_eq(result.quoted_ttl, QUOTED_TTL);
	}
}

/* --- extensions --------------------------------------------------------------------------------
 */

/* Fills the quoted packet up to `quote_bytes` and appends an extension of one MPLS label. */
static void write_extended(uint8_t family, uint8_t type, size_t quote_bytes)
{
	write_error(family, type, 0, 0);
	cr_assert_leq(packet.count, ICMP_BYTES + quote_bytes);
	bytes_fill(&packet, 0, ICMP_BYTES + quote_bytes - packet.count);
	size_t at = packet.count;
	bytes_add32(&packet, 0x20000000);
	bytes_add32(&packet, 0x00080101);
	bytes_add32(&packet, 0x05dc1101);
	bytes_put16(&packet, at + 2, packet_checksum(packet.at + at, 12));
	seal();
}

static void write_length(uint8_t family, size_t units)
{
	packet.at[family == 4 ? 5 : 4] = (uint8_t)units;
	seal();
}

static void expect_label(bool expected, const char *why, size_t i)
{
	cr_assert(read_all());
	cr_expect_eq(result.extension != NULL, expected, "%s %zu", why, i);
	if (expected && result.extension != NULL) {
		cr_expect_eq(result.extension->mpls_count, 1);
		cr_expect_eq(result.extension->mpls[0].label, 0x5dc1);
	}
	cr_expect_eq(result.quoted_ttl, QUOTED_TTL);
}

Test(answer, extension_where_the_length_says)
{
	for (size_t i = 0; i < COUNT(families); i++) {
		size_t unit = families[i] == 4 ? 4 : 8;
		for (size_t quote_bytes = 128; quote_bytes <= 512; quote_bytes += 64) {
			write_extended(families[i], families[i] == 4 ? 11 : 3, quote_bytes);
			write_length(families[i], quote_bytes / unit);
			expect_label(true, "told", quote_bytes);
			/* A checksum of 0 says that there is none (RFC 4884 7). */
			bytes_put16(&packet, packet.count - 10, 0);
			seal();
			expect_label(true, "without a checksum", quote_bytes);
			bytes_put16(&packet, packet.count - 10, 1);
			seal();
			expect_label(false, "wrong checksum", quote_bytes);
		}
	}
}

Test(answer, extension_at_the_old_place)
{
	for (size_t i = 0; i < COUNT(families); i++) {
		uint8_t type = families[i] == 4 ? 11 : 3;
		write_extended(families[i], type, 128);
		expect_label(true, "old place", i);
		bytes_put16(&packet, packet.count - 10, 0);
		seal();
		expect_label(false, "old place without a checksum", i);
		write_extended(families[i], type, 128);
		packet.at[packet.count - 1] ^= 1;
		seal();
		expect_label(false, "old place with a wrong checksum", i);
		write_extended(families[i], type, 132);
		expect_label(false, "another place", i);
	}
}

Test(answer, only_some_errors_have_an_extension)
{
	static const struct {
		uint8_t family, type;
		bool is_extensible;
	} cases[] = {
		{4, 3, true}, {4, 11, true}, {4, 12, true}, {6, 1, true},
		{6, 3, true}, {6, 4, false}, {6, 2, false},
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		write_extended(cases[i].family, cases[i].type, 128);
		expect_label(cases[i].is_extensible, "old place", i);
		write_length(cases[i].family, cases[i].family == 4 ? 32 : 16);
		expect_label(cases[i].is_extensible, "told", i);
	}
}

/* The broker passes on as much as fits: what is told is read, what must be verified is not. */
Test(answer, extension_that_is_cut)
{
	write_extended(4, 11, 128);
	bytes_fill(&packet, 0, RECORD_LONG_BYTES);
	write_length(4, 32);
	cr_assert(read_first(ICMP_BYTES + 128 + 12 + 3));
	cr_assert_not_null(result.extension);
	cr_expect_eq(result.extension->mpls_count, 1);
	write_length(4, 0);
	cr_assert(read_first(ICMP_BYTES + 128 + 12 + 3));
	cr_expect_null(result.extension);
}

/* --- anything at all ---------------------------------------------------------------------------
 */

Test(answer, cut_anywhere)
{
	for (size_t i = 0; i < COUNT(families); i++) {
		write_extended(families[i], families[i] == 4 ? 3 : 1, 128);
		write_length(families[i], families[i] == 4 ? 32 : 16);
		for (size_t count = 0; count <= packet.count; count++)
			cr_expect_eq(read_first(count), count >= ICMP_BYTES, "%zu", count);
		write_init_ack(families[i]);
		for (size_t count = 0; count < packet.count; count++)
			cr_expect_eq(read_first(count), count >= 12, "%zu", count);
	}
}

Test(answer, random_bytes)
{
	uint64_t random = 8;

	for (int round = 0; round < 100000; round++) {
		uint32_t chance = packet_random(&random);
		write_extended(families[chance & 1], chance & 2 ? 3 : 11, 128);
		write_length(families[chance & 1], packet_random(&random) & 255);
		for (uint32_t i = 0; i < (chance >> 8) % 8; i++)
			packet.at[packet_random(&random) % packet.count] =
				(uint8_t)packet_random(&random);
		answer.protocol = chance >> 16 & 15 ? IPPROTO_ICMP : IPPROTO_SCTP;
		if (chance >> 20 & 3)
			seal();
		(void)read_first(packet_random(&random) % (packet.count + 40));
	}
}
