/*
 * When which slot is due: a heap with one entry at most for each slot. Setting, removing and taking
 * the earliest cost O(log n); setting one that is later than all others, as equal timeouts do,
 * O(1). Pure memory; runs in the packet front end.
 */
#ifndef POSTERN_FRONTEND_PACKET_DEADLINES_H
#define POSTERN_FRONTEND_PACKET_DEADLINES_H

#include <stdint.h>

struct deadlines;

enum { DEADLINE_NONE = -1 };

/* Room for slots 0..count-1; NULL with errno set if there is no memory. */
struct deadlines *deadlines_open(uint32_t count);
void deadlines_close(struct deadlines *deadlines);

/* Sets the slot's time, in place of one that it may have. */
void deadlines_set(struct deadlines *deadlines, uint32_t slot, int64_t due_ns);

/* Forgets the slot; one that has no time is left alone. */
void deadlines_remove(struct deadlines *deadlines, uint32_t slot);

/* The earliest time, INT64_MAX: none is set. */
int64_t deadlines_earliest_ns(const struct deadlines *deadlines);

/* Takes out the earliest slot whose time is now_ns or before; DEADLINE_NONE if none is due. */
int32_t deadlines_take_due(struct deadlines *deadlines, int64_t now_ns);

#endif
