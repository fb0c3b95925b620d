/*
 * Why something does not work, and the one command that mends it. Runs in postern doctor; looks at
 * the facts alone.
 */
#ifndef POSTERN_FRONTEND_DOCTOR_CAUSES_H
#define POSTERN_FRONTEND_DOCTOR_CAUSES_H

#include <stdbool.h>
#include <stddef.h>

#include "frontend/doctor/facts.h"

struct cause {
	const char *id; /* for programs */
	bool matters;   /* false: a remark, all that it concerns works */
	bool as_root;   /* the command needs it */
	char *reason;   /* a line without newline, allocated */
	char *command;  /* for a shell, allocated; NULL: there is none that this program knows */
};

enum { CAUSES_MAX = 32 };

/* Fills `causes` with what keeps wanted protocols from working, the first to mend first, then
 * remarks. Returns how many. Everything works if none matters. */
size_t causes_find(const struct facts *facts, struct cause causes[CAUSES_MAX]);

#endif
