/*
 * The engine's hops: which of them are asked, when a lost answer is asked for again, and when a hop
 * counts as silent. Runs in the unprivileged front end. That a hop's answer is late, lost or
 * withheld by a rate limit looks alike from here; this file is about telling them apart in time.
 */
#include <string.h>

#include "frontend/trace_internal.h"

enum {
	/* Packets for a hop that stays silent though hops beyond it answer. The try is cut short,
	 * so two packets stand for each; with loss seen on this path, more are cheap and needed. */
	HURRIED_PACKETS_A_TRY = 2,
	LOSSY_TRIES = 16,
	/* More silent hops than this, and more than answering ones: perhaps the routers spent their
	 * errors of this second on earlier traces. */
	SUSPICIOUS_SILENCE = 4,
	/* The full waits that such hops are given. */
	SLOW_TRIES = 2,
	/* So few silent hops are given one such wait, for all of them together: one of them may be
	 * a router that spent its error of this second on somebody else's trace. Where more are
	 * silent, that is the path's nature. */
	FEW_SILENT = 3,
};

/* A hop is silent this long after its first probe at the earliest, though hops beyond it answered:
 * routers answer from a slow path, tens of milliseconds later than they forward. */
#define HURRIED_NS (195 * MILLISECOND_NS)
/* The last packet is waited for at least this long. */
#define LAST_WAIT_NS (45 * MILLISECOND_NS)
/* Probes repeated in a hurry need not be further apart than this on a slow path. */
#define MOST_GAP_NS (100 * MILLISECOND_NS)
/* After the last full wait: a router that could not resolve the next hop's hardware address says so
 * three seconds and some milliseconds after the first probe. */
#define GRACE_NS (250 * MILLISECOND_NS)
/* What the scout takes on a short path, with room to spare. */
#define HEAD_START_NS (10 * MILLISECOND_NS)
/* When a path's end was not heard of after this, the destination may be silent. */
#define SCOUT_FLOOR_NS (100 * MILLISECOND_NS)
#define SCOUT_BLIND_NS (500 * MILLISECOND_NS)

static int64_t larger(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static int64_t smaller(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* How many hops away the answer's sender is, if it quoted the TTL as it arrived there; 0: unknown.
 */
uint8_t quoted_position(uint8_t ttl, const struct trace_answer *answer)
{
	if (!answer->has_quoted_ttl || answer->quoted_ttl == 0 || answer->quoted_ttl > ttl)
		return 0;
	return (uint8_t)(ttl - answer->quoted_ttl + 1);
}

uint8_t hops_limit(const struct trace *trace)
{
	uint8_t limit = trace->config.max_hops;

	if (trace->terminal != 0 && trace->terminal < limit)
		limit = trace->terminal;
	if (trace->hint != 0 && trace->hint < limit)
		limit = trace->hint;
	return limit;
}

/* RFC 1393's guess: systems start at 64, 128 or 255. */
static unsigned hops_back(uint8_t reply_ttl)
{
	if (reply_ttl <= 64)
		return 65u - reply_ttl;
	if (reply_ttl <= 128)
		return 129u - reply_ttl;
	return 256u - reply_ttl;
}

/* The path goes on behind its pretended end: the router that refuses let this TTL expire first, or
 * somebody rewrites quoted TTLs. */
static void forget_hint(struct trace *trace)
{
	if (!trace->hint_reached && !trace->hint_moved && trace->hint < trace->config.max_hops) {
		trace->hint++;
		trace->hint_moved = true;
		return;
	}
	trace->hint = 0;
	trace->hint_reached = false;
	trace->distrust_quotes = true;
	trace->wide_open = true;
}

static void fill_hop(struct trace_hop *hop, const struct trace_answer *answer)
{
	hop->outcome = answer->kind == TRACE_ANSWER_EXPIRED   ? TRACE_EXPIRED
		       : answer->kind == TRACE_ANSWER_REACHED ? TRACE_REACHED
							      : TRACE_UNREACHABLE;
	hop->refusal = answer->refusal;
	hop->data = answer->data;
	hop->icmp = answer->icmp;
	hop->icmp_type = answer->icmp_type;
	hop->icmp_code = answer->icmp_code;
	hop->scope = answer->scope;
	memcpy(hop->address, answer->address, sizeof hop->address);
	if (answer->has_reply_ttl) {
		hop->has_back = true;
		hop->back_hops = hops_back(answer->reply_ttl);
	}
	if (answer->extension != NULL) {
		hop->has_extension = true;
		hop->extension = *answer->extension;
	}
}

void hops_answer(struct trace *trace, int64_t now_ns, uint8_t ttl,
		 const struct trace_answer *answer)
{
	struct question *question = &trace->questions[ASK_HOP + ttl];
	struct trace_hop *hop = &trace->hops[ttl];

	if (ttl < trace->next_ttl)
		return;
	if (!question->answered) {
		fill_hop(hop, answer);
		question->answered = true;
		question->silent = false;
		question_close(question);
		trace->answered_ns[ttl] = trace->latest_ns = now_ns;
		if (ttl > trace->highest)
			trace->highest = ttl;
	} else if (memcmp(hop->address, answer->address, sizeof hop->address) != 0) {
		return;
	}
	if (hop->rtts < TRACE_RTTS)
		hop->rtt_ns[hop->rtts++] = answer->rtt_ns;
	if (hop->outcome != TRACE_EXPIRED && (trace->terminal == 0 || ttl < trace->terminal))
		trace->terminal = ttl;
	if (hop->outcome == TRACE_EXPIRED && trace->hint != 0 && trace->hint <= ttl)
		forget_hint(trace);
}

static bool is_passed(const struct trace *trace, uint8_t ttl)
{
	const struct question *question = &trace->questions[ASK_HOP + ttl];

	return question->silent ||
	       (question->answered && trace->hops[ttl].outcome == TRACE_EXPIRED);
}

/* An answer from where the path ends tells how far that is; true if the probe went further than
 * that, so that its answer is nobody's line. An unreachable is answered by its router at its own
 * TTL (Linux) or at the next. */
bool hops_end_hint(struct trace *trace, int64_t now_ns, uint8_t ttl,
		   const struct trace_answer *answer)
{
	uint8_t last = quoted_position(ttl, answer);
	bool reached = answer->kind == TRACE_ANSWER_REACHED;

	if (answer->kind == TRACE_ANSWER_EXPIRED || last == 0 || trace->distrust_quotes)
		return false;
	if (last < trace->config.first_ttl)
		last = trace->config.first_ttl;
	if (!reached && last < ttl && is_passed(trace, last))
		last++;
	for (unsigned t = last; t <= trace->highest; t++)
		if (trace->questions[ASK_HOP + t].answered &&
		    trace->hops[t].outcome == TRACE_EXPIRED) {
			trace->hint_moved = true;
			forget_hint(trace);
			return false;
		}
	if (trace->hint == 0 || last < trace->hint) {
		trace->hint = last;
		trace->hint_reached = reached;
		trace->hint_ns = now_ns;
		trace->hint_rtt_ns = answer->rtt_ns;
	}
	return ttl > last;
}

void scout_answer(struct trace *trace)
{
	question_close(&trace->questions[ASK_SCOUT]);
	trace->questions[ASK_SCOUT].answered = true;
	if (trace->hint == 0)
		trace->wide_open = true;
}

/* Whether anything beyond `ttl` has answered: since when, and how long its nearest took. */
static bool answered_beyond(const struct trace *trace, uint8_t ttl, int64_t *since_ns,
			    int64_t *rtt_ns)
{
	for (unsigned t = ttl + 1u; t <= trace->highest; t++) {
		if (!trace->questions[ASK_HOP + t].answered)
			continue;
		*since_ns = trace->answered_ns[t];
		*rtt_ns = trace->hops[t].rtt_ns[0];
		return true;
	}
	if (trace->hint_reached && trace->hint > ttl) {
		*since_ns = trace->hint_ns;
		*rtt_ns = trace->hint_rtt_ns;
		return true;
	}
	return false;
}

/* The full waits that a hop is to be given before it counts as silent, because the silence may come
 * from rate limits: of most of the path it is more likely that than the routers' nature. */
static unsigned full_waits(struct trace *trace)
{
	unsigned silent = 0;
	unsigned answered = 0;

	for (unsigned t = trace->config.first_ttl; t < trace->highest; t++) {
		answered += trace->questions[ASK_HOP + t].answered;
		silent += !trace->questions[ASK_HOP + t].answered;
	}
	if (silent >= SUSPICIOUS_SILENCE && silent > answered)
		trace->exhausted = true;
	if (trace->exhausted)
		return SLOW_TRIES;
	return silent <= FEW_SILENT ? 1 : 0;
}

static void give_up(struct trace *trace, struct question *question)
{
	question->silent = true;
	question_close(question);
	if (question->ttl == trace->hint)
		forget_hint(trace);
}

/* Nothing beyond has answered: full waits, as many as tries; more if the hop is known to answer, or
 * the path to lose answers. */
static void wait_fully(struct trace *trace, struct question *question, int64_t now_ns)
{
	const struct trace_config *config = &trace->config;
	int64_t wait_ns = config->wait_exact ? config->wait_ns
					     : larger(config->wait_ns, 2 * trace->slowest_rtt_ns);
	bool alive = trace->lossy || (trace->hint_reached && question->ttl == trace->hint);
	unsigned tries = alive && !config->tries_exact ? 2 * config->tries : config->tries;
	bool last = question->tries >= tries;
	int64_t until_ns = question->last_ns + wait_ns;

	if (last && !config->wait_exact)
		until_ns += GRACE_NS;
	if (now_ns < until_ns)
		wake_at(trace, until_ns);
	else if (last)
		give_up(trace, question);
	else
		question_repeat(trace, question, now_ns);
}

/* Wait until a bucket of one token a second has one. */
static void wait_for_refill(struct trace *trace, struct question *question, int64_t now_ns)
{
	bool last = question->slow >= SLOW_TRIES ||
		    (trace->config.tries_exact && question->tries >= trace->config.tries);
	int64_t wait_ns = last ? larger(HURRIED_NS, 2 * trace->slowest_rtt_ns) : REFILL_NS;

	if (now_ns < question->last_ns + wait_ns) {
		wake_at(trace, question->last_ns + wait_ns);
	} else if (last) {
		give_up(trace, question);
	} else {
		question->slow++;
		question_repeat(trace, question, now_ns);
	}
}

/* A router that told of its MTU only when a second had passed limits its errors, and has spent one
 * now: the hops that are silent so far, or were about to be asked once more, get one more packet,
 * when it can answer again. */
void hops_ask_again(struct trace *trace, int64_t now_ns)
{
	for (unsigned t = trace->next_ttl; t < trace->highest && !trace->config.tries_exact; t++) {
		struct question *question = &trace->questions[ASK_HOP + t];

		bool waits = question->open && question->slow > 0;

		if (!question->silent && !waits)
			continue;
		question->silent = false;
		question->open = true;
		question->slow = SLOW_TRIES - 1;
		question->last_ns = now_ns;
	}
}

static unsigned hurried_tries(const struct trace *trace)
{
	if (trace->config.tries_exact)
		return trace->config.tries;
	if (trace->lossy)
		return LOSSY_TRIES;
	return trace->config.tries * HURRIED_PACKETS_A_TRY;
}

/* The hurried packets had no answer. */
static void doubt(struct trace *trace, struct question *question, int64_t now_ns)
{
	unsigned waits = full_waits(trace);

	if (waits == 0) {
		give_up(trace, question);
		return;
	}
	question->slow = SLOW_TRIES - waits;
	wait_for_refill(trace, question, now_ns);
}

/* Hops beyond answer: repeat in a hurry, then give up. */
static void hurry(struct trace *trace, struct question *question, int64_t now_ns, int64_t since_ns,
		  int64_t rtt_ns)
{
	unsigned tries = hurried_tries(trace);
	int64_t expected_ns = rtt_ns + rtt_ns / 4;
	int64_t gap_ns = larger(HURRIED_NS / (tries + 1), smaller(expected_ns, MOST_GAP_NS));
	bool last = question->tries >= tries;
	int64_t until_ns = question->last_ns + gap_ns;

	if (question->tries == 1)
		until_ns = larger(until_ns, question->first_ns + expected_ns);
	if (last) {
		until_ns = larger(question->first_ns + HURRIED_NS,
				  question->last_ns + larger(LAST_WAIT_NS, 2 * rtt_ns));
		until_ns = larger(until_ns, since_ns + LAST_WAIT_NS);
	}
	if (now_ns < until_ns)
		wake_at(trace, until_ns);
	else if (!last)
		question_repeat(trace, question, now_ns);
	else
		doubt(trace, question, now_ns);
}

static void look_after(struct trace *trace, uint8_t ttl, int64_t now_ns)
{
	struct question *question = &trace->questions[ASK_HOP + ttl];
	int64_t since_ns;
	int64_t rtt_ns;

	if (!question->open || question->due)
		return;
	if (question->slow > 0)
		wait_for_refill(trace, question, now_ns);
	else if (answered_beyond(trace, ttl, &since_ns, &rtt_ns))
		hurry(trace, question, now_ns, since_ns, rtt_ns);
	else
		wait_fully(trace, question, now_ns);
}

/* The scout's silence says that the destination may be silent, too: look everywhere then. While one
 * hop after the other answers the path may just be long. */
static void look_after_scout(struct trace *trace, int64_t now_ns)
{
	const struct question *scout = &trace->questions[ASK_SCOUT];

	if (!scout->open || scout->due || trace->wide_open)
		return;
	int64_t until_ns = scout->first_ns + SCOUT_BLIND_NS;

	if (trace->highest != 0)
		until_ns = trace->latest_ns + larger(SCOUT_FLOOR_NS, 3 * trace->slowest_rtt_ns);
	if (now_ns >= until_ns)
		trace->wide_open = true;
	else
		wake_at(trace, until_ns);
}

static void send_scout(struct trace *trace)
{
	if (!trace->config.scout_tells || trace->config.max_hops == trace->config.first_ttl) {
		trace->wide_open = true;
		trace->questions[ASK_SCOUT].silent = true;
		return;
	}
	question_ask(trace, ASK_SCOUT, trace->config.max_hops, trace->config.small_bytes);
}

/* The last hop is asked in full size first (trace_mtu.c): it answers both questions with one of its
 * few errors. */
static bool left_to_full_size(const struct trace *trace, uint8_t ttl)
{
	return ttl == trace->hint && trace->mtu_phase <= MTU_ASKING &&
	       trace->questions[ASK_FULL].tries < 2;
}

/* The largest TTL to ask now, 0 for none: the scout has a head start, since what it tells saves
 * probes that would go too far. */
static uint8_t window(struct trace *trace, int64_t now_ns)
{
	const struct question *scout = &trace->questions[ASK_SCOUT];
	uint8_t limit = hops_limit(trace);
	unsigned to = trace->config.first_ttl;

	if (trace->wide_open || trace->hint != 0 || trace->terminal != 0)
		return limit;
	if (scout->tries == 0)
		return 0;
	if (now_ns < scout->first_ns + HEAD_START_NS) {
		wake_at(trace, scout->first_ns + HEAD_START_NS);
		return 0;
	}
	/* Twice as far each time: seven round trips to the 128th hop, one too far at most for each
	 * hop there is. */
	if (trace->highest != 0)
		to = 2u * trace->highest + 1;
	return to < limit ? (uint8_t)to : limit;
}

bool hops_all_asked(const struct trace *trace)
{
	uint8_t limit = hops_limit(trace);

	if (!trace->wide_open && trace->hint == 0 && trace->terminal == 0)
		return false;
	for (unsigned t = trace->config.first_ttl; t <= limit; t++)
		if (trace->questions[ASK_HOP + t].tries == 0 &&
		    !trace->questions[ASK_HOP + t].answered &&
		    !left_to_full_size(trace, (uint8_t)t))
			return false;
	return true;
}

void hops_tick(struct trace *trace, int64_t now_ns)
{
	const struct question *scout = &trace->questions[ASK_SCOUT];

	if (!scout->open && !scout->answered && !scout->silent)
		send_scout(trace);
	look_after_scout(trace, now_ns);

	uint8_t to = window(trace, now_ns);
	for (unsigned t = trace->config.first_ttl; t <= to; t++) {
		struct question *question = &trace->questions[ASK_HOP + t];

		if (!question->open && !question->answered && !question->silent &&
		    !left_to_full_size(trace, (uint8_t)t))
			question_ask(trace, ASK_HOP + t, (uint8_t)t, trace->config.small_bytes);
		look_after(trace, (uint8_t)t, now_ns);
	}
	/* What was asked beyond the end of the path need not be asked again. */
	for (unsigned t = to + 1u; t < TRACE_TTLS; t++)
		if (trace->terminal != 0 && trace->questions[ASK_HOP + t].open)
			question_close(&trace->questions[ASK_HOP + t]);
}
