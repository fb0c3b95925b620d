/*
 * The multipath engine against a scripted network and a fake clock: which nodes and links it finds,
 * with how many probes, and what it claims where routers balance by packet, limit or lose answers.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/tracepath/paths.h"

#define MS INT64_C(1000000)

enum {
	MOST_HOPS = 12,
	MOST_PENDING = 4096,
	TURNS = 200000,
	TEXT_BYTES = 8192,
};

/* What a flow meets at one TTL. */
struct router {
	unsigned width;  /* it is one of so many, by a hash of the flow */
	bool by_packet;  /* in turn */
	bool rare;       /* flow 0, and no other, meets another one */
	bool inherits;   /* as at the TTL before, modulo width */
	unsigned silent; /* one more than the one that does not answer; 0: all do */
	double rate;     /* answers a second, of each; 0: no limit */
	double tokens;
	int64_t filled_ns;
};

struct pending {
	int64_t at_ns;
	uint16_t id;
	uint16_t flow;
	struct trace_answer answer;
};

struct net {
	struct router router[MOST_HOPS + 1]; /* 1 is the first hop */
	unsigned length;                     /* the destination's TTL */
	unsigned short_way;                  /* flows of an even hash have so many hops less */
	enum trace_answer_kind last;         /* what the destination answers */
	int loss_percent;
	unsigned seed;
	unsigned flow_in_use; /* cannot be sent; 0: all can */
	unsigned failures;

	struct paths_config config;
	int64_t now_ns;
	int64_t took_ns;
	unsigned turn;
	struct pending pending[MOST_PENDING];
	unsigned answers;
	int64_t open_until_ns[PATHS_FLOWS]; /* of each flow's last probe */
	const struct paths_hop *hop[TRACE_MAX_TTL + 1];
	struct paths_result result;
	bool ended;
	struct paths *paths;
};

static unsigned hash(const struct net *net, unsigned flow, unsigned salt)
{
	uint64_t z = (flow + 1) * UINT64_C(0x9e3779b97f4a7c15) +
		     salt * UINT64_C(0xd1342543de82ef95) + net->seed * UINT64_C(0x2545f4914f6cdd1d);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return (unsigned)((z ^ z >> 31) >> 8);
}

static struct net *diamonds(const char *widths)
{
	struct net *net = calloc(1, sizeof *net);

	cr_assert_not_null(net);
	for (; *widths != '\0'; widths++)
		net->router[++net->length].width =
			(unsigned)(*widths <= '9' ? *widths - '0' : *widths - 'a' + 10);
	net->length++;
	net->router[net->length].width = 1;
	net->last = TRACE_ANSWER_REACHED;
	net->now_ns = 1000 * MS;
	net->config = (struct paths_config){.first_ttl = 1,
					    .max_hops = 30,
					    .tries = 3,
					    .wait_ns = 1000 * MS,
					    .flows = PATHS_FLOWS,
					    .one_per_flow = true,
					    .bytes = 64};
	return net;
}

static void on_fact(void *context, const struct trace_fact *fact)
{
	struct net *net = context;

	cr_assert(!net->ended);
	if (fact->kind == TRACE_FACT_PATHS) {
		/* In order, each once. */
		cr_assert_null(net->hop[fact->paths->ttl]);
		cr_assert(fact->paths->ttl == net->config.first_ttl ||
			  net->hop[fact->paths->ttl - 1] == fact->paths->before);
		net->hop[fact->paths->ttl] = fact->paths;
	} else {
		net->ended = true;
		net->result = *fact->paths_result;
	}
}

static bool take_token(struct net *net, struct router *router)
{
	if (router->rate == 0)
		return true;
	router->tokens += (double)(net->now_ns - router->filled_ns) / 1e9 * router->rate;
	router->filled_ns = net->now_ns;
	if (router->tokens > 6)
		router->tokens = 6;
	if (router->tokens < 1)
		return false;
	router->tokens -= 1;
	return true;
}

static unsigned choose_router(struct net *net, unsigned flow, unsigned ttl)
{
	struct router *router = &net->router[ttl];

	if (router->rare && flow == 0)
		return router->width;
	if (router->by_packet)
		return ++net->turn % router->width;
	while (net->router[ttl].inherits)
		ttl--;
	return hash(net, flow, ttl) % router->width;
}

static void take_probe(struct net *net, const struct trace_probe *probe)
{
	struct pending *pending = &net->pending[net->answers];
	bool is_short = net->short_way > 0 && hash(net, probe->flow, 99) % 2 == 0;
	unsigned length = is_short ? net->length - net->short_way : net->length;
	unsigned ttl = probe->ttl < length ? probe->ttl : net->length;
	struct router *router = &net->router[ttl];
	unsigned which = choose_router(net, probe->flow, ttl);

	cr_assert_lt(probe->flow, net->config.flows);
	cr_assert(!net->config.one_per_flow || net->now_ns >= net->open_until_ns[probe->flow]);
	net->open_until_ns[probe->flow] = net->now_ns + net->config.wait_ns;
	if ((int)(hash(net, net->turn++, 77) % 100) < net->loss_percent ||
	    which + 1 == router->silent || !take_token(net, router))
		return;
	cr_assert_lt(net->answers, MOST_PENDING);
	if (net->flow_in_use != 0 && probe->flow == net->flow_in_use) {
		*pending = (struct pending){.id = probe->id, .flow = (uint16_t)probe->flow};
		pending->answer =
			(struct trace_answer){.kind = TRACE_ANSWER_FAILED, .error = EADDRINUSE};
		net->answers++;
		net->failures++;
		return;
	}
	*pending = (struct pending){.at_ns = net->now_ns + probe->ttl * MS, .id = probe->id};
	pending->flow = (uint16_t)probe->flow;
	pending->answer = (struct trace_answer){
		.kind = ttl == net->length ? net->last : TRACE_ANSWER_EXPIRED,
		.address = {198, 18, (uint8_t)ttl, (uint8_t)which},
		.rtt_ns = probe->ttl * MS,
	};
	net->answers++;
}

/* Delivers what has arrived. Returns when the next answer does. */
static int64_t deliver(struct net *net)
{
	int64_t next_ns = INT64_MAX;
	unsigned kept = 0;

	for (unsigned i = 0; i < net->answers; i++) {
		struct pending *pending = &net->pending[i];

		if (pending->at_ns <= net->now_ns) {
			net->open_until_ns[pending->flow] = net->now_ns;
			paths_answer(net->paths, net->now_ns, pending->id, &pending->answer);
			continue;
		}
		if (pending->at_ns < next_ns)
			next_ns = pending->at_ns;
		net->pending[kept++] = *pending;
	}
	net->answers = kept;
	return next_ns;
}

static void explore(struct net *net)
{
	int64_t began_ns = net->now_ns;

	net->paths = paths_new(&net->config, on_fact, net, net->now_ns);
	cr_assert_not_null(net->paths);
	for (unsigned turn = 0;; turn++) {
		struct trace_probe probe;
		int64_t next_ns = deliver(net);

		cr_assert_lt(turn, TURNS);
		while (paths_next(net->paths, net->now_ns, &probe))
			take_probe(net, &probe);
		int64_t wake_ns = paths_wake_ns(net->paths);

		if (paths_ended(net->paths))
			break;
		for (unsigned i = 0; i < net->answers; i++)
			if (net->pending[i].at_ns < next_ns)
				next_ns = net->pending[i].at_ns;
		net->now_ns = wake_ns < next_ns ? wake_ns : next_ns;
	}
	cr_assert(net->ended);
	net->took_ns = net->now_ns - began_ns;
}

static void forget(struct net *net)
{
	paths_free(net->paths);
	free(net);
}

/* Index of the node with this address, PATHS_UNSEEN if there is none. */
static unsigned node_with(const struct paths_hop *hop, unsigned which)
{
	for (unsigned i = 0; i < hop->nodes; i++)
		if (hop->node[i].hop.outcome != TRACE_SILENT &&
		    hop->node[i].hop.address[3] == which)
			return i;
	return PATHS_UNSEEN;
}

static bool has_silent(const struct paths_hop *hop)
{
	for (unsigned i = 0; i < hop->nodes; i++)
		if (hop->node[i].hop.outcome == TRACE_SILENT)
			return true;
	return false;
}

/* Augustin, Friedman, Teixeira 2007, for 95 %. */
Test(paths, as_many_flows_are_enough_as_the_algorithm_says)
{
	static const unsigned enough[] = {6, 11, 16, 21, 27, 33, 38, 44, 51, 57};

	for (unsigned found = 1; found <= sizeof enough / sizeof enough[0]; found++) {
		cr_expect_geq(paths_confidence(found, enough[found - 1]), 0.95, "%u", found);
		cr_expect_lt(paths_confidence(found, enough[found - 1] - 1), 0.95, "%u", found);
	}
	cr_expect_eq(paths_confidence(0, 10), 0);
	cr_expect_eq(paths_confidence(3, 0), 0);
	cr_expect_gt(paths_confidence(PATHS_NODES, PATHS_FLOWS), 0.95);
}

struct shape {
	const char *widths;
	unsigned inherits; /* the hop that branches as the one before it */
	unsigned most_probes;
};

/* Whether all nodes and links of the shape were found; no others ever. */
static bool is_found(const struct net *net, unsigned ttl)
{
	const struct router *router = &net->router[ttl];
	const struct paths_hop *hop = net->hop[ttl];
	bool complete = hop->nodes == router->width;

	cr_assert_leq(hop->nodes, router->width);
	for (unsigned from = 0; ttl > 1 && from < net->router[ttl - 1].width; from++) {
		for (unsigned to = 0; to < router->width; to++) {
			bool is_link = !router->inherits || from % router->width == to;
			unsigned a = node_with(hop->before, from);
			unsigned b = node_with(hop, to);
			bool linked =
				a != PATHS_UNSEEN && b != PATHS_UNSEEN && paths_linked(hop, a, b);

			cr_assert(is_link || !linked);
			complete = complete && linked == is_link;
		}
	}
	return complete;
}

/* Each node misses one of its next ones in at most 5 % of all runs. */
Test(paths, diamonds_are_found_with_the_confidence_that_is_claimed, .timeout = 60)
{
	static const struct shape shapes[] = {
		{"111", 0, 30},   {"121", 0, 80},    {"131", 0, 120},  {"181", 0, 300},
		{"1g1", 0, 700},  {"12131", 0, 200}, {"1231", 0, 300}, {"1221", 3, 200},
		{"1441", 3, 400}, {"1881", 3, 1000}, {"1421", 0, 400},
	};
	enum { RUNS = 100 };

	for (unsigned i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
		const struct shape *shape = &shapes[i];
		unsigned nodes = 0;
		unsigned missed = 0;

		for (unsigned run = 0; run < RUNS; run++) {
			struct net *net = diamonds(shape->widths);

			net->seed = run;
			net->router[shape->inherits].inherits = shape->inherits != 0;
			explore(net);
			cr_expect_eq(net->result.stop, TRACE_STOP_REACHED);
			cr_expect(net->result.reached);
			cr_expect_geq(net->result.confidence, 0.95);
			cr_expect_leq(net->result.probes, shape->most_probes, "%s: %u probes",
				      shape->widths, net->result.probes);
			for (unsigned ttl = 1; ttl <= net->length; ttl++) {
				missed += !is_found(net, ttl);
				nodes += ttl > 1 ? net->router[ttl - 1].width : 1;
				cr_expect_eq(net->hop[ttl]->balancing == PATHS_BALANCED_BY_FLOW,
					     net->hop[ttl]->nodes > 1 &&
						     !net->router[ttl].inherits);
			}
			forget(net);
		}
		cr_expect_leq(missed, nodes / 20, "%s: %u of %u", shape->widths, missed, nodes);
	}
}

Test(paths, balancing_by_packet_is_told_and_its_links_are_not_claimed)
{
	struct net *net = diamonds("1321");

	net->router[2].by_packet = true;
	explore(net);
	cr_expect_eq(net->hop[2]->balancing, PATHS_BALANCED_BY_PACKET);
	cr_expect_eq(net->hop[2]->nodes, 3);
	cr_expect_eq(net->hop[3]->balancing, PATHS_BALANCED_BY_FLOW);
	cr_expect_not(paths_links_known(net->hop[3]));
	cr_expect_not(paths_linked(net->hop[3], 0, 0));
	cr_expect(paths_links_known(net->hop[4]));
	cr_expect_leq(net->result.probes, 100);
	forget(net);
}

Test(paths, what_comes_together_behind_balancing_by_packet_is_linked)
{
	struct net *net = diamonds("121");

	net->router[2].by_packet = true;
	explore(net);
	cr_assert_eq(net->hop[2]->nodes, 2);
	cr_expect(paths_linked(net->hop[3], 0, 0) && paths_linked(net->hop[3], 1, 0));
	forget(net);
}

/* Half of the flows reach the destination a hop earlier. */
Test(paths, branches_may_differ_in_length)
{
	struct net *net = diamonds("1111");

	net->short_way = 1;
	explore(net);
	cr_expect_eq(net->hop[4]->nodes, 2);
	cr_expect_eq(net->hop[5]->nodes, 1);
	unsigned end = net->hop[4]->node[0].hop.outcome == TRACE_REACHED ? 0 : 1;
	cr_expect_not(paths_linked(net->hop[5], end, 0));
	cr_expect(paths_linked(net->hop[5], 1 - end, 0));
	cr_expect_eq(net->result.stop, TRACE_STOP_REACHED);
	forget(net);
}

/* A flow that ended earlier does not pass the only node that others meet later. */
Test(paths, a_shorter_branch_does_not_show_as_a_further_one)
{
	unsigned wrong = 0;

	for (unsigned run = 0; run < 200; run++) {
		struct net *net = diamonds("11111811");
		const struct paths_hop **sixth = &net->hop[6];

		net->seed = run;
		net->short_way = 5;
		explore(net);
		for (unsigned i = 0; *sixth != NULL && i < (*sixth)->nodes; i++)
			wrong += (*sixth)->node[i].hop.outcome == TRACE_REACHED;
		forget(net);
	}
	/* In one run of 64 none of the first six flows is a short one. */
	cr_expect_leq(wrong, 8, "%u", wrong);
}

Test(paths, a_silent_hop_costs_one_wait)
{
	struct net *net = diamonds("1121");

	net->router[2].silent = 1;
	explore(net);
	cr_expect_eq(net->hop[2]->nodes, 1);
	cr_expect(has_silent(net->hop[2]));
	cr_expect_eq(net->hop[3]->nodes, 2);
	cr_expect_lt(net->took_ns, 1500 * MS);
	forget(net);
}

Test(paths, a_silent_branch_is_a_node)
{
	struct net *net = diamonds("121");

	net->router[2].silent = 1;
	explore(net);
	cr_expect_eq(net->hop[2]->nodes, 2);
	cr_expect(has_silent(net->hop[2]));
	cr_expect(paths_linked(net->hop[3], 0, 0) && paths_linked(net->hop[3], 1, 0));
	cr_expect_lt(net->took_ns, 40000 * MS);
	forget(net);
}

/* Linux' limit by default: six at once, then one a second. */
Test(paths, a_limit_is_waited_for_and_then_the_confidence_is_told)
{
	struct net *net = diamonds("181");

	net->router[3].rate = 1;
	explore(net);
	cr_expect_eq(net->hop[2]->nodes, 8);
	cr_expect_geq(net->hop[2]->confidence, 0.95);
	cr_expect_eq(net->hop[3]->nodes, 1);
	cr_expect_not(has_silent(net->hop[3]));
	cr_expect_lt(net->hop[3]->confidence, 0.95);
	cr_expect_eq(net->result.confidence, net->hop[3]->confidence);
	cr_expect_lt(net->took_ns, 45000 * MS);
	forget(net);
	net = diamonds("121");
	net->router[3].rate = 1;
	explore(net);
	cr_expect_not(has_silent(net->hop[3]));
	cr_expect_geq(net->result.confidence, 0.95);
	forget(net);
}

Test(paths, loss_makes_no_silent_nodes, .timeout = 60)
{
	unsigned silent = 0;
	unsigned given_up = 0;

	for (unsigned run = 0; run < 100; run++) {
		struct net *net = diamonds("131");

		net->seed = run;
		net->loss_percent = 30;
		explore(net);
		for (unsigned ttl = 1; ttl <= net->length; ttl++)
			silent += has_silent(net->hop[ttl]);
		given_up += net->result.confidence < 0.95;
		forget(net);
	}
	cr_expect_leq(silent, 2);
	cr_expect_leq(given_up, 5);
}

Test(paths, without_further_flows_the_confidence_is_what_it_is)
{
	struct net *net = diamonds("141");

	net->config.flows = 10;
	explore(net);
	cr_expect_eq(net->result.flows, 10);
	cr_expect_lt(net->result.confidence, 0.95);
	cr_expect_eq(net->result.stop, TRACE_STOP_REACHED);
	forget(net);
}

Test(paths, the_end_has_its_reason)
{
	struct net *net = diamonds("12");

	net->last = TRACE_ANSWER_UNREACHABLE;
	explore(net);
	cr_expect_eq(net->result.stop, TRACE_STOP_UNREACHABLE);
	cr_expect_not(net->result.reached);
	forget(net);
	net = diamonds("1211");
	net->config.max_hops = 2;
	explore(net);
	cr_expect_eq(net->result.stop, TRACE_STOP_MAX_HOPS);
	cr_expect_not_null(net->hop[2]);
	cr_expect_null(net->hop[3]);
	forget(net);
	net = diamonds("1211");
	net->config.first_ttl = 3;
	explore(net);
	cr_expect_null(net->hop[2]);
	cr_expect_eq(net->hop[3]->nodes, 1);
	forget(net);
	net = diamonds("11");
	net->router[2].silent = 1;
	net->config.deadline_ns = 500 * MS;
	explore(net);
	cr_expect_eq(net->result.stop, TRACE_STOP_DEADLINE);
	cr_expect_not_null(net->hop[1]);
	cr_expect_null(net->hop[2]);
	cr_expect_eq(net->took_ns, 500 * MS);
	forget(net);
}

Test(paths, a_probe_that_cannot_be_sent_ends_the_trace)
{
	const struct trace_answer failure = {.kind = TRACE_ANSWER_FAILED, .error = ENETUNREACH};
	struct net *net = diamonds("11");
	struct trace_probe probe;

	net->paths = paths_new(&net->config, on_fact, net, net->now_ns);
	cr_assert(paths_next(net->paths, net->now_ns, &probe));
	paths_answer(net->paths, net->now_ns, probe.id, &failure);
	cr_expect(net->ended);
	cr_expect_eq(net->result.stop, TRACE_STOP_ERROR);
	cr_expect_eq(net->result.error, ENETUNREACH);
	forget(net);
}

Test(paths, a_flow_whose_port_is_in_use_is_left_out)
{
	struct net *net = diamonds("1181");

	net->flow_in_use = 3;
	explore(net);
	cr_expect_eq(net->failures, 1);
	cr_expect_geq(net->result.confidence, 0.95);
	cr_expect(is_found(net, 3));
	forget(net);
}

Test(paths, a_node_that_no_other_flow_meets_is_not_sought_for_long)
{
	struct net *net = diamonds("1111");

	net->router[2].rare = true;
	explore(net);
	cr_expect_eq(net->hop[2]->nodes, 2);
	cr_expect_lt(net->hop[3]->confidence, 0.95);
	cr_expect_lt(net->result.probes, 150);
	forget(net);
}

Test(paths, late_and_repeated_answers_are_harmless)
{
	const struct trace_answer answer = {.kind = TRACE_ANSWER_EXPIRED, .address = {198, 18}};
	struct net *net = diamonds("11");
	struct trace_probe probe;

	net->config.one_per_flow = false;
	net->paths = paths_new(&net->config, on_fact, net, net->now_ns);
	cr_assert(paths_next(net->paths, net->now_ns, &probe));
	net->now_ns += 1500 * MS;
	paths_next(net->paths, net->now_ns, &probe);
	for (unsigned i = 0; i < 3; i++)
		paths_answer(net->paths, net->now_ns, 0, &answer);
	paths_answer(net->paths, net->now_ns, PATHS_PROBES - 1, &answer);
	cr_expect(paths_next(net->paths, net->now_ns + 100 * MS, &probe));
	forget(net);
}
