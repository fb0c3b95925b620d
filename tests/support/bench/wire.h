/*
 * What a packet capture says of ICMP echoes: the kernel's time stamps of each request and reply on
 * one interface, kept in a ring that is read only when the measurement is over. Runs in the
 * benchmark programs.
 */
#ifndef POSTERN_TESTS_BENCH_WIRE_H
#define POSTERN_TESTS_BENCH_WIRE_H

#include <stddef.h>
#include <stdint.h>

struct wire;

struct wire_echo {
	uint8_t pattern;    /* the request's last payload byte */
	int64_t left_ns;    /* the request as it was handed to the interface */
	int64_t arrived_ns; /* on loopback: as it came out there, where most captures look; or 0 */
	int64_t replied_ns; /* the reply as it came in, 0: never */
};

/* Captures from now on; room for `echoes` requests and their replies. */
struct wire *wire_open(const char *interface, size_t echoes);

/* The requests in the order in which they left. Ends the program if the ring was too small. */
size_t wire_close(struct wire *wire, struct wire_echo *echoes, size_t most);

#endif
