/*
 * Colour by the escape sequences of ECMA-48, which all terminals of today know. Runs in the front
 * end.
 */
#include "frontend/process/colour.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const sequences[] = {
	[COLOUR_NONE] = "\033[0m",    [COLOUR_RED] = "\033[31m", [COLOUR_GREEN] = "\033[32m",
	[COLOUR_YELLOW] = "\033[33m", [COLOUR_DIM] = "\033[2m",
};

static bool is_wanted(void)
{
	const char *no_colour = getenv("NO_COLOR");
	const char *terminal = getenv("TERM");

	return (no_colour == NULL || no_colour[0] == '\0') && terminal != NULL &&
	       strcmp(terminal, "dumb") != 0 && isatty(STDOUT_FILENO) == 1;
}

const char *colour(enum colour colour)
{
	static enum { UNKNOWN, WANTED, UNWANTED } state;

	if (state == UNKNOWN)
		state = is_wanted() ? WANTED : UNWANTED;
	return state == WANTED ? sequences[colour] : "";
}
