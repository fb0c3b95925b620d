/*
 * The broker's socket filters, run by the kernel itself. A filter on an AF_UNIX datagram socket
 * sees a message from its first byte on, as the one on a raw socket sees a packet, and needs no
 * privilege.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/record.h"
#include "policy/socket_filter.h"
#include "tests/support/packet.h"

enum {
	FIRST_PORT = 40000,
	LAST_PORT = FIRST_PORT + RECORD_PROBE_IDS - 1,
	OTHERS_PORT = LAST_PORT + 1,
	INIT_ACK = 2,
	PORT = 53,
};

static const uint8_t families[] = {4, 6};
static uint16_t held[RECORD_PROBE_IDS];
static struct bytes packet;
static int sender = -1, receiver = -1;

static void start(void)
{
	for (unsigned int i = 0; i < RECORD_PROBE_IDS; i++)
		held[i] = (uint16_t)(FIRST_PORT + i);
}

TestSuite(socket_filter, .init = start);

static void open_pair(void)
{
	int ends[2];

	if (sender >= 0) {
		close(sender);
		close(receiver);
	}
	cr_assert_eq(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends), 0);
	sender = ends[0];
	receiver = ends[1];
}

static void filter(uint8_t family, uint8_t protocol)
{
	open_pair();
	cr_assert_eq(socket_filter_attach(receiver, family, protocol, held), 0, "%s",
		     strerror(errno));
}

/* Whether the first `count` bytes of the packet pass, and come out whole. */
static bool passes_cut(size_t count)
{
	static uint8_t got[PACKET_MAX_BYTES];

	cr_assert_eq(send(sender, packet.at, count, 0), (ssize_t)count);
	ssize_t length = recv(receiver, got, sizeof(got), MSG_DONTWAIT);
	if (length < 0) {
		cr_assert_eq(errno, EAGAIN);
		return false;
	}
	cr_expect_eq(length, (ssize_t)count);
	cr_expect_eq(memcmp(got, packet.at, count), 0);
	return true;
}

static bool passes(void)
{
	return passes_cut(packet.count);
}

/* Begins a packet as the socket sees it: an IPv4 raw socket with its header and `option_bytes`. */
static void begin(uint8_t family, uint8_t option_bytes)
{
	const struct packet_ip ip = {.family = 4, .ttl = 60, .option_bytes = option_bytes};

	packet.count = 0;
	if (family == 4)
		packet_add_ip(&packet, &ip, 100);
}

/* An INIT ACK between two ports; how long the headers before it are. */
static size_t write_ports(uint8_t family, uint8_t option_bytes, uint16_t from, uint16_t to)
{
	begin(family, option_bytes);
	size_t at = packet.count;
	bytes_add16(&packet, from);
	bytes_add16(&packet, to);
	bytes_fill(&packet, 0, 8);
	bytes_add8(&packet, INIT_ACK);
	bytes_fill(&packet, 0, 27);
	return at;
}

/* --- answers of the probe's own protocol ------------------------------------------------------ */

Test(socket_filter, sctp_to_ports_of_its_own)
{
	for (size_t i = 0; i < 2; i++) {
		filter(families[i], IPPROTO_SCTP);
		for (unsigned int port = FIRST_PORT - 300; port < LAST_PORT + 300; port++) {
			write_ports(families[i], 0, PORT, (uint16_t)port);
			cr_expect_eq(passes(), port >= FIRST_PORT && port <= LAST_PORT, "%u", port);
		}
		write_ports(families[i], 0, FIRST_PORT, PORT);
		cr_expect_not(passes(), "from a port of its own");
	}
}

Test(socket_filter, ports_far_apart)
{
	for (unsigned int i = 0; i < RECORD_PROBE_IDS; i++)
		held[i] = (uint16_t)(i * 4369);
	filter(6, IPPROTO_SCTP);
	for (unsigned int port = 0; port <= UINT16_MAX; port++) {
		write_ports(6, 0, PORT, (uint16_t)port);
		cr_assert_eq(passes(), port % 4369 == 0, "%u", port);
	}
}

Test(socket_filter, sctp_behind_ip_options)
{
	filter(4, IPPROTO_SCTP);
	for (uint8_t option_bytes = 0; option_bytes <= 40; option_bytes += 4) {
		write_ports(4, option_bytes, PORT, LAST_PORT);
		cr_expect(passes(), "%d bytes of options", option_bytes);
		write_ports(4, option_bytes, PORT, OTHERS_PORT);
		cr_expect_not(passes(), "%d bytes of options", option_bytes);
	}
}

Test(socket_filter, sctp_chunks)
{
	for (size_t i = 0; i < 2; i++) {
		filter(families[i], IPPROTO_SCTP);
		for (unsigned int chunk = 0; chunk < 256; chunk++) {
			size_t at = write_ports(families[i], 0, PORT, FIRST_PORT);
			packet.at[at + 12] = (uint8_t)chunk;
			cr_expect_eq(passes(), chunk == 2 || chunk == 6, "chunk %u", chunk);
			at = write_ports(families[i], 0, PORT, OTHERS_PORT);
			packet.at[at + 12] = (uint8_t)chunk;
			cr_expect_not(passes(), "another's, chunk %u", chunk);
		}
	}
}

/* --- ICMP ------------------------------------------------------------------------------------- */

static size_t write_icmp(uint8_t family, uint8_t option_bytes, uint8_t type)
{
	begin(family, option_bytes);
	size_t at = packet.count;
	bytes_add8(&packet, type);
	bytes_fill(&packet, 0, 7);
	return at;
}

Test(socket_filter, echo_replies_with_identifiers_of_its_own)
{
	for (size_t i = 0; i < 2; i++) {
		uint8_t reply = families[i] == 4 ? 0 : 129;
		filter(families[i], IPPROTO_ICMP);
		for (unsigned int identifier = FIRST_PORT - 300; identifier < LAST_PORT + 300;
		     identifier++) {
			size_t at = write_icmp(families[i], 0, reply);
			bytes_put16(&packet, at + 4, identifier);
			cr_expect_eq(passes(), identifier >= FIRST_PORT && identifier <= LAST_PORT);
		}
		size_t at = write_icmp(families[i], 0, reply);
		bytes_put16(&packet, at + 6, FIRST_PORT);
		cr_expect_not(passes(), "a sequence number is no identifier");
	}
}

/* An error that quotes a packet of `ip` with 8 bytes behind: ports for all protocols but ICMP,
 * which has its identifier there. Where these 8 bytes stand. */
static size_t write_error(uint8_t option_bytes, uint8_t type, const struct packet_ip *ip,
			  uint16_t port)
{
	write_icmp(ip->family, option_bytes, type);
	packet_add_ip(&packet, ip, 8);
	size_t at = packet.count;
	bool is_icmp = ip->protocol == IPPROTO_ICMP || ip->protocol == IPPROTO_ICMPV6;
	if (is_icmp)
		bytes_add32(&packet, ip->family == 4 ? 8u << 24 : 128u << 24);
	bytes_add16(&packet, port);
	bytes_add16(&packet, PORT);
	bytes_fill(&packet, 0, is_icmp ? 0 : 4);
	return at;
}

static struct packet_ip quoted(uint8_t family, uint8_t protocol)
{
	struct packet_ip ip = {.family = family, .protocol = protocol, .ttl = 1};

	/* Addresses that look like identifiers of its own are still addresses. */
	for (size_t i = 0; i < 16; i++)
		ip.source[i] = ip.destination[i] = i % 2 == 0 ? FIRST_PORT >> 8 : FIRST_PORT & 0xff;
	if (protocol == IPPROTO_ICMP && family == 6)
		ip.protocol = IPPROTO_ICMPV6;
	return ip;
}

static const uint8_t probed[] = {IPPROTO_ICMP, IPPROTO_SCTP};

static uint8_t time_exceeded(uint8_t family)
{
	return family == 4 ? 11 : 3;
}

Test(socket_filter, errors_that_quote_ports_of_its_own)
{
	for (size_t i = 0; i < 4; i++) {
		uint8_t family = families[i / 2];
		struct packet_ip ip = quoted(family, probed[i % 2]);
		filter(family, IPPROTO_ICMP);
		for (unsigned int port = FIRST_PORT - 300; port < LAST_PORT + 300; port++) {
			write_error(0, time_exceeded(family), &ip, (uint16_t)port);
			cr_expect_eq(passes(), port >= FIRST_PORT && port <= LAST_PORT,
				     "IPv%d %d port %u", family, probed[i % 2], port);
		}
	}
}

Test(socket_filter, errors_of_four_types_only)
{
	for (size_t i = 0; i < 2; i++) {
		static const bool is_error4[256] = {[3] = true, [11] = true, [12] = true};
		static const bool is_error6[256] = {[1] = true, [2] = true, [3] = true, [4] = true};
		const struct packet_ip ip = quoted(families[i], IPPROTO_SCTP);
		filter(families[i], IPPROTO_ICMP);
		for (unsigned int type = 0; type < 256; type++) {
			write_error(0, (uint8_t)type, &ip, FIRST_PORT);
			cr_expect_eq(passes(), (families[i] == 4 ? is_error4 : is_error6)[type],
				     "IPv%d type %u", families[i], type);
		}
	}
}

Test(socket_filter, errors_that_quote_no_other_protocol)
{
	for (size_t i = 0; i < 2; i++) {
		filter(families[i], IPPROTO_ICMP);
		for (unsigned int protocol = 0; protocol < 256; protocol++) {
			struct packet_ip ip = quoted(families[i], 0);
			ip.protocol = (uint8_t)protocol;
			size_t at = write_error(0, time_exceeded(families[i]), &ip, FIRST_PORT);
			/* The identifier of an echo, should it be taken for one. */
			bytes_put16(&packet, at + 4, FIRST_PORT);
			if (protocol != (families[i] == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6))
				cr_expect_eq(passes(), protocol == IPPROTO_SCTP,
					     "IPv%d protocol %u", families[i], protocol);
		}
	}
}

Test(socket_filter, errors_that_quote_an_echo_request_and_nothing_else_of_icmp)
{
	for (size_t i = 0; i < 2; i++) {
		const struct packet_ip ip = quoted(families[i], IPPROTO_ICMP);
		filter(families[i], IPPROTO_ICMP);
		for (unsigned int type = 0; type < 256; type++) {
			size_t at = write_error(0, time_exceeded(families[i]), &ip, FIRST_PORT);
			packet.at[at] = (uint8_t)type;
			cr_expect_eq(passes(), type == (families[i] == 4 ? 8 : 128), "type %u",
				     type);
		}
	}
}

Test(socket_filter, header_lengths_outside_and_inside)
{
	filter(4, IPPROTO_ICMP);
	for (uint8_t outer = 0; outer <= 40; outer += 4) {
		for (uint8_t inner = 0; inner <= 40; inner += 4) {
			struct packet_ip ip = quoted(4, IPPROTO_SCTP);
			ip.option_bytes = inner;
			write_error(outer, 11, &ip, FIRST_PORT);
			cr_expect(passes(), "%d, %d", outer, inner);
			write_error(outer, 11, &ip, OTHERS_PORT);
			cr_expect_not(passes(), "%d, %d", outer, inner);
		}
	}
}

Test(socket_filter, behind_a_fragment_header)
{
	filter(6, IPPROTO_ICMP);
	for (size_t i = 0; i < sizeof(probed); i++) {
		struct packet_ip ip = quoted(6, probed[i]);
		ip.fragment = 1;
		write_error(0, 3, &ip, FIRST_PORT);
		cr_expect(passes(), "%d", probed[i]);
		write_error(0, 3, &ip, OTHERS_PORT);
		cr_expect_not(passes(), "%d", probed[i]);
	}
}

/* --- short packets ---------------------------------------------------------------------------- */

/* As much as the filter has to read must be there. */
static void cut(const char *what, size_t least)
{
	cr_assert(passes(), "%s", what);
	for (size_t count = 1; count < packet.count; count++)
		cr_expect_eq(passes_cut(count), count >= least, "%s cut at %zu", what, count);
}

Test(socket_filter, short_packets)
{
	for (size_t i = 0; i < 2; i++) {
		uint8_t family = families[i];
		filter(family, IPPROTO_SCTP);
		size_t at = write_ports(family, 8, PORT, FIRST_PORT);
		cut("SCTP", at + 13);
		filter(family, IPPROTO_ICMP);
		at = write_icmp(family, 8, family == 4 ? 0 : 129);
		bytes_put16(&packet, at + 4, FIRST_PORT);
		cut("echo reply", at + 6);
		for (size_t k = 0; k < sizeof(probed); k++) {
			const struct packet_ip ip = quoted(family, probed[k]);
			at = write_error(8, time_exceeded(family), &ip, FIRST_PORT);
			cut("quoted", probed[k] == IPPROTO_ICMP ? at + 6 : at + 2);
		}
	}
}

/* --- the socket ------------------------------------------------------------------------------- */

Test(socket_filter, reject_all_lets_nothing_in_until_it_is_replaced)
{
	open_pair();
	cr_assert_eq(socket_filter_reject_all(receiver), 0);
	write_ports(4, 0, PORT, FIRST_PORT);
	cr_expect_not(passes());
	cr_assert_eq(socket_filter_attach(receiver, 4, IPPROTO_SCTP, held), 0);
	cr_expect(passes());
}

Test(socket_filter, a_locked_filter_is_final)
{
	int one = 1;

	filter(4, IPPROTO_SCTP);
	cr_assert_eq(socket_filter_lock(receiver), 0);
	errno = 0;
	cr_expect_eq(socket_filter_attach(receiver, 4, IPPROTO_ICMP, held), -1);
	cr_expect_eq(errno, EPERM);
	cr_expect_eq(socket_filter_reject_all(receiver), -1);
	cr_expect_neq(setsockopt(receiver, SOL_SOCKET, SO_DETACH_FILTER, &one, sizeof(one)), 0);
	write_ports(4, 0, PORT, FIRST_PORT);
	cr_expect(passes());
	write_ports(4, 0, PORT, OTHERS_PORT);
	cr_expect_not(passes());
}
