/*
 * The steps by which the broker gives up everything it does not need, in the order in which its
 * start calls them. They run in the privileged process and distrust whoever started it:
 * environment, descriptors, limits, signals, and identity are the caller's to choose.
 *
 * Each returns true, or false with *failure filled in: the broker then says so and ends. None
 * leaves a step half done and goes on.
 *
 *      privilege_sanitise          first of all
 *      privilege_raise_net_raw     then the sockets are opened, filtered and drained
 *      privilege_give_up_identity
 *      privilege_reduce_capabilities
 *      privilege_limits            limits, no_new_privs, Landlock
 *      seccomp_enter_broker        last; then the hello
 */
#ifndef POSTERN_POLICY_PRIVILEGE_H
#define POSTERN_POLICY_PRIVILEGE_H

#include <stdbool.h>

#include "policy/step.h"

/* Makes the process independent of what it inherited: signals (SIGTERM ends it, all others that can
 * be are blocked), timers, umask, environment, working directory, descriptors (0 must be open, 1
 * becomes /dev/null, 2 too if it was closed, all others are closed), not dumpable, no core file.
 * The soft limit of descriptors is raised to `descriptors`, or the step fails where the hard limit
 * is below. */
bool privilege_sanitise(unsigned descriptors, struct step_failure *failure);

/* Makes CAP_NET_RAW effective and forgets all capabilities that no later step needs. Without it in
 * the permitted set the broker can serve nothing: exit status 77. */
bool privilege_raise_net_raw(struct step_failure *failure);

/* Leaves user and group 0, and every identity that a setuid or setgid bit gave: to the invoking
 * user's, or to 65534 when root itself is the invoking user. Reads the result back and tries to
 * return. */
bool privilege_give_up_identity(struct step_failure *failure);

/* Permitted becomes CAP_NET_RAW alone (`keep_net_raw`, for per-packet routing marks) or nothing;
 * effective, inheritable and ambient become empty; the bounding set too, and the secure bits are
 * locked, where CAP_SETPCAP was held. All of it is read back. */
bool privilege_reduce_capabilities(bool keep_net_raw, struct step_failure *failure);

/* Not dumpable (again: a change of identity resets it), resource limits, no_new_privs, Landlock
 * where the kernel has it. `polled` is the most descriptors ever passed to ppoll(2) at once: the
 * limit of open files cannot go below, since the kernel compares the two. No descriptor can be
 * opened afterwards. */
bool privilege_limits(unsigned polled, struct step_failure *failure);

/* Installs the system-call filter of policy/filter/table_broker.c. */
bool seccomp_enter_broker(struct step_failure *failure);

/* Around a sendmsg or sendmmsg that carries an SO_MARK control message: the kernel asks for an
 * *effective* CAP_NET_RAW on each send, and the broker keeps it permitted only. Two capset(2)
 * calls, so use them around batches that do carry marks. False with errno set if the capability was
 * dropped. */
bool privilege_mark_begin(void);
bool privilege_mark_end(void);

#endif
