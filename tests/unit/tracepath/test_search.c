/*
 * The search for the size that passes a black hole, against a path that lets a size pass or not.
 */
#include <criterion/criterion.h>

#include "frontend/process/clock.h"
#include "frontend/tracepath/search.h"

#define LOST_AFTER_NS (INT64_C(60) * NS_PER_MS)

enum { SMALL = 64 };

/* Searches where sizes up to `passes` are answered, but no probe before `answers_from_ns`. */
static enum search_action search(struct search *search, uint32_t full, uint32_t passes,
				 struct loss loss, int64_t answers_from_ns)
{
	int64_t now_ns = 0;

	search_start(search, SMALL, full, &loss);
	for (unsigned turn = 0; turn < 2000; turn++) {
		int64_t wake_ns = now_ns;
		enum search_action action = search_next(search, now_ns, LOST_AFTER_NS, &wake_ns);

		if (action == SEARCH_WAIT) {
			now_ns = wake_ns;
			continue;
		}
		if (action != SEARCH_SEND)
			return action;
		search_sent(search, now_ns);
		if (search->size <= passes && now_ns >= answers_from_ns)
			search_passed(search, search->size);
	}
	cr_assert_fail("the search does not end");
	return SEARCH_WAIT;
}

static const struct loss clean = {.sent = 5, .answered = 5};

Test(search, finds_every_size)
{
	for (uint32_t passes = SMALL; passes < 1500; passes++) {
		struct search s;

		cr_assert_eq(search(&s, 1500, passes, clean, 0), SEARCH_FOUND);
		cr_assert_eq(s.passes, passes);
		cr_assert(!search_active(&s));
	}
}

Test(search, full_size_that_passes_is_no_hole)
{
	struct search s;

	cr_assert_eq(search(&s, 1500, 1500, clean, 0), SEARCH_NO_HOLE);
}

/* A rate limit swallows the first answers: the sizes that it made look lost are tried again. */
Test(search, a_rate_limit_is_no_hole)
{
	for (int64_t from_ms = 100; from_ms <= 1000; from_ms += 100) {
		struct search s;

		cr_assert_eq(search(&s, 1500, 1500, clean, from_ms * NS_PER_MS), SEARCH_NO_HOLE);
		cr_assert_eq(search(&s, 1500, 1400, clean, from_ms * NS_PER_MS), SEARCH_FOUND);
		cr_assert_eq(s.passes, 1400, "from %d ms on: %u", (int)from_ms, s.passes);
	}
}

/* How many lost probes of full size count as a proof. */
Test(search, loss_asks_for_more_evidence)
{
	static const struct {
		struct loss loss;
		unsigned tries; /* 0: none would do */
	} cases[] = {
		{{98, 98}, 2}, /* 1 of 100 is lost: 0.01^2 <= 0.001 */
		{{9, 9}, 3},   /* (1/11)^3 */
		{{0, 0}, 10},  /* nothing is known: 0.5^10 */
		{{28, 10}, 16}, {{98, 9}, 0},
	};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct search s;
		int64_t now_ns = 0;
		int64_t wake_ns = 0;
		unsigned tries = 0;
		enum search_action action;

		search_start(&s, SMALL, 1500, &cases[i].loss);
		while ((action = search_next(&s, now_ns, LOST_AFTER_NS, &wake_ns)) !=
			       SEARCH_TOO_LOSSY &&
		       s.stage == SEARCH_FULL) {
			if (action == SEARCH_SEND) {
				search_sent(&s, now_ns);
				tries++;
			} else {
				now_ns = wake_ns;
			}
		}
		cr_assert_eq(action == SEARCH_TOO_LOSSY, cases[i].tries == 0, "case %zu", i);
		if (cases[i].tries != 0)
			cr_assert_eq(tries, cases[i].tries, "case %zu: %u", i, tries);
	}
}

Test(search, plateaus)
{
	static const uint32_t cases[][2] = {{65536, 65535}, {65535, 32000}, {1500, 1496},
					    {1281, 1280},   {69, 68},       {68, 68},
					    {1, 68}};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		cr_assert_eq(plateau_below(cases[i][0]), cases[i][1], "case %zu", i);
}
