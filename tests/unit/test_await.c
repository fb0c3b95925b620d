/*
 * Waits that look before they sleep. Looks are counted, and steered, through sched_yield(), which
 * is defined here and comes after each of them; it does not yield, so that nobody but the test
 * makes a look long, unless the machine interrupts it.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include "common/await.h"

#define US INT64_C(1000)
#define MS INT64_C(1000000)

static int looks;
static int write_at_look;     /* 0: never */
static int64_t others_run_ns; /* what others do while this process yields; once */
static int ends[2];
static int sleeps;

static void note_sleep(void)
{
	sleeps++;
}

static void pause_for(int64_t ns)
{
	struct timespec time = {0, ns};

	nanosleep(&time, NULL);
}

int sched_yield(void)
{
	looks++;
	if (write_at_look == looks && write(ends[1], "", 1) != 1)
		_exit(99);
	if (others_run_ns != 0)
		pause_for(others_run_ns);
	others_run_ns = 0;
	return 0;
}

static void start(void)
{
	looks = 0;
	cr_assert_eq(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
}

static int await_pipe(struct await *kind, int64_t wait_ns)
{
	struct pollfd readable = {.fd = ends[0], .events = POLLIN};
	struct timespec wait = {0, wait_ns};

	return await_ready(kind, &readable, 1, wait_ns < 0 ? NULL : &wait, note_sleep);
}

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 * MS + now.tv_nsec;
}

TestSuite(await, .init = start);

Test(await, the_first_wait_sleeps)
{
	struct await kind = {0};

	cr_expect_eq(await_pipe(&kind, 2 * MS), 0);
	cr_expect_eq(looks, 0);
	cr_expect_eq(sleeps, 1);
	cr_expect_not(kind.is_short);
}

/* Where the machine interrupts this process for so long that even that is no short wait, the next
 * time it is. */
Test(await, what_is_ready_makes_a_short_wait)
{
	struct await kind = {0};

	cr_assert_eq(write(ends[1], "", 1), 1);
	for (int i = 0; i < 1000 && !kind.is_short; i++)
		cr_assert_eq(await_pipe(&kind, -1), 1);
	cr_expect(kind.is_short);
	cr_expect_eq(looks, 0);
}

/* Who is asked now and then has nothing to hurry for. */
Test(await, short_waits_that_are_seldom_do_not_count)
{
	struct await kind = {0};

	for (int i = 0; i < 20; i++) {
		pause_for(2 * MS);
		cr_assert_eq(write(ends[1], "", 1), 1);
		cr_assert_eq(await_pipe(&kind, -1), 1);
		cr_assert_eq(read(ends[0], &(char){0}, 1), 1);
		cr_assert_not(kind.is_short);
	}
	cr_expect_eq(looks, 0);
}

/* Where the machine interrupts the second look until the time for it is over, another is tried. */
Test(await, after_a_short_wait_it_looks_until_something_is_ready)
{
	struct await kind;
	char byte;

	write_at_look = 1;
	for (int i = 0; i < 1000 && (i == 0 || sleeps > 0); i++) {
		kind = (struct await){.is_short = true};
		looks = sleeps = 0;
		cr_assert_eq(await_pipe(&kind, -1), 1);
		cr_assert_eq(looks, 1);
		cr_assert_eq(read(ends[0], &byte, 1), 1);
	}
	cr_expect_eq(sleeps, 0);
	cr_expect_eq(kind.sleeps_due, 0u);
}

Test(await, it_looks_for_a_short_time_only)
{
	struct await kind = {.is_short = true};
	int64_t from_ns = now_ns();

	cr_expect_eq(await_pipe(&kind, 20 * MS), 0);
	cr_expect_geq(now_ns() - from_ns, 20 * MS);
	cr_expect_gt(looks, 0);
	cr_expect_eq(sleeps, 1);
	cr_expect_not(kind.is_short);
	looks = 0;
	cr_expect_eq(await_pipe(&kind, 2 * MS), 0);
	cr_expect_eq(looks, 0, "%d looks", looks);
}

Test(await, where_others_compute_it_sleeps)
{
	struct await kind = {.is_short = true};

	others_run_ns = 3 * MS;
	cr_expect_eq(await_pipe(&kind, 2 * MS), 0);
	cr_expect_eq(looks, 1);
	cr_expect_gt(kind.sleeps_due, 0u);
	looks = 0;
	for (uint32_t due = kind.sleeps_due; due > 0; due = kind.sleeps_due) {
		kind.is_short = true;
		kind.sleeps_due = due > 3 ? 3 : due;
		cr_expect_eq(await_pipe(&kind, 100 * US), 0);
		cr_assert_lt(kind.sleeps_due, due);
	}
	cr_expect_eq(looks, 0);
	kind.is_short = true;
	cr_expect_eq(await_pipe(&kind, 100 * US), 0);
	cr_expect_gt(looks, 0);
}

/* A wait that is short because it was told to be says nothing of the next. */
Test(await, waits_that_end_by_themselves_are_not_counted)
{
	struct await kind = {0};

	cr_expect_eq(await_pipe(&kind, 0), 0);
	cr_expect_eq(await_pipe(&kind, 10 * US), 0);
	cr_expect_not(kind.is_short);
	kind.is_short = true;
	cr_expect_eq(await_pipe(&kind, 10 * US), 0);
	cr_expect_eq(looks, 0);
	cr_expect(kind.is_short);
}

Test(await, errors_are_those_of_ppoll)
{
	struct await kind = {.is_short = true};
	struct pollfd *nowhere = (void *)(uintptr_t)1;

	cr_expect_eq(await_ready(&kind, nowhere, 1, NULL, NULL), -1);
	cr_expect_eq(errno, EFAULT);
	kind = (struct await){0};
	cr_expect_eq(await_ready(&kind, nowhere, 1, NULL, NULL), -1);
	cr_expect_eq(errno, EFAULT);
}
