/*
 * Installs a system-call filter that mkfilter made (gen/filter_NAME.h). Runs in the broker as the
 * last step of its start-up and in the front end once everything is open. no_new_privs must be set.
 */
#ifndef POSTERN_POLICY_SECCOMP_H
#define POSTERN_POLICY_SECCOMP_H

#include <linux/filter.h>
#include <stddef.h>

/* 0, or -1 with errno: EINVAL if the kernel has no CONFIG_SECCOMP_FILTER. `length` counts
 * instructions. The filter holds for this thread and what it starts. */
int seccomp_enter(const struct sock_filter *filter, size_t length);

#endif
