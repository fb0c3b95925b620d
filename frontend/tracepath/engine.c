/*
 * The tracing engine's core: sends what is due at a bounded pace, takes each answer to whom it
 * concerns, and tells the facts in the order of hops. Runs in the unprivileged front end, without
 * sockets or clocks; it believes no answer further than the trace of its sender.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/trace_internal.h"

enum {
	/* Probes that may leave at once, and how fast more follow: routers limit their errors per
	 * second and in total, and a burst as long as a path fits none of them. */
	BURST = 16,
	PACE_NS = 200000,
};

/* A transport that is short of something is asked again after this. */
#define BUSY_NS (3 * MILLISECOND_NS)

void wake_at(struct trace *trace, int64_t at_ns)
{
	if (at_ns < trace->wake_ns)
		trace->wake_ns = at_ns;
}

void question_ask(struct trace *trace, unsigned which, uint8_t ttl, uint32_t bytes)
{
	struct question *question = &trace->questions[which];
	uint16_t round = (uint16_t)(question->round + 1);

	*question = (struct question){
		.open = true, .due = true, .ttl = ttl, .bytes = bytes, .round = round};
}

void question_close(struct question *question)
{
	question->open = false;
	question->due = false;
}

void question_repeat(struct trace *trace, struct question *question, int64_t now_ns)
{
	question->due = true;
	wake_at(trace, now_ns);
}

struct trace *trace_new(const struct trace_config *config, trace_tell *tell, void *context,
			int64_t now_ns)
{
	struct trace *trace = calloc(1, sizeof *trace);

	if (trace == NULL)
		return NULL;
	trace->config = *config;
	trace->tell = tell;
	trace->context = context;
	trace->next_ttl = config->first_ttl;
	trace->wake_ns = now_ns;
	trace->paced_ns = now_ns;
	trace->tokens_ns = (int64_t)BURST * PACE_NS;
	trace->deadline_ns = config->deadline_ns ? now_ns + config->deadline_ns : INT64_MAX;
	trace->mtu_bytes = config->wanted_bytes;
	if (config->wanted_bytes > config->local_mtu_bytes)
		mtu_local(trace, config->local_mtu_bytes);
	for (unsigned ttl = 0; ttl < TRACE_TTLS; ttl++)
		trace->hops[ttl].ttl = (uint8_t)ttl;
	return trace;
}

void trace_free(struct trace *trace)
{
	free(trace);
}

bool trace_ended(const struct trace *trace)
{
	return trace->ended;
}

int64_t trace_wake_ns(const struct trace *trace)
{
	return trace->ended ? INT64_MAX : trace->wake_ns;
}

static void end(struct trace *trace, enum trace_stop stop, int error)
{
	struct trace_fact fact = {.kind = TRACE_FACT_END, .result = &trace->result};

	trace->ended = true;
	trace->result.stop = stop;
	trace->result.error = error;
	trace->result.mtu_bytes = trace->mtu_bytes;
	trace->tell(trace->context, &fact);
}

/* Whether the next probe may show that the step's size was guessed too large. */
static bool may_be_replaced(const struct trace *trace, unsigned which)
{
	return trace->locates[which].guessed && which + 1 == trace->step_count &&
	       trace->mtu_phase != MTU_SETTLED && trace->full_to < trace->steps[which].ttl;
}

/* Tells the steps that show at `ttl`, but none beyond the first whose place is not known. */
static void tell_steps(struct trace *trace, unsigned ttl)
{
	while (trace->next_step < trace->step_count) {
		const struct trace_step *step = &trace->steps[trace->next_step];
		struct trace_fact fact = {.kind = TRACE_FACT_MTU, .step = step};

		if (!trace->locates[trace->next_step].found || step->ttl > ttl ||
		    may_be_replaced(trace, trace->next_step))
			return;
		trace->next_step++;
		trace->tell(trace->context, &fact);
	}
}

/* Returns whether the path ends at this hop. */
static bool tell_hop(struct trace *trace, const struct trace_hop *hop)
{
	struct trace_fact fact = {.kind = TRACE_FACT_HOP, .hop = hop};

	trace->tell(trace->context, &fact);
	if (hop->outcome == TRACE_REACHED && !hop->data) {
		trace->result.has_hops = true;
		trace->result.hops = hop->ttl;
		trace->result.has_back = hop->has_back;
		trace->result.back_hops = hop->back_hops;
	}
	return hop->outcome == TRACE_REACHED || hop->outcome == TRACE_UNREACHABLE;
}

static void tell_known(struct trace *trace)
{
	while (!trace->ended) {
		tell_steps(trace, trace->next_ttl);
		if (trace->next_ttl > trace->config.max_hops) {
			end(trace, TRACE_STOP_MAX_HOPS, 0);
			return;
		}
		const struct question *asked = &trace->questions[ASK_HOP + trace->next_ttl];
		const struct trace_hop *hop = &trace->hops[trace->next_ttl];

		if (!(asked->answered || asked->silent) || mtu_known_to(trace) < trace->next_ttl)
			return;
		trace->next_ttl++;
		if (tell_hop(trace, hop))
			end(trace,
			    hop->outcome == TRACE_REACHED ? TRACE_STOP_REACHED
							  : TRACE_STOP_UNREACHABLE,
			    0);
	}
}

void trace_advance(struct trace *trace, int64_t now_ns)
{
	if (trace->ended)
		return;
	trace->wake_ns = trace->deadline_ns;
	if (trace->config.first_ttl <= trace->config.max_hops) {
		hops_tick(trace, now_ns);
		mtu_tick(trace, now_ns);
		/* What full size found out may end a wait for hops, and there is no third. */
		hops_tick(trace, now_ns);
	}
	tell_known(trace);
}

void trace_tick(struct trace *trace, int64_t now_ns)
{
	if (now_ns >= trace->deadline_ns)
		trace_stop(trace, TRACE_STOP_DEADLINE, 0);
	trace_advance(trace, now_ns);
}

/* Hops that were never answered and lie below one that was are told as silent: they were so far. */
void trace_stop(struct trace *trace, enum trace_stop stop, int error)
{
	unsigned last = trace->highest;

	if (trace->ended)
		return;
	if (trace->terminal != 0 && trace->terminal < last)
		last = trace->terminal;
	mtu_settle(trace);
	for (; trace->next_ttl <= last; trace->next_ttl++) {
		tell_steps(trace, trace->next_ttl);
		tell_hop(trace, &trace->hops[trace->next_ttl]);
	}
	for (unsigned i = trace->next_step; i < trace->step_count; i++) {
		if (!trace->locates[i].found)
			trace->steps[i].ttl = trace->locates[i].guess ? trace->locates[i].guess
								      : trace->locates[i].highest;
		trace->locates[i].found = true;
	}
	tell_steps(trace, TRACE_MAX_TTL);
	end(trace, stop, error);
}

/* Whether pacing lets one more probe go. */
static bool take_token(struct trace *trace, int64_t now_ns)
{
	const int64_t most_ns = (int64_t)BURST * PACE_NS;

	trace->tokens_ns += now_ns - trace->paced_ns;
	trace->paced_ns = now_ns;
	if (trace->tokens_ns > most_ns)
		trace->tokens_ns = most_ns;
	if (trace->tokens_ns < PACE_NS) {
		wake_at(trace, now_ns + PACE_NS - trace->tokens_ns);
		return false;
	}
	trace->tokens_ns -= PACE_NS;
	return true;
}

static void note_sent(struct trace *trace, int64_t now_ns, unsigned which, uint16_t id)
{
	struct question *question = &trace->questions[which];

	question->due = false;
	question->tries++;
	if (question->tries == 1)
		question->first_ns = now_ns;
	question->last_ns = now_ns;
	trace->sent[id] = (struct sent){.open = true,
					.ttl = question->ttl,
					.question = (uint16_t)which,
					.round = question->round,
					.try = question->tries,
					.bytes = question->bytes};
}

bool trace_next(struct trace *trace, int64_t now_ns, struct trace_probe *probe)
{
	if (!trace->started) {
		trace->started = true;
		trace_tick(trace, now_ns);
	}
	for (unsigned which = 0; which < ASK_QUESTIONS && !trace->ended; which++) {
		struct question *question = &trace->questions[which];

		if (!question->due)
			continue;
		if (question->not_before_ns > now_ns) {
			wake_at(trace, question->not_before_ns);
			continue;
		}
		if (trace->probes == TRACE_PROBES) {
			trace_stop(trace, TRACE_STOP_ERROR, ENOBUFS);
			return false;
		}
		if (!take_token(trace, now_ns))
			return false;
		probe->id = (uint16_t)trace->probes++;
		probe->ttl = question->ttl;
		probe->bytes = question->bytes;
		note_sent(trace, now_ns, which, probe->id);
		trace_advance(trace, now_ns);
		return true;
	}
	return false;
}

/* The probe never left: the question stands as it stood before. */
static void not_sent(struct trace *trace, int64_t now_ns, const struct sent *sent,
		     const struct trace_answer *answer)
{
	struct question *question = &trace->questions[sent->question];
	bool passing = answer->kind == TRACE_ANSWER_BUSY || answer->error == ENOBUFS ||
		       answer->error == EAGAIN || answer->error == ENOMEM;

	if (answer->error == EMSGSIZE && sent->bytes > trace->config.small_bytes) {
		mtu_local(trace, 0);
	} else if (!passing) {
		trace_stop(trace, TRACE_STOP_ERROR, answer->error);
	} else if (question->open && question->round == sent->round) {
		question->tries--;
		question->due = true;
		question->not_before_ns = now_ns + BUSY_NS;
	}
}

/* An answer to a probe of any size is its hop's line, unless the probe went beyond the end. */
static void take_answer(struct trace *trace, int64_t now_ns, const struct sent *sent,
			const struct trace_answer *answer)
{
	unsigned which = sent->question;
	const struct question *question = &trace->questions[which];

	if (sent->try > 1 && question->round == sent->round && !question->answered)
		trace->lossy = true;
	if (answer->rtt_ns > trace->slowest_rtt_ns)
		trace->slowest_rtt_ns = answer->rtt_ns;
	if (!hops_end_hint(trace, now_ns, sent->ttl, answer))
		hops_answer(trace, now_ns, sent->ttl, answer);
	if (which == ASK_SCOUT)
		scout_answer(trace);
	else if (which >= ASK_FULL)
		mtu_answer(trace, which, sent, answer);
}

static void take_too_big(struct trace *trace, int64_t now_ns, const struct sent *sent,
			 const struct trace_answer *answer)
{
	if (sent->question == ASK_FULL && sent->try > FULL_TRIES_IN_A_HURRY)
		hops_ask_again(trace, now_ns);
	mtu_too_big(trace, sent, answer);
}

void trace_answer(struct trace *trace, int64_t now_ns, uint16_t id,
		  const struct trace_answer *answer)
{
	if (trace->ended || id >= trace->probes || !trace->sent[id].open)
		return;
	struct sent *sent = &trace->sent[id];

	sent->open = false;
	if (answer->kind == TRACE_ANSWER_BUSY || answer->kind == TRACE_ANSWER_FAILED)
		not_sent(trace, now_ns, sent, answer);
	else if (answer->kind == TRACE_ANSWER_TOO_BIG)
		take_too_big(trace, now_ns, sent, answer);
	else
		take_answer(trace, now_ns, sent, answer);
	trace_advance(trace, now_ns);
}
