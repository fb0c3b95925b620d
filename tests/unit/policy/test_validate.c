/*
 * Which requests are valid: a good one of each kind, and that with one thing wrong.
 */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <string.h>

#include "policy/validate.h"

static const uint8_t families[] = {4, 6};
static const uint8_t protocols[] = {IPPROTO_ICMP, IPPROTO_SCTP};

static struct record_probe good(uint8_t family, uint8_t protocol)
{
	struct record_probe request = {
		.kind = RECORD_PROBE,
		.family = family,
		.protocol = protocol,
		.ttl = 1,
		.port = protocol == IPPROTO_ICMP ? 0 : 80,
		.number = protocol == IPPROTO_ICMP ? 0 : 1,
	};
	int domain = family == 4 ? AF_INET : AF_INET6;

	inet_pton(domain, family == 4 ? "198.18.0.1" : "2001:db8::1", request.source);
	inet_pton(domain, family == 4 ? "198.18.0.2" : "2001:db8::2", request.destination);
	return request;
}

Test(validate, each_protocol_in_both_families_with_all_that_it_may_have)
{
	for (size_t i = 0; i < 4; i++) {
		struct record_probe request = good(families[i / 2], protocols[i % 2]);
		const char *wrong = validate_probe(&request);
		cr_expect_null(wrong, "IPv%d %d: %s", request.family, request.protocol, wrong);
		memset(request.source, 0, sizeof(request.source)); /* by route */
		cr_expect_null(validate_probe(&request));
		request.ttl = 255;
		request.tos = 255;
		request.payload_byte = 255;
		request.size_bytes = UINT16_MAX;
		request.cookie = UINT32_MAX;
		request.number = request.port == 0 ? UINT16_MAX : UINT32_MAX;
		request.port = request.port == 0 ? 0 : UINT16_MAX;
		request.ifindex = INT32_MAX;
		request.probe_id = RECORD_PROBE_IDS - 1;
		request.flags = PROBE_DONT_FRAGMENT | PROBE_MARK | PROBE_NONCE;
		request.mark = UINT32_MAX;
		memset(request.nonce, 255, sizeof(request.nonce));
		request.flow_label = request.family == 6 ? 0xfffff : 0;
		cr_expect_null(validate_probe(&request));
	}
}

Test(validate, no_other_family_or_protocol)
{
	for (unsigned int number = 0; number < 256; number++) {
		struct record_probe request = good(4, IPPROTO_SCTP);
		request.family = (uint8_t)number;
		cr_expect_eq(validate_probe(&request) == NULL, number == 4 || number == 6,
			     "family %u", number);
		request = good(6, IPPROTO_ICMP);
		request.protocol = (uint8_t)number;
		/* SCTP would need a port, and 58 is not how ICMPv6 is asked for. */
		cr_expect_eq(validate_probe(&request) == NULL, number == IPPROTO_ICMP,
			     "protocol %u", number);
	}
}

#define INVALID(family, protocol, change)                                                          \
	do {                                                                                       \
		struct record_probe request = good(family, protocol);                              \
		cr_assert_null(validate_probe(&request));                                          \
		change;                                                                            \
		cr_expect_not_null(validate_probe(&request), "%s", #change);                       \
	} while (0)

Test(validate, what_is_not_defined)
{
	INVALID(4, IPPROTO_ICMP, request.kind = 0);
	INVALID(4, IPPROTO_ICMP, request.kind = RECORD_ANSWER);
	INVALID(4, IPPROTO_ICMP, request.ttl = 0);
	INVALID(4, IPPROTO_ICMP, request.ifindex = (uint32_t)INT32_MAX + 1);
	INVALID(4, IPPROTO_ICMP, request.probe_id = RECORD_PROBE_IDS);
	INVALID(4, IPPROTO_ICMP, request.flow_label = 1);
	INVALID(6, IPPROTO_ICMP, request.flow_label = 0x100000);
	for (size_t i = 0; i < 7; i++)
		INVALID(4, IPPROTO_ICMP, request.reserved[i] = 1);
	for (unsigned int bit = 3; bit < 16; bit++)
		INVALID(4, IPPROTO_ICMP, request.flags = (uint16_t)(1u << bit));
}

Test(validate, a_field_without_its_flag)
{
	INVALID(4, IPPROTO_ICMP, request.mark = 1);
	INVALID(4, IPPROTO_ICMP, (request.flags = PROBE_NONCE, request.mark = 1));
	for (size_t i = 0; i < RECORD_NONCE_BYTES; i++)
		INVALID(4, IPPROTO_ICMP, request.nonce[i] = 1);
}

Test(validate, ports_and_numbers_of_the_protocol)
{
	INVALID(4, IPPROTO_ICMP, request.port = 1);
	INVALID(4, IPPROTO_ICMP, request.number = UINT16_MAX + 1);
	INVALID(4, IPPROTO_SCTP, request.port = 0);
	INVALID(4, IPPROTO_SCTP, request.number = 0);
}

Test(validate, addresses_longer_than_their_family)
{
	for (size_t i = 4; i < 16; i++) {
		INVALID(4, IPPROTO_ICMP, request.destination[i] = 1);
		INVALID(4, IPPROTO_ICMP, request.source[i] = 0x80);
	}
}

Test(validate, sends_to_one_host_only)
{
	static const struct {
		uint8_t family;
		const char *address;
		bool is_unicast;
	} cases[] = {
		{4, "0.0.0.0", false},
		{4, "0.1.2.3", false},
		{4, "1.0.0.0", true},
		{4, "127.0.0.1", true},
		{4, "198.18.0.1", true},
		{4, "223.255.255.255", true},
		{4, "224.0.0.0", false},
		{4, "224.0.0.1", false},
		{4, "239.255.255.255", false},
		{4, "240.0.0.0", false},
		{4, "255.255.255.254", false},
		{4, "255.255.255.255", false},
		{6, "::", false},
		{6, "::1", true},
		{6, "::2", false},
		{6, "::101", false},
		{6, "::127.0.0.1", false},
		{6, "::ffff:127.0.0.1", false},
		{6, "::ffff:224.0.0.1", false},
		{6, "::ffff:0:0", false},
		{6, "::fffe:127.0.0.1", true},
		{6, "0:0:0:0:1::", true},
		{6, "1::ffff:127.0.0.1", true},
		{6, "2001:db8::1", true},
		{6, "64:ff9b::198.18.0.1", true},
		{6, "fe80::1", true},
		{6, "fc00::1", true},
		{6, "ff00::", false},
		{6, "ff02::1", false},
		{6, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", false},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct record_probe request = good(cases[i].family, IPPROTO_ICMP);
		int domain = cases[i].family == 4 ? AF_INET : AF_INET6;
		memset(request.destination, 0, 16);
		cr_assert_eq(inet_pton(domain, cases[i].address, request.destination), 1);
		cr_expect_eq(validate_is_unicast(cases[i].family, request.destination),
			     cases[i].is_unicast, "%s", cases[i].address);
		cr_expect_eq(validate_probe(&request) == NULL, cases[i].is_unicast, "%s",
			     cases[i].address);
	}
}
