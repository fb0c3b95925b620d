/*
 * The one line that a broker may say before it ends. Runs in the broker, before and after its
 * confinement.
 */
#ifndef POSTERN_BROKER_LAST_LINE_H
#define POSTERN_BROKER_LAST_LINE_H

#include <stddef.h>

/* Writes `length` bytes to stderr if that does not wait. */
void last_line(const char *line, size_t length);

#endif
