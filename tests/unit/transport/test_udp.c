/*
 * UDP probes over loopback: to closed ports, which the kernel answers at once, and to sockets of
 * the test, which show what a probe looked like and answer when the test wants. ICMP errors of
 * routers are sent by a raw socket, where the test may have one. The tests that set up an interface
 * do it in a network namespace of their own.
 */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/record.h"
#include "common/wire.h"
#include "frontend/transport/icmp_types.h"
#include "frontend/process/clock.h"
#include "frontend/transport/icmp_types.h"
#include "frontend/transport/ip_family.h"
#include "frontend/transport/way.h"
#include "tests/support/packet.h"
#include "tests/support/way.h"

enum { WAIT_MS = 2000, QUIET_MS = 50, NONCE = 8, COOKIE_STEP = 65536 };

static void start(void)
{
	way_start(udp_open);
}

TestSuite(udp, .init = start, .fini = way_stop);

/* 6, or 4 where there is no IPv6. */
static uint8_t last_family(void)
{
	return (way_features & (uint32_t)FEATURE_UDP << FEATURE_IPV6_SHIFT) != 0 ? 6 : 4;
}

static struct probe_request request(uint8_t family, uint32_t cookie)
{
	struct probe_request made = {
		.cookie = cookie,
		.family = family,
		.protocol = IPPROTO_UDP,
		.ttl = 64,
		.size_bytes = 100,
	};

	if (family == 4)
		memcpy(made.destination, (const uint8_t[]){127, 0, 0, 1}, 4);
	else
		made.destination[15] = 1;
	return made;
}

/* --- sockets of the test that get the probes -------------------------------------------------- */

struct received {
	struct sockaddr_storage from;
	size_t length;
	int ttl;
	int tos;
	uint8_t payload[2000];
};

/* A bound socket and its port. */
static int open_sink(uint8_t family, uint16_t *port)
{
	struct probe_request made = request(family, 0);
	struct sockaddr_storage address;
	socklen_t length = ip_family_to_socket(family, made.destination, *port, 0, &address);
	const int on = 1;
	int fd = socket(ip_family(family)->domain, SOCK_DGRAM, 0);

	cr_assert_geq(fd, 0);
	if (family == 4) {
		cr_assert_eq(setsockopt(fd, IPPROTO_IP, IP_RECVTTL, &on, sizeof(on)), 0);
		cr_assert_eq(setsockopt(fd, IPPROTO_IP, IP_RECVTOS, &on, sizeof(on)), 0);
	} else {
		cr_assert_eq(setsockopt(fd, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, &on, sizeof(on)), 0);
		cr_assert_eq(setsockopt(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, &on, sizeof(on)), 0);
	}
	cr_assert_eq(bind(fd, (struct sockaddr *)&address, length), 0);
	length = sizeof(address);
	cr_assert_eq(getsockname(fd, (struct sockaddr *)&address, &length), 0);
	*port = ip_family_port(&address);
	return fd;
}

/* Two closed ports. The kernel gives the first one to no socket, for it is not in the local range;
 * the second one any user may bind. */
static void closed_ports(uint8_t family, uint16_t *one, uint16_t *other)
{
	*one = 2;
	close(open_sink(family, other));
}

static bool receive(int fd, struct received *received)
{
	_Alignas(struct cmsghdr) uint8_t control[200];
	struct iovec part = {received->payload, sizeof(received->payload)};
	struct msghdr message = {
		.msg_name = &received->from,
		.msg_namelen = sizeof(received->from),
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct pollfd wait = {fd, POLLIN, 0};

	if (poll(&wait, 1, QUIET_MS) != 1)
		return false;
	ssize_t length = recvmsg(fd, &message, 0);
	cr_assert_geq(length, 0);
	received->length = (size_t)length;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
		if (c->cmsg_type == IP_TTL || c->cmsg_type == IPV6_HOPLIMIT)
			memcpy(&received->ttl, CMSG_DATA(c), sizeof(int));
		else if (c->cmsg_type == IP_TOS)
			received->tos = *CMSG_DATA(c);
		else if (c->cmsg_type == IPV6_TCLASS)
			memcpy(&received->tos, CMSG_DATA(c), sizeof(int));
	}
	return true;
}

static void must_receive(int fd, struct received *received)
{
	cr_assert(receive(fd, received), "no probe came");
}

static void answer(int fd, const struct received *received)
{
	cr_assert_eq(sendto(fd, "x", 1, 0, (const struct sockaddr *)&received->from,
			    sizeof(received->from)),
		     1);
}

/* --- what comes back -------------------------------------------------------------------------- */

Test(udp, closed_port_is_an_icmp_error)
{
	for (uint8_t family = 4; family <= last_family(); family += 2) {
		struct probe_request made = request(family, family);

		way_probe(&made);
		way_run_until(way_count + 1, WAIT_MS);
		const struct probe_result *result = &way_results[family];
		cr_assert_eq(way_counts[family], 1);
		cr_expect_eq(result->kind, RESULT_ICMP);
		cr_expect_eq(result->icmp_type, icmp_types(family)->unreachable);
		cr_expect_eq(result->icmp_code, family == 4 ? 3 : 4);
		cr_expect_eq(memcmp(result->responder, made.destination, 16), 0);
		cr_expect_eq(result->known, KNOWN_REPLY_TTL | KNOWN_ICMP);
		cr_expect_eq(result->reply_ttl, 64);
		cr_expect(result->rtt_ns > 0 && result->rtt_ns < NS_PER_S);
		cr_expect_null(result->extension);
	}
}

Test(udp, datagram_from_the_destination_is_a_reply)
{
	for (uint8_t family = 4; family <= last_family(); family += 2) {
		struct probe_request made = request(family, family);
		struct received received;
		int fd = open_sink(family, &made.port);

		way_probe(&made);
		way_flush();
		must_receive(fd, &received);
		answer(fd, &received);
		way_run_until(way_count + 1, WAIT_MS);
		cr_assert_eq(way_counts[family], 1);
		cr_expect_eq(way_results[family].kind, RESULT_REPLY);
		cr_expect_eq(way_results[family].known, KNOWN_REPLY_TTL);
		cr_expect_eq(memcmp(way_results[family].responder, made.destination, 16), 0);
		close(fd);
	}
}

Test(udp, datagram_from_elsewhere_is_no_answer)
{
	for (uint8_t family = 4; family <= last_family(); family += 2) {
		struct probe_request made = request(family, family);
		struct received received;
		uint16_t other_port = 0;
		int fd = open_sink(family, &made.port), other = open_sink(family, &other_port);

		way_probe(&made);
		way_flush();
		must_receive(fd, &received);
		answer(other, &received);
		way_run_until(way_count + 1, QUIET_MS);
		cr_expect_eq(way_counts[family], 0);
		close(fd);
		close(other);
	}
}

/* --- what leaves ------------------------------------------------------------------------------ */

Test(udp, probe_is_as_asked_for)
{
	/* Sizes are of the whole packet beyond the headers. */
	static const struct {
		size_t asked, payload;
		uint8_t byte;
		bool random;
		uint32_t flags;
		size_t nonce; /* how many first bytes are not `byte` */
	} cases[] = {
		{.asked = 36, .payload = 36, .byte = 0, .nonce = 8},
		{.asked = 36, .payload = 36, .byte = 0xaa, .nonce = 0},
		{.asked = 36, .payload = 36, .byte = 0xaa, .random = true, .nonce = 8},
		{.asked = 8, .payload = 8, .byte = 0, .nonce = 8},
		{.asked = 3, .payload = 3, .byte = 0, .nonce = 3},
		{.asked = 0, .payload = 0, .byte = 0, .nonce = 0},
		{.asked = 1400, .payload = 1400, .byte = 7, .nonce = 0},
		{.asked = 36, .payload = 36, .byte = 9, .nonce = 0},
		{.asked = 0, .payload = 8, .byte = 9, .flags = REQUEST_FLOW, .nonce = 8},
	};
	static const uint8_t zero[NONCE];

	for (uint8_t family = 4; family <= last_family(); family += 2) {
		uint16_t port = 0;
		int fd = open_sink(family, &port);

		for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
			struct probe_request made = request(family, (uint32_t)i);
			struct received received;

			made.port = port;
			made.ttl = (uint8_t)(i + 1);
			made.tos = (uint8_t)(i * 4);
			made.payload_byte = cases[i].byte;
			made.random_payload = cases[i].random;
			made.flags = (uint16_t)cases[i].flags;
			made.size_bytes =
				(uint16_t)(wire_family(family)->header_bytes + 8 + cases[i].asked);
			way_probe(&made);
			way_flush();
			must_receive(fd, &received);
			cr_assert_eq(received.length, cases[i].payload, "case %zu", i);
			cr_expect_eq(received.ttl, made.ttl, "case %zu", i);
			cr_expect_eq(received.tos, made.tos, "case %zu", i);
			for (size_t k = cases[i].nonce; k < received.length; k++)
				cr_assert_eq(received.payload[k], cases[i].byte, "case %zu", i);
			if (cases[i].nonce == NONCE)
				cr_expect_neq(memcmp(received.payload, zero, NONCE), 0, "case %zu",
					      i);
		}
		close(fd);
	}
}

Test(udp, source_is_as_asked_for)
{
	struct probe_request made = request(4, 1);
	struct received received;
	uint8_t source[16];
	int fd = open_sink(4, &made.port);

	memcpy(made.source, (const uint8_t[]){127, 0, 0, 9}, 4);
	way_probe(&made);
	way_flush();
	must_receive(fd, &received);
	ip_family_from_socket((struct sockaddr *)&received.from, source);
	cr_expect_eq(memcmp(source, made.source, 16), 0);
	close(fd);
}

Test(udp, local_port_is_as_asked_for_and_given_back)
{
	for (uint8_t family = 4; family <= last_family(); family += 2) {
		struct probe_request made = request(family, 1);
		struct received received;
		uint16_t port = 0;

		close(open_sink(family, &port));
		made.local_port = port;
		int fd = open_sink(family, &made.port);
		/* With DF and without it are different sockets. */
		for (unsigned i = 0; i < 4; i++) {
			made.flags = i % 2 == 0 ? 0 : REQUEST_DONT_FRAGMENT;
			made.cookie += COOKIE_STEP;
			way_probe(&made);
			way_flush();
			must_receive(fd, &received);
			cr_expect_eq(ip_family_port(&received.from), port);
			answer(fd, &received);
			way_run_until(way_count + 1, WAIT_MS);
		}
		/* One waits for the other. */
		for (unsigned i = 0; i < 2; i++) {
			made.flags = i == 0 ? 0 : REQUEST_DONT_FRAGMENT;
			made.cookie = i;
			way_probe(&made);
		}
		for (unsigned i = 0; i < 2; i++) {
			way_flush();
			must_receive(fd, &received);
			answer(fd, &received);
			way_run_until(way_count + 1, WAIT_MS);
		}
		cr_expect_eq(way_counts[0], 1);
		cr_expect_eq(way_counts[1], 5);
		memset(way_counts, 0, sizeof(way_counts));
		way_flush();
		close(open_sink(family, &port));
		close(fd);
	}
}

Test(udp, flow_keeps_its_ports)
{
	for (uint8_t family = 4; family <= last_family(); family += 2) {
		uint16_t port = 0, source_ports[3];
		int fd = open_sink(family, &port);

		for (uint32_t i = 0; i < 6; i++) {
			struct probe_request made = request(family, i);
			struct received received;

			made.flags = REQUEST_FLOW;
			made.flow = 70 + i % 3;
			made.port = port;
			way_probe(&made);
			way_flush();
			must_receive(fd, &received);
			if (i < 3)
				source_ports[i] = ip_family_port(&received.from);
			else
				cr_expect_eq(ip_family_port(&received.from), source_ports[i - 3]);
		}
		cr_expect_neq(source_ports[0], source_ports[1]);
		cr_expect_neq(source_ports[1], source_ports[2]);
		close(fd);
	}
}

Test(udp, changing_ports_begin_at_33434)
{
	struct received received;
	uint16_t port = 33434, next_port = 33435;
	int fd = open_sink(4, &port), next = open_sink(4, &next_port);

	for (uint32_t i = 0; i < 2; i++) {
		struct probe_request made = request(4, i);
		way_probe(&made);
	}
	way_flush();
	must_receive(fd, &received);
	must_receive(next, &received);
	close(fd);
	close(next);
}

/* --- what cannot leave ------------------------------------------------------------------------ */

static void enter_namespace(int mtu)
{
	way_stop();
	if (!way_enter_namespace(mtu))
		cr_skip_test("needs CAP_SYS_ADMIN");
	start();
}

static void expect_failure(const struct probe_request *made, int error)
{
	size_t slot = made->cookie % TRANSPORT_SLOTS;

	way_counts[slot] = 0;
	way_probe(made);
	way_run_until(way_count + 1, WAIT_MS);
	cr_assert_eq(way_counts[slot], 1);
	cr_expect_eq(way_results[slot].kind, RESULT_FAILED);
	cr_expect_eq(way_results[slot].error, error, "%s", strerror(way_results[slot].error));
}

Test(udp, longer_than_the_link)
{
	enter_namespace(1500);
	for (uint8_t family = 4; family <= last_family(); family += 2) {
		struct probe_request made = request(family, 7);

		made.size_bytes = 1501;
		made.flags = REQUEST_DONT_FRAGMENT;
		expect_failure(&made, EMSGSIZE);
		cr_expect_eq(way_results[7].mtu_bytes, 1500);
		/* Not too long, or in fragments. */
		made.size_bytes = 1500;
		way_probe(&made);
		way_run_until(way_count + 1, WAIT_MS);
		cr_expect_eq(way_results[7].kind, RESULT_ICMP);
		made.flags = 0;
		made.size_bytes = 60000;
		way_probe(&made);
		way_run_until(way_count + 1, WAIT_MS);
		cr_expect_eq(way_results[7].kind, RESULT_ICMP);
		cr_expect_eq(way_counts[7], 3);
	}
}

Test(udp, no_route)
{
	enter_namespace(0);
	for (uint8_t family = 4; family <= last_family(); family += 2) {
		struct probe_request made = request(family, 7);

		expect_failure(&made, ENETUNREACH);
	}
}

Test(udp, source_of_another_host)
{
	for (uint8_t family = 4; family <= last_family(); family += 2) {
		struct probe_request made = request(family, 7);

		memcpy(made.source,
		       family == 4 ? (const uint8_t[16]){203, 0, 113, 1}
				   : (const uint8_t[16]){0x20, 1, 0x0d, 0xb8, [15] = 1},
		       16);
		expect_failure(&made, EADDRNOTAVAIL);
	}
}

Test(udp, local_port_of_another_program)
{
	for (uint8_t family = 4; family <= last_family(); family += 2) {
		struct probe_request made = request(family, 7);
		int fd = open_sink(family, &made.local_port);

		expect_failure(&made, EADDRINUSE);
		close(fd);
	}
}

Test(udp, no_such_interface)
{
	struct probe_request made = request(4, 7);

	made.ifindex = 0x7ffffff0;
	expect_failure(&made, ENODEV);
}

Test(udp, broadcast)
{
	struct probe_request made = request(4, 7);

	memcpy(made.destination, (const uint8_t[]){127, 255, 255, 255}, 4);
	expect_failure(&made, EACCES);
}

Test(udp, pending_error_does_not_swallow_the_next_probe)
{
	for (uint8_t family = 4; family <= last_family(); family += 2) {
		struct probe_request refused = request(family, 1), made = request(family, 2);
		struct received received;
		int fd = open_sink(family, &made.port);

		/* Both by the same socket. */
		closed_ports(family, &refused.port, &refused.local_port);
		made.local_port = refused.local_port;
		for (int i = 0; i < 100; i++) {
			refused.cookie += COOKIE_STEP;
			made.cookie += COOKIE_STEP;
			way_probe(&refused);
			way_flush();
			way_probe(&made);
			way_flush();
			must_receive(fd, &received);
			answer(fd, &received);
			way_run_until(way_count + 2, WAIT_MS);
			cr_assert_eq(way_results[1].kind, RESULT_ICMP);
			cr_assert_eq(way_results[2].kind, RESULT_REPLY);
			cr_assert_eq(way_results[2].cookie, made.cookie);
		}
		close(fd);
	}
}

/* --- many ------------------------------------------------------------------------------------- */

/* Sends `count` probes at once. Each must get just one result, and of this kind. */
static void expect_answers(const struct probe_request *like, uint32_t count)
{
	memset(way_counts, 0, sizeof(way_counts));
	way_count = 0;
	for (uint32_t i = 0; i < count; i++) {
		struct probe_request made = *like;
		made.cookie = i;
		way_probe(&made);
	}
	way_run_until(count, 10 * WAIT_MS);
	for (uint32_t i = 0; i < count; i++) {
		cr_assert_eq(way_counts[i], 1, "probe %u: %u results", i, way_counts[i]);
		cr_assert_eq(way_results[i].kind, RESULT_ICMP, "probe %u", i);
	}
}

Test(udp, many_to_changing_ports)
{
	enter_namespace(65536);
	for (uint8_t family = 4; family <= last_family(); family += 2) {
		struct probe_request made = request(family, 0);
		expect_answers(&made, 10000);
	}
}

Test(udp, no_port_is_used_twice_by_one_socket)
{
	uint16_t port = 33434;
	struct received first, second;
	int fd;

	enter_namespace(65536);
	fd = open_sink(4, &port);
	struct probe_request made = request(4, TRANSPORT_SLOTS - 1);
	way_probe(&made);
	way_flush();
	must_receive(fd, &first);
	way_cancel(made.cookie);
	made = request(4, 0);
	for (int sent = 1; sent + 1000 <= 65536 - 33434; sent += 1000)
		expect_answers(&made, 1000);
	while (!receive(fd, &second)) {
		made.cookie += COOKIE_STEP;
		way_probe(&made);
		way_flush();
		cr_assert_lt(made.cookie / COOKIE_STEP, 1000);
	}
	cr_expect_neq(ip_family_port(&first.from), ip_family_port(&second.from));
	close(fd);
}

Test(udp, many_to_one_port)
{
	for (uint8_t family = 4; family <= last_family(); family += 2) {
		struct probe_request made = request(family, 0);
		uint16_t other = 0;

		closed_ports(family, &made.port, &other);
		made.payload_byte = 1; /* no nonce helps */
		expect_answers(&made, 300);
	}
}

Test(udp, many_with_both_ports_fixed)
{
	for (uint8_t family = 4; family <= last_family(); family += 2) {
		struct probe_request made = request(family, 0);
		uint16_t local_port = 0;

		closed_ports(family, &made.port, &local_port);
		made.flags = REQUEST_FLOW;
		expect_answers(&made, 1000);
		made.flags = 0;
		made.local_port = local_port;
		expect_answers(&made, 1000);
	}
}

/* A probe to one port at a time leaves by one source port: `count` of them leave `count` idle
 * sockets. */
static void make_idle_sockets(uint8_t family, uint16_t *ports, uint32_t count)
{
	struct probe_request made = request(family, 0);
	struct received received[8];
	int fd = open_sink(family, &made.port);

	cr_assert_leq(count, 8);
	made.payload_byte = 1;
	for (made.cookie = 0; made.cookie < count; made.cookie++) {
		way_probe(&made);
		way_flush();
		must_receive(fd, &received[made.cookie]);
		ports[made.cookie] = ip_family_port(&received[made.cookie].from);
	}
	for (uint32_t i = 0; i < count; i++)
		answer(fd, &received[i]);
	way_run_until(way_count + count, WAIT_MS);
	close(fd);
}

Test(udp, idle_sockets_give_their_ports_back)
{
	for (uint8_t family = 4; family <= last_family(); family += 2) {
		struct probe_request made = request(family, 7);
		uint16_t ports[8], other;

		closed_ports(family, &made.port, &other);
		make_idle_sockets(family, ports, 8);
		/* To another probe at once, */
		for (uint32_t i = 0; i < 4; i++) {
			made.local_port = ports[i];
			way_probe(&made);
			way_run_until(way_count + 1, WAIT_MS);
			cr_expect_eq(way_results[7].kind, RESULT_ICMP, "%s",
				     strerror(way_results[7].error));
		}
		/* to other programs after a while. */
		usleep(1100 * 1000);
		way_flush();
		for (uint32_t i = 4; i < 8; i++)
			close(open_sink(family, &ports[i]));
	}
}

/* The kernel refuses all that leaves. */
static void refuse_sends(int error)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_sendmmsg, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog filter = {sizeof(code) / sizeof(code[0]), code};

	cr_assert_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	cr_assert_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter), 0);
}

Test(udp, errors_of_others_do_not_fail_a_probe)
{
	struct probe_request made = request(4, 1);

	refuse_sends(EHOSTUNREACH);
	way_probe(&made);
	way_run_until(way_count + 1, QUIET_MS);
	cr_expect_eq(way_counts[1], 0);
	way_cancel(made.cookie);
	/* The kernel has no such route: the error is the probe's own. */
	memcpy(made.destination, (const uint8_t[]){255, 255, 255, 255}, 4);
	expect_failure(&made, EHOSTUNREACH);
}

Test(udp, few_descriptors)
{
	struct probe_request made[2] = {request(4, 0), request(4, 0)};
	uint16_t other = 0;
	int fd;

	closed_ports(4, &made[0].port, &other);
	made[1].port = made[0].port;
	/* Of another kind: idle sockets make room. */
	made[1].flags = REQUEST_DONT_FRAGMENT;
	struct rlimit limit = {40, 40};
	way_stop();
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	start();
	while ((fd = dup(0)) >= 0)
		;
	/* The last four are for look-ups. */
	for (fd = 33; fd < 36; fd++)
		close(fd);
	for (int i = 0; i < 4; i++)
		expect_answers(&made[i % 2], 300);
}

/* --- late, forged and unclear answers --------------------------------------------------------- */

Test(udp, late_answer_is_not_the_next_probes)
{
	for (uint8_t family = 4; family <= last_family(); family += 2) {
		struct probe_request made = request(family, 1);
		struct received first, second;
		int fd = open_sink(family, &made.port);

		made.payload_byte = 1;
		way_probe(&made);
		way_flush();
		must_receive(fd, &first);
		way_cancel(made.cookie);
		made.cookie += COOKIE_STEP;
		way_probe(&made);
		way_flush();
		must_receive(fd, &second);
		cr_expect_neq(ip_family_port(&first.from), ip_family_port(&second.from));
		answer(fd, &first);
		way_run_until(way_count + 1, QUIET_MS);
		cr_expect_eq(way_counts[1], 0);
		answer(fd, &second);
		way_run_until(way_count + 1, WAIT_MS);
		cr_expect_eq(way_counts[1], 1);
		cr_expect_eq(way_results[1].cookie, made.cookie);
		way_counts[1] = 0;
		close(fd);
	}
}

Test(udp, cancelled_probe_does_not_leave)
{
	struct probe_request made = request(4, 1);
	struct received received;
	int fd = open_sink(4, &made.port);

	way_probe(&made);
	way_cancel(made.cookie + COOKIE_STEP);
	way_cancel(made.cookie);
	way_cancel(made.cookie);
	way_flush();
	cr_expect_not(receive(fd, &received));
	close(fd);
}

/* Sends an ICMP time exceeded about a probe from `from` to `port`, with what is given of its
 * payload and what follows that. `length_field` is RFC 4884's. */
static void send_time_exceeded(uint8_t family, const struct sockaddr_storage *from, uint16_t port,
			       uint8_t length_field, const struct bytes *payload)
{
	const struct wire_family *wire = wire_family(family);
	struct probe_request to = request(family, 0);
	struct packet_ip ip = {.family = family, .protocol = IPPROTO_UDP, .ttl = 1};
	static struct bytes message;
	int fd = socket(ip_family(family)->domain, SOCK_RAW, wire->icmp_protocol);

	if (fd < 0)
		cr_skip_test("needs CAP_NET_RAW");
	ip_family_from_socket((const struct sockaddr *)from, ip.source);
	memcpy(ip.destination, to.destination, 16);
	message.count = 0;
	bytes_add8(&message, icmp_types(family)->time_exceeded);
	bytes_fill(&message, 0, 7);
	message.at[icmp_types(family)->extension_length] = length_field;
	packet_add_ip(&message, &ip, 8 + 36);
	bytes_add16(&message, ip_family_port(from));
	bytes_add16(&message, port);
	bytes_add16(&message, 8 + 36);
	bytes_add16(&message, 0);
	bytes_add(&message, payload->at, payload->count);
	/* The kernel fills in that of ICMPv6. */
	if (family == 4)
		bytes_put16(&message, 2, packet_checksum(message.at, message.count));
	struct sockaddr_storage destination = *from;
	if (family == 6)
		((struct sockaddr_in6 *)&destination)->sin6_port = 0;
	cr_assert_eq(sendto(fd, message.at, message.count, 0, (struct sockaddr *)&destination,
			    family == 4 ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6)),
		     (ssize_t)message.count, "%s", strerror(errno));
	close(fd);
}

/* The first `count` bytes of a probe's payload. */
static struct bytes *quote(const struct received *received, size_t count)
{
	static struct bytes payload;

	payload.count = 0;
	bytes_add(&payload, received->payload, count);
	return &payload;
}

Test(udp, with_both_ports_fixed_the_nonce_decides)
{
	for (uint8_t family = 4; family <= last_family(); family += 2) {
		struct probe_request made = request(family, 0);
		struct received received[3];
		int fd = open_sink(family, &made.port);

		made.flags = REQUEST_FLOW;
		for (made.cookie = 0; made.cookie < 3; made.cookie++) {
			way_probe(&made);
			way_flush();
			must_receive(fd, &received[made.cookie]);
		}
		memset(way_counts, 0, sizeof(way_counts));
		send_time_exceeded(family, &received[1].from, made.port, 0,
				   quote(&received[1], NONCE));
		way_run_until(way_count + 1, WAIT_MS);
		cr_expect_eq(way_counts[1], 1);
		cr_expect_eq(way_results[1].icmp_type, icmp_types(family)->time_exceeded);
		/* Two are open: without the nonce neither is meant. */
		send_time_exceeded(family, &received[0].from, made.port, 0, quote(&received[0], 0));
		way_run_until(way_count + 1, QUIET_MS);
		cr_expect_eq(way_counts[0] + way_counts[2], 0);
		/* One is open: any other nonce is a forgery or too late, no nonce is an answer. */
		way_cancel(0);
		send_time_exceeded(family, &received[0].from, made.port, 0,
				   quote(&received[0], NONCE));
		way_run_until(way_count + 1, QUIET_MS);
		cr_expect_eq(way_counts[2], 0);
		send_time_exceeded(family, &received[2].from, made.port, 0, quote(&received[2], 0));
		way_run_until(way_count + 1, WAIT_MS);
		cr_expect_eq(way_counts[2], 1);
		close(fd);
	}
}

/* Also where the socket was closed between the two. */
Test(udp, late_answer_without_a_nonce_is_not_the_next_probes)
{
	for (uint8_t family = 4; family <= last_family(); family += 2) {
		struct probe_request made = request(family, 1);
		struct received received;
		int fd = open_sink(family, &made.port);

		close(open_sink(family, &made.local_port));
		made.payload_byte = 1;
		for (int round = 0; round < 2; round++) {
			made.cookie += COOKIE_STEP;
			way_probe(&made);
			way_flush();
			must_receive(fd, &received);
			if (round == 0)
				way_cancel(made.cookie);
		}
		way_counts[1] = 0;
		send_time_exceeded(family, &received.from, made.port, 0, quote(&received, 8));
		answer(fd, &received);
		way_run_until(way_count + 1, QUIET_MS);
		cr_expect_eq(way_counts[1], 0);
		/* Changing ports tell the probes apart. */
		way_cancel(made.cookie);
		made.port = 0;
		way_probe(&made);
		way_run_until(way_count + 1, WAIT_MS);
		cr_expect_eq(way_counts[1], 1);
		close(fd);
	}
}

Test(udp, forged_nonce_is_no_answer)
{
	for (uint8_t family = 4; family <= last_family(); family += 2) {
		struct probe_request made = request(family, 1);
		struct received received;
		int fd = open_sink(family, &made.port);

		way_counts[1] = 0;
		way_probe(&made);
		way_flush();
		must_receive(fd, &received);
		for (size_t i = 0; i < NONCE; i++) {
			received.payload[i] ^= 1;
			send_time_exceeded(family, &received.from, made.port, 0,
					   quote(&received, i + 1));
			received.payload[i] ^= 1;
		}
		way_run_until(way_count + 1, QUIET_MS);
		cr_expect_eq(way_counts[1], 0);
		send_time_exceeded(family, &received.from, made.port, 0, quote(&received, 5));
		way_run_until(way_count + 1, WAIT_MS);
		cr_expect_eq(way_counts[1], 1);
		close(fd);
	}
}

/* RFC 4884 with one MPLS label stack entry (RFC 4950), behind 128 bytes of the quoted packet. */
static void add_extension(struct bytes *payload, size_t headers_bytes)
{
	static const uint8_t mpls[] = {0, 8, 1, 1, 0x05, 0xdc, 0x11, 0xff};
	static struct bytes extension;

	bytes_fill(payload, 0, 128 - headers_bytes - payload->count);
	extension.count = 0;
	bytes_add32(&extension, 0x20000000);
	bytes_add(&extension, mpls, sizeof(mpls));
	bytes_put16(&extension, 2, packet_checksum(extension.at, extension.count));
	bytes_add(payload, extension.at, extension.count);
}

Test(udp, extensions_are_decoded)
{
	for (uint8_t family = 4; family <= last_family(); family += 2) {
		const struct wire_family *wire = wire_family(family);
		struct probe_request made = request(family, 1);
		struct received received;
		int fd = open_sink(family, &made.port);

		/* The place is told by the length field, or it is the old one. */
		for (int is_told = 0; is_told < 2; is_told++) {
			struct bytes *payload;

			made.cookie += COOKIE_STEP;
			way_probe(&made);
			way_flush();
			must_receive(fd, &received);
			payload = quote(&received, 36);
			add_extension(payload, wire->header_bytes + 8);
			send_time_exceeded(
				family, &received.from, made.port,
				(uint8_t)(is_told ? 128 / icmp_types(family)->extension_unit : 0),
				payload);
			memset(&way_extensions[1], 0, sizeof(way_extensions[1]));
			way_run_until(way_count + 1, WAIT_MS);
			cr_assert_eq(way_results[1].cookie, made.cookie);
			cr_assert_eq(way_extensions[1].mpls_count, 1, "told: %d", is_told);
			cr_expect_eq(way_extensions[1].mpls[0].label, 0x05dc1);
			cr_expect_eq(way_extensions[1].mpls[0].ttl, 0xff);
		}
		close(fd);
	}
}
