/*
 * Lines on their way to a reader that may stop reading at any time: a buffer with a fixed bound,
 * written as far as that does not block. Runs in the front end.
 */
#include "frontend/process/output.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool output_open(struct output *output, size_t capacity)
{
	*output = (struct output){.bytes = calloc(capacity, 1), .capacity = capacity};
	return output->bytes != NULL;
}

void output_close(struct output *output)
{
	free(output->bytes);
	*output = (struct output){.bytes = NULL};
}

static void move_to_front(struct output *output)
{
	size_t pending = output_pending(output);

	memmove(output->bytes, output->bytes + output->start, pending);
	output->start = 0;
	output->end = pending;
}

char *output_room(struct output *output, size_t most)
{
	if (output->capacity - output->end < most)
		move_to_front(output);
	if (output->capacity - output->end < most)
		abort();
	return output->bytes + output->end;
}

void output_added(struct output *output, size_t count)
{
	output->end += count;
}

/* A descriptor that is ready for writing takes this much without blocking: a pipe has a free page
 * then, a socket or terminal more. */
enum { WRITE_BYTES = 4096 };

/* OUTPUT_EMPTY: a write of WRITE_BYTES neither blocks nor fails. */
static enum output_state write_state(int fd)
{
	struct pollfd ready = {.fd = fd, .events = POLLOUT};

	if (poll(&ready, 1, 0) <= 0)
		return OUTPUT_BLOCKED;
	if (ready.revents & (POLLERR | POLLNVAL))
		return OUTPUT_CLOSED;
	return ready.revents & POLLOUT ? OUTPUT_EMPTY : OUTPUT_BLOCKED;
}

enum output_state output_write(struct output *output, int fd)
{
	enum output_state state = OUTPUT_EMPTY;

	while (output->start < output->end) {
		size_t count = output_pending(output);
		state = write_state(fd);
		if (state != OUTPUT_EMPTY)
			break;
		ssize_t written = write(fd, output->bytes + output->start,
					count < WRITE_BYTES ? count : WRITE_BYTES);
		if (written >= 0) {
			output->start += (size_t)written;
		} else if (errno != EINTR) {
			state = errno == EAGAIN ? OUTPUT_BLOCKED : OUTPUT_CLOSED;
			break;
		}
	}
	/* Each byte is moved once at most, and the memory in use is at most twice what waits. */
	if (output->start >= output_pending(output))
		move_to_front(output);
	return state;
}
