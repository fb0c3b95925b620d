/*
 * Deadlines fire once each and in order, against a clock that the test sets.
 */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "frontend/mtr_packet/deadlines.h"

enum { SLOTS = 65536 };

static struct deadlines *deadlines;
static int64_t due_ns[SLOTS]; /* −1: not set */

static void start(void)
{
	deadlines = deadlines_open(SLOTS);
	cr_assert_not_null(deadlines);
	for (int i = 0; i < SLOTS; i++)
		due_ns[i] = -1;
	srand(5);
}

static void stop(void)
{
	deadlines_close(deadlines);
}

TestSuite(mtr_packet_deadlines, .init = start, .fini = stop);

static void set(uint32_t slot, int64_t at_ns)
{
	due_ns[slot] = at_ns;
	deadlines_set(deadlines, slot, at_ns);
}

/* Sets the clock to now_ns. Returns how many fired. */
static int fire(int64_t now_ns)
{
	int64_t last_ns = -1;
	int count = 0;

	for (int32_t slot; (slot = deadlines_take_due(deadlines, now_ns)) != DEADLINE_NONE;
	     count++) {
		cr_assert(due_ns[slot] >= 0, "slot %d fired twice or was never set", slot);
		cr_assert_leq(due_ns[slot], now_ns);
		cr_assert_leq(last_ns, due_ns[slot]);
		last_ns = due_ns[slot];
		due_ns[slot] = -1;
	}
	cr_assert_gt(deadlines_earliest_ns(deadlines), now_ns);
	return count;
}

Test(mtr_packet_deadlines, empty)
{
	cr_assert_eq(deadlines_earliest_ns(deadlines), INT64_MAX);
	cr_assert_eq(deadlines_take_due(deadlines, INT64_MAX), DEADLINE_NONE);
	deadlines_remove(deadlines, 5);
}

Test(mtr_packet_deadlines, all_slots_in_random_order)
{
	int fired = 0;

	for (uint32_t slot = 0; slot < SLOTS; slot++)
		set(slot * 40503u % SLOTS, rand() % 1000000);
	for (int64_t now_ns = 0; now_ns < 1000000; now_ns += 777)
		fired += fire(now_ns);
	fired += fire(1000000);
	cr_assert_eq(fired, SLOTS);
	cr_assert_eq(deadlines_earliest_ns(deadlines), INT64_MAX);
}

Test(mtr_packet_deadlines, exactly_at_its_time)
{
	set(3, 1000);
	cr_assert_eq(fire(999), 0);
	cr_assert_eq(fire(1000), 1);
	cr_assert_eq(fire(5000), 0);
}

Test(mtr_packet_deadlines, setting_again_replaces)
{
	set(1, 100);
	set(2, 200);
	set(1, 300);
	cr_assert_eq(deadlines_earliest_ns(deadlines), 200);
	set(2, 50);
	cr_assert_eq(deadlines_earliest_ns(deadlines), 50);
	cr_assert_eq(fire(1000), 2);
}

/* As in a session: most slots are answered, some time out, and they are used again. */
Test(mtr_packet_deadlines, set_removed_and_fired_at_random)
{
	int set_count = 0, ended = 0;

	for (int64_t now_ns = 0; now_ns < 200000; now_ns++) {
		uint32_t slot = (uint32_t)rand() % 500;
		if (due_ns[slot] >= 0) {
			deadlines_remove(deadlines, slot);
			due_ns[slot] = -1;
			ended++;
		} else {
			set(slot, now_ns + rand() % 2000);
			set_count++;
		}
		ended += fire(now_ns);
	}
	ended += fire(INT64_MAX - 1);
	cr_assert_eq(set_count, ended);
}
