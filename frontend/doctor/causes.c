/*
 * The causes as a table, in the order in which they hide each other: what an earlier one explains,
 * a later one need not. Runs in postern doctor.
 *
 * No command changes who may use the broker, how a file system is mounted, or what a firewall
 * drops: an administrator chose that.
 */
#include "frontend/doctor/causes.h"

#include <err.h>
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "frontend/transport/transport.h"
#include "frontend/doctor/program.h"

enum {
	IPV4 = FEATURE_PROTOCOLS,
	IPV6 = FEATURE_PROTOCOLS << FEATURE_IPV6_SHIFT,
	EVERYTHING = IPV4 | IPV6,
	ICMP = FEATURE_ICMP | FEATURE_ICMP << FEATURE_IPV6_SHIFT,
	BROKER = ICMP | FEATURE_SCTP | FEATURE_SCTP << FEATURE_IPV6_SHIFT,
	/* As the kernel shows ids that a user namespace does not have. */
	OVERFLOW_ID = 65534,
	GROUPS_MAX = 65536,
};

/* --- text ------------------------------------------------------------------------------------- */

static char *text(const char *format, ...) __attribute__((format(printf, 1, 2)));

static char *text(const char *format, ...)
{
	va_list arguments;
	char *made;

	va_start(arguments, format);
	if (vasprintf(&made, format, arguments) < 0)
		err(EXIT_FAILURE, "postern doctor");
	va_end(arguments);
	return made;
}

/* As one argument for a shell; allocated. */
static char *quoted(const char *argument)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
				    "/._-+,:@%=";
	char *made = malloc(4 * strlen(argument) + 3), *at = made;

	if (made == NULL)
		err(EXIT_FAILURE, "postern doctor");
	if (*argument != '\0' && argument[strspn(argument, plain)] == '\0')
		return strcpy(made, argument);
	*at++ = '\'';
	for (; *argument != '\0'; argument++) {
		if (*argument == '\'')
			at = stpcpy(at, "'\\''");
		else
			*at++ = *argument;
	}
	strcpy(at, "'");
	return made;
}

static void by_root(struct cause *cause, char *command)
{
	cause->command = command;
	cause->as_root = true;
}

/* --- who may use a file ----------------------------------------------------------------------- */

static const char *group_name(const struct facts *facts, gid_t gid)
{
	const struct group *group = getgrgid(gid);

	if (facts->is_user_namespace && gid == OVERFLOW_ID)
		return NULL;
	return group ? group->gr_name : text("%u", gid);
}

/* The user is a member by the group database, though this process is not. */
static bool will_be_member(const struct passwd *user, gid_t gid)
{
	int count = GROUPS_MAX;
	gid_t *groups = calloc(GROUPS_MAX, sizeof(*groups));
	bool found = false;

	if (user == NULL || groups == NULL ||
	    getgrouplist(user->pw_name, user->pw_gid, groups, &count) < 0)
		count = 0;
	for (int i = 0; i < count && !found; i++)
		found = groups[i] == gid;
	free(groups);
	return found;
}

/* A user who is to have access becomes a member: the mode stays as it was chosen. `right` is what a
 * group needs, as bits of a mode. */
static void explain_access(const struct facts *facts, const char *what, const struct stat *file,
			   mode_t right, struct cause *cause)
{
	const char *group = group_name(facts, file->st_gid);
	const struct passwd *user = getpwuid(getuid());

	if ((file->st_mode & right) == 0 || group == NULL) {
		cause->reason = text("%s is for %s alone: ask this host's administrator.", what,
				     group ? "its owner" : "a group that is not in this namespace");
		return;
	}
	cause->reason =
		text("%s is for group %s alone, which this process is not in.", what, group);
	if (will_be_member(user, file->st_gid))
		cause->command = text("newgrp %s", quoted(group));
	else
		by_root(cause, text("usermod -aG %s %s", quoted(group),
				    user ? quoted(user->pw_name) : "USER"));
}

/* --- where a broker can be -------------------------------------------------------------------- */

/* The first of the usual prefixes where a privileged program would work. */
static char *install_command(void)
{
	static const char *const prefixes[] = {"/usr/local", "/opt", "/usr", "/"};
	struct statvfs filesystem;

	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
		if (statvfs(prefixes[i], &filesystem) != 0 ||
		    (filesystem.f_flag & (ST_NOSUID | ST_NOEXEC | ST_RDONLY)) != 0)
			continue;
		if (strncmp(POSTERN_BROKER_PATH, prefixes[i], strlen(prefixes[i])) == 0)
			return text("make install");
		return text("make install PREFIX=%s/postern", i < 3 ? prefixes[i] : "");
	}
	return text("make install PREFIX=DIRECTORY");
}

/* Where this process can get no privilege, a service manager can start the broker. */
static void use_service(const struct facts *facts, struct cause *cause)
{
	by_root(cause,
		text("systemctl %s postern-broker.socket  # in a container: on its host, and "
		     "mount /run/postern",
		     facts->service_error == 0 ? "restart" : "enable --now"));
}

/* --- what keeps the broker from working ------------------------------------------------------- */

static bool has_no_broker(const struct facts *facts)
{
	return facts->trial.broker == BROKER_NONE;
}

/* Where there are no privileges, execve(2) of a file with an effective capability is refused. */
static bool has_no_privilege(const struct facts *facts)
{
	return has_no_broker(facts) && !facts->service_named && !facts->trial.is_no_postern &&
	       facts->file_error == 0 && facts->trial.broker_error == EPERM;
}

static bool find_named_socket(const struct facts *facts, struct cause *cause)
{
	if (!facts->service_named || !has_no_broker(facts))
		return false;
	if (facts->service_error == EACCES && facts->service_file.st_mode != 0) {
		explain_access(facts, facts->service, &facts->service_file, S_IWGRP, cause);
		return true;
	}
	cause->reason = text("POSTERN_BROKER is set, and no broker answers there: %s.",
			     facts->trial.broker_why);
	cause->command = text("unset POSTERN_BROKER");
	return true;
}

static bool find_null(const struct facts *facts, struct cause *cause)
{
	if (facts->has_null)
		return false;
	cause->reason = text("/dev/null is missing or cannot be used; the broker needs it.");
	by_root(cause, text("rm -f /dev/null && mknod -m 666 /dev/null c 1 3"));
	return true;
}

static bool find_no_proc(const struct facts *facts, struct cause *cause)
{
	if (facts->has_proc || facts->file_error != ENOENT)
		return false;
	cause->reason = text("/proc is not mounted: a broker beside this program is not found.");
	by_root(cause, text("mount -t proc proc /proc"));
	return true;
}

static bool find_no_file(const struct facts *facts, struct cause *cause)
{
	if (facts->service_named || (facts->file_error != ENOENT && facts->file_error != ENOTDIR))
		return false;
	cause->reason = text("There is no broker at %s.", facts->path);
	by_root(cause, install_command());
	return true;
}

static bool find_noexec(const struct facts *facts, struct cause *cause)
{
	if (facts->service_named || !facts->noexec)
		return false;
	cause->reason = text("%s is on a file system mounted noexec.", facts->path);
	by_root(cause, install_command());
	return true;
}

static bool find_not_executable(const struct facts *facts, struct cause *cause)
{
	struct stat directory;

	if (facts->service_named || facts->file_error == 0)
		return false;
	if (facts->closed_directory && stat(facts->closed_directory, &directory) == 0)
		explain_access(facts, facts->closed_directory, &directory, S_IXGRP, cause);
	else if ((facts->file.st_mode & (S_IXUSR | S_IXGRP | S_IXOTH)) != 0)
		explain_access(facts, facts->path, &facts->file, S_IXGRP, cause);
	else {
		cause->reason =
			text("%s cannot be run: %s.", facts->path, strerror(facts->file_error));
		by_root(cause, install_command());
	}
	return true;
}

/* Nothing is advised that would give it privilege. */
static bool find_no_postern(const struct facts *facts, struct cause *cause)
{
	if (!has_no_broker(facts) || !facts->trial.is_no_postern)
		return false;
	cause->reason = text("%s is not Postern's broker.",
			     facts->service_named ? facts->service : facts->path);
	if (facts->path_named)
		cause->command = text("postern doctor");
	else
		by_root(cause, install_command());
	return true;
}

static bool find_service_access(const struct facts *facts, struct cause *cause)
{
	bool is_asked =
		has_no_privilege(facts) || (facts->has_foreign_network && has_no_broker(facts));

	if (!is_asked || facts->service_error != EACCES || facts->service_file.st_mode == 0)
		return false;
	explain_access(facts, facts->service, &facts->service_file, S_IWGRP, cause);
	return true;
}

static bool find_user_namespace(const struct facts *facts, struct cause *cause)
{
	if (!facts->has_foreign_network || !has_no_broker(facts))
		return false;
	cause->reason = text("This user namespace has no network of its own: its CAP_NET_RAW has "
			     "no effect.");
	use_service(facts, cause);
	return true;
}

static bool find_seccomp(const struct facts *facts, struct cause *cause)
{
	if (facts->denied_calls[0] == '\0')
		return false;
	cause->reason = text("A seccomp filter denies %s.", facts->denied_calls);
	cause->command = text("docker run --security-opt seccomp=builtin IMAGE");
	return true;
}

static bool find_bounding_set(const struct facts *facts, struct cause *cause)
{
	if (!facts->bounded || !has_no_privilege(facts))
		return false;
	cause->reason = text("CAP_NET_RAW is withheld: it is not in the bounding set.");
	use_service(facts, cause);
	return true;
}

static bool find_no_new_privs(const struct facts *facts, struct cause *cause)
{
	if (!facts->no_new_privs || !has_no_privilege(facts))
		return false;
	cause->reason = text("no_new_privs is set: the broker's file can give no privilege.");
	use_service(facts, cause);
	return true;
}

static bool find_nosuid(const struct facts *facts, struct cause *cause)
{
	if (!facts->nosuid || !has_no_privilege(facts))
		return false;
	cause->reason =
		text("%s is on a file system mounted nosuid, where no file gives privilege.",
		     facts->path);
	by_root(cause, install_command());
	return true;
}

static bool find_no_file_privilege(const struct facts *facts, struct cause *cause)
{
	bool is_setuid = (facts->file.st_mode & S_ISUID) != 0 && facts->file.st_uid == 0;

	if (!has_no_privilege(facts) || facts->has_capability || is_setuid)
		return false;
	cause->reason = text("%s has no privilege: no file capability, and it is not setuid root.",
			     facts->path);
	if (facts->keeps_capabilities)
		by_root(cause, text("setcap cap_net_raw=p %s", quoted(facts->path)));
	else
		by_root(cause, text("chown 0 %s && chmod u+s %s", quoted(facts->path),
				    quoted(facts->path)));
	return true;
}

static bool find_broker_failed(const struct facts *facts, struct cause *cause)
{
	if (!has_no_broker(facts) || facts->trial.broker_error == 0)
		return false;
	cause->reason = text("The broker does not work: %s.", facts->trial.broker_why);
	return true;
}

/* --- the network ------------------------------------------------------------------------------ */

static bool find_loopback_down(const struct facts *facts, struct cause *cause)
{
	if (!facts->loopback_down)
		return false;
	cause->reason = text("The loopback interface is down: nothing could be tried.");
	by_root(cause, text("ip link set lo up"));
	return true;
}

static bool find_ipv6_off(const struct facts *facts, struct cause *cause)
{
	if (facts->kernel_has_ipv6 && !facts->ipv6_switch)
		return false;
	if (facts->kernel_has_ipv6) {
		cause->reason = text("IPv6 is disabled by %s=1.", facts->ipv6_switch);
		by_root(cause, text("sysctl -w %s=0", facts->ipv6_switch));
	} else {
		cause->reason = text("This kernel has no IPv6, or was booted with ipv6.disable=1.");
		by_root(cause, text("modprobe ipv6"));
	}
	return true;
}

/* The protocols of `features` as people call them; allocated. */
static char *protocol_names(uint32_t features)
{
	static const struct {
		uint32_t feature;
		const char *name;
	} names[] = {
		{FEATURE_ICMP, "ICMP"},
		{FEATURE_UDP, "UDP"},
		{FEATURE_TCP, "TCP"},
		{FEATURE_SCTP, "SCTP"},
	};
	char *list = text("%s", "");

	for (int version = 4; version <= 6; version += 2) {
		uint32_t bits = version == 4 ? features : features >> FEATURE_IPV6_SHIFT;

		for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
			if (bits & names[i].feature)
				list = text("%s%s%s over IPv%d", list, *list ? ", " : "",
					    names[i].name, version);
	}
	return list;
}

static bool find_firewall(const struct facts *facts, struct cause *cause)
{
	uint32_t lost = facts->trial.features & facts->wanted & ~facts->trial.working;

	if (!facts->trial.finished || lost == 0 || facts->loopback_down)
		return false;
	if (facts->has_comparison) {
		lost &= facts->comparison.working;
		cause->reason = text("A firewall drops %s: in a private network it works.",
				     protocol_names(lost));
	} else {
		cause->reason = text("A firewall drops %s, probably: no answer from loopback.",
				     protocol_names(lost));
	}
	by_root(cause, text("nft list ruleset"));
	return lost != 0;
}

static bool find_no_route(const struct facts *facts, struct cause *cause)
{
	bool has_ipv6 = facts->kernel_has_ipv6 && !facts->ipv6_switch;
	bool without4 = (facts->wanted & IPV4) && !facts->has_route[0];
	bool without6 = (facts->wanted & IPV6) && has_ipv6 && !facts->has_route[1];

	if (!without4 && !without6)
		return false;
	cause->reason = text("There is no default route for %s%s%s: only near hosts are reached.",
			     without4 ? "IPv4" : "", without4 && without6 ? " and " : "",
			     without6 ? "IPv6" : "");
	by_root(cause, text("ip %sroute add default via GATEWAY", without4 ? "" : "-6 "));
	return true;
}

static bool find_ping_closed(const struct facts *facts, struct cause *cause)
{
	bool works = (facts->trial.working & facts->wanted & ICMP) == (facts->wanted & ICMP);

	if (!facts->ping_closed)
		return false;
	cause->matters = !works;
	if (works) {
		cause->reason = text("Ping sockets are closed to this group (net.ipv4."
				     "ping_group_range); they are not needed here.");
		return true;
	}
	cause->reason = text("For ICMP alone ping sockets would do; they are closed to this group "
			     "(net.ipv4.ping_group_range).");
	by_root(cause, text("sysctl -w net.ipv4.ping_group_range='0 2147483647'"));
	return true;
}

/* --- other ------------------------------------------------------------------------------------ */

/* Puts the directory of this program first, if the other is there, too. */
static void lead_to_own(const struct found_program *found, struct cause *cause)
{
	char *directory = program_own_directory();

	if (found->variable)
		cause->command = text("unset %s", found->variable);
	else if (directory && access(text("%s/%s", directory, found->name), X_OK) == 0)
		cause->command = text("export PATH=%s:\"$PATH\"", quoted(directory));
	else
		by_root(cause, install_command());
	free(directory);
}

static bool find_other_program(const struct facts *facts, struct cause *cause)
{
	const struct found_program *found = facts->program;

	while (found < facts->program + FOUND_PROGRAMS && found->is_postern)
		found++;
	if (found == facts->program + FOUND_PROGRAMS)
		return false;
	cause->reason = text("%s leads to %s for %s%s.", found->variable ? found->variable : "PATH",
			     found->path ? found->path : "no program", found->name,
			     found->path ? ", which is not Postern's" : "");
	lead_to_own(found, cause);
	return true;
}

static bool find_effective(const struct facts *facts, struct cause *cause)
{
	if (!facts->capability_effective || !facts->has_capability)
		return false;
	cause->reason = text("The broker has cap_net_raw=ep: where the capability is withheld it "
			     "cannot even say so.");
	by_root(cause, text("setcap cap_net_raw=p %s", quoted(facts->path)));
	return true;
}

static bool find_proc_remark(const struct facts *facts, struct cause *cause)
{
	if (facts->has_proc)
		return false;
	cause->reason = text("/proc is not mounted: not every cause can be found.");
	by_root(cause, text("mount -t proc proc /proc"));
	return true;
}

static bool find_trial_ended(const struct facts *facts, struct cause *cause)
{
	const struct trial *trial = &facts->trial;

	if (trial->finished)
		return false;
	if (trial->sandbox_error != 0)
		cause->reason = text("The sandbox of mtr-packet cannot be entered: %s.",
				     strerror(trial->sandbox_error));
	else
		cause->reason = text("The trial ended by signal %d (%s).", trial->signal,
				     strsignal(trial->signal));
	return true;
}

/* --- the table -------------------------------------------------------------------------------- */

static const struct check {
	const char *id;
	bool (*find)(const struct facts *facts, struct cause *cause);
	/* Looked at only if one of these features is missing, and then explains them all: those
	 * that cannot be opened, and those that get no answer. */
	uint32_t unopened, unanswered;
} checks[] = {
	{"no-dev-null", find_null, BROKER, 0},
	{"socket-access", find_service_access, BROKER, 0},
	{"user-namespace", find_user_namespace, BROKER, 0},
	{"seccomp", find_seccomp, EVERYTHING, EVERYTHING},
	{"loopback-down", find_loopback_down, IPV6, EVERYTHING},
	{"ipv6-off", find_ipv6_off, IPV6, IPV6},
	{"broker-socket", find_named_socket, BROKER, 0},
	{"no-proc", find_no_proc, BROKER, 0},
	{"no-broker", find_no_file, BROKER, 0},
	{"noexec", find_noexec, BROKER, 0},
	{"not-executable", find_not_executable, BROKER, 0},
	{"not-postern", find_no_postern, BROKER, 0},
	{"bounding-set", find_bounding_set, BROKER, 0},
	{"no-new-privs", find_no_new_privs, BROKER, 0},
	{"nosuid", find_nosuid, BROKER, 0},
	{"no-file-privilege", find_no_file_privilege, BROKER, 0},
	{"broker-failed", find_broker_failed, BROKER, 0},
	{"trial-ended", find_trial_ended, EVERYTHING, EVERYTHING},
	{"firewall", find_firewall, 0, EVERYTHING},
};

/* These are about no protocol. */
static const struct {
	const char *id;
	bool (*find)(const struct facts *facts, struct cause *cause);
	bool matters;
} others[] = {
	{"no-route", find_no_route, true},
	{"other-program", find_other_program, true},
	{"ping-group-range", find_ping_closed, false},
	{"effective-capability", find_effective, false},
	{"proc-missing", find_proc_remark, false},
};

static size_t find_unexplained(uint32_t missing, struct cause *cause)
{
	if (missing == 0)
		return 0;
	*cause = (struct cause){"unknown", .matters = true};
	cause->reason = text("%s: no answer, and no cause was found.", protocol_names(missing));
	return 1;
}

size_t causes_find(const struct facts *facts, struct cause causes[CAUSES_MAX])
{
	uint32_t unopened = facts->wanted & ~facts->trial.features;
	uint32_t unanswered = facts->wanted & facts->trial.features & ~facts->trial.working;
	size_t count = 0;

	for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); i++) {
		const struct check *check = &checks[i];

		causes[count] = (struct cause){check->id, .matters = true};
		if (((unopened & check->unopened) | (unanswered & check->unanswered)) == 0 ||
		    !check->find(facts, &causes[count]))
			continue;
		unopened &= ~check->unopened;
		unanswered &= ~check->unanswered;
		count++;
	}
	count += find_unexplained(unopened | unanswered, &causes[count]);
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		causes[count] = (struct cause){others[i].id, .matters = others[i].matters};
		if (others[i].find(facts, &causes[count]))
			count++;
	}
	return count;
}
