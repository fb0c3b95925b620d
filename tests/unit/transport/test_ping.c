/*
 * ICMP echo by ping sockets, in a network namespace of the test's own where they are open to all.
 * The kernel answers its own echo requests there, until the test switches that off and answers by
 * raw sockets. A packet socket shows what the probes look like.
 */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/record.h"
#include "common/wire.h"
#include "frontend/process/clock.h"
#include "frontend/transport/icmp_types.h"
#include "frontend/transport/ip_family.h"
#include "tests/support/packet.h"
#include "tests/support/way.h"

enum {
	WAIT_MS = 2000,
	QUIET_MS = 50,
	NONCE = 8,
	HEADER = 8, /* of ICMP */
	MTU = 1500,
	PAYLOAD = 36,
};

static int packet_fd = -1;

static void set(const char *path, const char *value)
{
	if (!way_write_sysctl(path, value))
		cr_skip_test("cannot write %s", path);
}

static void start(void)
{
	if (!way_enter_namespace(MTU))
		cr_skip_test("needs CAP_SYS_ADMIN");
	set("/proc/sys/net/ipv4/ping_group_range", "0 2147483647");
	packet_fd = socket(AF_PACKET, SOCK_DGRAM, htons(ETH_P_ALL));
	cr_assert_geq(packet_fd, 0);
	way_start(ping_open);
}

static void stop(void)
{
	way_stop();
	close(packet_fd);
}

TestSuite(ping, .init = start, .fini = stop, .timeout = 60);

static void no_answers_by_the_kernel(void)
{
	set("/proc/sys/net/ipv4/icmp_echo_ignore_all", "1");
	set("/proc/sys/net/ipv6/icmp/echo_ignore_all", "1");
}

/* 6, or 4 where there is no IPv6. */
static uint8_t last_family(void)
{
	return (way_features & (uint32_t)FEATURE_ICMP << FEATURE_IPV6_SHIFT) != 0 ? 6 : 4;
}

static struct probe_request request(uint8_t family, uint32_t cookie)
{
	struct probe_request made = {
		.cookie = cookie,
		.family = family,
		.protocol = IPPROTO_ICMP,
		.ttl = 64,
		.size_bytes = (uint16_t)(wire_family(family)->header_bytes + HEADER + PAYLOAD),
	};

	if (family == 4)
		memcpy(made.destination, (const uint8_t[]){127, 0, 0, 1}, 4);
	else
		made.destination[15] = 1;
	return made;
}

/* --- probes as they are on the wire ----------------------------------------------------------- */

struct seen {
	uint8_t packet[2000];
	size_t length;
	struct wire_ip ip; /* points into `packet` */
	uint16_t identifier, sequence;
	const uint8_t *payload;
	size_t payload_bytes;
};

static bool read_echo_request(struct seen *seen)
{
	if (!wire_ip_read(seen->packet, seen->length, &seen->ip) ||
	    seen->ip.protocol != seen->ip.family->icmp_protocol ||
	    seen->ip.transport[0] != seen->ip.family->echo_request)
		return false;
	seen->identifier = wire_get16(seen->ip.transport + 4);
	seen->sequence = wire_get16(seen->ip.transport + 6);
	seen->payload = seen->ip.transport + HEADER;
	seen->payload_bytes = seen->ip.transport_bytes - HEADER;
	return true;
}

static uint8_t tos_of(const struct seen *seen)
{
	return seen->ip.family->family == 4 ? seen->packet[1]
					    : (uint8_t)(wire_get16(seen->packet) >> 4);
}

/* The next echo request that arrives over the loopback interface. */
static bool see(struct seen *seen)
{
	struct pollfd wait = {packet_fd, POLLIN, 0};

	while (poll(&wait, 1, QUIET_MS) == 1) {
		struct sockaddr_ll from;
		socklen_t from_bytes = sizeof(from);
		ssize_t length = recvfrom(packet_fd, seen->packet, sizeof(seen->packet), 0,
					  (struct sockaddr *)&from, &from_bytes);

		cr_assert_gt(length, 0);
		seen->length = (size_t)length;
		if (from.sll_pkttype != PACKET_OUTGOING && read_echo_request(seen))
			return true;
	}
	return false;
}

static void send_and_see(const struct probe_request *made, struct seen *seen)
{
	way_probe(made);
	way_flush();
	cr_assert(see(seen), "no probe came");
}

/* --- answers of the kernel -------------------------------------------------------------------- */

Test(ping, features_are_those_of_both_families)
{
	cr_expect((way_features & FEATURE_ICMP) != 0);
	cr_expect((way_features & ~(uint32_t)(FEATURE_ICMP | FEATURE_ICMP << FEATURE_IPV6_SHIFT |
					      FEATURE_MARK)) == 0);
}

Test(ping, nothing_works_for_groups_out_of_range)
{
	way_stop();
	set("/proc/sys/net/ipv4/ping_group_range", "1 0");
	way_start(ping_open);
	cr_expect_eq(way_features & ~(uint32_t)FEATURE_MARK, 0);
}

Test(ping, kernel_replies)
{
	for (uint8_t family = 4; family <= last_family(); family += 2) {
		struct probe_request made = request(family, family);

		way_probe(&made);
		way_run_until(way_count + 1, WAIT_MS);
		const struct probe_result *result = &way_results[family];
		cr_assert_eq(way_counts[family], 1);
		cr_expect_eq(result->kind, RESULT_REPLY);
		cr_expect_eq(result->known, KNOWN_REPLY_TTL);
		cr_expect_eq(result->reply_ttl, 64);
		cr_expect_arr_eq(result->responder, made.destination, 16);
		cr_expect(result->rtt_ns > 0 && result->rtt_ns < NS_PER_S);
	}
}

Test(ping, many_at_once)
{
	enum { MANY = 10000 };

	for (uint8_t family = 4; family <= last_family(); family += 2) {
		memset(way_counts, 0, sizeof(way_counts));
		way_count = 0;
		for (uint32_t i = 0; i < MANY; i++) {
			struct probe_request made = request(family, i);
			way_probe(&made);
		}
		way_run_until(MANY, 10 * WAIT_MS);
		for (uint32_t i = 0; i < MANY; i++)
			cr_assert(way_counts[i] == 1 && way_results[i].kind == RESULT_REPLY,
				  "IPv%d, probe %u", family, i);
	}
}

/* --- what leaves ------------------------------------------------------------------------------ */

Test(ping, probe_is_as_asked_for)
{
	/* Sizes are of the payload. */
	static const struct {
		size_t asked, payload;
		uint8_t byte;
		bool random;
		uint16_t flags;
		size_t nonce; /* how many first bytes are not `byte` */
	} cases[] = {
		{.asked = 36, .payload = 36, .byte = 0, .nonce = 8},
		{.asked = 36, .payload = 36, .byte = 0xaa, .nonce = 0},
		{.asked = 36, .payload = 36, .byte = 0xaa, .random = true, .nonce = 8},
		{.asked = 0, .payload = 0, .byte = 0, .nonce = 0},
		{.asked = 1400, .payload = 1400, .byte = 7, .nonce = 0},
		{.asked = 0, .payload = 8, .byte = 9, .flags = REQUEST_FLOW, .nonce = 8},
		{.asked = 36, .payload = 36, .byte = 1, .flags = REQUEST_DONT_FRAGMENT},
	};
	static const uint8_t zero[NONCE];

	for (uint8_t family = 4; family <= last_family(); family += 2) {
		for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
			struct probe_request made = request(family, (uint32_t)i);
			struct seen seen;

			made.ttl = (uint8_t)(i + 1);
			made.tos = (uint8_t)(i * 4);
			made.payload_byte = cases[i].byte;
			made.random_payload = cases[i].random;
			made.flags = cases[i].flags;
			made.size_bytes = (uint16_t)(made.size_bytes - PAYLOAD + cases[i].asked);
			send_and_see(&made, &seen);
			cr_assert_eq(seen.payload_bytes, cases[i].payload, "case %zu", i);
			cr_expect_eq(seen.ip.ttl, made.ttl, "case %zu", i);
			cr_expect_eq(tos_of(&seen), made.tos, "case %zu", i);
			if (family == 4)
				cr_expect_eq((seen.packet[6] & 0x40) != 0,
					     cases[i].flags == REQUEST_DONT_FRAGMENT);
			for (size_t k = cases[i].nonce; k < seen.payload_bytes; k++)
				cr_assert_eq(seen.payload[k], cases[i].byte, "case %zu", i);
			if (cases[i].nonce == NONCE)
				cr_expect_arr_neq(seen.payload, zero, NONCE, "case %zu", i);
		}
	}
}

Test(ping, source_is_as_asked_for)
{
	struct probe_request made = request(4, 1);
	struct seen seen;

	memcpy(made.source, (const uint8_t[]){127, 0, 0, 9}, 4);
	send_and_see(&made, &seen);
	cr_expect_arr_eq(seen.ip.source, made.source, 4);
}

/* What routers hash: identifier, checksum, IPv6 flow label. */
Test(ping, flow_stays_constant)
{
	for (uint8_t family = 4; family <= last_family(); family += 2) {
		struct seen first = {0}, other;
		struct probe_request made = request(family, 0);

		made.flags = REQUEST_FLOW;
		for (made.cookie = 0; made.cookie < 20; made.cookie++) {
			struct seen seen;

			made.flow = 3;
			made.ttl = (uint8_t)(made.cookie + 1);
			send_and_see(&made, &seen);
			if (made.cookie == 0) {
				first = seen;
				continue;
			}
			cr_expect_eq(seen.identifier, first.identifier);
			cr_expect_arr_eq(seen.packet + seen.ip.family->header_bytes + 2,
					 first.packet + seen.ip.family->header_bytes + 2, 2);
			if (family == 6)
				cr_expect_eq(wire_get32(seen.packet) & 0xfffff, made.flow + 1);
		}
		made.flow = 4;
		send_and_see(&made, &other);
		cr_expect_neq(other.identifier, first.identifier);
		cr_expect_arr_neq(other.packet + other.ip.family->header_bytes + 2,
				  first.packet + other.ip.family->header_bytes + 2, 2);
	}
}

/* By chance some of so many random numbers would be equal. */
Test(ping, no_sequence_is_used_twice_by_one_socket)
{
	static uint8_t used[65536];
	struct seen seen;
	uint16_t identifier = 0, last = 0;
	unsigned steps_of_one = 0;

	for (uint32_t i = 0; i < 2000; i++) {
		struct probe_request made = request(4, i);

		send_and_see(&made, &seen);
		way_run_until(way_count + 1, WAIT_MS);
		if (i > 0)
			cr_assert_eq(seen.identifier, identifier);
		identifier = seen.identifier;
		cr_assert_eq(used[seen.sequence]++, 0, "after %u", i);
		steps_of_one += (uint16_t)(seen.sequence - last) == 1;
		last = seen.sequence;
	}
	cr_expect_lt(steps_of_one, 10, "predictable");
}

/* --- what cannot leave ------------------------------------------------------------------------ */

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

Test(ping, failures)
{
	static const uint8_t source4[16] = {203, 0, 113, 1};
	static const uint8_t source6[16] = {0x20, 1, 0x0d, 0xb8, [15] = 1};
	static const uint8_t elsewhere4[16] = {203, 0, 113, 2};
	static const uint8_t elsewhere6[16] = {0x20, 1, 0x0d, 0xb8, [15] = 2};

	for (uint8_t family = 4; family <= last_family(); family += 2) {
		struct probe_request made = request(family, 7);

		made.size_bytes = MTU + 1;
		made.flags = REQUEST_DONT_FRAGMENT;
		expect_failure(&made, EMSGSIZE);
		cr_expect_eq(way_results[7].mtu_bytes, MTU);

		made = request(family, 7);
		memcpy(made.source, family == 4 ? source4 : source6, 16);
		expect_failure(&made, EADDRNOTAVAIL);

		made = request(family, 7);
		memcpy(made.destination, family == 4 ? elsewhere4 : elsewhere6, 16);
		expect_failure(&made, ENETUNREACH);

		made = request(family, 7);
		made.ifindex = 0x7ffffff0;
		expect_failure(&made, ENODEV);
	}
}

/* --- true, forged and late answers ------------------------------------------------------------ */

enum answer_kind { REPLY, QUOTE };

/* Sends an echo reply, or an ICMP time exceeded that quotes the echo request, with the probe's
 * header changed by xor and so many bytes of its payload, the first one changed by xor. */
struct answer {
	const char *name;
	enum answer_kind kind;
	uint16_t identifier, sequence; /* xor */
	uint8_t type[2];               /* IPv4, IPv6: instead of an echo's; 0: that */
	uint8_t nonce;                 /* xor */
	size_t payload_bytes;
	bool is_true;
};

static void add_echo(struct bytes *message, const struct seen *seen, const struct answer *answer)
{
	const struct wire_family *wire = seen->ip.family;

	uint8_t type = answer->kind == REPLY ? wire->echo_reply : wire->echo_request;

	if (answer->type[0] != 0)
		type = answer->type[wire->family == 6];
	bytes_add8(message, type);
	bytes_fill(message, 0, 3);
	bytes_add16(message, seen->identifier ^ answer->identifier);
	bytes_add16(message, seen->sequence ^ answer->sequence);
	if (answer->payload_bytes == 0)
		return;
	bytes_add8(message, seen->payload[0] ^ answer->nonce);
	bytes_add(message, seen->payload + 1, answer->payload_bytes - 1);
}

static void send_answer(const struct seen *seen, const struct answer *answer)
{
	static struct bytes message;
	const struct wire_family *wire = seen->ip.family;
	struct packet_ip ip = {
		.family = wire->family,
		.protocol = wire->icmp_protocol,
		.ttl = 1,
	};
	uint8_t target[16] = {0};
	struct sockaddr_storage to;
	int fd = socket(ip_family(wire->family)->domain, SOCK_RAW, wire->icmp_protocol);

	cr_assert_geq(fd, 0);
	message.count = 0;
	memcpy(ip.source, seen->ip.source, wire->address_bytes);
	memcpy(ip.destination, seen->ip.destination, wire->address_bytes);
	if (answer->kind == QUOTE) {
		bytes_add8(&message, icmp_types(wire->family)->time_exceeded);
		bytes_fill(&message, 0, 7);
		packet_add_ip(&message, &ip, HEADER + PAYLOAD);
	}
	add_echo(&message, seen, answer);
	/* The kernel fills in that of ICMPv6. */
	if (wire->family == 4)
		bytes_put16(&message, 2, packet_checksum(message.at, message.count));
	memcpy(target, seen->ip.source, wire->address_bytes);
	socklen_t length = ip_family_to_socket(wire->family, target, 0, 0, &to);
	cr_assert_eq(sendto(fd, message.at, message.count, 0, (struct sockaddr *)&to, length),
		     (ssize_t)message.count, "%s", strerror(errno));
	close(fd);
}

Test(ping, answers)
{
	static const struct answer answers[] = {
		{"reply", REPLY, .payload_bytes = PAYLOAD, .is_true = true},
		{"reply, nonce and no more", REPLY, .payload_bytes = NONCE, .is_true = true},
		{"reply, half of the nonce", REPLY, .payload_bytes = NONCE / 2},
		{"reply without payload", REPLY, .payload_bytes = 0},
		{"reply, another nonce", REPLY, .nonce = 1, .payload_bytes = PAYLOAD},
		{"reply, another sequence", REPLY, .sequence = 1, .payload_bytes = PAYLOAD},
		{"reply, another identifier", REPLY, .identifier = 1, .payload_bytes = PAYLOAD},
		/* RFC 8335 */
		{"extended echo reply", REPLY, .type = {43, 161}, .payload_bytes = PAYLOAD},
		{"quote", QUOTE, .payload_bytes = PAYLOAD, .is_true = true},
		{"quote of the header", QUOTE, .is_true = true},
		{"quote, half of the nonce", QUOTE, .payload_bytes = NONCE / 2, .is_true = true},
		{"quote, another nonce", QUOTE, .nonce = 1, .payload_bytes = PAYLOAD},
		{"quote, another sequence", QUOTE, .sequence = 1, .payload_bytes = PAYLOAD},
		{"quote, another identifier", QUOTE, .identifier = 1, .payload_bytes = PAYLOAD},
	};

	no_answers_by_the_kernel();
	for (uint8_t family = 4; family <= last_family(); family += 2) {
		for (uint32_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
			struct probe_request made = request(family, i);
			struct seen seen;

			way_counts[i] = 0;
			send_and_see(&made, &seen);
			send_answer(&seen, &answers[i]);
			way_run_until(way_count + 1, answers[i].is_true ? WAIT_MS : QUIET_MS);
			cr_assert_eq(way_counts[i], answers[i].is_true, "IPv%d: %s", family,
				     answers[i].name);
			way_cancel(i);
			if (!answers[i].is_true)
				continue;
			cr_expect_eq(way_results[i].kind,
				     answers[i].kind == REPLY ? RESULT_REPLY : RESULT_ICMP);
			if (answers[i].kind == QUOTE)
				cr_expect_eq(way_results[i].icmp_type,
					     icmp_types(family)->time_exceeded);
		}
	}
}

Test(ping, answer_to_another_destination)
{
	static const struct answer reply = {"", REPLY, .payload_bytes = PAYLOAD};
	struct probe_request made = request(4, 1);
	struct seen seen;

	no_answers_by_the_kernel();
	made.destination[3] = 2;
	send_and_see(&made, &seen);
	/* Comes from 127.0.0.1. */
	send_answer(&seen, &reply);
	way_run_until(way_count + 1, QUIET_MS);
	cr_expect_eq(way_counts[1], 0);
}

Test(ping, late_answer_is_not_the_next_probes)
{
	static const struct answer reply = {"", REPLY, .payload_bytes = PAYLOAD};

	no_answers_by_the_kernel();
	for (uint8_t family = 4; family <= last_family(); family += 2) {
		struct probe_request made = request(family, family);
		struct seen first, second;

		made.payload_byte = 1; /* no nonce helps */
		send_and_see(&made, &first);
		way_cancel(made.cookie);
		made.cookie += TRANSPORT_SLOTS;
		send_and_see(&made, &second);
		send_answer(&first, &reply);
		way_run_until(way_count + 1, QUIET_MS);
		cr_expect_eq(way_counts[family], 0);
		send_answer(&second, &reply);
		way_run_until(way_count + 1, WAIT_MS);
		cr_expect_eq(way_counts[family], 1);
		cr_expect_eq(way_results[family].cookie, made.cookie);
	}
}
