/*
 * What a trace is made of: the answers that come in and the facts that go out. Plain data, free of
 * sockets, text and protocol.
 */
#ifndef POSTERN_FRONTEND_TRACEPATH_FACTS_H
#define POSTERN_FRONTEND_TRACEPATH_FACTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "frontend/transport/extension.h"

enum {
	TRACE_MAX_TTL = 255,
	/* Round-trip times kept of one hop. */
	TRACE_RTTS = 10,
	/* Places where the path MTU shrinks. No real path has as many; a router that announces
	 * nonsense is not followed without end. */
	TRACE_STEPS = 32,
};

/* Why a trace ended; json.c has the names in this order. */
enum trace_stop {
	TRACE_STOP_REACHED,
	TRACE_STOP_MAX_HOPS,
	TRACE_STOP_UNREACHABLE,
	TRACE_STOP_DEADLINE,
	TRACE_STOP_INTERRUPT,
	TRACE_STOP_BLACKHOLE, /* full size is lost, and no size was found that passes */
	TRACE_STOP_ERROR,
	TRACE_STOP_PROBES, /* more probes than are reasonable */
};

enum trace_outcome {
	TRACE_UNKNOWN, /* the trace was cut short */
	TRACE_SILENT,
	TRACE_EXPIRED,     /* a router on the way */
	TRACE_REACHED,     /* the destination */
	TRACE_UNREACHABLE, /* a router or host that sends it no further: `refusal` */
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
	TRACE_ANSWER_BUSY,      /* not sent, for a passing reason */
	TRACE_ANSWER_TOO_LARGE, /* not sent: larger than the MTU of the first link */
	TRACE_ANSWER_FAILED,    /* not sent: `error` */
	TRACE_ANSWER_LOST,      /* no answer will come any more */
};

/* How a probe ended. */
struct trace_answer {
	enum trace_answer_kind kind;
	enum trace_refusal refusal; /* with _UNREACHABLE */
	bool data;                  /* with _REACHED: a datagram of the destination, no error */
	bool icmp;                  /* the ICMP fields are set */
	uint8_t icmp_type;
	uint8_t icmp_code;
	bool has_reply_ttl;
	uint8_t reply_ttl; /* TTL on arrival */
	int error;         /* errno, with _FAILED */
	uint8_t address[16];
	uint32_t scope; /* interface index of a link-local responder, otherwise 0 */
	int64_t rtt_ns;
	uint32_t mtu_bytes;                     /* with _TOO_BIG and _TOO_LARGE, 0: not told */
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
	bool ttl_uncertain; /* the path may be shorter: no smaller TTL was probed */
	unsigned back_hops; /* guessed from the answer's TTL */
	uint8_t address[16];
	uint32_t scope;
	unsigned sent; /* probes of the size that `rtt_ns` is about; 0: not counted */
	unsigned rtts;
	int64_t rtt_ns[TRACE_RTTS];
	struct extension_info extension;
};

/* A place where the path MTU becomes smaller. */
struct trace_step {
	uint8_t ttl;        /* the smallest TTL whose probes are too big */
	bool local;         /* the first link: no address */
	bool black_hole;    /* found by search: no time */
	bool has_address;   /* a black hole's address is that of the last hop before it */
	bool has_after_hop; /* unset where the black hole lies before the first hop probed */
	uint8_t after_hop;  /* the last hop that full-size probes reached */
	uint32_t mtu_bytes;
	uint8_t address[16];
	uint32_t scope;
	int64_t rtt_ns;
};

struct trace_result {
	enum trace_stop stop;
	int error;    /* errno, with TRACE_STOP_ERROR */
	bool reached; /* the destination answered at full size */
	bool has_mtu; /* an answer to a probe of `mtu_bytes` confirmed it */
	bool has_hops;
	bool has_back;
	uint32_t mtu_bytes; /* the smallest that was told, confirmed or not; 0: sizes do not matter
			     */
	unsigned hops;
	unsigned back_hops;
};

struct paths_hop;
struct paths_result;

enum trace_fact_kind {
	TRACE_FACT_MTU,       /* `step` */
	TRACE_FACT_HOP,       /* `hop`, also a silent one */
	TRACE_FACT_END,       /* `result`; the last fact */
	TRACE_FACT_PATHS,     /* `paths`, a hop of the multipath engine */
	TRACE_FACT_PATHS_END, /* `paths_result`; the last fact of that */
};

/* What the engine found out, in the order of hops. */
struct trace_fact {
	enum trace_fact_kind kind;
	const struct trace_hop *hop;
	const struct trace_step *step;
	const struct trace_result *result;
	struct paths_hop *paths; /* paths.h */
	const struct paths_result *paths_result;
};

#endif
