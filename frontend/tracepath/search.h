/*
 * The search for the largest size that passes a black hole: a place where large packets vanish
 * without an ICMP error though small ones pass (RFC 8899, 5.3). A pure state machine of the tracing
 * engine. A size counts as lost only when the loss that small probes suffer does not explain it.
 */
#ifndef POSTERN_FRONTEND_TRACEPATH_SEARCH_H
#define POSTERN_FRONTEND_TRACEPATH_SEARCH_H

#include <stdbool.h>
#include <stdint.h>

/* Probes of sizes that are known to pass, and how many of them were answered. */
struct loss {
	unsigned sent;
	unsigned answered;
};

enum search_stage {
	SEARCH_IDLE,
	SEARCH_FULL,       /* is full size really lost? */
	SEARCH_SIZES,      /* halving between what passes and what does not */
	SEARCH_PAUSE,      /* a rate limit may be why the last size was lost */
	SEARCH_AGAIN,      /* so it is tried once more */
	SEARCH_FULL_AGAIN, /* and full size as well */
};

enum search_action {
	SEARCH_WAIT,     /* until *wake_ns */
	SEARCH_SEND,     /* a probe of search->size, then search_sent() */
	SEARCH_FOUND,    /* search->passes is the largest size that passes */
	SEARCH_NO_HOLE,  /* full size passes: it was loss */
	SEARCH_TOO_LOSSY /* nothing can be said */
};

struct search {
	enum search_stage stage;
	uint32_t full;   /* the size that was lost first */
	uint32_t passes; /* largest size that passed */
	uint32_t fails;  /* smallest size that counts as lost */
	uint32_t size;   /* the size in question */
	unsigned tries;  /* probes of it so far */
	int64_t last_ns; /* when the last one left, or the pause began */
	struct loss loss;
};

/* `small` passes, `full` seems not to. */
void search_start(struct search *search, uint32_t small, uint32_t full, const struct loss *loss);

/* What to do now. A probe without an answer after `lost_after_ns` counts as lost. With any action
 * but SEARCH_WAIT and SEARCH_SEND the search is over. */
enum search_action search_next(struct search *search, int64_t now_ns, int64_t lost_after_ns,
			       int64_t *wake_ns);
void search_sent(struct search *search, int64_t now_ns);

/* A probe of this size was answered from behind the black hole. */
void search_passed(struct search *search, uint32_t bytes);

static inline bool search_active(const struct search *search)
{
	return search->stage != SEARCH_IDLE;
}

/* The next smaller of the sizes that links and tunnels have (RFC 1191, 7.1). */
uint32_t plateau_below(uint32_t bytes);

#endif
