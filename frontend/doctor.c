/*
 * `postern doctor`: starts the broker and opens the other transports as the other commands do, and
 * prints what works here, how the broker is installed, what keeps it from its privilege, and what
 * to do about it. Runs as the user and sends no probe. It trusts the kernel and the broker.
 */
#include <endian.h>
#include <errno.h>
#include <getopt.h>
#include <linux/capability.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "common/record.h"
#include "frontend/command.h"
#include "frontend/transport/broker_process.h"
#include "frontend/transport/transport.h"

enum {
	PATH_BYTES = 4096,
	READY_WAIT_MS = 5000,
};

struct findings {
	char path[PATH_BYTES];
	/* of the file */
	int file_error; /* errno of stat, or of the right to execute */
	bool setuid_root;
	bool has_capability;
	bool capability_effective;
	bool nosuid;
	/* of this process */
	bool is_root;
	bool no_new_privs;
	bool bounded; /* CAP_NET_RAW is missing from the bounding set */
	bool has_ipv6;
	/* of the transports */
	bool ready;
	uint32_t features; /* enum hello_features */
	char why[512];     /* the broker does not work; empty: it does */
};

/* --- finding out ------------------------------------------------------------------------------ */

static void read_capability(struct findings *found)
{
	struct vfs_ns_cap_data data;
	ssize_t length = getxattr(found->path, "security.capability", &data, sizeof(data));

	if (length < (ssize_t)offsetof(struct vfs_ns_cap_data, data[1]))
		return;
	found->has_capability = (le32toh(data.data[0].permitted) & (1u << CAP_NET_RAW)) != 0;
	found->capability_effective = (le32toh(data.magic_etc) & VFS_CAP_FLAGS_EFFECTIVE) != 0;
}

static void examine_file(struct findings *found)
{
	struct stat status;
	struct statvfs filesystem;

	if (stat(found->path, &status) != 0 || access(found->path, X_OK) != 0) {
		found->file_error = errno;
		return;
	}
	found->setuid_root = (status.st_mode & S_ISUID) != 0 && status.st_uid == 0;
	read_capability(found);
	if (statvfs(found->path, &filesystem) == 0)
		found->nosuid = (filesystem.f_flag & ST_NOSUID) != 0;
}

static void examine_process(struct findings *found)
{
	found->is_root = geteuid() == 0;
	found->no_new_privs = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1;
	found->bounded = prctl(PR_CAPBSET_READ, CAP_NET_RAW, 0, 0, 0) == 0;
	found->has_ipv6 = access("/proc/net/if_inet6", F_OK) == 0;
}

static void on_ready(void *context, uint32_t features)
{
	struct findings *found = context;

	found->ready = true;
	found->features = features;
}

static void on_result(void *context, const struct probe_result *result)
{
	(void)context;
	(void)result;
}

static void on_down(void *context, uint32_t lost, int error, const char *why)
{
	struct findings *found = context;

	(void)error;
	if (lost & (FEATURE_ICMP | FEATURE_ICMP << FEATURE_IPV6_SHIFT))
		snprintf(found->why, sizeof(found->why), "%s", why);
}

static void open_transports(struct findings *found)
{
	const struct transport_sink sink = {found, on_ready, on_result, on_down};
	const struct transport_options options = {.broker_path = found->path};
	struct transport *transport = transport_open(&options, &sink);

	for (int ms = 0; ms < READY_WAIT_MS && !found->ready; ms += 100) {
		struct pollfd ready = {.fd = transport_fd(transport), .events = POLLIN};

		transport_dispatch(transport, 1);
		if (!found->ready)
			poll(&ready, 1, 100);
	}
	if (!found->ready && found->why[0] == '\0')
		snprintf(found->why, sizeof(found->why), "postern-broker: is not ready");
	transport_close(transport);
}

/* --- printing --------------------------------------------------------------------------------- */

static const char *privilege_of_file(const struct findings *found)
{
	if (found->setuid_root)
		return "setuid root";
	if (found->has_capability)
		return found->capability_effective ? "file capability cap_net_raw=ep"
						   : "file capability cap_net_raw=p";
	return "no privilege of its own";
}

static void print_installation(const struct findings *found)
{
	printf("broker       %s\n", found->path);
	if (found->file_error)
		printf("installed    no: %s\n", strerror(found->file_error));
	else
		printf("installed    %s%s\n", privilege_of_file(found),
		       found->nosuid ? ", on a file system mounted nosuid" : "");
	printf("started by   uid %ld%s%s\n", (long)geteuid(),
	       found->no_new_privs ? ", with no_new_privs" : "",
	       found->bounded ? ", without CAP_NET_RAW in the bounding set" : "");
	if (found->why[0] != '\0')
		printf("it says      %s\n", found->why);
}

static const struct {
	const char *name;
	uint32_t bit;
	bool basic; /* mtr and tracepath need it */
} protocols[] = {
	{"icmp", FEATURE_ICMP, true},
	{"udp", FEATURE_UDP, true},
	{"tcp", FEATURE_TCP, true},
	{"sctp", FEATURE_SCTP, false},
};

enum { PROTOCOLS = sizeof(protocols) / sizeof(protocols[0]) };

static void print_features(const struct findings *found)
{
	uint32_t features = found->features;

	printf("\n             IPv4  IPv6\n");
	for (size_t i = 0; i < PROTOCOLS; i++)
		printf("%-12s %-5s %s\n", protocols[i].name,
		       features & protocols[i].bit ? "ok" : "no",
		       features >> FEATURE_IPV6_SHIFT & protocols[i].bit ? "ok" : "no");
	printf("%-12s %s\n", "mark", features & FEATURE_MARK ? "ok" : "no");
	puts("\nICMP and SCTP go through the broker, UDP and TCP by ordinary sockets.");
}

/* Prints what to do, the most likely remedy first. Returns how many remedies there are. */
static int print_remedies(const struct findings *found)
{
	bool privileged = found->is_root || found->setuid_root || found->has_capability;
	int count = 0;

#define REMEDY(condition, ...) ((condition) ? (count++, printf("\n" __VA_ARGS__)) : 0)
	REMEDY(found->file_error == ENOENT,
	       "There is no broker there: run `make install` as root, or name one with --broker "
	       "PATH.\n");
	REMEDY(found->file_error && found->file_error != ENOENT,
	       "This user may not run the broker: its file needs mode 0755 in directories that "
	       "everyone may enter.\n");
	REMEDY(!found->file_error && !privileged,
	       "The broker has no privilege: run `make install` as root, or\n"
	       "    setcap cap_net_raw=p %s\n",
	       found->path);
	REMEDY(!found->is_root && found->nosuid && privileged,
	       "On a file system mounted nosuid, file capabilities and setuid bits have no effect: "
	       "install\nelsewhere.\n");
	REMEDY(!found->is_root && found->no_new_privs,
	       "no_new_privs is set here: file capabilities and setuid bits have no effect. It "
	       "comes from\nwhat started this process (systemd: NoNewPrivileges=, Kubernetes: "
	       "allowPrivilegeEscalation,\nDocker: no-new-privileges) and can be lifted only "
	       "there.\n");
	REMEDY(found->bounded, "CAP_NET_RAW is withheld here: a container needs it added "
			       "(Docker: --cap-add NET_RAW,\nKubernetes: capabilities.add "
			       "NET_RAW).\n");
	REMEDY(found->capability_effective && found->why[0] != '\0',
	       "With cap_net_raw=ep the broker cannot be started where the capability is withheld: "
	       "use =p.\n");
#undef REMEDY
	return count;
}

/* Returns whether everything basic works. */
static bool print_summary(const struct findings *found)
{
	uint32_t features = found->features;
	bool fine = found->ready;

	for (size_t i = 0; fine && i < PROTOCOLS; i++)
		fine = !protocols[i].basic ||
		       ((features & protocols[i].bit) &&
			(!found->has_ipv6 || (features >> FEATURE_IPV6_SHIFT & protocols[i].bit)));
	if (!found->has_ipv6)
		printf("\nThis system has no IPv6 (its kernel or its configuration leaves it "
		       "out).\n");
	if (fine) {
		puts("\nAll that mtr and tracepath need works here.");
		return true;
	}
	if (print_remedies(found) == 0)
		puts("\nThe line above, or the table, says what is missing.");
	return false;
}

/* --- start ------------------------------------------------------------------------------------ */

static const char usage[] =
	"usage: postern doctor [--broker PATH]\n"
	"\n"
	"Prints what works here for each protocol and address family, how the broker is "
	"installed,\n"
	"and what to do about what is missing. Sends no probe. Exit status 0 if all that mtr and\n"
	"tracepath need works, 1 if not.\n"
	"\n"
	"  --broker PATH   the privileged program to ask\n"
	"  -h, --help      this text\n"
	"  --version       the version\n";

int doctor_main(int argc, char **argv)
{
	static const struct option known[] = {
		{"broker", required_argument, NULL, 'b'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'v'},
		{NULL, 0, NULL, 0},
	};
	struct findings found = {.ready = false};
	const char *wanted = NULL;
	int option;

	while ((option = getopt_long(argc, argv, "h", known, NULL)) != -1) {
		if (option == 'b') {
			wanted = optarg;
		} else if (option == 'v') {
			puts("postern doctor " POSTERN_VERSION);
			return EXIT_SUCCESS;
		} else {
			fputs(usage, option == 'h' ? stdout : stderr);
			return option == 'h' ? EXIT_SUCCESS : 2;
		}
	}
	if (optind != argc) {
		fprintf(stderr, "postern doctor: takes no argument: '%s'\n", argv[optind]);
		fputs(usage, stderr);
		return 2;
	}

	broker_find(wanted, found.path, sizeof(found.path));
	examine_file(&found);
	examine_process(&found);
	open_transports(&found);
	print_installation(&found);
	print_features(&found);
	return print_summary(&found) ? EXIT_SUCCESS : EXIT_FAILURE;
}
