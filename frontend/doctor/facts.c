/*
 * Reads what decides whether probes work. Runs in postern doctor, as the user. A file that cannot
 * be read leaves its fact unknown, which is the harmless value.
 */
#include "frontend/doctor/facts.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/nsfs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "frontend/transport/transport.h"
#include "frontend/doctor/program.h"
#include "frontend/transport/broker_process.h"
#include "frontend/transport/local_route.h"

/* --- files ------------------------------------------------------------------------------------ */

/* The first directory above `path` that this user may not enter; NULL: all may be. */
static char *closed_directory(const char *path)
{
	char *directory = strdup(path);

	for (char *at = directory; at && (at = strchr(at + 1, '/')) != NULL; *at = '/') {
		*at = '\0';
		if (access(directory, X_OK) != 0 && errno == EACCES)
			return directory;
	}
	free(directory);
	return NULL;
}

static void read_capability(struct facts *facts)
{
	struct vfs_ns_cap_data data;
	ssize_t length = getxattr(facts->path, "security.capability", &data, sizeof(data));

	facts->keeps_capabilities = length >= 0 || errno != ENOTSUP;
	if (length < (ssize_t)offsetof(struct vfs_ns_cap_data, data[1]))
		return;
	facts->has_capability = (le32toh(data.data[0].permitted) & (1u << CAP_NET_RAW)) != 0;
	facts->capability_effective = (le32toh(data.magic_etc) & VFS_CAP_FLAGS_EFFECTIVE) != 0;
}

static void read_broker_file(const char *wanted, struct facts *facts)
{
	struct statvfs filesystem;

	broker_find(wanted, facts->path, sizeof(facts->path));
	if (stat(facts->path, &facts->file) != 0) {
		facts->file_error = errno;
		facts->closed_directory = closed_directory(facts->path);
		return;
	}
	if (access(facts->path, X_OK) != 0)
		facts->file_error = errno;
	read_capability(facts);
	if (statvfs(facts->path, &filesystem) != 0)
		return;
	facts->nosuid = (filesystem.f_flag & ST_NOSUID) != 0;
	facts->noexec = (filesystem.f_flag & ST_NOEXEC) != 0;
}

static void read_service(const char *wanted, struct facts *facts)
{
	const char *named = getenv("POSTERN_BROKER");

	facts->service_named = !wanted && named && *named;
	facts->service = facts->service_named ? named : broker_service_socket;
	if (stat(facts->service, &facts->service_file) != 0 || access(facts->service, W_OK) != 0)
		facts->service_error = errno;
}

/* --- this process ----------------------------------------------------------------------------- */

/* The kernel refuses to name an owner that is above the own user namespace. */
static bool has_foreign_network(void)
{
	struct stat own, owner;
	int network = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	int fd = network >= 0 ? ioctl(network, NS_GET_USERNS) : -1;
	bool foreign = network >= 0 && fd < 0 && errno == EPERM;

	if (fd >= 0 && stat("/proc/self/ns/user", &own) == 0 && fstat(fd, &owner) == 0)
		foreign = own.st_ino != owner.st_ino;
	if (fd >= 0)
		close(fd);
	if (network >= 0)
		close(network);
	return foreign;
}

/* The same without /proc, where neither the bounding set nor a filter withholds the socket. */
static bool is_raw_socket_refused_to_root(void)
{
	if (geteuid() != 0)
		return false;

	int fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP);
	if (fd >= 0)
		close(fd);
	return fd < 0 && errno == EPERM;
}

/* The first one maps every id to itself. */
static bool is_user_namespace(void)
{
	unsigned first = 0, outside = 0, count = UINT32_MAX;
	FILE *file = fopen("/proc/self/uid_map", "re");

	if (file == NULL)
		return false;
	if (fscanf(file, "%u %u %u", &first, &outside, &count) != 3)
		count = 0;
	fclose(file);
	return first != 0 || outside != 0 || count != UINT32_MAX;
}

/* The broker opens it for writing, and needs a device that takes everything. */
static bool has_null(void)
{
	struct stat status;
	int fd = open("/dev/null", O_RDWR | O_NOCTTY | O_CLOEXEC);
	bool fine = fd >= 0 && fstat(fd, &status) == 0 && S_ISCHR(status.st_mode) &&
		    status.st_rdev == makedev(1, 3);

	if (fd >= 0)
		close(fd);
	return fine;
}

static bool is_ping_closed(void)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_ICMP);

	if (fd >= 0)
		close(fd);
	return fd < 0 && errno == EACCES;
}

static void read_process(struct facts *facts)
{
	facts->has_proc = access("/proc/self/status", R_OK) == 0;
	facts->has_null = has_null();
	facts->no_new_privs = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1;
	facts->bounded = prctl(PR_CAPBSET_READ, CAP_NET_RAW, 0, 0, 0) == 0;
	facts->is_user_namespace = is_user_namespace();
	facts->has_foreign_network = has_foreign_network();
	/* Without a filter there is nothing that denies calls. */
	if (prctl(PR_GET_SECCOMP, 0, 0, 0, 0) != 0)
		(void)trial_denied_calls(facts->denied_calls, sizeof(facts->denied_calls));
	if (!facts->has_proc && !facts->bounded && facts->denied_calls[0] == '\0')
		facts->has_foreign_network = is_raw_socket_refused_to_root();
}

/* --- the network ------------------------------------------------------------------------------ */

/* 1 if the sysctl has the value 1. */
static bool is_set(const char *path)
{
	FILE *file = fopen(path, "re");
	bool set = file != NULL && fgetc(file) == '1';

	if (file != NULL)
		fclose(file);
	return set;
}

static bool is_loopback_down(void)
{
	struct ifreq loopback = {.ifr_name = "lo"};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool down = fd >= 0 && ioctl(fd, SIOCGIFFLAGS, &loopback) == 0 &&
		    (loopback.ifr_flags & IFF_UP) == 0;

	if (fd >= 0)
		close(fd);
	return down;
}

static bool kernel_has_ipv6(void)
{
	int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd >= 0)
		close(fd);
	return fd >= 0 || errno != EAFNOSUPPORT;
}

static void read_network(struct facts *facts)
{
	/* Two name servers of the root zone: addresses that no network has for its own. */
	static const struct probe_request others[] = {
		{.family = 4, .destination = {198, 41, 0, 4}},
		{.family = 6,
		 .destination = {0x20, 0x01, 0x05, 0x03, 0xba, 0x3e, [13] = 2, [15] = 0x30}},
	};
	struct local_route route;

	facts->loopback_down = is_loopback_down();
	facts->kernel_has_ipv6 = kernel_has_ipv6();
	if (is_set("/proc/sys/net/ipv6/conf/all/disable_ipv6"))
		facts->ipv6_switch = "net.ipv6.conf.all.disable_ipv6";
	else if (is_set("/proc/sys/net/ipv6/conf/lo/disable_ipv6"))
		facts->ipv6_switch = "net.ipv6.conf.lo.disable_ipv6";
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		facts->has_route[i] = local_route(&others[i], &route) == 0;
}

/* --- all of it -------------------------------------------------------------------------------- */

static bool is_answer_missing(const struct facts *facts)
{
	return (facts->trial.features & facts->wanted & ~facts->trial.working) != 0;
}

void facts_find(const char *broker_path, uint32_t wanted, struct facts *facts)
{
	*facts = (struct facts){.wanted = wanted, .path_named = broker_path != NULL};
	read_broker_file(broker_path, facts);
	read_service(broker_path, facts);
	read_process(facts);
	facts->ping_closed = is_ping_closed();
	read_network(facts);
	facts->program[0] = program_find("mtr-packet", "MTR_PACKET");
	facts->program[1] = program_find("tracepath", NULL);

	(void)trial_run(broker_path, false, &facts->trial);
	/* There a broker of its own works: what stands between is this network's. */
	if (facts->trial.finished && is_answer_missing(facts) && !facts->loopback_down)
		facts->has_comparison = trial_run(facts->path, true, &facts->comparison) &&
					facts->comparison.finished;
}
