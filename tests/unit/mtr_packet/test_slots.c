/*
 * All slots can be taken, each has a cookie of its own, and the cookie of an earlier use finds
 * nothing.
 */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "frontend/mtr_packet/slots.h"

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

TestSuite(mtr_packet_slots, .init = start, .fini = stop);

Test(mtr_packet_slots, all_can_be_taken_and_no_more)
{
	static bool seen[TRANSPORT_SLOTS];

	for (int round = 0; round < 2; round++) {
		for (uint32_t i = 0; i < TRANSPORT_SLOTS; i++) {
			struct slot *slot = slots_take(slots);
			cr_assert_not_null(slot);
			uint32_t number = slot->probe.cookie % TRANSPORT_SLOTS;
			cr_assert_eq(number, slots_number(slot));
			cr_assert_eq(slots_at(slots, number), slot);
			cr_assert_eq(seen[number], round % 2 == 1, "slot %u was taken twice",
				     number);
			seen[number] = !seen[number];
			cr_assert_eq(slots_used(slots), i + 1);
		}
		cr_assert_null(slots_take(slots));
		for (uint32_t i = 0; i < TRANSPORT_SLOTS; i++)
			slots_release(slots, slots_at(slots, (i * 40503u) % TRANSPORT_SLOTS));
		cr_assert_eq(slots_used(slots), 0);
	}
}

Test(mtr_packet_slots, earlier_cookies_find_nothing)
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

Test(mtr_packet_slots, unused_cookies_find_nothing)
{
	for (uint32_t i = 0; i < TRANSPORT_SLOTS; i++) {
		cr_assert_null(slots_find(slots, i));
		cr_assert_null(slots_find(slots, i << 16 | i));
	}
}

Test(mtr_packet_slots, next_visits_those_in_use)
{
	struct slot *taken[5];

	cr_assert_null(slots_next(slots, NULL));
	for (int i = 0; i < 5; i++)
		taken[i] = slots_take(slots);
	slots_release(slots, taken[0]);
	slots_release(slots, taken[3]);
	cr_assert_eq(slots_next(slots, NULL), taken[1]);
	cr_assert_eq(slots_next(slots, taken[1]), taken[2]);
	/* A slot that was released meanwhile still has its place. */
	slots_release(slots, taken[2]);
	cr_assert_eq(slots_next(slots, taken[2]), taken[4]);
	cr_assert_null(slots_next(slots, taken[4]));
}
