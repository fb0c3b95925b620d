/*
 * Memory of the tables that are reserved at start and used from their beginning on. Runs in the
 * front end, before it confines itself.
 */
#ifndef POSTERN_FRONTEND_MEMORY_H
#define POSTERN_FRONTEND_MEMORY_H

#include <stddef.h>

/* Zeroes, of which the first page is there at once and others as they are touched; NULL with errno.
 * Whole pages: for tables, of which there are few. */
void *memory_open(size_t bytes);

/* Has the kernel give the page of something in there that will be used soon. */
void memory_warm(void *at);

/* A process that ends need not: its memory goes faster all at once. */
void memory_close(void *memory, size_t bytes);

#endif
