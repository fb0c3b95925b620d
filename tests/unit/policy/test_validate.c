/*
 * Which requests a broker serves: a good one of each kind, and that with one thing wrong.
 */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <string.h>

#include "policy/admission.h"

static struct record_probe good(uint8_t family, uint8_t protocol)
{
	struct record_probe request = {
		.kind = RECORD_PROBE,
		.family = family,
		.protocol = protocol,
		.ttl = 1,
		.port = protocol == IPPROTO_ICMP ? 0 : 80,
	};
	int domain = family == 4 ? AF_INET : AF_INET6;

	inet_pton(domain, family == 4 ? "198.18.0.1" : "2001:db8::1", request.source);
	inet_pton(domain, family == 4 ? "198.18.0.2" : "2001:db8::2", request.destination);
	return request;
}

static const uint8_t families[] = {4, 6};
static const uint8_t protocols[] = {IPPROTO_ICMP, IPPROTO_UDP, IPPROTO_TCP, IPPROTO_SCTP};

Test(admission, serves_every_protocol_in_both_families)
{
	for (size_t i = 0; i < 2; i++) {
		for (size_t k = 0; k < 4; k++) {
			struct record_probe request = good(families[i], protocols[k]);
			const char *refusal = admission_refusal(&request);
			cr_expect_null(refusal, "IPv%d %d: %s", families[i], protocols[k], refusal);
			request.ttl = 255;
			request.tos = 255;
			request.size_bytes = 65535;
			request.cookie = UINT32_MAX;
			request.ifindex = INT32_MAX;
			request.flags = PROBE_DONT_FRAGMENT | PROBE_MARK | PROBE_FLOW;
			request.mark = UINT32_MAX;
			request.flow = UINT32_MAX;
			cr_expect_null(admission_refusal(&request));
			request.ifindex++; /* the kernel's are positive int */
			cr_expect_not_null(admission_refusal(&request));
		}
	}
}

Test(admission, knows_no_other_family_or_protocol)
{
	for (unsigned int number = 0; number < 256; number++) {
		struct record_probe request = good(4, IPPROTO_UDP);
		request.family = (uint8_t)number;
		cr_expect_eq(admission_refusal(&request) == NULL, number == 4 || number == 6,
			     "family %u", number);
		request = good(4, IPPROTO_UDP);
		request.protocol = (uint8_t)number;
		bool known =
			number == IPPROTO_UDP || number == IPPROTO_TCP || number == IPPROTO_SCTP;
		/* ICMP would have a port here, and 58 is not how ICMPv6 is asked for. */
		cr_expect_eq(admission_refusal(&request) == NULL, known, "protocol %u", number);
	}
}

#define REFUSED(family, protocol, change)                                                          \
	do {                                                                                       \
		struct record_probe request = good(family, protocol);                              \
		cr_assert_null(admission_refusal(&request));                                       \
		change;                                                                            \
		cr_expect_not_null(admission_refusal(&request), "%s", #change);                    \
	} while (0)

Test(admission, refuses_what_is_not_defined)
{
	REFUSED(4, IPPROTO_UDP, request.kind = 0);
	REFUSED(4, IPPROTO_UDP, request.kind = RECORD_CANCEL);
	REFUSED(4, IPPROTO_UDP, request.reserved = 1);
	REFUSED(4, IPPROTO_UDP, request.reserved = 0x8000);
	REFUSED(4, IPPROTO_UDP, request.ttl = 0);
	for (unsigned int bit = 3; bit < 16; bit++)
		REFUSED(4, IPPROTO_UDP, request.flags = (uint16_t)(1u << bit));
	REFUSED(4, IPPROTO_UDP, request.mark = 1);
	REFUSED(4, IPPROTO_UDP, request.flow = 1);
	REFUSED(4, IPPROTO_UDP, (request.flags = PROBE_FLOW, request.mark = 1));
	REFUSED(4, IPPROTO_UDP, (request.flags = PROBE_MARK, request.flow = 1));
}

Test(admission, refuses_ports_that_do_not_go_with_the_protocol)
{
	REFUSED(4, IPPROTO_ICMP, request.port = 1);
	REFUSED(4, IPPROTO_TCP, request.port = 0);
	REFUSED(4, IPPROTO_SCTP, request.port = 0);
	REFUSED(4, IPPROTO_ICMP, request.source_port = 2000);
	REFUSED(4, IPPROTO_TCP, request.source_port = 2000);
	REFUSED(4, IPPROTO_SCTP, request.source_port = 2000);
	REFUSED(4, IPPROTO_UDP, request.source_port = 1);
	REFUSED(4, IPPROTO_UDP, request.source_port = 1023);

	struct record_probe request = good(4, IPPROTO_UDP);
	request.source_port = 1024;
	cr_expect_null(admission_refusal(&request));
	request.source_port = 65535;
	request.port = 0;
	cr_expect_null(admission_refusal(&request));
}

Test(admission, refuses_addresses_longer_than_their_family)
{
	for (size_t i = 4; i < 16; i++) {
		REFUSED(4, IPPROTO_UDP, request.destination[i] = 1);
		REFUSED(4, IPPROTO_UDP, request.source[i] = 0x80);
	}
}

Test(admission, needs_a_source)
{
	REFUSED(4, IPPROTO_UDP, memset(request.source, 0, 16));
	REFUSED(6, IPPROTO_UDP, memset(request.source, 0, 16));
}

Test(admission, sends_to_one_host_only)
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
		cr_expect_eq(admission_is_unicast(cases[i].family, request.destination),
			     cases[i].is_unicast, "%s", cases[i].address);
		cr_expect_eq(admission_refusal(&request) == NULL, cases[i].is_unicast, "%s",
			     cases[i].address);
	}
}
