/*
 * Writes reply lines of the text protocol. Pure functions, without allocation; run in the packet
 * front end. Each returns the length of the line, newline included, at most REPLY_BYTES, no NUL.
 */
#ifndef POSTERN_FRONTEND_PACKET_REPLY_H
#define POSTERN_FRONTEND_PACKET_REPLY_H

#include <stddef.h>
#include <stdint.h>

#include "frontend/extension.h"
#include "frontend/packet_request.h"
#include "frontend/packet_verdict.h"

enum {
	/* The longest has sixteen labels (16 each), all details and an interface with a name: below
	 * 700. A test writes that line. */
	REPLY_BYTES = 768,
};

/* TOKEN WORD */
size_t reply_word(char *line, const struct token *token, const char *word);

/* TOKEN WORD NAME NUMBER */
size_t reply_number(char *line, const struct token *token, const char *word, const char *name,
		    uint32_t number);

/* TOKEN invalid-argument reason FAULT */
size_t reply_fault(char *line, const struct token *token, const struct fault *fault);

/* TOKEN feature-support support TEXT */
size_t reply_support(char *line, const struct token *token, const char *text);

struct reply_answer {
	const struct token *token;
	enum verdict verdict;
	uint8_t family; /* of the probe */
	bool details;
	const struct record_event *event;
	const struct extension_info *extension; /* NULL: none came */
};

/* TOKEN WORD ip-4 ADDRESS round-trip-time MICROSECONDS and what else the answer told */
size_t reply_answer(char *line, const struct reply_answer *answer);

#endif
