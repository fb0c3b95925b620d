/*
 * The output formats of a trace: iputils' lines, one JSON document, or JSON Lines. Pure functions
 * from facts to bytes, in tracepath. Names and addresses come from strangers; each format escapes
 * the characters that have a meaning in it.
 */
#ifndef POSTERN_FRONTEND_TRACEPATH_VIEW_H
#define POSTERN_FRONTEND_TRACEPATH_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "frontend/process/colour.h"
#include "frontend/process/output.h"
#include "frontend/tracepath/engine.h"

enum {
	/* Several times what a trace of 255 hops takes in the longest format. */
	VIEW_BYTES = 4 << 20,
	/* An IPv6 address, %, and an interface name (IF_NAMESIZE) or index. */
	VIEW_ADDRESS_BYTES = 64,
	VIEW_DEVICE_BYTES = 16,
};

/* What a view writes to, and what it says about the trace as a whole. */
struct trace_page {
	struct output *output;
	const char *destination; /* as the user wrote it */
	uint8_t family;          /* 0: not known, nor the address */
	uint8_t address[16];
	bool has_source;
	uint8_t source[16];
	uint32_t scope;                 /* of a link-local destination, and of what answers */
	char device[VIEW_DEVICE_BYTES]; /* the interface of that index */
	const char *protocol;           /* "udp" */
	const char *transport;          /* "direct", "broker" */
	char started[32];               /* when, as RFC 3339 writes it */
	const char *error;   /* why there is no trace; NULL: the errno of the result tells */
	bool both;           /* name and address */
	bool extensions;     /* of ICMP messages, in the text, too */
	bool statistics;     /* of a hop's round-trip times, in the text, too */
	bool paths;          /* the facts are those of the multipath engine */
	uint32_t first_flow; /* what the multipath engine's flow 0 stands for */
	/* of the text: */
	bool colours;     /* stdout is a terminal that wants them */
	uint8_t next_ttl; /* the hop that the next line is about */
	bool any_line;
	bool progress; /* a line on the terminal that is to be erased */
	/* of the JSON document: steps wait for the hop at which they show */
	unsigned steps;
	const struct trace_step *step[TRACE_STEPS];
	char step_name[TRACE_STEPS][256];
	bool any_hop;
};

struct trace_view {
	void (*begin)(struct trace_page *page);
	/* `name`: of the fact's address, NULL if unknown or not wanted */
	void (*fact)(struct trace_page *page, const struct trace_fact *fact, const char *name);
};

extern const struct trace_view trace_text_view;
extern const struct trace_view trace_json_view;
extern const struct trace_view trace_jsonl_view;
/* Of the multipath engine's facts. */
extern const struct trace_view paths_text_view;
extern const struct trace_view paths_json_view;
extern const struct trace_view paths_jsonl_view;

/* Adds formatted text to the page; at most 1 KiB at once. */
void view_print(struct trace_page *page, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Shows on a terminal which size is tried in the search for a black hole, on a line that the next
 * output erases. */
void view_progress(struct trace_page *page, uint32_t bytes);

/* The address as people write it, with %interface if it has a scope. */
const char *view_address(const struct trace_page *page, uint8_t family, const uint8_t address[16],
			 uint32_t scope, char text[VIEW_ADDRESS_BYTES]);

/* --- pieces of the text ----------------------------------------------------------------------- */

/* Who answered, in the column of hosts. */
void text_host(struct trace_page *page, const struct trace_hop *hop, const char *name);
void text_time(struct trace_page *page, int64_t time_ns);
/* Begins a colour, or with COLOUR_NONE ends it, where the page has colours. */
void text_colour(struct trace_page *page, enum colour which);
/* A text in a colour. */
void text_painted(struct trace_page *page, enum colour which, const char *text);
/* The end of a path as iputils marks it: reached, !H and so on; nothing for a router. */
void text_mark(struct trace_page *page, const struct trace_hop *hop);
/* What page->extensions and page->statistics ask for. */
void text_details(struct trace_page *page, const struct trace_hop *hop);
/* Why the trace ended before its time. */
void text_cut_short(struct trace_page *page, enum trace_stop stop, int error);

/* --- pieces of the JSON ----------------------------------------------------------------------- */

/* What is known of the trace at its begin, without braces. */
void json_head(struct trace_page *page);
/* A hop, without braces. */
void json_hop(struct trace_page *page, const struct trace_hop *hop, const char *name);
/* stop_reason and error, without braces. */
void json_stop(struct trace_page *page, enum trace_stop stop, int error);

#endif
