/*
 * Limits, Landlock and the system-call filter. Runs in the broker as the end of its start-up,
 * before it reads the first byte that others sent.
 */
#include "broker/lockdown.h"

#include <errno.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "broker/fatal.h"
#include "gen/filter_broker.h"
#include "policy/descriptors.h"
#include "policy/landlock.h"
#include "policy/seccomp.h"

void lockdown(void)
{
	const struct rlimit none = {0, 0};
	/* All numbers below are in use, so that there can be no new one; ppoll needs as many as it
	 * has entries. */
	const struct rlimit all_in_use = {DESC_COUNT, DESC_COUNT};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		fatal(FATAL_SYSTEM, "set no_new_privs", errno, NULL);
	if (landlock_enter() != 0)
		fatal(FATAL_SYSTEM, "enter Landlock", errno, NULL);
	/* After Landlock, which needs a descriptor for a moment. */
	if (setrlimit(RLIMIT_NPROC, &none) != 0 || setrlimit(RLIMIT_NOFILE, &all_in_use) != 0)
		fatal(FATAL_SYSTEM, "lower a resource limit", errno, NULL);
	if (seccomp_enter(filter_broker, sizeof(filter_broker) / sizeof(filter_broker[0])) != 0)
		fatal(FATAL_SYSTEM, "enter the system-call filter", errno,
		      "the kernel needs CONFIG_SECCOMP_FILTER");
}
