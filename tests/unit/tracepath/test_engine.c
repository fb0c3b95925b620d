/*
 * The tracing engine against a scripted network and a fake clock: what it tells of clean, lossy,
 * rate-limited, narrow and broken paths, and after how much (pretended) time. The network keeps
 * Linux' habits: TTL before MTU, the quoted TTL as it arrived, one bucket per router.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/tracepath/engine.h"

#define MS INT64_C(1000000)

enum {
	MOST_HOPS = 64,
	MOST_ANSWERS = 16384,
	TEXT_BYTES = 16384,
};

enum fate { ROUTER, DESTINATION, REFUSER };

struct node {
	enum fate fate;
	bool silent;         /* no "time exceeded" */
	bool mute;           /* no answer at all */
	int loss_percent;    /* of its own answers */
	int64_t interval_ns; /* its bucket gets one token in this time, 0: no limit */
	double burst;        /* tokens that fit in */
	uint32_t mtu_bytes;  /* of the link behind it, 0: any */
	bool swallows;       /* what is too big for that link vanishes */
	uint32_t pretends;   /* "too big" tells this MTU instead, UINT32_MAX: none */
	bool shrinks;        /* "too big" tells a byte less than came */
	bool late_refusal;   /* a refuser that looks at the TTL first */
	bool other_address;  /* "too big" comes from another interface's address */
	uint8_t reply_ttl;   /* 0: as far back as out */
	int copies;          /* of each answer; 0: one */
	int64_t late_ns;     /* "time exceeded" comes so much later */
	/* state */
	double tokens;
	int64_t filled_ns;
	unsigned asked;
};

struct pending {
	int64_t at_ns;
	uint16_t id;
	struct trace_answer answer;
};

struct net {
	struct node nodes[MOST_HOPS + 1]; /* 1 is the first hop */
	unsigned length;                  /* the last one's number */
	int64_t delay_ns;                 /* there and back, per hop */
	int64_t jitter_ns;
	int loss_percent; /* of all packets, each way */
	bool no_reply_ttl;
	uint8_t wrong_reply_ttl; /* every answer arrives with this TTL */
	unsigned seed;

	struct trace_config config;
	int64_t now_ns;
	struct pending pending[MOST_ANSWERS];
	unsigned answers;
	unsigned probes;
	unsigned biggest_burst;
	unsigned most_open;
	unsigned most_rtts;    /* that a hop was reported with */
	uint8_t lose_ttl;      /* its first probe is lost */
	int64_t first_link_ns; /* a full-size packet takes so long on the first link */
	int64_t first_link_free_ns;
	int64_t slowest_ns; /* first round-trip time of a hop */
	int64_t stop_at_ns;
	char text[TEXT_BYTES];
	struct trace_result result;
	bool ended;
	int64_t took_ns;
};

static unsigned dice(struct net *net)
{
	net->seed = net->seed * 1103515245u + 12345u;
	return (net->seed >> 16) & 0x7fff;
}

static struct net *path(unsigned length)
{
	struct net *net = calloc(1, sizeof *net);

	cr_assert_not_null(net);
	net->length = length;
	net->delay_ns = MS / 20;
	net->seed = 1;
	net->now_ns = 1000 * MS;
	net->nodes[length].fate = DESTINATION;
	net->config = (struct trace_config){.hops = {.first_ttl = 1,
						     .max_hops = 30,
						     .tries = 3,
						     .wait_ns = 1000 * MS,
						     .scout = true,
						     .sized = true},
					    .wanted_bytes = 65535,
					    .local_mtu_bytes = 1500,
					    .most_bytes = 65535,
					    .small_bytes = 64};
	return net;
}

static void limit(struct node *node, int64_t interval_ns, double burst)
{
	node->interval_ns = interval_ns;
	node->burst = node->tokens = burst;
}

static bool take_token(struct net *net, struct node *node)
{
	if (node->interval_ns == 0)
		return true;
	node->tokens += (double)(net->now_ns - node->filled_ns) / (double)node->interval_ns;
	node->filled_ns = net->now_ns;
	if (node->tokens > node->burst)
		node->tokens = node->burst;
	if (node->tokens < 1)
		return false;
	node->tokens -= 1;
	return true;
}

static bool is_lost(struct net *net)
{
	return net->loss_percent != 0 && (int)(dice(net) % 100) < net->loss_percent;
}

static void set_address(struct trace_answer *answer, unsigned hop, bool other)
{
	answer->address[0] = other ? 203 : 198;
	answer->address[3] = (uint8_t)hop;
}

/* How long the probe takes to leave, behind those before it. */
static int64_t first_link(struct net *net, const struct trace_probe *probe)
{
	if (net->first_link_free_ns < net->now_ns)
		net->first_link_free_ns = net->now_ns;
	net->first_link_free_ns += net->first_link_ns * probe->bytes / 1500;
	return net->first_link_free_ns - net->now_ns;
}

static void answer_from(struct net *net, const struct trace_probe *probe, unsigned hop,
			struct trace_answer answer)
{
	struct node *node = &net->nodes[hop];

	node->asked++;
	if (node->mute || !take_token(net, node) || (int)(dice(net) % 100) < node->loss_percent ||
	    is_lost(net))
		return;
	answer.has_reply_ttl = !net->no_reply_ttl;
	answer.reply_ttl = net->wrong_reply_ttl ? net->wrong_reply_ttl
			   : node->reply_ttl    ? node->reply_ttl
						: (uint8_t)(65 - hop);
	for (int copy = 0; copy == 0 || copy < node->copies; copy++) {
		int64_t jitter = net->jitter_ns ? (int64_t)dice(net) * net->jitter_ns / 32768 : 0;

		cr_assert(net->answers < MOST_ANSWERS);
		answer.rtt_ns = hop * net->delay_ns + jitter + first_link(net, probe);
		if (answer.kind == TRACE_ANSWER_EXPIRED || answer.kind == TRACE_ANSWER_UNREACHABLE)
			answer.rtt_ns += node->late_ns;
		net->pending[net->answers++] =
			(struct pending){net->now_ns + answer.rtt_ns, probe->id, answer};
	}
}

static void carry(struct net *net, const struct trace_probe *probe)
{
	struct trace_answer answer = {.kind = TRACE_ANSWER_EXPIRED};

	net->probes++;
	if (probe->ttl == net->lose_ttl) {
		net->lose_ttl = 0;
		return;
	}
	if (probe->bytes > net->config.local_mtu_bytes) {
		answer = (struct trace_answer){.kind = TRACE_ANSWER_TOO_LARGE};
		net->pending[net->answers++] = (struct pending){net->now_ns, probe->id, answer};
		return;
	}
	if (is_lost(net))
		return;
	for (unsigned hop = 1; hop <= net->length; hop++) {
		const struct node *node = &net->nodes[hop];

		set_address(&answer, hop, false);
		if (node->fate == DESTINATION) {
			answer.kind = TRACE_ANSWER_REACHED;
			answer_from(net, probe, hop, answer);
			return;
		}
		if (node->fate == REFUSER && !(node->late_refusal && hop == probe->ttl)) {
			answer.kind = TRACE_ANSWER_UNREACHABLE;
			answer.refusal = TRACE_REFUSED_HOST;
			answer_from(net, probe, hop, answer);
			return;
		}
		if (hop == probe->ttl) {
			if (!node->silent)
				answer_from(net, probe, hop, answer);
			return;
		}
		if (node->mtu_bytes != 0 && probe->bytes > node->mtu_bytes) {
			answer.kind = TRACE_ANSWER_TOO_BIG;
			answer.mtu_bytes = node->shrinks    ? probe->bytes - 1
					   : node->pretends ? node->pretends
							    : node->mtu_bytes;
			if (answer.mtu_bytes == UINT32_MAX)
				answer.mtu_bytes = 0;
			set_address(&answer, hop, node->other_address);
			if (!node->swallows)
				answer_from(net, probe, hop, answer);
			return;
		}
	}
}

static void note_fact(void *context, const struct trace_fact *fact)
{
	struct net *net = context;
	char *at = net->text + strlen(net->text);
	size_t room = sizeof net->text - strlen(net->text);

	cr_assert(!net->ended, "a fact after the end");
	if (fact->kind == TRACE_FACT_END) {
		net->ended = true;
		net->result = *fact->result;
	} else if (fact->kind == TRACE_FACT_MTU) {
		const struct trace_step *step = fact->step;

		if (step->local)
			snprintf(at, room, "local %u\n", step->mtu_bytes);
		else if (step->black_hole && !step->has_after_hop)
			snprintf(at, room, "%u hole %u somewhere before\n", step->ttl,
				 step->mtu_bytes);
		else if (step->black_hole)
			snprintf(at, room, "%u hole %u after %u\n", step->ttl, step->mtu_bytes,
				 step->after_hop);
		else
			snprintf(at, room, "%u mtu %u from %u\n", step->ttl, step->mtu_bytes,
				 step->address[3]);
	} else {
		static const char *const outcome[] = {"unknown", "silent", "router", "reached",
						      "refused"};

		snprintf(at, room, "%u%s %s %u\n", fact->hop->ttl,
			 fact->hop->ttl_uncertain ? "?" : "", outcome[fact->hop->outcome],
			 fact->hop->address[3]);
		if (fact->hop->rtts > net->most_rtts)
			net->most_rtts = fact->hop->rtts;
		if (fact->hop->rtt_ns[0] > net->slowest_ns)
			net->slowest_ns = fact->hop->rtt_ns[0];
	}
}

/* The pending answer that comes first and is due, or −1. */
static int due(const struct net *net, int64_t *next_ns)
{
	int best = -1;

	*next_ns = INT64_MAX;
	for (unsigned i = 0; i < net->answers; i++)
		if (net->pending[i].at_ns < *next_ns) {
			*next_ns = net->pending[i].at_ns;
			best = (int)i;
		}
	return best >= 0 && *next_ns <= net->now_ns ? best : -1;
}

/* One probe's worth of time passes between two probes, or up to what comes next. */
static void run(struct net *net)
{
	int64_t start_ns = net->now_ns;
	struct trace *trace = trace_new(&net->config, note_fact, net, net->now_ns);
	struct trace_probe probe;
	unsigned rounds = 0;

	cr_assert_not_null(trace);
	while (!trace_ended(trace)) {
		int64_t next_ns;
		unsigned burst = 0;

		cr_assert(rounds++ < 100000, "the trace does not end:\n%s", net->text);
		for (; trace_next(trace, net->now_ns, &probe); burst++)
			carry(net, &probe);
		if (burst > net->biggest_burst)
			net->biggest_burst = burst;
		if (net->answers > net->most_open)
			net->most_open = net->answers;
		if (trace_ended(trace))
			break;
		int first = due(net, &next_ns);
		if (first >= 0) {
			struct pending pending = net->pending[first];

			net->pending[first] = net->pending[--net->answers];
			trace_answer(trace, net->now_ns, pending.id, &pending.answer);
			continue;
		}
		if (trace_wake_ns(trace) < next_ns)
			next_ns = trace_wake_ns(trace);
		cr_assert(next_ns != INT64_MAX, "nothing will ever happen:\n%s", net->text);
		if (net->stop_at_ns != 0 && next_ns > start_ns + net->stop_at_ns) {
			trace_stop(trace, TRACE_STOP_DEADLINE, 0);
			break;
		}
		if (next_ns > net->now_ns)
			net->now_ns = next_ns;
	}
	net->took_ns = net->now_ns - start_ns;
	cr_assert(!trace_next(trace, net->now_ns, &probe), "a probe after the end");
	trace_free(trace);
	cr_assert(net->ended);
}

/* The lines of a path whose routers all answer, from one hop to another. */
static void routers(char *expected, unsigned from, unsigned to)
{
	for (unsigned hop = from; hop <= to; hop++)
		sprintf(expected + strlen(expected), "%u router %u\n", hop, hop);
}

static void expect(struct net *net, const char *text)
{
	cr_assert_str_eq(net->text, text, "told:\n%sexpected:\n%s", net->text, text);
}

static void expect_within(const struct net *net, int64_t most_ms)
{
	cr_assert(net->took_ns <= most_ms * MS, "took %.1f ms of %.1f", (double)net->took_ns / 1e6,
		  (double)most_ms);
}

static void expect_clean(struct net *net, unsigned length)
{
	char expected[TEXT_BYTES] = "local 1500\n";

	routers(expected, 1, length - 1);
	sprintf(expected + strlen(expected), "%u reached %u\n", length, length);
	expect(net, expected);
	cr_assert_eq(net->result.stop, TRACE_STOP_REACHED);
	cr_assert_eq(net->result.hops, length);
	cr_assert_eq(net->result.mtu_bytes, 1500);
}

Test(engine, clean_paths_of_every_length)
{
	for (unsigned length = 1; length <= 30; length++) {
		struct net *net = path(length);

		run(net);
		expect_clean(net, length);
		expect_within(net, 40);
		cr_assert_eq(net->result.back_hops, length);
		/* The scout, each hop, and the last of them in full size alone. */
		cr_assert_leq(net->probes, length + 1);
		cr_assert_leq(net->nodes[length].asked, 2,
			      "the destination of %u was asked %u times", length,
			      net->nodes[length].asked);
		free(net);
	}
}

Test(engine, smaller_mtus_show_at_the_hop_that_runs_into_them)
{
	struct net *net = path(12);
	char expected[TEXT_BYTES] = "local 1500\n";

	net->nodes[4].mtu_bytes = 1400;
	net->nodes[5].mtu_bytes = 1380;
	net->nodes[9].mtu_bytes = 1300;
	run(net);
	routers(expected, 1, 4);
	strcat(expected, "5 mtu 1400 from 4\n5 router 5\n6 mtu 1380 from 5\n");
	routers(expected, 6, 9);
	strcat(expected, "10 mtu 1300 from 9\n10 router 10\n11 router 11\n12 reached 12\n");
	expect(net, expected);
	expect_within(net, 45);
	cr_assert_eq(net->result.mtu_bytes, 1300);
	free(net);
}

Test(engine, silent_hops_share_one_wait)
{
	struct net *net = path(30);
	char expected[TEXT_BYTES] = "local 1500\n";

	for (unsigned hop = 5; hop <= 7; hop++)
		net->nodes[hop].silent = true;
	net->nodes[12].silent = net->nodes[20].silent = true;
	net->nodes[10].mtu_bytes = 1400;
	net->nodes[20].mtu_bytes = 1300; /* a router whose address is not known */
	for (unsigned hop = 1; hop <= 30; hop++)
		limit(&net->nodes[hop], 1000 * MS, 6);
	run(net);
	routers(expected, 1, 4);
	strcat(expected, "5 silent 0\n6 silent 0\n7 silent 0\n");
	routers(expected, 8, 10);
	strcat(expected, "11 mtu 1400 from 10\n11 router 11\n12 silent 0\n");
	routers(expected, 13, 19);
	strcat(expected, "20 silent 0\n21 mtu 1300 from 20\n");
	routers(expected, 21, 29);
	strcat(expected, "30 reached 30\n");
	expect(net, expected);
	expect_within(net, 1300);
	free(net);
}

Test(engine, routers_of_one_error_a_second_are_seen)
{
	for (unsigned narrow = 1; narrow <= 8; narrow++) {
		struct net *net = path(9);
		char expected[TEXT_BYTES] = "local 1500\n";

		for (unsigned hop = 1; hop <= 9; hop++)
			limit(&net->nodes[hop], 1000 * MS, 1);
		net->nodes[narrow].mtu_bytes = 1400;
		run(net);
		routers(expected, 1, narrow);
		sprintf(expected + strlen(expected), "%u mtu 1400 from %u\n", narrow + 1, narrow);
		routers(expected, narrow + 1, 8);
		strcat(expected, "9 reached 9\n");
		expect(net, expected);
		expect_within(net, 6000);
		free(net);
	}
}

Test(engine, lossy_routers_are_asked_again)
{
	unsigned missed = 0;

	for (unsigned seed = 1; seed <= 200; seed++) {
		struct net *net = path(15);

		net->seed = seed;
		for (unsigned hop = 1; hop <= 15; hop++)
			net->nodes[hop].loss_percent = 30;
		net->nodes[6].mtu_bytes = 1400;
		run(net);
		missed += strstr(net->text, "silent") != NULL;
		cr_assert(strstr(net->text, "7 mtu 1400 from 6\n"), "seed %u:\n%s", seed,
			  net->text);
		cr_assert(strstr(net->text, "hole") == NULL, "seed %u:\n%s", seed, net->text);
		cr_assert_eq(net->result.stop, TRACE_STOP_REACHED, "seed %u", seed);
		free(net);
	}
	/* 0.3 to the power of 16, a thousand times. */
	cr_assert_eq(missed, 0, "%u of 200 traces lost a hop", missed);
}

/* Lines stay in the order of hops. */
Test(engine, a_black_hole_behind_a_silent_hop)
{
	struct net *net = path(8);

	net->nodes[4].silent = true;
	net->nodes[4].mtu_bytes = 1400;
	net->nodes[4].swallows = true;
	run(net);
	expect(net, "local 1500\n1 router 1\n2 router 2\n3 router 3\n4 silent 0\n"
		    "5 hole 1400 after 3\n5 router 5\n6 router 6\n7 router 7\n8 reached 8\n");
	free(net);
}

/* Nearly two of three probes get no answer. */
Test(engine, loss_makes_no_black_holes)
{
	for (unsigned seed = 1; seed <= 300; seed++) {
		struct net *net = path(12);

		net->seed = seed;
		net->loss_percent = 40;
		if (seed % 2)
			net->nodes[6].mtu_bytes = 1400;
		run(net);
		cr_assert(strstr(net->text, "hole") == NULL, "seed %u:\n%s", seed, net->text);
		if (net->result.has_mtu)
			cr_assert_eq(net->result.mtu_bytes, seed % 2 ? 1400 : 1500, "seed %u:\n%s",
				     seed, net->text);
		free(net);
	}
}

Test(engine, black_holes_are_found_in_spite_of_loss)
{
	unsigned found = 0;

	for (unsigned seed = 1; seed <= 200; seed++) {
		struct net *net = path(12);

		net->seed = seed;
		net->loss_percent = 10;
		net->nodes[5].mtu_bytes = 1387;
		net->nodes[5].swallows = true;
		run(net);
		cr_assert(strstr(net->text, "hole 13") != NULL, "seed %u:\n%s", seed, net->text);
		found += strstr(net->text, "6 hole 1387 after 5\n") != NULL;
		free(net);
	}
	cr_assert_geq(found, 198, "%u of 200", found);
}

/* In the middle of the search it is not known whether full size reaches the end. */
Test(engine, a_trace_that_is_cut_short_claims_nothing)
{
	for (int64_t at_ns = 50 * MS; at_ns < 3500 * MS; at_ns += 50 * MS) {
		struct net *net = path(14);

		net->nodes[9].mtu_bytes = 1400;
		net->nodes[9].swallows = true;
		net->stop_at_ns = at_ns;
		run(net);
		if (net->result.stop == TRACE_STOP_DEADLINE) {
			cr_assert(strstr(net->text, "reached") == NULL, "%s", net->text);
			cr_assert(!net->result.has_mtu && !net->result.reached &&
				  !net->result.has_hops);
		} else {
			cr_assert(net->result.has_mtu && net->result.reached);
		}
		free(net);
	}
}

/* As soon as it and all before it are known. */
Test(engine, lines_come_one_by_one)
{
	struct net *net = path(20);
	char expected[64];

	net->delay_ns = 100 * MS;
	net->stop_at_ns = 450 * MS;
	run(net);
	strcpy(expected, "local 1500\n");
	routers(expected, 1, 3);
	expect(net, expected);
	free(net);
}

Test(engine, an_answer_within_the_wait_is_never_missed)
{
	struct net *net = path(14);

	for (unsigned hop = 4; hop <= 9; hop++)
		net->nodes[hop].silent = true;
	net->nodes[10].late_ns = 950 * MS;
	run(net);
	cr_assert(strstr(net->text, "\n10 router 10\n"), "%s", net->text);
	expect_within(net, 3300);
	free(net);

	net = path(5);
	net->config.hops.tries = 1;
	net->config.hops.tries_exact = true;
	net->nodes[3].late_ns = 950 * MS;
	run(net);
	expect_clean(net, 5);
	free(net);
}

/* The host behind the last router is down. Linux says so three seconds after the first probe. */
Test(engine, a_router_that_cannot_resolve_an_address)
{
	struct net *net = path(5);

	net->nodes[5].fate = REFUSER;
	net->nodes[5].late_ns = 3060 * MS;
	run(net);
	cr_assert(strstr(net->text, "4 router 4\n5 refused 5\n"), "%s", net->text);
	free(net);
}

Test(engine, probes_do_not_queue_on_a_slow_first_link)
{
	struct net *net = path(20);

	net->first_link_ns = 11 * MS;
	net->delay_ns = 2 * MS;
	run(net);
	expect_clean(net, 20);
	cr_assert_leq(net->slowest_ns, (20 * 2 + 12) * MS, "%.1f ms",
		      (double)net->slowest_ns / 1e6);
	free(net);
}

/* The first probe that runs into the small MTU is lost, and the router has spent its errors. */
Test(engine, a_step_is_located_by_the_address_of_its_router)
{
	struct net *net = path(8);

	net->nodes[4].mtu_bytes = 1400;
	net->nodes[4].late_ns = 40 * MS;
	limit(&net->nodes[4], 1000 * MS, 2);
	net->lose_ttl = 5;
	run(net);
	cr_assert(strstr(net->text, "5 mtu 1400 from 4\n5 router 5\n"), "%s", net->text);
	expect_within(net, 300);
	free(net);
}

/* Answers after the hop was reported, and from another address: by hand. */
Test(engine, late_and_foreign_answers_are_ignored)
{
	struct net *net = path(3);
	struct trace_answer expired = {.kind = TRACE_ANSWER_EXPIRED, .address = {198}};
	struct trace_answer foreign = {.kind = TRACE_ANSWER_EXPIRED, .address = {203}};
	struct trace_answer too_big = {.kind = TRACE_ANSWER_TOO_BIG, .mtu_bytes = 1400};
	struct trace_probe probe;
	unsigned first = 0;
	unsigned count = 0;
	uint16_t id[3];

	net->config.hops.scout = false;
	struct trace *trace = trace_new(&net->config, note_fact, net, 0);
	for (int64_t now_ns = 0; count < 3; now_ns += MS)
		while (trace_next(trace, now_ns, &probe))
			if (probe.bytes > 64 && probe.ttl == 2 && count < 3)
				id[count++] = probe.id;
			else if (probe.bytes > 64 && probe.ttl == 1)
				first = probe.id;
	trace_answer(trace, 3000 * MS, id[0], &expired);
	trace_answer(trace, 3000 * MS, id[1], &foreign);
	trace_answer(trace, 3000 * MS, (uint16_t)first, &expired);
	expect(net, "local 1500\n1 router 0\n2 router 0\n");
	cr_assert_eq(net->most_rtts, 1);
	trace_answer(trace, 3000 * MS, id[2], &too_big);
	trace_next(trace, 3000 * MS, &probe);
	expect(net, "local 1500\n1 router 0\n2 router 0\n");
	trace_free(trace);
	free(net);
}

/* Its answer to the first small probe tells where it is: it is asked until it can answer again. */
Test(engine, a_destination_of_few_errors)
{
	for (int64_t interval_ns = 1000 * MS; interval_ns <= 3000 * MS; interval_ns += 1000 * MS) {
		struct net *net = path(6);

		limit(&net->nodes[6], interval_ns, 1);
		run(net);
		expect_clean(net, 6);
		expect_within(net, interval_ns / MS + 1500);
		cr_assert_leq(net->nodes[6].asked, 16, "asked %u times", net->nodes[6].asked);
		free(net);
	}
}

/* Many tries share the wait; they do not follow each other without pause at its end. */
Test(engine, a_silent_hop_of_a_lossy_path_gets_no_burst)
{
	struct net *net = path(10);

	net->delay_ns = 20 * MS;
	net->nodes[5].mute = true;
	for (unsigned hop = 6; hop < 10; hop++)
		net->nodes[hop].loss_percent = 60;
	run(net);
	cr_assert(strstr(net->text, "5 silent 0\n"), "%s", net->text);
	cr_assert_leq(net->nodes[5].asked, 8, "asked %u times", net->nodes[5].asked);
	free(net);
}

Test(engine, first_ttl_behind_a_black_hole_or_the_end)
{
	struct net *net = path(8);

	net->config.hops.first_ttl = 6;
	net->nodes[3].mtu_bytes = 1400;
	net->nodes[3].swallows = true;
	run(net);
	expect(net, "local 1500\n6 hole 1400 somewhere before\n6 router 6\n7 router 7\n"
		    "8 reached 8\n");
	cr_assert_eq(net->result.hops, 8);
	free(net);

	net = path(8);
	net->config.hops.first_ttl = 11;
	run(net);
	expect(net, "local 1500\n11? reached 8\n");
	cr_assert(!net->result.has_hops);
	free(net);
}

Test(engine, one_in_flight)
{
	struct net *net = path(8);

	net->config.one_in_flight = true;
	net->delay_ns = 30 * MS;
	net->config.hops.scout = false;
	net->config.hops.tries_exact = true;
	net->nodes[3].silent = true;
	run(net);
	cr_assert_leq(net->most_open, 1, "%u", net->most_open);
	cr_assert(strstr(net->text, "3 silent 0\n4 router 4\n"), "%s", net->text);
	cr_assert_eq(net->result.hops, 8);
	free(net);
}

/* With TCP: no size is asked for, and no path MTU claimed. */
Test(engine, probes_without_a_size)
{
	struct net *net = path(8);

	net->config.wanted_bytes = net->config.small_bytes = 0;
	net->config.hops.sized = net->config.hops.scout = false;
	net->nodes[3].mtu_bytes = 1400;
	net->nodes[5].silent = true;
	run(net);
	expect(net, "1 router 1\n2 router 2\n3 router 3\n4 router 4\n5 silent 0\n6 router 6\n"
		    "7 router 7\n8 reached 8\n");
	cr_assert(!net->result.has_mtu);
	free(net);
}

Test(engine, slow_paths_take_three_round_trips)
{
	struct net *net = path(20);

	net->delay_ns = 200 * MS;
	run(net);
	expect_clean(net, 20);
	expect_within(net, 3 * 20 * 200);
	cr_assert_leq(net->probes, 30, "%u probes", net->probes);
	free(net);

	net = path(20);
	net->delay_ns = 200 * MS;
	net->nodes[7].mtu_bytes = 1400;
	net->nodes[13].mtu_bytes = 1300;
	run(net);
	expect_within(net, 5 * 20 * 200);
	cr_assert(strstr(net->text, "14 mtu 1300 from 13\n"));
	free(net);
}

/* Within how long: a destination that is alone behind the hole and limits its errors is waited for.
 */
static void expect_hole(unsigned length, unsigned after, uint32_t mtu_bytes, double burst)
{
	struct net *net = path(length);
	char expected[TEXT_BYTES] = "local 1500\n";

	for (unsigned hop = 1; burst > 0 && hop <= length; hop++)
		limit(&net->nodes[hop], 1000 * MS, burst);
	net->nodes[after].mtu_bytes = mtu_bytes;
	net->nodes[after].swallows = true;
	run(net);
	routers(expected, 1, after);
	sprintf(expected + strlen(expected), "%u hole %u after %u\n", after + 1, mtu_bytes, after);
	routers(expected, after + 1, length - 1);
	sprintf(expected + strlen(expected), "%u reached %u\n", length, length);
	expect(net, expected);
	expect_within(net, after < length - 1 ? 4600 : 6000);
	cr_assert_eq(net->result.mtu_bytes, mtu_bytes);
	free(net);
}

Test(engine, black_holes_are_found_with_the_right_size)
{
	expect_hole(14, 9, 1400, 6);
	expect_hole(10, 9, 1400, 6);
	expect_hole(14, 9, 1387, 6);
	expect_hole(14, 1, 1280, 6);
	expect_hole(10, 9, 1499, 6);
	expect_hole(10, 9, 1480, 0);
	for (uint32_t mtu_bytes = 70; mtu_bytes < 1500; mtu_bytes += 77)
		expect_hole(12, 5, mtu_bytes, 0);
}

Test(engine, a_narrow_link_behind_a_black_hole)
{
	struct net *net = path(12);

	net->nodes[4].mtu_bytes = 1400;
	net->nodes[4].swallows = true;
	net->nodes[8].mtu_bytes = 1300;
	run(net);
	cr_assert(strstr(net->text, "5 hole 1400 after 4\n"), "%s", net->text);
	cr_assert(strstr(net->text, "9 mtu 1300 from 8\n"), "%s", net->text);
	cr_assert_eq(net->result.stop, TRACE_STOP_REACHED);
	free(net);
}

Test(engine, two_black_holes)
{
	struct net *net = path(12);

	net->nodes[4].mtu_bytes = 1400;
	net->nodes[4].swallows = true;
	net->nodes[8].mtu_bytes = 1300;
	net->nodes[8].swallows = true;
	run(net);
	cr_assert(strstr(net->text, "5 hole 1400 after 4\n"), "%s", net->text);
	cr_assert(strstr(net->text, "9 hole 1300 after 8\n"), "%s", net->text);
	free(net);
}

Test(engine, duplicates_and_reordering_change_nothing)
{
	for (unsigned seed = 1; seed <= 50; seed++) {
		struct net *net = path(20);

		net->seed = seed;
		net->jitter_ns = 30 * MS;
		for (unsigned hop = 1; hop <= 20; hop++)
			net->nodes[hop].copies = 3;
		run(net);
		cr_assert_eq(net->most_rtts, 1);
		expect_clean(net, 20);
		free(net);
	}
}

Test(engine, an_unreachable_ends_the_trace)
{
	for (unsigned at = 1; at <= 10; at++) {
		struct net *net = path(12);
		char expected[TEXT_BYTES] = "local 1500\n";

		net->nodes[at].fate = REFUSER;
		run(net);
		routers(expected, 1, at - 1);
		sprintf(expected + strlen(expected), "%u refused %u\n", at, at);
		expect(net, expected);
		cr_assert_eq(net->result.stop, TRACE_STOP_UNREACHABLE);
		cr_assert(!net->result.has_hops);
		expect_within(net, 50);
		free(net);
	}
}

Test(engine, a_router_that_refuses_what_has_not_expired)
{
	for (unsigned at = 1; at <= 10; at++) {
		struct net *net = path(12);
		char expected[TEXT_BYTES] = "local 1500\n";

		net->nodes[at].fate = REFUSER;
		net->nodes[at].late_refusal = true;
		run(net);
		routers(expected, 1, at);
		sprintf(expected + strlen(expected), "%u refused %u\n", at + 1, at);
		expect(net, expected);
		expect_within(net, 50);
		/* The scout, its own TTL in both sizes, the next in one. */
		cr_assert_leq(net->nodes[at].asked, 4, "asked %u times", net->nodes[at].asked);
		free(net);
	}
}

Test(engine, a_router_that_refuses_and_is_silent_otherwise)
{
	struct net *net = path(12);

	net->nodes[6].fate = REFUSER;
	net->nodes[6].late_refusal = true;
	net->nodes[6].silent = true;
	run(net);
	cr_assert(strstr(net->text, "5 router 5\n6 silent 0\n7 refused 6\n"), "%s", net->text);
	cr_assert_eq(net->result.stop, TRACE_STOP_UNREACHABLE);
	free(net);
}

/* Linux takes two tokens for an unreachable: it limits the error and the route's error. */
Test(engine, a_refusal_costs_its_router_few_errors)
{
	for (unsigned at = 1; at <= 10; at++) {
		struct net *net = path(12);

		net->nodes[at].fate = REFUSER;
		run(net);
		cr_assert_leq(net->nodes[at].asked, 2, "%u: asked %u times", at,
			      net->nodes[at].asked);
		free(net);
	}
}

Test(engine, a_silent_destination_takes_three_tries_for_all)
{
	struct net *net = path(8);
	char expected[TEXT_BYTES] = "local 1500\n";

	net->nodes[8].mute = true;
	net->nodes[3].mtu_bytes = 1400;
	run(net);
	routers(expected, 1, 3);
	strcat(expected, "4 mtu 1400 from 3\n");
	routers(expected, 4, 7);
	for (unsigned hop = 8; hop <= 30; hop++)
		sprintf(expected + strlen(expected), "%u silent 0\n", hop);
	expect(net, expected);
	cr_assert_eq(net->result.stop, TRACE_STOP_MAX_HOPS);
	expect_within(net, 4000);
	free(net);
}

Test(engine, a_destination_of_one_error_a_second_that_was_just_asked)
{
	struct net *net = path(6);

	limit(&net->nodes[6], 1000 * MS, 1);
	net->nodes[6].tokens = -0.4;
	net->nodes[6].filled_ns = net->now_ns;
	run(net);
	expect_clean(net, 6);
	expect_within(net, 5000);
	free(net);
}

Test(engine, routers_that_spent_their_errors_on_an_earlier_trace)
{
	struct net *net = path(12);

	for (unsigned hop = 1; hop <= 12; hop++) {
		limit(&net->nodes[hop], 1000 * MS, 6);
		net->nodes[hop].tokens = hop < 9 ? 0.05 : 4;
		net->nodes[hop].filled_ns = net->now_ns;
	}
	run(net);
	expect_clean(net, 12);
	expect_within(net, 4000);
	free(net);
}

Test(engine, too_many_hops)
{
	struct net *net = path(12);
	char expected[TEXT_BYTES] = "local 1500\n";

	net->config.hops.max_hops = 7;
	run(net);
	routers(expected, 1, 7);
	expect(net, expected);
	cr_assert_eq(net->result.stop, TRACE_STOP_MAX_HOPS);
	free(net);

	net = path(12);
	net->config.hops.max_hops = 0;
	run(net);
	expect(net, "local 1500\n");
	cr_assert_eq(net->result.stop, TRACE_STOP_MAX_HOPS);
	cr_assert_eq(net->probes, 0);
	free(net);
}

Test(engine, the_first_hops_can_be_left_out)
{
	struct net *net = path(9);

	net->config.hops.first_ttl = 6;
	net->nodes[2].mtu_bytes = 1400;
	run(net);
	expect(net,
	       "local 1500\n6 mtu 1400 from 2\n6 router 6\n7 router 7\n8 router 8\n9 reached 9\n");
	free(net);
}

Test(engine, a_deadline_tells_what_is_known)
{
	struct net *net = path(10);

	net->config.deadline_ns = 500 * MS;
	net->delay_ns = 100 * MS;
	run(net);
	cr_assert_eq(net->result.stop, TRACE_STOP_DEADLINE);
	expect_within(net, 500);
	cr_assert(strstr(net->text, "1 router 1\n"), "%s", net->text);
	cr_assert(strstr(net->text, "10 ") == NULL);
	free(net);

	net = path(10);
	net->stop_at_ns = 100 * MS;
	net->nodes[3].silent = true;
	run(net);
	cr_assert(strstr(net->text, "3 unknown 0\n4 router 4\n"), "%s", net->text);
	free(net);
}

static void note_back(void *context, const struct trace_fact *fact)
{
	unsigned *back = context;

	if (fact->kind == TRACE_FACT_HOP)
		back[fact->hop->ttl] = fact->hop->back_hops;
}

Test(engine, hops_back_come_from_the_answers_ttl)
{
	static const struct {
		uint8_t ttl;
		unsigned back;
	} cases[] = {{64, 1}, {60, 5}, {1, 64}, {65, 64}, {128, 1}, {120, 9}, {129, 127}, {255, 1}};
	struct net *net = path(9);
	unsigned back[16] = {0};
	struct trace_probe probe;

	struct trace *trace = trace_new(&net->config, note_back, back, 0);
	for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++)
		net->nodes[i + 1].reply_ttl = cases[i].ttl;
	for (int64_t now_ns = 0; !trace_ended(trace); now_ns += MS) {
		while (trace_next(trace, now_ns, &probe))
			carry(net, &probe);
		while (net->answers > 0) {
			net->answers--;
			trace_answer(trace, now_ns, net->pending[net->answers].id,
				     &net->pending[net->answers].answer);
		}
	}
	for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++)
		cr_assert_eq(back[i + 1], cases[i].back, "TTL %u: %u", cases[i].ttl, back[i + 1]);
	trace_free(trace);
	free(net);
}

Test(engine, the_ttl_of_an_answer_is_a_hint_not_a_truth)
{
	static const uint8_t wrong[] = {64, 63, 58, 40, 35, 100, 255};

	for (unsigned i = 0; i < sizeof wrong; i++) {
		struct net *net = path(12);
		char expected[TEXT_BYTES] = "local 1500\n";

		net->wrong_reply_ttl = wrong[i];
		net->nodes[6].mtu_bytes = 1400;
		run(net);
		routers(expected, 1, 6);
		strcat(expected, "7 mtu 1400 from 6\n");
		routers(expected, 7, 11);
		strcat(expected, "12 reached 12\n");
		expect(net, expected);
		free(net);
	}
}

Test(engine, steps_of_routers_with_other_addresses_are_found_by_ttl)
{
	for (unsigned at = 1; at <= 11; at++) {
		struct net *net = path(12);
		char line[64];

		net->no_reply_ttl = true;
		net->nodes[at].mtu_bytes = 1400;
		net->nodes[at].other_address = true;
		run(net);
		snprintf(line, sizeof line, "%u mtu 1400 from %u\n%u r", at + 1, at, at + 1);
		cr_assert(strstr(net->text, line), "step at %u:\n%s", at, net->text);
		cr_assert(strstr(net->text, "hole") == NULL, "%s", net->text);
		free(net);
	}
}

Test(engine, impossible_mtus_are_not_believed)
{
	struct net *net = path(6);

	net->nodes[3].mtu_bytes = 1400;
	net->nodes[3].pretends = 9000;
	run(net);
	cr_assert_eq(net->result.stop, TRACE_STOP_REACHED);
	cr_assert_eq(net->result.mtu_bytes, 1400);
	free(net);
}

Test(engine, all_tries_are_made_for_statistics)
{
	struct net *net = path(6);

	net->config.hops.tries = 4;
	net->config.hops.tries_exact = true;
	net->config.hops.all_tries = true;
	net->config.hops.scout = false;
	net->nodes[2].loss_percent = 50;
	net->nodes[3].mute = true;
	run(net);
	for (unsigned ttl = 1; ttl <= 6; ttl++)
		cr_assert_eq(net->nodes[ttl].asked, 4, "hop %u: %u", ttl, net->nodes[ttl].asked);
	cr_assert_eq(net->most_rtts, 4);
	cr_assert(strstr(net->text, "3 silent 0\n4 router 4\n"), "%s", net->text);
	free(net);
}

Test(engine, exact_tries_are_exact)
{
	struct net *net = path(6);

	net->config.hops.tries = 2;
	net->config.hops.tries_exact = true;
	net->nodes[3].mute = true;
	run(net);
	cr_assert(strstr(net->text, "3 silent 0\n"));
	cr_assert_leq(net->nodes[3].asked, 2);
	free(net);
}

Test(engine, few_tries_a_hop_do_not_make_black_holes)
{
	struct net *net = path(8);

	net->config.hops.tries = 1;
	net->config.hops.tries_exact = true;
	for (unsigned hop = 1; hop < 8; hop++)
		limit(&net->nodes[hop], 1000 * MS, 1);
	net->nodes[4].mtu_bytes = 1400;
	run(net);
	cr_assert(strstr(net->text, "5 mtu 1400 from 4\n"), "%s", net->text);
	cr_assert(strstr(net->text, "hole") == NULL, "%s", net->text);
	free(net);
}

Test(engine, probes_leave_in_small_bursts)
{
	struct net *net = path(60);

	net->config.hops.max_hops = 64;
	run(net);
	cr_assert_leq(net->biggest_burst, 16);
	cr_assert_eq(net->result.hops, 60);
	free(net);
}

Test(engine, a_first_link_that_refuses_the_size)
{
	struct net *net = path(4);

	net->config.local_mtu_bytes = 1000;
	net->config.wanted_bytes = 1000;
	struct trace_config config = net->config;
	config.local_mtu_bytes = 9000;
	config.wanted_bytes = 1400; /* the route said more than the link takes */
	struct trace *trace = trace_new(&config, note_fact, net, net->now_ns);
	struct trace_probe probe;

	for (unsigned round = 0; !trace_ended(trace) && round < 1000; round++) {
		while (trace_next(trace, net->now_ns, &probe))
			carry(net, &probe);
		while (net->answers > 0) {
			net->answers--;
			trace_answer(trace, net->now_ns, net->pending[net->answers].id,
				     &net->pending[net->answers].answer);
		}
		net->now_ns += MS;
	}
	cr_assert_eq(net->result.stop, TRACE_STOP_REACHED);
	cr_assert_leq(net->result.mtu_bytes, 1000);
	trace_free(trace);
	free(net);
}

Test(engine, a_transport_that_fails_ends_it_and_one_that_is_busy_does_not)
{
	struct net *net = path(4);
	struct trace *trace = trace_new(&net->config, note_fact, net, 0);
	struct trace_answer busy = {.kind = TRACE_ANSWER_BUSY};
	struct trace_answer failed = {.kind = TRACE_ANSWER_FAILED, .error = ENETUNREACH};
	struct trace_probe probe;

	cr_assert(trace_next(trace, 0, &probe));
	for (int i = 0; i < 20; i++) {
		trace_answer(trace, i * 50 * MS, probe.id, &busy);
		cr_assert(trace_next(trace, i * 50 * MS + 25 * MS, &probe));
	}
	cr_assert(!trace_ended(trace));
	trace_answer(trace, 2000 * MS, probe.id, &failed);
	cr_assert(net->ended);
	cr_assert_eq(net->result.stop, TRACE_STOP_ERROR);
	cr_assert_eq(net->result.error, ENETUNREACH);
	trace_free(trace);
	free(net);
}

Test(engine, random_paths_always_end)
{
	for (unsigned seed = 1; seed <= 1000; seed++) {
		struct net *net = path(1);

		net->seed = seed;
		net->nodes[1].fate = ROUTER;
		net->length = 1 + dice(net) % 40;
		for (unsigned hop = 1; hop <= net->length; hop++) {
			struct node *node = &net->nodes[hop];

			node->silent = dice(net) % 6 == 0;
			node->mute = dice(net) % 12 == 0;
			node->loss_percent = dice(net) % 5 == 0 ? (int)(dice(net) % 90) : 0;
			if (dice(net) % 8 == 0)
				node->mtu_bytes = 60 + dice(net) % 1500;
			node->swallows = dice(net) % 3 == 0;
			if (dice(net) % 10 == 0)
				node->pretends = dice(net) % 3000;
			if (dice(net) % 3 == 0)
				limit(node, 1000 * MS, 1 + dice(net) % 6);
			node->copies = (int)(dice(net) % 3);
		}
		net->nodes[net->length].fate = dice(net) % 3 ? DESTINATION : REFUSER;
		net->jitter_ns = (int64_t)(dice(net) % 100) * MS;
		net->wrong_reply_ttl = dice(net) % 10 == 0 ? (uint8_t)(1 + dice(net) % 255) : 0;
		net->no_reply_ttl = dice(net) % 10 == 0;
		run(net);
		cr_assert_leq(net->took_ns, 180000 * MS, "seed %u took %.1f s", seed,
			      (double)net->took_ns / 1e9);
		free(net);
	}
}

/* RFC 1191, 5: routers older than that say 0. Each smaller guess takes the place of the one before.
 */
Test(engine, a_router_that_does_not_say_what_fits_makes_one_step)
{
	static const uint32_t said[] = {UINT32_MAX, 1500, 9000};

	for (unsigned i = 0; i < sizeof said / sizeof said[0]; i++) {
		struct net *net = path(5);

		net->nodes[2].mtu_bytes = 576;
		net->nodes[2].pretends = said[i];
		run(net);
		expect(net, "local 1500\n1 router 1\n2 router 2\n3 mtu 576 from 2\n3 router 3\n"
			    "4 router 4\n5 reached 5\n");
		cr_assert_eq(net->result.stop, TRACE_STOP_REACHED);
		cr_assert_eq(net->result.mtu_bytes, 576);
		free(net);
	}
}

/* A router that each time says a byte less than what was sent is not followed without end. */
Test(engine, endless_steps_do_not_cost_the_hops)
{
	struct net *net = path(5);

	net->nodes[2].mtu_bytes = 100;
	net->nodes[2].shrinks = true;
	run(net);
	cr_assert_eq(net->result.stop, TRACE_STOP_BLACKHOLE, "%s", net->text);
	cr_assert(!net->result.has_mtu && !net->result.reached);
	expect_within(net, 1000);
	cr_assert_not_null(strstr(net->text, "\n4 router 4\n5 reached 5\n"), "%s", net->text);
	free(net);
}

/* Its bucket is empty from the trace before, and "too big" takes the next token. */
Test(engine, a_narrow_router_whose_bucket_was_empty_is_not_lost)
{
	struct net *net = path(9);
	char expected[TEXT_BYTES] = "local 1500\n";

	net->nodes[3].mtu_bytes = 1400;
	limit(&net->nodes[3], 1000 * MS, 1);
	net->nodes[3].tokens = 0;
	net->nodes[3].filled_ns = net->now_ns;
	run(net);
	routers(expected, 1, 3);
	strcat(expected, "4 mtu 1400 from 3\n");
	routers(expected, 4, 8);
	strcat(expected, "9 reached 9\n");
	expect(net, expected);
	expect_within(net, 3000);
	free(net);
}

/* No IPv4 link carries less than 68 bytes, no IPv6 link less than 1280. */
Test(engine, an_impossible_mtu_is_not_believed)
{
	struct net *net = path(5);

	net->config.least_mtu_bytes = 1280;
	net->nodes[2].mtu_bytes = 1400;
	net->nodes[2].pretends = 20;
	run(net);
	cr_assert_eq(net->result.mtu_bytes, 1400, "%s", net->text);
	free(net);
}
