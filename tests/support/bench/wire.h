/*
 * When probes left and answers arrived, as a packet capture on loopback shows it. Each probe goes
 * to an IPv4 address of its own, so that one rule finds the answer of every protocol. The capture
 * is read only when the measurement is over. Runs in the benchmark programs.
 */
#ifndef POSTERN_TESTS_BENCH_WIRE_H
#define POSTERN_TESTS_BENCH_WIRE_H

#include <stddef.h>
#include <stdint.h>

enum {
	WIRE_PROBES_MAX = 1 << 16,
	WIRE_FIRST_ADDRESS = 0x7f010000, /* 127.1.0.0: where probe 0 goes, probe 1 to the next */
};

struct wire;

struct wire_probe {
	int64_t left_ns; /* the first packet to the address, as it was handed to the interface; 0:
			    none */
	int64_t answered_ns; /* the first packet from there, as it arrived; 0: none */
};

/* Captures from now on; room for `probes` probes and their answers. */
struct wire *wire_open(size_t probes);

/* Fills probes[0] to probes[count - 1]. Ends the program if the capture lost packets. */
void wire_close(struct wire *wire, struct wire_probe *probes, size_t count);

#endif
