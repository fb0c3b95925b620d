/*
 * Memory of tables: zeroes; the pages that are asked for are there, and no others.
 */
#include <criterion/criterion.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "frontend/memory.h"

enum { PAGES = 1000 };

static size_t page_bytes;
static uint8_t *memory;

static void start(void)
{
	page_bytes = (size_t)sysconf(_SC_PAGESIZE);
	memory = memory_open(PAGES * page_bytes - 5);
	cr_assert_not_null(memory);
}

static void stop(void)
{
	memory_close(memory, PAGES * page_bytes - 5);
}

TestSuite(memory, .init = start, .fini = stop);

static size_t resident(unsigned char pages[PAGES])
{
	size_t count = 0;

	cr_assert_eq(mincore(memory, PAGES * page_bytes, pages), 0);
	for (size_t i = 0; i < PAGES; i++)
		count += pages[i] & 1;
	return count;
}

Test(memory, pages_come_when_they_are_wanted)
{
	unsigned char pages[PAGES];

	if (madvise(memory + 9 * page_bytes, 1, MADV_POPULATE_WRITE) != 0)
		cr_skip_test("a kernel before 5.14 gives none before it is touched");
	cr_assert_eq(resident(pages), 2);
	cr_assert(pages[0] & 1);
	memory_warm(memory + 7 * page_bytes + 5);
	cr_assert_eq(resident(pages), 3);
	cr_assert(pages[7] & 1);
}

Test(memory, is_all_zero)
{
	for (size_t i = 0; i < PAGES * page_bytes; i++)
		cr_assert_eq(memory[i], 0);
}

Test(memory, more_than_there_is)
{
	cr_assert_null(memory_open(SIZE_MAX / 2));
	memory_close(NULL, 5);
}
