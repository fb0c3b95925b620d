/*
 * Reading a user namespace's map of ids. Runs in the broker while it starts; the text comes from
 * the kernel, whose namespace the invoking user may have set up.
 */
#include "policy/id_map.h"

#include <errno.h>
#include <stdlib.h>

/* One number of a line; false at the end of the text or at anything that is none. */
static bool read_number(const char **text, uint64_t *number)
{
	char *end;

	errno = 0;
	*number = strtoull(*text, &end, 10);
	if (end == *text || errno != 0)
		return false;
	*text = end;
	return true;
}

bool id_map_unprivileged(const char *map, uint32_t *id)
{
	uint64_t inside, outside, count;
	uint64_t highest = 0;
	bool understood = false;

	*id = ID_NOBODY;
	while (read_number(&map, &inside)) {
		if (!read_number(&map, &outside) || !read_number(&map, &count) || count == 0 ||
		    inside + count > UINT32_MAX)
			return true;
		understood = true;
		if (inside <= ID_NOBODY && ID_NOBODY < inside + count)
			return true;
		if (inside + count - 1 > highest)
			highest = inside + count - 1;
	}
	if (!understood)
		return true;
	*id = (uint32_t)highest;
	return highest != 0;
}
