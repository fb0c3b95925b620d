/*
 * The path MTU at each TTL: a list of steps at which it becomes smaller, in the order of TTLs. A
 * part of the tracing engine. A "too big" with an impossible MTU is not believed, it only says
 * "smaller".
 */
#ifndef POSTERN_FRONTEND_TRACEPATH_MTU_H
#define POSTERN_FRONTEND_TRACEPATH_MTU_H

#include "frontend/tracepath/facts.h"

struct mtu_step {
	struct trace_step told;
	uint32_t before_bytes; /* the size that is too big */
	bool guessed;          /* the router did not say what fits, and no answer confirms it yet */
};

struct path_mtu {
	uint32_t first_bytes; /* size of the first packets */
	uint32_t least_bytes; /* no link carries less */
	unsigned count;
	struct mtu_step step[TRACE_STEPS];
};

/* The size of a full-size probe with this TTL. */
uint32_t mtu_at(const struct path_mtu *mtu, uint8_t ttl);

/* Each of the next three returns the first TTL whose full size has become smaller, 0 if there is
 * none. */

/* The first link carries no more than `mtu_bytes`; 0: less than `before_bytes`, how much is not
 * known. */
uint8_t mtu_local(struct path_mtu *mtu, uint8_t ttl, uint32_t before_bytes, uint32_t mtu_bytes,
		  int64_t took_ns);
/* A probe of `bytes` with this TTL was too big. */
uint8_t mtu_too_big(struct path_mtu *mtu, uint8_t ttl, uint32_t bytes,
		    const struct trace_answer *answer);
/* `router` answers at its TTL: a step that it announced begins right behind it. */
uint8_t mtu_locate(struct path_mtu *mtu, const struct trace_hop *router);
/* Packets with this TTL that are larger than `mtu_bytes` vanish. The caller fills in after which
 * hop. NULL: no room. */
struct trace_step *mtu_black_hole(struct path_mtu *mtu, uint8_t ttl, uint32_t mtu_bytes);

/* A probe of this size was answered at this TTL: guesses up to there are right. */
void mtu_confirm(struct path_mtu *mtu, uint8_t ttl, uint32_t bytes);

/* There is no room for another step: what the routers say makes no sense. */
static inline bool mtu_is_full(const struct path_mtu *mtu)
{
	return mtu->count == TRACE_STEPS;
}

#endif
