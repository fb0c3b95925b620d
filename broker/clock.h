/*
 * The broker's two clocks: the monotonic one, in which all its times are, and the wall clock, in
 * which the kernel stamps what it receives.
 */
#ifndef POSTERN_BROKER_CLOCK_H
#define POSTERN_BROKER_CLOCK_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

/* CLOCK_MONOTONIC, nanoseconds. */
int64_t clock_now_ns(void);

/* Compares the clocks; call it once before the stamps of a batch are converted. Returns the
 * monotonic time. */
int64_t clock_compare(void);

/* The monotonic time of a kernel stamp, given when the probe was sent: never before that and never
 * after the last clock_compare(), even if somebody has set the wall clock meanwhile. */
int64_t clock_of_stamp(const struct timespec *stamp, int64_t sent_ns);

/* The same for a stamp of which it is known that it was made between from_ns and the last
 * clock_compare(): false, with time_ns untouched, if it cannot have been, as when somebody has set
 * the wall clock in between. */
bool clock_place_stamp(const struct timespec *stamp, int64_t from_ns, int64_t *time_ns);

#endif
