/*
 * The open probes: which slot of the channel holds which request. Everything is O(1), and memory is
 * touched only by slots that were used. Pure memory; runs in the packet front end.
 */
#ifndef POSTERN_FRONTEND_PACKET_SLOTS_H
#define POSTERN_FRONTEND_PACKET_SLOTS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/record.h"
#include "frontend/packet_request.h"

enum slot_state {
	SLOT_FREE,    /* no request */
	SLOT_SENT,    /* the transport has its probe */
	SLOT_WAITING, /* a passing shortage kept its probe from leaving; it is tried again */
};

struct slot {
	struct record_probe probe;
	int64_t deadline_ns; /* when it is answered no-reply */
	struct token token;
	uint8_t state; /* enum slot_state */
	bool details;
	bool routed;         /* a route has been asked for ... */
	bool source_routed;  /* ... and gave probe.source */
	bool link_routed;    /* ... and probe.ifindex, of a link-local destination */
	uint8_t tries;       /* how often it met a shortage, up to a few */
	uint16_t generation; /* of the slot: the upper half of its cookie */
	uint16_t next_free;  /* of a free slot, for packet_slots.c */
};

struct slots;

/* RECORD_SLOTS free slots; NULL with errno set if there is no memory. */
struct slots *slots_open(void);
void slots_close(struct slots *slots);

/* Slots in use. */
uint32_t slots_used(const struct slots *slots);

/* Takes a free slot and sets its cookie in probe.cookie, new each time for 65,536 uses of a slot;
 * NULL if all are in use. The caller sets everything else. */
struct slot *slots_take(struct slots *slots);
void slots_release(struct slots *slots, struct slot *slot);

/* The slot in use that has this cookie, or NULL. */
struct slot *slots_find(struct slots *slots, uint32_t cookie);

/* The slot with this number, in use or not; and a slot's number. */
struct slot *slots_at(struct slots *slots, uint32_t number);
uint32_t slots_number(const struct slot *slot);

#endif
