/*
 * Memory of the tables that are reserved at start and used from their beginning on. Runs in the
 * front end, before it confines itself.
 *
 * calloc(3) would write a heading in front of each, on a page of its own, and have the kernel give
 * the first page of use when it is touched: an exception costs more than all else that is done
 * about a page, ten times as much in some virtual machines.
 */
#include "frontend/memory.h"

#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

/* From <linux/mman.h>; Linux 5.14. */
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

void *memory_open(size_t bytes)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (memory == MAP_FAILED)
		return NULL;
	memory_warm(memory);
	return memory;
}

void memory_warm(void *at)
{
	uintptr_t page = (uintptr_t)at & ~((uintptr_t)sysconf(_SC_PAGESIZE) - 1);

	/* Where the kernel knows nothing of that, the page comes when it is touched. */
	(void)madvise((void *)page, 1, MADV_POPULATE_WRITE);
}

void memory_close(void *memory, size_t bytes)
{
	if (memory)
		munmap(memory, bytes);
}
