/*
 * The faces of a trace: iputils' lines, one JSON document, or JSON Lines. Pure functions from facts
 * to bytes, in tracepath's prober. Names and addresses in them are strangers' words; the views
 * escape what their format gives a meaning.
 */
#ifndef POSTERN_FRONTEND_TRACE_VIEW_H
#define POSTERN_FRONTEND_TRACE_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "frontend/packet_output.h"
#include "frontend/trace_engine.h"

enum {
	/* All that a trace of 255 hops can say, in the wordiest format, several times over. */
	VIEW_BYTES = 4 << 20,
	/* An IPv6 address, %, and an interface name (IF_NAMESIZE) or index. */
	VIEW_ADDRESS_BYTES = 64,
	VIEW_DEVICE_BYTES = 16,
};

/* Where and about what a view writes. */
struct trace_page {
	struct output *output;
	const char *destination; /* as the user wrote it */
	uint8_t family;
	uint8_t address[16];
	uint32_t scope;                 /* of a link-local destination, and of what answers */
	char device[VIEW_DEVICE_BYTES]; /* the interface of that index */
	const char *protocol;           /* "udp" */
	uint8_t first_ttl;
	bool both; /* name and address */
	/* the JSON document's: steps wait for the hop at which they show */
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

/* Adds formatted text to the page; at most 1 KiB at once. */
void view_print(struct trace_page *page, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* The address as people write it, with %interface if it has a scope. */
const char *view_address(const struct trace_page *page, uint8_t family, const uint8_t address[16],
			 uint32_t scope, char text[VIEW_ADDRESS_BYTES]);

#endif
