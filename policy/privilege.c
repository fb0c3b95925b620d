/*
 * Identity and capabilities of the broker: everything that the setuid bit, the file capability or a
 * privileged caller gave is given up, but CAP_NET_RAW where it is wanted. Runs in the privileged
 * process. What the kernel is asked to take away is read back: it, too, is only believed when it
 * says so twice.
 */
#include "policy/privilege.h"

#include <cap-ng.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/securebits.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "policy/id_map.h"

/* Capabilities that later steps need, if the caller has them at all: to change identity, and to
 * clear the bounding set and lock the secure bits. */
static const unsigned for_giving_up[] = {CAP_SETUID, CAP_SETGID, CAP_SETPCAP};
enum { FOR_GIVING_UP = sizeof(for_giving_up) / sizeof(for_giving_up[0]) };

static bool permitted(unsigned capability)
{
	return capng_have_capability(CAPNG_PERMITTED, capability) != 0;
}

/* libcap-ng tells apart its failures by number, not by errno. */
static bool capng_failed(struct step_failure *failure, const char *step)
{
	if (errno == 0)
		errno = EPERM;
	return step_failed(failure, step, NULL);
}

static bool add(unsigned type, unsigned capability)
{
	return capng_update(CAPNG_ADD, (capng_type_t)type, capability) == 0;
}

static bool apply(capng_select_t set)
{
	errno = 0;
	return capng_apply(set) == CAPNG_NONE;
}

bool privilege_raise_net_raw(struct step_failure *failure)
{
	bool keep[FOR_GIVING_UP];

	errno = 0;
	if (capng_get_caps_process() != 0)
		return capng_failed(failure, "read the capabilities");
	if (!permitted(CAP_NET_RAW)) {
		errno = EPERM;
		step_failed(
			failure, "raise CAP_NET_RAW, which is not in the permitted set",
			"the broker needs the file capability cap_net_raw=p or setuid root, no "
			"nosuid mount or no_new_privs before it, and in a container CAP_NET_RAW in "
			"the bounding set");
		failure->exit_status = STEP_NO_PERMISSION;
		return false;
	}
	for (size_t i = 0; i < FOR_GIVING_UP; i++)
		keep[i] = permitted(for_giving_up[i]);
	capng_clear(CAPNG_SELECT_CAPS);
	bool complete = add(CAPNG_PERMITTED | CAPNG_EFFECTIVE, CAP_NET_RAW);
	for (size_t i = 0; i < FOR_GIVING_UP; i++)
		if (keep[i])
			complete = add(CAPNG_PERMITTED, for_giving_up[i]) && complete;
	if (!complete || !apply(CAPNG_SELECT_CAPS))
		return capng_failed(failure, "raise CAP_NET_RAW");
	return true;
}

struct identity {
	uid_t real_uid, effective_uid, saved_uid;
	gid_t real_gid, effective_gid, saved_gid;
};

static bool read_identity(struct identity *identity)
{
	return getresuid(&identity->real_uid, &identity->effective_uid, &identity->saved_uid) ==
		       0 &&
	       getresgid(&identity->real_gid, &identity->effective_gid, &identity->saved_gid) == 0;
}

/* The text of a small file in /proc; empty if there is none. */
static void read_text(const char *path, char *text, size_t size)
{
	ssize_t length = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd >= 0) {
		length = read(fd, text, size - 1);
		(void)close(fd); /* nothing was written */
	}
	text[length > 0 ? length : 0] = '\0';
}

/* The id to be from now on: the invoking user's, or in place of 0 an unprivileged one, as far as
 * this user namespace has one. */
static uint32_t choose_id(uint32_t real, const char *map_path)
{
	/* The kernel allows 340 ranges; those that matter come first in every map in use, and a map
	 * cut short can only lead to an id that is mapped, or to ID_NOBODY. */
	char map[4096];
	uint32_t id;

	if (real != 0)
		return real;
	read_text(map_path, map, sizeof(map));
	return id_map_unprivileged(map, &id) ? id : 0;
}

/* True if the supplementary groups may stay because nobody in this user namespace may change them:
 * its owner was an ordinary user, and so they are that user's own. */
static bool groups_are_the_callers(void)
{
	char state[16];

	read_text("/proc/self/setgroups", state, sizeof(state));
	return strncmp(state, "deny", 4) == 0;
}

static bool change_identity(uid_t uid, gid_t gid, struct step_failure *failure)
{
	static const char remedy[] = "start it as an ordinary user, or as root with CAP_SETUID and "
				     "CAP_SETGID";

	/* The groups of a setuid process are already the caller's; dropping them takes from root,
	 * when root is the caller, what the group database gave to it. */
	if (getgroups(0, NULL) != 0 && setgroups(0, NULL) != 0 && !groups_are_the_callers())
		return step_failed(failure, "drop the supplementary groups", remedy);
	if (setresgid(gid, gid, gid) != 0)
		return step_failed(failure, "change to an unprivileged group", remedy);
	if (setresuid(uid, uid, uid) != 0)
		return step_failed(failure, "change to an unprivileged user", remedy);
	return true;
}

/* After a change from user 0, PR_SET_KEEPCAPS left the permitted set as it was and the effective
 * set empty. CAP_SETUID and CAP_SETGID have served now. */
static bool forget_setid_capabilities(struct step_failure *failure)
{
	bool setpcap = permitted(CAP_SETPCAP);
	capng_clear(CAPNG_SELECT_CAPS);
	if (!add(CAPNG_PERMITTED, CAP_NET_RAW) || (setpcap && !add(CAPNG_PERMITTED, CAP_SETPCAP)) ||
	    !apply(CAPNG_SELECT_CAPS))
		return capng_failed(failure, "give up CAP_SETUID and CAP_SETGID");
	return true;
}

static bool identity_is(uid_t uid, gid_t gid)
{
	struct identity now;

	return read_identity(&now) && now.real_uid == uid && now.effective_uid == uid &&
	       now.saved_uid == uid && now.real_gid == gid && now.effective_gid == gid &&
	       now.saved_gid == gid;
}

static bool verify_identity(uid_t uid, gid_t gid, struct step_failure *failure)
{
	errno = EPERM;
	if (!identity_is(uid, gid))
		return step_failed(failure, "find the identity changed", NULL);
	if ((uid != 0 && setresuid(0, 0, 0) == 0) || (gid != 0 && setresgid(0, 0, 0) == 0)) {
		errno = EPERM;
		return step_failed(failure, "be unable to become root again", NULL);
	}
	return true;
}

/* Makes the capabilities effective that a change of identity needs, as far as they are permitted.
 */
static bool raise_setid_capabilities(struct step_failure *failure)
{
	bool complete = true;

	for (size_t i = 0; i < FOR_GIVING_UP; i++)
		if (permitted(for_giving_up[i]))
			complete = add(CAPNG_EFFECTIVE, for_giving_up[i]) && complete;
	if (!complete || !apply(CAPNG_SELECT_CAPS))
		return capng_failed(failure, "raise CAP_SETUID and CAP_SETGID");
	return true;
}

/* A group 0 that is the invoking user's own, and that no capability lets us leave, stays: it was
 * not given by the broker's file. (Containers run arbitrary users in group 0.) */
static bool keeps_own_group_0(const struct identity *identity)
{
	return !permitted(CAP_SETGID) && identity->real_gid == 0 && identity->effective_gid == 0 &&
	       identity->saved_gid == 0;
}

bool privilege_give_up_identity(struct step_failure *failure)
{
	struct identity now;

	if (!read_identity(&now))
		return step_failed(failure, "read the identity", NULL);
	uid_t uid = choose_id(now.real_uid, "/proc/self/uid_map");
	gid_t gid = keeps_own_group_0(&now) ? 0 : choose_id(now.real_gid, "/proc/self/gid_map");

	if (!identity_is(uid, gid) || permitted(CAP_SETGID)) {
		if (!raise_setid_capabilities(failure))
			return false;
		if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0)
			return step_failed(failure, "keep capabilities across the change of user",
					   NULL);
		if (!change_identity(uid, gid, failure))
			return false;
		if (prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) != 0)
			return step_failed(failure, "stop keeping capabilities", NULL);
	}
	return forget_setid_capabilities(failure) && verify_identity(uid, gid, failure);
}

/* No capability is ever gained again by being or becoming user 0, and none through the ambient set.
 */
enum {
	SECURE_BITS = SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP |
		      SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED |
		      SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED,
};

/* What only CAP_SETPCAP may do: everything the process could regain is taken out of reach. */
static bool clear_bounding_set(struct step_failure *failure)
{
	errno = 0;
	if (!add(CAPNG_EFFECTIVE, CAP_SETPCAP) || !apply(CAPNG_SELECT_CAPS))
		return capng_failed(failure, "raise CAP_SETPCAP");
	capng_clear(CAPNG_SELECT_BOUNDS);
	if (!apply(CAPNG_SELECT_BOUNDS))
		return capng_failed(failure, "clear the bounding set");
	/* Bits that the caller has set stay: one that is locked could not be cleared. */
	int bits = prctl(PR_GET_SECUREBITS, 0, 0, 0, 0);
	if (bits < 0 || prctl(PR_SET_SECUREBITS, bits | SECURE_BITS, 0, 0, 0) != 0)
		return step_failed(failure, "lock the secure bits", NULL);
	int held = 0;
	for (int capability = 0; held == 0; capability++)
		held = prctl(PR_CAPBSET_READ, capability, 0, 0, 0); /* -1 behind the last one */
	if (held > 0) {
		errno = EPERM;
		return step_failed(failure, "find the bounding set empty", NULL);
	}
	if ((prctl(PR_GET_SECUREBITS, 0, 0, 0, 0) & SECURE_BITS) != SECURE_BITS) {
		errno = EPERM;
		return step_failed(failure, "find the secure bits locked", NULL);
	}
	return true;
}

static bool clear_ambient_set(struct step_failure *failure)
{
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) == 0)
		return true;
	/* Kernels before 4.3 have no ambient set. */
	return errno == EINVAL || step_failed(failure, "clear the ambient set", NULL);
}

/* One call each way, in the kernel's own terms: usable after lock-down, and independent of
 * libcap-ng when its work is checked. */
struct capability_sets {
	struct __user_cap_data_struct word[_LINUX_CAPABILITY_U32S_3];
};

static bool capability_call(long number, struct capability_sets *sets)
{
	struct __user_cap_header_struct self = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};

	return syscall(number, &self, sets->word) == 0;
}

static bool sets_are(uint32_t permitted_low, struct step_failure *failure)
{
	struct capability_sets sets;
	const struct capability_sets expected = {.word = {{.permitted = permitted_low}}};

	memset(&sets, 0xff, sizeof(sets));
	if (!capability_call(SYS_capget, &sets))
		return step_failed(failure, "read the capabilities back", NULL);
	errno = EPERM;
	if (memcmp(&sets, &expected, sizeof(sets)) != 0)
		return step_failed(failure, "find the capabilities reduced", NULL);
	for (int capability = 0; capability <= CAP_LAST_CAP; capability++)
		if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, capability, 0, 0) > 0)
			return step_failed(failure, "find the ambient set empty", NULL);
	return true;
}

static const uint32_t net_raw_bit = 1u << CAP_NET_RAW;

bool privilege_reduce_capabilities(bool keep_net_raw, struct step_failure *failure)
{
	if (permitted(CAP_SETPCAP) && !clear_bounding_set(failure))
		return false;
	if (!clear_ambient_set(failure))
		return false;
	capng_clear(CAPNG_SELECT_CAPS);
	if ((keep_net_raw && !add(CAPNG_PERMITTED, CAP_NET_RAW)) || !apply(CAPNG_SELECT_CAPS))
		return capng_failed(failure, "reduce the capabilities");
	return sets_are(keep_net_raw ? net_raw_bit : 0, failure);
}

static bool set_effective(uint32_t effective_low)
{
	struct capability_sets sets = {
		.word = {{.permitted = net_raw_bit, .effective = effective_low}},
	};

	return capability_call(SYS_capset, &sets);
}

bool privilege_mark_begin(void)
{
	return set_effective(net_raw_bit);
}

bool privilege_mark_end(void)
{
	return set_effective(0);
}
