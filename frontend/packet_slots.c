/*
 * The open probes: which slot of the channel holds which request. The slot that became free last is
 * taken first, so that a client with few probes open stays in few cache lines. Pure memory; runs in
 * the packet front end.
 */
#include "frontend/packet_slots.h"

#include <stdlib.h>

struct slots {
	uint32_t used;
	uint32_t fresh;      /* slots from here on were never used */
	uint32_t free_count; /* used ones that are free again */
	uint16_t free[RECORD_SLOTS];
	struct slot slots[RECORD_SLOTS];
};

struct slots *slots_open(void)
{
	return calloc(1, sizeof(struct slots));
}

void slots_close(struct slots *slots)
{
	free(slots);
}

uint32_t slots_used(const struct slots *slots)
{
	return slots->used;
}

struct slot *slots_at(struct slots *slots, uint32_t number)
{
	return &slots->slots[number % RECORD_SLOTS];
}

uint32_t slots_number(const struct slot *slot)
{
	return slot->probe.cookie % RECORD_SLOTS;
}

struct slot *slots_take(struct slots *slots)
{
	uint32_t number;

	if (slots->free_count > 0)
		number = slots->free[--slots->free_count];
	else if (slots->fresh < RECORD_SLOTS)
		number = slots->fresh++;
	else
		return NULL;
	struct slot *slot = slots_at(slots, number);
	slot->state = SLOT_SENT;
	slot->generation++;
	slot->probe.cookie = (uint32_t)slot->generation << 16 | number;
	slots->used++;
	return slot;
}

void slots_release(struct slots *slots, struct slot *slot)
{
	slot->state = SLOT_FREE;
	slots->free[slots->free_count++] = (uint16_t)slots_number(slot);
	slots->used--;
}

struct slot *slots_find(struct slots *slots, uint32_t cookie)
{
	struct slot *slot = slots_at(slots, cookie);

	return slot->state != SLOT_FREE && slot->probe.cookie == cookie ? slot : NULL;
}
