/*
 * The queue of frames on their way: order by time, first come first served within one, and its
 * bound.
 */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "tests/lab/simnet_queue.h"

enum { FRAMES = 5000 };

static void push(struct queue *queue, uint64_t due_ns, uint8_t mark)
{
	struct queued_frame *frame = queue_frame(queue, 1);

	cr_assert_not_null(frame);
	frame->bytes[0] = mark;
	queue_push(queue, frame, due_ns);
}

static int pop(struct queue *queue, uint64_t now_ns)
{
	struct queued_frame *frame = queue_pop_due(queue, now_ns);
	int mark = frame ? frame->bytes[0] : -1;

	free(frame);
	return mark;
}

Test(simnet_queue, frames_leave_when_they_are_due)
{
	struct queue *queue = queue_new(8);

	cr_assert_eq(queue_next_ns(queue), UINT64_MAX);
	push(queue, 300, 3);
	push(queue, 100, 1);
	push(queue, 200, 2);
	cr_assert_eq(queue_next_ns(queue), 100);
	cr_assert_eq(pop(queue, 99), -1);
	cr_assert_eq(pop(queue, 250), 1);
	cr_assert_eq(pop(queue, 250), 2);
	cr_assert_eq(pop(queue, 250), -1);
	cr_assert_eq(queue_next_ns(queue), 300);
	queue_free(queue);
}

Test(simnet_queue, first_come_first_served_at_one_time)
{
	struct queue *queue = queue_new(200);

	for (uint8_t i = 0; i < 200; i++)
		push(queue, i % 2 ? 7 : 5, i);
	for (int i = 0; i < 200; i++)
		cr_assert_eq(pop(queue, 10), i < 100 ? 2 * i : 2 * (i - 100) + 1);
	queue_free(queue);
}

Test(simnet_queue, any_order_comes_out_sorted)
{
	struct queue *queue = queue_new(FRAMES);
	uint64_t last_ns = 0;
	uint64_t due_ns = 1;
	size_t left = FRAMES;

	for (size_t i = 0; i < FRAMES; i++) {
		due_ns = due_ns * 48271 % 2147483647; /* Lehmer's generator */
		push(queue, due_ns, 0);
	}
	for (; left && queue_next_ns(queue) != UINT64_MAX; left--) {
		cr_assert_geq(queue_next_ns(queue), last_ns);
		last_ns = queue_next_ns(queue);
		cr_assert_eq(pop(queue, last_ns), 0);
	}
	cr_assert_eq(left, 0);
	cr_assert_eq(queue_next_ns(queue), UINT64_MAX);
	queue_free(queue);
}

Test(simnet_queue, a_full_queue_takes_no_more)
{
	struct queue *queue = queue_new(2);

	push(queue, 1, 1);
	push(queue, 2, 2);
	cr_assert_null(queue_frame(queue, 1));
	cr_assert_eq(pop(queue, 1), 1);
	push(queue, 3, 3);
	queue_free(queue);
}
