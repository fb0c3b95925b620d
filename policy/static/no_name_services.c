/*
 * Part of the broker only. libcap-ng's one object also holds capng_change_id(), which looks users
 * up by name; linked statically it would bring the C library's name services (and their run-time
 * loading of shared objects) into the privileged program. The broker never calls that function:
 * these two definitions take the place of what it refers to, and fail whoever should call them
 * after all.
 */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stddef.h>

int initgroups(const char *user, gid_t group)
{
	(void)user;
	(void)group;
	errno = ENOSYS;
	return -1;
}

struct passwd *getpwuid(uid_t uid)
{
	(void)uid;
	errno = ENOSYS;
	return NULL;
}
