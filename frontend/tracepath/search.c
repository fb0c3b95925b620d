/*
 * The engine's search for the largest size that passes a black hole: a place where full size
 * vanishes without a word though small probes pass (RFC 8899, 5.3). Runs in the unprivileged front
 * end. Loss and rate limits look like black holes, so what is lost is asked for again before it is
 * believed.
 */
#include <string.h>

#include "frontend/trace_internal.h"

enum {
	/* A path that loses much pretends black holes; not for ever. */
	MOST_SEARCHES = 3,
};

#define SEARCH_FLOOR_NS (40 * MILLISECOND_NS)

/* Sizes that links and tunnels have (RFC 1191, 7.1, and today's encapsulations), searched first. */
static const uint16_t plateaus[] = {
	68,   128,  256,  296,  508,  552,  576,  1006, 1024,  1200,  1240, 1280, 1300,
	1320, 1340, 1350, 1358, 1360, 1372, 1376, 1380, 1390,  1392,  1400, 1408, 1412,
	1420, 1428, 1430, 1436, 1440, 1446, 1448, 1450, 1452,  1454,  1456, 1458, 1460,
	1462, 1464, 1468, 1472, 1476, 1480, 1484, 1488, 1492,  1496,  1500, 2002, 2048,
	4352, 8166, 8192, 8900, 8950, 8996, 9000, 9180, 17914, 32000, 65535};

enum { PLATEAUS = sizeof plateaus / sizeof plateaus[0] };

uint32_t plateau_below(uint32_t bytes)
{
	for (unsigned i = PLATEAUS; i-- > 0;)
		if (plateaus[i] < bytes)
			return plateaus[i];
	return plateaus[0];
}

/* A hop beyond the black hole, another one each time; 0: there is none. */
static uint8_t next_responder(struct trace *trace)
{
	unsigned limit = hops_limit(trace);
	unsigned t = trace->search.turn;

	for (unsigned n = 0; n <= limit; n++) {
		t = t >= limit ? trace->full_to + 1u : t + 1;
		if (t > trace->full_to && t <= limit && trace->questions[ASK_HOP + t].answered) {
			trace->search.turn = (uint8_t)t;
			return (uint8_t)t;
		}
	}
	return 0;
}

/* The middle one of the plateaus between what passes and what does not; without any, one more than
 * a plateau that passes (it mostly is the size itself), then halves. */
static uint32_t search_next(const struct search *search)
{
	unsigned first = 0;
	unsigned last;

	while (first < PLATEAUS && plateaus[first] <= search->passes)
		first++;
	for (last = first; last < PLATEAUS && plateaus[last] < search->fails; last++)
		;
	if (last > first)
		return plateaus[first + (last - first) / 2];
	if (first > 0 && plateaus[first - 1] == search->passes)
		return search->passes + 1;
	return search->passes + (search->fails - search->passes) / 2;
}

static void search_ask(struct trace *trace, uint32_t bytes)
{
	uint8_t ttl = next_responder(trace);

	if (ttl == 0)
		mtu_settle(trace);
	else
		question_ask(trace, ASK_SEARCH, ttl, bytes);
}

void search_start(struct trace *trace)
{
	struct search *search = &trace->search;

	if (++search->rounds > MOST_SEARCHES) {
		mtu_settle(trace);
		return;
	}
	trace->mtu_phase = MTU_SEARCHING;
	question_close(&trace->questions[ASK_FULL]);
	search->passes = trace->config.small_bytes;
	search->fails = search->full = mtu_probe_bytes(trace);
	search->confirmed = false;
	search->turn = trace->full_to;
	search_ask(trace, search_next(search));
}

static void black_hole_found(struct trace *trace)
{
	struct search *search = &trace->search;
	uint8_t after = trace->full_to;
	struct trace_step *step;

	if (!search->confirmed) {
		trace_stop(trace, TRACE_STOP_BLACKHOLE, 0);
		return;
	}
	step = mtu_new_step(trace, search->passes);
	if (step == NULL)
		return;
	step->black_hole = true;
	step->after_hop = after;
	step->ttl = (uint8_t)(after + 1);
	if (after != 0 && trace->questions[ASK_HOP + after].answered) {
		step->has_address = true;
		memcpy(step->address, trace->hops[after].address, sizeof step->address);
		step->scope = trace->hops[after].scope;
	}
	search->rounds = 0;
	mtu_ask_full(trace);
}

/* Goes on with the next size, or waits until a rate limit can no longer be the reason that the size
 * above was lost, to ask for that once more. */
static void search_on(struct trace *trace, int64_t now_ns)
{
	struct search *search = &trace->search;

	if (search->fails - search->passes > 1) {
		trace->mtu_phase = MTU_SEARCHING;
		search_ask(trace, search_next(search));
	} else if (trace->mtu_phase == MTU_SEARCHING) {
		trace->mtu_phase = MTU_DOUBTING;
		search->doubt_ns = now_ns + mtu_refill_wait(trace, REFILL_NS);
		search->full_again = search->fails == search->full;
		wake_at(trace, search->doubt_ns);
	} else if (!search->full_again) {
		search->full_again = true;
		search_ask(trace, search->full);
	} else {
		black_hole_found(trace);
	}
}

void search_passed(struct trace *trace, uint32_t bytes)
{
	struct search *search = &trace->search;

	question_close(&trace->questions[ASK_SEARCH]);
	if (bytes >= search->full) {
		mtu_ask_full(trace); /* it was loss, after all */
		return;
	}
	if (bytes >= search->fails)
		search->fails = search->full;
	if (bytes > search->passes)
		search->passes = bytes;
	search->confirmed = true;
	trace->mtu_phase = MTU_SEARCHING;
	trace->search.doubt_ns = 0;
}

static void search_lost(struct trace *trace, uint32_t bytes)
{
	if (bytes > trace->search.passes && bytes < trace->search.fails)
		trace->search.fails = bytes;
}

void search_tick(struct trace *trace, int64_t now_ns)
{
	struct question *question = &trace->questions[ASK_SEARCH];
	struct search *search = &trace->search;

	if (trace->mtu_phase == MTU_DOUBTING && !question->open && now_ns < search->doubt_ns) {
		wake_at(trace, search->doubt_ns);
		return;
	}
	if (!question->open) {
		if (trace->mtu_phase == MTU_DOUBTING)
			search_ask(trace, search->fails);
		else
			search_on(trace, now_ns);
		return;
	}
	int64_t until_ns = question->last_ns + mtu_lost_after(trace, SEARCH_FLOOR_NS);

	if (question->due)
		return;
	if (now_ns < until_ns) {
		wake_at(trace, until_ns);
	} else if (question->tries < SEARCH_TRIES) {
		question->ttl = next_responder(trace);
		question_repeat(trace, question, now_ns);
	} else {
		question_close(question);
		search_lost(trace, question->bytes);
		search_on(trace, now_ns);
	}
}
