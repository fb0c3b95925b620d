/*
 * The frames on their way, as a binary heap. Part of simnet, a test program; bounded, so that a
 * flood ends in counted drops and not in swap space.
 */
#include "tests/lab/simnet_queue.h"

#include <stdlib.h>

struct queue {
	size_t limit;
	size_t count;
	uint64_t next_order;
	struct queued_frame **heap;
};

struct queue *queue_new(size_t limit_frames)
{
	struct queue *queue = calloc(1, sizeof(*queue));

	if (!queue)
		return NULL;
	queue->limit = limit_frames;
	queue->heap = calloc(limit_frames, sizeof(*queue->heap));
	if (!queue->heap) {
		free(queue);
		return NULL;
	}
	return queue;
}

void queue_free(struct queue *queue)
{
	for (size_t i = 0; i < queue->count; i++)
		free(queue->heap[i]);
	free(queue->heap);
	free(queue);
}

struct queued_frame *queue_frame(struct queue *queue, size_t length)
{
	struct queued_frame *frame;

	if (queue->count == queue->limit)
		return NULL;
	frame = malloc(sizeof(*frame) + length);
	if (frame)
		frame->length = length;
	return frame;
}

static bool before(const struct queued_frame *a, const struct queued_frame *b)
{
	return a->due_ns < b->due_ns || (a->due_ns == b->due_ns && a->order < b->order);
}

void queue_push(struct queue *queue, struct queued_frame *frame, uint64_t due_ns)
{
	size_t at = queue->count++;

	frame->due_ns = due_ns;
	frame->order = queue->next_order++;
	while (at > 0 && before(frame, queue->heap[(at - 1) / 2])) {
		queue->heap[at] = queue->heap[(at - 1) / 2];
		at = (at - 1) / 2;
	}
	queue->heap[at] = frame;
}

struct queued_frame *queue_pop_due(struct queue *queue, uint64_t now_ns)
{
	struct queued_frame *first;
	struct queued_frame *last;
	size_t at = 0;

	if (queue->count == 0 || queue->heap[0]->due_ns > now_ns)
		return NULL;
	first = queue->heap[0];
	last = queue->heap[--queue->count];
	for (size_t child = 1; child < queue->count; child = 2 * at + 1) {
		if (child + 1 < queue->count && before(queue->heap[child + 1], queue->heap[child]))
			child++;
		if (!before(queue->heap[child], last))
			break;
		queue->heap[at] = queue->heap[child];
		at = child;
	}
	queue->heap[at] = last;
	return first;
}

uint64_t queue_next_ns(const struct queue *queue)
{
	return queue->count ? queue->heap[0]->due_ns : UINT64_MAX;
}
