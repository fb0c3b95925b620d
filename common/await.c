/*
 * Waiting for descriptors: looks before it sleeps where that has lately paid. Nothing here is
 * wrong if it guesses wrong; it is some microseconds slower, or uses some more.
 */
#include "common/await.h"

#include <errno.h>
#include <sched.h>

static const int64_t NS_PER_S = 1000000000;

enum {
	/* Across processors a sleeper runs again after 30 to 60 us, and waking it takes its waker
	 * 10 to 15 (tests/bench/NOTES.md). Waits that are over sooner are better not slept through;
	 * with those that are not, as much is lost at most. */
	SHORT_NS = 50000,
	/* Looking takes a processor's time, sleeping an answer's. Whoever waits less often than
	 * this, as the front ends of a hundred users do, is in no hurry. */
	SELDOM_NS = 1000000,
	/* Between two looks others may run, who are perhaps the very ones to be waited for. If that
	 * took longer than this, they were not: someone computes, and whoever is awake waits behind
	 * him, while a sleeper is let in before him. */
	OTHERS_NS = 200000,
	SLEEPS_WHEN_BUSY = 10000,
};

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

/* Looks until something is ready, or the time for it is over. */
static int look(struct await *kind, struct pollfd *polled, nfds_t count, int64_t from_ns)
{
	static const struct timespec at_once;
	int64_t looked_ns = from_ns;

	for (;;) {
		int ready = ppoll(polled, count, &at_once, NULL);
		if (ready != 0)
			return ready;
		sched_yield();
		int64_t ns = now_ns();
		if (ns - looked_ns > OTHERS_NS)
			kind->sleeps_due = SLEEPS_WHEN_BUSY;
		if (ns - from_ns > SHORT_NS)
			return 0;
		looked_ns = ns;
	}
}

static int sleep_until_ready(struct pollfd *polled, nfds_t count, const struct timespec *wait,
			     void (*before_sleep)(void))
{
	if (before_sleep != NULL)
		before_sleep();
	return ppoll(polled, count, wait, NULL);
}

int await_ready(struct await *kind, struct pollfd *polled, nfds_t count,
		const struct timespec *wait, void (*before_sleep)(void))
{
	int64_t from_ns = now_ns();
	int64_t wait_ns = wait == NULL ? INT64_MAX : wait->tv_sec * NS_PER_S + wait->tv_nsec;
	int ready = 0;

	if (wait_ns <= SHORT_NS)
		return sleep_until_ready(polled, count, wait, before_sleep);
	if (kind->sleeps_due > 0)
		kind->sleeps_due--;
	else if (kind->is_short)
		ready = look(kind, polled, count, from_ns);
	if (ready == 0)
		ready = sleep_until_ready(polled, count, wait, before_sleep);
	bool is_seldom = from_ns - kind->ended_ns > SELDOM_NS;
	kind->ended_ns = now_ns();
	kind->is_short = !is_seldom && kind->ended_ns - from_ns < SHORT_NS;
	return ready;
}
