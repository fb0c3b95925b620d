/*
 * What a user namespace's map of user or group ids allows. Used by the broker to find an identity
 * it can change to, and to prove that there is none.
 */
#ifndef POSTERN_POLICY_ID_MAP_H
#define POSTERN_POLICY_ID_MAP_H

#include <stdbool.h>
#include <stdint.h>

enum {
	ID_NOBODY = 65534, /* the unprivileged id that every distribution has */
};

/* Finds in the text of /proc/self/uid_map or gid_map an id other than 0: ID_NOBODY where it is
 * mapped, otherwise the highest one. False if the map holds id 0 alone: then nobody in this
 * namespace can be anything but what the namespace's owner is, and there is nothing to change to. A
 * map that cannot be understood yields ID_NOBODY: trying it then fails closed. */
bool id_map_unprivileged(const char *map, uint32_t *id);

#endif
