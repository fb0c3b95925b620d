/*
 * The broker's sockets, opened in a network namespace that the test makes: their numbers, what they
 * receive, and what is set on them.
 */
#include <netinet/in.h>

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/icmp.h>
#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "broker/fatal.h"
#include "broker/sockets.h"
#include "policy/descriptors.h"
#include "tests/support/sandbox.h"

enum {
	GOOD = 42,
	CANNOT = 43,        /* none of the exit statuses of fatal() */
	FLOWINFO_SEND = 33, /* IPV6_FLOWINFO_SEND, which only the kernel's headers have */
};

static bool enter_namespace(void)
{
	int null;

	if (unshare(CLONE_NEWNET) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0)
		return false;
	null = open("/dev/null", O_RDWR);
	for (int fd = 0; fd < DESC_STDERR; fd++)
		dup2(null, fd);
	return syscall(SYS_close_range, DESC_STDERR + 1, ~0u, 0) == 0;
}

static int option(int fd, int level, int name)
{
	int value = -1;
	socklen_t bytes = sizeof(value);

	return getsockopt(fd, level, name, &value, &bytes) == 0 ? value : -1;
}

static bool is_raw_socket(int fd, int domain, int protocol)
{
	return option(fd, SOL_SOCKET, SO_DOMAIN) == domain &&
	       option(fd, SOL_SOCKET, SO_TYPE) == SOCK_RAW &&
	       option(fd, SOL_SOCKET, SO_PROTOCOL) == protocol;
}

/* Whether the socket is bound, to an address that no packet has. */
static bool is_bound(int fd)
{
	static const struct sockaddr_storage any;
	struct sockaddr_storage name = {0};
	socklen_t bytes = sizeof(name);

	getsockname(fd, (struct sockaddr *)&name, &bytes);
	memset(&name, 0, sizeof(name.ss_family));
	/* The protocol stands in place of the port. */
	memset((char *)&name + offsetof(struct sockaddr_in, sin_port), 0, sizeof(in_port_t));
	return memcmp(&name, &any, sizeof(name)) != 0;
}

static int numbers(void *context)
{
	(void)context;
	static const struct {
		int fd, domain, protocol;
	} raw[] = {
		{DESC_ICMP4, AF_INET, IPPROTO_ICMP},    {DESC_ICMP4_DF, AF_INET, IPPROTO_ICMP},
		{DESC_ICMP6, AF_INET6, IPPROTO_ICMPV6}, {DESC_ICMP6_DF, AF_INET6, IPPROTO_ICMPV6},
		{DESC_SCTP4, AF_INET, IPPROTO_SCTP},    {DESC_SCTP4_DF, AF_INET, IPPROTO_SCTP},
		{DESC_SCTP6, AF_INET6, IPPROTO_SCTP},   {DESC_SCTP6_DF, AF_INET6, IPPROTO_SCTP},
	};
	struct broker_sockets sockets;

	if (!enter_namespace())
		return CANNOT;
	sockets_open(&sockets);
	if (sockets.features !=
	    (FEATURE_ICMP | FEATURE_SCTP | (FEATURE_ICMP | FEATURE_SCTP) << FEATURE_IPV6_SHIFT))
		return 1;
	for (size_t i = 0; i < sizeof(raw) / sizeof(raw[0]); i++) {
		uint8_t family = raw[i].domain == AF_INET ? 4 : 6;
		if (!is_raw_socket(raw[i].fd, raw[i].domain, raw[i].protocol))
			return 2;
		if (descriptor_raw(family, raw[i].protocol == IPPROTO_SCTP, i % 2 != 0) !=
		    raw[i].fd)
			return 3;
	}
	return fcntl(DESC_COUNT, F_GETFD) < 0 && errno == EBADF ? GOOD : 4;
}

static int held_ports(void *context)
{
	(void)context;
	struct broker_sockets sockets;

	if (!enter_namespace())
		return CANNOT;
	sockets_open(&sockets);
	for (int i = 0; i < RECORD_PROBE_IDS; i++) {
		struct sockaddr_in name;
		socklen_t bytes = sizeof(name);
		int fd = DESC_PROBE_ID_FIRST + i;
		if (option(fd, SOL_SOCKET, SO_TYPE) != SOCK_DGRAM ||
		    getsockname(fd, (struct sockaddr *)&name, &bytes) != 0)
			return 1;
		if (ntohs(name.sin_port) != sockets.held_port[i] || sockets.held_port[i] == 0)
			return 2;
		/* The kernel's least. */
		if (option(fd, SOL_SOCKET, SO_RCVBUF) > 4096)
			return 3;
		int other = socket(AF_INET, SOCK_DGRAM, 0);
		if (bind(other, (struct sockaddr *)&name, bytes) == 0 || errno != EADDRINUSE)
			return 4;
		close(other);
	}
	return GOOD;
}

static int receiving(void *context)
{
	(void)context;
	struct broker_sockets sockets;
	struct icmp_filter blocked;
	socklen_t bytes = sizeof(blocked);
	int unused = 0;

	if (!enter_namespace())
		return CANNOT;
	sockets_open(&sockets);
	for (int fd = DESC_RAW_FIRST; fd <= DESC_RAW_LAST; fd++) {
		if (option(fd, SOL_SOCKET, SO_LOCK_FILTER) != 1)
			return 1;
		if (setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &unused, sizeof(unused)) == 0 ||
		    errno != EPERM)
			return 2;
		if (is_bound(fd) != (fd != DESC_ICMP4 && fd != DESC_ICMP6))
			return 3;
		if (option(fd, IPPROTO_IP, IP_RECVERR) > 0 ||
		    option(fd, IPPROTO_IPV6, IPV6_RECVERR) > 0)
			return 4;
		if (option(fd, IPPROTO_IP, IP_HDRINCL) > 0)
			return 5;
	}
	if (getsockopt(DESC_ICMP4, SOL_RAW, ICMP_FILTER, &blocked, &bytes) != 0 ||
	    blocked.data != ~(1u << ICMP_ECHOREPLY | 1u << ICMP_DEST_UNREACH |
			      1u << ICMP_TIME_EXCEEDED | 1u << ICMP_PARAMETERPROB))
		return 6;
	/* Without IPv6 a request can bind a duplicate of this one to any address. */
	if (getsockopt(DESC_ICMP4_DF, SOL_RAW, ICMP_FILTER, &blocked, &bytes) != 0 ||
	    blocked.data != ~0u)
		return 7;
	return GOOD;
}

static int options(void *context)
{
	(void)context;
	struct broker_sockets sockets;

	if (!enter_namespace())
		return CANNOT;
	sockets_open(&sockets);
	for (int fd = DESC_RAW_FIRST; fd <= DESC_RAW_LAST; fd++) {
		bool is_ipv4 = option(fd, SOL_SOCKET, SO_DOMAIN) == AF_INET;
		bool dont_fragment = (fd - DESC_RAW_FIRST) % 2 != 0;
		int level = is_ipv4 ? IPPROTO_IP : IPPROTO_IPV6;
		/* The values of IP_PMTUDISC_* and IPV6_PMTUDISC_* are the same. */
		if (option(fd, level, is_ipv4 ? IP_MTU_DISCOVER : IPV6_MTU_DISCOVER) !=
		    (dont_fragment ? IP_PMTUDISC_PROBE : IP_PMTUDISC_DONT))
			return 1;
		if (option(fd, level, is_ipv4 ? IP_TTL : IPV6_UNICAST_HOPS) != 255)
			return 2;
		if (option(fd, SOL_SOCKET, SO_TIMESTAMPNS) != !dont_fragment)
			return 3;
		if (!is_ipv4 && (option(fd, level, FLOWINFO_SEND) != 1 ||
				 option(fd, level, IPV6_RECVPKTINFO) != !dont_fragment ||
				 option(fd, level, IPV6_RECVHOPLIMIT) != !dont_fragment))
			return 4;
	}
	return GOOD;
}

static int without_ipv6(void *context)
{
	(void)context;
	struct broker_sockets sockets;

	if (!enter_namespace())
		return CANNOT;
	if (!sandbox_fail_sockets(0, AF_INET6, EAFNOSUPPORT))
		return 1;
	sockets_open(&sockets);
	if (sockets.features != (FEATURE_ICMP | FEATURE_SCTP))
		return 2;
	for (int fd = DESC_RAW_FIRST; fd <= DESC_RAW_LAST; fd++)
		if (option(fd, SOL_SOCKET, SO_DOMAIN) != AF_INET ||
		    option(fd, SOL_SOCKET, SO_LOCK_FILTER) != 1)
			return 3;
	return is_bound(DESC_ICMP6) && is_bound(DESC_SCTP6) ? GOOD : 4;
}

static int with_a_number_taken(void *context)
{
	(void)context;
	struct broker_sockets sockets;

	if (!enter_namespace() || dup(DESC_NULL) < 0)
		return CANNOT;
	sockets_open(&sockets);
	return 1;
}

static int denied(void *context)
{
	int type = *(const int *)context | SOCK_CLOEXEC | SOCK_NONBLOCK;
	struct broker_sockets sockets;

	if (!enter_namespace())
		return CANNOT;
	if (!sandbox_fail_sockets(1, type, EPERM))
		return 1;
	sockets_open(&sockets);
	return 2;
}

static int marks(void *context)
{
	(void)context;
	struct broker_sockets sockets;

	if (!enter_namespace())
		return CANNOT;
	sockets_open(&sockets);
	/* Root may, an ordinary user may not. */
	if (!sockets_can_mark())
		return 1;
	/* A user namespace of an ordinary user has no other one. */
	if (setresuid(1234, 1234, 1234) != 0)
		return errno == EINVAL ? GOOD : 2;
	return sockets_can_mark() ? 3 : GOOD;
}

Test(sockets, all)
{
	static const struct {
		const char *what;
		int (*body)(void *context);
		int status;
		int type; /* of the sockets that are denied */
	} cases[] = {
		{"numbers", numbers, GOOD, 0},
		{"held ports", held_ports, GOOD, 0},
		{"receiving", receiving, GOOD, 0},
		{"options", options, GOOD, 0},
		{"marks", marks, GOOD, 0},
		{"without IPv6", without_ipv6, GOOD, 0},
		{"a number taken", with_a_number_taken, FATAL_SYSTEM, 0},
		{"raw sockets denied", denied, FATAL_NO_PRIVILEGE, SOCK_RAW},
		{"UDP sockets denied", denied, FATAL_NO_PRIVILEGE, SOCK_DGRAM},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct sandbox_end end = sandbox_run(cases[i].body, (void *)&cases[i].type);
		if (end.signal == 0 && end.status == CANNOT)
			cr_skip_test("no network namespace can be made here");
		cr_expect(end.signal == 0 && end.status == cases[i].status,
			  "%s: signal %d, status %d", cases[i].what, end.signal, end.status);
	}
}
