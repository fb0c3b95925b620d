/*
 * The tracing engine: decides which probe leaves next, what an answer means, when a hop counts as
 * silent, where the path MTU shrinks and when the trace ends. Runs in the unprivileged front end.
 * It knows neither text nor sockets nor clocks: every call is told the time, so that tests drive it
 * with a scripted network. It believes no answer further than the trace of its sender.
 *
 * How it works. A small probe with the largest TTL goes first: the TTL of its answer tells about
 * how far the destination is. Then full-size probes go to all hops up to there, paced. Each "too
 * big" lowers the size for the hops behind it, which are probed again. Small probes follow where
 * full-size ones get no answer; where only small ones are answered, the size that passes is
 * searched (RFC 8899).
 *
 *      engine.c    pacing, what answers mean for the parts below, the facts in their order
 *      hops.c      which TTL is probed when, and when it counts as silent
 *      mtu.c       the path MTU at each TTL
 *      search.c    the largest size that passes a black hole
 */
#ifndef POSTERN_FRONTEND_TRACEPATH_ENGINE_H
#define POSTERN_FRONTEND_TRACEPATH_ENGINE_H

#include "frontend/tracepath/facts.h"
#include "frontend/tracepath/hops.h"

struct trace_config {
	struct hops_config hops;
	int64_t deadline_ns;      /* of the whole trace from trace_new(); 0: none */
	uint32_t wanted_bytes;    /* first packet size; 0: probes have no size, as with TCP */
	uint32_t local_mtu_bytes; /* what the first link carries */
	int64_t local_ns;         /* how long it took to find that out */
	uint32_t most_bytes;      /* largest packet that can be sent at all */
	uint32_t small_bytes;     /* size of the probes that pass everywhere */
	uint32_t least_mtu_bytes; /* no link carries less: a smaller MTU is not believed */
	bool one_in_flight;       /* answers are told apart only while one probe is open */
};

/* Called with each fact, from within trace_* calls; what it points to stays valid until
 * trace_free(). */
typedef void trace_on_fact(void *context, const struct trace_fact *fact);

struct trace;

/* NULL if there is no memory. */
struct trace *trace_new(const struct trace_config *config, trace_on_fact *on_fact, void *context,
			int64_t now_ns);
void trace_free(struct trace *trace);

struct trace_probe {
	uint16_t id; /* comes back in trace_answer(); never used twice in one trace */
	uint8_t ttl;
	uint32_t bytes; /* whole packet; 0: no size is asked for */
	uint32_t flow;  /* of the multipath engine only */
};

/* The next probe to send now, false if there is none for the moment. Call it until then at
 * trace_wake_ns() and after each trace_answer(): time passes for the trace in here alone. */
bool trace_next(struct trace *trace, int64_t now_ns, struct trace_probe *probe);

/* When trace_next() is to be called if no answer comes before. */
int64_t trace_wake_ns(const struct trace *trace);

/* Probe `id` ended. Duplicates, late answers and ids that never were are harmless. */
void trace_answer(struct trace *trace, int64_t now_ns, uint16_t id,
		  const struct trace_answer *answer);

/* Ends the trace now; the facts are what is known by then. No effect after the end. */
void trace_stop(struct trace *trace, enum trace_stop stop, int error);

bool trace_ended(const struct trace *trace);

/* Whether a black hole is being searched, and which size is tried. */
bool trace_searching(const struct trace *trace, uint32_t *bytes);

#endif
