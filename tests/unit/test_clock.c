/*
 * Kernel stamps turned into monotonic time, while somebody sets the wall clock. The clocks are the
 * test's own: clock_gettime() is defined here, and is the C library's, which mostly needs no system
 * call, except while the test says so.
 */
#include <criterion/criterion.h>
#include <dlfcn.h>
#include <stdbool.h>

#include "broker/clock.h"

#define S  INT64_C(1000000000)
#define MS INT64_C(1000000)

static bool is_fake;
static int64_t monotonic_ns, wall_ns;
static int readings_before_stall; /* then the process is interrupted, once */

static int library_clock(clockid_t clock, struct timespec *time)
{
	static int (*of_library)(clockid_t, struct timespec *);

	if (of_library == NULL)
		of_library =
			(int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
	return of_library(clock, time);
}

int clock_gettime(clockid_t clock, struct timespec *time)
{
	if (!is_fake || (clock != CLOCK_MONOTONIC && clock != CLOCK_REALTIME))
		return library_clock(clock, time);
	int64_t now_ns = clock == CLOCK_MONOTONIC ? monotonic_ns : wall_ns;
	if (readings_before_stall > 0 && --readings_before_stall == 0) {
		monotonic_ns += 3 * MS;
		wall_ns += 3 * MS;
	}
	time->tv_sec = now_ns / S;
	time->tv_nsec = now_ns % S;
	return 0;
}

static void pass(int64_t ns)
{
	monotonic_ns += ns;
	wall_ns += ns;
}

static struct timespec stamp(void)
{
	return (struct timespec){.tv_sec = wall_ns / S, .tv_nsec = wall_ns % S};
}

static void start(void)
{
	is_fake = true;
	monotonic_ns = 1000 * S + 999999990;
	wall_ns = 1700000000 * S + 123456789;
	clock_compare();
}

static void stop(void)
{
	is_fake = false;
}

TestSuite(clock, .init = start, .fini = stop);

Test(clock, now_is_the_monotonic_clock)
{
	cr_expect_eq(clock_now_ns(), monotonic_ns);
	pass(17);
	cr_expect_eq(clock_now_ns(), monotonic_ns);
	cr_expect_eq(clock_compare(), monotonic_ns);
}

Test(clock, a_stamp_is_exact_while_nobody_sets_the_clock)
{
	for (int64_t way_ns = 0; way_ns < 3 * S; way_ns += 123456789) {
		int64_t sent_ns = clock_now_ns();
		pass(way_ns);
		int64_t arrived_ns = monotonic_ns;
		struct timespec received = stamp();
		pass(40 * MS); /* the broker was busy */
		clock_compare();
		cr_expect_eq(clock_of_stamp(&received, sent_ns), arrived_ns);
	}
}

/* Between any two of the comparison's readings another process may be given the processor. */
Test(clock, an_interruption_of_the_comparison_does_not_show)
{
	for (int readings = 1; readings < 8; readings++) {
		int64_t sent_ns = clock_now_ns();
		pass(10 * MS);
		struct timespec received = stamp();
		readings_before_stall = readings;
		clock_compare();
		readings_before_stall = 0;
		cr_expect_eq(clock_of_stamp(&received, sent_ns), sent_ns + 10 * MS, "%d", readings);
	}
}

/* Set between sending and arrival, however far: the stamp and the comparison are of one time. */
Test(clock, a_step_while_the_packet_travels_does_not_show)
{
	static const int64_t steps[] = {-3600 * S, -S, -2 * MS, 2 * MS, S, 3600 * S};

	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		int64_t sent_ns = clock_now_ns();
		pass(5 * MS);
		wall_ns += steps[i];
		pass(5 * MS);
		struct timespec received = stamp();
		pass(MS);
		clock_compare();
		cr_expect_eq(clock_of_stamp(&received, sent_ns), sent_ns + 10 * MS);
	}
}

/* Set between arrival and comparison: the offset before the step still fits. */
Test(clock, a_step_after_the_arrival_does_not_show)
{
	static const int64_t steps[] = {-3600 * S, -S, S, 3600 * S};

	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		clock_compare();
		int64_t sent_ns = clock_now_ns();
		pass(10 * MS);
		struct timespec received = stamp();
		pass(MS);
		wall_ns += steps[i];
		clock_compare();
		cr_expect_eq(clock_of_stamp(&received, sent_ns), sent_ns + 10 * MS);
	}
}

Test(clock, two_steps_give_a_time_between_sending_and_now)
{
	static const int64_t steps[] = {-3600 * S, -S, -12 * MS, 12 * MS, S, 3600 * S};
	size_t count = sizeof(steps) / sizeof(steps[0]);

	for (size_t i = 0; i < count * count; i++) {
		clock_compare();
		int64_t sent_ns = clock_now_ns();
		wall_ns += steps[i / count];
		pass(10 * MS);
		struct timespec received = stamp();
		pass(MS);
		wall_ns += steps[i % count];
		clock_compare();
		int64_t told_ns = clock_of_stamp(&received, sent_ns);
		cr_expect_geq(told_ns, sent_ns);
		cr_expect_leq(told_ns, clock_now_ns());
	}
}

/* The two clocks are read one after the other: a stamp may seem to lie just before its sending. */
Test(clock, an_answer_just_before_its_question_came_at_once)
{
	int64_t sent_ns = clock_now_ns();
	wall_ns -= 900;
	struct timespec received = stamp();
	wall_ns += 900;
	pass(MS);
	clock_compare();
	cr_expect_eq(clock_of_stamp(&received, sent_ns), sent_ns);
}

Test(clock, no_stamp_means_by_now)
{
	const struct timespec none = {0, 0};
	int64_t sent_ns = clock_now_ns();

	pass(MS);
	clock_compare();
	cr_expect_eq(clock_of_stamp(&none, sent_ns), sent_ns + MS);
}

Test(clock, a_stamp_has_a_place_between_two_readings)
{
	int64_t from_ns = clock_now_ns(), time_ns = 0;

	pass(3000);
	struct timespec inside = stamp();
	int64_t inside_ns = monotonic_ns;
	pass(3000);
	clock_compare();
	cr_expect(clock_place_stamp(&inside, from_ns, &time_ns));
	cr_expect_eq(time_ns, inside_ns);

	/* Readings of the two clocks lie some nanoseconds apart. */
	cr_expect(clock_place_stamp(&inside, inside_ns + 100, &time_ns));
	cr_expect_eq(time_ns, inside_ns + 100);
	pass(100);
	struct timespec after = stamp();
	cr_expect(clock_place_stamp(&after, from_ns, &time_ns));
	cr_expect_eq(time_ns, monotonic_ns - 100);
}

Test(clock, a_stamp_from_elsewhere_has_no_place)
{
	struct timespec early = stamp(), none = {0, 0};
	int64_t time_ns = -1;

	pass(5000);
	int64_t from_ns = clock_now_ns();
	pass(5000);
	clock_compare();
	cr_expect_not(clock_place_stamp(&early, from_ns, &time_ns));
	cr_expect_not(clock_place_stamp(&none, from_ns, &time_ns));
	pass(5000);
	struct timespec late = stamp();
	cr_expect_not(clock_place_stamp(&late, from_ns, &time_ns));

	/* The wall clock was set between the stamp and the comparison. */
	struct timespec inside = stamp();
	wall_ns += S;
	clock_compare();
	cr_expect_not(clock_place_stamp(&inside, from_ns, &time_ns));
	cr_expect_eq(time_ns, -1);
}
