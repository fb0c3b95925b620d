/*
 * The open probes: which slot of the transport holds which request. The slot that was released last
 * is taken first, so that few open probes stay in few cache lines. Makes no system call; runs in
 * mtr-packet.
 */
#include "frontend/mtr_packet/slots.h"

#include <stdlib.h>

struct slots {
	uint32_t used;
	uint32_t touched;    /* slots from here on were never used */
	uint16_t first_free; /* of the list of released slots, if used < touched */
	struct slot slots[TRANSPORT_SLOTS];
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
	return &slots->slots[number % TRANSPORT_SLOTS];
}

uint32_t slots_number(const struct slot *slot)
{
	return slot->probe.cookie % TRANSPORT_SLOTS;
}

struct slot *slots_take(struct slots *slots)
{
	uint32_t number;

	if (slots->used < slots->touched) {
		number = slots->first_free;
		slots->first_free = slots_at(slots, number)->next_free;
	} else if (slots->touched < TRANSPORT_SLOTS) {
		number = slots->touched++;
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
	slot->next_free = slots->first_free;
	slots->first_free = (uint16_t)slots_number(slot);
	slots->used--;
}

struct slot *slots_find(struct slots *slots, uint32_t cookie)
{
	struct slot *slot = slots_at(slots, cookie);

	return slot->state != SLOT_FREE && slot->probe.cookie == cookie ? slot : NULL;
}

struct slot *slots_next(struct slots *slots, const struct slot *after)
{
	for (uint32_t number = after ? slots_number(after) + 1 : 0; number < slots->touched;
	     number++)
		if (slots->slots[number].state != SLOT_FREE)
			return &slots->slots[number];
	return NULL;
}
