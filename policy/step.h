/*
 * How a step of the start-up says that it failed. Used by the broker, whose every step either
 * succeeds or ends the program with one line: "postern-broker: STEP: ERROR (REMEDY)".
 */
#ifndef POSTERN_POLICY_STEP_H
#define POSTERN_POLICY_STEP_H

#include <stdbool.h>

enum step_status {
	STEP_BAD_CHANNEL = 64,   /* EX_USAGE: descriptor 0 is not what the broker expects */
	STEP_SYSTEM = 71,        /* EX_OSERR: the kernel refused something it should allow */
	STEP_NO_PERMISSION = 77, /* EX_NOPERM: CAP_NET_RAW is missing */
};

struct step_failure {
	const char *step;   /* what was attempted, on which object; never NULL after a failure */
	int error;          /* errno of the system call, or 0 if there is none to tell */
	const char *remedy; /* what to do about it, or NULL */
	int exit_status;    /* enum step_status */
};

/* Describes a failure with the current errno; always false, to be returned by the step. */
bool step_failed(struct step_failure *failure, const char *step, const char *remedy);

#endif
