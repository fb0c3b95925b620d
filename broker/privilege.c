/*
 * Identity and capabilities of the broker: everything that the setuid bit, the file capability or a
 * privileged caller gave is given up, but CAP_NET_RAW where it is wanted. Runs in the privileged
 * process. What the kernel is asked to take away is read back: it, too, is only believed when it
 * says so twice.
 */
#include "policy/privilege.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "policy/id_map.h"

/* The capabilities in the kernel's own terms, asked and set by its own calls: no library stands
 * between, and they can be used after lock-down. All that matter here are in the first word; the
 * second is always set to 0, and so are the inheritable sets. */
struct capability_sets {
	struct __user_cap_data_struct word[_LINUX_CAPABILITY_U32S_3];
};

enum {
	NET_RAW = 1 << CAP_NET_RAW,
	SETPCAP = 1 << CAP_SETPCAP,
	/* Those that later steps need, if the caller has them at all: to change identity, and to
	 * clear the bounding set and lock the secure bits. */
	FOR_GIVING_UP = 1 << CAP_SETUID | 1 << CAP_SETGID | SETPCAP,
	/* A set has 64 bits. */
	CAPABILITIES_MAX = 64,
};

static bool capability_call(long number, struct capability_sets *sets)
{
	struct __user_cap_header_struct self = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};

	return syscall(number, &self, sets->word) == 0;
}

static bool read_sets(struct capability_sets *sets)
{
	/* What the kernel should not fill in counts as held. */
	memset(sets, 0xff, sizeof(*sets));
	return capability_call(SYS_capget, sets);
}

/* Whether these are the sets, and all others are empty. */
static bool are_just(const struct capability_sets *sets, uint32_t permitted, uint32_t effective)
{
	const struct capability_sets expected = {
		.word = {{.permitted = permitted, .effective = effective}},
	};

	return memcmp(sets, &expected, sizeof(expected)) == 0;
}

/* Without reading back. */
static bool set_sets(uint32_t permitted, uint32_t effective)
{
	struct capability_sets sets = {
		.word = {{.permitted = permitted, .effective = effective}},
	};

	return capability_call(SYS_capset, &sets);
}

/* With errno, if the kernel did not do just that. */
static bool change_sets(uint32_t permitted, uint32_t effective)
{
	struct capability_sets sets;

	if (!set_sets(permitted, effective) || !read_sets(&sets))
		return false;
	errno = EPERM;
	return are_just(&sets, permitted, effective);
}

/* Of the capabilities in `wanted`, those in the permitted set. If the kernel does not say, all:
 * the step that is to use or to lose them then fails. */
static uint32_t permitted_of(uint32_t wanted)
{
	struct capability_sets sets;

	return read_sets(&sets) ? sets.word[0].permitted & wanted : wanted;
}

bool privilege_raise_net_raw(struct step_failure *failure)
{
	struct capability_sets sets;

	if (!read_sets(&sets))
		return step_failed(failure, "read the capabilities", NULL);
	if ((sets.word[0].permitted & NET_RAW) == 0) {
		errno = EPERM;
		step_failed(
			failure, "raise CAP_NET_RAW, which is not in the permitted set",
			"the broker needs the file capability cap_net_raw=p or setuid root, no "
			"nosuid mount or no_new_privs before it, and in a container CAP_NET_RAW in "
			"the bounding set");
		failure->exit_status = STEP_NO_PERMISSION;
		return false;
	}
	if (!change_sets(sets.word[0].permitted & (NET_RAW | FOR_GIVING_UP), NET_RAW))
		return step_failed(failure, "raise CAP_NET_RAW", NULL);
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
	/* The kernel allows 340 ranges, and here is room for 31; those that matter come first in
	 * every map in use, and a map cut short can only lead to an id that is mapped, or to
	 * ID_NOBODY. */
	char map[1024];
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

/* The kernel's own calls: those of the C library would first see to other threads, of which there
 * are none. */
static bool become_user(uid_t uid)
{
	return syscall(SYS_setresuid, uid, uid, uid) == 0;
}

static bool become_group(gid_t gid)
{
	return syscall(SYS_setresgid, gid, gid, gid) == 0;
}

static bool change_identity(uid_t uid, gid_t gid, struct step_failure *failure)
{
	static const char remedy[] = "start it as an ordinary user, or as root with CAP_SETUID and "
				     "CAP_SETGID";

	/* The groups of a setuid process are already the caller's; dropping them takes from root,
	 * when root is the caller, what the group database gave to it. */
	if (getgroups(0, NULL) != 0 && setgroups(0, NULL) != 0 && !groups_are_the_callers())
		return step_failed(failure, "drop the supplementary groups", remedy);
	if (!become_group(gid))
		return step_failed(failure, "change to an unprivileged group", remedy);
	if (!become_user(uid))
		return step_failed(failure, "change to an unprivileged user", remedy);
	return true;
}

/* After a change from user 0, PR_SET_KEEPCAPS left the permitted set as it was and the effective
 * set empty. CAP_SETUID and CAP_SETGID have served now. */
static bool forget_setid_capabilities(uint32_t permitted, struct step_failure *failure)
{
	if (!change_sets(NET_RAW | (permitted & SETPCAP), 0))
		return step_failed(failure, "give up CAP_SETUID and CAP_SETGID", NULL);
	return true;
}

static bool identity_is(const struct identity *identity, uid_t uid, gid_t gid)
{
	return identity->real_uid == uid && identity->effective_uid == uid &&
	       identity->saved_uid == uid && identity->real_gid == gid &&
	       identity->effective_gid == gid && identity->saved_gid == gid;
}

static bool verify_identity(uid_t uid, gid_t gid, struct step_failure *failure)
{
	struct identity now;

	errno = EPERM;
	if (!read_identity(&now) || !identity_is(&now, uid, gid))
		return step_failed(failure, "find the identity changed", NULL);
	if ((uid != 0 && become_user(0)) || (gid != 0 && become_group(0))) {
		errno = EPERM;
		return step_failed(failure, "be unable to become root again", NULL);
	}
	return true;
}

/* Makes the capabilities effective that a change of identity needs, as far as they are permitted.
 */
static bool raise_setid_capabilities(uint32_t permitted, struct step_failure *failure)
{
	uint32_t held = NET_RAW | permitted;

	if (!change_sets(held, held))
		return step_failed(failure, "raise CAP_SETUID and CAP_SETGID", NULL);
	return true;
}

/* A group 0 that is the invoking user's own, and that no capability lets us leave, stays: it was
 * not given by the broker's file. (Containers run arbitrary users in group 0.) */
static bool keeps_own_group_0(const struct identity *identity, uint32_t permitted)
{
	return (permitted & 1 << CAP_SETGID) == 0 && identity->real_gid == 0 &&
	       identity->effective_gid == 0 && identity->saved_gid == 0;
}

bool privilege_give_up_identity(struct step_failure *failure)
{
	struct identity now;

	if (!read_identity(&now))
		return step_failed(failure, "read the identity", NULL);
	uint32_t permitted = permitted_of(FOR_GIVING_UP);
	uid_t uid = choose_id(now.real_uid, "/proc/self/uid_map");
	gid_t gid = keeps_own_group_0(&now, permitted)
			    ? 0
			    : choose_id(now.real_gid, "/proc/self/gid_map");

	if (!identity_is(&now, uid, gid) || (permitted & 1 << CAP_SETGID) != 0) {
		if (!raise_setid_capabilities(permitted, failure))
			return false;
		if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0)
			return step_failed(failure, "keep capabilities across the change of user",
					   NULL);
		if (!change_identity(uid, gid, failure))
			return false;
		if (prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) != 0)
			return step_failed(failure, "stop keeping capabilities", NULL);
	}
	return forget_setid_capabilities(permitted, failure) && verify_identity(uid, gid, failure);
}

/* No capability is ever gained again by being or becoming user 0, and none through the ambient set.
 */
enum {
	SECURE_BITS = SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP |
		      SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED |
		      SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED,
};

static bool drop_bounding_set(void)
{
	int result = 0;

	for (int capability = 0; capability < CAPABILITIES_MAX && result == 0; capability++)
		result = prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
	/* EINVAL: there are no more. */
	return result == 0 || errno == EINVAL;
}

static bool bounding_set_is_empty(void)
{
	int held = 0;

	for (int capability = 0; capability < CAPABILITIES_MAX && held == 0; capability++)
		held = prctl(PR_CAPBSET_READ, capability, 0, 0, 0);
	/* EINVAL: there are no more. */
	if (held == 0 || (held < 0 && errno == EINVAL))
		return true;
	errno = EPERM;
	return false;
}

/* What only CAP_SETPCAP may do: everything the process could regain is taken out of reach. */
static bool clear_bounding_set(struct step_failure *failure)
{
	if (!change_sets(NET_RAW | SETPCAP, SETPCAP))
		return step_failed(failure, "raise CAP_SETPCAP", NULL);
	if (!drop_bounding_set())
		return step_failed(failure, "clear the bounding set", NULL);
	/* Bits that the caller has set stay: one that is locked could not be cleared. */
	int bits = prctl(PR_GET_SECUREBITS, 0, 0, 0, 0);
	if (bits < 0 || prctl(PR_SET_SECUREBITS, bits | SECURE_BITS, 0, 0, 0) != 0)
		return step_failed(failure, "lock the secure bits", NULL);
	if (!bounding_set_is_empty())
		return step_failed(failure, "find the bounding set empty", NULL);
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

/* The kernel keeps the ambient set within the permitted and the inheritable one (capabilities(7)).
 * These have been read back: nothing is in both, and CAP_NET_RAW alone in either. */
static bool ambient_set_is_empty(void)
{
	errno = EPERM;
	return prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_NET_RAW, 0, 0) <= 0;
}

bool privilege_reduce_capabilities(bool keep_net_raw, struct step_failure *failure)
{
	uint32_t kept = keep_net_raw ? NET_RAW : 0;
	struct capability_sets sets;

	if (permitted_of(SETPCAP) != 0 && !clear_bounding_set(failure))
		return false;
	if (!clear_ambient_set(failure))
		return false;
	if (!set_sets(kept, 0))
		return step_failed(failure, "reduce the capabilities", NULL);
	if (!read_sets(&sets))
		return step_failed(failure, "read the capabilities back", NULL);
	errno = EPERM;
	if (!are_just(&sets, kept, 0))
		return step_failed(failure, "find the capabilities reduced", NULL);
	if (!ambient_set_is_empty())
		return step_failed(failure, "find the ambient set empty", NULL);
	return true;
}

bool privilege_mark_begin(void)
{
	return set_sets(NET_RAW, NET_RAW);
}

bool privilege_mark_end(void)
{
	return set_sets(NET_RAW, 0);
}
