/*
 * Lines on their way to a reader that may stop reading at any time: a buffer with a fixed bound,
 * written as far as that does not block. Runs in the front end.
 */
#ifndef POSTERN_FRONTEND_PROCESS_OUTPUT_H
#define POSTERN_FRONTEND_PROCESS_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>

struct output {
	char *bytes;
	size_t capacity;
	size_t start; /* the first byte that is not yet written */
	size_t end;
};

enum output_state {
	OUTPUT_EMPTY,   /* all is written */
	OUTPUT_BLOCKED, /* more can be written when poll(2) says POLLOUT */
	OUTPUT_CLOSED,  /* there is no reader any more */
};

/* Reserves address space for `capacity` bytes. Memory is used as far as lines wait in it. Returns
 * false with errno set. */
bool output_open(struct output *output, size_t capacity);
void output_close(struct output *output);

static inline size_t output_pending(const struct output *output)
{
	return output->end - output->start;
}

/* Where to write a line of at most `most` bytes, and how long it became. The program aborts if
 * there is no room: the caller keeps what waits below `capacity`. */
char *output_room(struct output *output, size_t most);
void output_added(struct output *output, size_t count);

/* Writes what waits as far as that does not block. The descriptor need not be non-blocking: other
 * processes share its flags. */
enum output_state output_write(struct output *output, int fd);

#endif
