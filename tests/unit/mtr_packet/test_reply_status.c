/*
 * Each ICMP error of each family, from the destination and from another host, and each errno: the
 * word that the client gets, in both dialects.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "frontend/packet_verdict.h"

struct icmp_case {
	uint8_t family, type, code;
	enum verdict from_other, from_destination;
	enum verdict dont_fragment; /* from another host, with don't-fragment asked for */
};

#define SAME(verdict) (verdict), (verdict), (verdict)
#define UNREACHABLE   VERDICT_NO_ROUTE, VERDICT_REPLY, VERDICT_NO_ROUTE
#define TOO_BIG       VERDICT_NO_ROUTE, VERDICT_REPLY, VERDICT_PACKET_TOO_BIG

static const struct icmp_case icmp_cases[] = {
	{4, 11, 0, SAME(VERDICT_TTL_EXPIRED)},
	{4, 11, 1, UNREACHABLE}, /* reassembly */
	{4, 3, 0, UNREACHABLE},
	{4, 3, 1, UNREACHABLE},
	{4, 3, 2, UNREACHABLE},
	{4, 3, 3, UNREACHABLE},
	{4, 3, 4, TOO_BIG},
	{4, 3, 13, UNREACHABLE},
	{4, 12, 0, UNREACHABLE},
	{4, 2, 0, UNREACHABLE}, /* what ICMPv6 calls too big */
	{6, 3, 0, SAME(VERDICT_TTL_EXPIRED)},
	{6, 3, 1, UNREACHABLE},
	{6, 1, 0, UNREACHABLE},
	{6, 1, 1, UNREACHABLE},
	{6, 1, 3, UNREACHABLE},
	{6, 1, 4, UNREACHABLE},
	{6, 2, 0, TOO_BIG},
	{6, 4, 1, UNREACHABLE}, /* how IPv6 refuses a protocol */
	{6, 3, 4, UNREACHABLE}, /* what ICMP calls too big */
	{6, 11, 0, UNREACHABLE},
};

static struct record_probe probe;
static struct record_event event;

static void start(void)
{
	memset(&probe, 0, sizeof(probe));
	memset(&event, 0, sizeof(event));
	memset(probe.destination, 0x20, 4);
	memset(event.responder, 0x20, 4);
	event.what = EVENT_ICMP;
}

TestSuite(packet_verdict, .init = start);

static enum verdict verdict(enum compat compat)
{
	return verdict_of_answer(&probe, &event, compat);
}

Test(packet_verdict, icmp_errors)
{
	for (size_t i = 0; i < sizeof(icmp_cases) / sizeof(icmp_cases[0]); i++) {
		const struct icmp_case *this = &icmp_cases[i];
		start();
		probe.family = this->family;
		event.icmp_type = this->type;
		event.icmp_code = this->code;
		cr_expect_eq(verdict(COMPAT_0_95), this->from_destination, "case %zu", i);
		event.responder[3] ^= 1;
		cr_expect_eq(verdict(COMPAT_0_95), this->from_other, "case %zu", i);
		cr_expect_eq(verdict(COMPAT_0_96),
			     this->from_other == VERDICT_NO_ROUTE ? VERDICT_NO_ROUTE_HOST
								  : this->from_other,
			     "case %zu", i);
		probe.flags = PROBE_DONT_FRAGMENT;
		cr_expect_eq(verdict(COMPAT_0_95), this->dont_fragment, "case %zu", i);
	}
}

Test(packet_verdict, answers_in_the_probes_protocol)
{
	probe.family = 4;
	event.what = EVENT_REPLY;
	event.icmp_type = 3;
	event.responder[3] ^= 1;
	cr_assert_eq(verdict(COMPAT_0_95), VERDICT_REPLY);
}

Test(packet_verdict, errnos)
{
	static const struct {
		int error;
		const char *word_95, *word_96;
	} cases[] = {
		{ENETUNREACH, "no-route", "no-route-network"},
		{EHOSTUNREACH, "no-route", "no-route-host"},
		{EHOSTDOWN, "no-route", "host-down"},
		{ENETDOWN, "network-down", "network-down"},
		{EPERM, "permission-denied", "permission-denied"},
		{EACCES, "permission-denied", "permission-denied"},
		{EADDRINUSE, "address-in-use", "address-in-use"},
		{EMFILE, "probes-exhausted", "probes-exhausted"},
		{EADDRNOTAVAIL, "address-not-available", "address-not-available"},
		{EINVAL, "invalid-argument", "invalid-argument"},
		{EMSGSIZE, "invalid-argument", "invalid-argument"},
		{ECONNRESET, "unexpected-error", "unexpected-error"},
		{EIO, "unexpected-error", "unexpected-error"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int error = cases[i].error;
		cr_expect_str_eq(verdict_word(verdict_of_errno(&probe, error, COMPAT_0_95)),
				 cases[i].word_95);
		cr_expect_str_eq(verdict_word(verdict_of_errno(&probe, error, COMPAT_0_96)),
				 cases[i].word_96);
		cr_expect_not(verdict_is_shortage(error));
	}
	probe.flags = PROBE_DONT_FRAGMENT;
	cr_assert_eq(verdict_of_errno(&probe, EMSGSIZE, COMPAT_0_95), VERDICT_PACKET_TOO_BIG);
	cr_assert(verdict_is_shortage(ENOBUFS));
	cr_assert(verdict_is_shortage(EAGAIN));
	cr_assert(verdict_is_shortage(ENOMEM));
}
