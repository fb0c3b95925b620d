/*
 * Clocks of the broker. The wall clock may be set at any time; it is believed only as far as it
 * fits between two readings of the monotonic clock.
 */
#include "broker/clock.h"

static const int64_t NS_PER_S = 1000000000;

enum {
	/* On a busy machine the process may be interrupted between readings of the two clocks, for
	 * milliseconds by which all round-trip times of a batch would be wrong. Readings that
	 * enclose more time than this are made again. */
	COMPARED_WITHIN_NS = 2000,
	/* Where reading a clock takes longer than that by itself, the closest count. */
	COMPARISONS = 3,
};

/* Wall clock minus monotonic clock, at the last and the last but one comparison. */
static int64_t offset_ns;
static int64_t previous_offset_ns;
static int64_t compared_ns;

static int64_t to_ns(const struct timespec *time)
{
	return (int64_t)time->tv_sec * NS_PER_S + time->tv_nsec;
}

static int64_t read_ns(clockid_t clock)
{
	struct timespec time;

	clock_gettime(clock, &time);
	return to_ns(&time);
}

int64_t clock_now_ns(void)
{
	return read_ns(CLOCK_MONOTONIC);
}

int64_t clock_compare(void)
{
	int64_t least_ns = INT64_MAX;

	previous_offset_ns = offset_ns;
	for (int i = 0; i < COMPARISONS && least_ns > COMPARED_WITHIN_NS; i++) {
		int64_t before_ns = clock_now_ns();
		int64_t wall_ns = read_ns(CLOCK_REALTIME);
		compared_ns = clock_now_ns();
		if (compared_ns - before_ns >= least_ns)
			continue;
		least_ns = compared_ns - before_ns;
		offset_ns = wall_ns - before_ns - least_ns / 2;
	}
	return compared_ns;
}

int64_t clock_of_stamp(const struct timespec *stamp, int64_t sent_ns)
{
	int64_t stamp_ns = to_ns(stamp);
	int64_t received_ns = stamp_ns - offset_ns;

	if (received_ns >= sent_ns && received_ns <= compared_ns)
		return received_ns;
	/* A step of the clock between the stamp and the comparison: the stamp is in the old time.
	 */
	int64_t earlier_ns = stamp_ns - previous_offset_ns;
	if (earlier_ns >= sent_ns && earlier_ns <= compared_ns)
		return earlier_ns;
	/* Readings of the two clocks lie some nanoseconds apart: an answer faster than that came at
	 * once. Anything else cannot be told more exactly than "by now". */
	return received_ns < sent_ns && sent_ns - received_ns < 10000 ? sent_ns : compared_ns;
}

bool clock_place_stamp(const struct timespec *stamp, int64_t from_ns, int64_t *time_ns)
{
	int64_t stamp_ns = to_ns(stamp) - offset_ns;

	if (stamp_ns < from_ns - COMPARED_WITHIN_NS || stamp_ns > compared_ns + COMPARED_WITHIN_NS)
		return false;
	if (stamp_ns < from_ns)
		stamp_ns = from_ns;
	*time_ns = stamp_ns > compared_ns ? compared_ns : stamp_ns;
	return true;
}
