/*
 * The open probes: which slot of the transport holds which request. Each call costs O(1), and only
 * slots that were used take memory. Makes no system call; runs in mtr-packet.
 */
#ifndef POSTERN_FRONTEND_MTR_PACKET_SLOTS_H
#define POSTERN_FRONTEND_MTR_PACKET_SLOTS_H

#include <stdbool.h>
#include <stdint.h>

#include "frontend/mtr_packet/request.h"
#include "frontend/transport/transport.h"

enum slot_state {
	SLOT_FREE,    /* no request */
	SLOT_SENT,    /* the transport has the probe */
	SLOT_WAITING, /* the probe is sent again later */
};

struct slot {
	struct probe_request probe;
	int64_t deadline_ns; /* when the reply is no-reply */
	struct token token;
	uint8_t state; /* enum slot_state */
	bool details;
	uint8_t retries;
	uint16_t generation; /* the upper half of the cookie */
	uint16_t next_free;  /* of a free slot */
};

struct slots;

/* TRANSPORT_SLOTS free slots. NULL with errno if there is no memory. */
struct slots *slots_open(void);
void slots_close(struct slots *slots);

/* How many are in use. */
uint32_t slots_used(const struct slots *slots);

/* Takes a free slot and sets probe.cookie, which differs in 65,536 successive uses of a slot. NULL
 * if all are in use. The caller sets the rest. */
struct slot *slots_take(struct slots *slots);
void slots_release(struct slots *slots, struct slot *slot);

/* The slot in use that has this cookie, or NULL. */
struct slot *slots_find(struct slots *slots, uint32_t cookie);

/* The first slot in use behind `after`, or of all if that is NULL; NULL: there is none. */
struct slot *slots_next(struct slots *slots, const struct slot *after);

/* The number of a slot, below TRANSPORT_SLOTS, and the slot that has it. */
uint32_t slots_number(const struct slot *slot);
struct slot *slots_at(struct slots *slots, uint32_t number);

#endif
