/*
 * Gives each probe over the broker a held port and an unpredictable number there. Runs in the front
 * end. Echo sequences are few, so a bitmap says which are taken. SCTP tags are many, but an ICMP
 * error may show no more than the ports: probes are spread over all held ports.
 */
#include "frontend/transport/probe_number.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "frontend/process/clock.h"
#include "frontend/process/random.h"

enum {
	SEQUENCES = 65536,
	WORD_BITS = 64,
	WORDS = SEQUENCES / WORD_BITS,
	/* Bounds the memory for numbers that rest. */
	RESTING_MAX = 65536,
};

/* A packet lives hardly longer. */
static const int64_t REST_NS = INT64_C(10) * NS_PER_S;

struct resting {
	int64_t until_ns;
	uint32_t number;
	uint8_t protocol;
	uint8_t probe_id;
};

struct probe_numbers {
	uint64_t echo_taken[RECORD_PROBE_IDS][WORDS];
	uint32_t sctp_taken[RECORD_PROBE_IDS];
	/* A circular queue, the oldest first. */
	struct resting resting[RESTING_MAX];
	uint32_t resting_first, resting_count;
};

struct probe_numbers *probe_numbers_open(void)
{
	return calloc(1, sizeof(struct probe_numbers));
}

void probe_numbers_close(struct probe_numbers *numbers)
{
	free(numbers);
}

static void give_back(struct probe_numbers *numbers, uint8_t protocol, uint8_t probe_id,
		      uint32_t number)
{
	if (protocol == IPPROTO_SCTP)
		numbers->sctp_taken[probe_id]--;
	else
		numbers->echo_taken[probe_id][number / WORD_BITS] &=
			~(UINT64_C(1) << number % WORD_BITS);
}

static void free_oldest(struct probe_numbers *numbers)
{
	const struct resting *oldest = &numbers->resting[numbers->resting_first];

	give_back(numbers, oldest->protocol, oldest->probe_id, oldest->number);
	numbers->resting_first = (numbers->resting_first + 1) % RESTING_MAX;
	numbers->resting_count--;
}

/* The first free one from `start` on, around the end; −1: all are taken. */
static int free_sequence(const uint64_t taken[WORDS], uint16_t start)
{
	for (uint32_t i = 0; i <= WORDS; i++) {
		uint32_t word = (start / WORD_BITS + i) % WORDS;
		uint64_t free_bits = ~taken[word];
		if (i == 0)
			free_bits &= ~UINT64_C(0) << start % WORD_BITS;
		if (free_bits != 0)
			return (int)word * WORD_BITS + __builtin_ctzll(free_bits);
	}
	return -1;
}

/* Routers may choose the path by the echo identifier, so the first one is used while it has free
 * sequences, as by ping. With one identifier for a flow, numbers that rest may have to be freed:
 * the other slots hold fewer numbers than one identifier has. */
static void take_sequence(struct probe_numbers *numbers, struct record_probe *probe, int probe_id)
{
	uint16_t start;
	int id = probe_id == PROBE_ID_ANY ? 0 : probe_id;
	int sequence;

	random_bytes(&start, sizeof(start));
	while ((sequence = free_sequence(numbers->echo_taken[id], start)) < 0) {
		if (probe_id == PROBE_ID_ANY)
			id = (id + 1) % RECORD_PROBE_IDS;
		else
			free_oldest(numbers);
	}
	probe->probe_id = (uint8_t)id;
	probe->number = (uint32_t)sequence;
	numbers->echo_taken[id][sequence / WORD_BITS] |= UINT64_C(1) << sequence % WORD_BITS;
}

/* The one with the fewest probes, from a random one on. */
static uint8_t least_taken(struct probe_numbers *numbers)
{
	uint8_t start, best;

	random_bytes(&start, sizeof(start));
	best = start % RECORD_PROBE_IDS;
	for (uint32_t i = 1; i < RECORD_PROBE_IDS; i++) {
		uint8_t id = (uint8_t)((start + i) % RECORD_PROBE_IDS);
		if (numbers->sctp_taken[id] < numbers->sctp_taken[best])
			best = id;
	}
	return best;
}

/* Equal tags of 32 bits are too rare among 65,536 probes on 16 ports to be checked for. */
static void take_tag(struct probe_numbers *numbers, struct record_probe *probe, int probe_id)
{
	probe->probe_id = probe_id == PROBE_ID_ANY ? least_taken(numbers) : (uint8_t)probe_id;
	numbers->sctp_taken[probe->probe_id]++;
	random_bytes(&probe->number, sizeof(probe->number));
	if (probe->number == 0) /* RFC 9260 3.3.2 */
		probe->number = 1;
}

void probe_number_take(struct probe_numbers *numbers, struct record_probe *probe, int probe_id,
		       int64_t now_ns)
{
	while (numbers->resting_count > 0 &&
	       numbers->resting[numbers->resting_first].until_ns <= now_ns)
		free_oldest(numbers);
	if (probe->protocol == IPPROTO_SCTP)
		take_tag(numbers, probe, probe_id);
	else
		take_sequence(numbers, probe, probe_id);
}

void probe_number_free(struct probe_numbers *numbers, const struct record_probe *probe)
{
	give_back(numbers, probe->protocol, probe->probe_id, probe->number);
}

void probe_number_rest(struct probe_numbers *numbers, const struct record_probe *probe,
		       int64_t now_ns)
{
	if (numbers->resting_count == RESTING_MAX)
		free_oldest(numbers);
	uint32_t last = (numbers->resting_first + numbers->resting_count++) % RESTING_MAX;
	numbers->resting[last] = (struct resting){
		.until_ns = now_ns + REST_NS,
		.number = probe->number,
		.protocol = probe->protocol,
		.probe_id = probe->probe_id,
	};
}
