/*
 * What goes into the output comes out, whole and in order, however it is read. A reader that stops
 * blocks nothing, and one that is gone is noticed.
 */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "frontend/process/output.h"

enum { CAPACITY = 1 << 20 };

static struct output output;
static int reader_fd, writer_fd;

static void start(void)
{
	int fds[2];

	signal(SIGPIPE, SIG_IGN);
	cr_assert(output_open(&output, CAPACITY));
	cr_assert_eq(pipe2(fds, 0), 0);
	reader_fd = fds[0];
	writer_fd = fds[1];
}

static void stop(void)
{
	output_close(&output);
}

TestSuite(output, .init = start, .fini = stop);

static void add_line(int number)
{
	char *room = output_room(&output, 100);

	output_added(&output, (size_t)snprintf(room, 100, "%d line\n", number));
}

static int next_expected;

/* Reads up to `most` bytes and checks that they continue the numbered lines. */
static void read_some(size_t most)
{
	static char buffer[CAPACITY];
	static size_t have;

	ssize_t count = read(reader_fd, buffer + have, most);
	cr_assert_gt(count, 0);
	have += (size_t)count;
	for (;;) {
		char *newline = memchr(buffer, '\n', have);
		if (!newline)
			return;
		*newline = '\0';
		char expected[100];
		snprintf(expected, sizeof(expected), "%d line", next_expected);
		cr_assert_str_eq(buffer, expected);
		next_expected++;
		have -= (size_t)(newline + 1 - buffer);
		memmove(buffer, newline + 1, have);
	}
}

Test(output, nothing_to_write)
{
	cr_assert_eq(output_write(&output, writer_fd), OUTPUT_EMPTY);
	cr_assert_eq(output_pending(&output), 0);
}

Test(output, reads_of_odd_sizes)
{
	int added = 0;

	for (int round = 0; round < 400; round++) {
		for (int i = 0; i < round % 40; i++)
			add_line(added++);
		if (round % 7 == 0)
			output_write(&output, writer_fd);
		if (round % 3 == 0 && next_expected < added && output_pending(&output) < 60000) {
			output_write(&output, writer_fd);
			read_some((size_t)(1 + round * 13 % 4000));
		}
	}
	while (next_expected < added) {
		output_write(&output, writer_fd);
		read_some(100000);
	}
	cr_assert_eq(output_pending(&output), 0);
}

Test(output, full_pipe_blocks_nothing)
{
	int added = 0;

	while (output_write(&output, writer_fd) == OUTPUT_EMPTY) {
		cr_assert_lt(added, 1000000);
		for (int i = 0; i < 100; i++)
			add_line(added++);
	}
	size_t pending = output_pending(&output);
	cr_assert_gt(pending, 0);
	cr_assert_eq(output_write(&output, writer_fd), OUTPUT_BLOCKED);
	cr_assert_eq(output_pending(&output), pending);

	while (next_expected < added) {
		read_some(CAPACITY / 2);
		output_write(&output, writer_fd);
	}
	cr_assert_eq(output_write(&output, writer_fd), OUTPUT_EMPTY);
}

Test(output, memory_in_use_follows_what_waits)
{
	int added = 0;

	/* Much more than the capacity goes through, and the queue never leaves its front. */
	while (added < 300000) {
		for (int i = 0; i < 50; i++)
			add_line(added++);
		output_write(&output, writer_fd);
		read_some(CAPACITY / 2);
		cr_assert_leq(output.end, 4096);
	}
}

Test(output, filled_to_the_last_byte_after_moving)
{
	size_t all = 0;

	memset(output_room(&output, CAPACITY), 'x', CAPACITY);
	output_added(&output, CAPACITY);
	all = CAPACITY;
	output_write(&output, writer_fd);
	size_t written = all - output_pending(&output);
	cr_assert_gt(written, 0);
	memset(output_room(&output, written), 'y', written);
	output_added(&output, written);
	cr_assert_eq(output_pending(&output), CAPACITY);
}

Test(output, reader_gone)
{
	add_line(0);
	close(reader_fd);
	cr_assert_eq(output_write(&output, writer_fd), OUTPUT_CLOSED);
}
