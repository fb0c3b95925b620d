/*
 * Replies on their way to the client: one piece of memory with a fixed bound, filled line by line
 * and written in large pieces. Runs in the packet front end; the client may stop reading at any
 * time.
 */
#ifndef POSTERN_FRONTEND_PACKET_OUTPUT_H
#define POSTERN_FRONTEND_PACKET_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>

struct output {
	char *bytes;
	size_t capacity;
	size_t start; /* what is not yet written: from start */
	size_t end;   /* to end */
};

enum output_state {
	OUTPUT_EMPTY,   /* all is written */
	OUTPUT_BLOCKED, /* the client must read before more can be written */
	OUTPUT_CLOSED,  /* nobody will ever read it */
};

/* Reserves address space for `capacity` bytes; memory is used only as far as lines wait in it.
 * Returns false with errno set. */
bool output_open(struct output *output, size_t capacity);
void output_close(struct output *output);

static inline size_t output_pending(const struct output *output)
{
	return output->end - output->start;
}

/* Where to write a line of at most `most` bytes, then how many it became. The caller bounds what it
 * lets in by `capacity`: room that is not there ends the program. */
char *output_room(struct output *output, size_t most);
void output_added(struct output *output, size_t count);

/* Writes what is pending as far as that does not wait. The descriptor need not be non-blocking: its
 * flags belong to everyone who shares it. */
enum output_state output_write(struct output *output, int fd);

#endif
