/*
 * Which slot is due when: a binary heap with at most one entry for each slot. Setting and removing
 * cost O(log n). Makes no system call; runs in mtr-packet.
 */
#ifndef POSTERN_FRONTEND_MTR_PACKET_DEADLINES_H
#define POSTERN_FRONTEND_MTR_PACKET_DEADLINES_H

#include <stdint.h>

struct deadlines;

enum { DEADLINE_NONE = -1 };

/* Room for slots 0..count-1. NULL with errno if there is no memory. */
struct deadlines *deadlines_open(uint32_t count);
void deadlines_close(struct deadlines *deadlines);

/* Sets the time of a slot and replaces an earlier one. */
void deadlines_set(struct deadlines *deadlines, uint32_t slot, int64_t due_ns);

/* Removes a slot. One that is not set is ignored. */
void deadlines_remove(struct deadlines *deadlines, uint32_t slot);

/* The earliest time; INT64_MAX: none is set. */
int64_t deadlines_earliest_ns(const struct deadlines *deadlines);

/* Removes and returns the earliest slot that is due at now_ns or before; DEADLINE_NONE: none. */
int32_t deadlines_take_due(struct deadlines *deadlines, int64_t now_ns);

#endif
