/*
 * The clocks of the front end.
 */
#include "frontend/process/clock.h"

#include <time.h>

static int64_t read_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

int64_t clock_now_ns(void)
{
	return read_ns(CLOCK_MONOTONIC);
}

int64_t clock_wall_offset_ns(void)
{
	int64_t before_ns = read_ns(CLOCK_MONOTONIC);
	int64_t wall_ns = read_ns(CLOCK_REALTIME);
	int64_t after_ns = read_ns(CLOCK_MONOTONIC);

	return before_ns + (after_ns - before_ns) / 2 - wall_ns;
}

int64_t clock_rtt_ns(int64_t sent_ns, int64_t received_wall_ns, int64_t wall_offset_ns,
		     int64_t now_ns)
{
	int64_t rtt_ns = received_wall_ns + wall_offset_ns - sent_ns;

	if (rtt_ns > now_ns - sent_ns)
		rtt_ns = now_ns - sent_ns;
	return rtt_ns < 0 ? 0 : rtt_ns;
}
