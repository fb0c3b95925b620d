/*
 * The hops of a trace: which TTL is probed when, with full size or small, and when a hop counts as
 * silent. A part of the tracing engine. That a hop's answer is late, lost or withheld by a rate
 * limit looks alike from here; this file tells them apart by time.
 */
#ifndef POSTERN_FRONTEND_TRACEPATH_HOPS_H
#define POSTERN_FRONTEND_TRACEPATH_HOPS_H

#include "frontend/tracepath/facts.h"
#include "frontend/tracepath/search.h"

struct hops_config {
	uint8_t first_ttl;
	uint8_t max_hops; /* below first_ttl: nothing is probed */
	unsigned tries;   /* per hop, 1 and more */
	bool tries_exact; /* the user's number: not one probe more */
	int64_t wait_ns;  /* for the answer to one try */
	bool wait_exact;  /* the user's: slow answers do not lengthen it */
	bool scout;       /* a probe to max_hops tells how far the destination is */
	bool sized;       /* full size is more than small size */
	bool all_tries;   /* a hop that has answered is probed until all tries are made */
};

enum probe_size { SIZE_FULL, SIZE_SMALL, SIZES };

/* What is asked of one TTL with one size. */
struct ask {
	bool open; /* small ones: wanted; full ones are by the window */
	bool answered;
	bool given_up;
	unsigned tries;   /* probes sent */
	unsigned answers; /* to them */
	int64_t first_ns;
	int64_t last_ns;
	int64_t not_before_ns;
};

struct hops {
	struct hops_config config;
	struct trace_hop hop[TRACE_MAX_TTL + 1];
	struct ask ask[TRACE_MAX_TTL + 1][SIZES];
	uint8_t highest;  /* largest TTL that was answered */
	uint8_t furthest; /* largest TTL that a router answered */
	uint8_t full_to;  /* largest TTL that was answered at full size */
	uint8_t terminal; /* smallest TTL at which the path ends, 0: unknown */
	uint8_t guess;    /* where it may end, from the TTL of an answer; 0: unknown */
	uint8_t widened;  /* the window after hops in it were silent, 0: they are not */
	bool lossy;       /* an answer came only for a repeated probe */
	int64_t moved_ns; /* when the window or `highest` was last raised */
	int64_t slowest_rtt_ns;
	struct loss loss; /* of small probes to hops that do answer */
};

void hops_init(struct hops *hops, const struct hops_config *config, int64_t now_ns);

/* The largest TTL that is probed now. */
uint8_t hops_window(const struct hops *hops);

/* Gives up what had its tries. Returns whether a probe is to leave now: *ttl and *size; then
 * hops_sent(). Otherwise *wake_ns is brought forward to when to ask again. */
bool hops_next(struct hops *hops, int64_t now_ns, uint8_t *ttl, enum probe_size *size,
	       int64_t *wake_ns);
void hops_sent(struct hops *hops, uint8_t ttl, enum probe_size size, int64_t now_ns);
/* The probe did not leave; it is to be sent at `at_ns`. */
void hops_not_sent(struct hops *hops, uint8_t ttl, enum probe_size size, int64_t at_ns);

/* Fills in all but the TTL and the times of a hop that answered so. */
void hops_describe(struct trace_hop *hop, const struct trace_answer *answer);

/* An answer of the hop or the destination to try `try` (1: the first) of a probe; `size` is
 * SIZE_FULL if its packet was not smaller than full size is now. */
void hops_answer(struct hops *hops, int64_t now_ns, uint8_t ttl, enum probe_size size, unsigned try,
		 const struct trace_answer *answer);

/* Full size has changed for these TTLs: they are probed anew. */
void hops_restart(struct hops *hops, uint8_t from_ttl, int64_t now_ns);

/* A probe without an answer after this is more likely lost than late. */
int64_t hops_lost_after_ns(const struct hops *hops);

/* Whether nothing more is to be learnt about the hop. `settled`: small probes may speak for
 * full-size ones. */
bool hops_resolved(const struct hops *hops, uint8_t ttl, bool settled);

/* Whether full-size probes get no answer beyond full_to and are given up, but small ones do. */
bool hops_only_small_pass(const struct hops *hops);

/* A hop beyond full_to that answers small probes, another one than `last` if there are several; 0:
 * there is none. */
uint8_t hops_responder(const struct hops *hops, uint8_t last);

#endif
