/*
 * Reassembly of what a host sends to simnet's destinations: any order, duplicates, two packets at
 * once, and nothing that is not whole.
 */
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <string.h>

#include "tests/lab/simnet_reassemble.h"

enum { PAYLOAD = 3000, PART = 1000, PARTS = 3, NOW_NS = 1000 };

static uint8_t payload[PAYLOAD];

/* One part of `payload` as a fragment. */
static struct packet_view fragment(uint8_t family, uint16_t id, size_t part)
{
	static uint8_t bytes[PARTS][40 + 8 + PART];
	uint8_t *at = bytes[part];
	size_t header = family == 4 ? 20 : 48;
	bool more = part + 1 < PARTS;
	struct packet_view view;

	for (size_t i = 0; i < PAYLOAD; i++)
		payload[i] = (uint8_t)(i * 7);
	memset(at, 0, header);
	if (family == 4) {
		at[0] = 0x45;
		put16(at + 2, 20 + PART);
		put16(at + 4, id);
		put16(at + 6, (uint32_t)(part * PART / 8) | (more ? 0x2000u : 0));
		at[8] = 9;
		at[9] = IPPROTO_UDP;
		packet_ip4_checksum(at);
	} else {
		at[0] = 0x60;
		put16(at + 4, 8 + PART);
		at[6] = IPPROTO_FRAGMENT;
		at[40] = IPPROTO_UDP;
		put16(at + 42, (uint32_t)(part * PART) | more);
		put32(at + 44, id);
	}
	memcpy(at + header, payload + part * PART, PART);
	cr_assert(packet_read(at, header + PART, &view));
	cr_assert(view.fragment);
	return view;
}

static bool give(uint8_t family, uint16_t id, size_t part, uint64_t now_ns,
		 struct packet_view *whole)
{
	struct packet_view view = fragment(family, id, part);

	return reassemble(&view, now_ns, whole);
}

static void check_whole(const struct packet_view *whole, uint8_t family)
{
	cr_assert_eq(whole->family, family);
	cr_assert_eq(whole->protocol, IPPROTO_UDP);
	cr_assert_not(whole->fragment, "shown as if it had come in one piece");
	cr_assert_eq(whole->total_bytes, PAYLOAD + (family == 4 ? 20u : 40u));
	cr_assert_eq(whole->transport_bytes, PAYLOAD);
	cr_assert_arr_eq(whole->transport, payload, PAYLOAD);
}

Test(simnet_reassemble, in_any_order)
{
	static const size_t orders[][PARTS] = {{0, 1, 2}, {2, 1, 0}, {1, 2, 0}, {2, 0, 1}};
	struct packet_view whole;

	for (uint8_t family = 4; family <= 6; family += 2) {
		for (uint16_t i = 0; i < sizeof orders / sizeof orders[0]; i++) {
			cr_assert_not(give(family, i, orders[i][0], NOW_NS, &whole));
			cr_assert_not(give(family, i, orders[i][1], NOW_NS, &whole));
			cr_assert(give(family, i, orders[i][2], NOW_NS, &whole));
			check_whole(&whole, family);
		}
	}
}

Test(simnet_reassemble, duplicates_do_not_make_it_whole)
{
	struct packet_view whole;

	cr_assert_not(give(4, 1, 0, NOW_NS, &whole));
	cr_assert_not(give(4, 1, 0, NOW_NS, &whole));
	cr_assert_not(give(4, 1, 2, NOW_NS, &whole));
	cr_assert_not(give(4, 1, 2, NOW_NS, &whole));
	cr_assert(give(4, 1, 1, NOW_NS, &whole));
	check_whole(&whole, 4);
}

Test(simnet_reassemble, two_packets_at_once)
{
	struct packet_view whole;

	for (size_t part = 0; part < PARTS; part++) {
		cr_assert_eq(give(4, 1, part, NOW_NS, &whole), part == PARTS - 1);
		cr_assert_eq(give(4, 2, PARTS - 1 - part, NOW_NS, &whole), part == PARTS - 1);
	}
	check_whole(&whole, 4);
}

Test(simnet_reassemble, old_parts_are_forgotten)
{
	struct packet_view whole;

	cr_assert_not(give(6, 1, 0, NOW_NS, &whole));
	cr_assert_not(give(6, 1, 1, NOW_NS, &whole));
	cr_assert_not(give(6, 1, 2, NOW_NS + 60000000000, &whole), "a minute later");
}
