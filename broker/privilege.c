/*
 * Gives up what the setuid bit, the file capability or a privileged caller gave, by libcap-ng. Runs
 * in the privileged broker while it starts. What the kernel took away is read back.
 *
 * libcap-ng is asked for nothing that this process cannot do, since it would write to syslog then.
 */
#include "broker/privilege.h"

#include <cap-ng.h>
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "broker/fatal.h"

#define BIT(capability) (UINT32_C(1) << (capability))

/* The build has MARKS=1. */
#ifdef POSTERN_MARKS_FOR_ALL
#define MARKS_FOR_ALL true
#else
#define MARKS_FOR_ALL false
#endif

enum {
	/* User and group "nobody" of Linux. No user database is read to find it. */
	NOBODY = 65534,
	/* Bits of a capability set. */
	CAPABILITIES_MAX = 64,
};

static bool marks_allowed;
static bool bounding_set_cleared;

static bool is_held(capng_type_t set, unsigned capability)
{
	return capng_have_capability(set, capability) == 1;
}

static void read_capabilities(void)
{
	if (capng_get_caps_process() != 0)
		fatal(FATAL_SYSTEM, "read the capabilities", errno, NULL);
}

/* Of `capabilities`, those that libcap-ng's sets have as permitted. */
static uint32_t permitted(uint32_t capabilities)
{
	uint32_t found = 0;

	for (unsigned capability = 0; capability < 32; capability++)
		if ((capabilities & BIT(capability)) != 0 && is_held(CAPNG_PERMITTED, capability))
			found |= BIT(capability);
	return found;
}

/* Writes them to the sets of libcap-ng: permitted and effective, nothing inheritable. */
static void choose(uint32_t capabilities)
{
	capng_clear(CAPNG_SELECT_BOTH);
	for (unsigned capability = 0; capability < 32; capability++)
		if ((capabilities & BIT(capability)) != 0 &&
		    capng_update(CAPNG_ADD, CAPNG_PERMITTED | CAPNG_EFFECTIVE, capability) != 0)
			fatal(FATAL_SYSTEM, "choose capabilities", EINVAL, NULL);
}

/* The kernel empties the ambient set with the inheritable one (capabilities(7)). */
static void hold_only(uint32_t capabilities)
{
	choose(capabilities);
	if (capng_apply(CAPNG_SELECT_CAPS) != 0)
		fatal(FATAL_SYSTEM, "reduce the capabilities", errno, NULL);
}

/* Says what withholds the capability, if that can be told. */
static _Noreturn void end_without_net_raw(void)
{
	const char *remedy = "the file needs: setcap cap_net_raw=p; no nosuid mount";

	if (prctl(PR_CAPBSET_READ, CAP_NET_RAW, 0, 0, 0) == 0)
		remedy = "the container or service withholds it: it is not in the bounding set";
	else if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1)
		remedy = "no_new_privs was set by the caller: the file cannot give it";
	fatal(FATAL_NO_PRIVILEGE, "CAP_NET_RAW is not held", 0, remedy);
}

/* A change of user sets the dumpable flag to fs.suid_dumpable. */
static void become_not_dumpable_again(void)
{
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
		fatal(FATAL_SYSTEM, "become not dumpable again", errno, NULL);
}

/* A process may return to its real ids without a capability. */
static void return_to_real_ids(void)
{
	uid_t uid = getuid();
	gid_t gid = getgid();

	if (geteuid() == uid && getegid() == gid)
		return;
	if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0 || setresgid(gid, gid, gid) != 0 ||
	    setresuid(uid, uid, uid) != 0 || prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) != 0)
		fatal(FATAL_SYSTEM, "become the invoking user", errno, NULL);
	become_not_dumpable_again();
}

void privilege_become_invoker(void)
{
	const uint32_t to_leave_root = BIT(CAP_SETUID) | BIT(CAP_SETGID);

	read_capabilities();
	if (!is_held(CAPNG_PERMITTED, CAP_NET_RAW))
		end_without_net_raw();
	marks_allowed = MARKS_FOR_ALL || getuid() == 0 || is_held(CAPNG_INHERITABLE, CAP_NET_RAW) ||
			is_held(CAPNG_INHERITABLE, CAP_NET_ADMIN);
	uint32_t held = permitted(BIT(CAP_NET_RAW) | BIT(CAP_SETPCAP) | to_leave_root);

	return_to_real_ids();
	hold_only(held);
	if ((held & BIT(CAP_SETPCAP)) != 0) {
		if (capng_apply(CAPNG_SELECT_BOUNDS) != 0)
			fatal(FATAL_SYSTEM, "clear the bounding set", errno, NULL);
		bounding_set_cleared = true;
	}
	hold_only(held & (BIT(CAP_NET_RAW) | (getuid() == 0 ? to_leave_root : 0)));
}

bool privilege_may_mark(void)
{
	return marks_allowed;
}

/* Root of a user namespace may have no other user there: the kernel then refuses the saved id. */
static void leave_root(uint32_t kept, uid_t *uid, gid_t *gid)
{
	bool can_change_group = permitted(BIT(CAP_SETGID)) != 0;

	if (permitted(BIT(CAP_SETUID)) == 0 ||
	    (setresuid((uid_t)-1, (uid_t)-1, NOBODY) != 0 && errno == EINVAL))
		return;
	choose(kept);
	/* Keeps the chosen capabilities across the change and drops the two that it needs. */
	if (capng_change_id(NOBODY, can_change_group ? NOBODY : -1, CAPNG_DROP_SUPP_GRP) != 0)
		fatal(FATAL_SYSTEM, "become user and group 65534", errno, NULL);
	if (can_change_group && getgroups(0, NULL) != 0)
		fatal(FATAL_SYSTEM, "the supplementary groups were not dropped", 0, NULL);
	become_not_dumpable_again();
	*uid = NOBODY;
	if (can_change_group)
		*gid = NOBODY;
}

static void check_ids(uid_t uid, gid_t gid)
{
	uid_t real, effective, saved;
	gid_t real_gid, effective_gid, saved_gid;

	if (getresuid(&real, &effective, &saved) != 0 || real != uid || effective != uid ||
	    saved != uid)
		fatal(FATAL_SYSTEM, "the user was not changed", 0, NULL);
	if (getresgid(&real_gid, &effective_gid, &saved_gid) != 0 || real_gid != gid ||
	    effective_gid != gid || saved_gid != gid)
		fatal(FATAL_SYSTEM, "the group was not changed", 0, NULL);
	if (uid != 0 && setresuid(0, 0, 0) == 0)
		fatal(FATAL_SYSTEM, "the process can become root again", 0, NULL);
}

/* The result of prctl(2) about one capability of a set. One that the kernel does not know is in
 * none. */
static bool is_set(int result)
{
	if (result < 0 && errno != EINVAL)
		fatal(FATAL_SYSTEM, "read back the capabilities", errno, NULL);
	return result > 0;
}

static void check_capabilities(uint32_t kept)
{
	read_capabilities();
	for (unsigned capability = 0; capability < CAPABILITIES_MAX; capability++) {
		bool expected = capability < 32 && (kept & BIT(capability)) != 0;
		if (is_held(CAPNG_PERMITTED, capability) != expected ||
		    is_held(CAPNG_EFFECTIVE, capability) != expected ||
		    is_held(CAPNG_INHERITABLE, capability) ||
		    is_set(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, capability, 0, 0)))
			fatal(FATAL_SYSTEM, "the capabilities were not reduced", 0, NULL);
		/* Not by libcap-ng: /proc may be that of another process id namespace. */
		if (bounding_set_cleared && is_set(prctl(PR_CAPBSET_READ, capability, 0, 0, 0)))
			fatal(FATAL_SYSTEM, "the bounding set was not cleared", 0, NULL);
	}
}

void privilege_give_up(bool keep_net_raw)
{
	uint32_t kept = keep_net_raw ? BIT(CAP_NET_RAW) : 0;
	uid_t uid = getuid();
	gid_t gid = getgid();

	if (uid == 0)
		leave_root(kept, &uid, &gid);
	hold_only(kept);
	check_ids(uid, gid);
	check_capabilities(kept);
}
