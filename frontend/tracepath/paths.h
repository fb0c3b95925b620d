/*
 * The multipath engine: finds all paths that routers balance load over, by the multipath detection
 * algorithm (Augustin, Friedman, Teixeira 2007). Runs in the unprivileged front end. Like engine.h
 * it knows neither text nor sockets nor clocks. It believes no answer further than the graph that
 * it draws.
 *
 * How it works. A flow is what routers hash: each probe has one, and all probes of a flow take the
 * same path. A node is what answers at one TTL. Through each node, flows are sent to the next TTL
 * until so many have shown the same next nodes that with 95 % confidence there is no other. Where
 * too few flows are known to pass a node, further flows are sent to its own TTL. Where a node has
 * several next nodes, one flow is repeated: a router that balances by packet answers it from
 * different nodes, and then links cannot be told.
 */
#ifndef POSTERN_FRONTEND_TRACEPATH_PATHS_H
#define POSTERN_FRONTEND_TRACEPATH_PATHS_H

#include "frontend/tracepath/engine.h"
#include "frontend/tracepath/facts.h"

enum {
	PATHS_FLOWS = 2048, /* enough for 16 nodes that all lead to 16 others */
	PATHS_NODES = 64,   /* of one hop: the widest seen in the Internet has 56 or so */
	PATHS_PROBES = 16384,
	PATHS_UNSEEN = 255, /* no node */
	PATHS_PERCENT = 95, /* the confidence that is sought */
};

struct paths_config {
	uint8_t first_ttl;
	uint8_t max_hops;
	unsigned tries;      /* for one flow at one hop, 1 and more */
	int64_t wait_ns;     /* for the answer to one try */
	int64_t deadline_ns; /* of the whole from paths_new(); 0: none */
	unsigned flows;      /* how many different ones can be had, at most PATHS_FLOWS */
	bool one_per_flow;   /* answers are told apart only while a flow has one probe open */
	uint32_t bytes;      /* size of the probes */
};

enum paths_balancing {
	PATHS_BALANCED_NOT,
	PATHS_BALANCED_BY_FLOW,
	PATHS_BALANCED_BY_PACKET,
	PATHS_BALANCED_SOMEHOW, /* the search ended before it was known */
};

/* What answers at one TTL. Silence is a node, too. */
struct paths_node {
	unsigned id;          /* from 1 up, in the order of discovery */
	unsigned flows;       /* that are seen here */
	struct trace_hop hop; /* as of the first answer */
	const char *name;     /* filled in by the report */
};

struct paths_hop {
	uint8_t ttl;
	bool more; /* nodes beyond PATHS_NODES were ignored */
	unsigned nodes;
	struct paths_node node[PATHS_NODES];
	enum paths_balancing balancing; /* in front of this hop */
	double confidence;       /* that the nodes before it have no further next one; 0…1 */
	uint8_t at[PATHS_FLOWS]; /* index of the node where the flow is seen, or _UNSEEN */
	const struct paths_hop *before; /* NULL: the first */
};

struct paths_result {
	enum trace_stop stop;
	int error; /* errno, with TRACE_STOP_ERROR */
	bool reached;
	double confidence; /* the smallest of all hops */
	unsigned probes;
	unsigned flows;
};

struct paths;

/* NULL if there is no memory. `on_fact` is called as by the tracing engine, with facts of the kinds
 * TRACE_FACT_PATHS and TRACE_FACT_PATHS_END. */
struct paths *paths_new(const struct paths_config *config, trace_on_fact *on_fact, void *context,
			int64_t now_ns);
void paths_free(struct paths *paths);

/* The same functions as of a trace. The probe's `flow` is 0…flows−1. */
bool paths_next(struct paths *paths, int64_t now_ns, struct trace_probe *probe);
int64_t paths_wake_ns(const struct paths *paths);
void paths_answer(struct paths *paths, int64_t now_ns, uint16_t id,
		  const struct trace_answer *answer);
void paths_stop(struct paths *paths, enum trace_stop stop, int error);
bool paths_ended(const struct paths *paths);

/* Whether it is known which nodes of the hop before lead to which of this one. */
bool paths_links_known(const struct paths_hop *hop);
/* Whether node `from` of the hop before leads to node `to` of this one. */
bool paths_linked(const struct paths_hop *hop, unsigned from, unsigned to);

/* The probability that `flows` flows, spread evenly over one more than `found` next nodes, show
 * them all. */
double paths_confidence(unsigned found, unsigned flows);

#endif
