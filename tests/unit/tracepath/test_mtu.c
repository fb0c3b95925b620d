/*
 * The path MTU at each TTL, after sequences of "too big", answers and a black hole.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "frontend/tracepath/mtu.h"

static struct path_mtu path(void)
{
	return (struct path_mtu){.first_bytes = 1500, .least_bytes = 68};
}

static uint8_t too_big(struct path_mtu *mtu, uint8_t ttl, uint32_t bytes, uint32_t mtu_bytes,
		       uint8_t router)
{
	struct trace_answer answer = {
		.kind = TRACE_ANSWER_TOO_BIG, .mtu_bytes = mtu_bytes, .address = {router}};

	return mtu_too_big(mtu, ttl, bytes, &answer);
}

static uint8_t answered(struct path_mtu *mtu, uint8_t ttl, uint8_t router)
{
	struct trace_hop hop = {.ttl = ttl, .outcome = TRACE_EXPIRED, .address = {router}};

	return mtu_locate(mtu, &hop);
}

/* The steps as TTL:MTU. */
static void expect(const struct path_mtu *mtu, const char *steps)
{
	char text[1024] = "";

	for (unsigned i = 0; i < mtu->count; i++)
		snprintf(text + strlen(text), sizeof text - strlen(text), "%s%u:%u", i ? " " : "",
			 mtu->step[i].told.ttl, mtu->step[i].told.mtu_bytes);
	cr_assert_str_eq(text, steps);
}

Test(mtu, steps_begin_at_the_lowest_ttl_that_runs_into_them)
{
	struct path_mtu mtu = path();

	cr_assert_eq(too_big(&mtu, 9, 1500, 1400, 4), 9);
	cr_assert_eq(too_big(&mtu, 11, 1500, 1400, 4), 0, "known already");
	cr_assert_eq(too_big(&mtu, 7, 1500, 1400, 4), 7);
	expect(&mtu, "7:1400");
	cr_assert_eq(too_big(&mtu, 12, 1400, 1300, 8), 12);
	cr_assert_eq(too_big(&mtu, 5, 1500, 1400, 4), 5);
	expect(&mtu, "5:1400 12:1300");
	cr_assert_eq(too_big(&mtu, 3, 1400, 1300, 8), 0, "not before the one before it");
	expect(&mtu, "5:1400 12:1300");
	cr_assert_eq(mtu_at(&mtu, 4), 1500);
	cr_assert_eq(mtu_at(&mtu, 5), 1400);
	cr_assert_eq(mtu_at(&mtu, 11), 1400);
	cr_assert_eq(mtu_at(&mtu, 12), 1300);
}

Test(mtu, a_router_that_answers_tells_where_its_step_begins)
{
	struct path_mtu mtu = path();

	too_big(&mtu, 9, 1500, 1400, 4);
	cr_assert_eq(answered(&mtu, 3, 77), 0);
	cr_assert_eq(answered(&mtu, 4, 4), 5);
	cr_assert_eq(answered(&mtu, 8, 4), 0, "it is nearer than that");
	expect(&mtu, "5:1400");
	/* One cannot begin before the one before it. */
	too_big(&mtu, 9, 1400, 1300, 6);
	cr_assert_eq(answered(&mtu, 2, 6), 0);
	expect(&mtu, "5:1400 9:1300");
}

Test(mtu, what_cannot_be_is_a_guess)
{
	static const uint32_t said[] = {0, 67, 1500, 9000, UINT32_MAX};

	for (size_t i = 0; i < sizeof said / sizeof said[0]; i++) {
		struct path_mtu mtu = path();

		too_big(&mtu, 3, 1500, said[i], 2);
		expect(&mtu, "3:1496");
		cr_assert(mtu.step[0].guessed);
		too_big(&mtu, 3, 1496, said[i], 2);
		expect(&mtu, "3:1492");
		mtu_confirm(&mtu, 2, 1492);
		mtu_confirm(&mtu, 3, 1491);
		cr_assert(mtu.step[0].guessed);
		mtu_confirm(&mtu, 4, 1492);
		cr_assert(!mtu.step[0].guessed);
	}
}

Test(mtu, the_first_link)
{
	struct path_mtu mtu = {.first_bytes = 65535, .least_bytes = 68};

	cr_assert_eq(mtu_local(&mtu, 1, 65535, 9000, 0), 1);
	cr_assert_eq(mtu_local(&mtu, 1, 65535, 9000, 0), 0);
	cr_assert_eq(mtu_local(&mtu, 1, 9000, 0, 0), 1);
	expect(&mtu, "1:9000 1:8996");
}

Test(mtu, a_black_hole_before_steps_that_are_known)
{
	struct path_mtu mtu = path();

	too_big(&mtu, 7, 1500, 1450, 6);
	too_big(&mtu, 9, 1450, 1400, 8);
	too_big(&mtu, 11, 1400, 1300, 10);
	cr_assert_eq(mtu_black_hole(&mtu, 5, 1400)->ttl, 5);
	expect(&mtu, "5:1400 11:1300");
	cr_assert(mtu.step[0].told.black_hole);
	cr_assert_eq(mtu_at(&mtu, 10), 1400);
}

Test(mtu, nonsense_ends)
{
	struct path_mtu mtu = path();
	uint32_t bytes = 1500;

	for (; too_big(&mtu, 3, bytes, bytes - 1, 2) != 0; bytes--)
		;
	cr_assert(mtu_is_full(&mtu));
	cr_assert_eq(mtu.count, TRACE_STEPS);
}
