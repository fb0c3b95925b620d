/*
 * Replies on their way to the client: one piece of memory with a fixed bound, filled line by line
 * and written in large pieces. Runs in the packet front end; the client may stop reading at any
 * time.
 */
#include "frontend/packet_output.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "frontend/memory.h"

bool output_open(struct output *output, size_t capacity)
{
	*output = (struct output){.bytes = memory_open(capacity), .capacity = capacity};
	return output->bytes != NULL;
}

void output_close(struct output *output)
{
	memory_close(output->bytes, output->capacity);
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

/* A descriptor that is ready for writing takes this much without waiting: a pipe has a free page
 * then, a socket or terminal more. */
enum { WRITE_BYTES = 4096 };

/* OUTPUT_EMPTY: a write now neither waits nor fails. */
static enum output_state write_state(int fd)
{
	struct pollfd ready = {.fd = fd, .events = POLLOUT};

	if (poll(&ready, 1, 0) <= 0)
		return OUTPUT_BLOCKED;
	if (ready.revents & (POLLERR | POLLNVAL))
		return OUTPUT_CLOSED;
	return ready.revents & POLLOUT ? OUTPUT_EMPTY : OUTPUT_BLOCKED;
}

/* From <linux/fs.h>, for C libraries that do not know the call, either. */
#ifndef RWF_NOWAIT
#define RWF_NOWAIT 8
#endif

/* Writes as much as goes now, if the kernel can be told not to wait (pipes since Linux 6.4).
 * Returns 0 if it can not, or if nothing goes: write_state() says which. */
static size_t write_at_once(struct output *output, int fd)
{
	struct iovec pending = {output->bytes + output->start, output_pending(output)};
	ssize_t written = syscall(SYS_pwritev2, fd, &pending, 1, -1L, -1L, RWF_NOWAIT);

	return written > 0 ? (size_t)written : 0;
}

enum output_state output_write(struct output *output, int fd)
{
	enum output_state state = OUTPUT_EMPTY;

	output->start += write_at_once(output, fd);
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
	/* Moving once as much is written as is left costs each byte one move at most, and keeps the
	 * memory in use within twice of what waits. */
	if (output->start >= output_pending(output))
		move_to_front(output);
	return state;
}
