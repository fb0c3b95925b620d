/*
 * What the multipath engine knows of each TTL, and what it wants to know: a part of it, see
 * paths.h. Each flow is seen at one node of a TTL. The flows that come from one node are a group:
 * of each group so many flows are wanted here as make it unlikely that it has a further next node.
 */
#ifndef POSTERN_FRONTEND_TRACEPATH_LEVELS_H
#define POSTERN_FRONTEND_TRACEPATH_LEVELS_H

#include "frontend/tracepath/paths.h"

enum { LEVELS_NEVER = 256 }; /* no TTL */

/* One flow at one TTL. */
enum cell { CELL_NEW = 0, CELL_OPEN, CELL_LOST, CELL_DONE, CELL_GIVEN_UP };

/* The flows that come from one node of the hop before. */
struct group {
	bool live;        /* the path goes on behind that node */
	unsigned done;    /* flows seen at this hop */
	unsigned pending; /* flows that are being tried */
	unsigned unused;  /* flows that could be */
	uint64_t found;   /* the nodes at which they were seen, a bit for each */
};

/* Whether one flow is always answered by the same node. */
struct test {
	bool begun;
	bool open;
	bool over;
	uint16_t flow;
	unsigned sent;
	unsigned same;
};

/* One TTL. */
struct level {
	struct paths_hop told;
	uint8_t cell[PATHS_FLOWS]; /* enum cell */
	uint8_t tries[PATHS_FLOWS];
	bool dirty; /* groups are to be counted again */
	bool whole; /* all flows are one group: it does not matter which node they come from */
	unsigned groups;
	struct group group[PATHS_NODES];
	struct test test[PATHS_NODES];
	unsigned unused;  /* flows that could be sent here, whatever node they come from */
	unsigned further; /* flows that the next hop wants to be sent here */
	unsigned seen;    /* flows, and how many of them when each node was last seen */
	unsigned seen_at[PATHS_NODES];
	unsigned open; /* probes */
	unsigned lost; /* flows in CELL_LOST */
	unsigned answers;
	unsigned losses;
	unsigned answered_tries; /* probes of the flows that were answered */
	unsigned answered_flows;
	bool has_silent; /* a node that does not answer is known */
	bool given_up;
	bool settled;         /* nothing more is to be found here and before */
	int64_t next_ns;      /* no probe before this */
	int64_t retry_ns;     /* no repeated one */
	int64_t interval_ns;  /* between probes */
	int64_t slowed_ns;    /* when the interval was last raised */
	int64_t slow_from_ns; /* since when it is more than the usual; 0: it is not */
};

struct sent {
	enum { SENT_CLOSED = 0, SENT_OPEN, SENT_EXPIRED } state;
	uint8_t ttl;
	bool is_test;
	uint8_t group; /* of the test */
	unsigned try;  /* 1: the first */
	uint16_t flow;
	int64_t sent_ns;
};

struct paths {
	struct paths_config config;
	trace_on_fact *on_fact;
	void *context;
	unsigned stop[PATHS_NODES + 1]; /* flows that are enough where so many nodes were found */
	unsigned flows_used;
	unsigned nodes;
	uint16_t end[PATHS_FLOWS]; /* the TTL at which the flow's path ended, or NEVER */
	uint16_t first_end;
	uint8_t flow_open[PATHS_FLOWS]; /* probes */
	struct sent sent[PATHS_PROBES];
	unsigned probes;
	unsigned oldest; /* probe that may be open */
	bool lossy;      /* an answer came only to a repeated probe */
	bool reached;
	int64_t next_ns;
	int64_t wake_ns;
	int64_t deadline_ns;
	unsigned next_ttl; /* to report */
	bool ended;
	struct paths_result result;
	struct level level[TRACE_MAX_TTL + 2];
};

/* The TTL before; NULL: this is the first. */
const struct level *levels_before(const struct paths *paths, unsigned ttl);

/* Whether the path goes on behind a node. */
static inline bool levels_leads_on(const struct trace_hop *hop)
{
	return hop->outcome == TRACE_EXPIRED || hop->outcome == TRACE_SILENT;
}

static inline unsigned levels_count_bits(uint64_t bits)
{
	return (unsigned)__builtin_popcountll(bits);
}

/* The flows that are enough where so many next nodes, 1 and more, were found. */
unsigned levels_enough_flows(unsigned found);

/* Brings what is derived up to date: groups, `settled` and so on. Returns the first TTL that has
 * nothing to be probed. */
unsigned levels_update(struct paths *paths);

/* The group of a flow, −1 if it is in none. */
int levels_group_of(const struct paths *paths, unsigned ttl, unsigned flow);
/* How many flows more the group needs. */
unsigned levels_lacking(const struct paths *paths, const struct group *group);
/* Whether it is unknown by what the flows of a group are balanced. */
bool levels_needs_test(const struct level *level, unsigned group);

/* The index of the node that answers so, a new one if need be; PATHS_UNSEEN: there is no room. */
unsigned levels_node_of(struct paths *paths, unsigned ttl, const struct trace_hop *hop);
/* The flow was seen at a node; PATHS_UNSEEN: it is given up here. */
void levels_see_flow(struct paths *paths, unsigned ttl, unsigned flow, unsigned node);
/* The flow is not sent to larger TTLs. */
void levels_end_flow(struct paths *paths, unsigned flow, unsigned ttl);
/* What is known of this TTL has changed. */
void levels_mark_dirty(struct paths *paths, unsigned ttl);

#endif
