/*
 * What every benchmark program needs: clocks, order statistics, JSON numbers, options, and an end
 * with a message.
 */
#ifndef POSTERN_TESTS_BENCH_MEASURE_H
#define POSTERN_TESTS_BENCH_MEASURE_H

#include <stddef.h>
#include <stdint.h>

_Noreturn void measure_die(const char *what);

/* CLOCK_MONOTONIC */
int64_t measure_now_ns(void);

/* Sorts the values and prints `"NAME": {"min": …, "median": …, "p99": …, "max": …, "count": …}`;
 * each divided by `unit`. */
void measure_print_distribution(const char *name, int64_t *values, size_t count, int64_t unit);

/* A whole number from 0 to `most`, or the end of the program. */
long measure_number(const char *text, long most);

#endif
