/*
 * The tracing engine: decides which probe leaves next, what an answer means, when a hop counts as
 * silent, where the path MTU shrinks and when the trace ends. Runs in the unprivileged front end;
 * it knows neither text nor sockets nor clocks (every call is told the time), so that tests drive
 * it with a scripted network. It believes no answer further than the trace of its sender.
 *
 * How it works. A small probe with the largest TTL (the scout) tells the destination's distance
 * from the TTL that the answer quotes, while a sliding window of small probes explores the first
 * hops; then every hop up to there is asked at once. Right behind them (so that a router that
 * answers once a second spends that answer on its own hop) a probe of full size goes to the end of
 * the path, and again with the new size for every "too big" that comes back. What full size loses
 * although small probes pass is searched as RFC 8899 does.
 */
#ifndef POSTERN_FRONTEND_TRACE_ENGINE_H
#define POSTERN_FRONTEND_TRACE_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "frontend/extension.h"

enum {
	TRACE_MAX_TTL = 255,
	/* Round-trip times kept of one hop; more answers than this are not waited for. */
	TRACE_RTTS = 8,
	/* A path has few bottlenecks one behind the other; each halves nothing but a router's
	 * nonsense, and nonsense is not followed without end. */
	TRACE_STEPS = 32,
};

/* What ended a trace; the order is that of the names in trace_json.c. */
enum trace_stop {
	TRACE_STOP_REACHED,
	TRACE_STOP_MAX_HOPS,
	TRACE_STOP_UNREACHABLE,
	TRACE_STOP_DEADLINE,
	TRACE_STOP_BLACKHOLE,
	TRACE_STOP_ERROR,
};

/* What a hop turned out to be. */
enum trace_outcome {
	TRACE_SILENT,
	TRACE_EXPIRED,     /* a router on the way */
	TRACE_REACHED,     /* the destination */
	TRACE_UNREACHABLE, /* whoever said that it goes no further: `refusal` */
};

enum trace_refusal {
	TRACE_REFUSED_NOT,
	TRACE_REFUSED_HOST,
	TRACE_REFUSED_NETWORK,
	TRACE_REFUSED_PROTOCOL,
	TRACE_REFUSED_PROHIBITED,
};

enum trace_answer_kind {
	TRACE_ANSWER_EXPIRED,
	TRACE_ANSWER_REACHED,
	TRACE_ANSWER_UNREACHABLE,
	TRACE_ANSWER_TOO_BIG,
	TRACE_ANSWER_BUSY,   /* not sent, for a passing reason */
	TRACE_ANSWER_FAILED, /* not sent: `error` */
};

/* How a probe ended, free of family and protocol. */
struct trace_answer {
	enum trace_answer_kind kind;
	enum trace_refusal refusal; /* with _UNREACHABLE */
	bool data;                  /* with _REACHED: a datagram of the destination's, no error */
	bool icmp;                  /* the ICMP fields are set */
	uint8_t icmp_type;
	uint8_t icmp_code;
	bool has_reply_ttl;
	uint8_t reply_ttl; /* TTL on arrival */
	bool has_quoted_ttl;
	uint8_t quoted_ttl; /* TTL of the probe when it was answered */
	int error;          /* errno, with _FAILED */
	uint8_t address[16];
	uint32_t scope; /* interface index of a link-local responder, otherwise 0 */
	int64_t rtt_ns;
	uint32_t mtu_bytes;                     /* with _TOO_BIG, 0: the router did not say */
	const struct extension_info *extension; /* NULL: none; valid during the call */
};

/* One line of the trace. */
struct trace_hop {
	uint8_t ttl;
	enum trace_outcome outcome;
	enum trace_refusal refusal;
	bool data;
	bool icmp;
	uint8_t icmp_type;
	uint8_t icmp_code;
	bool has_back; /* `back_hops` is known */
	bool has_extension;
	unsigned back_hops; /* guessed from the answer's TTL */
	uint8_t address[16];
	uint32_t scope;
	unsigned rtts;
	int64_t rtt_ns[TRACE_RTTS];
	struct extension_info extension;
};

/* A place where the path MTU became smaller. */
struct trace_step {
	uint8_t ttl;       /* the first TTL that runs into it */
	bool local;        /* the first link itself: nobody answered, no address */
	bool black_hole;   /* nobody said so, it was searched: `after_hop`; no address, no time */
	bool has_address;  /* a black hole's address is that of the last hop before it, if known */
	uint8_t after_hop; /* the last hop that full-size probes reached */
	uint32_t mtu_bytes;
	uint8_t address[16];
	uint32_t scope;
	int64_t rtt_ns;
};

struct trace_result {
	enum trace_stop stop;
	int error; /* errno, with TRACE_STOP_ERROR */
	uint32_t mtu_bytes;
	bool has_hops; /* the destination was reached: `hops`, and `back_hops` if has_back */
	bool has_back;
	unsigned hops;
	unsigned back_hops;
};

enum trace_fact_kind {
	TRACE_FACT_MTU, /* `step` */
	TRACE_FACT_HOP, /* `hop`, also a silent one */
	TRACE_FACT_END, /* `result`; the last fact */
};

/* What the engine found out, told in the order of hops. */
struct trace_fact {
	enum trace_fact_kind kind;
	const struct trace_hop *hop;
	const struct trace_step *step;
	const struct trace_result *result;
};

struct trace_config {
	uint8_t first_ttl;
	uint8_t max_hops;         /* below first_ttl: nothing is probed */
	unsigned tries;           /* per hop, 1 and more */
	bool tries_exact;         /* the user's own number: not one probe more */
	int64_t wait_ns;          /* for one try while nothing beyond has answered */
	bool wait_exact;          /* the user's own: slow answers do not lengthen it */
	int64_t deadline_ns;      /* of the whole trace from its first call; 0: none */
	uint32_t wanted_bytes;    /* first packet size */
	uint32_t local_mtu_bytes; /* what the first link carries */
	int64_t local_ns;         /* how long it took to find that out */
	uint32_t most_bytes;      /* largest packet that can be asked for at all */
	uint32_t small_bytes;     /* size of probes that shall pass everywhere */
	uint32_t least_mtu_bytes; /* no link carries less: who says so is not believed */
	bool scout_tells;         /* answers of the destination quote the probe's TTL */
};

/* Called with each fact, from within trace_* calls; what it points to stays valid until
 * trace_free(). */
typedef void trace_tell(void *context, const struct trace_fact *fact);

struct trace;

/* NULL if there is no memory. */
struct trace *trace_new(const struct trace_config *config, trace_tell *tell, void *context,
			int64_t now_ns);
void trace_free(struct trace *trace);

struct trace_probe {
	uint16_t id; /* comes back in trace_answer(); never used twice in one trace */
	uint8_t ttl;
	uint32_t bytes; /* whole packet; a size above config.small_bytes wants "don't fragment" */
};

/* The next probe to send now, false if there is none (any more) for the moment. Call it until then
 * after each of the calls below. */
bool trace_next(struct trace *trace, int64_t now_ns, struct trace_probe *probe);

/* When trace_tick() is to be called next, if nothing happens before; INT64_MAX: never. */
int64_t trace_wake_ns(const struct trace *trace);

/* Time has passed. */
void trace_tick(struct trace *trace, int64_t now_ns);

/* Probe `id` ended. Duplicates, late ones and ids that never were are harmless. */
void trace_answer(struct trace *trace, int64_t now_ns, uint16_t id,
		  const struct trace_answer *answer);

/* Ends the trace now and tells what is known by then. No effect after the end. */
void trace_stop(struct trace *trace, enum trace_stop stop, int error);

bool trace_ended(const struct trace *trace);

#endif
