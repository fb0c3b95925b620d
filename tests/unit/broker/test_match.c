/*
 * Answers to probes: each genuine one is recognised, and none of which anything that matters was
 * changed. The tables name every field of what comes back and whether it matters; the checksums are
 * made right again after a change, so that it is the field that decides.
 */
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <string.h>

#include "broker/answer.h"
#include "broker/identity.h"
#include "common/wire.h"
#include "tests/support/packet.h"
#include "tests/support/probes.h"

TestSuite(answer, .init = probes_start);

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define S            INT64_C(1000000000)

static const uint8_t families[] = {4, 6};
static const uint8_t protocols[] = {IPPROTO_ICMP, IPPROTO_UDP, IPPROTO_TCP, IPPROTO_SCTP};

enum {
	ICMP_BYTES = 8,
	QUOTED_TTL = 1,
	QUOTED_TOS = 0x2e,
	ANSWER_TTL = 57,
};

/* An open probe and its packet from the transport header on. */
struct sent {
	struct record_probe request;
	struct probe *probe;
	uint8_t bytes[300];
	size_t count;
};

/* A packet that came back, as a raw socket of `protocol` received it. */
struct answer {
	uint8_t family;
	uint8_t protocol;
	uint8_t source[16];
	uint8_t destination[16];
	struct bytes packet;
};

static struct answer answer;

/* What answer_recognise() said last. */
static struct record_event event;
static uint8_t extension[RECORD_EXTENSION_BYTES];
static bool has_extension;

static struct sent send_request(const struct record_probe *request)
{
	struct sent sent = {.request = *request};
	struct packet packet;

	sent.probe = probes_open(request, 100 * S, &packet);
	cr_assert_not_null(sent.probe);
	sent.count = packet.header_bytes + packet.payload_bytes;
	cr_assert_leq(sent.count, sizeof(sent.bytes));
	memcpy(sent.bytes, packet.header, packet.header_bytes);
	memset(sent.bytes + packet.header_bytes, request->payload_byte, packet.payload_bytes);
	return sent;
}

/* Slots are counted up, one for each probe of a test. */
static struct sent send_probe(uint8_t family, uint8_t protocol, uint16_t port, uint16_t size)
{
	static uint32_t cookie;
	struct record_probe request = probes_request(family, protocol);

	request.cookie = cookie++;
	if (port != 0)
		request.port = port;
	if (size != 0)
		request.size_bytes = size;
	return send_request(&request);
}

/* Makes the checksums of the answer right. */
static void seal(void)
{
	struct bytes *packet = &answer.packet;
	bool is_icmp = answer.protocol == IPPROTO_ICMP;
	size_t field = is_icmp ? 2 : answer.protocol == IPPROTO_UDP ? 6 : 16;

	if (answer.protocol == IPPROTO_SCTP) {
		if (packet->count < 12)
			return;
		memset(packet->at + 8, 0, 4);
		uint32_t crc = packet_crc32c(packet->at, packet->count);
		for (size_t i = 0; i < 4; i++)
			packet->at[8 + i] = (uint8_t)(crc >> 8 * i);
		return;
	}
	if (packet->count < field + 2)
		return;
	bytes_put16(packet, field, 0);
	if (is_icmp && answer.family == 4)
		bytes_put16(packet, field, packet_checksum(packet->at, packet->count));
	else
		bytes_put16(packet, field,
			    packet_pseudo_checksum(answer.family, answer.source, answer.destination,
						   is_icmp ? IPPROTO_ICMPV6 : answer.protocol,
						   packet->at, packet->count));
}

/* Shows the answer to the code under test, in memory of exactly its size. `head_bytes` of it come
 * in the first buffer. */
static struct probe *recognise_split(size_t head_bytes)
{
	size_t tail_bytes = answer.packet.count - head_bytes;
	size_t address_bytes = answer.family == 4 ? 4 : 16;
	uint8_t *head = packet_exact(answer.packet.at, head_bytes);
	uint8_t *tail = packet_exact(answer.packet.at + head_bytes, tail_bytes);
	uint8_t *source = packet_exact(answer.source, address_bytes);
	uint8_t *destination = packet_exact(answer.destination, address_bytes);
	const struct received received = {
		.family = answer.family,
		.protocol = answer.protocol,
		.ttl = ANSWER_TTL,
		.source = source,
		.destination = destination,
		.transport = head,
		.transport_bytes = head_bytes,
		.tail = tail,
		.tail_bytes = tail_bytes,
	};
	const uint8_t *found = NULL;

	memset(&event, 0xcc, sizeof(event));
	struct probe *probe = answer_recognise(&received, &event, &found);
	has_extension = probe != NULL && found != NULL;
	if (has_extension) {
		cr_assert_leq(event.extension_bytes, sizeof(extension));
		memcpy(extension, found, event.extension_bytes);
	}
	packet_release(head);
	packet_release(tail);
	packet_release(source);
	packet_release(destination);
	return probe;
}

static struct probe *recognise(void)
{
	return recognise_split(answer.packet.count);
}

/* Begins an answer from `last_byte` of the destination's network to the probe's source. */
static void begin(const struct sent *sent, uint8_t protocol)
{
	answer.family = sent->request.family;
	answer.protocol = protocol;
	memcpy(answer.source, sent->request.destination, 16);
	memcpy(answer.destination, sent->request.source, 16);
	answer.packet.count = 0;
}

/* The headers of the probe as a router quotes them. */
static struct packet_ip quoted_ip(const struct sent *sent)
{
	struct packet_ip ip = {
		.family = sent->request.family,
		.protocol = sent->request.protocol,
		.ttl = QUOTED_TTL,
		.tos = QUOTED_TOS,
	};

	if (ip.protocol == IPPROTO_ICMP && ip.family == 6)
		ip.protocol = IPPROTO_ICMPV6;
	memcpy(ip.source, sent->request.source, 16);
	memcpy(ip.destination, sent->request.destination, 16);
	return ip;
}

static uint8_t time_exceeded(const struct sent *sent)
{
	return wire_family(sent->request.family)->time_exceeded;
}

/* An ICMP error from a router, quoting `count` bytes behind the IP header `ip`. Returns where these
 * bytes stand. */
static size_t write_error_quoting(const struct sent *sent, uint8_t type, uint8_t code,
				  const struct packet_ip *ip, size_t count)
{
	begin(sent, IPPROTO_ICMP);
	answer.source[sent->request.family == 4 ? 3 : 15] = 0xfe;
	bytes_add8(&answer.packet, type);
	bytes_add8(&answer.packet, code);
	bytes_fill(&answer.packet, 0, 6);
	packet_add_ip(&answer.packet, ip, sent->count);
	size_t at = answer.packet.count;
	bytes_add(&answer.packet, sent->bytes, count);
	seal();
	return at;
}

static size_t write_error(const struct sent *sent, uint8_t type, uint8_t code)
{
	const struct packet_ip ip = quoted_ip(sent);

	return write_error_quoting(sent, type, code, &ip, sent->count);
}

/* The answers that come from the destination itself. */
enum reply {
	ECHO_REPLY,
	DATAGRAM,
	SYN_ACK,
	RST,
	INIT_ACK,
	ABORT,
	REPLIES,
};
static const uint8_t reply_protocols[REPLIES] = {IPPROTO_ICMP, IPPROTO_UDP,  IPPROTO_TCP,
						 IPPROTO_TCP,  IPPROTO_SCTP, IPPROTO_SCTP};

static void write_reply(const struct sent *sent, enum reply reply)
{
	const struct probe_identity *identity = &sent->probe->identity;
	struct bytes *packet = &answer.packet;

	begin(sent, reply_protocols[reply]);
	if (reply == ECHO_REPLY) {
		bytes_add(packet, sent->bytes, sent->count);
		packet->at[0] = wire_family(sent->request.family)->echo_reply;
		seal();
		return;
	}
	bytes_add16(packet, identity->port);
	bytes_add16(packet, identity->source_port);
	switch (reply) {
	case DATAGRAM:
		bytes_add16(packet, 8 + 11);
		bytes_add16(packet, 0);
		bytes_add(packet, "hello there", 11);
		break;
	case SYN_ACK:
	case RST:
		bytes_add32(packet, reply == RST ? 0 : 0x11223344);
		bytes_add32(packet, identity->token + 1);
		bytes_add8(packet, 0x50);
		bytes_add8(packet, reply == RST ? 0x14 : 0x12);
		bytes_fill(packet, 0, 6);
		break;
	default:
		bytes_add32(packet, identity->token);
		bytes_add32(packet, 0);
		bytes_add8(packet, reply == ABORT ? 6 : 2);
		bytes_add8(packet, 0);
		bytes_add16(packet, reply == ABORT ? 4 : 20);
		bytes_fill(packet, 0x77, reply == ABORT ? 0 : 16);
		break;
	}
	seal();
}

/* --- recognised ------------------------------------------------------------------------------ */

Test(answer, every_reply_is_recognised)
{
	for (size_t i = 0; i < COUNT(families); i++) {
		for (enum reply reply = 0; reply < REPLIES; reply++) {
			struct sent sent = send_probe(families[i], reply_protocols[reply], 0, 0);
			write_reply(&sent, reply);
			cr_assert_eq(recognise(), sent.probe, "IPv%d %d", families[i], reply);
			cr_expect_eq(event.what, EVENT_REPLY);
			cr_expect_eq(event.known, EVENT_REPLY_TTL);
			cr_expect_eq(event.reply_ttl, ANSWER_TTL);
			cr_expect_arr_eq(event.responder, sent.request.destination, 16);
			cr_expect_eq(event.mtu_bytes, 0);
			cr_expect_not(has_extension);
			probe_close(sent.probe);
			cr_expect_null(recognise(), "closed: IPv%d %d", families[i], reply);
		}
	}
}

Test(answer, every_error_is_recognised)
{
	for (size_t i = 0; i < COUNT(families); i++) {
		const struct wire_family *wire = wire_family(families[i]);
		const uint8_t types[] = {wire->unreachable, wire->time_exceeded,
					 wire->parameter_problem, wire->packet_too_big};
		for (size_t k = 0; k < COUNT(protocols) * COUNT(types); k++) {
			struct sent sent = send_probe(families[i], protocols[k % 4], 0, 0);
			uint8_t type = types[k / 4];
			uint8_t responder[16];
			write_error(&sent, type, 1);
			memcpy(responder, answer.source, sizeof(responder));
			cr_assert_eq(recognise(), sent.probe, "IPv%d %zu", families[i], k);
			cr_expect_eq(event.what, EVENT_ICMP);
			cr_expect_eq(event.icmp_type, type);
			cr_expect_eq(event.icmp_code, 1);
			cr_expect_eq(event.known, EVENT_REPLY_TTL | EVENT_QUOTED);
			cr_expect_eq(event.reply_ttl, ANSWER_TTL);
			cr_expect_eq(event.quoted_ttl, QUOTED_TTL);
			cr_expect_eq(event.quoted_tos, QUOTED_TOS);
			cr_expect_arr_eq(event.responder, responder, 16);
			probe_close(sent.probe);
			cr_expect_null(recognise(), "closed: IPv%d %zu", families[i], k);
		}
	}
}

Test(answer, no_other_icmp_type_is_an_answer)
{
	for (size_t i = 0; i < COUNT(families); i++) {
		const struct wire_family *wire = wire_family(families[i]);
		struct sent sent = send_probe(families[i], IPPROTO_UDP, 0, 0);
		for (unsigned int type = 0; type < 256; type++) {
			bool is_error = type == wire->unreachable || type == wire->time_exceeded ||
					type == wire->parameter_problem ||
					type == wire->packet_too_big;
			write_error(&sent, (uint8_t)type, 0);
			cr_expect_eq(recognise(), is_error ? sent.probe : NULL, "IPv%d type %u",
				     families[i], type);
		}
	}
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
	{"type and code", 0, 2, true}, {"checksum", 2, 2, false}, {"identifier", 4, 2, true},
	{"sequence", 6, 2, true},      {"payload", 8, 4, false},
};
static const struct field quoted_udp[] = {
	{"source port", 0, 2, true}, {"port", 2, 2, true},
	{"length", 4, 2, false},     {"checksum, its ports being its own", 6, 2, false},
	{"payload", 8, 4, false},
};
static const struct field quoted_tuned[] = {
	{"source port", 0, 2, true}, {"port", 2, 2, true},     {"length", 4, 2, false},
	{"checksum", 6, 2, true},    {"payload", 8, 4, false},
};
static const struct field quoted_syn[] = {
	{"source port", 0, 2, true},
	{"port", 2, 2, true},
	{"sequence", 4, 4, true},
	{"the rest", 8, 12, false},
};
static const struct field quoted_init[] = {
	{"source port", 0, 2, true}, {"port", 2, 2, true},    {"tag and checksum", 4, 8, false},
	{"chunk type", 12, 1, true}, {"flags", 13, 3, false}, {"initiate tag", 16, 4, true},
	{"window", 20, 4, false},
};
static const struct field reply_echo[] = {
	{"type and code", 0, 2, true},
	{"identifier", 4, 2, true},
	{"sequence", 6, 2, true},
	{"payload", 8, 8, false},
};
static const struct field reply_datagram[] = {
	{"port", 0, 2, true},
	{"source port", 2, 2, true},
	{"length", 4, 2, false},
	{"payload", 8, 8, false},
};
static const struct field reply_segment[] = {
	{"port", 0, 2, true},         {"source port", 2, 2, true}, {"sequence", 4, 4, false},
	{"acknowledged", 8, 4, true}, {"window", 14, 2, false},    {"urgent", 18, 2, false},
};
static const struct field reply_chunk[] = {
	{"port", 0, 2, true},
	{"source port", 2, 2, true},
	{"tag", 4, 4, true},
	{"flags", 13, 1, false},
};

/* Flips each bit of each field, in turn, with the checksum made right again. */
static void flip(const char *what, const struct probe *probe, size_t base,
		 const struct field *fields, size_t count)
{
	cr_assert_eq(recognise(), probe, "%s", what);
	for (size_t i = 0; i < count; i++) {
		for (size_t bit = 0; bit < fields[i].bytes * 8; bit++) {
			size_t at = base + fields[i].at + bit / 8;
			uint8_t mask = (uint8_t)(1u << bit % 8);
			answer.packet.at[at] ^= mask;
			seal();
			cr_expect_eq(recognise(), fields[i].matters ? NULL : probe,
				     "%s: %s, bit %zu", what, fields[i].name, bit);
			answer.packet.at[at] ^= mask;
		}
	}
	seal();
}

/* Flips each bit of an address of the answer. */
static void flip_address(const char *what, const struct probe *probe, uint8_t *address,
			 bool matters)
{
	for (size_t bit = 0; bit < (answer.family == 4 ? 32u : 128u); bit++) {
		address[bit / 8] ^= (uint8_t)(1u << bit % 8);
		seal();
		cr_expect_eq(recognise(), matters ? NULL : probe, "%s, bit %zu", what, bit);
		address[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	seal();
}

/* Flips each bit of the whole packet and leaves the checksum: nothing holds any more. */
static void flip_unsealed(const char *what)
{
	for (size_t bit = 0; bit < answer.packet.count * 8; bit++) {
		answer.packet.at[bit / 8] ^= (uint8_t)(1u << bit % 8);
		cr_expect_null(recognise(), "%s: bit %zu, checksum left", what, bit);
		answer.packet.at[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
}

static void flip_quoted(const char *what, const struct sent *sent, const struct field *fields,
			size_t count)
{
	size_t at = write_error(sent, time_exceeded(sent), 0);
	bool is_ipv4 = sent->request.family == 4;

	flip(what, sent->probe, ICMP_BYTES, is_ipv4 ? quoted_ipv4 : quoted_ipv6,
	     is_ipv4 ? COUNT(quoted_ipv4) : COUNT(quoted_ipv6));
	flip(what, sent->probe, at, fields, count);
	flip_address(what, sent->probe, answer.source, false);
	flip_address(what, sent->probe, answer.destination, false);
	flip_unsealed(what);
	answer.packet.at[ICMP_BYTES] ^= 0x20; /* the other family's packet: never quoted here */
	seal();
	cr_expect_null(recognise());
	probe_close(sent->probe);
}

Test(answer, everything_that_matters_in_a_quoted_packet)
{
	for (size_t i = 0; i < COUNT(families); i++) {
		struct sent sent = send_probe(families[i], IPPROTO_ICMP, 0, 100);
		flip_quoted("quoted echo", &sent, quoted_echo, COUNT(quoted_echo));
		sent = send_probe(families[i], IPPROTO_UDP, 0, 100);
		flip_quoted("quoted datagram", &sent, quoted_udp, COUNT(quoted_udp));
		sent = send_probe(families[i], IPPROTO_TCP, 0, 100);
		flip_quoted("quoted SYN", &sent, quoted_syn, COUNT(quoted_syn));
		sent = send_probe(families[i], IPPROTO_SCTP, 0, 100);
		flip_quoted("quoted INIT", &sent, quoted_init, COUNT(quoted_init));
	}
}

static struct sent send_flow(uint8_t family, uint8_t protocol, uint32_t cookie)
{
	struct record_probe request = probes_request(family, protocol);

	request.cookie = cookie;
	request.flags = PROBE_FLOW;
	request.flow = 5;
	return send_request(&request);
}

Test(answer, the_checksum_matters_where_probes_share_their_ports)
{
	for (size_t i = 0; i < COUNT(families); i++) {
		struct sent sent = send_flow(families[i], IPPROTO_UDP, 1);
		cr_assert(sent.probe->is_tuned);
		flip_quoted("quoted tuned datagram", &sent, quoted_tuned, COUNT(quoted_tuned));
	}
}

static void flip_reply(const char *what, uint8_t family, enum reply reply,
		       const struct field *fields, size_t count)
{
	struct sent sent = send_probe(family, reply_protocols[reply], 0, 100);

	write_reply(&sent, reply);
	flip(what, sent.probe, 0, fields, count);
	flip_address(what, sent.probe, answer.source, true);
	flip_address(what, sent.probe, answer.destination, true);
	flip_unsealed(what);
	for (size_t i = 0; i < COUNT(protocols); i++) {
		answer.protocol = protocols[i];
		seal();
		cr_expect_eq(recognise(), protocols[i] == sent.request.protocol ? sent.probe : NULL,
			     "%s on a socket of %d", what, protocols[i]);
		write_reply(&sent, reply);
	}
	probe_close(sent.probe);
}

Test(answer, everything_that_matters_in_a_reply)
{
	for (size_t i = 0; i < COUNT(families); i++) {
		uint8_t family = families[i];
		flip_reply("echo reply", family, ECHO_REPLY, reply_echo, COUNT(reply_echo));
		flip_reply("datagram", family, DATAGRAM, reply_datagram, COUNT(reply_datagram));
		flip_reply("SYN/ACK", family, SYN_ACK, reply_segment, COUNT(reply_segment));
		flip_reply("RST", family, RST, reply_segment, COUNT(reply_segment));
		flip_reply("INIT ACK", family, INIT_ACK, reply_chunk, COUNT(reply_chunk));
	}
}

/* An error of one family that quotes, correctly, an open probe of the other. */
Test(answer, an_error_quotes_its_own_family)
{
	for (size_t i = 0; i < COUNT(families); i++) {
		struct sent own = send_probe(families[i], IPPROTO_UDP, 0, 0);
		struct sent other = send_probe(families[1 - i], IPPROTO_UDP, 0, 0);
		const struct packet_ip ip = quoted_ip(&other);
		begin(&own, IPPROTO_ICMP);
		bytes_add8(&answer.packet, time_exceeded(&own));
		bytes_fill(&answer.packet, 0, 7);
		packet_add_ip(&answer.packet, &ip, other.count);
		bytes_add(&answer.packet, other.bytes, other.count);
		seal();
		cr_expect_null(recognise());
		probe_close(own.probe);
		probe_close(other.probe);
	}
}

/* --- cut off, options, fragments -------------------------------------------------------------- */

Test(answer, a_reply_cut_anywhere)
{
	static const size_t least[REPLIES] = {8, 8, 20, 20, 16, 16};

	for (size_t i = 0; i < COUNT(families); i++) {
		for (enum reply reply = 0; reply < REPLIES; reply++) {
			struct sent sent = send_probe(families[i], reply_protocols[reply], 0, 100);
			write_reply(&sent, reply);
			size_t whole = answer.packet.count;
			for (size_t cut = 0; cut <= whole; cut++) {
				write_reply(&sent, reply);
				answer.packet.count = cut;
				seal();
				cr_expect_eq(recognise(), cut < least[reply] ? NULL : sent.probe,
					     "IPv%d %d cut at %zu", families[i], reply, cut);
			}
			probe_close(sent.probe);
		}
	}
}

/* Routers quote as much as they like, and eight bytes at the least (RFC 792). */
static void cut_quoted(const struct sent *sent, const struct packet_ip *ip)
{
	size_t at = write_error_quoting(sent, time_exceeded(sent), 0, ip, sent->count);
	size_t whole = answer.packet.count;

	for (size_t cut = 0; cut <= whole; cut++) {
		write_error_quoting(sent, time_exceeded(sent), 0, ip, sent->count);
		answer.packet.count = cut;
		seal();
		cr_expect_eq(recognise(), cut < at + 8 ? NULL : sent->probe, "IPv%d %d cut at %zu",
			     sent->request.family, sent->request.protocol, cut);
	}
}

Test(answer, a_quoted_packet_cut_anywhere)
{
	for (size_t i = 0; i < COUNT(families) * COUNT(protocols); i++) {
		struct sent sent = send_probe(families[i / 4], protocols[i % 4], 0, 90);
		struct packet_ip ip = quoted_ip(&sent);
		cut_quoted(&sent, &ip);
		/* A first fragment, and in IPv6 its header. */
		ip.fragment = ip.family == 4 ? 0x2000 : 1;
		cut_quoted(&sent, &ip);
		for (uint8_t option_bytes = 4; ip.family == 4 && option_bytes <= 40;
		     option_bytes += 12) {
			ip.option_bytes = option_bytes;
			cut_quoted(&sent, &ip);
		}
		probe_close(sent.probe);
	}
}

Test(answer, a_later_fragment_has_no_ports)
{
	for (size_t i = 0; i < COUNT(families) * COUNT(protocols); i++) {
		struct sent sent = send_probe(families[i / 4], protocols[i % 4], 0, 90);
		struct packet_ip ip = quoted_ip(&sent);
		for (unsigned int bit = 0; bit < 13; bit++) {
			ip.fragment = (uint16_t)(ip.family == 4 ? 1u << bit : 1u << (bit + 3));
			write_error_quoting(&sent, time_exceeded(&sent), 0, &ip, sent.count);
			cr_expect_null(recognise(), "IPv%d %d %04x", ip.family, ip.protocol,
				       ip.fragment);
		}
		probe_close(sent.probe);
	}
}

/* --- one protocol's own ----------------------------------------------------------------------- */

Test(answer, only_syn_ack_and_rst_ack_are_answers)
{
	struct sent sent = send_probe(4, IPPROTO_TCP, 0, 0);

	write_reply(&sent, SYN_ACK);
	for (unsigned int flags = 0; flags < 256; flags++) {
		bool is_answer = (flags & 0x10) != 0 && (flags & 0x06) != 0;
		answer.packet.at[13] = (uint8_t)flags;
		seal();
		cr_expect_eq(recognise(), is_answer ? sent.probe : NULL, "flags %02x", flags);
	}
}

Test(answer, only_init_ack_and_abort_are_answers)
{
	struct sent sent = send_probe(4, IPPROTO_SCTP, 0, 0);

	write_reply(&sent, INIT_ACK);
	for (unsigned int chunk = 0; chunk < 256; chunk++) {
		bool is_answer = chunk == 2 || chunk == 6;
		answer.packet.at[12] = (uint8_t)chunk;
		seal();
		cr_expect_eq(recognise(), is_answer ? sent.probe : NULL, "chunk %u", chunk);
	}
}

Test(answer, a_rst_may_acknowledge_the_data_of_the_syn)
{
	struct sent sent = send_probe(4, IPPROTO_TCP, 0, 200);
	uint32_t data_bytes = 200 - 20 - 44;

	for (uint32_t more = 0; more <= data_bytes + 1; more++) {
		write_reply(&sent, RST);
		wire_put32(answer.packet.at + 8, sent.probe->identity.token + 1 + more);
		seal();
		bool is_answer = more == 0 || more == data_bytes;
		cr_expect_eq(recognise(), is_answer ? sent.probe : NULL, "%u more", more);
	}
}

/* Hundreds of SYNs of one size, with data, to one port: each answer finds its own. */
Test(answer, probes_with_the_same_ports_are_told_apart)
{
	static struct sent sent[300];

	for (size_t i = 0; i < COUNT(sent); i++)
		sent[i] = send_probe(4, IPPROTO_TCP, 443, 20 + 44 + 64);
	for (size_t i = 0; i < COUNT(sent); i++) {
		write_reply(&sent[i], SYN_ACK);
		cr_expect_eq(recognise(), sent[i].probe, "number %zu", i);
		wire_put32(answer.packet.at + 8, sent[i].probe->identity.token + 1 + 64);
		seal();
		cr_expect_eq(recognise(), sent[i].probe, "number %zu with its data", i);
		write_error(&sent[i], 11, 0);
		cr_expect_eq(recognise(), sent[i].probe, "number %zu expired", i);
	}
}

Test(answer, flows_are_told_apart_by_what_is_quoted)
{
	for (size_t k = 0; k < COUNT(families) * COUNT(protocols); k++) {
		struct sent sent[50];
		uint8_t family = families[k / 4];
		for (uint32_t i = 0; i < COUNT(sent); i++)
			sent[i] = send_flow(family, protocols[k % 4], i);
		for (size_t i = 0; i < COUNT(sent); i++) {
			write_error(&sent[i], time_exceeded(&sent[i]), 0);
			cr_expect_eq(recognise(), sent[i].probe);
		}
		for (size_t i = 0; i < COUNT(sent); i++)
			probe_close(sent[i].probe);
	}
}

/* A packet of this host, whose checksum the network card would have filled in. */
Test(answer, a_checksum_left_to_the_hardware_is_no_fault)
{
	static const enum reply replies[] = {DATAGRAM, SYN_ACK, RST};

	for (size_t i = 0; i < COUNT(families) * COUNT(replies); i++) {
		enum reply reply = replies[i % 3];
		struct sent sent = send_probe(families[i / 3], reply_protocols[reply], 0, 0);
		write_reply(&sent, reply);
		uint16_t pseudo = (uint16_t)~packet_pseudo_checksum(
			answer.family, answer.source, answer.destination, answer.protocol, NULL, 0);
		uint32_t sum = pseudo + (uint32_t)answer.packet.count;
		sum = (sum & 0xffff) + (sum >> 16);
		bytes_put16(&answer.packet, reply == DATAGRAM ? 6 : 16, sum);
		cr_expect_eq(recognise(), sent.probe);
		bytes_put16(&answer.packet, reply == DATAGRAM ? 6 : 16, sum ^ 1);
		cr_expect_null(recognise());
		probe_close(sent.probe);
	}
}

Test(answer, udp_over_ipv4_may_go_without_a_checksum)
{
	struct sent sent = send_probe(4, IPPROTO_UDP, 0, 0);

	write_reply(&sent, DATAGRAM);
	bytes_put16(&answer.packet, 6, 0);
	cr_expect_eq(recognise(), sent.probe);
}

Test(answer, sctp_may_go_without_a_checksum)
{
	struct sent sent = send_probe(4, IPPROTO_SCTP, 0, 0);

	write_reply(&sent, INIT_ACK);
	memset(answer.packet.at + 8, 0, 4);
	cr_expect_eq(recognise(), sent.probe);
}

/* RFC 9260 8.4: who does not know the association reflects the INIT's tag, which is 0. */
Test(answer, an_abort_that_reflects_no_tag_needs_ports_of_its_own)
{
	struct sent one = send_probe(4, IPPROTO_SCTP, 0, 0);

	write_reply(&one, ABORT);
	wire_put32(answer.packet.at + 4, 0);
	seal();
	cr_expect_null(recognise(), "no tag, and not said to be reflected");
	answer.packet.at[13] = 1;
	seal();
	cr_expect_eq(recognise(), one.probe);
	wire_put32(answer.packet.at + 4, one.probe->identity.token ^ 1);
	seal();
	cr_expect_null(recognise(), "another's tag");

	struct sent first = send_flow(4, IPPROTO_SCTP, 100);
	write_reply(&first, ABORT);
	wire_put32(answer.packet.at + 4, 0);
	answer.packet.at[13] = 1;
	seal();
	cr_expect_eq(recognise(), first.probe);
	send_flow(4, IPPROTO_SCTP, 101);
	cr_expect_null(recognise(), "two with these ports");
}

Test(answer, eight_bytes_of_an_init_need_ports_of_its_own)
{
	struct sent first = send_flow(4, IPPROTO_SCTP, 100);
	struct packet_ip ip = quoted_ip(&first);

	write_error_quoting(&first, 11, 0, &ip, 8);
	cr_expect_eq(recognise(), first.probe);
	struct sent second = send_flow(4, IPPROTO_SCTP, 101);
	cr_expect_null(recognise());
	write_error_quoting(&second, 11, 0, &ip, 20);
	cr_expect_eq(recognise(), second.probe);
}

/* A pure probe may be found by ports alone, but not while one that shared them may still be
 * answered, even if it was given up. */
Test(answer, a_late_error_of_a_tuned_probe_is_not_anothers)
{
	static struct sent sent[200];
	struct sent *pure = NULL;

	for (size_t i = 0; i < COUNT(sent); i++)
		sent[i] = send_probe(4, IPPROTO_UDP, 53, 100);
	cr_assert_not(sent[0].probe->is_tuned);
	cr_assert(sent[199].probe->is_tuned);
	for (size_t i = 0; i < 100 && pure == NULL; i++)
		if (sent[i].probe->identity.source_port == sent[199].probe->identity.source_port)
			pure = &sent[i];
	cr_assert_not_null(pure);
	write_error(&sent[199], 11, 0);
	cr_expect_eq(recognise(), sent[199].probe);
	identity_given_up(sent[199].probe, 101 * S);
	probe_close(sent[199].probe);
	cr_expect_null(recognise());
	write_error(pure, 11, 0);
	cr_expect_eq(recognise(), pure->probe);
}

Test(answer, the_rest_of_a_long_echo_reply_counts_for_its_checksum)
{
	struct sent sent = send_probe(4, IPPROTO_ICMP, 0, 0);

	write_reply(&sent, ECHO_REPLY);
	bytes_fill(&answer.packet, 0x3c, 5000);
	seal();
	for (size_t head_bytes = 8; head_bytes < answer.packet.count; head_bytes += 98)
		cr_expect_eq(recognise_split(head_bytes), sent.probe);
	answer.packet.at[answer.packet.count - 1] ^= 1;
	cr_expect_null(recognise_split(2028));
}

/* --- MTU, extensions -------------------------------------------------------------------------- */

Test(answer, tells_the_next_hop_mtu)
{
	struct sent sent4 = send_probe(4, IPPROTO_UDP, 0, 0);
	struct sent sent6 = send_probe(6, IPPROTO_UDP, 0, 0);

	write_error(&sent4, 3, 4);
	wire_put32(answer.packet.at + 4, 0xaaaa0578); /* the upper half is unused (RFC 1191) */
	answer.packet.at[5] = 0;
	seal();
	cr_assert_eq(recognise(), sent4.probe);
	cr_expect_eq(event.mtu_bytes, 0x578);
	answer.packet.at[1] = 3;
	seal();
	cr_assert_eq(recognise(), sent4.probe);
	cr_expect_eq(event.mtu_bytes, 0, "another code");

	write_error(&sent6, 2, 0);
	wire_put32(answer.packet.at + 4, 0x00010578);
	seal();
	cr_assert_eq(recognise(), sent6.probe);
	cr_expect_eq(event.mtu_bytes, 0x10578);
	answer.packet.at[0] = 3;
	answer.packet.at[4] = 0;
	seal();
	cr_assert_eq(recognise(), sent6.probe);
	cr_expect_eq(event.mtu_bytes, 0, "another type");
}

/* An error whose quoted packet is filled up to `quote_bytes`, with an extension structure of one
 * MPLS label behind it. */
static void write_extended(const struct sent *sent, uint8_t type, size_t quote_bytes)
{
	write_error(sent, type, 0);
	cr_assert_leq(answer.packet.count, ICMP_BYTES + quote_bytes);
	bytes_fill(&answer.packet, 0, ICMP_BYTES + quote_bytes - answer.packet.count);
	size_t at = answer.packet.count;
	bytes_add32(&answer.packet, 0x20000000);
	bytes_add32(&answer.packet, 0x00080101);
	bytes_add32(&answer.packet, 0x05dc1101);
	bytes_put16(&answer.packet, at + 2, packet_checksum(answer.packet.at + at, 12));
	seal();
}

static void tell_length(uint8_t family, unsigned int units)
{
	answer.packet.at[family == 4 ? 5 : 4] = (uint8_t)units;
	seal();
}

Test(answer, finds_an_extension_where_its_length_says)
{
	for (size_t i = 0; i < COUNT(families) * COUNT(protocols); i++) {
		uint8_t family = families[i / 4];
		unsigned int unit = family == 4 ? 4 : 8;
		struct sent sent = send_probe(family, protocols[i % 4], 0, 90);
		for (unsigned int quote_bytes = 128; quote_bytes <= 512; quote_bytes += 64) {
			write_extended(&sent, time_exceeded(&sent), quote_bytes);
			tell_length(family, quote_bytes / unit);
			cr_assert_eq(recognise(), sent.probe);
			cr_assert(has_extension, "IPv%d %u", family, quote_bytes);
			cr_expect_eq(event.extension_bytes, 12);
			cr_expect_arr_eq(extension, answer.packet.at + answer.packet.count - 12,
					 12);
			cr_expect_eq(event.known,
				     EVENT_REPLY_TTL | EVENT_QUOTED | EVENT_EXTENSION_TOLD);
		}
		probe_close(sent.probe);
	}
}

Test(answer, finds_an_extension_in_the_old_place_by_its_checksum)
{
	for (size_t i = 0; i < COUNT(families); i++) {
		struct sent sent = send_probe(families[i], IPPROTO_UDP, 0, 90);
		write_extended(&sent, time_exceeded(&sent), 128);
		cr_assert_eq(recognise(), sent.probe);
		cr_assert(has_extension);
		cr_expect_eq(event.extension_bytes, 12);
		cr_expect_eq(event.known, EVENT_REPLY_TTL | EVENT_QUOTED);
		/* More of the quoted packet looks like this. */
		answer.packet.at[answer.packet.count - 1] ^= 1;
		seal();
		cr_assert_eq(recognise(), sent.probe);
		cr_expect_not(has_extension, "with a wrong checksum");
		write_extended(&sent, time_exceeded(&sent), 132);
		cr_assert_eq(recognise(), sent.probe);
		cr_expect_not(has_extension, "in another place");
	}
}

/* Only where RFC 4884 section 4 says so are these bytes a length. */
Test(answer, other_errors_have_no_extension)
{
	static const struct {
		uint8_t family, type;
		bool may_extend;
	} cases[] = {
		{4, 3, true}, {4, 11, true}, {4, 12, true}, {6, 1, true},
		{6, 3, true}, {6, 4, false}, {6, 2, false},
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct sent sent = send_probe(cases[i].family, IPPROTO_UDP, 0, 90);
		write_extended(&sent, cases[i].type, 128);
		tell_length(cases[i].family, cases[i].family == 4 ? 32 : 16);
		cr_assert_eq(recognise(), sent.probe, "%zu", i);
		cr_expect_eq(has_extension, cases[i].may_extend, "%zu", i);
		probe_close(sent.probe);
	}
}

Test(answer, an_extension_is_bounded)
{
	struct sent sent = send_probe(4, IPPROTO_UDP, 0, 90);

	for (size_t more = 490; more < 600; more++) {
		write_extended(&sent, 11, 128);
		bytes_fill(&answer.packet, 0x11, more);
		tell_length(4, 32);
		cr_assert_eq(recognise(), sent.probe);
		cr_assert(has_extension);
		bool is_cut = 12 + more > RECORD_EXTENSION_BYTES;
		cr_expect_eq(event.extension_bytes, is_cut ? RECORD_EXTENSION_BYTES : 12 + more);
		cr_expect_eq((event.known & EVENT_EXTENSION_CUT) != 0, is_cut);
	}
}

Test(answer, a_length_that_cannot_be_is_no_harm)
{
	for (size_t i = 0; i < COUNT(families); i++) {
		struct sent sent = send_probe(families[i], IPPROTO_UDP, 0, 90);
		size_t least = (families[i] == 4 ? 20u : 40u) + 8;
		unsigned int unit = families[i] == 4 ? 4 : 8;
		for (unsigned int units = 0; units < 256; units++) {
			write_extended(&sent, time_exceeded(&sent), 128);
			tell_length(families[i], units);
			size_t told = units * unit;
			bool resolves = told == 0 || told >= least;
			cr_expect_eq(recognise(), resolves ? sent.probe : NULL, "IPv%d %u",
				     families[i], units);
		}
	}
}

/* --- anything at all -------------------------------------------------------------------------- */

enum {
	FUZZ_ROUNDS = 20000,
};

/* Marks the bytes of the answer that matter. */
static void mark(bool *matters, size_t base, const struct field *fields, size_t count)
{
	for (size_t i = 0; i < count; i++)
		for (size_t k = 0; fields[i].matters && k < fields[i].bytes; k++)
			matters[base + fields[i].at + k] = true;
}

/* Changes a few bytes of the answer at random, cuts it perhaps, and seals it perhaps. It may be
 * recognised only if all that matters is as it was. */
static void fuzz(const struct probe *probe, const bool *matters, size_t needed, uint64_t *random)
{
	static struct answer genuine;
	int recognised = 0;

	genuine = answer;
	for (int round = 0; round < FUZZ_ROUNDS; round++) {
		uint32_t chance = packet_random(random);
		for (uint32_t i = 0; i <= chance % 4; i++) {
			uint32_t at = packet_random(random) % (uint32_t)genuine.packet.count;
			answer.packet.at[at] = (uint8_t)packet_random(random);
		}
		if (chance >> 8 & 1)
			answer.packet.count = packet_random(random) % (genuine.packet.count + 1);
		if ((chance >> 9 & 3) != 0)
			seal();
		const struct probe *found = recognise();
		if (found != NULL) {
			recognised++;
			cr_assert_eq(found, probe);
			cr_assert_geq(answer.packet.count, needed);
			for (size_t i = 0; i < answer.packet.count; i++)
				cr_assert(!matters[i] ||
						  answer.packet.at[i] == genuine.packet.at[i],
					  "byte %zu", i);
		}
		answer.packet.count = genuine.packet.count;
		memcpy(answer.packet.at, genuine.packet.at, genuine.packet.count);
	}
	cr_expect_gt(recognised, FUZZ_ROUNDS / 100, "the changes are too wild: %d", recognised);
}

static void fuzz_error(const struct sent *sent, const struct field *fields, size_t count,
		       uint64_t *random)
{
	bool matters[1000] = {false};
	bool is_ipv4 = sent->request.family == 4;
	size_t at = write_error(sent, time_exceeded(sent), 0);

	mark(matters, ICMP_BYTES, is_ipv4 ? quoted_ipv4 : quoted_ipv6,
	     is_ipv4 ? COUNT(quoted_ipv4) : COUNT(quoted_ipv6));
	mark(matters, at, fields, count);
	/* An INIT of which only the ports are quoted is found by them, and what is cut off by an
	 * RFC 4884 length was not quoted. */
	if (sent->request.protocol == IPPROTO_SCTP)
		memset(matters + at + 8, 0, sizeof(matters) - at - 8);
	fuzz(sent->probe, matters, at + 8, random);
}

static void fuzz_reply(const struct sent *sent, enum reply reply, const struct field *fields,
		       size_t count, uint64_t *random)
{
	bool matters[1000] = {false};

	write_reply(sent, reply);
	mark(matters, 0, fields, count);
	if (sent->request.protocol == IPPROTO_SCTP)
		memset(matters + 4, 0, 4); /* an ABORT may reflect a tag of 0 */
	fuzz(sent->probe, matters, 8, random);
}

Test(answer, random_changes)
{
	uint64_t random = 5837;

	for (size_t i = 0; i < COUNT(families); i++) {
		struct sent echo = send_probe(families[i], IPPROTO_ICMP, 0, 100);
		struct sent udp = send_probe(families[i], IPPROTO_UDP, 0, 100);
		struct sent syn = send_probe(families[i], IPPROTO_TCP, 0, 100);
		struct sent init = send_probe(families[i], IPPROTO_SCTP, 0, 100);
		fuzz_error(&echo, quoted_echo, COUNT(quoted_echo), &random);
		fuzz_error(&udp, quoted_udp, COUNT(quoted_udp), &random);
		fuzz_error(&syn, quoted_syn, COUNT(quoted_syn), &random);
		fuzz_error(&init, quoted_init, COUNT(quoted_init), &random);
		fuzz_reply(&echo, ECHO_REPLY, reply_echo, COUNT(reply_echo), &random);
		fuzz_reply(&udp, DATAGRAM, reply_datagram, COUNT(reply_datagram), &random);
		fuzz_reply(&syn, SYN_ACK, reply_segment, COUNT(reply_segment), &random);
		fuzz_reply(&syn, RST, reply_segment, COUNT(reply_segment), &random);
		fuzz_reply(&init, INIT_ACK, reply_chunk, COUNT(reply_chunk), &random);
		fuzz_reply(&init, ABORT, reply_chunk, COUNT(reply_chunk), &random);
	}
}
