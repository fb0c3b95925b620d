/*
 * Entering the sandbox of the front end. Runs in the front end, before it reads what others sent.
 */
#include "policy/sandbox.h"

#include <cap-ng.h>
#include <errno.h>
#include <grp.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "gen/filter_mtr_packet.h"
#include "gen/filter_names.h"
#include "gen/filter_tracepath.h"
#include "policy/landlock.h"
#include "policy/seccomp.h"

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

enum { NOBODY = 65534, NO_CAPABILITY = -1 };

/* Routing marks need CAP_NET_RAW since Linux 5.17; CAP_NET_ADMIN, which can do much else, is kept
 * only where the caller has no other. */
static int capability_for_marks(void)
{
	if (capng_have_capability(CAPNG_PERMITTED, CAP_NET_RAW))
		return CAP_NET_RAW;
	return capng_have_capability(CAPNG_PERMITTED, CAP_NET_ADMIN) ? CAP_NET_ADMIN
								     : NO_CAPABILITY;
}

/* Only a process that holds CAP_SETPCAP can. Another one can start no program that would get any of
 * these capabilities, because of no_new_privs. */
static bool clear_bounding_set(void)
{
	if (capng_get_caps_process() != 0)
		return false;
	if (!capng_have_capability(CAPNG_EFFECTIVE, CAP_SETPCAP))
		return true;
	capng_clear(CAPNG_SELECT_BOUNDS);
	return capng_apply(CAPNG_SELECT_BOUNDS) == 0;
}

/* From every set. The ambient set follows the inheritable one. */
static bool drop_capabilities(bool keep_marks)
{
	if (capng_get_caps_process() != 0)
		return false;

	int kept = keep_marks ? capability_for_marks() : NO_CAPABILITY;
	capng_clear(CAPNG_SELECT_CAPS);
	if (kept != NO_CAPABILITY &&
	    capng_update(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED, (unsigned)kept) != 0)
		return false;
	if (capng_apply(CAPNG_SELECT_CAPS) != 0)
		return false;

	/* Read back: nothing is left but the one. */
	if (capng_get_caps_process() != 0)
		return false;
	if (kept != NO_CAPABILITY &&
	    capng_update(CAPNG_DROP, CAPNG_EFFECTIVE | CAPNG_PERMITTED, (unsigned)kept) != 0)
		return false;
	return capng_have_permitted_capabilities() == CAPNG_NONE;
}

static int enter(bool keep_marks, int (*landlock)(void), const struct sock_filter *filter,
		 size_t length)
{
	if (!clear_bounding_set() || !drop_capabilities(keep_marks)) {
		errno = EPERM;
		return -1;
	}
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || landlock() != 0)
		return -1;
	return SANITIZED ? 0 : seccomp_enter(filter, length);
}

#define FILTER(name) filter_##name, sizeof(filter_##name) / sizeof(filter_##name[0])

int sandbox_mtr_packet(void)
{
	return enter(true, landlock_enter, FILTER(mtr_packet));
}

int sandbox_tracepath(void)
{
	return enter(false, landlock_enter, FILTER(tracepath));
}

static bool done_or_not_allowed(int result)
{
	return result == 0 || errno == EPERM || errno == EINVAL;
}

/* Each as far as root holds the capability for it (EPERM) and its user namespace has such an id
 * (EINVAL): without, it was given nothing that its user lacks. */
static bool become_nobody(void)
{
	if (geteuid() != 0)
		return true;
	bool may_set_user =
		capng_get_caps_process() == 0 && capng_have_capability(CAPNG_EFFECTIVE, CAP_SETUID);

	if (!done_or_not_allowed(setgroups(0, NULL)) ||
	    !done_or_not_allowed(setresgid(NOBODY, NOBODY, NOBODY)))
		return false;
	if (setresuid(NOBODY, NOBODY, NOBODY) == 0)
		return geteuid() == NOBODY;
	return errno == EINVAL || (errno == EPERM && !may_set_user);
}

int sandbox_names(void)
{
	/* In this order: the change of user takes CAP_SETPCAP away. */
	if (!clear_bounding_set() || !become_nobody())
		return -1;
	return enter(false, landlock_enter_read_only, FILTER(names));
}
