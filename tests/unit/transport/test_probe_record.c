/*
 * Records of requests: each field arrives, the nonce is there where it may be, all that routers
 * hash stays constant for a flow, and nothing that the broker would refuse is sent.
 */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

#include "frontend/transport/probe_record.h"
#include "policy/validate.h"
#include "tests/support/packet.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static struct probe_numbers *numbers;

static void start(void)
{
	numbers = probe_numbers_open();
	cr_assert_not_null(numbers);
}

static void stop(void)
{
	probe_numbers_close(numbers);
}

TestSuite(probe_record, .init = start, .fini = stop);

static const uint8_t families[] = {4, 6};

static void address(uint8_t family, const char *text, uint8_t *bytes)
{
	memset(bytes, 0, 16);
	cr_assert_eq(inet_pton(family == 4 ? AF_INET : AF_INET6, text, bytes), 1);
}

static struct probe_request request_to(uint8_t family, uint8_t protocol)
{
	struct probe_request request = {
		.cookie = 0x50007,
		.family = family,
		.protocol = protocol,
		.ttl = 9,
		.tos = 0xb8,
		.size_bytes = 100,
		.port = 80,
	};

	address(family, family == 4 ? "198.18.0.2" : "2001:db8::2", request.destination);
	return request;
}

static struct record_probe make(const struct probe_request *request)
{
	struct record_probe probe;

	cr_assert_eq(probe_record_make(numbers, request, 0, &probe), 0);
	cr_assert_null(validate_probe(&probe), "%s", validate_probe(&probe));
	return probe;
}

Test(probe_record, fields)
{
	for (size_t i = 0; i < COUNT(families); i++) {
		struct probe_request request = request_to(families[i], IPPROTO_SCTP);
		request.flags = REQUEST_DONT_FRAGMENT | REQUEST_MARK;
		request.mark = 77;
		address(families[i], families[i] == 4 ? "198.18.0.1" : "2001:db8::1",
			request.source);
		struct record_probe probe = make(&request);
		cr_expect_eq(probe.kind, RECORD_PROBE);
		cr_expect_eq(probe.family, families[i]);
		cr_expect_eq(probe.protocol, IPPROTO_SCTP);
		cr_expect_eq(probe.ttl, 9);
		cr_expect_eq(probe.tos, 0xb8);
		cr_expect_eq(probe.flags, PROBE_DONT_FRAGMENT | PROBE_MARK);
		cr_expect_eq(probe.mark, 77);
		cr_expect_eq(probe.cookie, 0x50007);
		cr_expect_eq(probe.size_bytes, 100);
		cr_expect_eq(probe.port, 80);
		cr_expect_neq(probe.number, 0);
		cr_expect_arr_eq(probe.destination, request.destination, 16);
		cr_expect_arr_eq(probe.source, request.source, 16);
		request = request_to(families[i], IPPROTO_ICMP);
		request.ifindex = 4;
		probe = make(&request);
		cr_expect_eq(probe.port, 0);
		cr_expect_eq(probe.ifindex, 4);
	}
}

Test(probe_record, nonce_only_where_there_is_room_and_the_pattern_allows_it)
{
	static const struct {
		uint8_t payload_byte;
		bool random_payload, has_flow;
		uint16_t payload_bytes, payload_bytes_then;
		bool has_nonce;
	} cases[] = {
		{0, false, false, 72, 72, true},   {0, false, false, 8, 8, true},
		{0, false, false, 7, 7, false},    {0, false, false, 0, 0, false},
		{1, false, false, 72, 72, false},  {255, false, false, 72, 72, false},
		{200, true, false, 72, 72, true},  {200, true, false, 7, 7, false},
		{0, false, true, 72, 72, true},    {0, false, true, 0, 8, true},
		{0x5a, false, true, 72, 72, true}, {0x5a, false, true, 7, 8, true},
	};

	for (size_t i = 0; i < COUNT(cases) * COUNT(families); i++) {
		uint8_t family = families[i % 2];
		uint16_t headers_bytes = family == 4 ? 28 : 48;
		static const uint8_t none[RECORD_NONCE_BYTES];
		struct probe_request request = request_to(family, IPPROTO_ICMP);
		request.payload_byte = cases[i / 2].payload_byte;
		request.random_payload = cases[i / 2].random_payload;
		request.flags = cases[i / 2].has_flow ? REQUEST_FLOW : 0;
		request.size_bytes = (uint16_t)(headers_bytes + cases[i / 2].payload_bytes);
		struct record_probe probe = make(&request);
		cr_expect_eq((probe.flags & PROBE_NONCE) != 0, cases[i / 2].has_nonce, "%zu", i);
		cr_expect_eq(memcmp(probe.nonce, none, sizeof(none)) != 0, cases[i / 2].has_nonce,
			     "%zu", i);
		cr_expect_eq(probe.size_bytes, headers_bytes + cases[i / 2].payload_bytes_then,
			     "%zu", i);
		cr_expect_eq(probe.payload_byte, cases[i / 2].payload_byte);
	}
}

Test(probe_record, size_below_the_headers)
{
	struct probe_request request = request_to(4, IPPROTO_ICMP);

	request.size_bytes = 0;
	cr_expect_eq(make(&request).flags, 0);
}

/* The ICMP checksum of the packet that the broker builds for a probe. */
static uint16_t checksum_of(const struct record_probe *probe)
{
	static struct bytes packet;
	uint8_t source[16];
	bool is_ipv4 = probe->family == 4;

	address(probe->family, is_ipv4 ? "198.18.0.1" : "2001:db8::1", source);
	packet.count = 0;
	bytes_add16(&packet, is_ipv4 ? 8 << 8 : 128 << 8);
	bytes_add16(&packet, 0);
	bytes_add16(&packet, 40000u + probe->probe_id);
	bytes_add16(&packet, probe->number);
	bytes_add(&packet, probe->nonce, RECORD_NONCE_BYTES);
	size_t bytes = (size_t)probe->size_bytes - (is_ipv4 ? 20 : 40);
	bytes_fill(&packet, probe->payload_byte, bytes - packet.count);
	return is_ipv4 ? packet_checksum(packet.at, packet.count)
		       : packet_pseudo_checksum(6, source, probe->destination, IPPROTO_ICMPV6,
						packet.at, packet.count);
}

Test(probe_record, a_flow_keeps_what_routers_hash)
{
	static const uint32_t flows[] = {0, 1, 2, 15, 16, 0xfffd, 0xfffe, 0xffff, UINT32_MAX};
	static const uint16_t sizes[] = {0, 56, 57, 64, 65, 1500};

	for (size_t i = 0; i < COUNT(flows) * COUNT(families); i++) {
		struct probe_request request = request_to(families[i % 2], IPPROTO_ICMP);
		request.flags = REQUEST_FLOW;
		request.flow = flows[i / 2];
		struct record_probe first = make(&request);
		cr_expect_eq(first.flow_label != 0, request.family == 6);
		for (size_t k = 0; k < 1000; k++) {
			request.size_bytes = sizes[k % COUNT(sizes)];
			request.payload_byte = (uint8_t)k;
			struct record_probe probe = make(&request);
			cr_assert_eq(probe.probe_id, first.probe_id);
			cr_assert_eq(probe.flow_label, first.flow_label);
			cr_assert_eq(checksum_of(&probe), checksum_of(&first),
				     "IPv%u flow %u size %u", request.family, request.flow,
				     request.size_bytes);
		}
	}
}

/* Neighbours have other identifiers, those of one identifier other checksums. */
Test(probe_record, flows_differ)
{
	struct record_probe flows[10 * RECORD_PROBE_IDS];

	for (uint32_t flow = 0; flow < COUNT(flows); flow++) {
		struct probe_request request = request_to(6, IPPROTO_ICMP);
		request.flags = REQUEST_FLOW;
		request.flow = flow;
		flows[flow] = make(&request);
		for (uint32_t i = 0; i < flow; i++)
			cr_expect_neq(flows[flow].flow_label, flows[i].flow_label);
		if (flow == 0)
			continue;
		cr_expect_neq(flows[flow].probe_id, flows[flow - 1].probe_id);
		if (flow >= RECORD_PROBE_IDS)
			cr_expect_neq(checksum_of(&flows[flow]),
				      checksum_of(&flows[flow - RECORD_PROBE_IDS]));
	}
}

Test(probe_record, nonces_and_numbers_differ)
{
	struct probe_request request = request_to(4, IPPROTO_ICMP);
	struct record_probe last = make(&request);

	for (int i = 0; i < 1000; i++) {
		struct record_probe probe = make(&request);
		cr_assert_arr_neq(probe.nonce, last.nonce, sizeof(probe.nonce));
		cr_assert_neq(probe.number, last.number);
		last = probe;
	}
}

Test(probe_record, what_the_broker_would_end_for_is_refused)
{
	static const char *const destinations[][2] = {
		{"224.0.0.1", "ff02::1"}, {"255.255.255.255", "::"}, {"0.0.0.0", "::ffff:1.2.3.4"}};

	for (size_t i = 0; i < COUNT(destinations) * COUNT(families); i++) {
		struct probe_request request = request_to(families[i % 2], IPPROTO_ICMP);
		struct record_probe probe;
		address(families[i % 2], destinations[i / 2][i % 2], request.destination);
		cr_expect_eq(probe_record_make(numbers, &request, 0, &probe), EINVAL, "%zu", i);
	}
}

/* The loopback interface, where the kernel chooses ::1 for ::1. */
Test(probe_record, interface_and_source_over_ipv6)
{
	static const struct {
		uint8_t family;
		const char *destination, *source;
		bool has_interface;
		int error;
		bool keeps_source;
	} cases[] = {
		{6, "::1", "::1", false, 0, true},
		{6, "::1", "::1", true, 0, false},
		{6, "::1", "2001:db8::9", false, 0, true},
		{6, "::1", "2001:db8::9", true, EXDEV, false},
		{6, "fe80::1", "2001:db8::9", true, 0, true},
		{4, "127.0.0.1", "127.0.0.9", true, 0, true},
		{4, "127.0.0.1", "127.0.0.1", true, 0, true},
	};

	if (access("/proc/net/if_inet6", F_OK) != 0)
		cr_skip_test("no IPv6 here");
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct probe_request request = request_to(cases[i].family, IPPROTO_ICMP);
		struct record_probe probe;
		static const uint8_t none[16];
		address(cases[i].family, cases[i].destination, request.destination);
		address(cases[i].family, cases[i].source, request.source);
		request.ifindex = cases[i].has_interface ? if_nametoindex("lo") : 0;
		cr_expect_eq(probe_record_make(numbers, &request, 0, &probe), cases[i].error, "%zu",
			     i);
		cr_expect_eq(memcmp(probe.source, none, 16) != 0, cases[i].keeps_source, "%zu", i);
	}
}
