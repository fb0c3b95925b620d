/*
 * Unpredictable numbers from the kernel, fetched in advance for many probes. Runs in the front end.
 */
#include "frontend/process/random.h"

#include <err.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { POOL_BYTES = 256 }; /* getrandom(2) never returns less than was asked for up to this */

void random_bytes(void *bytes, size_t length)
{
	static uint8_t pool[POOL_BYTES];
	static size_t left_bytes;

	if (left_bytes < length) {
		if (getrandom(pool, POOL_BYTES, 0) != POOL_BYTES)
			err(EXIT_FAILURE, "getrandom");
		left_bytes = POOL_BYTES;
	}
	left_bytes -= length;
	memcpy(bytes, pool + left_bytes, length);
}
