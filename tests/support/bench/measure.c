/*
 * Clocks, order statistics and messages of the benchmark programs.
 */
#include "tests/support/bench/measure.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void measure_die(const char *what)
{
	if (errno != 0)
		fprintf(stderr, "bench: %s: %s\n", what, strerror(errno));
	else
		fprintf(stderr, "bench: %s\n", what);
	exit(EXIT_FAILURE);
}

int64_t measure_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int compare(const void *left, const void *right)
{
	const int64_t *a = left, *b = right;

	return (*a > *b) - (*a < *b);
}

static double at(const int64_t *sorted, size_t count, double share, int64_t unit)
{
	return (double)sorted[(size_t)((double)(count - 1) * share)] / (double)unit;
}

void measure_print_distribution(const char *name, int64_t *values, size_t count, int64_t unit)
{
	if (count == 0) {
		printf("\"%s\": null", name);
		return;
	}
	qsort(values, count, sizeof(*values), compare);
	printf("\"%s\": {\"min\": %.3f, \"p01\": %.3f, \"median\": %.3f, \"p99\": %.3f, "
	       "\"max\": %.3f, \"count\": %zu}",
	       name, at(values, count, 0, unit), at(values, count, 0.01, unit),
	       at(values, count, 0.5, unit), at(values, count, 0.99, unit),
	       at(values, count, 1, unit), count);
}

long measure_number(const char *text, long most)
{
	char *end;

	errno = 0;
	long number = strtol(text, &end, 10);
	if (end == text || *end != '\0' || errno != 0 || number < 0 || number > most) {
		fprintf(stderr, "bench: %s: not a number from 0 to %ld\n", text, most);
		exit(2);
	}
	return number;
}
