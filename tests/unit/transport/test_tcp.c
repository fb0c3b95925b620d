/*
 * TCP probes to this host's own loopback addresses: open, closed and silent ports in both families,
 * and what happens when there is no room. ICMP errors need routers: tests/lab has them.
 */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/record.h"
#include "frontend/process/clock.h"
#include "frontend/transport/ip_family.h"
#include "frontend/transport/local_route.h"
#include "frontend/transport/way.h"

enum { RESULTS_MAX = 2048 };

static struct way way;
static int epoll_fd;
static uint32_t features;
static size_t count;
static struct probe_result results[RESULTS_MAX];

static void on_ready(void *context, uint32_t found)
{
	(void)context;
	features = found;
}

static void on_result(void *context, const struct probe_result *result)
{
	(void)context;
	cr_assert(count < RESULTS_MAX);
	results[count++] = *result;
}

static void open_way(void)
{
	static const struct transport_sink sink = {.ready = on_ready, .result = on_result};

	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	cr_assert(epoll_fd >= 0);
	tcp_open(&way, epoll_fd, &sink);
	way.functions->dispatch(way.self, RESULTS_MAX);
}

static void close_way(void)
{
	way.functions->close(way.self);
	close(epoll_fd);
}

TestSuite(tcp, .init = open_way, .fini = close_way, .timeout = 20);

static struct probe_request to_loopback(uint8_t family, uint16_t port)
{
	struct probe_request request = {
		.family = family, .protocol = IPPROTO_TCP, .ttl = 64, .port = port};

	inet_pton(family == 4 ? AF_INET : AF_INET6, family == 4 ? "127.0.0.1" : "::1",
		  request.destination);
	return request;
}

/* A listening socket, and its port. */
static int listen_on_loopback(uint8_t family, int backlog, uint16_t *port)
{
	struct probe_request any = to_loopback(family, 0);
	struct sockaddr_storage address;
	socklen_t length = ip_family_to_socket(family, any.destination, 0, 0, &address);
	int fd = socket(address.ss_family, SOCK_STREAM, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&address, length) != 0)
		cr_skip_test("no IPv%d here", family);
	cr_assert_eq(listen(fd, backlog), 0);
	cr_assert_eq(getsockname(fd, (struct sockaddr *)&address, &length), 0);
	*port = ntohs(family == 4 ? ((struct sockaddr_in *)&address)->sin_port
				  : ((struct sockaddr_in6 *)&address)->sin6_port);
	return fd;
}

static uint16_t closed_port(uint8_t family)
{
	uint16_t port;

	close(listen_on_loopback(family, 1, &port));
	return port;
}

static void send_probe(struct probe_request request, uint32_t cookie)
{
	request.cookie = cookie;
	way.functions->probe(way.self, &request);
}

/* Until there are `wanted` results, or nothing more is due. */
static void collect(size_t wanted)
{
	int64_t end_ns = clock_now_ns() + 5 * (int64_t)NS_PER_S;

	way.functions->flush(way.self);
	while (count < wanted && clock_now_ns() < end_ns) {
		struct pollfd ready = {.fd = epoll_fd, .events = POLLIN};
		int64_t wait_ns = way.functions->next_ns(way.self) - clock_now_ns();

		if (wait_ns > NS_PER_S)
			break;
		poll(&ready, 1, wait_ns > 0 ? (int)(wait_ns / NS_PER_MS + 1) : 0);
		way.functions->dispatch(way.self, RESULTS_MAX);
	}
}

Test(tcp, says_which_families_work)
{
	const uint32_t tcp = FEATURE_TCP | FEATURE_TCP << FEATURE_IPV6_SHIFT;

	cr_expect(features & FEATURE_TCP);
	cr_expect_eq(features & ~(tcp | FEATURE_MARK), 0);
}

static void expect_reply(uint8_t family, uint16_t port)
{
	struct probe_request request = to_loopback(family, port);

	count = 0;
	send_probe(request, 0x10007);
	collect(1);
	cr_assert_eq(count, 1);
	cr_expect_eq(results[0].kind, RESULT_REPLY);
	cr_expect_eq(results[0].cookie, 0x10007);
	cr_expect_arr_eq(results[0].responder, request.destination, 16);
	cr_expect(results[0].rtt_ns > 0 && results[0].rtt_ns < NS_PER_S / 2);
	cr_expect_eq(way.functions->next_ns(way.self), INT64_MAX, "something is left open");
}

Test(tcp, a_closed_port_is_a_reply)
{
	expect_reply(4, closed_port(4));
	expect_reply(6, closed_port(6));
}

/* And the connection is reset, not left to time out. */
Test(tcp, an_open_port_is_a_reply)
{
	for (uint8_t family = 4; family <= 6; family += 2) {
		uint16_t port;
		char byte;
		int server = listen_on_loopback(family, 1, &port);

		expect_reply(family, port);
		int connection = accept(server, NULL, NULL);
		cr_expect_eq(recv(connection, &byte, 1, 0), -1);
		cr_expect_eq(errno, ECONNRESET);
		close(connection);
		close(server);
	}
}

/* A port whose queue of connections is full: it drops every further SYN. */
struct full_port {
	int server, filler;
	uint16_t port;
};

static struct full_port full_port(void)
{
	struct full_port full;
	struct sockaddr_storage address;

	full.server = listen_on_loopback(4, 0, &full.port);
	full.filler = socket(AF_INET, SOCK_STREAM, 0);
	socklen_t length =
		ip_family_to_socket(4, to_loopback(4, 0).destination, full.port, 0, &address);
	cr_assert_eq(connect(full.filler, (struct sockaddr *)&address, length), 0);
	return full;
}

Test(tcp, a_probe_is_lost_before_the_kernel_repeats_it)
{
	struct full_port full = full_port();
	int64_t sent_ns = clock_now_ns();

	send_probe(to_loopback(4, full.port), 1);
	collect(1);
	int64_t passed_ns = clock_now_ns() - sent_ns;
	cr_assert_eq(count, 1);
	cr_expect_eq(results[0].kind, RESULT_LOST);
	cr_expect(passed_ns > 900 * (int64_t)NS_PER_MS && passed_ns < NS_PER_S, "%d ms",
		  (int)(passed_ns / NS_PER_MS));
}

/* The program was stopped until after the repetition, to which there is an answer. */
Test(tcp, an_answer_to_the_repetition_is_none)
{
	struct full_port full = full_port();

	send_probe(to_loopback(4, full.port), 1);
	way.functions->flush(way.self);
	close(accept(full.server, NULL, NULL));
	usleep(1300 * 1000);
	collect(1);
	cr_assert_eq(count, 1);
	cr_expect_eq(results[0].kind, RESULT_LOST);
}

Test(tcp, what_cannot_be_sent_fails)
{
	static const struct {
		const char *destination, *source;
		uint32_t ifindex;
		int error;
	} cases[] = {
		{"127.0.0.1", "203.0.113.1", 0, EADDRNOTAVAIL},
		{"127.0.0.1", "0.0.0.0", 999999, ENODEV},
		{"224.0.0.1", "0.0.0.0", 0, ENETUNREACH},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct probe_request request = to_loopback(4, 1);

		inet_pton(AF_INET, cases[i].destination, request.destination);
		inet_pton(AF_INET, cases[i].source, request.source);
		request.ifindex = cases[i].ifindex;
		count = 0;
		send_probe(request, 2);
		way.functions->flush(way.self);
		cr_expect_eq(count, 0, "a result outside of dispatch()");
		collect(1);
		cr_assert_eq(count, 1, "case %zu", i);
		cr_expect_eq(results[0].kind, RESULT_FAILED, "case %zu", i);
		cr_expect_eq(results[0].error, cases[i].error, "case %zu: errno %d", i,
			     results[0].error);
	}
}

/* A source that is not local does not become so by waiting. */
Test(tcp, what_cannot_be_sent_holds_up_no_other)
{
	struct full_port full = full_port();
	struct probe_request request = to_loopback(4, 1);

	inet_pton(AF_INET, "203.0.113.1", request.source);
	send_probe(to_loopback(4, full.port), 1);
	send_probe(request, 2);
	send_probe(to_loopback(4, closed_port(4)), 3);
	collect(2);
	cr_assert_eq(count, 2);
	for (size_t i = 0; i < 2; i++)
		cr_expect_eq(results[i].kind,
			     results[i].cookie == 2 ? RESULT_FAILED : RESULT_REPLY);
}

Test(tcp, the_source_is_the_one_asked_for)
{
	uint16_t port;
	int server = listen_on_loopback(4, 1, &port);
	struct probe_request request = to_loopback(4, port);
	struct sockaddr_in peer;
	socklen_t length = sizeof(peer);

	inet_pton(AF_INET, "127.0.0.9", request.source);
	send_probe(request, 3);
	collect(1);
	close(accept(server, (struct sockaddr *)&peer, &length));
	cr_expect_eq(peer.sin_addr.s_addr, inet_addr("127.0.0.9"));
	close(server);
}

/* What does not fit waits, and each probe still has its one result. */
Test(tcp, probes_wait_for_descriptors)
{
	enum { PROBES = 500, DESCRIPTORS = 60 };
	const struct rlimit few = {DESCRIPTORS, DESCRIPTORS};
	uint16_t port = closed_port(4);
	bool seen[PROBES] = {false};

	close_way();
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
	open_way();
	for (uint32_t i = 0; i < PROBES; i++)
		send_probe(to_loopback(4, port), i);
	collect(PROBES);
	cr_assert_eq(count, PROBES);
	for (size_t i = 0; i < count; i++) {
		cr_expect_eq(results[i].kind, RESULT_REPLY);
		cr_expect(!seen[results[i].cookie]);
		seen[results[i].cookie] = true;
	}
}

Test(tcp, a_cancelled_probe_has_no_result)
{
	uint16_t port = closed_port(4);

	send_probe(to_loopback(4, port), 5);
	send_probe(to_loopback(4, port), 6);
	way.functions->cancel(way.self, 5); /* before it left */
	way.functions->flush(way.self);
	way.functions->cancel(way.self, 6); /* after */
	way.functions->cancel(way.self, 7); /* there is none */
	collect(1);
	cr_expect_eq(count, 0);
	/* A cookie with the same slot is another probe. */
	send_probe(to_loopback(4, port), 0x10006);
	way.functions->cancel(way.self, 6);
	collect(1);
	cr_assert_eq(count, 1);
	cr_expect_eq(results[0].cookie, 0x10006);
}

/* As many probes as there are descriptors leave enough to look something up. */
Test(tcp, descriptors_are_left_for_look_ups)
{
	const struct rlimit few = {40, 40};
	struct full_port full = full_port();
	struct probe_request request = to_loopback(4, full.port);
	struct local_route route;

	close_way();
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
	open_way();
	for (uint32_t i = 0; i < 60; i++)
		send_probe(request, i);
	way.functions->flush(way.self);
	cr_expect_eq(local_route(&request, &route), 0);
	cr_expect_neq(interface_index("lo", 2), 0);
}

/* The port that the next connection came from. */
static uint16_t accepted_port(int listener)
{
	struct sockaddr_storage address;
	socklen_t length = sizeof(address);
	int fd = accept(listener, (struct sockaddr *)&address, &length);

	cr_assert_geq(fd, 0);
	close(fd);
	return ip_family_port(&address);
}

/* One probe after another: each connection is reset before the next. */
Test(tcp, a_flow_keeps_its_local_port)
{
	for (uint8_t family = 4; family <= 6; family += 2) {
		static const uint32_t flows[] = {7, 7, 8, 7};
		uint16_t port, ports[4];
		int listener = listen_on_loopback(family, 8, &port);
		struct probe_request request = to_loopback(family, port);

		request.flags = REQUEST_FLOW;
		for (uint32_t i = 0; i < 4; i++) {
			request.flow = flows[i];
			count = 0;
			send_probe(request, i);
			collect(1);
			cr_assert_eq(count, 1);
			cr_expect_eq(results[0].kind, RESULT_REPLY, "error %d", results[0].error);
			ports[i] = accepted_port(listener);
		}
		cr_expect_eq(ports[0], ports[1]);
		cr_expect_neq(ports[1], ports[2]);
		cr_expect_eq(ports[0], ports[3]);
		close(listener);
	}
}

Test(tcp, a_flow_whose_port_is_in_use_fails)
{
	uint16_t port;
	int listener = listen_on_loopback(4, 8, &port);
	struct probe_request request = to_loopback(4, port);

	request.flags = REQUEST_FLOW;
	request.flow = 9;
	send_probe(request, 1);
	send_probe(request, 2);
	collect(2);
	cr_assert_eq(count, 2);
	int failed = results[0].kind == RESULT_FAILED ? 0 : 1;
	cr_expect_eq(results[failed].kind, RESULT_FAILED);
	cr_expect_eq(results[failed].error, EADDRNOTAVAIL);
	cr_expect_eq(results[1 - failed].kind, RESULT_REPLY);
	close(listener);
}
