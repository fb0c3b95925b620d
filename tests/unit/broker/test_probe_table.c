/*
 * The table of open probes, full, in order, and against a model that is too simple to be wrong.
 */
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "broker/probe_table.h"
#include "common/record.h"
#include "tests/support/packet.h"

static void start(void)
{
	probe_table_start(0x123456789abcdef0);
}

TestSuite(probe_table, .init = start);

/* Identity number n: every one of few values in each field, so that many differ in one alone. */
static struct probe_identity identity(uint32_t number)
{
	struct probe_identity made = {
		.family = number & 1 ? 6 : 4,
		.protocol = number & 2 ? IPPROTO_UDP : IPPROTO_TCP,
		.source_port = (uint16_t)(40000 + (number >> 2 & 3)),
		.port = (uint16_t)(80 + (number >> 4 & 3)),
		.token = number >> 8,
	};

	made.destination[0] = (uint8_t)(number >> 6 & 1);
	made.source[15] = (uint8_t)(number >> 7 & 1);
	return made;
}

static bool same_but_token(uint32_t a, uint32_t b)
{
	return (a & 0xff) == (b & 0xff);
}

static struct probe *open_slot(uint32_t slot, const struct probe_identity *identity)
{
	struct probe *probe = probe_slot(slot);

	probe->identity = *identity;
	probe->cookie = slot;
	probe_open(probe);
	return probe;
}

Test(probe_table, a_cookie_names_a_slot_by_its_low_bits)
{
	cr_expect_eq(probe_slot(5), probe_slot(0xabcd0005));
	cr_expect_neq(probe_slot(5), probe_slot(6));
	cr_expect_eq(probe_slot(65535) - probe_slot(0), 65535);
}

Test(probe_table, holds_as_many_probes_as_there_are_slots)
{
	for (uint32_t i = 0; i < RECORD_SLOTS; i++) {
		struct probe_identity sought = identity(i);
		cr_assert_null(probe_find(&sought));
		open_slot(RECORD_SLOTS - 1 - i, &sought);
	}
	for (uint32_t i = 0; i < RECORD_SLOTS; i++) {
		struct probe_identity sought = identity(i);
		cr_assert_eq(probe_find(&sought), probe_slot(RECORD_SLOTS - 1 - i), "%u", i);
	}
	for (uint32_t i = 0; i < RECORD_SLOTS; i += 2)
		probe_close(probe_slot(RECORD_SLOTS - 1 - i));
	for (uint32_t i = 0; i < RECORD_SLOTS; i++) {
		struct probe_identity sought = identity(i);
		struct probe *found = probe_find(&sought);
		cr_assert_eq(found, i % 2 == 0 ? NULL : probe_slot(RECORD_SLOTS - 1 - i), "%u", i);
	}
}

Test(probe_table, counts_the_open_ones_of_each_kind)
{
	const uint8_t families[] = {4, 6};
	const uint8_t protocols[] = {IPPROTO_ICMP, IPPROTO_UDP, IPPROTO_TCP, IPPROTO_SCTP};
	struct probe_identity made = {.port = 9};
	uint32_t slot = 0;

	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 8; i++) {
			made.family = families[i / 4];
			made.protocol = protocols[i % 4];
			for (int k = 0; k <= i; k++)
				open_slot(slot++, &made);
		}
		for (int i = 0; i < 8; i++)
			cr_expect_eq(probe_open_count(families[i / 4], protocols[i % 4]),
				     (uint32_t)i + 1);
		while (slot > 0)
			probe_close(probe_slot(--slot));
		for (int i = 0; i < 8; i++)
			cr_expect_eq(probe_open_count(families[i / 4], protocols[i % 4]), 0u);
	}
}

Test(probe_table, every_field_of_an_identity_counts)
{
	struct probe_identity open = identity(0x1a5);
	open_slot(9, &open);
	struct probe_identity changed[8];

	for (size_t i = 0; i < 8; i++)
		changed[i] = open;
	changed[0].family ^= 2;
	changed[1].protocol ^= 1;
	changed[2].source_port ^= 0x100;
	changed[3].port ^= 0x8000;
	changed[4].destination[15] ^= 1;
	changed[5].source[0] ^= 1;
	changed[6].source[15] ^= 1;
	changed[7].token ^= 0x80000000;
	cr_assert_eq(probe_find(&open), probe_slot(9));
	cr_assert_eq(probe_find_ports(&open, NULL), probe_slot(9));
	for (size_t i = 0; i < 8; i++) {
		cr_expect_null(probe_find(&changed[i]), "field %zu", i);
		struct probe *by_ports = probe_find_ports(&changed[i], NULL);
		cr_expect_eq(by_ports, i == 7 ? probe_slot(9) : NULL, "field %zu", i);
	}
}

Test(probe_table, any_source_leaves_out_the_source_and_nothing_else)
{
	struct probe_identity sought = identity(0x1a5);
	open_slot(9, &sought);

	memset(sought.source, 0xee, sizeof(sought.source));
	cr_expect_null(probe_find_ports(&sought, NULL));
	sought.any_source = true;
	cr_expect_eq(probe_find_ports(&sought, NULL), probe_slot(9));
	cr_expect_eq(probe_find(&sought), probe_slot(9));
	sought.destination[3] ^= 1;
	cr_expect_null(probe_find_ports(&sought, NULL));
}

Test(probe_table, finds_the_oldest_first)
{
	static const uint32_t order[] = {700, 3, 65535, 41, 0, 9};
	struct probe_identity sought = identity(3);
	struct probe *found = NULL;

	for (size_t i = 0; i < 6; i++) {
		sought.token = (uint32_t)i;
		open_slot(order[i], &sought);
	}
	for (size_t i = 0; i < 6; i++) {
		found = probe_find_ports(&sought, found);
		cr_assert_eq(found, probe_slot(order[i]), "number %zu", i);
	}
	cr_expect_null(probe_find_ports(&sought, found));

	probe_close(probe_slot(order[0])); /* first, middle, last */
	probe_close(probe_slot(order[2]));
	probe_close(probe_slot(order[5]));
	cr_expect_eq(found = probe_find_ports(&sought, NULL), probe_slot(order[1]));
	cr_expect_eq(found = probe_find_ports(&sought, found), probe_slot(order[3]));
	cr_expect_eq(found = probe_find_ports(&sought, found), probe_slot(order[4]));
	cr_expect_null(probe_find_ports(&sought, found));
	sought.token = 77;
	open_slot(order[2], &sought);
	cr_expect_eq(probe_find_ports(&sought, probe_slot(order[4])), probe_slot(order[2]));
}

/* The model: which slot has which identity number, and when it was opened. */
enum {
	MODEL_SLOTS = 200,
	MODEL_IDENTITIES = 1024,
	MODEL_STEPS = 60000,
};

static struct {
	bool open;
	uint32_t number;
	uint32_t opened;
} model[MODEL_SLOTS];

static struct probe *model_find(uint32_t number)
{
	for (uint32_t i = 0; i < MODEL_SLOTS; i++)
		if (model[i].open && model[i].number == number)
			return probe_slot(i);
	return NULL;
}

static struct probe *model_find_ports(uint32_t number, uint32_t after)
{
	struct probe *found = NULL;
	uint32_t opened = UINT32_MAX;

	for (uint32_t i = 0; i < MODEL_SLOTS; i++) {
		if (!model[i].open || !same_but_token(model[i].number, number) ||
		    model[i].opened <= after || model[i].opened >= opened)
			continue;
		opened = model[i].opened;
		found = probe_slot(i);
	}
	return found;
}

static void compare(uint32_t number)
{
	struct probe_identity sought = identity(number);
	struct probe *found = NULL;
	uint32_t after = 0;

	cr_assert_eq(probe_find(&sought), model_find(number));
	do {
		found = probe_find_ports(&sought, found);
		cr_assert_eq(found, model_find_ports(number, after));
		after = found == NULL ? 0 : model[found->cookie].opened;
	} while (found != NULL);
}

Test(probe_table, agrees_with_a_simple_model)
{
	uint64_t random = 4884;

	for (uint32_t step = 1; step <= MODEL_STEPS; step++) {
		uint32_t slot = packet_random(&random) % MODEL_SLOTS;
		uint32_t number = packet_random(&random) % MODEL_IDENTITIES;
		if (model[slot].open) {
			probe_close(probe_slot(slot));
			model[slot].open = false;
			cr_assert_not(probe_slot(slot)->open);
		} else if (model_find(number) == NULL) {
			struct probe_identity made = identity(number);
			open_slot(slot, &made);
			model[slot].open = true;
			model[slot].number = number;
			model[slot].opened = step;
			cr_assert(probe_slot(slot)->open);
		}
		compare(packet_random(&random) % MODEL_IDENTITIES);
		compare(number);
	}
}
