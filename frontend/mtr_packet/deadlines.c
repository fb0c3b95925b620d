/*
 * When which slot is due: a heap, and for each slot its place in it. Four children a node halve the
 * depth that removing an answered probe walks. Pure memory; runs in the packet front end.
 */
#include "frontend/packet_deadlines.h"

#include <stddef.h>

#include "frontend/memory.h"

enum { CHILDREN = 4 };

struct entry {
	int64_t due_ns;
	uint32_t slot;
};

/* Two tables in one, since there is room and both are used from their beginning on. */
struct node {
	int64_t due_ns; /* by place in the heap ... */
	uint32_t slot;
	/* ... and by slot: its place in the heap plus one, or 0: not in it. All zero to begin with,
	 * so that memory is touched, and start-up time spent, only for slots that are used. */
	uint32_t place;
};

struct deadlines {
	uint32_t used;
	uint32_t count;
	struct node nodes[];
};

static size_t size_of(uint32_t count)
{
	return sizeof(struct deadlines) + count * sizeof(struct node);
}

struct deadlines *deadlines_open(uint32_t count)
{
	struct deadlines *deadlines = memory_open(size_of(count));

	if (deadlines)
		deadlines->count = count;
	return deadlines;
}

void deadlines_close(struct deadlines *deadlines)
{
	if (deadlines)
		memory_close(deadlines, size_of(deadlines->count));
}

static struct entry get(const struct deadlines *deadlines, uint32_t place)
{
	return (struct entry){deadlines->nodes[place].due_ns, deadlines->nodes[place].slot};
}

static void put(struct deadlines *deadlines, uint32_t place, struct entry entry)
{
	deadlines->nodes[place].due_ns = entry.due_ns;
	deadlines->nodes[place].slot = entry.slot;
	deadlines->nodes[entry.slot].place = place + 1;
}

/* `place` is free: finds where `entry` belongs at or above it. */
static void settle_up(struct deadlines *deadlines, uint32_t place, struct entry entry)
{
	while (place > 0) {
		uint32_t parent = (place - 1) / CHILDREN;
		if (deadlines->nodes[parent].due_ns <= entry.due_ns)
			break;
		put(deadlines, place, get(deadlines, parent));
		place = parent;
	}
	put(deadlines, place, entry);
}

/* `place` is free: finds where `entry` belongs at or below it. */
static void settle_down(struct deadlines *deadlines, uint32_t place, struct entry entry)
{
	for (;;) {
		uint32_t first = place * CHILDREN + 1;
		uint32_t end =
			first + CHILDREN < deadlines->used ? first + CHILDREN : deadlines->used;
		uint32_t least = place;
		int64_t least_ns = entry.due_ns;
		for (uint32_t child = first; child < end; child++) {
			if (deadlines->nodes[child].due_ns < least_ns) {
				least = child;
				least_ns = deadlines->nodes[child].due_ns;
			}
		}
		if (least == place)
			break;
		put(deadlines, place, get(deadlines, least));
		place = least;
	}
	put(deadlines, place, entry);
}

void deadlines_remove(struct deadlines *deadlines, uint32_t slot)
{
	if (deadlines->nodes[slot].place == 0)
		return;
	uint32_t place = deadlines->nodes[slot].place - 1;
	deadlines->nodes[slot].place = 0;
	struct entry last = get(deadlines, --deadlines->used);
	if (place == deadlines->used)
		return;
	if (last.due_ns < deadlines->nodes[place].due_ns)
		settle_up(deadlines, place, last);
	else
		settle_down(deadlines, place, last);
}

void deadlines_set(struct deadlines *deadlines, uint32_t slot, int64_t due_ns)
{
	deadlines_remove(deadlines, slot);
	settle_up(deadlines, deadlines->used++, (struct entry){due_ns, slot});
}

int64_t deadlines_earliest_ns(const struct deadlines *deadlines)
{
	return deadlines->used > 0 ? deadlines->nodes[0].due_ns : INT64_MAX;
}

int32_t deadlines_take_due(struct deadlines *deadlines, int64_t now_ns)
{
	if (deadlines_earliest_ns(deadlines) > now_ns || deadlines->used == 0)
		return DEADLINE_NONE;
	uint32_t slot = deadlines->nodes[0].slot;
	deadlines_remove(deadlines, slot);
	return (int32_t)slot;
}
