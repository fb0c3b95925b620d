/*
 * What is known of each TTL, and what is still wanted there. Pure, in the unprivileged front end.
 */
#include "frontend/tracepath/levels.h"

#include <string.h>

enum {
	/* Flows for each node of a hop, since one of them was last seen, after which no more are
	 * sent to meet it: it may have been there for a moment only. */
	RARE_FLOWS = 16,
};

static const double WANTED_CONFIDENCE = PATHS_PERCENT / 100.0;

/* --- how many flows are enough ---------------------------------------------------------------- */

/* Occupancy: seen[j] is the probability that j of `nodes` were seen. */
static void see_one_more(double *seen, unsigned nodes)
{
	for (unsigned j = nodes; j > 0; j--)
		seen[j] = (seen[j] * j + seen[j - 1] * (nodes - j + 1)) / nodes;
	seen[0] = 0;
}

double paths_confidence(unsigned found, unsigned flows)
{
	double seen[PATHS_NODES + 2] = {1};

	if (found == 0 || found > PATHS_NODES)
		return 0;
	for (unsigned n = 0; n < flows; n++)
		see_one_more(seen, found + 1);
	return seen[found + 1];
}

unsigned levels_enough_flows(unsigned found)
{
	double seen[PATHS_NODES + 2] = {1};
	unsigned flows = 0;

	while (seen[found + 1] < WANTED_CONFIDENCE) {
		see_one_more(seen, found + 1);
		flows++;
	}
	return flows;
}

/* --- groups ----------------------------------------------------------------------------------- */

const struct level *levels_before(const struct paths *paths, unsigned ttl)
{
	return ttl == paths->config.first_ttl ? NULL : &paths->level[ttl - 1];
}

/* All flows pass the only node before, or nobody can tell which node a flow passes. */
static bool is_whole(const struct paths *paths, unsigned ttl)
{
	const struct level *prior = levels_before(paths, ttl);

	return prior == NULL || prior->told.balancing == PATHS_BALANCED_BY_PACKET ||
	       (prior->told.nodes == 1 && paths->first_end >= ttl);
}

int levels_group_of(const struct paths *paths, unsigned ttl, unsigned flow)
{
	const struct level *level = &paths->level[ttl];

	if (level->cell[flow] == CELL_NEW && paths->end[flow] < ttl)
		return -1;
	if (level->whole)
		return 0;
	return levels_before(paths, ttl)->told.at[flow] == PATHS_UNSEEN
		       ? -1
		       : levels_before(paths, ttl)->told.at[flow];
}

static bool is_live(const struct paths *paths, unsigned ttl, unsigned group)
{
	const struct level *prior = levels_before(paths, ttl);

	if (prior == NULL)
		return true;
	if (!paths->level[ttl].whole)
		return levels_leads_on(&prior->told.node[group].hop);
	for (unsigned i = 0; i < prior->told.nodes; i++)
		if (levels_leads_on(&prior->told.node[i].hop))
			return true;
	return false;
}

static void count_flow(struct level *level, unsigned flow, struct group *group)
{
	switch ((enum cell)level->cell[flow]) {
	case CELL_NEW:
		group->unused++;
		break;
	case CELL_OPEN:
	case CELL_LOST:
		group->pending++;
		break;
	case CELL_DONE:
		group->done++;
		group->found |= UINT64_C(1) << level->told.at[flow];
		break;
	case CELL_GIVEN_UP:
		break;
	}
}

static void count_groups(struct paths *paths, unsigned ttl)
{
	struct level *level = &paths->level[ttl];
	unsigned untouched = paths->config.flows - paths->flows_used;

	level->dirty = false;
	level->whole = is_whole(paths, ttl);
	level->groups = level->whole ? 1 : levels_before(paths, ttl)->told.nodes;
	level->unused = untouched;
	memset(level->group, 0, level->groups * sizeof level->group[0]);
	for (unsigned i = 0; i < level->groups; i++)
		level->group[i].live = is_live(paths, ttl, i);
	if (level->whole)
		level->group[0].unused = untouched;
	for (unsigned flow = 0; flow < paths->flows_used; flow++) {
		int group = levels_group_of(paths, ttl, flow);

		if (group >= 0)
			count_flow(level, flow, &level->group[group]);
		if (level->cell[flow] == CELL_NEW && paths->end[flow] >= ttl)
			level->unused++;
	}
}

unsigned levels_lacking(const struct paths *paths, const struct group *group)
{
	unsigned found = levels_count_bits(group->found);
	unsigned enough = paths->stop[found > 0 ? found : 1];
	unsigned has = group->done + group->pending;

	return group->live && enough > has ? enough - has : 0;
}

bool levels_needs_test(const struct level *level, unsigned i)
{
	return level->group[i].live && levels_count_bits(level->group[i].found) > 1 &&
	       !level->test[i].over;
}

/* Whether no further flow can be had that comes from this node. */
static bool is_exhausted(const struct paths *paths, unsigned ttl, unsigned group)
{
	const struct level *level = &paths->level[ttl];
	const struct level *prior = levels_before(paths, ttl);

	if (level->group[group].unused > 0)
		return false;
	return level->whole || prior->given_up || prior->unused == 0 ||
	       prior->seen - prior->seen_at[group] > RARE_FLOWS * prior->told.nodes;
}

/* Flows that are to be sent to the hop before, so that some of them come from the right nodes. */
static unsigned further_flows(const struct paths *paths, unsigned ttl)
{
	const struct level *level = &paths->level[ttl];
	unsigned further = 0;
	/* Only some of them come from there. To learn that one is silent takes a while. */
	unsigned times = ttl > paths->config.first_ttl && paths->level[ttl - 1].has_silent ? 2 : 1;

	for (unsigned i = 0; i < level->groups && !level->whole && !level->given_up; i++) {
		unsigned lacks = levels_lacking(paths, &level->group[i]);

		if (lacks > level->group[i].unused && !is_exhausted(paths, ttl, i))
			further += times * (lacks - level->group[i].unused);
	}
	return further;
}

static bool is_settled(const struct paths *paths, unsigned ttl)
{
	const struct level *level = &paths->level[ttl];
	const struct level *prior = levels_before(paths, ttl);

	if (level->open > 0 || (prior != NULL && !prior->settled))
		return false;
	if (level->given_up)
		return true;
	if (level->lost > 0)
		return false;
	for (unsigned i = 0; i < level->groups; i++)
		if (levels_needs_test(level, i) ||
		    (levels_lacking(paths, &level->group[i]) > 0 && !is_exhausted(paths, ttl, i)))
			return false;
	return true;
}

/* Whether probes may be wanted at this TTL. */
static bool has_work(const struct level *level)
{
	for (unsigned i = 0; i < level->groups; i++)
		if (level->group[i].live)
			return true;
	return false;
}

unsigned levels_update(struct paths *paths)
{
	unsigned ttl;

	for (ttl = paths->config.first_ttl; ttl <= paths->config.max_hops; ttl++) {
		struct level *level = &paths->level[ttl];

		if (level->dirty)
			count_groups(paths, ttl);
		level->settled = is_settled(paths, ttl);
		if (ttl > paths->config.first_ttl)
			paths->level[ttl - 1].further = further_flows(paths, ttl);
		if (!has_work(level))
			break;
	}
	return ttl;
}

/* --- what a flow was seen at ------------------------------------------------------------------ */

void levels_mark_dirty(struct paths *paths, unsigned ttl)
{
	paths->level[ttl].dirty = true;
	paths->level[ttl + 1].dirty = true;
}

static bool is_same(const struct trace_hop *a, const struct trace_hop *b)
{
	return a->outcome == b->outcome && a->scope == b->scope &&
	       memcmp(a->address, b->address, sizeof a->address) == 0;
}

unsigned levels_node_of(struct paths *paths, unsigned ttl, const struct trace_hop *hop)
{
	struct paths_hop *told = &paths->level[ttl].told;
	unsigned i = 0;

	while (i < told->nodes && !is_same(&told->node[i].hop, hop))
		i++;
	if (i == PATHS_NODES) {
		told->more = true;
		return PATHS_UNSEEN;
	}
	if (i == told->nodes) {
		told->node[i] = (struct paths_node){.id = ++paths->nodes, .hop = *hop};
		told->nodes++;
		levels_mark_dirty(paths, ttl);
	}
	return i;
}

void levels_end_flow(struct paths *paths, unsigned flow, unsigned ttl)
{
	if (ttl < paths->end[flow])
		paths->end[flow] = (uint16_t)ttl;
	for (unsigned t = paths->config.first_ttl; t <= paths->config.max_hops; t++)
		paths->level[t].dirty = true;
}

void levels_see_flow(struct paths *paths, unsigned ttl, unsigned flow, unsigned node)
{
	struct level *level = &paths->level[ttl];

	if (level->cell[flow] == CELL_LOST)
		level->lost--;
	levels_mark_dirty(paths, ttl);
	if (node == PATHS_UNSEEN) {
		level->cell[flow] = CELL_GIVEN_UP;
		return;
	}
	level->cell[flow] = CELL_DONE;
	level->told.at[flow] = (uint8_t)node;
	level->told.node[node].flows++;
	level->seen_at[node] = ++level->seen;
	if (levels_leads_on(&level->told.node[node].hop))
		return;
	if (ttl < paths->first_end)
		paths->first_end = (uint16_t)ttl;
	levels_end_flow(paths, flow, ttl);
}

/* --- questions -------------------------------------------------------------------------------- */

bool paths_links_known(const struct paths_hop *hop)
{
	return hop->before == NULL || hop->before->nodes == 1 || hop->nodes == 1 ||
	       hop->before->balancing != PATHS_BALANCED_BY_PACKET;
}

bool paths_linked(const struct paths_hop *hop, unsigned from, unsigned to)
{
	const struct paths_hop *before = hop->before;

	if (before->nodes == 1)
		return true;
	if (before->balancing == PATHS_BALANCED_BY_PACKET)
		return hop->nodes == 1 && levels_leads_on(&before->node[from].hop);
	for (unsigned flow = 0; flow < PATHS_FLOWS; flow++)
		if (before->at[flow] == from && hop->at[flow] == to)
			return true;
	return false;
}
