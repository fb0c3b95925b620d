/*
 * IP headers as hostile packets show them: options, fragments, wrong lengths, and every place to
 * cut one off. Copies end where their memory ends, so that a build with sanitizers sees a read
 * beyond.
 */
#include <criterion/criterion.h>
#include <string.h>

#include "common/wire.h"
#include "tests/support/packet.h"

static struct bytes packet;
static const uint8_t families[] = {4, 6};

static struct packet_ip plain(uint8_t family)
{
	struct packet_ip ip = {.family = family, .protocol = 17, .ttl = 7};

	for (uint8_t i = 0; i < 16; i++) {
		ip.source[i] = (uint8_t)(0x10 + i);
		ip.destination[i] = (uint8_t)(0xa0 + i);
	}
	return ip;
}

/* Writes the packet with `count` bytes behind its IP headers; how long these are. */
static size_t write_packet(const struct packet_ip *ip, size_t count)
{
	packet.count = 0;
	packet_add_ip(&packet, ip, count);
	size_t header_bytes = packet.count;
	for (size_t i = 0; i < count; i++)
		bytes_add8(&packet, (unsigned int)(0xc0 + i));
	return header_bytes;
}

/* Reads the first `count` bytes; *transport is made an offset into the packet. */
static bool read_cut(size_t count, struct wire_ip *ip, size_t *transport)
{
	uint8_t *exact = packet_exact(packet.at, count);
	bool read = wire_ip_read(exact, count, ip);

	if (read) {
		*transport = (size_t)(ip->transport - exact);
		cr_expect_leq(*transport + ip->transport_bytes, count);
		cr_expect_eq(memcmp(ip->source, exact + (ip->family->family == 4 ? 12 : 8),
				    ip->family->address_bytes),
			     0);
		cr_expect_eq(memcmp(ip->destination, exact + (ip->family->family == 4 ? 16 : 24),
				    ip->family->address_bytes),
			     0);
	}
	packet_release(exact);
	return read;
}

Test(wire, describes_two_families_and_no_other)
{
	for (unsigned int family = 0; family < 256; family++) {
		const struct wire_family *wire = wire_family((uint8_t)family);
		cr_expect_eq(wire != NULL, family == 4 || family == 6, "family %u", family);
		cr_expect(wire == NULL || wire->family == family);
	}
}

Test(wire, reads_the_fields_of_both_families)
{
	for (size_t i = 0; i < sizeof(families); i++) {
		struct packet_ip made = plain(families[i]);
		struct wire_ip ip;
		size_t at;
		size_t header_bytes = write_packet(&made, 12);
		cr_assert(read_cut(packet.count, &ip, &at), "IPv%d", families[i]);
		cr_expect_eq(ip.family->family, families[i]);
		cr_expect_eq(ip.protocol, 17);
		cr_expect_eq(ip.ttl, 7);
		cr_expect_not(ip.cut);
		cr_expect_eq(at, header_bytes);
		cr_expect_eq(ip.transport_bytes, 12);
	}
}

Test(wire, steps_over_ipv4_options_of_every_length)
{
	for (uint8_t option_bytes = 0; option_bytes <= 40; option_bytes += 4) {
		struct packet_ip made = plain(4);
		struct wire_ip ip;
		size_t at;
		made.option_bytes = option_bytes;
		write_packet(&made, 8);
		cr_assert(read_cut(packet.count, &ip, &at), "%d bytes of options", option_bytes);
		cr_expect_eq(at, 20u + option_bytes);
		cr_expect_eq(ip.transport_bytes, 8);
	}
}

Test(wire, a_header_length_below_the_least_is_refused)
{
	for (unsigned int words = 0; words < 16; words++) {
		struct packet_ip made = plain(4);
		struct wire_ip ip;
		size_t at;
		write_packet(&made, 60);
		packet.at[0] = (uint8_t)(0x40 | words);
		cr_expect_eq(read_cut(packet.count, &ip, &at), words >= 5, "%u words", words);
	}
}

Test(wire, other_versions_are_refused)
{
	for (size_t i = 0; i < sizeof(families); i++) {
		for (unsigned int version = 0; version < 16; version++) {
			struct packet_ip made = plain(families[i]);
			struct wire_ip ip;
			size_t at;
			write_packet(&made, 40);
			if (version == 4 || version == 6)
				continue;
			packet.at[0] = (uint8_t)(version << 4 | (packet.at[0] & 15));
			cr_expect_not(read_cut(packet.count, &ip, &at), "version %u", version);
		}
	}
}

/* A quoted packet may end anywhere: behind its headers that is no fault, within them it is. */
Test(wire, cut_at_every_length)
{
	for (size_t i = 0; i < sizeof(families); i++) {
		for (unsigned int variant = 0; variant < 3; variant++) {
			struct packet_ip made = plain(families[i]);
			struct wire_ip ip;
			size_t at;
			made.option_bytes = families[i] == 4 && variant != 0 ? 12 : 0;
			made.fragment = variant == 2 ? 1 : 0;
			if (families[i] == 4 && variant == 2)
				made.fragment = 0x2000; /* the first of several */
			size_t header_bytes = write_packet(&made, 20);
			for (size_t count = 0; count <= packet.count; count++) {
				bool read = read_cut(count, &ip, &at);
				cr_assert_eq(read, count >= header_bytes, "IPv%d.%u cut at %zu",
					     families[i], variant, count);
				if (!read)
					continue;
				cr_expect_eq(ip.transport_bytes, count - header_bytes);
				cr_expect_eq(ip.cut, count < packet.count);
			}
		}
	}
}

/* What stands behind the length that the header tells is padding, or an ICMP extension. */
Test(wire, never_reads_beyond_the_length_field)
{
	for (size_t i = 0; i < sizeof(families); i++) {
		size_t field = families[i] == 4 ? 2 : 4;
		size_t base = families[i] == 4 ? 20 : 0;
		for (size_t told = 0; told < 30; told++) {
			struct packet_ip made = plain(families[i]);
			struct wire_ip ip;
			size_t at;
			write_packet(&made, 16);
			bytes_put16(&packet, field, (unsigned int)(base + told));
			cr_assert(read_cut(packet.count, &ip, &at));
			cr_expect_eq(ip.transport_bytes, told < 16 ? told : 16);
			cr_expect_eq(ip.cut, told > 16);
		}
	}
}

Test(wire, an_ipv4_length_within_the_header_is_refused)
{
	struct packet_ip made = plain(4);
	struct wire_ip ip;
	size_t at;

	made.option_bytes = 8;
	write_packet(&made, 16);
	for (unsigned int told = 0; told < 28; told++) {
		bytes_put16(&packet, 2, told);
		cr_expect_not(read_cut(packet.count, &ip, &at), "total length %u", told);
	}
	bytes_put16(&packet, 2, 28);
	cr_expect(read_cut(packet.count, &ip, &at));
	cr_expect_eq(ip.transport_bytes, 0);
}

Test(wire, a_later_fragment_has_no_transport_header)
{
	static const struct {
		uint8_t family;
		uint16_t fragment;
		bool is_first;
	} cases[] = {
		{4, 0x4000, true},  {4, 0x2000, true}, {4, 0x0001, false}, {4, 0x3000, false},
		{4, 0x1fff, false}, {6, 0x0001, true}, {6, 0x0008, false}, {6, 0xfff9, false},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct packet_ip made = plain(cases[i].family);
		struct wire_ip ip;
		size_t at;
		made.fragment = cases[i].fragment;
		write_packet(&made, 16);
		bool read = read_cut(packet.count, &ip, &at);
		cr_expect_eq(read, cases[i].is_first, "%04x", cases[i].fragment);
		if (read)
			cr_expect_eq(ip.protocol, 17);
	}
}

/* The second byte of a fragment header is reserved, not a length. */
Test(wire, a_fragment_header_has_no_length)
{
	struct packet_ip made = plain(6);
	struct wire_ip ip;
	size_t at;

	made.fragment = 1;
	write_packet(&made, 16);
	packet.at[41] = 9;
	cr_assert(read_cut(packet.count, &ip, &at));
	cr_expect_eq(at, 48);
}

Test(wire, random_bytes_never_lead_out_of_the_packet)
{
	uint64_t random = 8200;
	struct wire_ip ip;
	size_t at;

	for (int i = 0; i < 200000; i++) {
		packet.count = packet_random(&random) % 120;
		for (size_t k = 0; k < packet.count; k++)
			packet.at[k] = (uint8_t)packet_random(&random);
		/* Mostly plausible beginnings, or nothing behind them would ever be tried. */
		if (packet.count > 6 && i % 8 != 0)
			packet.at[0] = i % 2 == 0 ? 0x60 : (uint8_t)(0x40 | (packet.at[0] & 15));
		if (packet.count > 40 && i % 4 == 0) {
			packet.at[6] = 44;
			packet.at[42] = 0;
			packet.at[43] &= 7;
		}
		read_cut(packet.count, &ip, &at);
	}
}
