/*
 * The last steps before the system-call filter: resource limits, no_new_privs, and Landlock. Runs
 * in the broker with its identity and capabilities already gone; from here on it distrusts itself.
 */
#include "policy/privilege.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "gen/filter_broker.h"

#ifdef __GLIBC__
typedef __rlimit_resource_t resource_number;
#else
typedef int resource_number;
#endif

/* Everything is 0 that the filter forbids anyway: two locks are better than one. Not limited: the
 * size of files, since stderr may be one and the last line must not end in SIGXFSZ; and memory,
 * since after start-up there is no way to ask for more. */
static const resource_number limited_to_0[] = {
	RLIMIT_CORE,       /* again, for what a debugger could have changed before */
	RLIMIT_NPROC,      /* no process, no thread */
	RLIMIT_MEMLOCK,    /* no locked memory */
	RLIMIT_MSGQUEUE,   /* no message queue */
	RLIMIT_SIGPENDING, /* no queued signal */
	RLIMIT_RTPRIO,     /* no real-time priority */
	RLIMIT_NICE,       /* no better priority */
};

static bool limit(resource_number resource, rlim_t value, struct step_failure *failure)
{
	const struct rlimit both = {value, value};

	return setrlimit(resource, &both) == 0 ||
	       step_failed(failure, "lower a resource limit", NULL);
}

/* The kernel's interface to Landlock, of which our headers may know an older version. All rights of
 * a version are handled and no rule allows any of them. */
struct landlock_attributes {
	uint64_t files;  /* rights to files, since version 1 */
	uint64_t net;    /* TCP bind and connect, since version 4: what has no such right, like the
			    bind of a UDP socket, is not touched */
	uint64_t scoped; /* abstract AF_UNIX sockets and signals, since version 6 */
};

enum {
	LANDLOCK_VERSION_FLAG = 1 << 0,
};

static struct landlock_attributes landlock_everything(long version)
{
	/* Number of file rights by version, from 1 on: the thirteen of the first, then REFER,
	 * TRUNCATE, (4 is about the network,) IOCTL_DEV. */
	static const uint8_t file_rights[] = {0, 13, 14, 15, 15, 16};
	long known = version < 5 ? version : 5;

	return (struct landlock_attributes){
		.files = (UINT64_C(1) << file_rights[known]) - 1,
		.net = version >= 4 ? 3 : 0,
		.scoped = version >= 6 ? 3 : 0,
	};
}

/* Absent is fine: nothing here depends on it. ENOSYS: not in the kernel; EOPNOTSUPP: not switched
 * on; EPERM: a container's filter that predates it, since the kernel itself never answers this
 * question so. */
static bool enter_landlock(struct step_failure *failure)
{
	long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_VERSION_FLAG);

	if (version < 1)
		return errno == ENOSYS || errno == EOPNOTSUPP || errno == EPERM ||
		       step_failed(failure, "ask for the version of Landlock", NULL);

	struct landlock_attributes everything = landlock_everything(version);
	long ruleset = syscall(SYS_landlock_create_ruleset, &everything, sizeof(everything), 0);
	if (ruleset < 0)
		return step_failed(failure, "make a Landlock ruleset", NULL);
	if (syscall(SYS_landlock_restrict_self, ruleset, 0) != 0)
		return step_failed(failure, "enter Landlock", NULL);
	if (close((int)ruleset) != 0)
		return step_failed(failure, "close the Landlock ruleset", NULL);
	return true;
}

bool privilege_limits(unsigned polled, struct step_failure *failure)
{
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 || prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0)
		return step_failed(failure, "become not dumpable again", NULL);
	for (size_t i = 0; i < sizeof(limited_to_0) / sizeof(limited_to_0[0]); i++)
		if (!limit(limited_to_0[i], 0, failure))
			return false;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return step_failed(failure, "set no_new_privs", NULL);
	if (!enter_landlock(failure))
		return false;
	/* Last, because Landlock's ruleset needed a descriptor. */
	return limit(RLIMIT_NOFILE, polled, failure);
}

bool seccomp_enter_broker(struct step_failure *failure)
{
	static const struct sock_fprog program = {
		.len = sizeof(filter_broker) / sizeof(filter_broker[0]),
		.filter = (struct sock_filter *)filter_broker,
	};

	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0)
		return step_failed(failure, "enter the system-call filter",
				   "the kernel needs CONFIG_SECCOMP_FILTER");
	return true;
}
