/*
 * Round-trip times from a monotonic send time and a wall-clock receive stamp, also when the wall
 * clock was stepped in between.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <time.h>

#include "frontend/process/clock.h"

Test(clock, round_trip_times)
{
	static const struct {
		int64_t sent_ns, received_wall_ns, wall_offset_ns, now_ns, rtt_ns;
	} cases[] = {
		{1000, 501500, -500000, 2000, 500},  /* as it should be */
		{1000, 501000, -500000, 2000, 0},    /* at once */
		{1000, 502000, -500000, 2000, 1000}, /* read in the same instant */
		{1000, 500999, -500000, 2000, 0},    /* before it was sent */
		{1000, 502001, -500000, 2000, 1000}, /* after it was read */
		{1000, INT64_C(3600) * NS_PER_S, -500000, 2000, 1000}, /* the clock went back */
		{1000, 0, -500000, 2000, 0},                           /* and forth */
		{2000, 502500, -500000, 1000, 0}, /* a send time of the future */
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		cr_expect_eq(clock_rtt_ns(cases[i].sent_ns, cases[i].received_wall_ns,
					  cases[i].wall_offset_ns, cases[i].now_ns),
			     cases[i].rtt_ns, "case %zu", i);
}

Test(clock, offset_between_the_clocks)
{
	struct timespec wall;

	clock_gettime(CLOCK_REALTIME, &wall);
	int64_t wall_ns = (int64_t)wall.tv_sec * NS_PER_S + wall.tv_nsec;
	int64_t difference_ns = wall_ns + clock_wall_offset_ns() - clock_now_ns();
	cr_expect_lt(llabs(difference_ns), NS_PER_S, "%lld", (long long)difference_ns);
}
