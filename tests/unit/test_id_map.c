/*
 * Which id the broker picks from a user namespace's map.
 */
#include <criterion/criterion.h>

#include "policy/id_map.h"

static const struct {
	const char *what;
	const char *map;
	bool found;
	uint32_t id;
} maps[] = {
	{"the initial namespace", "         0          0 4294967295\n", true, 65534},
	{"a container", "0 100000 65536\n", true, 65534},
	{"a rootless container", "0 1000 1\n1 100000 65536\n", true, 65534},
	{"a small container", "0 1000 1\n1 100000 999\n", true, 999},
	{"ranges out of order", "1 100000 999\n0 1000 1\n", true, 999},
	{"ends just below nobody", "0 100000 65534\n", true, 65533},
	{"begins at nobody", "0 0 1\n65534 65534 1\n", true, 65534},
	{"unshare -r by a user", "         0       1001          1\n", false, 0},
	{"unshare -r by root", "         0          0          1\n", false, 0},
	{"no text: /proc is not there", "", true, 65534},
	{"not a map", "deny\n", true, 65534},
	{"cut short", "0 1001", true, 65534},
	{"a count of nothing", "0 1001 0\n", true, 65534},
	{"numbers beyond any id", "4294967295 0 4294967295\n", true, 65534},
	{"numbers beyond any number", "99999999999999999999999 0 1\n", true, 65534},
};

Test(id_map, picks_an_unprivileged_id)
{
	for (size_t i = 0; i < sizeof(maps) / sizeof(maps[0]); i++) {
		uint32_t id = 0;
		bool found = id_map_unprivileged(maps[i].map, &id);
		cr_expect_eq(found, maps[i].found, "%s", maps[i].what);
		cr_expect_eq(id, maps[i].id, "%s: %u", maps[i].what, id);
	}
}
