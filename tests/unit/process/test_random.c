/*
 * Random bytes: none twice.
 */
#include <criterion/criterion.h>
#include <stdint.h>
#include <string.h>

#include "frontend/process/random.h"

Test(random, bytes_are_not_given_twice)
{
	static uint8_t given[1000][8];

	for (size_t i = 0; i < 1000; i++) {
		random_bytes(given[i], 8);
		for (size_t k = 0; k < i; k++)
			cr_assert_arr_neq(given[i], given[k], 8);
	}
}

/* Of any length, those that are left too. */
Test(random, every_byte_is_filled)
{
	uint8_t bytes[256], ever_set[256] = {0};

	for (int i = 0; i < 100; i++) {
		memset(bytes, 0, sizeof(bytes));
		random_bytes(bytes, 3);
		random_bytes(bytes, sizeof(bytes));
		for (size_t k = 0; k < sizeof(bytes); k++)
			ever_set[k] |= bytes[k];
	}
	for (size_t k = 0; k < sizeof(bytes); k++)
		cr_expect_eq(ever_set[k], 0xff, "byte %zu", k);
}
