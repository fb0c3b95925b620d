/*
 * The transports held together: who is asked for what, when they are ready, and that they work
 * within the sandboxes of the front end. Probes go to closed ports of loopback addresses; the
 * broker is one that cannot be started.
 */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/record.h"
#include "frontend/process/clock.h"
#include "frontend/transport/local_route.h"
#include "frontend/transport/transport.h"
#include "policy/sandbox.h"
#include "tests/support/sandbox.h"
#include "tests/support/way.h"

enum { RESULTS_MAX = 64, CLOSED_PORT = 1, LOOPBACK_MTU = 65536, GOOD = 42 };

static struct seen {
	unsigned ready, down, results;
	uint32_t features, lost;
	int error;
	struct probe_result result[RESULTS_MAX];
} seen;

static void on_ready(void *context, uint32_t features)
{
	struct seen *s = context;

	s->ready++;
	s->features = features;
}

static void on_result(void *context, const struct probe_result *result)
{
	struct seen *s = context;

	if (s->results < RESULTS_MAX)
		s->result[s->results++] = *result;
}

static void on_down(void *context, uint32_t lost, int error, const char *why)
{
	struct seen *s = context;

	s->down++;
	s->lost = lost;
	s->error = error;
	if (strchr(why, '\n') || strlen(why) == 0)
		s->down += 100;
}

static const struct transport_sink sink = {&seen, on_ready, on_result, on_down};
static const struct transport_options direct = {.without_broker = true};
static const struct transport_options no_such_broker = {.broker_path = "/nonexistent/broker"};

static void probe(struct transport *transport, uint8_t family, uint8_t protocol, uint32_t cookie)
{
	struct probe_request request = {
		.cookie = cookie,
		.family = family,
		.protocol = protocol,
		.ttl = 64,
		.port = CLOSED_PORT,
	};

	inet_pton(family == 4 ? AF_INET : AF_INET6, family == 4 ? "127.0.0.1" : "::1",
		  request.destination);
	transport_probe(transport, &request);
}

/* Waits as the commands do, until there are `results`, for two seconds at most. */
static void collect(struct transport *transport, unsigned results)
{
	int64_t end_ns = clock_now_ns() + 2 * (int64_t)NS_PER_S;

	transport_flush(transport);
	while (seen.results < results && clock_now_ns() < end_ns) {
		struct pollfd ready = {.fd = transport_fd(transport), .events = POLLIN};
		int64_t wait_ns = transport_next_ns(transport) - clock_now_ns();

		if (wait_ns > NS_PER_S)
			wait_ns = NS_PER_S;
		poll(&ready, 1, wait_ns > 0 ? (int)(wait_ns / NS_PER_MS + 1) : 0);
		transport_dispatch(transport, RESULTS_MAX);
	}
}

TestSuite(transport, .timeout = 20);

Test(transport, is_ready_at_once_without_a_broker)
{
	struct transport *transport = transport_open(&direct, &sink);

	cr_expect_eq(seen.ready, 0, "reported before dispatch");
	transport_dispatch(transport, RESULTS_MAX);
	transport_dispatch(transport, RESULTS_MAX);
	cr_expect_eq(seen.ready, 1);
	cr_expect_eq(seen.down, 0);
	cr_expect((seen.features & FEATURE_PROTOCOLS) == (FEATURE_UDP | FEATURE_TCP));
	transport_close(transport);
}

/* Goes on where ping sockets are open to all, or to nobody. */
static void enter_namespace(bool ping)
{
	if (!way_enter_namespace(LOOPBACK_MTU) ||
	    !way_write_sysctl("/proc/sys/net/ipv4/ping_group_range", ping ? "0 2147483647" : "1 0"))
		cr_skip_test("no network namespace: %s", strerror(errno));
}

static void without_a_broker(bool ping)
{
	uint32_t direct_protocols = FEATURE_UDP | FEATURE_TCP | (ping ? FEATURE_ICMP : 0);

	enter_namespace(ping);
	struct transport *transport = transport_open(&no_such_broker, &sink);
	transport_dispatch(transport, RESULTS_MAX);
	cr_expect_eq(seen.ready, 1);
	cr_expect_eq(seen.down, 1);
	cr_expect_eq(seen.error, ENOENT);
	for (uint32_t shift = 0; shift <= FEATURE_IPV6_SHIFT; shift += FEATURE_IPV6_SHIFT) {
		cr_expect_eq(seen.lost >> shift & FEATURE_PROTOCOLS,
			     FEATURE_PROTOCOLS & ~direct_protocols);
		cr_expect_eq(seen.features >> shift & FEATURE_PROTOCOLS, direct_protocols);
	}
	cr_expect(seen.features & FEATURE_MARK, "marks need no broker");
	transport_close(transport);
}

Test(transport, what_is_lost_when_the_broker_is_known_to_be_down)
{
	without_a_broker(false);
}

Test(transport, ping_sockets_serve_when_the_broker_is_known_to_be_down)
{
	without_a_broker(true);
}

/* In a network namespace whose loopback device is down. */
Test(transport, has_no_ipv6_where_it_is_disabled)
{
	if (unshare(CLONE_NEWNET) != 0)
		cr_skip_test("no network namespace: %s", strerror(errno));
	struct transport *transport = transport_open(&direct, &sink);

	transport_dispatch(transport, RESULTS_MAX);
	cr_expect_eq(seen.features & ~(uint32_t)FEATURE_MARK, FEATURE_UDP | FEATURE_TCP);
	transport_close(transport);
}

static void each_to_its_transport(bool ping)
{
	enter_namespace(ping);
	struct transport *transport = transport_open(&no_such_broker, &sink);

	transport_dispatch(transport, RESULTS_MAX);
	probe(transport, 4, IPPROTO_TCP, 1);
	probe(transport, 4, IPPROTO_UDP, 2);
	probe(transport, 4, IPPROTO_ICMP, 3);
	collect(transport, ping ? 3 : 2);
	cr_assert_eq(seen.results, ping ? 3 : 2);
	for (unsigned i = 0; i < seen.results; i++)
		cr_expect_eq(seen.result[i].kind,
			     seen.result[i].cookie == 2 ? RESULT_ICMP : RESULT_REPLY);
	transport_close(transport);
}

Test(transport, each_probe_goes_to_the_transport_of_its_protocol)
{
	each_to_its_transport(false);
}

Test(transport, without_a_broker_icmp_goes_to_ping_sockets)
{
	each_to_its_transport(true);
}

Test(transport, cancels_where_the_probe_is)
{
	struct transport *transport = transport_open(&direct, &sink);

	transport_dispatch(transport, RESULTS_MAX);
	probe(transport, 4, IPPROTO_TCP, 1);
	probe(transport, 4, IPPROTO_UDP, 2);
	probe(transport, 4, IPPROTO_UDP, 3);
	transport_cancel(transport, 1);
	transport_cancel(transport, 2);
	transport_cancel(transport, 99); /* unknown */
	collect(transport, 1);
	cr_assert_eq(seen.results, 1);
	cr_expect_eq(seen.result[0].cookie, 3);
	transport_close(transport);
}

Test(transport, raises_the_limit_of_descriptors)
{
	struct rlimit limit;

	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = limit.rlim_max / 2;
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	transport_close(transport_open(&direct, &sink));
	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	cr_expect_eq(limit.rlim_cur, limit.rlim_max);
}

/* All that the transports ask of the kernel, in both families. */
static int probe_within(void *context)
{
	static const struct {
		uint8_t number;
		uint32_t feature;
	} protocols[] = {
		{IPPROTO_UDP, FEATURE_UDP},
		{IPPROTO_TCP, FEATURE_TCP},
		{IPPROTO_ICMP, FEATURE_ICMP}, /* by ping sockets where they are open */
	};
	int (*const *enter)(void) = context;
	unsigned sent = 0;
	struct transport *transport = transport_open(&no_such_broker, &sink);
	struct probe_request request = {.family = 4, .destination = {127, 0, 0, 1}};
	struct local_route route;

	if ((*enter)() != 0)
		return 1;
	transport_dispatch(transport, RESULTS_MAX);
	for (uint8_t family = 4; family <= 6; family += 2) {
		uint32_t features = seen.features >> (family == 4 ? 0 : FEATURE_IPV6_SHIFT);

		for (size_t i = 0; i < sizeof(protocols) / sizeof(protocols[0]); i++)
			if (features & protocols[i].feature)
				probe(transport, family, protocols[i].number, sent++);
	}
	collect(transport, sent);
	if (sent < 2 || seen.results != sent)
		return 2;
	if (local_route(&request, &route) != 0 || interface_index("lo", 2) == 0)
		return 3;
	transport_close(transport);
	return GOOD;
}

Test(transport, works_within_the_sandboxes)
{
	int (*enter[])(void) = {sandbox_mtr_packet, sandbox_tracepath};

	if (geteuid() == 0)
		enter_namespace(true);
	for (size_t i = 0; i < 2; i++) {
		struct sandbox_end end = sandbox_run(probe_within, &enter[i]);
		cr_expect(end.signal == 0 && end.status == GOOD,
			  "sandbox %zu: signal %d, status %d", i, end.signal, end.status);
	}
}
