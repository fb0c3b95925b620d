/*
 * Makes the packets that hops and destinations send back.
 */
#ifndef POSTERN_TESTS_LAB_SIMNET_ANSWER_H
#define POSTERN_TESTS_LAB_SIMNET_ANSWER_H

#include "tests/lab/simnet_path.h"

/* Takes one IP packet that is to leave `after_ns` from now. `length` may be shorter than the length
 * in its header. */
typedef void answer_emit(void *context, const uint8_t *bytes, size_t length, uint64_t after_ns);

struct answer_way {
	size_t link_mtu_bytes; /* bounds what `quote all` quotes */
	answer_emit *emit;
	void *context;
};

/* Makes the answer `what` to the packet in `view` and emits it, with everything that the speaker's
 * description says is wrong with it. Returns false if there is no answer: an error about an
 * ICMP error, or a packet of another kind than the answer is for. */
bool answer_make(const struct packet_view *view, const struct path_end *end, enum net_answer what,
		 uint32_t data_bytes, const struct answer_way *way);

#endif
