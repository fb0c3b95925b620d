/*
 * Probe numbers: no two open probes have the same, none can be predicted, those that may still be
 * answered rest, and however many rest there is always one more.
 */
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <string.h>

#include "frontend/process/clock.h"
#include "frontend/transport/probe_number.h"

static struct probe_numbers *numbers;

static void start(void)
{
	numbers = probe_numbers_open();
	cr_assert_not_null(numbers);
}

static void stop(void)
{
	probe_numbers_close(numbers);
}

TestSuite(probe_number, .init = start, .fini = stop);

static struct record_probe take(uint8_t protocol, int probe_id, int64_t now_ns)
{
	struct record_probe probe = {.protocol = protocol};

	probe_number_take(numbers, &probe, probe_id, now_ns);
	cr_assert_lt(probe.probe_id, RECORD_PROBE_IDS);
	if (probe_id != PROBE_ID_ANY)
		cr_assert_eq(probe.probe_id, probe_id);
	return probe;
}

/* Takes as many echo sequences as there are slots, and checks that each is another. */
static void take_all(int probe_id, uint32_t count)
{
	static bool seen[RECORD_PROBE_IDS][65536];

	memset(seen, 0, sizeof(seen));
	for (uint32_t i = 0; i < count; i++) {
		struct record_probe probe = take(IPPROTO_ICMP, probe_id, 0);
		cr_assert_lt(probe.number, 65536);
		cr_assert_not(seen[probe.probe_id][probe.number], "%u", i);
		seen[probe.probe_id][probe.number] = true;
	}
}

Test(probe_number, every_slot_has_another)
{
	take_all(PROBE_ID_ANY, RECORD_SLOTS);
}

Test(probe_number, every_slot_of_one_flow_has_another)
{
	take_all(7, RECORD_SLOTS);
}

/* Each bit is set in about half of the numbers, and no step comes twice in a row. */
Test(probe_number, cannot_be_predicted)
{
	static const uint8_t protocols[] = {IPPROTO_ICMP, IPPROTO_SCTP};

	for (size_t k = 0; k < 2; k++) {
		uint32_t step = 0, same_steps = 0, last = 0, set[32] = {0};
		for (uint32_t i = 0; i < 1000; i++) {
			uint32_t number = take(protocols[k], PROBE_ID_ANY, 0).number;
			same_steps += number - last == step;
			step = number - last;
			last = number;
			for (uint32_t bit = 0; bit < 32; bit++)
				set[bit] += number >> bit & 1;
		}
		cr_expect_lt(same_steps, 10, "protocol %u", protocols[k]);
		for (uint32_t bit = 0; bit < (protocols[k] == IPPROTO_ICMP ? 16 : 32); bit++)
			cr_expect(set[bit] > 400 && set[bit] < 600, "bit %u: %u", bit, set[bit]);
	}
}

/* Often, since the search begins anywhere. */
Test(probe_number, a_free_one_is_given_again)
{
	take_all(0, RECORD_SLOTS - 1);
	struct record_probe probe = take(IPPROTO_ICMP, 0, 0);
	for (int i = 0; i < 20000; i++) {
		probe_number_free(numbers, &probe);
		cr_assert_eq(take(IPPROTO_ICMP, 0, 0).number, probe.number);
	}
}

Test(probe_number, an_unanswered_one_rests)
{
	take_all(0, RECORD_SLOTS - 1);
	struct record_probe probe = take(IPPROTO_ICMP, 0, 0);
	probe_number_rest(numbers, &probe, NS_PER_S);
	cr_expect_eq(take(IPPROTO_ICMP, PROBE_ID_ANY, INT64_C(11) * NS_PER_S - 1).probe_id, 1);
	struct record_probe again = take(IPPROTO_ICMP, PROBE_ID_ANY, INT64_C(11) * NS_PER_S);
	cr_expect_eq(again.probe_id, 0);
	cr_expect_eq(again.number, probe.number);
}

Test(probe_number, one_that_rests_is_given_to_a_flow_that_has_no_other)
{
	take_all(3, RECORD_SLOTS - 1);
	struct record_probe probe = take(IPPROTO_ICMP, 3, 0);
	probe_number_rest(numbers, &probe, 0);
	cr_expect_eq(take(IPPROTO_ICMP, 3, 0).number, probe.number);
}

Test(probe_number, any_number_may_rest)
{
	for (uint32_t i = 0; i < 300000; i++) {
		struct record_probe probe = take(IPPROTO_ICMP, i % 2 ? 5 : PROBE_ID_ANY, 0);
		probe_number_rest(numbers, &probe, 0);
	}
	take_all(5, RECORD_SLOTS);
}

Test(probe_number, sctp_probes_are_spread_over_the_ports)
{
	struct record_probe probes[RECORD_PROBE_IDS];
	bool seen[RECORD_PROBE_IDS] = {false};

	for (size_t i = 0; i < RECORD_PROBE_IDS; i++) {
		probes[i] = take(IPPROTO_SCTP, PROBE_ID_ANY, 0);
		cr_expect_neq(probes[i].number, 0);
		cr_expect_not(seen[probes[i].probe_id]);
		seen[probes[i].probe_id] = true;
	}
	/* One that rests keeps its port, the others are free again. */
	probe_number_rest(numbers, &probes[0], 0);
	for (size_t i = 1; i < RECORD_PROBE_IDS; i++)
		probe_number_free(numbers, &probes[i]);
	for (size_t i = 1; i < RECORD_PROBE_IDS; i++)
		cr_expect_neq(take(IPPROTO_SCTP, PROBE_ID_ANY, 0).probe_id, probes[0].probe_id);
	cr_expect_eq(take(IPPROTO_SCTP, PROBE_ID_ANY, INT64_C(10) * NS_PER_S).probe_id,
		     probes[0].probe_id);
}

Test(probe_number, sctp_flow_keeps_its_port)
{
	for (int i = 0; i < 100; i++)
		take(IPPROTO_SCTP, 9, 0);
}
