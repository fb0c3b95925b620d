/*
 * Waiting for descriptors, by programs that mostly wait for each other. Used by both sides; keeps
 * nothing but what it is given.
 */
#ifndef POSTERN_COMMON_AWAIT_H
#define POSTERN_COMMON_AWAIT_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

/* What is known of one kind of wait. All zero at first. */
struct await {
	bool is_short;       /* the last one was, and came soon after the one before */
	uint32_t sleeps_due; /* so many more waits sleep in any case */
	int64_t ended_ns;    /* when the last one was over */
};

/* As ppoll(2) without a signal mask: `wait` NULL is for ever, the result is ppoll's. If the last
 * wait of this kind was a short one, looks again and again for some microseconds before it goes to
 * sleep: being woken takes longer than that, and costs whoever wakes. Where there is a wait only
 * now and then, and on busy processors, where others would have to wait meanwhile, it sleeps at
 * once. `before_sleep`, unless NULL, is called before it may sleep, not before it looks. */
int await_ready(struct await *kind, struct pollfd *polled, nfds_t count,
		const struct timespec *wait, void (*before_sleep)(void));

#endif
