/*
 * The path MTU at each TTL. Runs in the unprivileged front end as a part of the tracing engine;
 * routers are believed as to what fits through their own links, in the bounds of what links carry.
 */
#include "frontend/tracepath/mtu.h"

#include <string.h>

#include "frontend/tracepath/search.h"

uint32_t mtu_at(const struct path_mtu *mtu, uint8_t ttl)
{
	uint32_t bytes = mtu->first_bytes;

	for (unsigned i = 0; i < mtu->count && mtu->step[i].told.ttl <= ttl; i++)
		bytes = mtu->step[i].told.mtu_bytes;
	return bytes;
}

/* Makes place for a new step in the order of TTLs, behind those with the same. Steps that follow
 * and are not smaller go: no packet gets there that is too big for them. NULL: no room. */
static struct mtu_step *insert(struct path_mtu *mtu, uint8_t ttl, uint32_t mtu_bytes)
{
	unsigned at = 0;
	unsigned end;

	if (mtu_is_full(mtu))
		return NULL;
	while (at < mtu->count && mtu->step[at].told.ttl <= ttl)
		at++;
	for (end = at; end < mtu->count && mtu->step[end].told.mtu_bytes >= mtu_bytes; end++)
		;
	memmove(&mtu->step[at + 1], &mtu->step[end], (mtu->count - end) * sizeof mtu->step[0]);
	mtu->count = at + 1 + mtu->count - end;
	mtu->step[at] = (struct mtu_step){.told = {.ttl = ttl, .mtu_bytes = mtu_bytes}};
	return &mtu->step[at];
}

/* The step that a probe of `bytes` runs into, NULL if it is not known yet. */
static struct mtu_step *find(struct path_mtu *mtu, uint32_t bytes)
{
	for (unsigned i = 0; i < mtu->count; i++)
		if (mtu->step[i].before_bytes == bytes)
			return &mtu->step[i];
	return NULL;
}

uint8_t mtu_local(struct path_mtu *mtu, uint8_t ttl, uint32_t before_bytes, uint32_t mtu_bytes,
		  int64_t took_ns)
{
	struct mtu_step *step;

	if (mtu_bytes == 0 || mtu_bytes >= before_bytes)
		mtu_bytes = plateau_below(before_bytes);
	if (before_bytes > mtu_at(mtu, ttl) || (step = insert(mtu, ttl, mtu_bytes)) == NULL)
		return 0;
	step->before_bytes = before_bytes;
	step->told.local = true;
	step->told.rtt_ns = took_ns;
	return ttl;
}

/* The last guess about this router was still too large: a smaller one takes its place. */
static struct mtu_step *replace_guess(struct path_mtu *mtu, uint32_t bytes,
				      const struct trace_answer *answer)
{
	for (unsigned i = 0; i < mtu->count; i++) {
		struct mtu_step *step = &mtu->step[i];

		if (step->guessed && step->told.mtu_bytes == bytes &&
		    memcmp(step->told.address, answer->address, sizeof answer->address) == 0)
			return step;
	}
	return NULL;
}

uint8_t mtu_too_big(struct path_mtu *mtu, uint8_t ttl, uint32_t bytes,
		    const struct trace_answer *answer)
{
	uint32_t mtu_bytes = answer->mtu_bytes;
	bool guessed = mtu_bytes < mtu->least_bytes || mtu_bytes == 0 || mtu_bytes >= bytes;
	struct mtu_step *step;

	if (bytes > mtu_at(mtu, ttl))
		return 0;
	if (guessed)
		mtu_bytes = plateau_below(bytes);
	if (mtu_bytes >= bytes)
		return 0;
	step = find(mtu, bytes);
	if (step != NULL) {
		if (step > mtu->step && step[-1].told.ttl > ttl)
			return 0;
		step->told.ttl = ttl;
		return ttl;
	}
	step = replace_guess(mtu, bytes, answer);
	if (step == NULL) {
		step = insert(mtu, ttl, mtu_bytes);
		if (step == NULL)
			return 0;
		step->before_bytes = bytes;
	}
	step->guessed = guessed;
	step->told.mtu_bytes = mtu_bytes;
	step->told.has_address = true;
	memcpy(step->told.address, answer->address, sizeof step->told.address);
	step->told.scope = answer->scope;
	step->told.rtt_ns = answer->rtt_ns;
	return step->told.ttl;
}

uint8_t mtu_locate(struct path_mtu *mtu, const struct trace_hop *router)
{
	uint8_t ttl = (uint8_t)(router->ttl + 1);

	for (unsigned i = 0; i < mtu->count; i++) {
		struct trace_step *step = &mtu->step[i].told;

		if (!step->has_address || step->black_hole || step->ttl <= ttl ||
		    (i > 0 && mtu->step[i - 1].told.ttl > ttl) ||
		    memcmp(step->address, router->address, sizeof step->address) != 0)
			continue;
		step->ttl = ttl;
		return ttl;
	}
	return 0;
}

struct trace_step *mtu_black_hole(struct path_mtu *mtu, uint8_t ttl, uint32_t mtu_bytes)
{
	uint32_t before_bytes = mtu_at(mtu, ttl);
	struct mtu_step *step = insert(mtu, ttl, mtu_bytes);

	if (step == NULL)
		return NULL;
	step->before_bytes = before_bytes;
	step->told.black_hole = true;
	return &step->told;
}

void mtu_confirm(struct path_mtu *mtu, uint8_t ttl, uint32_t bytes)
{
	for (unsigned i = 0; i < mtu->count; i++)
		if (mtu->step[i].told.ttl <= ttl && bytes >= mtu->step[i].told.mtu_bytes)
			mtu->step[i].guessed = false;
}
