/*
 * Colour for people: on a terminal only, and not where NO_COLOR is set (https://no-color.org). Runs
 * in the front end.
 */
#ifndef POSTERN_FRONTEND_PROCESS_COLOUR_H
#define POSTERN_FRONTEND_PROCESS_COLOUR_H

enum colour { COLOUR_NONE, COLOUR_RED, COLOUR_GREEN, COLOUR_YELLOW, COLOUR_DIM };

/* What begins (and with COLOUR_NONE ends) a colour on stdout; the empty string where there is none.
 * Before the first call nothing is known: call it once before the process confines itself. */
const char *colour(enum colour colour);

#endif
