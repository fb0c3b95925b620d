/*
 * Routes to this host's own addresses, and those that there are none to. Nothing is sent.
 */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "frontend/transport/local_route.h"

static struct probe_request request_to(const char *destination)
{
	struct probe_request request = {.family = strchr(destination, ':') ? 6 : 4, .ttl = 1};

	cr_assert_eq(inet_pton(request.family == 4 ? AF_INET : AF_INET6, destination,
			       request.destination),
		     1);
	return request;
}

Test(local_route, source_and_mtu_of_loopback)
{
	static const char *const addresses[] = {"127.0.0.1", "::1"};

	for (size_t i = 0; i < 2; i++) {
		struct probe_request request = request_to(addresses[i]);
		struct local_route route;
		int error = local_route(&request, &route);

		if (request.family == 6 && error != 0)
			cr_skip_test("no IPv6 here");
		cr_expect_eq(error, 0);
		cr_expect_arr_eq(route.source, request.destination, 16);
		cr_expect(route.mtu_bytes >= 1280 && route.mtu_bytes <= 65536, "%u",
			  route.mtu_bytes);
	}
}

Test(local_route, the_source_asked_for)
{
	struct probe_request request = request_to("127.0.0.1");
	struct local_route route;

	inet_pton(AF_INET, "127.0.0.7", request.source);
	cr_expect_eq(local_route(&request, &route), 0);
	cr_expect_arr_eq(route.source, request.source, 16);
}

Test(local_route, says_why_there_is_none)
{
	static const struct {
		const char *destination, *source;
		uint32_t ifindex;
		int error;
	} cases[] = {
		{"127.0.0.1", "203.0.113.1", 0, EADDRNOTAVAIL},
		{"127.0.0.1", NULL, 999999, ENODEV},
		{"127.255.255.255", NULL, 0, EACCES}, /* broadcast */
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct probe_request request = request_to(cases[i].destination);
		struct local_route route;

		if (cases[i].source)
			inet_pton(AF_INET, cases[i].source, request.source);
		request.ifindex = cases[i].ifindex;
		int error = local_route(&request, &route);
		cr_expect_eq(error, cases[i].error, "case %zu: %s", i, strerror(error));
	}
}

static uint64_t packets_sent_on_loopback(void)
{
	unsigned long long packets = 0;
	char line[512];
	FILE *file = fopen("/proc/self/net/dev", "re");

	cr_assert_not_null(file);
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, " lo: %*u %*u %*u %*u %*u %*u %*u %*u %*u %llu", &packets) == 1)
			break;
	fclose(file);
	return packets;
}

static void expect_mtu(const char *destination, unsigned mtu_bytes)
{
	struct probe_request request = request_to(destination);
	struct local_route route;
	uint64_t sent = packets_sent_on_loopback();
	int error = local_route(&request, &route);

	if (request.family == 6 && error != 0)
		return;
	cr_assert_eq(error, 0, "%s: %s", destination, strerror(error));
	cr_expect_eq(route.mtu_bytes, mtu_bytes, "%s: %u", destination, route.mtu_bytes);
	cr_expect_eq(packets_sent_on_loopback(), sent, "something was sent");
}

/* A route's MTU is of no interest, and neither is that of a path. */
Test(local_route, mtu_of_the_link_and_nothing_sent)
{
	if (unshare(CLONE_NEWNET) != 0 || system("ip link set lo up mtu 65536") != 0)
		cr_skip_test("no network namespace");
	expect_mtu("127.0.0.1", 65535); /* the longest IPv4 packet */
	expect_mtu("::1", 65536);
	cr_assert_eq(system("ip link set lo mtu 1500"), 0);
	cr_assert_eq(system("ip route add 203.0.113.1 dev lo mtu 1400"), 0);
	expect_mtu("127.0.0.1", 1500);
	expect_mtu("203.0.113.1", 1500);
	expect_mtu("::1", 1500);
}

Test(local_route, interfaces_by_name)
{
	char longest[IFNAMSIZ + 1];

	cr_expect_eq(interface_index("lo", 2), if_nametoindex("lo"));
	cr_expect_eq(interface_index("lo0", 2), if_nametoindex("lo"),
		     "more than the length was read");
	cr_expect_eq(interface_index("", 0), 0);
	cr_expect_eq(interface_index("no-such", 7), 0);
	memset(longest, 'x', sizeof(longest));
	cr_expect_eq(interface_index(longest, sizeof(longest)), 0);
}
