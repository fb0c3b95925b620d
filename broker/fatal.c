/*
 * Ends the broker with one line on stderr. Runs in the broker, during start-up and after lock-down.
 */
#include "broker/fatal.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "policy/descriptors.h"

_Noreturn void fatal(int status, const char *what, int error, const char *remedy)
{
	char line[512];
	int length = snprintf(line, sizeof(line), "postern-broker: %s%s%s%s%s%s\n", what,
			      error != 0 ? ": " : "", error != 0 ? strerror(error) : "",
			      remedy != NULL ? " (" : "", remedy != NULL ? remedy : "",
			      remedy != NULL ? ")" : "");

	/* Nothing is left to do if it cannot be written: the exit status tells the same. */
	if (length > 0 && (size_t)length < sizeof(line))
		(void)!write(DESC_STDERR, line, (size_t)length);
	_exit(status);
}
