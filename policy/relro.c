/*
 * Read-only after relocation, for programs without a dynamic loader. Runs in the broker once it
 * has put in order what it inherited, and, where it is linked so, in the front end, once that has
 * started the broker: whoever later finds a way to write into the process finds no table of
 * addresses to write to.
 */
#include "policy/relro.h"

#include <elf.h>
#include <link.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#ifdef __GLIBC__

bool relro_protect(void)
{
	return true;
}

#else

/* The start of the program in memory, by the linker. A position-independent one begins at 0: its
 * addresses are offsets from here. */
extern const ElfW(Ehdr) __ehdr_start __attribute__((visibility("hidden")));

bool relro_protect(void)
{
	uintptr_t base = (uintptr_t)&__ehdr_start;
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
	const ElfW(Phdr) *headers = (const void *)(base + __ehdr_start.e_phoff);

	for (int i = 0; i < __ehdr_start.e_phnum; i++) {
		if (headers[i].p_type != PT_GNU_RELRO)
			continue;
		uintptr_t first = (base + headers[i].p_vaddr) & ~(page - 1);
		uintptr_t end = (base + headers[i].p_vaddr + headers[i].p_memsz) & ~(page - 1);
		if (end > first && mprotect((void *)first, end - first, PROT_READ) != 0)
			return false;
	}
	return true;
}

#endif
