/*
 * What simnet's two modes share: waiting for frames, for the next due time and for the end.
 */
#ifndef POSTERN_TESTS_LAB_SIMNET_LOOP_H
#define POSTERN_TESTS_LAB_SIMNET_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct loop_options {
	double for_seconds; /* 0: until SIGTERM or the end of stdin */
	bool statistics;
};

struct loop;

uint64_t loop_now_ns(void); /* CLOCK_MONOTONIC */

/* Catches SIGTERM, SIGINT and the end of stdin. On failure prints why and returns NULL. */
struct loop *loop_new(const struct loop_options *options);
void loop_free(struct loop *loop);

/* Waits until a frame can be read from one of the descriptors, or until_ns. Returns false when it
 * is time to end. */
bool loop_wait(struct loop *loop, const int *descriptors, size_t count, uint64_t until_ns);

#endif
