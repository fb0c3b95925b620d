/*
 * The open probes: which slot of the channel holds which request. The slot that became free last is
 * taken first, so that a client with few probes open stays in few cache lines. Pure memory; runs in
 * the packet front end.
 */
#include "frontend/packet_slots.h"

#include "frontend/memory.h"

struct slots {
	uint32_t used;
	uint32_t
		fresh; /* slots from here on were never used; those before are in use or in a ... */
	uint16_t free; /* ... chain of free ones that begins with this, if it is not empty */
	struct slot slots[RECORD_SLOTS];
};

struct slots *slots_open(void)
{
	return memory_open(sizeof(struct slots));
}

void slots_close(struct slots *slots)
{
	memory_close(slots, sizeof(*slots));
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

	if (slots->used < slots->fresh) {
		number = slots->free;
		slots->free = slots_at(slots, number)->next_free;
	} else if (slots->fresh < RECORD_SLOTS) {
		number = slots->fresh++;
	} else {
		return NULL;
	}
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
	slot->next_free = slots->free;
	slots->free = (uint16_t)slots_number(slot);
	slots->used--;
}

struct slot *slots_find(struct slots *slots, uint32_t cookie)
{
	struct slot *slot = slots_at(slots, cookie);

	return slot->state != SLOT_FREE && slot->probe.cookie == cookie ? slot : NULL;
}
