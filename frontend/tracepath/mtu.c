/*
 * The engine's path MTU: full-size probes to the end of the path, the places that "too big" came
 * from, and the suspicion that full size vanishes without a word (trace_search.c). Runs in the
 * unprivileged front end. A "too big" with an impossible MTU is not believed, only taken as
 * "smaller".
 */
#include <string.h>

#include "frontend/trace_internal.h"

enum {
	WAVE_TRIES = 3,
	/* Full-size probes to the end before a black hole is searched: two in a hurry, and one when
	 * a router of one error a second, which spent it on its own hop, can answer again. */
	FULL_TRIES_AT_LEAST = 3,
};

#define LOST_FLOOR_NS (60 * MILLISECOND_NS)
#define LAST_FLOOR_NS (250 * MILLISECOND_NS)
/* Hop by hop comes second: the probe to the end shall get the router's one answer. */
#define WAVE_REFILL_NS (1250 * MILLISECOND_NS)

static int64_t larger(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

/* When an answer is lost rather than late. */
int64_t mtu_lost_after(const struct trace *trace, int64_t floor_ns)
{
	return larger(floor_ns, trace->slowest_rtt_ns + trace->slowest_rtt_ns / 2);
}

int64_t mtu_refill_wait(const struct trace *trace, int64_t floor_ns)
{
	if (trace->config.wait_exact && trace->config.wait_ns < floor_ns)
		return larger(trace->config.wait_ns, mtu_lost_after(trace, LOST_FLOOR_NS));
	return larger(floor_ns, 2 * trace->slowest_rtt_ns);
}

uint32_t mtu_probe_bytes(const struct trace *trace)
{
	return trace->mtu_bytes < trace->config.most_bytes ? trace->mtu_bytes
							   : trace->config.most_bytes;
}

void mtu_settle(struct trace *trace)
{
	trace->mtu_phase = MTU_SETTLED;
	question_close(&trace->questions[ASK_FULL]);
	question_close(&trace->questions[ASK_SEARCH]);
	for (unsigned t = 0; t < TRACE_TTLS; t++)
		question_close(&trace->questions[ASK_WAVE + t]);
}

static void reach(struct trace *trace, uint8_t ttl)
{
	if (ttl > trace->full_to)
		trace->full_to = ttl;
}

/* Puts full size to the end of the path, after everything that the old size was asked for. */
void mtu_ask_full(struct trace *trace)
{
	question_close(&trace->questions[ASK_SEARCH]);
	for (unsigned t = 0; t < TRACE_TTLS; t++) {
		struct question *wave = &trace->questions[ASK_WAVE + t];

		question_close(wave);
		wave->tries = 0;
		wave->answered = wave->silent = false;
		wave->round++;
	}
	if (trace->mtu_bytes <= trace->config.small_bytes) {
		mtu_settle(trace);
		return;
	}
	trace->mtu_phase = MTU_ASKING;
	question_ask(trace, ASK_FULL, hops_limit(trace), mtu_probe_bytes(trace));
}

/* NULL if there have been too many: then they are nonsense, and the hops are worth more. */
struct trace_step *mtu_new_step(struct trace *trace, uint32_t mtu_bytes)
{
	if (trace->step_count == TRACE_STEPS) {
		mtu_settle(trace);
		return NULL;
	}
	struct trace_step *step = &trace->steps[trace->step_count];

	trace->locates[trace->step_count] = (struct locate){.found = true};
	trace->step_count++;
	step->mtu_bytes = mtu_bytes;
	trace->mtu_bytes = mtu_bytes;
	return step;
}

/* The first link carries no more than this; 0: the next size below. */
void mtu_local(struct trace *trace, uint32_t mtu_bytes)
{
	struct trace_step *step;

	if (mtu_bytes == 0)
		mtu_bytes = plateau_below(mtu_probe_bytes(trace));
	step = mtu_new_step(trace, mtu_bytes);
	if (step == NULL)
		return;
	step->ttl = trace->config.first_ttl;
	step->local = true;
	step->rtt_ns = trace->config.local_ns;
	if (trace->mtu_phase != MTU_IDLE)
		mtu_ask_full(trace);
}

/* --- where "too big" came from ---------------------------------------------------------------- */

static uint8_t lowest_possible(const struct trace *trace)
{
	unsigned lowest = trace->full_to + 1u;

	if (lowest < trace->config.first_ttl)
		lowest = trace->config.first_ttl;
	if (trace->step_count > 0 && trace->steps[trace->step_count - 1].ttl > lowest)
		lowest = trace->steps[trace->step_count - 1].ttl;
	return lowest > TRACE_MAX_TTL ? TRACE_MAX_TTL : (uint8_t)lowest;
}

/* Another probe ran into the same step. */
static void narrow(struct trace *trace, const struct sent *sent)
{
	for (unsigned i = 0; i < trace->step_count; i++) {
		struct locate *locate = &trace->locates[i];

		if (!locate->found && locate->bytes == sent->bytes && sent->ttl < locate->highest)
			locate->highest = sent->ttl;
	}
}

/* The step before was a guess, and this router says that it still was too much. */
static void drop_wrong_guess(struct trace *trace, const struct trace_answer *answer)
{
	unsigned last = trace->step_count - 1;

	if (trace->step_count > trace->next_step && trace->locates[last].guessed &&
	    memcmp(trace->steps[last].address, answer->address, sizeof answer->address) == 0)
		trace->step_count--;
}

static bool passed_black_hole(const struct trace *trace, const struct sent *sent,
			      const struct trace_answer *answer)
{
	return sent->question == ASK_SEARCH &&
	       quoted_position(sent->ttl, answer) > trace->full_to + 1;
}

void mtu_too_big(struct trace *trace, const struct sent *sent, const struct trace_answer *answer)
{
	uint32_t mtu_bytes = answer->mtu_bytes;
	uint8_t lowest = lowest_possible(trace);
	uint8_t position = quoted_position(sent->ttl, answer);
	bool guessed = mtu_bytes < trace->config.least_mtu_bytes || mtu_bytes == 0 ||
		       mtu_bytes >= sent->bytes;

	if (answer->rtt_ns > trace->slowest_rtt_ns)
		trace->slowest_rtt_ns = answer->rtt_ns;
	if (guessed)
		mtu_bytes = plateau_below(sent->bytes);
	narrow(trace, sent);
	if (sent->question == ASK_LOCATE)
		question_close(&trace->questions[ASK_LOCATE]);
	if (sent->question == ASK_LOCATE || trace->mtu_phase == MTU_SETTLED ||
	    mtu_bytes >= trace->mtu_bytes)
		return;
	if (passed_black_hole(trace, sent, answer)) {
		search_passed(trace, sent->bytes);
		return;
	}
	drop_wrong_guess(trace, answer);
	struct trace_step *step = mtu_new_step(trace, mtu_bytes);
	if (step == NULL)
		return;
	struct locate *locate = &trace->locates[trace->step_count - 1];

	step->has_address = true;
	memcpy(step->address, answer->address, sizeof step->address);
	step->scope = answer->scope;
	step->rtt_ns = answer->rtt_ns;
	*locate = (struct locate){
		.lowest = lowest, .highest = sent->ttl, .guessed = guessed, .bytes = sent->bytes};
	if (position != 0 && position + 1 >= lowest && position < sent->ttl)
		locate->guess = (uint8_t)(position + 1);
	if (locate->lowest > locate->highest)
		locate->lowest = locate->highest;
	mtu_ask_full(trace);
}

static bool same_router(const struct trace *trace, unsigned ttl, const struct trace_step *step)
{
	const struct trace_hop *hop = &trace->hops[ttl];

	return trace->questions[ASK_HOP + ttl].answered &&
	       memcmp(hop->address, step->address, sizeof hop->address) == 0;
}

static bool resolved(const struct trace *trace, unsigned ttl)
{
	const struct question *question = &trace->questions[ASK_HOP + ttl];

	return question->answered || question->silent || ttl < trace->config.first_ttl;
}

static void found(struct trace *trace, unsigned which, unsigned ttl)
{
	trace->locates[which].found = true;
	trace->steps[which].ttl = (uint8_t)ttl;
	reach(trace, (uint8_t)(ttl - 1));
	question_close(&trace->questions[ASK_LOCATE]);
}

/* Without a probe: by the address of the router, or by the quoted TTL if that names a silent hop
 * behind one with another address. Returns false if that does not do. */
static bool locate_by_address(struct trace *trace, unsigned which, bool *wait)
{
	const struct trace_step *step = &trace->steps[which];
	const struct locate *locate = &trace->locates[which];

	*wait = false;
	if (locate->guess != 0 && same_router(trace, locate->guess - 1u, step)) {
		found(trace, which, locate->guess);
		return true;
	}
	for (unsigned t = locate->lowest - 1u; t < locate->highest; t++) {
		if (!resolved(trace, t) && t <= hops_limit(trace))
			*wait = true;
		if (!*wait && same_router(trace, t, step)) {
			found(trace, which, t + 1);
			return true;
		}
	}
	if (*wait || locate->guess < 2)
		return false;
	if (trace->questions[ASK_HOP + locate->guess - 1].silent &&
	    (trace->questions[ASK_HOP + locate->guess - 2].answered ||
	     locate->guess - 2 < trace->config.first_ttl)) {
		found(trace, which, locate->guess);
		return true;
	}
	return false;
}

/* The next TTL to try between lowest and highest: around the guess first, then halving. */
static uint8_t locate_middle(const struct locate *locate)
{
	if (locate->guess > locate->lowest && locate->guess <= locate->highest)
		return (uint8_t)(locate->guess - 1);
	if (locate->guess == locate->lowest)
		return locate->guess;
	return (uint8_t)((locate->lowest + locate->highest) / 2);
}

/* Asks at which TTL the step begins, until the probes have told. */
static void locate_by_probes(struct trace *trace, struct locate *locate, int64_t now_ns)
{
	struct question *question = &trace->questions[ASK_LOCATE];
	int64_t until_ns = question->last_ns + mtu_lost_after(trace, LOST_FLOOR_NS);

	if (question->due)
		return;
	if (!question->open) {
		question_ask(trace, ASK_LOCATE, locate_middle(locate), locate->bytes);
	} else if (now_ns < until_ns) {
		wake_at(trace, until_ns);
	} else if (question->tries < SEARCH_TRIES) {
		question_repeat(trace, question, now_ns);
	} else {
		question_close(question);
		locate->lowest = (uint8_t)(question->ttl + 1);
		wake_at(trace, now_ns);
	}
}

static void locate_tick(struct trace *trace, int64_t now_ns)
{
	for (unsigned i = 0; i < trace->step_count; i++) {
		struct locate *locate = &trace->locates[i];
		bool wait = false;

		if (locate->found)
			continue;
		if (locate->lowest >= locate->highest) {
			found(trace, i, locate->highest);
		} else if (!locate_by_address(trace, i, &wait)) {
			if (!wait)
				locate_by_probes(trace, locate, now_ns);
			return;
		}
	}
}

/* Smaller steps are not known yet where this one is not. */
uint8_t mtu_known_to(const struct trace *trace)
{
	for (unsigned i = 0; i < trace->step_count; i++)
		if (!trace->locates[i].found)
			return (uint8_t)(trace->locates[i].lowest - 1);
	return trace->mtu_phase == MTU_SETTLED ? TRACE_MAX_TTL : trace->full_to;
}

/* --- full size -------------------------------------------------------------------------------- */

/* Hop by hop once two were lost, or one, if the scout was lost as well: then the end is silent, and
 * people wait for the lines before. With nothing small that answers there is nothing to compare. */
static void suspect(struct trace *trace, int64_t now_ns)
{
	const struct question *full = &trace->questions[ASK_FULL];
	unsigned lost = trace->questions[ASK_SCOUT].open ? 1 : 2;
	int64_t until_ns = full->last_ns + mtu_lost_after(trace, LOST_FLOOR_NS);

	if (full->tries < lost || trace->highest == 0)
		return;
	if (full->tries > lost || full->due || now_ns >= until_ns)
		trace->mtu_phase = MTU_SUSPECT;
	else
		wake_at(trace, until_ns);
}

/* Two tries in a hurry, then those that a rate limit may need. */
static void full_tick(struct trace *trace, int64_t now_ns)
{
	struct question *question = &trace->questions[ASK_FULL];
	unsigned tries = trace->config.tries > FULL_TRIES_AT_LEAST ? trace->config.tries
								   : FULL_TRIES_AT_LEAST;
	int64_t until_ns = question->last_ns + mtu_lost_after(trace, LOST_FLOOR_NS);

	if (!question->open || question->due)
		return;
	if (question->tries >= FULL_TRIES_IN_A_HURRY)
		until_ns = question->last_ns + mtu_refill_wait(trace, REFILL_NS);
	if (now_ns < until_ns) {
		wake_at(trace, until_ns);
	} else if (question->tries > tries) {
		question_close(question);
		question->silent = true;
	} else {
		question->ttl = hops_limit(trace);
		question_repeat(trace, question, now_ns);
	}
	if (trace->mtu_phase == MTU_ASKING)
		suspect(trace, now_ns);
	if (question->silent && trace->mtu_phase == MTU_ASKING)
		mtu_settle(trace);
}

static void wave_one(struct trace *trace, unsigned ttl, int64_t now_ns)
{
	struct question *wave = &trace->questions[ASK_WAVE + ttl];

	if (!wave->open && wave->tries == 0 && !wave->silent)
		question_ask(trace, ASK_WAVE + ttl, (uint8_t)ttl, mtu_probe_bytes(trace));
	if (!wave->open || wave->due)
		return;
	int64_t until_ns = wave->last_ns + mtu_lost_after(trace, LOST_FLOOR_NS);

	if (wave->tries == WAVE_TRIES - 1)
		until_ns = wave->first_ns + mtu_refill_wait(trace, WAVE_REFILL_NS);
	if (wave->tries >= WAVE_TRIES)
		until_ns = wave->last_ns + mtu_lost_after(trace, LAST_FLOOR_NS);
	if (now_ns < until_ns) {
		wake_at(trace, until_ns);
	} else if (wave->tries < WAVE_TRIES) {
		question_repeat(trace, wave, now_ns);
	} else {
		wave->silent = true;
		question_close(wave);
	}
}

/* Asks every hop that answered and that full size has not reached yet. Returns the highest of
 * them, 0 if there is none left; *waiting says whether one may still answer. */
static uint8_t wave_tick(struct trace *trace, int64_t now_ns, bool *waiting)
{
	uint8_t top = 0;

	*waiting = false;
	for (unsigned t = trace->config.first_ttl; t <= hops_limit(trace); t++) {
		if (t <= trace->full_to) {
			question_close(&trace->questions[ASK_WAVE + t]);
		} else if (trace->questions[ASK_HOP + t].answered) {
			wave_one(trace, t, now_ns);
			*waiting |= trace->questions[ASK_WAVE + t].open;
			top = (uint8_t)t;
		} else if (trace->questions[ASK_HOP + t].open) {
			*waiting = true;
		}
	}
	return top;
}

static void suspect_tick(struct trace *trace, int64_t now_ns)
{
	const struct question *full = &trace->questions[ASK_FULL];
	bool waiting;
	uint8_t top = wave_tick(trace, now_ns, &waiting);
	int64_t until_ns = full->last_ns + mtu_lost_after(trace, LAST_FLOOR_NS);

	if (full->silent && top == 0 && !waiting) {
		mtu_settle(trace); /* a silent end: nothing small came through there, either */
		return;
	}
	if (waiting || top == 0 || full->due || full->tries < FULL_TRIES_AT_LEAST)
		return;
	if (now_ns < until_ns)
		wake_at(trace, until_ns);
	else
		search_start(trace);
}

void mtu_tick(struct trace *trace, int64_t now_ns)
{
	enum mtu_phase before;

	if (trace->mtu_phase == MTU_IDLE && hops_all_asked(trace))
		mtu_ask_full(trace);
	do {
		before = trace->mtu_phase;
		if (before == MTU_ASKING || before == MTU_SUSPECT)
			full_tick(trace, now_ns);
		if (trace->mtu_phase == MTU_SUSPECT)
			suspect_tick(trace, now_ns);
		if (trace->mtu_phase == MTU_SEARCHING || trace->mtu_phase == MTU_DOUBTING)
			search_tick(trace, now_ns);
	} while (trace->mtu_phase != before && !trace->ended);
	locate_tick(trace, now_ns);
}

/* A full-size probe was answered at `sent->ttl`, so every step up to there is known. */
static void full_passed(struct trace *trace, unsigned which, const struct sent *sent,
			const struct trace_answer *answer)
{
	if (sent->bytes < mtu_probe_bytes(trace))
		return;
	reach(trace, sent->ttl);
	question_close(&trace->questions[which]);
	trace->questions[which].answered = true;
	if (answer->kind != TRACE_ANSWER_EXPIRED || sent->ttl >= trace->config.max_hops)
		mtu_settle(trace);
	else if (which == ASK_FULL)
		mtu_ask_full(trace); /* the path is longer than it seemed */
}

static void located(struct trace *trace, const struct sent *sent)
{
	for (unsigned i = 0; i < trace->step_count; i++) {
		struct locate *locate = &trace->locates[i];

		if (!locate->found && locate->bytes == sent->bytes && sent->ttl >= locate->lowest)
			locate->lowest = (uint8_t)(sent->ttl + 1);
	}
	question_close(&trace->questions[ASK_LOCATE]);
}

void mtu_answer(struct trace *trace, unsigned which, const struct sent *sent,
		const struct trace_answer *answer)
{
	if (trace->mtu_phase == MTU_SETTLED && which != ASK_LOCATE)
		return;
	if (which == ASK_LOCATE)
		located(trace, sent);
	else if (which == ASK_SEARCH && sent->ttl > trace->full_to &&
		 trace->mtu_phase >= MTU_SEARCHING)
		search_passed(trace, sent->bytes);
	else if (which == ASK_FULL || which >= ASK_WAVE)
		full_passed(trace, which, sent, answer);
}
