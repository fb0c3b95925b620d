/*
 * Slots: all can be taken, each has a cookie of its own, and a cookie of a former use finds
 * nothing.
 */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "frontend/packet_slots.h"

static struct slots *slots;

static void start(void)
{
	slots = slots_open();
	cr_assert_not_null(slots);
}

static void stop(void)
{
	slots_close(slots);
}

TestSuite(packet_slots, .init = start, .fini = stop);

Test(packet_slots, all_can_be_taken_and_no_more)
{
	static bool seen[RECORD_SLOTS];

	for (int round = 0; round < 2; round++) {
		for (uint32_t i = 0; i < RECORD_SLOTS; i++) {
			struct slot *slot = slots_take(slots);
			cr_assert_not_null(slot);
			uint32_t number = slot->probe.cookie % RECORD_SLOTS;
			cr_assert_eq(number, slots_number(slot));
			cr_assert_eq(slots_at(slots, number), slot);
			cr_assert_eq(seen[number], round % 2 == 1, "slot %u was taken twice",
				     number);
			seen[number] = !seen[number];
			cr_assert_eq(slots_used(slots), i + 1);
		}
		cr_assert_null(slots_take(slots));
		for (uint32_t i = 0; i < RECORD_SLOTS; i++)
			slots_release(slots, slots_at(slots, (i * 40503u) % RECORD_SLOTS));
		cr_assert_eq(slots_used(slots), 0);
	}
}

Test(packet_slots, former_cookies_find_nothing)
{
	struct slot *slot = slots_take(slots);
	uint32_t first = slot->probe.cookie;

	cr_assert_eq(slots_find(slots, first), slot);
	cr_assert_null(slots_find(slots, first ^ 0x10000));
	cr_assert_null(slots_find(slots, first + 1));
	slots_release(slots, slot);
	cr_assert_null(slots_find(slots, first));

	for (int use = 0; use < 65535; use++) {
		slot = slots_take(slots);
		cr_assert_neq(slot->probe.cookie, first, "use %d has the cookie of the first", use);
		cr_assert_null(slots_find(slots, first));
		slots_release(slots, slot);
	}
}

Test(packet_slots, cookies_from_nowhere_find_nothing)
{
	for (uint32_t i = 0; i < RECORD_SLOTS; i++) {
		cr_assert_null(slots_find(slots, i));
		cr_assert_null(slots_find(slots, i << 16 | i));
	}
}
