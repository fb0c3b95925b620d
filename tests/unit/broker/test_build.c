/*
 * The packets of probes, read with nothing but the RFCs: sizes, checksums, and every field, for
 * each protocol, both families, and many sizes.
 */
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <string.h>

#include "broker/build.h"
#include "common/wire.h"
#include "tests/support/packet.h"
#include "tests/support/probes.h"

TestSuite(build, .init = probes_start);

static const uint8_t families[] = {4, 6};
static struct bytes built; /* from the transport header on */
static int64_t now_ns = 1;

static size_t ip_bytes(const struct record_probe *request)
{
	return request->family == 4 ? 20 : 40;
}

/* Builds the packet, with guards behind what it may write; its probe is open. */
static struct probe *build(const struct record_probe *request)
{
	struct {
		struct packet packet;
		uint8_t guard[64];
	} made;

	memset(&made, 0xcc, sizeof(made));
	now_ns += 1000000;
	struct probe *probe = probes_open(request, now_ns, &made.packet);
	cr_assert_not_null(probe);
	for (size_t i = 0; i < sizeof(made.guard); i++)
		cr_assert_eq(made.guard[i], 0xcc);
	cr_assert_leq(made.packet.header_bytes, BUILD_HEADER_BYTES);
	cr_assert_leq(made.packet.payload_bytes, BUILD_PAYLOAD_BYTES);
	built.count = 0;
	bytes_add(&built, made.packet.header, made.packet.header_bytes);
	bytes_fill(&built, request->payload_byte, made.packet.payload_bytes);
	cr_assert_leq(ip_bytes(request) + built.count, 65535u);
	return probe;
}

/* What the request's size comes to, if the headers have `least` bytes and sizes go by `unit`. */
static size_t expected_bytes(const struct record_probe *request, size_t least)
{
	size_t size = request->size_bytes;

	return size < ip_bytes(request) + least ? least : size - ip_bytes(request);
}

static uint16_t sum_with_addresses(const struct record_probe *request, uint8_t protocol)
{
	return packet_pseudo_checksum(request->family, request->source, request->destination,
				      protocol, built.at, built.count);
}

static void check_echo(const struct record_probe *request, const struct probe *probe)
{
	cr_assert_eq(built.count, expected_bytes(request, 8));
	cr_expect_eq(built.at[0], request->family == 4 ? 8 : 128);
	cr_expect_eq(built.at[1], 0);
	/* The kernel computes ICMPv6's. */
	if (request->family == 4)
		cr_expect_eq(packet_checksum(built.at, built.count), 0);
	cr_expect_eq(wire_get16(built.at + 4), probe->identity.source_port);
	cr_expect_eq(wire_get16(built.at + 6), probe->identity.port);
	cr_expect(probes_holds(probe->identity.source_port));
	cr_expect_eq(probe->identity.token, 0);
}

static void check_udp(const struct record_probe *request, const struct probe *probe)
{
	cr_assert_eq(built.count, expected_bytes(request, 8));
	cr_expect_eq(sum_with_addresses(request, IPPROTO_UDP), 0);
	cr_expect_eq(wire_get16(built.at), probe->identity.source_port);
	cr_expect_eq(wire_get16(built.at + 2), probe->identity.port);
	cr_expect_eq(wire_get16(built.at + 4), built.count);
	cr_expect_eq(wire_get16(built.at + 6), probe->identity.token);
	cr_expect_neq(probe->identity.token, 0);
	if (request->port != 0)
		cr_expect_eq(probe->identity.port, request->port);
	else
		cr_expect_geq(probe->identity.port, 33434);
}

/* RFC 9293 3.1: kinds 0 and 1 are one byte, all others have a length. */
static void check_options(size_t header_bytes)
{
	static const uint8_t lengths[] = {[2] = 4, [3] = 3, [4] = 2, [8] = 10};
	uint32_t seen = 0;

	for (size_t at = 20; at < header_bytes;) {
		uint8_t kind = built.at[at];
		if (kind == 1) {
			at++;
			continue;
		}
		cr_assert_lt(kind, sizeof(lengths));
		cr_assert_neq(lengths[kind], 0, "option %d", kind);
		cr_assert_eq(built.at[at + 1], lengths[kind], "option %d", kind);
		cr_assert_eq(seen & 1u << kind, 0, "option %d twice", kind);
		seen |= 1u << kind;
		at += lengths[kind];
		cr_assert_leq(at, header_bytes);
	}
}

static void check_syn(const struct record_probe *request, const struct probe *probe)
{
	size_t header_bytes = (size_t)(built.at[12] >> 4) * 4;

	cr_assert_eq(built.count, expected_bytes(request, 20));
	cr_expect_eq(sum_with_addresses(request, IPPROTO_TCP), 0);
	cr_expect_eq(wire_get16(built.at), probe->identity.source_port);
	cr_expect_eq(wire_get16(built.at + 2), request->port);
	cr_expect_eq(wire_get32(built.at + 4), probe->identity.token);
	cr_expect_eq(wire_get32(built.at + 8), 0);
	cr_expect_eq(built.at[12] & 15, 0);
	cr_expect_eq(built.at[13], 0x02, "SYN and nothing else");
	cr_expect_eq(wire_get16(built.at + 18), 0);
	cr_assert_geq(header_bytes, 20);
	cr_assert_leq(header_bytes, built.count);
	check_options(header_bytes);
	cr_expect_eq(probe->payload_bytes, built.count - header_bytes);
	/* As many options as there is room for: 4, 8, 12 or 24 bytes. */
	size_t room = built.count - 20;
	size_t options = room >= 24 ? 24 : room >= 12 ? 12 : room / 4 * 4;
	cr_expect_eq(header_bytes, 20 + options);
	for (size_t i = header_bytes; i < built.count; i++)
		cr_assert_eq(built.at[i], request->payload_byte);
}

static uint32_t little_endian(const uint8_t *at)
{
	return (uint32_t)at[3] << 24 | (uint32_t)at[2] << 16 | (uint32_t)at[1] << 8 | at[0];
}

static void check_init(const struct record_probe *request, const struct probe *probe)
{
	size_t wanted = expected_bytes(request, 32);

	/* A padding parameter needs four bytes, a chunk ends at a multiple of four. */
	if (wanted < 36)
		wanted = 32;
	wanted = (wanted + 3) / 4 * 4;
	if (wanted + ip_bytes(request) > 65535)
		wanted -= 4;
	cr_assert_eq(built.count, wanted, "size %d: %zu", request->size_bytes, built.count);
	uint32_t told = little_endian(built.at + 8);
	memset(built.at + 8, 0, 4);
	cr_expect_eq(told, packet_crc32c(built.at, built.count));
	cr_expect_eq(wire_get16(built.at), probe->identity.source_port);
	cr_expect_eq(wire_get16(built.at + 2), request->port);
	cr_expect_eq(wire_get32(built.at + 4), 0, "an INIT has no verification tag");
	cr_expect_eq(built.at[12], 1);
	cr_expect_eq(built.at[13], 0);
	cr_expect_eq(wire_get16(built.at + 14), built.count - 12);
	cr_expect_eq(wire_get32(built.at + 16), probe->identity.token);
	cr_expect_neq(probe->identity.token, 0);
	cr_expect_geq(wire_get32(built.at + 20), 1500, "receiver window (RFC 9260 3.3.2)");
	cr_expect_neq(wire_get16(built.at + 24), 0);
	cr_expect_neq(wire_get16(built.at + 26), 0);
	if (built.count == 32)
		return;
	cr_expect_eq(wire_get16(built.at + 32), 0x8005);
	cr_expect_eq(wire_get16(built.at + 34), built.count - 32);
	for (size_t i = 36; i < built.count; i++)
		cr_assert_eq(built.at[i], request->payload_byte);
}

static void check(const struct record_probe *request, const struct probe *probe)
{
	switch (request->protocol) {
	case IPPROTO_ICMP:
		check_echo(request, probe);
		break;
	case IPPROTO_UDP:
		check_udp(request, probe);
		break;
	case IPPROTO_TCP:
		check_syn(request, probe);
		break;
	case IPPROTO_SCTP:
		check_init(request, probe);
		break;
	default:
		cr_assert_fail("an unknown protocol");
	}
}

static void build_and_check(struct record_probe *request)
{
	struct probe *probe = build(request);

	cr_expect_eq(probe->identity.family, request->family);
	cr_expect_eq(probe->identity.protocol, request->protocol);
	cr_expect_arr_eq(probe->identity.source, request->source, 16);
	cr_expect_arr_eq(probe->identity.destination, request->destination, 16);
	check(request, probe);
	probe_close(probe);
}

static const uint8_t protocols[] = {IPPROTO_ICMP, IPPROTO_UDP, IPPROTO_TCP, IPPROTO_SCTP};

static void all_sizes(uint8_t family, uint8_t protocol)
{
	static const uint16_t big[] = {576,   1280,  1499,  1500,  9000,  65400, 65529,
				       65530, 65531, 65532, 65533, 65534, 65535};
	struct record_probe request = probes_request(family, protocol);

	for (uint16_t size = 0; size <= 200; size++) {
		request.size_bytes = size;
		request.payload_byte = (uint8_t)(size * 7 + 255);
		build_and_check(&request);
	}
	for (size_t i = 0; i < sizeof(big) / sizeof(big[0]); i++) {
		request.size_bytes = big[i];
		build_and_check(&request);
	}
}

Test(build, every_protocol_family_and_size)
{
	for (size_t i = 0; i < 2; i++)
		for (size_t k = 0; k < 4; k++)
			all_sizes(families[i], protocols[k]);
}

Test(build, an_unused_packet_is_never_left_over)
{
	struct record_probe request = probes_request(4, IPPROTO_TCP);
	struct probe probe;
	struct packet packet;

	request.protocol = IPPROTO_IGMP;
	cr_expect_not(build_probe(&request, 1, &probe, &packet));
}

/* RFC 768: 0 means "none", and the other zero of one's complement arithmetic is sent. */
Test(build, a_udp_checksum_is_never_0)
{
	struct record_probe request = probes_request(4, IPPROTO_UDP);
	struct probe *probe = probe_slot(0);
	struct packet packet;
	int ones = 0;

	for (int i = 0; i < 300000; i++) {
		request.payload_byte = (uint8_t)i;
		request.size_bytes = (uint16_t)(28 + i % 99);
		if (!build_probe(&request, 1, probe, &packet))
			cr_assert_fail("no identity");
		if (probe->identity.token == 0 || wire_get16(packet.header + 6) == 0)
			cr_assert_fail("a checksum of 0");
		ones += probe->identity.token == 0xffff;
	}
	cr_expect_gt(ones, 0, "none of so many had this sum");
}

/* Many probes to one port: after the source ports, the checksum tells them apart. */
Test(build, the_checksum_of_tuned_udp_is_its_token)
{
	for (size_t i = 0; i < 2; i++) {
		struct record_probe request = probes_request(families[i], IPPROTO_UDP);
		int tuned = 0;
		request.port = 53;
		for (uint32_t k = 0; k < 400; k++) {
			request.cookie = k;
			request.size_bytes = (uint16_t)(ip_bytes(&request) + 10 + k % 190);
			struct probe *probe = build(&request);
			check_udp(&request, probe);
			size_t pure = 8;
			if (probe->is_tuned) {
				tuned++;
				pure += 2;
				cr_expect_eq(wire_get16(built.at + 8), probe->tuned_word);
				cr_expect_not(probe->ports_suffice);
			}
			for (size_t at = pure; at < built.count; at++)
				cr_assert_eq(built.at[at], request.payload_byte);
		}
		cr_expect_gt(tuned, 300);
		for (uint32_t k = 0; k < 400; k++)
			probe_close(probe_slot(k));
	}
}

/* What a router that hashes flows looks at must not change from probe to probe. */
Test(build, the_checksum_of_an_icmp_flow_is_constant)
{
	for (size_t i = 0; i < 2; i++) {
		struct record_probe request = probes_request(families[i], IPPROTO_ICMP);
		uint16_t identifier = 0, checksum = 0;
		request.flags = PROBE_FLOW;
		request.flow = 4711;
		for (uint32_t k = 0; k < 1000; k++) {
			request.cookie = k;
			request.size_bytes = (uint16_t)(k * 3);
			request.payload_byte = (uint8_t)k;
			struct probe *probe = build(&request);
			/* As the kernel will: over the addresses too. */
			if (request.family == 6) {
				bytes_put16(&built, 2, 0);
				bytes_put16(&built, 2, sum_with_addresses(&request, 58));
			} else {
				cr_expect_eq(packet_checksum(built.at, built.count), 0);
			}
			size_t wanted = expected_bytes(&request, 8);
			cr_expect_eq(built.count, wanted < 10 ? 10 : wanted);
			if (k == 0) {
				identifier = probe->identity.source_port;
				checksum = wire_get16(built.at + 2);
			}
			cr_assert_eq(wire_get16(built.at + 2), checksum, "probe %u", k);
			cr_assert_eq(wire_get16(built.at + 4), identifier, "probe %u", k);
			cr_assert_eq(wire_get16(built.at + 6), probe->identity.port);
		}
		for (uint32_t k = 0; k < 1000; k++)
			probe_close(probe_slot(k));
	}
}

Test(build, flows_of_udp_and_tcp_keep_their_ports)
{
	static const uint8_t of[] = {IPPROTO_UDP, IPPROTO_TCP, IPPROTO_SCTP};

	for (size_t i = 0; i < 3; i++) {
		struct record_probe request = probes_request(4, of[i]);
		uint32_t ports = 0;
		request.flags = PROBE_FLOW;
		request.flow = 99;
		for (uint32_t k = 0; k < 300; k++) {
			request.cookie = k;
			request.size_bytes = (uint16_t)(60 + k % 100);
			struct probe *probe = build(&request);
			check(&request, probe);
			if (k == 0)
				ports = wire_get32(built.at);
			cr_assert_eq(wire_get32(built.at), ports, "probe %u", k);
		}
		for (uint32_t k = 0; k < 300; k++)
			probe_close(probe_slot(k));
	}
}

/* Few flows share a checksum or ports, or choosing one would choose nothing. */
Test(build, flows_differ)
{
	struct record_probe request = probes_request(4, IPPROTO_ICMP);
	uint16_t checksums[64];
	int same = 0;

	request.flags = PROBE_FLOW;
	for (uint32_t k = 0; k < 64; k++) {
		request.cookie = k;
		request.flow = k;
		build(&request);
		checksums[k] = wire_get16(built.at + 2);
		for (uint32_t before = 0; before < k; before++)
			same += checksums[before] == checksums[k];
	}
	cr_expect_leq(same, 2);
}
