/*
 * The tracing engine: paces the probes that its parts ask for, tells each part what an answer means
 * for it, and reports the facts in the order of hops. Runs in the unprivileged front end, without
 * sockets or clocks.
 */
#include "frontend/tracepath/engine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/process/clock.h"
#include "frontend/tracepath/mtu.h"

enum {
	/* Probes of one trace: 255 hops at 16 tries in both sizes come to less. */
	TRACE_PROBES = 8192,
	/* Searches in a row that find no black hole: it is loss. */
	MOST_SEARCHES = 3,
	SENT_SEARCH = SIZES, /* besides enum probe_size */
};

/* Routers limit bursts of errors, too. */
#define PACE_NS (INT64_C(500) * NS_PER_US)
/* A probe leaves when the one before it is answered, or after this: a full-size one takes 12 ms on
 * a link of 1 Mbit/s, and those queued behind it would show longer times. */
#define ALONE_NS (INT64_C(12) * NS_PER_MS)
/* A transport that is short of something is asked again after this. */
#define BUSY_NS (INT64_C(3) * NS_PER_MS)

struct sent {
	bool open;
	uint8_t ttl;
	uint8_t what; /* enum probe_size, or SENT_SEARCH */
	unsigned try; /* 1: the first */
	uint32_t bytes;
};

struct trace {
	struct trace_config config;
	trace_on_fact *on_fact;
	void *context;
	struct hops hops;
	struct path_mtu mtu;
	struct search search;
	uint8_t search_after; /* the hop after which the black hole is searched */
	uint8_t responder;    /* the last hop that a probe of the search went to */
	unsigned searches;    /* in a row without a result */
	bool settled;         /* the path MTU is not searched any more */
	struct sent sent[TRACE_PROBES];
	unsigned probes;
	int64_t last_sent_ns;
	int64_t alone_until_ns; /* the last probe is not answered, and no other may leave */
	int64_t wake_ns;
	int64_t deadline_ns;
	unsigned next_step; /* the next to report */
	unsigned next_ttl;
	bool ended;
	struct trace_result result;
};

struct trace *trace_new(const struct trace_config *config, trace_on_fact *on_fact, void *context,
			int64_t now_ns)
{
	struct trace *trace = calloc(1, sizeof *trace);

	if (trace == NULL)
		return NULL;
	trace->config = *config;
	trace->on_fact = on_fact;
	trace->context = context;
	trace->next_ttl = config->hops.first_ttl;
	trace->wake_ns = now_ns;
	trace->last_sent_ns = INT64_MIN / 2;
	trace->deadline_ns = config->deadline_ns ? now_ns + config->deadline_ns : INT64_MAX;
	hops_init(&trace->hops, &config->hops, now_ns);
	trace->mtu = (struct path_mtu){.first_bytes = config->wanted_bytes,
				       .least_bytes = config->least_mtu_bytes};
	if (config->wanted_bytes > config->local_mtu_bytes)
		mtu_local(&trace->mtu, config->hops.first_ttl, config->wanted_bytes,
			  config->local_mtu_bytes, config->local_ns);
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

bool trace_searching(const struct trace *trace, uint32_t *bytes)
{
	*bytes = trace->search.size;
	return !trace->ended && search_active(&trace->search);
}

static uint32_t full_bytes(const struct trace *trace, uint8_t ttl)
{
	uint32_t bytes = mtu_at(&trace->mtu, ttl);

	return bytes < trace->config.most_bytes ? bytes : trace->config.most_bytes;
}

/* --- facts ------------------------------------------------------------------------------------ */

static void report(struct trace *trace, struct trace_fact fact)
{
	trace->on_fact(trace->context, &fact);
}

/* Up to `ttl`, but no guess that a later answer may replace, and nothing behind it. */
static void report_steps(struct trace *trace, unsigned ttl)
{
	for (; trace->next_step < trace->mtu.count; trace->next_step++) {
		const struct mtu_step *step = &trace->mtu.step[trace->next_step];

		if (step->guessed || step->told.ttl > ttl)
			return;
		report(trace, (struct trace_fact){.kind = TRACE_FACT_MTU, .step = &step->told});
	}
}

static void report_end(struct trace *trace, enum trace_stop stop, int error)
{
	struct trace_result *result = &trace->result;
	const struct path_mtu *mtu = &trace->mtu;

	trace->ended = true;
	result->stop = stop;
	result->error = error;
	result->mtu_bytes = mtu_at(mtu, TRACE_MAX_TTL);
	/* After a cut the rest of the path is not known. */
	result->has_mtu = stop <= TRACE_STOP_UNREACHABLE && result->mtu_bytes != 0 &&
			  trace->hops.full_to != 0 &&
			  (mtu->count == 0 || mtu->step[mtu->count - 1].told.local ||
			   mtu->step[mtu->count - 1].told.ttl <= trace->hops.full_to);
	if (stop != TRACE_STOP_REACHED)
		result->has_hops = result->has_back = false;
	report(trace, (struct trace_fact){.kind = TRACE_FACT_END, .result = result});
}

/* Returns whether the path ends at this hop. */
static bool report_hop(struct trace *trace, struct trace_hop *hop)
{
	bool full = trace->hops.ask[hop->ttl][SIZE_FULL].answered;
	bool uncertain = hop->ttl == trace->config.hops.first_ttl && hop->ttl > 1;
	struct trace_result *result = &trace->result;

	hop->sent = trace->hops.ask[hop->ttl][full ? SIZE_FULL : SIZE_SMALL].tries;
	if (hop->outcome == TRACE_REACHED) {
		hop->ttl_uncertain = uncertain;
		result->reached = full;
		result->has_hops = !hop->data && !uncertain;
		result->hops = hop->ttl;
		result->has_back = !hop->data && hop->has_back;
		result->back_hops = hop->back_hops;
	}
	report(trace, (struct trace_fact){.kind = TRACE_FACT_HOP, .hop = hop});
	return hop->outcome == TRACE_REACHED || hop->outcome == TRACE_UNREACHABLE;
}

static void report_known(struct trace *trace)
{
	while (!trace->ended) {
		report_steps(trace, trace->next_ttl);
		if (trace->next_ttl > trace->config.hops.max_hops) {
			report_end(trace, TRACE_STOP_MAX_HOPS, 0);
			return;
		}
		struct trace_hop *hop = &trace->hops.hop[trace->next_ttl];

		if (!hops_resolved(&trace->hops, hop->ttl, trace->settled))
			return;
		if (hop->outcome == TRACE_UNKNOWN)
			hop->outcome = TRACE_SILENT;
		trace->next_ttl++;
		if (!report_hop(trace, hop))
			continue;
		if (!trace->hops.ask[hop->ttl][SIZE_FULL].answered)
			report_end(trace, TRACE_STOP_BLACKHOLE, 0);
		else
			report_end(trace,
				   hop->outcome == TRACE_REACHED ? TRACE_STOP_REACHED
								 : TRACE_STOP_UNREACHABLE,
				   0);
	}
}

/* Reports what is known. An end of the path that full size was not seen to reach is not. */
void trace_stop(struct trace *trace, enum trace_stop stop, int error)
{
	const struct hops *hops = &trace->hops;
	unsigned last = 0;

	if (trace->ended)
		return;
	for (unsigned t = trace->next_ttl; t <= hops_window(hops); t++)
		if (hops->ask[t][SIZE_FULL].answered || hops->hop[t].outcome == TRACE_EXPIRED)
			last = t;
	for (; trace->next_ttl <= last; trace->next_ttl++) {
		struct trace_hop *hop = &trace->hops.hop[trace->next_ttl];

		report_steps(trace, trace->next_ttl);
		if (hop->outcome == TRACE_UNKNOWN && hops_resolved(hops, hop->ttl, false))
			hop->outcome = TRACE_SILENT;
		report_hop(trace, hop);
	}
	report_steps(trace, trace->next_ttl);
	report_end(trace, stop, error);
}

/* --- the search for a black hole -------------------------------------------------------------- */

/* Full size is smaller from this TTL on; 0: it is not. */
static void lower(struct trace *trace, uint8_t from_ttl, int64_t now_ns)
{
	if (mtu_is_full(&trace->mtu))
		trace->settled = true;
	if (from_ttl == 0)
		return;
	trace->search.stage = SEARCH_IDLE;
	trace->searches = 0;
	hops_restart(&trace->hops, from_ttl, now_ns);
}

static void hole_found(struct trace *trace, int64_t now_ns)
{
	uint8_t after = trace->search_after;
	const struct trace_hop *before = &trace->hops.hop[after];
	/* Silent hops behind it may have been reported. */
	unsigned ttl = after >= trace->next_ttl ? after + 1u : trace->next_ttl;
	struct trace_step *step = mtu_black_hole(&trace->mtu, (uint8_t)ttl, trace->search.passes);

	if (step != NULL) {
		step->has_after_hop = after != 0 || trace->config.hops.first_ttl == 1;
		step->after_hop = after;
		step->has_address = after != 0;
		memcpy(step->address, before->address, sizeof step->address);
		step->scope = before->scope;
	}
	lower(trace, step != NULL ? step->ttl : 0, now_ns);
}

static void start_search(struct trace *trace)
{
	struct hops *hops = &trace->hops;

	if (trace->searches++ == MOST_SEARCHES) {
		trace->settled = true;
		return;
	}
	trace->search_after = hops->full_to;
	trace->responder = hops->full_to;
	search_start(&trace->search, trace->config.small_bytes,
		     full_bytes(trace, hops_responder(hops, 0)), &hops->loss);
}

/* Returns whether a probe of the search is to leave. */
static bool search_wants_probe(struct trace *trace, int64_t now_ns)
{
	int64_t wake_ns = INT64_MAX;

	if (trace->settled)
		return false;
	/* A smaller size, known from a router, may have passed meanwhile. */
	if (hops_responder(&trace->hops, 0) == 0)
		trace->search.stage = SEARCH_IDLE;
	else if (!search_active(&trace->search) && hops_only_small_pass(&trace->hops))
		start_search(trace);
	if (!search_active(&trace->search))
		return false;
	enum search_action action =
		search_next(&trace->search, now_ns, hops_lost_after_ns(&trace->hops), &wake_ns);

	if (action == SEARCH_SEND)
		return true;
	if (action == SEARCH_FOUND)
		hole_found(trace, now_ns);
	else if (action == SEARCH_NO_HOLE)
		hops_restart(&trace->hops, (uint8_t)(trace->hops.full_to + 1), now_ns);
	else if (action == SEARCH_TOO_LOSSY)
		trace->settled = true;
	if (action != SEARCH_WAIT)
		wake_ns = now_ns;
	if (wake_ns < trace->wake_ns)
		trace->wake_ns = wake_ns;
	return false;
}

/* --- probes ----------------------------------------------------------------------------------- */

static int64_t may_send_ns(const struct trace *trace)
{
	int64_t paced_ns = trace->last_sent_ns + PACE_NS;

	return paced_ns > trace->alone_until_ns ? paced_ns : trace->alone_until_ns;
}

/* Which probe is to leave next, if any is due. */
static bool choose(struct trace *trace, int64_t now_ns, struct sent *sent)
{
	enum probe_size size;

	if (hops_next(&trace->hops, now_ns, &sent->ttl, &size, &trace->wake_ns)) {
		sent->what = (uint8_t)size;
		sent->try = trace->hops.ask[sent->ttl][size].tries + 1;
		sent->bytes = size == SIZE_FULL ? full_bytes(trace, sent->ttl)
						: trace->config.small_bytes;
		return true;
	}
	if (!search_wants_probe(trace, now_ns))
		return false;
	sent->what = SENT_SEARCH;
	sent->ttl = hops_responder(&trace->hops, trace->responder);
	sent->bytes = trace->search.size;
	return true;
}

static void note_sent(struct trace *trace, int64_t now_ns, const struct sent *sent)
{
	trace->sent[trace->probes] = *sent;
	trace->sent[trace->probes++].open = true;
	trace->last_sent_ns = now_ns;
	if (trace->config.one_in_flight)
		trace->alone_until_ns = now_ns + trace->config.hops.wait_ns;
	else if (sent->bytes > trace->config.small_bytes)
		trace->alone_until_ns = now_ns + ALONE_NS;
	if (sent->what == SENT_SEARCH) {
		trace->responder = sent->ttl;
		search_sent(&trace->search, now_ns);
	} else {
		hops_sent(&trace->hops, sent->ttl, sent->what, now_ns);
	}
}

bool trace_next(struct trace *trace, int64_t now_ns, struct trace_probe *probe)
{
	struct sent sent = {.ttl = 0};
	bool due;

	if (now_ns >= trace->deadline_ns)
		trace_stop(trace, TRACE_STOP_DEADLINE, 0);
	if (trace->ended)
		return false;
	trace->wake_ns = trace->deadline_ns;
	due = trace->config.hops.first_ttl <= trace->config.hops.max_hops &&
	      choose(trace, now_ns, &sent);
	report_known(trace);
	if (trace->ended || !due)
		return false;
	if (now_ns < may_send_ns(trace)) {
		if (may_send_ns(trace) < trace->wake_ns)
			trace->wake_ns = may_send_ns(trace);
		return false;
	}
	if (trace->probes == TRACE_PROBES) {
		trace_stop(trace, TRACE_STOP_ERROR, ENOBUFS);
		return false;
	}
	*probe = (struct trace_probe){
		.id = (uint16_t)trace->probes, .ttl = sent.ttl, .bytes = sent.bytes};
	note_sent(trace, now_ns, &sent);
	return true;
}

/* --- answers ---------------------------------------------------------------------------------- */

static void take_failure(struct trace *trace, int64_t now_ns, const struct sent *sent,
			 const struct trace_answer *answer)
{
	if (answer->kind == TRACE_ANSWER_FAILED) {
		trace_stop(trace, TRACE_STOP_ERROR, answer->error);
	} else if (answer->kind == TRACE_ANSWER_TOO_LARGE) {
		if (sent->bytes <= trace->config.small_bytes)
			trace_stop(trace, TRACE_STOP_ERROR, EMSGSIZE);
		else
			lower(trace,
			      mtu_local(&trace->mtu, trace->config.hops.first_ttl, sent->bytes,
					answer->mtu_bytes, trace->config.local_ns),
			      now_ns);
	} else if (sent->what != SENT_SEARCH) {
		hops_not_sent(&trace->hops, sent->ttl, sent->what, now_ns + BUSY_NS);
	}
}

/* Whether the sender answers from behind the black hole that is being searched. */
static bool is_behind_hole(const struct trace *trace, const struct trace_answer *answer)
{
	for (unsigned t = trace->search_after + 1u; t <= hops_window(&trace->hops); t++)
		if (trace->hops.hop[t].outcome == TRACE_EXPIRED &&
		    memcmp(trace->hops.hop[t].address, answer->address, 16) == 0)
			return true;
	return false;
}

static void take_too_big(struct trace *trace, int64_t now_ns, const struct sent *sent,
			 const struct trace_answer *answer)
{
	if (sent->ttl < trace->next_ttl)
		return;
	if (answer->rtt_ns > trace->hops.slowest_rtt_ns)
		trace->hops.slowest_rtt_ns = answer->rtt_ns;
	if (search_active(&trace->search) && is_behind_hole(trace, answer)) {
		search_passed(&trace->search, sent->bytes);
		return;
	}
	uint8_t from = mtu_too_big(&trace->mtu, sent->ttl, sent->bytes, answer);

	/* Mostly the router has answered at its own TTL already. */
	for (unsigned t = from; from != 0 && t-- >= trace->next_ttl;) {
		const struct trace_hop *hop = &trace->hops.hop[t];
		uint8_t nearer = hop->outcome == TRACE_EXPIRED ? mtu_locate(&trace->mtu, hop) : 0;

		if (nearer != 0)
			from = nearer;
	}
	lower(trace, from, now_ns);
}

static void take_answer(struct trace *trace, int64_t now_ns, const struct sent *sent,
			const struct trace_answer *answer)
{
	enum probe_size size = sent->bytes >= full_bytes(trace, sent->ttl) ? SIZE_FULL : SIZE_SMALL;

	if (sent->ttl < trace->next_ttl)
		return;
	hops_answer(&trace->hops, now_ns, sent->ttl, size, sent->try, answer);
	if (search_active(&trace->search) && sent->ttl > trace->search_after)
		search_passed(&trace->search, sent->bytes);
	mtu_confirm(&trace->mtu, sent->ttl, sent->bytes);
	if (answer->kind == TRACE_ANSWER_EXPIRED)
		lower(trace, mtu_locate(&trace->mtu, &trace->hops.hop[sent->ttl]), now_ns);
}

void trace_answer(struct trace *trace, int64_t now_ns, uint16_t id,
		  const struct trace_answer *answer)
{
	if (trace->ended || id >= trace->probes || !trace->sent[id].open)
		return;
	struct sent *sent = &trace->sent[id];

	if (answer->kind == TRACE_ANSWER_LOST)
		return;
	sent->open = false;
	if (id + 1u == trace->probes)
		trace->alone_until_ns = 0;
	trace->wake_ns = now_ns;
	if (answer->kind == TRACE_ANSWER_TOO_BIG)
		take_too_big(trace, now_ns, sent, answer);
	else if (answer->kind >= TRACE_ANSWER_BUSY)
		take_failure(trace, now_ns, sent, answer);
	else
		take_answer(trace, now_ns, sent, answer);
	report_known(trace);
}
