/*
 * The clocks of the front end.
 */
#ifndef POSTERN_FRONTEND_PROCESS_CLOCK_H
#define POSTERN_FRONTEND_PROCESS_CLOCK_H

#include <stdint.h>

enum { NS_PER_S = 1000000000, NS_PER_MS = 1000000, NS_PER_US = 1000 };

/* CLOCK_MONOTONIC in nanoseconds. */
int64_t clock_now_ns(void);

/* How much to add to a CLOCK_REALTIME stamp to get CLOCK_MONOTONIC, as it is now. Read it once for
 * each batch of packets, soon after they arrived: a step of the wall clock between stamp and call
 * shows in the result. */
int64_t clock_wall_offset_ns(void);

/* The round-trip time of a probe that left at `sent_ns` (monotonic) and whose answer the kernel
 * stamped at `received_wall_ns`, read at `now_ns`: 0 or more, and no more than now_ns - sent_ns. A
 * stamp that a step of the wall clock has moved outside of that range gives its nearer end. */
int64_t clock_rtt_ns(int64_t sent_ns, int64_t received_wall_ns, int64_t wall_offset_ns,
		     int64_t now_ns);

#endif
