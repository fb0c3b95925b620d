/*
 * The hops of a trace: which TTL is probed when, and when a hop counts as silent. Runs in the
 * unprivileged front end as a part of the tracing engine.
 *
 * Each hop is tried at once, soon after, and when a router that sends one error a second can send
 * the next; all hops wait at the same time. A hop behind which nothing has answered gets one full
 * wait for each try instead, as with iputils.
 */
#include "frontend/tracepath/hops.h"

#include <string.h>

#include "frontend/process/clock.h"

enum {
	/* TTLs probed before anything has answered. */
	FIRST_WINDOW = 3,
	/* TTLs probed beyond the last router on a path that is longer than was guessed. */
	WINDOW_AHEAD = 2,
	/* Probes that stand for one try where all tries share one wait. */
	PROBES_A_TRY = 2,
	/* Tries where loss has been seen: at 30 % loss all of them are lost once in 10^8 times. */
	LOSSY_TRIES = 16,
	/* Full-size tries that are lost before small ones are sent. */
	FULL_TRIES_FIRST = 2,
};

/* Nothing beyond the window answers within this: those hops may all be silent. */
#define STALL_NS (INT64_C(100) * NS_PER_MS)
/* Between the probes for statistics. */
#define REPEAT_NS     (INT64_C(100) * NS_PER_MS)
#define LOST_FLOOR_NS (INT64_C(60) * NS_PER_MS)

static int64_t larger(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static int64_t smaller(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

void hops_init(struct hops *hops, const struct hops_config *config, int64_t now_ns)
{
	memset(hops, 0, sizeof *hops);
	hops->config = *config;
	hops->moved_ns = now_ns;
	if (config->first_ttl >= config->max_hops)
		hops->config.scout = false;
	for (unsigned ttl = 0; ttl <= TRACE_MAX_TTL; ttl++)
		hops->hop[ttl].ttl = (uint8_t)ttl;
	hops->ask[config->max_hops][SIZE_SMALL].open = hops->config.scout;
}

/* The last TTL that there is, as far as known. */
static uint8_t limit(const struct hops *hops)
{
	return hops->terminal != 0 && hops->terminal < hops->config.max_hops
		       ? hops->terminal
		       : hops->config.max_hops;
}

uint8_t hops_window(const struct hops *hops)
{
	unsigned to;

	if (hops->guess > hops->furthest)
		to = hops->guess;
	else if (hops->guess != 0)
		to = hops->furthest + WINDOW_AHEAD;
	else if (hops->furthest != 0)
		to = 2u * hops->furthest + 1; /* seven round trips to the 128th hop */
	else
		to = hops->config.first_ttl + FIRST_WINDOW - 1u;
	if (to < hops->widened)
		to = hops->widened;
	return to < limit(hops) ? (uint8_t)to : limit(hops);
}

/* No answer on this path should take longer. */
static int64_t slow_ns(const struct hops *hops)
{
	return hops->slowest_rtt_ns + hops->slowest_rtt_ns / 2;
}

int64_t hops_lost_after_ns(const struct hops *hops)
{
	return larger(LOST_FLOOR_NS, slow_ns(hops));
}

static int64_t wait_ns(const struct hops *hops)
{
	return hops->config.wait_exact ? hops->config.wait_ns
				       : larger(hops->config.wait_ns, slow_ns(hops));
}

/* --- one ask ---------------------------------------------------------------------------------- */

/* When its next try leaves, or, with *last set, when it is given up. The path goes on behind this
 * hop: all its tries share one wait. */
static int64_t due_of_passed(const struct hops *hops, const struct ask *ask, bool *last)
{
	unsigned tries = hops->config.tries_exact ? hops->config.tries
			 : hops->lossy            ? LOSSY_TRIES
						  : PROBES_A_TRY * hops->config.tries;
	int64_t wait = wait_ns(hops);
	int64_t gap = larger(wait / (hops->lossy ? LOSSY_TRIES : 10), slow_ns(hops));

	*last = ask->tries >= tries || ask->last_ns >= ask->first_ns + wait;
	if (*last)
		return larger(ask->first_ns + wait,
			      ask->last_ns + smaller(wait, larger(wait / 5, slow_ns(hops))));
	if (ask->tries + 1 < tries)
		return smaller(ask->last_ns + gap, ask->first_ns + wait);
	return ask->first_ns + wait;
}

/* Nothing behind this hop has answered. `expected`: the destination seems to be here. */
static int64_t due_of_open_end(const struct hops *hops, const struct ask *ask, bool expected,
			       bool *last)
{
	const struct hops_config *config = &hops->config;
	unsigned tries = config->tries;
	int64_t wait = wait_ns(hops);

	if (!config->tries_exact)
		tries = hops->lossy || expected ? 2 * tries : tries + 1;
	*last = ask->tries >= tries;
	if (ask->tries == 1 && !*last && !config->tries_exact)
		return ask->last_ns + wait / 5 + 2 * hops->slowest_rtt_ns;
	return ask->last_ns + wait;
}

static int64_t due_ns(const struct hops *hops, uint8_t ttl, enum probe_size size, bool *last)
{
	const struct ask *ask = &hops->ask[ttl][size];
	bool repeated = size == SIZE_FULL && ask->answered;
	bool expected =
		ttl == hops->guess && ttl > hops->furthest && !hops->ask[ttl][SIZE_SMALL].answered;
	int64_t due;

	*last = false;
	if (ask->tries == 0)
		return ask->not_before_ns;
	if (repeated && ask->tries < hops->config.tries)
		return larger(ask->last_ns + REPEAT_NS, ask->not_before_ns);
	if (repeated) {
		*last = true;
		due = ask->last_ns + wait_ns(hops);
	} else if (size == SIZE_SMALL || (ttl < hops->highest && !expected))
		due = due_of_passed(hops, ask, last);
	else
		due = due_of_open_end(hops, ask, expected, last);
	return larger(due, ask->not_before_ns);
}

/* Whether there are all the answers that are wanted. */
static bool is_complete(const struct hops *hops, uint8_t ttl, enum probe_size size)
{
	const struct ask *ask = &hops->ask[ttl][size];
	bool one_is_enough = size == SIZE_SMALL || !hops->config.all_tries;

	return ask->answered && (one_is_enough || ask->answers >= hops->config.tries);
}

static bool is_open(const struct hops *hops, uint8_t ttl, enum probe_size size)
{
	const struct ask *ask = &hops->ask[ttl][size];

	if (ask->given_up || is_complete(hops, ttl, size))
		return false;
	return size == SIZE_FULL || (ask->open && !hops->ask[ttl][SIZE_FULL].answered);
}

/* Full-size probes are lost here and behind: would small ones be? */
static void consider_small(struct hops *hops, uint8_t ttl, int64_t now_ns, int64_t *wake_ns)
{
	const struct ask *full = &hops->ask[ttl][SIZE_FULL];
	int64_t lost_ns = full->last_ns + hops_lost_after_ns(hops);

	if (!hops->config.sized || ttl <= hops->full_to || hops->ask[ttl][SIZE_SMALL].open ||
	    full->answered)
		return;
	if (!full->given_up && full->tries < FULL_TRIES_FIRST)
		return;
	if (full->given_up || now_ns >= lost_ns)
		hops->ask[ttl][SIZE_SMALL].open = true;
	else
		*wake_ns = smaller(*wake_ns, lost_ns);
}

/* --- all of them ------------------------------------------------------------------------------ */

/* Whether everything up to the window has been probed for so long that it may be silent. */
static void widen(struct hops *hops, int64_t now_ns, int64_t *wake_ns)
{
	uint8_t to = hops_window(hops);
	int64_t stalled_ns = hops->moved_ns + larger(STALL_NS, 3 * hops->slowest_rtt_ns);

	if (to >= limit(hops) || hops->ask[to][SIZE_FULL].tries == 0)
		return;
	/* Probes beyond the destination would spend the errors that it may send. */
	if (hops->guess != 0 && !hops_resolved(hops, hops->guess, true))
		return;
	if (now_ns < stalled_ns) {
		*wake_ns = smaller(*wake_ns, stalled_ns);
		return;
	}
	hops->widened = to > TRACE_MAX_TTL / 2 ? TRACE_MAX_TTL : (uint8_t)(2 * to);
	hops->moved_ns = now_ns;
}

bool hops_next(struct hops *hops, int64_t now_ns, uint8_t *ttl, enum probe_size *size,
	       int64_t *wake_ns)
{
	const struct ask *scout = &hops->ask[hops->config.max_hops][SIZE_SMALL];

	*ttl = hops->config.max_hops;
	*size = SIZE_SMALL;
	if (hops->config.scout && scout->tries == 0 && now_ns >= scout->not_before_ns)
		return true;
	widen(hops, now_ns, wake_ns);
	for (unsigned t = hops->config.first_ttl; t <= hops_window(hops); t++) {
		*ttl = (uint8_t)t;
		consider_small(hops, *ttl, now_ns, wake_ns);
		for (*size = SIZE_FULL; *size < SIZES; ++*size) {
			bool last;
			int64_t due = due_ns(hops, *ttl, *size, &last);

			if (!is_open(hops, *ttl, *size))
				continue;
			if (now_ns < due) {
				*wake_ns = smaller(*wake_ns, due);
				continue;
			}
			if (!last)
				return true;
			hops->ask[t][*size].given_up = true;
			*wake_ns = now_ns;
		}
	}
	return false;
}

void hops_sent(struct hops *hops, uint8_t ttl, enum probe_size size, int64_t now_ns)
{
	struct ask *ask = &hops->ask[ttl][size];

	if (ask->tries++ == 0) {
		ask->first_ns = now_ns;
		if (ttl == hops_window(hops))
			hops->moved_ns = now_ns;
	}
	ask->last_ns = now_ns;
}

void hops_not_sent(struct hops *hops, uint8_t ttl, enum probe_size size, int64_t at_ns)
{
	struct ask *ask = &hops->ask[ttl][size];

	if (ask->tries > 0)
		ask->tries--;
	ask->not_before_ns = at_ns;
}

void hops_restart(struct hops *hops, uint8_t from_ttl, int64_t now_ns)
{
	for (unsigned ttl = from_ttl; ttl <= TRACE_MAX_TTL; ttl++)
		hops->ask[ttl][SIZE_FULL] = (struct ask){.tries = 0};
	hops->moved_ns = now_ns;
}

/* --- answers ---------------------------------------------------------------------------------- */

/* Systems start at a TTL of 64, 128 or 255. */
static unsigned hops_back(uint8_t reply_ttl)
{
	if (reply_ttl <= 64)
		return 65u - reply_ttl;
	if (reply_ttl <= 128)
		return 129u - reply_ttl;
	return 256u - reply_ttl;
}

void hops_describe(struct trace_hop *hop, const struct trace_answer *answer)
{
	*hop = (struct trace_hop){
		.ttl = hop->ttl,
		.outcome = answer->kind == TRACE_ANSWER_EXPIRED   ? TRACE_EXPIRED
			   : answer->kind == TRACE_ANSWER_REACHED ? TRACE_REACHED
								  : TRACE_UNREACHABLE,
		.refusal = answer->refusal,
		.data = answer->data,
		.icmp = answer->icmp,
		.icmp_type = answer->icmp_type,
		.icmp_code = answer->icmp_code,
		.scope = answer->scope,
		.has_back = answer->has_reply_ttl,
		.has_extension = answer->extension != NULL,
	};
	memcpy(hop->address, answer->address, sizeof hop->address);
	if (answer->has_reply_ttl)
		hop->back_hops = hops_back(answer->reply_ttl);
	if (answer->extension != NULL)
		hop->extension = *answer->extension;
}

/* What the answer says about how long the path is. */
static void measure_path(struct hops *hops, int64_t now_ns, uint8_t ttl,
			 const struct trace_answer *answer)
{
	if (ttl > hops->highest) {
		hops->highest = ttl;
		hops->moved_ns = now_ns;
	}
	if (answer->kind == TRACE_ANSWER_EXPIRED) {
		if (ttl > hops->furthest)
			hops->furthest = ttl;
		return;
	}
	if (hops->terminal == 0 || ttl < hops->terminal)
		hops->terminal = ttl;
	if (hops->guess == 0 && answer->has_reply_ttl) {
		unsigned back = hops_back(answer->reply_ttl);

		if (back <= hops->furthest)
			back = hops->furthest + 1u;
		hops->guess = back < ttl ? (uint8_t)back : ttl;
		if (hops->guess < hops->config.first_ttl)
			hops->guess = hops->config.first_ttl;
	}
}

void hops_answer(struct hops *hops, int64_t now_ns, uint8_t ttl, enum probe_size size, unsigned try,
		 const struct trace_answer *answer)
{
	struct ask *ask = &hops->ask[ttl][size];
	struct trace_hop *hop = &hops->hop[ttl];
	bool first = !ask->answered && !hops->ask[ttl][SIZE_FULL].answered;

	ask->answers++;
	hops->slowest_rtt_ns = larger(hops->slowest_rtt_ns, answer->rtt_ns);
	measure_path(hops, now_ns, ttl, answer);
	if (first) {
		hops->lossy |= try > 1;
		ask->answered = true;
		hops_describe(hop, answer);
		if (size == SIZE_SMALL) {
			hops->loss.sent += ask->tries;
			hops->loss.answered++;
		}
		if (size == SIZE_FULL && ttl > hops->full_to)
			hops->full_to = ttl;
	} else if (size == SIZE_SMALL || memcmp(hop->address, answer->address, 16) != 0) {
		return;
	}
	if (hop->rtts < TRACE_RTTS)
		hop->rtt_ns[hop->rtts++] = answer->rtt_ns;
}

/* --- questions -------------------------------------------------------------------------------- */

bool hops_resolved(const struct hops *hops, uint8_t ttl, bool settled)
{
	const struct ask *full = &hops->ask[ttl][SIZE_FULL];
	const struct ask *small = &hops->ask[ttl][SIZE_SMALL];
	bool passed = ttl <= hops->full_to || !hops->config.sized;

	if (full->answered)
		return full->given_up || is_complete(hops, ttl, SIZE_FULL);
	if (small->answered && settled)
		return true;
	return full->given_up && (passed || (small->given_up && !small->answered));
}

bool hops_only_small_pass(const struct hops *hops)
{
	for (unsigned ttl = hops->full_to + 1u; ttl <= hops_window(hops); ttl++)
		if (ttl >= hops->config.first_ttl && is_open(hops, (uint8_t)ttl, SIZE_FULL))
			return false;
	return hops_responder(hops, 0) != 0;
}

uint8_t hops_responder(const struct hops *hops, uint8_t last)
{
	unsigned to = limit(hops);
	unsigned ttl = last;

	if (to <= hops->full_to)
		return 0;
	for (unsigned n = hops->full_to; n < to; n++) {
		ttl = ttl <= hops->full_to || ttl >= to ? hops->full_to + 1u : ttl + 1;
		if (hops->ask[ttl][SIZE_SMALL].answered)
			return (uint8_t)ttl;
	}
	return 0;
}
