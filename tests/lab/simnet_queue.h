/*
 * Frames that wait for their time to leave: a heap by time, first come first served within one.
 */
#ifndef POSTERN_TESTS_LAB_SIMNET_QUEUE_H
#define POSTERN_TESTS_LAB_SIMNET_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct queued_frame {
	uint64_t due_ns;
	uint64_t order;
	size_t length;
	uint8_t bytes[];
};

struct queue;

/* NULL: no memory. */
struct queue *queue_new(size_t limit_frames);
void queue_free(struct queue *queue);

/* A frame to fill and to hand to queue_push; NULL when the queue is full. */
struct queued_frame *queue_frame(struct queue *queue, size_t length);
void queue_push(struct queue *queue, struct queued_frame *frame, uint64_t due_ns);

/* The next frame that is due at `now_ns`, for the caller to free; NULL: none. */
struct queued_frame *queue_pop_due(struct queue *queue, uint64_t now_ns);

/* When the next frame is due; UINT64_MAX: never. */
uint64_t queue_next_ns(const struct queue *queue);

#endif
