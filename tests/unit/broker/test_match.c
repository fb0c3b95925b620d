/*
 * Answers to probes: each genuine one is recognised, and none of which anything that matters was
 * changed. The tables name every field of what comes back and whether it matters. Packets end where
 * their memory ends, so that a build with sanitizers sees a read beyond.
 */
#include <criterion/criterion.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <string.h>

#include "broker/match.h"
#include "common/wire.h"
#include "tests/support/packet.h"
#include "tests/support/probes.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const uint8_t families[] = {4, 6};
static const uint8_t protocols[] = {IPPROTO_ICMP, IPPROTO_SCTP};

enum {
	ICMP_BYTES = 8,
	COOKIE = 0xabcd0000,
};

static struct record_probe request; /* the open probe ... */
static uint8_t sent[UINT16_MAX];    /* ... and its packet from the transport header on */
static size_t sent_bytes;

/* What came back, from the transport header on, and between which addresses. */
static struct record_answer answer;
static struct bytes packet;

static void open_probe(uint8_t family, uint8_t protocol)
{
	request = probes_request(family, protocol);
	request.cookie = COOKIE;
	sent_bytes = probes_open(&request, sent);
}

static bool recognised(void)
{
	uint8_t *exact = packet_exact(packet.at, packet.count);
	struct record_answer filled = answer;
	bool matches = match_answer(request.family, &filled, exact, packet.count);

	packet_release(exact);
	if (matches) {
		cr_expect_eq(filled.cookie, request.cookie);
		cr_expect_eq(filled.sent_ns, PROBES_SENT_NS);
		cr_expect_not(match_answer(request.family, &filled, packet.at, packet.count),
			      "an answered probe is closed");
		probes_open(&request, sent);
	}
	return matches;
}

/* An answer of `protocol` from the destination to the source. */
static void begin(uint8_t protocol)
{
	answer = (struct record_answer){.protocol = protocol};
	memcpy(answer.responder, request.destination, 16);
	memcpy(answer.local, request.source, 16);
	packet.count = 0;
}

/* The headers of the probe as a router quotes them. */
static struct packet_ip quoted_ip(void)
{
	struct packet_ip ip = {.family = request.family, .protocol = request.protocol, .ttl = 1};

	if (ip.protocol == IPPROTO_ICMP && ip.family == 6)
		ip.protocol = IPPROTO_ICMPV6;
	memcpy(ip.source, request.source, 16);
	memcpy(ip.destination, request.destination, 16);
	return ip;
}

static uint8_t time_exceeded(void)
{
	return request.family == 4 ? ICMP_TIME_EXCEEDED : ICMP6_TIME_EXCEEDED;
}

/* An ICMP error from a router, quoting `count` bytes behind the IP header `ip`. Returns where these
 * bytes begin. */
static size_t write_quote(uint8_t type, const struct packet_ip *ip, size_t count)
{
	begin(IPPROTO_ICMP);
	answer.responder[request.family == 4 ? 3 : 15] = 0xfe;
	bytes_add8(&packet, type);
	bytes_fill(&packet, 0, 7);
	packet_add_ip(&packet, ip, sent_bytes);
	size_t at = packet.count;
	bytes_add(&packet, sent, count);
	return at;
}

static size_t write_error(void)
{
	const struct packet_ip ip = quoted_ip();

	return write_quote(time_exceeded(), &ip, sent_bytes);
}

static void write_echo_reply(void)
{
	begin(IPPROTO_ICMP);
	bytes_add(&packet, sent, sent_bytes);
	packet.at[0] = wire_family(request.family)->echo_reply;
}

static void write_chunk(uint8_t type, uint8_t flags, uint32_t tag)
{
	begin(IPPROTO_SCTP);
	bytes_add16(&packet, request.port);
	bytes_add16(&packet, PROBES_FIRST_ID + request.probe_id);
	bytes_add32(&packet, tag);
	bytes_add32(&packet, 0);
	bytes_add8(&packet, type);
	bytes_add8(&packet, flags);
	bytes_add16(&packet, 4);
}

static void write_reply(void)
{
	if (request.protocol == IPPROTO_ICMP)
		write_echo_reply();
	else
		write_chunk(WIRE_SCTP_INIT_ACK, 0, request.number);
}

/* Each protocol in each family, with its probe open. */
#define FOR_EACH_PROBE(i)                                                                          \
	for (size_t i = 0; i < 4 && (open_probe(families[i / 2], protocols[i % 2]), true); i++)

/* --- recognised ------------------------------------------------------------------------------ */

Test(match, replies)
{
	FOR_EACH_PROBE(i)
	{
		write_reply();
		cr_expect(recognised(), "IPv%d %d", request.family, request.protocol);
	}
}

Test(match, errors)
{
	FOR_EACH_PROBE(i)
	{
		write_error();
		cr_expect(recognised(), "IPv%d %d", request.family, request.protocol);
		packet.at[0] = wire_family(request.family)->echo_reply;
		cr_expect_not(recognised(), "an echo reply quotes nothing");
	}
}

Test(match, init_ack_and_abort_and_no_other_chunk)
{
	open_probe(4, IPPROTO_SCTP);
	for (unsigned int type = 0; type < 256; type++) {
		write_chunk((uint8_t)type, 0, request.number);
		cr_expect_eq(recognised(), type == 2 || type == 6, "chunk %u", type);
	}
	/* The T bit, with the verification tag of the INIT: anyone knows that it is 0. */
	write_chunk(WIRE_SCTP_ABORT, 1, 0);
	cr_expect_not(recognised());
}

/* --- one thing changed ------------------------------------------------------------------------ */

struct field {
	const char *name;
	size_t at;
	size_t bytes;
	bool matters;
};

static const struct field quoted_ipv4[] = {
	{"version and header length", 0, 1, true},
	{"type of service", 1, 1, false},
	{"identification", 4, 2, false},
	{"time to live", 8, 1, false},
	{"protocol", 9, 1, true},
	{"checksum", 10, 2, false},
	{"source", 12, 4, true},
	{"destination", 16, 4, true},
};
static const struct field quoted_ipv6[] = {
	{"flow label", 1, 3, false}, {"next header", 6, 1, true},   {"hop limit", 7, 1, false},
	{"source", 8, 16, true},     {"destination", 24, 16, true},
};
static const struct field quoted_echo[] = {
	{"type", 0, 1, true},       {"code and checksum", 1, 3, false},
	{"identifier", 4, 2, true}, {"sequence", 6, 2, true},
	{"nonce", 8, 8, true},      {"payload", 16, 4, false},
};
static const struct field quoted_init[] = {
	{"source port", 0, 2, true},
	{"port", 2, 2, true},
	{"tag, checksum and chunk head", 4, 12, false},
	{"initiate tag", 16, 4, true},
	{"window", 20, 4, false},
};
static const struct field reply_echo[] = {
	{"type", 0, 1, true},       {"code and checksum", 1, 3, false},
	{"identifier", 4, 2, true}, {"sequence", 6, 2, true},
	{"nonce", 8, 8, true},      {"payload", 16, 4, false},
};
static const struct field reply_chunk[] = {
	{"port", 0, 2, true},      {"source port", 2, 2, true}, {"tag", 4, 4, true},
	{"checksum", 8, 4, false}, {"flags", 13, 3, false},
};

/* Flips each bit of each field, in turn. */
static void flip(size_t base, const struct field *fields, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		for (size_t bit = 0; bit < fields[i].bytes * 8; bit++) {
			uint8_t *at = &packet.at[base + fields[i].at + bit / 8];
			*at ^= (uint8_t)(1u << bit % 8);
			cr_expect_eq(recognised(), !fields[i].matters, "IPv%d: %s, bit %zu",
				     request.family, fields[i].name, bit);
			*at ^= (uint8_t)(1u << bit % 8);
		}
	}
}

static void flip_address(const char *what, uint8_t *address, bool matters)
{
	for (size_t bit = 0; bit < (request.family == 4 ? 32u : 128u); bit++) {
		address[bit / 8] ^= (uint8_t)(1u << bit % 8);
		cr_expect_eq(recognised(), !matters, "%s, bit %zu", what, bit);
		address[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
}

Test(match, everything_that_matters_in_a_quoted_packet)
{
	FOR_EACH_PROBE(i)
	{
		size_t at = write_error();
		if (request.family == 4)
			flip(ICMP_BYTES, quoted_ipv4, COUNT(quoted_ipv4));
		else
			flip(ICMP_BYTES, quoted_ipv6, COUNT(quoted_ipv6));
		if (request.protocol == IPPROTO_ICMP)
			flip(at, quoted_echo, COUNT(quoted_echo));
		else
			flip(at, quoted_init, COUNT(quoted_init));
		flip_address("router", answer.responder, false);
		flip_address("where the error was sent to", answer.local, true);
		packet.at[ICMP_BYTES] ^= 0x20;
		cr_expect_not(recognised(), "the other family's version");
	}
}

Test(match, everything_that_matters_in_a_reply)
{
	FOR_EACH_PROBE(i)
	{
		write_reply();
		if (request.protocol == IPPROTO_ICMP)
			flip(0, reply_echo, COUNT(reply_echo));
		else
			flip(0, reply_chunk, COUNT(reply_chunk));
		flip_address("responder", answer.responder, true);
		flip_address("local address", answer.local, true);
		answer.protocol = request.protocol == IPPROTO_ICMP ? IPPROTO_SCTP : IPPROTO_ICMP;
		cr_expect_not(recognised(), "on a socket of the other protocol");
	}
}

/* The addresses of one family begin with those of the other. */
Test(match, the_families_are_apart)
{
	open_probe(4, IPPROTO_SCTP);
	write_error();
	const struct packet_ip ip = {.family = 6,
				     .protocol = IPPROTO_SCTP,
				     .source = {198, 18, 0, 1},
				     .destination = {198, 18, 0, 2}};
	write_quote(11, &ip, sent_bytes);
	cr_expect_not(recognised(), "an IPv6 packet quoted by an IPv4 error");

	open_probe(6, IPPROTO_SCTP);
	memcpy(request.source, (const uint8_t[16]){198, 18, 0, 1}, 16);
	memcpy(request.destination, (const uint8_t[16]){198, 18, 0, 2}, 16);
	probes_open(&request, sent);
	write_reply();
	cr_expect(recognised());
	struct record_answer same = answer;
	cr_expect_not(match_answer(4, &same, packet.at, packet.count));
}

/* A reply whose identifier, sequence and payload are the ports and the tag of an INIT. */
Test(match, the_protocols_are_apart)
{
	open_probe(4, IPPROTO_SCTP);
	begin(IPPROTO_ICMP);
	bytes_fill(&packet, 0, 4);
	bytes_add(&packet, sent, 4);
	bytes_add32(&packet, request.number);
	cr_expect_not(recognised());
}

Test(match, a_source_by_route_is_any)
{
	FOR_EACH_PROBE(i)
	{
		memset(request.source, 0, sizeof(request.source));
		probes_open(&request, sent);
		write_reply();
		flip_address("local address", answer.local, false);
		write_error();
		flip_address("not what is quoted", answer.local, true);
	}
}

/* --- cut off, options, fragments -------------------------------------------------------------- */

Test(match, a_reply_shows_all_that_tells_its_probe_apart)
{
	FOR_EACH_PROBE(i)
	{
		write_reply();
		size_t whole = packet.count;
		size_t least = request.protocol == IPPROTO_ICMP ? 16 : 13;
		for (packet.count = 0; packet.count <= whole; packet.count++)
			cr_expect_eq(recognised(), packet.count >= least, "IPv%d %d cut at %zu",
				     request.family, request.protocol, packet.count);
	}
}

/* Routers quote as much as they like, and eight bytes at the least (RFC 792). */
static void cut_quote(const struct packet_ip *ip)
{
	size_t at = write_quote(time_exceeded(), ip, sent_bytes);
	size_t whole = packet.count;

	for (packet.count = 0; packet.count <= whole; packet.count++)
		cr_expect_eq(recognised(), packet.count >= at + 8, "IPv%d %d cut at %zu",
			     request.family, request.protocol, packet.count);
}

Test(match, a_quote_cut_anywhere)
{
	FOR_EACH_PROBE(i)
	{
		struct packet_ip ip = quoted_ip();
		cut_quote(&ip);
		/* A first fragment, and in IPv6 its header. */
		ip.fragment = ip.family == 4 ? 0x2000 : 1;
		cut_quote(&ip);
		for (uint8_t bytes = 4; ip.family == 4 && bytes <= 40; bytes += 12) {
			ip.option_bytes = bytes;
			cut_quote(&ip);
		}
		ip.option_bytes = 0;
		ip.fragment = 8;
		write_quote(time_exceeded(), &ip, sent_bytes);
		cr_expect_not(recognised(), "a later fragment");
	}
}

/* Another user's echo with the same identifier and sequence, but without our payload: the length
 * field says that there was none. */
Test(match, a_quote_that_is_whole_shows_the_nonce)
{
	for (size_t i = 0; i < 2; i++) {
		open_probe(families[i], IPPROTO_ICMP);
		size_t at = write_error();
		for (unsigned int payload_bytes = 0; payload_bytes < 12; payload_bytes++) {
			unsigned int total = (families[i] == 4 ? 28 : 8) + payload_bytes;
			bytes_put16(&packet, ICMP_BYTES + (families[i] == 4 ? 2 : 4), total);
			cr_expect_eq(recognised(), payload_bytes >= 8, "%u bytes", payload_bytes);
			/* The same with padding up to 128 bytes, as for RFC 4884. */
			packet.count = at + 8 + payload_bytes;
			bytes_fill(&packet, 0, 128);
			cr_expect_eq(recognised(), payload_bytes >= 8, "%u bytes", payload_bytes);
			write_error();
		}
	}
}

Test(match, a_probe_shorter_than_a_nonce)
{
	for (uint16_t payload_bytes = 0; payload_bytes < 9; payload_bytes++) {
		open_probe(4, IPPROTO_ICMP);
		request.size_bytes = (uint16_t)(28 + payload_bytes);
		sent_bytes = probes_open(&request, sent);
		write_echo_reply();
		cr_expect(recognised());
		write_error();
		cr_expect(recognised());
		if (payload_bytes == 0)
			continue;
		write_echo_reply();
		packet.at[7 + payload_bytes] ^= 1;
		cr_expect_not(recognised(), "%d bytes", payload_bytes);
	}
}

/* --- several probes --------------------------------------------------------------------------- */

Test(match, eight_bytes_of_an_init_are_for_the_only_probe)
{
	struct packet_ip ip;

	open_probe(6, IPPROTO_SCTP);
	ip = quoted_ip();
	write_quote(3, &ip, 8);
	cr_expect(recognised());
	request.cookie++;
	request.number++;
	probes_open(&request, sent);
	cr_expect_not(recognised(), "two with these ports");
	write_quote(3, &ip, 20);
	cr_expect(recognised(), "told apart by the tag");
}

Test(match, a_request_for_an_open_slot_closes_what_was_there)
{
	FOR_EACH_PROBE(i)
	{
		write_reply();
		request.number++;
		request.cookie += 3u << 16; /* the same slot */
		sent_bytes = probes_open(&request, sent);
		cr_expect_not(recognised(), "the reply to the first");
		write_reply();
		cr_expect(recognised());
		match_close(request.cookie);
		cr_expect_not(recognised(), "closed");
		match_close(request.cookie);
	}
}

/* All slots open, the identifiers and sequences of many being one chain. */
Test(match, a_full_table)
{
	static const uint32_t step = 4099;

	open_probe(4, IPPROTO_ICMP);
	for (uint32_t i = 0; i < RECORD_SLOTS; i++) {
		request.cookie = i;
		request.number = i % 4096;
		request.probe_id = (uint8_t)(i / 4096);
		probes_open(&request, sent);
	}
	for (uint32_t i = 0; i < RECORD_SLOTS; i += step) {
		request.cookie = i;
		request.number = i % 4096;
		request.probe_id = (uint8_t)(i / 4096);
		sent_bytes = probes_open(&request, sent);
		write_echo_reply();
		cr_expect(recognised(), "%u", i);
	}
	for (uint32_t i = 0; i < RECORD_SLOTS; i++)
		match_close(i);
	write_echo_reply();
	cr_expect_not(recognised());
}

/* --- anything at all -------------------------------------------------------------------------- */

enum {
	FUZZ_ROUNDS = 20000,
};

/* Changes a few bytes at random and cuts the packet perhaps. It may be recognised only if what
 * matters is as it was. */
static void fuzz(size_t base, const struct field *fields, size_t count, uint64_t *random)
{
	static struct bytes genuine;
	int found = 0;

	genuine = packet;
	for (int round = 0; round < FUZZ_ROUNDS; round++) {
		uint32_t chance = packet_random(random);
		for (uint32_t i = 0; i <= chance % 4; i++)
			packet.at[packet_random(random) % (uint32_t)genuine.count] =
				(uint8_t)packet_random(random);
		if (chance >> 8 & 1)
			packet.count = packet_random(random) % (genuine.count + 1);
		if (recognised()) {
			found++;
			for (size_t i = 0; i < count; i++)
				for (size_t k = 0; fields[i].matters && k < fields[i].bytes; k++) {
					size_t at = base + fields[i].at + k;
					cr_assert(at >= packet.count ||
							  packet.at[at] == genuine.at[at],
						  "%s", fields[i].name);
				}
		}
		packet.count = genuine.count;
		memcpy(packet.at, genuine.at, genuine.count);
	}
	cr_expect_gt(found, FUZZ_ROUNDS / 100, "the changes are too wild: %d", found);
}

Test(match, random_changes)
{
	uint64_t random = 5837;

	for (size_t i = 0; i < COUNT(families); i++) {
		open_probe(families[i], IPPROTO_ICMP);
		fuzz(write_error(), quoted_echo, COUNT(quoted_echo), &random);
		write_reply();
		fuzz(0, reply_echo, COUNT(reply_echo), &random);
		open_probe(families[i], IPPROTO_SCTP);
		/* Of a shorter INIT only the ports show. */
		fuzz(write_error(), quoted_init, 2, &random);
		write_reply();
		fuzz(0, reply_chunk, COUNT(reply_chunk), &random);
	}
}
