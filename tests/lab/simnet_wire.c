/*
 * simnet's wire mode: carries every frame from one interface to another after a delay, so that a
 * path to a real host can be long on a machine without netem. Part of a test program.
 */
#include "tests/lab/simnet_wire.h"

#include "tests/lab/simnet_link.h"
#include "tests/lab/simnet_path.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { WIRE_FRAMES = 131072, ENDS = 2 };

struct wire_state {
	const struct wire *wire;
	struct net_random random;
	struct link *links[ENDS];
	struct queue *queues[ENDS]; /* by the end where the frames come out */
	uint64_t carried;
	uint64_t lost;
	uint64_t dropped;
};

static void take(struct wire_state *state, size_t from)
{
	struct link_frame frames[LINK_BATCH];
	struct queue *queue = state->queues[1 - from];
	size_t count;

	do {
		count = link_receive(state->links[from], frames);
		for (size_t i = 0; i < count; i++) {
			struct queued_frame *frame;

			if (path_chance(&state->random, state->wire->loss_ppm)) {
				state->lost++;
				continue;
			}
			frame = queue_frame(queue, frames[i].length);
			if (!frame) {
				state->dropped++;
				continue;
			}
			memcpy(frame->bytes, frames[i].bytes, frames[i].length);
			queue_push(queue, frame, frames[i].came_ns + state->wire->delay_ns);
		}
	} while (count == LINK_BATCH);
}

static void give(struct wire_state *state, size_t to)
{
	struct queued_frame *frames[LINK_BATCH];
	size_t count;

	do {
		uint64_t now_ns = loop_now_ns();
		size_t failed;

		for (count = 0; count < LINK_BATCH; count++) {
			frames[count] = queue_pop_due(state->queues[to], now_ns);
			if (!frames[count])
				break;
		}
		failed = count ? link_send(state->links[to], frames, count) : 0;
		state->dropped += failed;
		state->carried += count - failed;
	} while (count == LINK_BATCH);
}

static uint64_t next_due(const struct wire_state *state)
{
	uint64_t first = queue_next_ns(state->queues[0]);
	uint64_t second = queue_next_ns(state->queues[1]);

	return first < second ? first : second;
}

int wire_run(const struct wire *wire, const struct loop_options *options)
{
	struct wire_state state = {.wire = wire, .random = {wire->seed}};
	struct loop *loop = loop_new(options);
	int descriptors[ENDS];

	for (size_t end = 0; end < ENDS; end++) {
		state.links[end] = link_open(wire->interfaces[end]);
		state.queues[end] = queue_new(WIRE_FRAMES);
		if (!loop || !state.links[end] || !state.queues[end])
			return 1;
		descriptors[end] = link_descriptor(state.links[end]);
	}
	puts("ready");
	fflush(stdout);
	while (loop_wait(loop, descriptors, ENDS, next_due(&state))) {
		for (size_t end = 0; end < ENDS; end++) {
			take(&state, end);
			give(&state, 1 - end);
			give(&state, end);
		}
	}
	if (options->statistics) {
		printf("carried %" PRIu64 "\nlost %" PRIu64 "\ndropped %" PRIu64 "\n",
		       state.carried, state.lost, state.dropped);
		fflush(stdout);
	}
	for (size_t end = 0; end < ENDS; end++) {
		queue_free(state.queues[end]);
		link_close(state.links[end]);
	}
	loop_free(loop);
	return 0;
}
