/*
 * Facts on their way to a view: each waits, in order and within bounds, for the name of its
 * address. Runs in tracepath's tracepath; a name server can delay lines by a second, and nothing
 * else.
 */
#ifndef POSTERN_FRONTEND_TRACEPATH_REPORT_H
#define POSTERN_FRONTEND_TRACEPATH_REPORT_H

#include "frontend/tracepath/names.h"
#include "frontend/tracepath/view.h"

enum {
	/* Every hop, every step, and the end. */
	REPORT_FACTS = TRACE_MAX_TTL + TRACE_STEPS + 2,
};

struct trace_report {
	const struct trace_view *view;
	struct trace_page *page;
	struct names *names; /* NULL: no names are wanted */
	struct trace_fact facts[REPORT_FACTS];
	unsigned first; /* the next to show */
	unsigned count; /* facts that came, shown ones included */
	bool given_up;  /* wait for names no more: no server answers, or the user is tired */
};

/* Takes a fact and asks for the name it needs. */
void report_fact(struct trace_report *report, const struct trace_fact *fact, int64_t now_ns);

/* Shows what can be shown. Returns when to call it again, INT64_MAX if nothing waits; a name may
 * come before. */
int64_t report_show(struct trace_report *report, int64_t now_ns);

#endif
