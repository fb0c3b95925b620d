/*
 * What the files of the tracing engine share: the questions it asks the network and the state of
 * one trace. Included by trace_engine.c (sending, answers, the order of facts), trace_hops.c (which
 * hops are asked, which are silent), trace_mtu.c (path MTU) and trace_search.c (black holes) alone;
 * what these distrust stands there.
 */
#ifndef POSTERN_FRONTEND_TRACE_INTERNAL_H
#define POSTERN_FRONTEND_TRACE_INTERNAL_H

#include "frontend/trace_engine.h"

#define MILLISECOND_NS INT64_C(1000000)
/* A bucket that gives one token a second has one after this. */
#define REFILL_NS (1100 * MILLISECOND_NS)

enum {
	TRACE_TTLS = TRACE_MAX_TTL + 1,

	/* Where each question stands in struct trace's table; also the order in which they are
	 * asked when several are due: hops before full size, see trace_engine.h. */
	ASK_SCOUT = 0,
	ASK_HOP = 1, /* + TTL */
	ASK_FULL = ASK_HOP + TRACE_TTLS,
	ASK_LOCATE,
	ASK_SEARCH,
	ASK_WAVE, /* + TTL: full size to one hop */
	ASK_QUESTIONS = ASK_WAVE + TRACE_TTLS,

	/* Full-size probes to the end that do not wait for a rate limit. */
	FULL_TRIES_IN_A_HURRY = 2,

	/* Probes of one size before it counts as lost. */
	SEARCH_TRIES = 3,

	/* Probes of one trace: 255 hops at 16 tries each come to half of it. */
	TRACE_PROBES = 8192,
};

/* One thing to learn from the network, asked by as many probes as it takes. */
struct question {
	bool open; /* wanted and neither answered nor given up */
	bool due;  /* a probe is to leave as soon as pacing allows */
	bool answered;
	bool silent; /* given up */
	uint8_t ttl;
	uint16_t round; /* raised when the question is put anew: older answers do not count */
	unsigned tries; /* probes sent */
	unsigned slow;  /* those of them that were given the full wait */
	uint32_t bytes;
	int64_t first_ns; /* when they were sent */
	int64_t last_ns;
	int64_t not_before_ns; /* the transport was busy */
};

/* What became of one probe. */
struct sent {
	bool open;
	uint8_t ttl;
	uint16_t question;
	uint16_t round;
	unsigned try; /* 1: the question's first probe */
	uint32_t bytes;
};

enum mtu_phase {
	MTU_IDLE,      /* hops come first */
	MTU_ASKING,    /* a full-size probe is on its way to the end */
	MTU_SUSPECT,   /* it was lost: full size is tried hop by hop */
	MTU_SEARCHING, /* a black hole: which size passes? */
	MTU_DOUBTING,  /* found one; is the next larger one really lost? */
	MTU_SETTLED,
};

/* Where a "too big" came from is known between two TTLs until they meet. */
struct locate {
	uint8_t lowest;
	uint8_t highest;
	uint8_t guess; /* from the quoted TTL, 0: none */
	bool found;
	bool guessed;   /* the router did not say what fits; a smaller guess may replace this one */
	uint32_t bytes; /* the size that is too big */
};

struct search {
	uint32_t passes;  /* largest size seen to pass */
	uint32_t fails;   /* smallest that did not */
	uint32_t full;    /* the size that was lost first */
	bool confirmed;   /* `passes` was seen, not assumed */
	bool full_again;  /* while doubting: the last question is asked */
	uint8_t turn;     /* responders take turns, for their rate limits' sake */
	int64_t doubt_ns; /* when to ask again */
	unsigned rounds;  /* searches begun, so that a path of mere loss ends them */
};

struct trace {
	struct trace_config config;
	trace_tell *tell;
	void *context;

	struct question questions[ASK_QUESTIONS];
	struct sent sent[TRACE_PROBES];
	unsigned probes;
	int64_t wake_ns;
	int64_t deadline_ns;
	int64_t tokens_ns; /* pacing: time not yet spent on probes */
	int64_t paced_ns;
	bool started;

	struct trace_hop hops[TRACE_TTLS];
	int64_t answered_ns[TRACE_TTLS]; /* when the hop's first answer came */
	int64_t latest_ns;               /* when the latest hop's came */
	uint8_t highest;                 /* largest TTL that was answered */
	uint8_t terminal;                /* smallest TTL at which the path ends, 0: unknown */
	uint8_t hint;                    /* a guess of that from a quoted TTL, 0: none */
	bool hint_reached;               /* ... and it is the destination */
	bool hint_moved;                 /* it was one too low */
	bool distrust_quotes;            /* such a guess was wrong */
	bool wide_open;                  /* all TTLs may be asked */
	bool lossy;                      /* an answer came only for a repeated probe */
	bool exhausted;                  /* so many hops are silent that it may be our own fault */
	int64_t slowest_rtt_ns;
	int64_t hint_ns; /* when the hint came, and how long its probe took */
	int64_t hint_rtt_ns;

	enum mtu_phase mtu_phase;
	uint32_t mtu_bytes; /* path MTU as far as known */
	uint8_t full_to;    /* largest TTL that a probe of that size reached */
	struct trace_step steps[TRACE_STEPS];
	struct locate locates[TRACE_STEPS];
	unsigned step_count;
	struct search search;

	unsigned next_step; /* next to tell */
	unsigned next_ttl;
	bool ended;
	struct trace_result result;
};

/* trace_engine.c: questions */
void question_ask(struct trace *trace, unsigned which, uint8_t ttl, uint32_t bytes);
void question_close(struct question *question);
void question_repeat(struct trace *trace, struct question *question, int64_t now_ns);
void wake_at(struct trace *trace, int64_t at_ns);
void trace_advance(struct trace *trace, int64_t now_ns);

/* trace_hops.c */
void hops_tick(struct trace *trace, int64_t now_ns);
void hops_answer(struct trace *trace, int64_t now_ns, uint8_t ttl,
		 const struct trace_answer *answer);
bool hops_end_hint(struct trace *trace, int64_t now_ns, uint8_t ttl,
		   const struct trace_answer *answer);
void hops_ask_again(struct trace *trace, int64_t now_ns);
void scout_answer(struct trace *trace);
uint8_t hops_limit(const struct trace *trace);
bool hops_all_asked(const struct trace *trace);
uint8_t quoted_position(uint8_t ttl, const struct trace_answer *answer);

/* trace_mtu.c */
void mtu_tick(struct trace *trace, int64_t now_ns);
void mtu_answer(struct trace *trace, unsigned which, const struct sent *sent,
		const struct trace_answer *answer);
void mtu_too_big(struct trace *trace, const struct sent *sent, const struct trace_answer *answer);
void mtu_local(struct trace *trace, uint32_t mtu_bytes);
uint8_t mtu_known_to(const struct trace *trace);
uint32_t mtu_probe_bytes(const struct trace *trace);
int64_t mtu_lost_after(const struct trace *trace, int64_t floor_ns);
int64_t mtu_refill_wait(const struct trace *trace, int64_t floor_ns);
struct trace_step *mtu_new_step(struct trace *trace, uint32_t mtu_bytes);
void mtu_ask_full(struct trace *trace);
void mtu_settle(struct trace *trace);

/* trace_search.c */
void search_start(struct trace *trace);
void search_tick(struct trace *trace, int64_t now_ns);
void search_passed(struct trace *trace, uint32_t bytes);
uint32_t plateau_below(uint32_t bytes);

#endif
