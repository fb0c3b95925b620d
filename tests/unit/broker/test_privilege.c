/*
 * Giving up identity and capabilities, from the privilege that there is: as root, or as the root of
 * a user namespace of the test's own. What the real broker has left in every way of starting it is
 * read from outside by tests/hostile/.
 */
#include <criterion/criterion.h>
#include <errno.h>
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
#include <sys/syscall.h>
#include <unistd.h>

#include "policy/privilege.h"
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

/* Root, of the machine or of a namespace that maps user 0 alone. */
static bool become_root(void)
{
	char map[32];
	uid_t uid = geteuid();
	gid_t gid = getegid();

	if (uid == 0)
		return true;
	if (unshare(CLONE_NEWUSER) != 0 || !write_text("/proc/self/setgroups", "deny"))
		return false;
	snprintf(map, sizeof(map), "0 %u 1", uid);
	if (!write_text("/proc/self/uid_map", map))
		return false;
	snprintf(map, sizeof(map), "0 %u 1", gid);
	return write_text("/proc/self/gid_map", map);
}

static uint64_t read_set(bool (*member)(unsigned capability))
{
	uint64_t set = 0;

	for (unsigned capability = 0; capability < 64; capability++)
		if (member(capability))
			set |= UINT64_C(1) << capability;
	return set;
}

static bool in_bounding_set(unsigned capability)
{
	return prctl(PR_CAPBSET_READ, capability, 0, 0, 0) > 0;
}

static bool in_ambient_set(unsigned capability)
{
	return prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, capability, 0, 0) > 0;
}

static bool read_capabilities(struct __user_cap_data_struct data[2])
{
	struct __user_cap_header_struct self = {.version = _LINUX_CAPABILITY_VERSION_3};

	return syscall(SYS_capget, &self, data) == 0;
}

static int give_everything_up(void *context)
{
	const bool *keep_net_raw = context;
	struct step_failure failure;
	struct __user_cap_data_struct data[2];
	uint32_t expected = *keep_net_raw ? 1u << CAP_NET_RAW : 0;

	if (!become_root())
		return CANNOT;
	if (!privilege_raise_net_raw(&failure) || !privilege_give_up_identity(&failure) ||
	    !privilege_reduce_capabilities(*keep_net_raw, &failure))
		return 1;
	if (!read_capabilities(data) || data[0].permitted != expected || data[1].permitted != 0)
		return 2;
	if (data[0].effective || data[1].effective || data[0].inheritable || data[1].inheritable)
		return 3;
	if (read_set(in_bounding_set) != 0 || read_set(in_ambient_set) != 0)
		return 4;
	if (socket(AF_INET, SOCK_RAW, IPPROTO_ICMP) >= 0 || errno != EPERM)
		return 5;
	/* Nothing comes back: not by asking, and not by being user 0. */
	data[0].permitted = data[0].effective = ~0u;
	struct __user_cap_header_struct self = {.version = _LINUX_CAPABILITY_VERSION_3};
	if (syscall(SYS_capset, &self, data) == 0)
		return 6;
	return GOOD;
}

static void expect_good(struct sandbox_end end)
{
	if (end.signal == 0 && end.status == CANNOT)
		cr_skip_test("there is no privilege here to give up");
	cr_expect(end.signal == 0 && end.status == GOOD, "signal %d, status %d", end.signal,
		  end.status);
}

Test(privilege, capabilities_are_reduced_to_net_raw)
{
	bool keep = true;
	expect_good(sandbox_run(give_everything_up, &keep));
}

Test(privilege, capabilities_are_reduced_to_nothing)
{
	bool keep = false;
	expect_good(sandbox_run(give_everything_up, &keep));
}

static int leave_root(void *context)
{
	(void)context;
	struct step_failure failure;
	uid_t real, effective, saved;
	struct __user_cap_data_struct data[2];

	if (geteuid() != 0)
		return CANNOT;
	if (setgroups(3, (gid_t[]){0, 4, 27}) != 0)
		return 1;
	if (!privilege_raise_net_raw(&failure) || !privilege_give_up_identity(&failure))
		return 2;
	if (getresuid(&real, &effective, &saved) != 0 || real != 65534 || effective != 65534 ||
	    saved != 65534)
		return 3;
	if (getgid() != 65534 || getegid() != 65534 || getgroups(0, NULL) != 0)
		return 4;
	if (!read_capabilities(data) ||
	    (data[0].permitted & ~(1u << CAP_NET_RAW | 1u << CAP_SETPCAP)) != 0)
		return 6;
	return setuid(0) != 0 && setgid(0) != 0 ? GOOD : 5;
}

Test(privilege, root_becomes_nobody)
{
	expect_good(sandbox_run(leave_root, NULL));
}

static int leave_setuid(void *context)
{
	(void)context;
	struct step_failure failure;
	uid_t real, effective, saved;

	/* As a setuid file leaves it: real user an ordinary one, effective and saved root. */
	if (geteuid() != 0)
		return CANNOT;
	if (setresgid(1234, 1234, 1234) != 0 || setresuid(1234, 0, 0) != 0)
		return 1;
	if (!privilege_raise_net_raw(&failure) || !privilege_give_up_identity(&failure))
		return 2;
	if (getresuid(&real, &effective, &saved) != 0 || real != 1234 || effective != 1234 ||
	    saved != 1234)
		return 3;
	return getegid() == 1234 && setuid(0) != 0 ? GOOD : 4;
}

Test(privilege, setuid_becomes_the_invoking_user)
{
	expect_good(sandbox_run(leave_setuid, NULL));
}

/* Root that has CAP_NET_RAW but may not change users: it must not serve as root. */
static int cannot_leave_root(void *context)
{
	(void)context;
	struct step_failure failure;
	struct __user_cap_header_struct self = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {{.permitted = 1u << CAP_NET_RAW}};

	if (geteuid() != 0)
		return CANNOT;
	if (syscall(SYS_capset, &self, data) != 0)
		return 1;
	if (!privilege_raise_net_raw(&failure))
		return 2;
	return !privilege_give_up_identity(&failure) && failure.error == EPERM && failure.remedy
		       ? GOOD
		       : 3;
}

Test(privilege, root_that_cannot_change_user_is_refused)
{
	expect_good(sandbox_run(cannot_leave_root, NULL));
}

static int without_net_raw(void *context)
{
	(void)context;
	struct step_failure failure;
	struct __user_cap_header_struct self = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[2] = {{.permitted = 0}};

	if (syscall(SYS_capset, &self, none) != 0)
		return 1;
	return !privilege_raise_net_raw(&failure) && failure.exit_status == 77 && failure.remedy
		       ? GOOD
		       : 2;
}

Test(privilege, without_net_raw_there_is_nothing_to_serve)
{
	expect_good(sandbox_run(without_net_raw, NULL));
}

/* One datagram to ourselves over loopback, with a routing mark. */
static bool send_marked(int fd, const struct sockaddr_in *to)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(uint32_t))];
	} control = {.header = {.cmsg_len = CMSG_LEN(sizeof(uint32_t)),
				.cmsg_level = SOL_SOCKET,
				.cmsg_type = SO_MARK}};
	char byte = 0;
	struct iovec piece = {.iov_base = &byte, .iov_len = 1};
	const struct msghdr message = {
		.msg_name = (void *)to,
		.msg_namelen = sizeof(*to),
		.msg_iov = &piece,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	const uint32_t mark = 7;

	memcpy(CMSG_DATA(&control.header), &mark, sizeof(mark));
	return sendmsg(fd, &message, MSG_DONTWAIT) == 1;
}

static int mark(void *context)
{
	(void)context;
	struct step_failure failure;
	struct sockaddr_in here = {.sin_family = AF_INET,
				   .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
	socklen_t length = sizeof(here);

	if (geteuid() != 0)
		return CANNOT;
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&here, sizeof(here)) != 0 ||
	    getsockname(fd, (struct sockaddr *)&here, &length) != 0)
		return 2;
	if (!privilege_raise_net_raw(&failure) || !privilege_give_up_identity(&failure) ||
	    !privilege_reduce_capabilities(true, &failure) || !privilege_limits(8, &failure))
		return 3;
	/* Permitted alone is not enough; raised it is; and then no longer. */
	if (send_marked(fd, &here))
		return 5;
	if (!privilege_mark_begin() || !send_marked(fd, &here))
		return 6;
	if (!privilege_mark_end() || send_marked(fd, &here))
		return 7;
	return GOOD;
}

Test(privilege, marks_need_the_effective_set)
{
	expect_good(sandbox_run(mark, NULL));
}
