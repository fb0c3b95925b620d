/*
 * Giving up identity and capabilities, from the privilege that there is: as root, or as the root of
 * a user namespace that the test makes. What the real broker has left in every way of starting it
 * is read from outside by tests/hostile/.
 */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "broker/fatal.h"
#include "broker/privilege.h"
#include "tests/support/sandbox.h"

enum {
	GOOD = 42,
	CANNOT = 77, /* no privilege to give up, and no user namespaces */
};

static bool write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool written = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return written;
}

/* Root of a user namespace that has user 0 alone. */
static bool become_namespace_root(void)
{
	char map[32];
	uid_t uid = geteuid();
	gid_t gid = getegid();

	if (unshare(CLONE_NEWUSER) != 0 || !write_text("/proc/self/setgroups", "deny"))
		return false;
	snprintf(map, sizeof(map), "0 %u 1", uid);
	if (!write_text("/proc/self/uid_map", map))
		return false;
	snprintf(map, sizeof(map), "0 %u 1", gid);
	return write_text("/proc/self/gid_map", map);
}

struct way {
	const char *what;
	uid_t real_uid; /* with effective user 0, as a setuid file leaves it */
	gid_t real_gid;
	uint32_t permitted; /* at the start */
	uint32_t inheritable;
	bool keep_net_raw;
	uid_t uid; /* in the end */
	gid_t gid;
	size_t groups;
	bool may_mark;
};

enum { ALL = -1 };

#define BIT(capability) (1u << (capability))

static bool set_capabilities(uint32_t permitted, uint32_t inheritable)
{
	struct __user_cap_header_struct self = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {
		{.permitted = permitted, .inheritable = inheritable}};

	return syscall(SYS_capset, &self, data) == 0;
}

static bool capabilities_are(uint32_t expected)
{
	struct __user_cap_header_struct self = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	return syscall(SYS_capget, &self, data) == 0 && data[0].permitted == expected &&
	       data[0].effective == expected && data[0].inheritable == 0 &&
	       data[1].permitted == 0 && data[1].effective == 0 && data[1].inheritable == 0;
}

/* Of the capabilities that the kernel has. */
static bool bounding_set_is_empty(void)
{
	for (unsigned capability = 0; capability < 64; capability++)
		if (prctl(PR_CAPBSET_READ, capability, 0, 0, 0) > 0)
			return false;
	return true;
}

static bool ids_are(uid_t uid, gid_t gid)
{
	uid_t real, effective, saved;
	gid_t real_gid, effective_gid, saved_gid;

	return getresuid(&real, &effective, &saved) == 0 && real == uid && effective == uid &&
	       saved == uid && getresgid(&real_gid, &effective_gid, &saved_gid) == 0 &&
	       real_gid == gid && effective_gid == gid && saved_gid == gid;
}

static bool arrange(const struct way *way)
{
	if (setgroups(2, (gid_t[]){4, 27}) != 0 || setresgid(way->real_gid, 0, 0) != 0 ||
	    setresuid(way->real_uid, 0, 0) != 0)
		return false;
	return way->permitted == (uint32_t)ALL ||
	       set_capabilities(way->permitted, way->inheritable);
}

static int give_everything_up(void *context)
{
	const struct way *way = context;

	if (geteuid() != 0)
		return CANNOT;
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 || !arrange(way))
		return 1;
	privilege_become_invoker();
	/* A socket is the invoking user's, and a raw one can be opened. */
	struct stat is;
	int fd = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
	if (fd < 0 || fstat(fd, &is) != 0 || is.st_uid != way->real_uid)
		return 3;
	if (way->real_uid != 0 && !capabilities_are(BIT(CAP_NET_RAW)))
		return 4;
	if (privilege_may_mark() != way->may_mark)
		return 5;
	privilege_give_up(way->keep_net_raw);
	if (!ids_are(way->uid, way->gid) || (size_t)getgroups(0, NULL) != way->groups)
		return 6;
	if (!capabilities_are(way->keep_net_raw ? BIT(CAP_NET_RAW) : 0))
		return 7;
	if ((way->permitted & BIT(CAP_SETPCAP)) != 0 && !bounding_set_is_empty())
		return 8;
	if (prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0)
		return 9;
	return way->uid == 0 || setuid(0) != 0 ? GOOD : 10;
}

Test(privilege, every_way_of_starting)
{
	const uint32_t all = (uint32_t)ALL, raw = BIT(CAP_NET_RAW);
	const struct way ways[] = {
		{"root", 0, 0, all, 0, false, 65534, 65534, 0, true},
		{"root, with marks", 0, 0, all, 0, true, 65534, 65534, 0, true},
		{"root, CAP_NET_RAW only", 0, 0, raw, 0, false, 0, 0, 2, true},
		{"root, CAP_NET_RAW only, with marks", 0, 0, raw, 0, true, 0, 0, 2, true},
		{"root, no CAP_SETGID", 0, 0, raw | BIT(CAP_SETUID), 0, false, 65534, 0, 2, true},
		{"root, no CAP_SETUID", 0, 0, raw | BIT(CAP_SETGID), 0, false, 0, 0, 2, true},
		{"setuid", 1234, 2345, all, 0, false, 1234, 2345, 2, false},
		{"setuid, group 0", 1234, 0, all, 0, false, 1234, 0, 2, false},
		{"setuid, CAP_NET_RAW only", 1234, 2345, raw, 0, false, 1234, 2345, 2, false},
		{"marks by CAP_NET_RAW", 1234, 2345, raw, raw, true, 1234, 2345, 2, true},
		{"marks by CAP_NET_ADMIN", 1234, 2345, raw | BIT(CAP_NET_ADMIN), BIT(CAP_NET_ADMIN),
		 true, 1234, 2345, 2, true},
	};

	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		struct sandbox_end end = sandbox_run(give_everything_up, (void *)&ways[i]);
		if (end.signal == 0 && end.status == CANNOT)
			cr_skip_test("only root can");
		cr_expect(end.signal == 0 && end.status == GOOD, "%s: signal %d, status %d",
			  ways[i].what, end.signal, end.status);
	}
}

/* In a user namespace with one user there is no other to become. */
static int stay_root_of_a_namespace(void *context)
{
	(void)context;
	if (!become_namespace_root())
		return CANNOT;
	privilege_become_invoker();
	privilege_give_up(false);
	if (!ids_are(0, 0))
		return 1;
	return capabilities_are(0) && bounding_set_is_empty() ? GOOD : 2;
}

Test(privilege, root_of_a_user_namespace)
{
	struct sandbox_end end = sandbox_run(stay_root_of_a_namespace, NULL);

	if (end.signal == 0 && end.status == CANNOT)
		cr_skip_test("no user namespaces here");
	cr_expect(end.signal == 0 && end.status == GOOD, "signal %d, status %d", end.signal,
		  end.status);
}

static int without_net_raw(void *context)
{
	(void)context;
	if (!set_capabilities(0, 0))
		return 1;
	privilege_become_invoker();
	return 2;
}

Test(privilege, without_net_raw_there_is_nothing_to_serve)
{
	cr_expect_eq(sandbox_run(without_net_raw, NULL).status, FATAL_NO_PRIVILEGE);
}
