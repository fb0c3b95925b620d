/*
 * A long wire between two interfaces.
 */
#ifndef POSTERN_TESTS_LAB_SIMNET_WIRE_H
#define POSTERN_TESTS_LAB_SIMNET_WIRE_H

#include "tests/lab/simnet_loop.h"

struct wire {
	const char *interfaces[2];
	uint64_t delay_ns; /* each way */
	uint32_t loss_ppm; /* each way */
	uint64_t seed;
};

/* Carries frames both ways until it is time to end. Returns the exit status. */
int wire_run(const struct wire *wire, const struct loop_options *options);

#endif
