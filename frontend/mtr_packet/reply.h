/*
 * Writes reply lines of the text protocol. Pure functions without allocation; run in mtr-packet.
 * Each writes at most REPLY_BYTES to `line`, newline included, no NUL, and returns how many.
 */
#ifndef POSTERN_FRONTEND_MTR_PACKET_REPLY_H
#define POSTERN_FRONTEND_MTR_PACKET_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "frontend/mtr_packet/reply_status.h"
#include "frontend/mtr_packet/request.h"
#include "frontend/transport/transport.h"

enum {
	/* The longest has 16 labels of at most 16 bytes, all details and a named interface: less
	 * than 700. A unit test writes it. */
	REPLY_BYTES = 768,
};

/* TOKEN NAME */
size_t write_reply(char *line, const struct token *token, const char *name);

/* TOKEN NAME ARGUMENT NUMBER */
size_t write_reply_number(char *line, const struct token *token, const char *name,
			  const char *argument, uint32_t number);

/* TOKEN invalid-argument reason FAULT */
size_t write_reply_fault(char *line, const struct token *token, struct fault fault);

/* TOKEN feature-support support TEXT */
size_t write_reply_support(char *line, const struct token *token, const char *text);

struct reply_answer {
	const struct token *token;
	enum reply_status status;
	uint8_t family; /* of the probe */
	bool details;   /* asked for */
	const struct probe_result *result;
};

/* TOKEN NAME ip-4 ADDRESS round-trip-time MICROSECONDS, and what else is known of the answer. */
size_t write_reply_answer(char *line, const struct reply_answer *answer);

#endif
