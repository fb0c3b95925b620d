/*
 * Which slot is due when: a binary heap, and for each slot its place in it. Makes no system call;
 * runs in mtr-packet.
 */
#include "frontend/mtr_packet/deadlines.h"

#include <stdlib.h>

struct entry {
	int64_t due_ns;
	uint32_t slot;
};

struct deadlines {
	uint32_t used;
	struct entry *heap; /* the earliest is the first */
	uint32_t *place;    /* for each slot: index in the heap plus 1; 0: not in it */
};

struct deadlines *deadlines_open(uint32_t count)
{
	struct deadlines *deadlines = calloc(1, sizeof(*deadlines));

	if (!deadlines)
		return NULL;
	deadlines->heap = calloc(count, sizeof(deadlines->heap[0]));
	deadlines->place = calloc(count, sizeof(deadlines->place[0]));
	if (deadlines->heap && deadlines->place)
		return deadlines;
	deadlines_close(deadlines);
	return NULL;
}

void deadlines_close(struct deadlines *deadlines)
{
	if (!deadlines)
		return;
	free(deadlines->heap);
	free(deadlines->place);
	free(deadlines);
}

static void put(struct deadlines *deadlines, uint32_t index, struct entry entry)
{
	deadlines->heap[index] = entry;
	deadlines->place[entry.slot] = index + 1;
}

/* Puts `entry` at the free index or above. */
static void sift_up(struct deadlines *deadlines, uint32_t index, struct entry entry)
{
	while (index > 0) {
		uint32_t parent = (index - 1) / 2;
		if (deadlines->heap[parent].due_ns <= entry.due_ns)
			break;
		put(deadlines, index, deadlines->heap[parent]);
		index = parent;
	}
	put(deadlines, index, entry);
}

/* Puts `entry` at the free index or below. */
static void sift_down(struct deadlines *deadlines, uint32_t index, struct entry entry)
{
	const struct entry *heap = deadlines->heap;
	uint32_t child;

	while ((child = 2 * index + 1) < deadlines->used) {
		if (child + 1 < deadlines->used && heap[child + 1].due_ns < heap[child].due_ns)
			child++;
		if (entry.due_ns <= heap[child].due_ns)
			break;
		put(deadlines, index, heap[child]);
		index = child;
	}
	put(deadlines, index, entry);
}

void deadlines_remove(struct deadlines *deadlines, uint32_t slot)
{
	if (deadlines->place[slot] == 0)
		return;
	uint32_t index = deadlines->place[slot] - 1;
	int64_t removed_ns = deadlines->heap[index].due_ns;
	deadlines->place[slot] = 0;
	struct entry last = deadlines->heap[--deadlines->used];
	if (index == deadlines->used)
		return;
	if (last.due_ns < removed_ns)
		sift_up(deadlines, index, last);
	else
		sift_down(deadlines, index, last);
}

void deadlines_set(struct deadlines *deadlines, uint32_t slot, int64_t due_ns)
{
	deadlines_remove(deadlines, slot);
	sift_up(deadlines, deadlines->used++, (struct entry){due_ns, slot});
}

int64_t deadlines_earliest_ns(const struct deadlines *deadlines)
{
	return deadlines->used > 0 ? deadlines->heap[0].due_ns : INT64_MAX;
}

int32_t deadlines_take_due(struct deadlines *deadlines, int64_t now_ns)
{
	if (deadlines->used == 0 || deadlines->heap[0].due_ns > now_ns)
		return DEADLINE_NONE;
	uint32_t slot = deadlines->heap[0].slot;
	deadlines_remove(deadlines, slot);
	return (int32_t)slot;
}
