/*
 * Unpredictable numbers of the front end.
 */
#ifndef POSTERN_FRONTEND_PROCESS_RANDOM_H
#define POSTERN_FRONTEND_PROCESS_RANDOM_H

#include <stddef.h>

/* Fills `bytes` with `length` (at most 256) random bytes. The process ends if there are none. */
void random_bytes(void *bytes, size_t length);

#endif
