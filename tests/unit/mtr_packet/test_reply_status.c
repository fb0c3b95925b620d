/*
 * Each ICMP error of each family, from the destination and from another host, and each errno: the
 * reply status that the client gets, by both versions of mtr.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "frontend/mtr_packet/reply_status.h"

struct icmp_case {
	uint8_t family, type, code;
	enum reply_status from_other, from_destination;
	enum reply_status dont_fragment; /* from another host, with don't-fragment asked for */
};

#define SAME(status) (status), (status), (status)
#define UNREACHABLE  STATUS_NO_ROUTE, STATUS_REPLY, STATUS_NO_ROUTE
#define TOO_BIG      STATUS_NO_ROUTE, STATUS_REPLY, STATUS_PACKET_TOO_BIG

static const struct icmp_case icmp_cases[] = {
	{4, 11, 0, SAME(STATUS_TTL_EXPIRED)},
	{4, 11, 1, UNREACHABLE}, /* reassembly */
	{4, 3, 0, UNREACHABLE},
	{4, 3, 1, UNREACHABLE},
	{4, 3, 2, UNREACHABLE},
	{4, 3, 3, UNREACHABLE},
	{4, 3, 4, TOO_BIG},
	{4, 3, 13, UNREACHABLE},
	{4, 12, 0, UNREACHABLE},
	{4, 2, 0, UNREACHABLE}, /* what ICMPv6 calls too big */
	{6, 3, 0, SAME(STATUS_TTL_EXPIRED)},
	{6, 3, 1, UNREACHABLE},
	{6, 1, 0, UNREACHABLE},
	{6, 1, 1, UNREACHABLE},
	{6, 1, 3, UNREACHABLE},
	{6, 1, 4, UNREACHABLE},
	{6, 2, 0, TOO_BIG},
	{6, 4, 1, UNREACHABLE}, /* unknown next header */
	{6, 3, 4, UNREACHABLE}, /* what ICMP calls too big */
	{6, 11, 0, UNREACHABLE},
};

static struct probe_request probe;
static struct probe_result result;

static void start(void)
{
	memset(&probe, 0, sizeof(probe));
	memset(&result, 0, sizeof(result));
	memset(probe.destination, 0x20, 4);
	memset(result.responder, 0x20, 4);
	result.kind = RESULT_ICMP;
}

TestSuite(mtr_packet_reply_status, .init = start);

static enum reply_status status(enum compat compat)
{
	return reply_status_of_answer(&probe, &result, compat);
}

Test(mtr_packet_reply_status, icmp_errors)
{
	for (size_t i = 0; i < sizeof(icmp_cases) / sizeof(icmp_cases[0]); i++) {
		const struct icmp_case *this = &icmp_cases[i];
		start();
		probe.family = this->family;
		result.icmp_type = this->type;
		result.icmp_code = this->code;
		cr_expect_eq(status(COMPAT_0_95), this->from_destination, "case %zu", i);
		result.responder[3] ^= 1;
		cr_expect_eq(status(COMPAT_0_95), this->from_other, "case %zu", i);
		cr_expect_eq(status(COMPAT_0_96),
			     this->from_other == STATUS_NO_ROUTE ? STATUS_NO_ROUTE_HOST
								 : this->from_other,
			     "case %zu", i);
		probe.flags = REQUEST_DONT_FRAGMENT;
		cr_expect_eq(status(COMPAT_0_95), this->dont_fragment, "case %zu", i);
	}
}

Test(mtr_packet_reply_status, answers_in_the_probes_protocol)
{
	probe.family = 4;
	result.kind = RESULT_REPLY;
	result.icmp_type = 3;
	result.responder[3] ^= 1;
	cr_assert_eq(status(COMPAT_0_95), STATUS_REPLY);
}

Test(mtr_packet_reply_status, errnos)
{
	static const struct {
		int error;
		const char *name_95, *name_96;
	} cases[] = {
		{ENETUNREACH, "no-route", "no-route-network"},
		{EHOSTUNREACH, "no-route", "no-route-host"},
		{EHOSTDOWN, "no-route", "host-down"},
		{ENETDOWN, "network-down", "network-down"},
		{EPERM, "permission-denied", "permission-denied"},
		{EACCES, "permission-denied", "permission-denied"},
		{EADDRINUSE, "address-in-use", "address-in-use"},
		{EADDRNOTAVAIL, "address-not-available", "address-not-available"},
		{EINVAL, "invalid-argument", "invalid-argument"},
		{EXDEV, "invalid-argument", "invalid-argument"},
		{ENODEV, "invalid-argument", "invalid-argument"},
		{EMSGSIZE, "invalid-argument", "invalid-argument"},
		{ECONNRESET, "unexpected-error", "unexpected-error"},
		{EIO, "unexpected-error", "unexpected-error"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int error = cases[i].error;
		cr_expect_str_eq(
			reply_status_name(reply_status_of_errno(&probe, error, COMPAT_0_95)),
			cases[i].name_95);
		cr_expect_str_eq(
			reply_status_name(reply_status_of_errno(&probe, error, COMPAT_0_96)),
			cases[i].name_96);
		cr_expect_not(transport_error_passes(error));
	}
	probe.flags = REQUEST_DONT_FRAGMENT;
	cr_assert_eq(reply_status_of_errno(&probe, EMSGSIZE, COMPAT_0_95), STATUS_PACKET_TOO_BIG);
	cr_assert(transport_error_passes(ENOBUFS));
	cr_assert(transport_error_passes(EAGAIN));
	cr_assert(transport_error_passes(ENOMEM));
}

Test(mtr_packet_reply_status, only_ipv6_probes_that_may_be_fragmented_need_it)
{
	probe.family = 6;
	result.icmp_type = 2;
	cr_assert(needs_fragments(&probe, &result));
	probe.flags = REQUEST_DONT_FRAGMENT;
	cr_assert_not(needs_fragments(&probe, &result));
	probe.flags = 0;
	result.icmp_type = 1;
	cr_assert_not(needs_fragments(&probe, &result));
	probe.family = 4;
	result.icmp_type = 3;
	result.icmp_code = 4;
	cr_assert_not(needs_fragments(&probe, &result));
}
