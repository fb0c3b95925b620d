/*
 * The broker's loop with real sockets, in a network namespace that has nothing but its loopback:
 * what is sent, what comes back, and what does not. The test is the front end. Raw sockets of the
 * test send the errors of routers that are not there.
 */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/ipv6.h>
#include <net/if.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "broker/fatal.h"
#include "broker/serve.h"
#include "broker/sockets.h"
#include "policy/descriptors.h"
#include "tests/support/packet.h"
#include "tests/support/sandbox.h"

enum {
	NOBODY = 65534,
	LOOPBACK = 1, /* its interface index */
	WAIT_MS = 2000,
	QUIET_MS = 50, /* nothing comes for so long: nothing will */
};

static bool lacks_ipv6;
static int front_fd = -1;
static pid_t broker = -1;
static struct record_hello hello;

/* Writes a setting of this network namespace. */
static void set(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	cr_assert_geq(fd, 0, "%s", path);
	cr_assert_eq(write(fd, value, strlen(value)), (ssize_t)strlen(value));
	close(fd);
}

static void enter_private_network(void)
{
	struct ifreq loopback = {.ifr_name = "lo"};

	if (unshare(CLONE_NEWNET) != 0)
		cr_skip_test("no network namespace: %s", strerror(errno));
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	loopback.ifr_flags = IFF_UP | IFF_RUNNING;
	cr_assert_eq(ioctl(fd, SIOCSIFFLAGS, &loopback), 0);
	close(fd);
}

/* The broker without its lock-down, with each descriptor where the real one has it. What it tells
 * this test are the held ports. */
static _Noreturn void run_broker(int channel_fd)
{
	struct broker_sockets sockets;
	struct record_hello ready = {.kind = RECORD_HELLO};
	int null_fd = open("/dev/null", O_RDWR);

	if (dup2(channel_fd, DESC_CHANNEL) < 0 || dup2(null_fd, DESC_NULL) < 0 ||
	    dup2(null_fd, DESC_STDERR) < 0 || close_range(DESC_STDERR + 1, ~0u, 0) != 0)
		_exit(99);
	alarm(20);
	if (lacks_ipv6 && !sandbox_fail_sockets(0, AF_INET6, EAFNOSUPPORT))
		_exit(98);
	sockets_open(&sockets);
	/* Nothing that follows needs a capability. */
	if (setresuid(NOBODY, NOBODY, NOBODY) != 0)
		_exit(99);
	memcpy(ready.held_port, sockets.held_port, sizeof(ready.held_port));
	if (send(DESC_CHANNEL, &ready, sizeof(ready), 0) < 0)
		_exit(97);
	serve(sockets.held_port);
}

static void start_broker(void)
{
	int ends[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
	broker = fork();
	cr_assert_geq(broker, 0);
	if (broker == 0)
		run_broker(ends[1]);
	close(ends[1]);
	front_fd = ends[0];
	cr_assert_eq(recv(front_fd, &hello, sizeof(hello), 0), (ssize_t)sizeof(hello));
}

static void start(void)
{
	enter_private_network();
	start_broker();
}

/* How the broker ended, which it is to do by itself. */
static int end_status(void)
{
	int status = 0;

	cr_assert_eq(waitpid(broker, &status, 0), broker);
	broker = -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static void stop(void)
{
	if (broker <= 0)
		return;
	close(front_fd);
	int status = end_status();
	cr_expect_eq(status, 0, "the channel is closed: %d", status);
}

TestSuite(serve, .init = start, .fini = stop);

static struct record_probe echo_to(const char *destination, uint32_t cookie)
{
	struct record_probe probe = {
		.kind = RECORD_PROBE,
		.family = strchr(destination, ':') == NULL ? 4 : 6,
		.protocol = IPPROTO_ICMP,
		.ttl = 64,
		.flags = PROBE_NONCE,
		.payload_byte = 0x6b,
		.cookie = cookie,
		.size_bytes = 64,
		.number = cookie & 0xffff,
		.nonce = {1, 2, 3, 4, 5, 6, 7, 8},
	};

	cr_assert_eq(
		inet_pton(probe.family == 4 ? AF_INET : AF_INET6, destination, probe.destination),
		1);
	return probe;
}

static void make_init(struct record_probe *probe, uint32_t tag)
{
	probe->protocol = IPPROTO_SCTP;
	probe->port = 80;
	probe->number = tag;
	probe->flags &= (uint16_t)~PROBE_NONCE;
	memset(probe->nonce, 0, sizeof(probe->nonce));
}

static void send_requests(const struct record_probe *probes, size_t count)
{
	cr_assert_eq(send(front_fd, probes, count * sizeof(*probes), 0),
		     (ssize_t)(count * sizeof(*probes)));
}

/* The next message, which begins with a record of `kind`. Returns its length. */
static size_t receive(uint8_t kind, void *records, size_t size)
{
	struct pollfd polled = {.fd = front_fd, .events = POLLIN};

	cr_assert_eq(poll(&polled, 1, WAIT_MS), 1, "no answer");
	ssize_t length = recv(front_fd, records, size, 0);
	cr_assert_gt(length, 0);
	cr_assert_eq(*(uint8_t *)records, kind, "kind %d", *(uint8_t *)records);
	return (size_t)length;
}

static void expect_quiet(void)
{
	struct pollfd polled = {.fd = front_fd, .events = POLLIN};

	cr_expect_eq(poll(&polled, 1, QUIET_MS), 0, "something came");
}

static int64_t now_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* --- echo ------------------------------------------------------------------------------------- */

static size_t least(size_t one, size_t other)
{
	return one < other ? one : other;
}

static void expect_reply(const struct record_probe *probe, size_t bytes)
{
	struct record_long_answer record;
	const struct record_answer *answer = &record.head;
	bool is_long = bytes > RECORD_SHORT_BYTES;
	const uint8_t *data = is_long ? record.data : answer->data;
	int64_t begin_ns = now_ns(CLOCK_MONOTONIC), begin_wall_ns = now_ns(CLOCK_REALTIME);

	send_requests(probe, 1);
	cr_assert_eq(receive(is_long ? RECORD_LONG_ANSWER : RECORD_ANSWER, &record, sizeof(record)),
		     is_long ? sizeof(record) : sizeof(*answer));
	cr_expect_eq(answer->cookie, probe->cookie);
	cr_expect_eq(answer->protocol, IPPROTO_ICMP);
	cr_expect_eq(answer->ttl, 64);
	cr_expect_arr_eq(answer->responder, probe->destination, 16);
	cr_expect_arr_eq(answer->local, probe->destination, 16, "the loopback's own address");
	cr_expect_eq(answer->ifindex, probe->family == 4 ? 0 : LOOPBACK);
	cr_expect_eq(answer->error, 0);
	cr_expect_eq(answer->packet_bytes, bytes);
	cr_assert_eq(answer->data_bytes, least(bytes, RECORD_LONG_BYTES));
	cr_expect_eq(data[0], probe->family == 4 ? 0 : 129);
	cr_expect_eq(data[4] << 8 | data[5], hello.held_port[probe->probe_id]);
	cr_expect_arr_eq(data + 8, probe->nonce, 8);
	for (size_t i = 16; i < answer->data_bytes; i++)
		cr_assert_eq(data[i], probe->payload_byte);
	for (size_t i = is_long ? 0 : bytes; i < RECORD_SHORT_BYTES; i++)
		cr_assert_eq(answer->data[i], 0, "unused");
	cr_expect(answer->sent_ns >= begin_ns && answer->sent_ns <= now_ns(CLOCK_MONOTONIC));
	cr_expect(answer->received_wall_ns >= begin_wall_ns &&
		  answer->received_wall_ns <= now_ns(CLOCK_REALTIME));
}

Test(serve, echo_over_both_families_in_every_size)
{
	static const char *const destinations[] = {"127.0.0.1", "::1"};
	static const uint16_t sizes[] = {56,   64,   100,  101,  120,  121,
					 1260, 1261, 1280, 1281, 9000, 65535};

	for (size_t i = 0; i < 2; i++) {
		for (size_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
			struct record_probe probe = echo_to(destinations[i], (uint32_t)k);
			size_t ip_bytes = probe.family == 4 ? 20 : 40;
			probe.size_bytes = sizes[k];
			probe.probe_id = (uint8_t)k;
			expect_reply(&probe, sizes[k] - ip_bytes);
			probe.flags |= PROBE_DONT_FRAGMENT;
			if (sizes[k] <= 9000)
				expect_reply(&probe, sizes[k] - ip_bytes);
		}
	}
}

Test(serve, a_batch_of_both_families_leaves_and_is_answered)
{
	struct record_probe probes[RECORD_BATCH];
	struct record_answer answers[RECORD_BATCH];
	bool seen[RECORD_BATCH] = {false};
	size_t count = 0;

	for (uint32_t i = 0; i < RECORD_BATCH; i++)
		probes[i] = echo_to(i % 3 == 0 ? "::1" : "127.0.0.1", i);
	send_requests(probes, RECORD_BATCH);
	while (count < RECORD_BATCH) {
		size_t bytes = receive(RECORD_ANSWER, answers, sizeof(answers));
		for (size_t i = 0; i < bytes / sizeof(answers[0]); i++, count++) {
			cr_assert_lt(answers[i].cookie, RECORD_BATCH);
			cr_assert_not(seen[answers[i].cookie]);
			seen[answers[i].cookie] = true;
		}
	}
	expect_quiet();
}

/* Gives the loopback another IPv6 address, which the kernel takes into use a little later. */
static void add_address(const char *text)
{
	struct in6_ifreq request = {.ifr6_prefixlen = 128, .ifr6_ifindex = LOOPBACK};
	struct sockaddr_in6 name = {.sin6_family = AF_INET6, .sin6_scope_id = LOOPBACK};
	int fd = socket(AF_INET6, SOCK_DGRAM, 0);
	int tries = 0;

	cr_assert_eq(inet_pton(AF_INET6, text, &request.ifr6_addr), 1);
	name.sin6_addr = request.ifr6_addr;
	cr_assert_eq(ioctl(fd, SIOCSIFADDR, &request), 0, "%s", strerror(errno));
	while (bind(fd, (struct sockaddr *)&name, sizeof(name)) != 0 && tries++ < 200)
		poll(NULL, 0, 10);
	cr_assert_lt(tries, 200, "%s: %s", text, strerror(errno));
	close(fd);
}

Test(serve, source_and_interface_are_those_asked_for)
{
	static const char *const destinations[] = {"127.0.0.1", "::1", "fe80::7"};
	static const char *const sources[] = {"127.0.0.77", "2001:db8::5", "fe80::7"};

	add_address("2001:db8::5");
	add_address("fe80::7");
	for (size_t i = 0; i < 3; i++) {
		struct record_probe probe = echo_to(destinations[i], 1);
		struct record_answer answer;
		struct record_answer failure;
		inet_pton(probe.family == 4 ? AF_INET : AF_INET6, sources[i], probe.source);
		probe.ifindex = LOOPBACK;
		send_requests(&probe, 1);
		receive(RECORD_ANSWER, &answer, sizeof(answer));
		cr_expect_arr_eq(answer.local, probe.source, 16);
		probe.ifindex = 99;
		send_requests(&probe, 1);
		receive(RECORD_FAILURE, &failure, sizeof(failure));
		cr_expect_eq(failure.error, ENODEV);
	}
}

/* The packet that the probe is, from its IP header on. */
static void capture(const struct record_probe *probe, uint8_t *packet, size_t size)
{
	int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_NONBLOCK, htons(ETH_P_ALL));
	struct record_answer answer;

	cr_assert_geq(fd, 0);
	send_requests(probe, 1);
	receive(RECORD_ANSWER, &answer, sizeof(answer));
	cr_assert_gt(recv(fd, packet, size, 0), 0);
	close(fd);
}

Test(serve, the_ip_header_is_as_asked_for)
{
	uint8_t packet[100];
	struct record_probe probe = echo_to("127.0.0.1", 1);

	for (int dont_fragment = 0; dont_fragment < 2; dont_fragment++) {
		probe.ttl = 7;
		probe.tos = 0xb8;
		probe.flags = PROBE_NONCE | (dont_fragment ? PROBE_DONT_FRAGMENT : 0);
		capture(&probe, packet, sizeof(packet));
		cr_expect_eq(packet[0], 0x45);
		cr_expect_eq(packet[1], 0xb8);
		cr_expect_eq(packet[6], dont_fragment ? 0x40 : 0);
		cr_expect_eq(packet[8], 7);
	}
	probe = echo_to("::1", 1);
	probe.ttl = 8;
	probe.tos = 0x25;
	probe.flow_label = 0xabcde;
	capture(&probe, packet, sizeof(packet));
	cr_expect_eq(packet[0] << 24 | packet[1] << 16 | packet[2] << 8 | packet[3], 0x625abcde);
	cr_expect_eq(packet[7], 8);
}

/* Another process in the namespace holds an exclusive flow label. */
static void hold_flow_label(void)
{
	struct {
		struct in6_addr destination;
		uint32_t label_be;
		uint8_t action, share;
		uint16_t flags, expires, linger;
		uint32_t reserved;
	} request = {.destination = IN6ADDR_LOOPBACK_INIT,
		     .label_be = htonl(0x12345),
		     .action = 0 /* IPV6_FL_A_GET */,
		     .share = 1 /* IPV6_FL_S_EXCL */,
		     .flags = 1 /* IPV6_FL_F_CREATE */};
	int fd = socket(AF_INET6, SOCK_DGRAM, 0);

	cr_assert_eq(setsockopt(fd, IPPROTO_IPV6, IPV6_FLOWLABEL_MGR, &request, sizeof(request)), 0,
		     "%s", strerror(errno));
}

Test(serve, a_flow_label_that_the_kernel_does_not_take_is_a_failure)
{
	struct record_probe probe = echo_to("::1", 1);
	struct record_answer failure;

	hold_flow_label();
	probe.flow_label = 0xabcde;
	send_requests(&probe, 1);
	receive(RECORD_FAILURE, &failure, sizeof(failure));
	cr_expect_eq(failure.error, EINVAL);
	probe.flow_label = 0;
	expect_reply(&probe, 24);
}

static void start_without_ipv6(void)
{
	enter_private_network();
	lacks_ipv6 = true;
	start_broker();
}

/* What stands in place of its sockets sends nothing and does not keep the broker awake. */
Test(serve, without_ipv6, .init = start_without_ipv6)
{
	struct record_probe probe = echo_to("::1", 3);
	struct record_answer failure;
	struct rusage used;

	for (int dont_fragment = 0; dont_fragment < 2; dont_fragment++) {
		probe.flags = dont_fragment ? PROBE_DONT_FRAGMENT | PROBE_NONCE : PROBE_NONCE;
		send_requests(&probe, 1);
		receive(RECORD_FAILURE, &failure, sizeof(failure));
		cr_expect_eq(failure.error, EAFNOSUPPORT);
		cr_expect_eq(failure.cookie, 3);
	}
	make_init(&probe, 9);
	send_requests(&probe, 1);
	receive(RECORD_FAILURE, &failure, sizeof(failure));
	cr_expect_eq(failure.error, EAFNOSUPPORT);
	probe = echo_to("127.0.0.1", 3);
	expect_reply(&probe, 44);
	poll(NULL, 0, 300);
	close(front_fd);
	cr_assert_eq(wait4(broker, NULL, 0, &used), broker);
	broker = -1;
	cr_expect_lt(used.ru_utime.tv_usec + used.ru_stime.tv_usec, 150000, "it never slept");
}

/* The second request of a slot takes it over, also in one message. */
Test(serve, a_slot_has_one_probe)
{
	struct record_probe probes[2] = {echo_to("127.0.0.1", 5), echo_to("127.0.0.2", 5 + 65536)};
	struct record_answer answer;

	send_requests(probes, 2);
	receive(RECORD_ANSWER, &answer, sizeof(answer));
	cr_expect_eq(answer.cookie, 5 + 65536);
	expect_quiet();
}

/* --- failures --------------------------------------------------------------------------------- */

Test(serve, what_the_kernel_refuses_is_a_failure_and_the_rest_goes_on)
{
	struct record_probe probes[4] = {echo_to("127.0.0.1", 0), echo_to("198.18.0.1", 1),
					 echo_to("127.0.0.1", 2), echo_to("127.0.0.1", 3)};
	struct record_answer failures[3];
	struct record_answer answers[2];

	probes[2].source[0] = 203; /* not local */
	send_requests(probes, 4);
	cr_assert_eq(receive(RECORD_FAILURE, failures, sizeof(failures)), 2 * sizeof(failures[0]));
	cr_expect_eq(failures[0].cookie, 1);
	cr_expect_eq(failures[0].error, ENETUNREACH);
	cr_expect_eq(failures[1].cookie, 2);
	cr_expect_neq(failures[1].error, 0);
	cr_assert_eq(receive(RECORD_ANSWER, answers, sizeof(answers)), sizeof(answers));
	cr_expect_eq(answers[0].cookie, 0);
	cr_expect_eq(answers[1].cookie, 3);
}

Test(serve, a_mark_needs_a_capability)
{
	struct record_probe probe = echo_to("127.0.0.1", 0);
	struct record_answer failure;

	probe.flags |= PROBE_MARK;
	probe.mark = 7;
	send_requests(&probe, 1);
	receive(RECORD_FAILURE, &failure, sizeof(failure));
	cr_expect_eq(failure.error, EPERM);
}

Test(serve, a_request_that_is_not_valid_is_the_end)
{
	struct record_probe probe = echo_to("224.0.0.1", 0);

	send_requests(&probe, 1);
	cr_expect_eq(end_status(), FATAL_BAD_REQUEST);
}

/* --- errors ----------------------------------------------------------------------------------- */

/* Sends an ICMP error from 127.0.0.9 that quotes `count` bytes of the probe. */
static void send_error(const struct record_probe *probe, size_t count)
{
	static struct bytes packet;
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in from = {.sin_family = AF_INET,
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK + 8)};
	struct packet_ip ip = {
		.family = 4, .protocol = probe->protocol, .ttl = 1, .source = {127, 0, 0, 1}};
	bool is_icmp = probe->protocol == IPPROTO_ICMP;

	memcpy(ip.destination, probe->destination, 4);
	packet.count = 0;
	bytes_add16(&packet, ICMP_TIME_EXCEEDED << 8);
	bytes_fill(&packet, 0, 6);
	packet_add_ip(&packet, &ip, probe->size_bytes - 20u);
	if (is_icmp)
		bytes_add32(&packet, ICMP_ECHO << 24);
	bytes_add16(&packet, hello.held_port[probe->probe_id]);
	bytes_add16(&packet, is_icmp ? probe->number : probe->port);
	if (is_icmp)
		bytes_add(&packet, probe->nonce, 8);
	else
		bytes_fill(&packet, 0, 12);
	if (!is_icmp)
		bytes_add32(&packet, probe->number);
	bytes_fill(&packet, 0x3c, count);
	bytes_put16(&packet, 2, packet_checksum(packet.at, packet.count));
	int fd = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
	cr_assert_geq(fd, 0);
	cr_assert_eq(bind(fd, (struct sockaddr *)&from, sizeof(from)), 0);
	cr_assert_eq(sendto(fd, packet.at, packet.count, 0, (struct sockaddr *)&to, sizeof(to)),
		     (ssize_t)packet.count);
	close(fd);
}

static void expect_error(const struct record_probe *probe, uint8_t kind, size_t more)
{
	static const uint8_t router[16] = {127, 0, 0, 9};
	struct record_long_answer answer;
	size_t bytes = 28u + (probe->protocol == IPPROTO_ICMP ? 16u : 20u) + more;

	send_requests(probe, 1);
	expect_quiet();
	send_error(probe, more);
	size_t size = receive(kind, &answer, sizeof(answer));
	cr_assert_eq(size, kind == RECORD_ANSWER ? sizeof(answer.head) : sizeof(answer));
	const uint8_t *data = kind == RECORD_ANSWER ? answer.head.data : answer.data;
	cr_expect_eq(answer.head.cookie, probe->cookie);
	cr_expect_eq(answer.head.protocol, IPPROTO_ICMP);
	cr_expect_arr_eq(answer.head.responder, router, 16);
	cr_expect_eq(answer.head.packet_bytes, bytes);
	cr_expect_eq(answer.head.data_bytes, least(bytes, RECORD_LONG_BYTES));
	cr_expect_eq(data[0], ICMP_TIME_EXCEEDED);
	cr_expect_eq(data[answer.head.data_bytes - 1], 0x3c);
	send_error(probe, more);
	expect_quiet(); /* the probe is closed */
}

Test(serve, errors_short_and_long)
{
	struct record_probe probe = echo_to("127.0.0.2", 9);
	static const size_t more[] = {1,         80 - 44,       80 - 44 + 1, 1000,
				      1240 - 44, 1240 - 44 + 1, 3000};

	set("/proc/sys/net/ipv4/icmp_echo_ignore_all", "1");
	probe.size_bytes = 5000;
	for (size_t i = 0; i < sizeof(more) / sizeof(more[0]); i++)
		expect_error(&probe, more[i] <= 80 - 44 ? RECORD_ANSWER : RECORD_LONG_ANSWER,
			     more[i]);
}

/* Another identifier or nonce than that of the open probe. */
Test(serve, what_answers_no_open_probe_is_not_passed_on)
{
	struct record_probe probe = echo_to("127.0.0.2", 9);

	set("/proc/sys/net/ipv4/icmp_echo_ignore_all", "1");
	send_requests(&probe, 1);
	probe.nonce[7] ^= 1;
	send_error(&probe, 28);
	probe.nonce[7] ^= 1;
	probe.probe_id ^= 1;
	send_error(&probe, 28);
	expect_quiet();
}

/* The kernel refuses the second request of the slot. */
Test(serve, a_failure_closes_the_slot)
{
	struct record_probe probes[2] = {echo_to("127.0.0.2", 9), echo_to("198.18.0.1", 9)};
	struct record_answer failure;

	set("/proc/sys/net/ipv4/icmp_echo_ignore_all", "1");
	send_requests(probes, 2);
	receive(RECORD_FAILURE, &failure, sizeof(failure));
	send_error(&probes[0], 28);
	expect_quiet();
}

/* --- SCTP ------------------------------------------------------------------------------------- */

/* An INIT ACK of an SCTP that is not there; the kernel computes no checksum for it. */
static void send_init_ack(const struct record_probe *probe)
{
	static struct bytes packet;
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in from = {.sin_family = AF_INET,
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1)};

	packet.count = 0;
	bytes_add16(&packet, probe->port);
	bytes_add16(&packet, hello.held_port[probe->probe_id]);
	bytes_add32(&packet, probe->number);
	bytes_add32(&packet, 0);
	bytes_add32(&packet, 2u << 24 | 100);
	bytes_fill(&packet, 0x44, 96);
	int fd = socket(AF_INET, SOCK_RAW, IPPROTO_SCTP);
	cr_assert_geq(fd, 0);
	cr_assert_eq(bind(fd, (struct sockaddr *)&from, sizeof(from)), 0);
	cr_assert_eq(sendto(fd, packet.at, packet.count, 0, (struct sockaddr *)&to, sizeof(to)),
		     (ssize_t)packet.count);
	close(fd);
}

Test(serve, sctp_answers_and_errors)
{
	struct record_probe probe = echo_to("127.0.0.2", 77);
	struct record_long_answer answer;

	make_init(&probe, 0xfedcba98);
	expect_error(&probe, RECORD_ANSWER, 8);
	send_requests(&probe, 1);
	expect_quiet();
	send_init_ack(&probe);
	cr_assert_eq(receive(RECORD_LONG_ANSWER, &answer, sizeof(answer)), sizeof(answer));
	cr_expect_eq(answer.head.cookie, 77);
	cr_expect_eq(answer.head.protocol, IPPROTO_SCTP);
	cr_expect_eq(answer.head.packet_bytes, 112);
	cr_expect_eq(answer.head.data_bytes, 112);
	cr_expect_eq(answer.data[12], 2);
}

/* --- a front end that does not read ----------------------------------------------------------- */

/* The broker stops reading requests when it cannot pass on answers, and goes on later. What was
 * sent is answered, but for replies that the receive buffer had no room for, which is none here. */
Test(serve, a_front_end_that_does_not_read_stops_the_broker_only_so_long)
{
	struct record_probe probes[RECORD_BATCH];
	struct record_answer answers[RECORD_BATCH];
	size_t sent = 0, answered = 0;

	for (int round = 0; round < 100000; round++) {
		for (uint32_t i = 0; i < RECORD_BATCH; i++) {
			probes[i] = echo_to("127.0.0.1", (uint32_t)sent + i);
			probes[i].probe_id = (uint8_t)((sent + i) / 65536 % RECORD_PROBE_IDS);
		}
		ssize_t length = send(front_fd, probes, sizeof(probes), MSG_DONTWAIT);
		if (length < 0) {
			cr_assert_eq(errno, EAGAIN);
			struct pollfd polled = {.fd = front_fd, .events = POLLOUT};
			if (poll(&polled, 1, QUIET_MS * 4) == 0)
				break;
			continue;
		}
		sent += RECORD_BATCH;
	}
	cr_assert_lt(sent, 65536u, "the broker kept reading");
	while (answered < sent)
		answered += receive(RECORD_ANSWER, answers, sizeof(answers)) / sizeof(answers[0]);
	cr_expect_eq(answered, sent);
	expect_quiet();
}

/* As much as there can be for one turn of the loop: a batch of long answers from each of two
 * sockets, and a failure. */
Test(serve, all_kinds_of_records_at_once)
{
	static struct record_long_answer answers[RECORD_BATCH];
	struct record_probe echos[RECORD_BATCH], inits[RECORD_BATCH];
	struct record_probe failing = echo_to("198.18.0.1", 2 * RECORD_BATCH);
	struct record_answer failure;
	uint32_t count = 0;

	set("/proc/sys/net/ipv4/icmp_echo_ignore_all", "1");
	for (uint32_t i = 0; i < RECORD_BATCH; i++) {
		echos[i] = echo_to("127.0.0.2", i);
		inits[i] = echo_to("127.0.0.2", RECORD_BATCH + i);
		make_init(&inits[i], i + 1);
	}
	send_requests(echos, RECORD_BATCH);
	send_requests(inits, RECORD_BATCH);
	expect_quiet();
	kill(broker, SIGSTOP);
	for (size_t i = 0; i < RECORD_BATCH; i++) {
		send_error(&echos[i], 1000);
		send_init_ack(&inits[i]);
	}
	send_requests(&failing, 1);
	kill(broker, SIGCONT);
	while (count < 2 * RECORD_BATCH) {
		size_t bytes = receive(RECORD_LONG_ANSWER, answers, sizeof(answers));
		for (size_t i = 0; i < bytes / sizeof(answers[0]); i++)
			cr_assert_eq(answers[i].head.cookie, count++);
	}
	receive(RECORD_FAILURE, &failure, sizeof(failure));
	cr_expect_eq(failure.cookie, 2 * RECORD_BATCH);
}

/* --- anything at all -------------------------------------------------------------------------- */

/* Valid requests with a few random bytes: the broker serves them, or ends because of them. */
Test(serve, random_requests, .init = enter_private_network)
{
	uint64_t random = 1977;
	int invalid = 0;

	for (int round = 0; round < 200; round++) {
		struct record_probe probes[4];
		for (uint32_t i = 0; i < 4; i++) {
			uint8_t *bytes = (uint8_t *)&probes[i];
			probes[i] = echo_to(i % 2 == 0 ? "127.0.0.1" : "::1", i);
			if (packet_random(&random) % 4 == 0)
				bytes[packet_random(&random) % sizeof(probes[i])] =
					(uint8_t)packet_random(&random);
		}
		start_broker();
		send_requests(probes, 4);
		cr_assert_eq(poll(&(struct pollfd){.fd = front_fd, .events = POLLIN}, 1, WAIT_MS),
			     1);
		close(front_fd);
		int status = end_status();
		cr_assert(status == 0 || status == FATAL_BAD_REQUEST, "status %d", status);
		invalid += status != 0;
	}
	cr_expect(invalid > 20 && invalid < 180, "%d", invalid);
}
