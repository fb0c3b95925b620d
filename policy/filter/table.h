/*
 * How a table of allowed system calls is written. mkfilter turns each table (table_NAME.c) into a
 * BPF program while building. Nothing of this is in a program that is installed.
 *
 * An entry allows one system call if all its conditions hold. Of several entries for one call, one
 * must hold. What no entry allows gets the table's answer. A call of a foreign architecture (32-bit
 * and x32 included) ends the process.
 */
#ifndef POSTERN_POLICY_FILTER_TABLE_H
#define POSTERN_POLICY_FILTER_TABLE_H

#include <seccomp.h>
#include <stddef.h>
#include <stdint.h>

enum { MOST_CONDITIONS = 3 };

/* `argument` counts from 0. The masked value must lie in first..last. */
struct condition {
	unsigned argument;
	uint64_t mask;
	uint64_t first, last;
};

/* All 64 bits are compared, though the kernel takes descriptors and flags as integers of 32: the
 * filter is only the stricter for it, and shorter. */
#define IS(n, value)                                                                               \
	{                                                                                          \
		(n), UINT64_MAX, (value), (value)                                                  \
	}
#define BETWEEN(n, low, up)                                                                        \
	{                                                                                          \
		(n), UINT64_MAX, (low), (up)                                                       \
	}
#define HAS_NOT(n, bits)                                                                           \
	{                                                                                          \
		(n), (bits), 0, 0                                                                  \
	}
#define HAS(n, bits, value)                                                                        \
	{                                                                                          \
		(n), (bits), (value), (value)                                                      \
	}
#define IS_NULL(n) IS(n, 0)

struct entry {
	int call;
	const char *reason;
	struct condition conditions[MOST_CONDITIONS]; /* those with a mask */
	uint32_t answer; /* 0: allowed; SCMP_ACT_ERRNO(n): refused, and the program goes on */
};

#define ALLOW(name, why, ...)                                                                      \
	{                                                                                          \
		.call = SCMP_SYS(name), .reason = (why), .conditions = { __VA_ARGS__ }             \
	}
#define REFUSE(name, error, why)                                                                   \
	{                                                                                          \
		.call = SCMP_SYS(name), .reason = (why), .answer = SCMP_ACT_ERRNO(error)           \
	}

struct table {
	const char *name;
	uint32_t otherwise; /* the answer to everything that is not in the table */
	const struct entry *entries;
	size_t count;
	const struct table *includes; /* entries that hold here as well, or NULL */
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

extern const struct table table_broker, table_mtr_packet, table_tracepath, table_names;

#endif
