/*
 * The multipath engine: which probe leaves when, what answers and losses mean, and what is
 * reported. Runs in the unprivileged front end, without sockets or clocks.
 *
 * What to send is decided anew each time from what is known of all TTLs (levels.h). So TTLs need no
 * order, and all are probed at the same time.
 */
#include "frontend/tracepath/paths.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/process/clock.h"
#include "frontend/tracepath/hops.h"
#include "frontend/tracepath/levels.h"

enum {
	/* Times the tries that were asked for: where others are answered, fewer say nothing. */
	TRIES_TIMES = 2,
	LOSSY_TRIES = 16, /* more are not worth it */
	/* Probes of a test for balancing by packet; lost ones count. */
	TEST_PROBES = 12,
};

/* That so many lost probes of a flow are chance must be less likely than this; the second where a
 * silent node is known. */
static const double CHANCE = 0.001;
static const double CHANCE_KNOWN = 0.01;

/* Between any two probes, and between two to one hop: half of what Linux answers a second. */
#define PACE_NS     (INT64_C(500) * NS_PER_US)
#define HOP_PACE_NS (INT64_C(2) * NS_PER_MS)
/* A hop that seems to limit its answers is probed more slowly, and given up after a while. */
#define SLOW_NS     (INT64_C(100) * NS_PER_MS)
#define SLOWEST_NS  (INT64_C(1000) * NS_PER_MS)
#define PATIENCE_NS (INT64_C(30) * NS_PER_S)
#define RETRY_NS    (INT64_C(50) * NS_PER_MS)
#define BUSY_NS     (INT64_C(3) * NS_PER_MS)

/* --- small things ----------------------------------------------------------------------------- */

struct paths *paths_new(const struct paths_config *config, trace_on_fact *on_fact, void *context,
			int64_t now_ns)
{
	struct paths *paths = calloc(1, sizeof *paths);

	if (paths == NULL)
		return NULL;
	paths->config = *config;
	paths->on_fact = on_fact;
	paths->context = context;
	paths->next_ttl = config->first_ttl;
	paths->first_end = LEVELS_NEVER;
	paths->wake_ns = now_ns;
	paths->deadline_ns = config->deadline_ns ? now_ns + config->deadline_ns : INT64_MAX;
	for (unsigned found = 1; found <= PATHS_NODES; found++)
		paths->stop[found] = levels_enough_flows(found);
	for (unsigned flow = 0; flow < PATHS_FLOWS; flow++)
		paths->end[flow] = LEVELS_NEVER;
	paths->level[config->first_ttl].dirty = true;
	return paths;
}

void paths_free(struct paths *paths)
{
	free(paths);
}

bool paths_ended(const struct paths *paths)
{
	return paths->ended;
}

int64_t paths_wake_ns(const struct paths *paths)
{
	return paths->ended ? INT64_MAX : paths->wake_ns;
}

static void wake_at(struct paths *paths, int64_t at_ns)
{
	if (at_ns < paths->wake_ns)
		paths->wake_ns = at_ns;
}

/* --- facts ------------------------------------------------------------------------------------ */

static void report_hop(struct paths *paths, unsigned ttl)
{
	struct level *level = &paths->level[ttl];
	struct paths_hop *told = &level->told;

	told->ttl = (uint8_t)ttl;
	told->before = ttl == paths->config.first_ttl ? NULL : &paths->level[ttl - 1].told;
	told->confidence = 1;
	for (unsigned i = 0; i < level->groups; i++) {
		const struct group *group = &level->group[i];
		double confidence = paths_confidence(levels_count_bits(group->found), group->done);

		if (group->live && confidence < told->confidence)
			told->confidence = confidence;
		if (levels_needs_test(level, i) && told->balancing != PATHS_BALANCED_BY_PACKET)
			told->balancing = PATHS_BALANCED_SOMEHOW;
	}
	if (told->more)
		told->confidence = 0;
	if (told->confidence < paths->result.confidence)
		paths->result.confidence = told->confidence;
	for (unsigned flow = paths->flows_used; flow < PATHS_FLOWS; flow++)
		told->at[flow] = PATHS_UNSEEN;
	paths->on_fact(paths->context,
		       &(struct trace_fact){.kind = TRACE_FACT_PATHS, .paths = told});
}

static void report_end(struct paths *paths, enum trace_stop stop, int error)
{
	struct paths_result *result = &paths->result;

	paths->ended = true;
	result->stop = stop;
	result->error = error;
	result->reached = paths->reached;
	result->probes = paths->probes;
	result->flows = paths->flows_used;
	paths->on_fact(paths->context,
		       &(struct trace_fact){.kind = TRACE_FACT_PATHS_END, .paths_result = result});
}

/* A hop is reported once the next one is settled: until then further flows may come to it. */
static void report_known(struct paths *paths, unsigned end)
{
	if (paths->next_ttl == paths->config.first_ttl)
		paths->result.confidence = 1;
	while (paths->next_ttl < end && paths->level[paths->next_ttl].settled &&
	       (paths->next_ttl + 1 == end || paths->level[paths->next_ttl + 1].settled))
		report_hop(paths, paths->next_ttl++);
	if (paths->next_ttl < end)
		return;
	/* In front of the end all is settled. */
	if (end > paths->config.first_ttl && !paths->level[end - 1].settled)
		return;
	report_end(paths,
		   paths->reached                  ? TRACE_STOP_REACHED
		   : end <= paths->config.max_hops ? TRACE_STOP_UNREACHABLE
						   : TRACE_STOP_MAX_HOPS,
		   0);
}

void paths_stop(struct paths *paths, enum trace_stop stop, int error)
{
	if (paths->ended)
		return;
	unsigned end = levels_update(paths);

	if (paths->next_ttl == paths->config.first_ttl)
		paths->result.confidence = 1;
	while (paths->next_ttl < end && paths->level[paths->next_ttl].told.nodes > 0)
		report_hop(paths, paths->next_ttl++);
	report_end(paths, stop, error);
}

/* --- losses ----------------------------------------------------------------------------------- */

static void slow_down(struct level *level, int64_t sent_ns, int64_t now_ns)
{
	/* Once for all probes that had left before. A silent node has no limit. */
	if (level->answers == 0 || level->has_silent || sent_ns < level->slowed_ns)
		return;
	level->slowed_ns = now_ns;
	level->interval_ns = level->interval_ns < SLOW_NS ? SLOW_NS : 2 * level->interval_ns;
	if (level->interval_ns > SLOWEST_NS)
		level->interval_ns = SLOWEST_NS;
	if (level->slow_from_ns == 0)
		level->slow_from_ns = now_ns;
}

static void usual_pace(struct level *level)
{
	level->interval_ns = HOP_PACE_NS;
	level->slow_from_ns = 0;
}

static void speed_up(struct level *level)
{
	level->interval_ns -= level->interval_ns / 8;
	if (level->interval_ns <= HOP_PACE_NS)
		usual_pace(level);
}

static void expire(struct paths *paths, struct sent *sent, int64_t now_ns)
{
	struct level *level = &paths->level[sent->ttl];

	sent->state = SENT_EXPIRED;
	level->open--;
	level->losses++;
	paths->flow_open[sent->flow]--;
	slow_down(level, sent->sent_ns, now_ns);
	if (sent->is_test) {
		level->test[sent->group].open = false;
	} else if (level->cell[sent->flow] == CELL_OPEN) {
		level->cell[sent->flow] = CELL_LOST;
		level->lost++;
		level->retry_ns = now_ns + RETRY_NS;
	}
}

static void expire_old(struct paths *paths, int64_t now_ns)
{
	for (; paths->oldest < paths->probes; paths->oldest++) {
		struct sent *sent = &paths->sent[paths->oldest];

		if (sent->state != SENT_OPEN)
			continue;
		if (now_ns < sent->sent_ns + paths->config.wait_ns) {
			wake_at(paths, sent->sent_ns + paths->config.wait_ns);
			return;
		}
		expire(paths, sent, now_ns);
	}
}

/* A hop that limits its answers is not worth waiting for without end. */
static void give_up(struct paths *paths, unsigned ttl)
{
	struct level *level = &paths->level[ttl];

	level->given_up = true;
	level->lost = 0;
	for (unsigned flow = 0; flow < paths->flows_used; flow++)
		if (level->cell[flow] == CELL_LOST)
			level->cell[flow] = CELL_GIVEN_UP;
	levels_mark_dirty(paths, ttl);
}

/* Whether a flow that lost so many probes gets no answer here at all. Where no flow is answered,
 * each of them is evidence for the others. */
static bool is_silent(const struct paths *paths, const struct level *level, unsigned tries)
{
	double sent = level->answered_tries;
	double lost = (sent - level->answered_flows + 1) / (sent + 2);
	double chance = 1;

	if (level->answers == 0)
		return tries >= paths->config.tries ||
		       (level->losses >= paths->stop[1] && !paths->lossy);
	for (unsigned i = 0; i < tries; i++)
		chance *= lost;
	if (level->has_silent)
		return chance < CHANCE_KNOWN;
	return chance < CHANCE && tries >= TRIES_TIMES * paths->config.tries;
}

/* --- which probe is next ---------------------------------------------------------------------- */

struct choice {
	unsigned flow;
	bool is_test;
	unsigned group;
};

static bool is_busy(const struct paths *paths, unsigned flow)
{
	return paths->config.one_per_flow && paths->flow_open[flow] > 0;
}

/* A flow that may be sent here for the first time; `group` −1: of any group. */
static bool choose_flow(const struct paths *paths, unsigned ttl, int group, struct choice *choice)
{
	const struct level *level = &paths->level[ttl];
	const struct level *prior = levels_before(paths, ttl);
	unsigned flows = paths->flows_used;

	if (flows < paths->config.flows)
		flows++;
	for (unsigned flow = 0; flow < flows; flow++) {
		bool untouched = flow == paths->flows_used;

		if (level->cell[flow] != CELL_NEW || paths->end[flow] < ttl || is_busy(paths, flow))
			continue;
		if (group >= 0 && !level->whole &&
		    (untouched || levels_group_of(paths, ttl, flow) != group))
			continue;
		/* Until the node before is known to be the only one, flows come from there. */
		if (group >= 0 && level->whole && prior != NULL && !prior->settled &&
		    (untouched || prior->told.at[flow] == PATHS_UNSEEN))
			continue;
		choice->flow = flow;
		return true;
	}
	return false;
}

static void end_test(struct paths *paths, unsigned ttl, struct test *test,
		     enum paths_balancing balancing)
{
	struct level *level = &paths->level[ttl];

	test->over = true;
	if (level->told.balancing != PATHS_BALANCED_BY_PACKET)
		level->told.balancing = balancing;
	/* The groups of the next hop are others now. */
	if (balancing == PATHS_BALANCED_BY_PACKET)
		memset(paths->level[ttl + 1].test, 0, sizeof paths->level[ttl + 1].test);
	levels_mark_dirty(paths, ttl);
}

/* With a flow that is answered. */
static void begin_test(struct paths *paths, unsigned ttl, unsigned group)
{
	struct level *level = &paths->level[ttl];
	struct test *test = &level->test[group];

	for (unsigned flow = 0; flow < paths->flows_used && !test->begun; flow++) {
		if (level->cell[flow] != CELL_DONE ||
		    levels_group_of(paths, ttl, flow) != (int)group ||
		    level->told.node[level->told.at[flow]].hop.outcome == TRACE_SILENT)
			continue;
		test->begun = true;
		test->flow = (uint16_t)flow;
	}
}

static bool choose_test(struct paths *paths, unsigned ttl, struct choice *choice)
{
	struct level *level = &paths->level[ttl];

	for (unsigned i = 0; i < level->groups; i++) {
		struct test *test = &level->test[i];

		if (!levels_needs_test(level, i) || test->open)
			continue;
		if (test->sent >= TEST_PROBES) {
			end_test(paths, ttl, test,
				 test->same > 0 ? PATHS_BALANCED_BY_FLOW : PATHS_BALANCED_SOMEHOW);
			wake_at(paths, paths->next_ns);
			continue;
		}
		if (!test->begun)
			begin_test(paths, ttl, i);
		if (!test->begun || is_busy(paths, test->flow))
			continue;
		*choice = (struct choice){.flow = test->flow, .is_test = true, .group = i};
		return true;
	}
	return false;
}

/* A lost probe to repeat: of the flow that has had the fewest. */
static bool choose_lost(struct paths *paths, unsigned ttl, int64_t now_ns, struct choice *choice)
{
	const struct trace_hop silent = {.ttl = (uint8_t)ttl, .outcome = TRACE_SILENT};
	struct level *level = &paths->level[ttl];
	unsigned fewest = LOSSY_TRIES;

	if (level->lost == 0)
		return false;
	if (now_ns < level->retry_ns) {
		wake_at(paths, level->retry_ns);
		return false;
	}
	for (unsigned flow = 0; flow < paths->flows_used; flow++) {
		if (level->cell[flow] != CELL_LOST)
			continue;
		if (is_silent(paths, level, level->tries[flow])) {
			levels_see_flow(paths, ttl, flow, levels_node_of(paths, ttl, &silent));
			level->has_silent = true;
			usual_pace(level);
			wake_at(paths, now_ns);
		} else if (level->tries[flow] >= LOSSY_TRIES) {
			levels_see_flow(paths, ttl, flow, PATHS_UNSEEN);
			wake_at(paths, now_ns);
		} else if (level->tries[flow] < fewest && !is_busy(paths, flow)) {
			fewest = level->tries[flow];
			choice->flow = flow;
		}
	}
	return fewest < LOSSY_TRIES;
}

/* A flow for the group that has had the fewest, so that a hop that answers little tells something
 * about each. */
static bool choose_new(struct paths *paths, unsigned ttl, struct choice *choice)
{
	struct level *level = &paths->level[ttl];
	unsigned fewest = UINT32_MAX;

	for (unsigned i = 0; i < level->groups; i++) {
		const struct group *group = &level->group[i];
		unsigned has = group->done + group->pending;

		if (has < fewest && levels_lacking(paths, group) > 0 && group->unused > 0 &&
		    choose_flow(paths, ttl, (int)i, choice))
			fewest = has;
	}
	if (fewest != UINT32_MAX)
		return true;
	return level->further > level->open + level->lost && choose_flow(paths, ttl, -1, choice);
}

static bool choose(struct paths *paths, unsigned ttl, int64_t now_ns, struct choice *choice)
{
	struct level *level = &paths->level[ttl];

	*choice = (struct choice){.is_test = false};
	if (level->given_up)
		return false;
	if (!choose_test(paths, ttl, choice) && !choose_lost(paths, ttl, now_ns, choice) &&
	    !choose_new(paths, ttl, choice))
		return false;
	if (level->slow_from_ns != 0 && now_ns >= level->slow_from_ns + PATIENCE_NS) {
		give_up(paths, ttl);
		wake_at(paths, now_ns);
		return false;
	}
	wake_at(paths, level->next_ns);
	return now_ns >= level->next_ns;
}

static void note_sent(struct paths *paths, unsigned ttl, const struct choice *choice,
		      int64_t now_ns)
{
	struct level *level = &paths->level[ttl];
	struct sent *sent = &paths->sent[paths->probes++];

	*sent = (struct sent){.state = SENT_OPEN,
			      .ttl = (uint8_t)ttl,
			      .is_test = choice->is_test,
			      .group = (uint8_t)choice->group,
			      .flow = (uint16_t)choice->flow,
			      .sent_ns = now_ns};
	for (; paths->flows_used <= choice->flow; paths->flows_used++)
		for (unsigned t = 0; t <= TRACE_MAX_TTL; t++)
			paths->level[t].told.at[paths->flows_used] = PATHS_UNSEEN;
	if (choice->is_test) {
		level->test[choice->group].open = true;
		level->test[choice->group].sent++;
	} else {
		if (level->cell[choice->flow] == CELL_LOST)
			level->lost--;
		level->cell[choice->flow] = CELL_OPEN;
		sent->try = ++level->tries[choice->flow];
	}
	level->open++;
	level->dirty = true;
	paths->flow_open[choice->flow]++;
	paths->next_ns = now_ns + PACE_NS;
	level->next_ns = now_ns + (level->interval_ns ? level->interval_ns : HOP_PACE_NS);
}

bool paths_next(struct paths *paths, int64_t now_ns, struct trace_probe *probe)
{
	if (now_ns >= paths->deadline_ns)
		paths_stop(paths, TRACE_STOP_DEADLINE, 0);
	if (paths->ended)
		return false;
	paths->wake_ns = paths->deadline_ns;
	expire_old(paths, now_ns);
	unsigned end = levels_update(paths);

	report_known(paths, end);
	if (paths->ended)
		return false;
	if (paths->probes == PATHS_PROBES) {
		paths_stop(paths, TRACE_STOP_PROBES, 0);
		return false;
	}
	if (now_ns < paths->next_ns) {
		wake_at(paths, paths->next_ns);
		return false;
	}
	for (unsigned ttl = paths->config.first_ttl; ttl < end; ttl++) {
		struct choice choice;

		if (!choose(paths, ttl, now_ns, &choice))
			continue;
		note_sent(paths, ttl, &choice, now_ns);
		*probe = (struct trace_probe){.id = (uint16_t)(paths->probes - 1),
					      .ttl = (uint8_t)ttl,
					      .bytes = paths->config.bytes,
					      .flow = choice.flow};
		return true;
	}
	return false;
}

/* --- answers ---------------------------------------------------------------------------------- */

static void take_test(struct paths *paths, const struct sent *sent, unsigned node)
{
	struct level *level = &paths->level[sent->ttl];
	struct test *test = &level->test[sent->group];

	if (test->over || !test->begun || test->flow != sent->flow)
		return;
	test->open = false;
	if (node != level->told.at[sent->flow])
		end_test(paths, sent->ttl, test, PATHS_BALANCED_BY_PACKET);
	else if (++test->same >= paths->stop[1])
		end_test(paths, sent->ttl, test, PATHS_BALANCED_BY_FLOW);
}

/* The path of a flow that was not seen at the hop before may have ended there or earlier. */
static bool ended_before(const struct paths *paths, const struct sent *sent,
			 const struct trace_hop *hop)
{
	const struct level *prior = levels_before(paths, sent->ttl);

	return !levels_leads_on(hop) && paths->first_end < sent->ttl &&
	       prior->told.at[sent->flow] == PATHS_UNSEEN;
}

static void answer_flow(struct paths *paths, const struct sent *sent, unsigned node)
{
	struct level *level = &paths->level[sent->ttl];
	enum cell cell = level->cell[sent->flow];

	/* An earlier or later probe of it may have been answered, too. */
	if (cell != CELL_OPEN && cell != CELL_LOST)
		return;
	level->answered_flows++;
	level->answered_tries += level->tries[sent->flow];
	levels_see_flow(paths, sent->ttl, sent->flow, node);
}

static void take_node(struct paths *paths, const struct sent *sent,
		      const struct trace_answer *answer)
{
	struct level *level = &paths->level[sent->ttl];
	struct trace_hop hop = {.ttl = sent->ttl};

	hops_describe(&hop, answer);
	level->answers++;
	paths->lossy |= sent->try > 1;
	paths->reached |= hop.outcome == TRACE_REACHED;
	speed_up(level);
	if (ended_before(paths, sent, &hop)) {
		levels_end_flow(paths, sent->flow, 0);
		answer_flow(paths, sent, PATHS_UNSEEN);
		return;
	}
	unsigned node = levels_node_of(paths, sent->ttl, &hop);

	if (node != PATHS_UNSEEN) {
		struct trace_hop *told = &level->told.node[node].hop;

		if (told->rtts < TRACE_RTTS)
			told->rtt_ns[told->rtts++] = answer->rtt_ns;
	}
	if (sent->is_test)
		take_test(paths, sent, node);
	else
		answer_flow(paths, sent, node);
}

/* The probe has not left. */
static void take_failure(struct paths *paths, const struct sent *sent, int64_t now_ns,
			 const struct trace_answer *answer)
{
	struct level *level = &paths->level[sent->ttl];
	bool in_use = answer->error == EADDRINUSE || answer->error == EADDRNOTAVAIL;

	if (answer->kind == TRACE_ANSWER_FAILED && !(in_use && paths->config.one_per_flow)) {
		paths_stop(paths, TRACE_STOP_ERROR, answer->error);
		return;
	}
	if (answer->kind == TRACE_ANSWER_TOO_LARGE) {
		paths_stop(paths, TRACE_STOP_ERROR, EMSGSIZE);
		return;
	}
	/* Another program has the port of this flow, which is of no more use. */
	if (answer->kind == TRACE_ANSWER_FAILED)
		levels_end_flow(paths, sent->flow, 0);
	if (sent->is_test) {
		level->test[sent->group].open = false;
		level->test[sent->group].begun = false;
	} else {
		level->cell[sent->flow] = in_use ? CELL_GIVEN_UP : CELL_NEW;
		level->tries[sent->flow]--;
	}
	paths->next_ns = now_ns + BUSY_NS;
	levels_mark_dirty(paths, sent->ttl);
}

void paths_answer(struct paths *paths, int64_t now_ns, uint16_t id,
		  const struct trace_answer *answer)
{
	if (paths->ended || id >= paths->probes || paths->sent[id].state == SENT_CLOSED)
		return;
	struct sent *sent = &paths->sent[id];
	bool was_open = sent->state == SENT_OPEN;

	paths->wake_ns = now_ns;
	if (answer->kind == TRACE_ANSWER_LOST || answer->kind == TRACE_ANSWER_TOO_BIG) {
		if (was_open)
			expire(paths, sent, now_ns);
		return;
	}
	sent->state = SENT_CLOSED;
	if (was_open) {
		paths->level[sent->ttl].open--;
		paths->flow_open[sent->flow]--;
	}
	paths->level[sent->ttl].dirty = true;
	if (answer->kind < TRACE_ANSWER_TOO_BIG)
		take_node(paths, sent, answer);
	else if (was_open)
		take_failure(paths, sent, now_ns, answer);
}
