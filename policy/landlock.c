/*
 * Landlock with nothing allowed, or only reading. Runs in the broker and the front end. It limits
 * what an attacker can do who takes the process over later.
 */
#include "policy/landlock.h"

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
	GET_VERSION = 1 << 0,            /* LANDLOCK_CREATE_RULESET_VERSION */
	READ = 1 << 0 | 1 << 2 | 1 << 3, /* LANDLOCK_ACCESS_FS_EXECUTE, _READ_FILE, _READ_DIR */
};

/* The kernel's struct landlock_ruleset_attr, of which older headers know less. */
struct ruleset {
	uint64_t files;  /* denied rights to files */
	uint64_t net;    /* since version 4; not used: the front end connects TCP sockets */
	uint64_t scoped; /* since version 6: abstract AF_UNIX sockets, signals */
};

/* The rights to files that a version knows. It refuses others. */
static uint64_t file_rights(long version)
{
	static const uint8_t count[] = {13, 14, 15, 15, 16}; /* from version 1 on */
	const long last = sizeof(count) - 1;

	return (UINT64_C(1) << count[version - 1 < last ? version - 1 : last]) - 1;
}

static int enter(uint64_t allowed)
{
	long version = syscall(SYS_landlock_create_ruleset, NULL, 0, GET_VERSION);

	/* ENOSYS: not in the kernel; EOPNOTSUPP: not enabled at boot; EPERM: a container's system
	 * call filter. */
	if (version < 1)
		return errno == ENOSYS || errno == EOPNOTSUPP || errno == EPERM ? 0 : -1;

	/* A kernel accepts a longer structure than its own if the rest is 0. */
	const struct ruleset ruleset = {
		.files = file_rights(version) & ~allowed,
		.scoped = version >= 6 ? 3 : 0,
	};
	long fd = syscall(SYS_landlock_create_ruleset, &ruleset, sizeof(ruleset), 0);
	if (fd < 0)
		return -1;

	long entered = syscall(SYS_landlock_restrict_self, fd, 0);
	int error = errno;
	close((int)fd);
	errno = error;
	return (int)entered;
}

int landlock_enter(void)
{
	return enter(0);
}

int landlock_enter_read_only(void)
{
	return enter(READ);
}
