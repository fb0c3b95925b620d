/*
 * Filling in the description of a failed start-up step. Runs in the broker.
 */
#include "policy/step.h"

#include <errno.h>

bool step_failed(struct step_failure *failure, const char *step, const char *remedy)
{
	*failure = (struct step_failure){
		.step = step,
		.error = errno,
		.remedy = remedy,
		.exit_status = STEP_SYSTEM,
	};
	return false;
}
