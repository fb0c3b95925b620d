/*
 * The one line that a broker may say before it ends. Runs in the broker; whoever started it chose
 * where its stderr leads, and may have it lead to a pipe that is full.
 */
#include "broker/last_line.h"

#include <poll.h>
#include <time.h>
#include <unistd.h>

#include "broker/descriptors.h"

void last_line(const char *line, size_t length)
{
	struct pollfd ready = {.fd = DESC_STDERR, .events = POLLOUT};
	const struct timespec at_once = {0, 0};

	/* A broker that waited here would outlive its front end. */
	if (ppoll(&ready, 1, &at_once, NULL) == 0)
		return;
	/* If it fails, the exit status still says it. */
	(void)!write(DESC_STDERR, line, length);
}
