/*
 * What the linker has marked as constant after relocation (-z relro) becomes read-only. A dynamic
 * loader does that, and glibc's start of a program without one; musl's start of a static-pie does
 * not, so such a program does it itself, before it reads what others wrote.
 */
#ifndef POSTERN_POLICY_RELRO_H
#define POSTERN_POLICY_RELRO_H

#include <stdbool.h>

/* False with errno if the kernel refuses. Where the C library has done it, this does nothing. */
bool relro_protect(void);

#endif
