/*
 * A front end of root's, and its helper, that were taken over: what they may try then. Each attack
 * runs once without a sandbox, where it has to succeed, and once in each sandbox, where it must
 * not. It runs in a network namespace and a folder of its own. Prints TAP; exit status 77: skipped.
 */
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "policy/sandbox.h"
#include "tests/support/sandbox.h"

enum { STOPPED = 0, SUCCEEDED = 42, NO_SANDBOX = 43 };

/* What is attacked: files and a socket that only root may use, and a process of root's. */
static char folder[] = "/tmp/postern-takeover-XXXXXX";
static char secret_path[64], new_path[64], socket_path[64];
static const char abstract_name[] = "\0postern-takeover";
static pid_t victim;
static volatile char victim_memory = 'x'; /* at the same address in the victim */

/* --- attacks: each returns whether it succeeded ----------------------------------------------- */

static bool add_route(void)
{
	struct {
		struct nlmsghdr header;
		struct rtmsg route;
		struct rtattr attribute;
		struct in_addr destination;
	} request = {
		.header = {.nlmsg_len = sizeof(request),
			   .nlmsg_type = RTM_NEWROUTE,
			   .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE},
		.route = {.rtm_family = AF_INET,
			  .rtm_dst_len = 32,
			  .rtm_table = RT_TABLE_MAIN,
			  .rtm_protocol = RTPROT_STATIC,
			  .rtm_type = RTN_UNREACHABLE},
		.attribute = {.rta_len = RTA_LENGTH(sizeof(struct in_addr)), .rta_type = RTA_DST},
		.destination = {htonl(0xcb007101)}, /* 203.0.113.1 */
	};
	struct {
		struct nlmsghdr header;
		struct nlmsgerr error;
		char rest[512];
	} reply;

	int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
	return fd >= 0 && send(fd, &request, sizeof(request), 0) == sizeof(request) &&
	       recv(fd, &reply, sizeof(reply), 0) > 0 && reply.error.error == 0;
}

static bool read_secret(void)
{
	char byte;
	int fd = open(secret_path, O_RDONLY);

	return fd >= 0 && read(fd, &byte, 1) == 1;
}

static bool make_file(void)
{
	int fd = open(new_path, O_WRONLY | O_CREAT, 0600);

	return fd >= 0 && unlink(new_path) == 0;
}

static bool change_file(void)
{
	int fd = open(secret_path, O_WRONLY);

	return fd >= 0 && write(fd, "y", 1) == 1;
}

static bool read_memory_in_proc(void)
{
	char path[64], byte;

	snprintf(path, sizeof(path), "/proc/%d/mem", victim);
	int fd = open(path, O_RDONLY);
	return fd >= 0 && pread(fd, &byte, 1, (off_t)(uintptr_t)&victim_memory) == 1;
}

static bool read_memory(void)
{
	char byte;
	struct iovec here = {&byte, 1}, there = {(void *)(uintptr_t)&victim_memory, 1};

	return process_vm_readv(victim, &here, 1, &there, 1, 0) == 1;
}

static bool trace_process(void)
{
	return ptrace(PTRACE_SEIZE, victim, NULL, NULL) == 0;
}

static bool signal_process(void)
{
	return kill(victim, SIGURG) == 0; /* which is ignored */
}

/* A socket at a path or, with an empty first character, at an abstract name. */
static bool unix_socket(int (*attach)(int, const struct sockaddr *, socklen_t), const char *name,
			int *fd)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	strcpy(name[0] ? address.sun_path : address.sun_path + 1, name[0] ? name : name + 1);
	*fd = socket(AF_UNIX, SOCK_STREAM, 0);
	return *fd >= 0 && attach(*fd, (struct sockaddr *)&address, sizeof(address)) == 0;
}

static bool connect_to_socket(void)
{
	int fd;

	return unix_socket(connect, socket_path, &fd);
}

static bool connect_to_abstract_socket(void)
{
	int fd;

	return unix_socket(connect, abstract_name, &fd);
}

static bool start_process(void)
{
	pid_t child = fork();

	if (child == 0)
		syscall(SYS_exit_group, 0);
	return child > 0 && waitpid(child, NULL, 0) == child;
}

/* The new program reports the success: `exit 42`. */
static bool run_program(void)
{
	execl("/bin/sh", "sh", "-c", "exit 42", (char *)NULL);
	return false;
}

static bool open_raw_socket(void)
{
	return socket(AF_INET, SOCK_RAW, IPPROTO_ICMP) >= 0;
}

static bool become_root_again(void)
{
	return setresgid(0, 0, 0) == 0 && setresuid(0, 0, 0) == 0 && unshare(CLONE_NEWNET) == 0;
}

static const struct attack {
	const char *name;
	bool (*try)(void);
	int landlock; /* the version that the helper needs against it, where its filter lets it pass
		       */
} attacks[] = {
	{"adds a route", add_route, 0},
	{"reads a file of root's", read_secret, 0},
	{"makes a file in a folder of root's", make_file, 0},
	{"changes a file of root's", change_file, 0},
	{"reads another process's /proc/PID/mem", read_memory_in_proc, 0},
	{"reads another process's memory", read_memory, 0},
	{"traces another process", trace_process, 0},
	{"signals another process", signal_process, 0},
	{"connects to a unix socket of root's", connect_to_socket, 0},
	{"connects to an abstract unix socket", connect_to_abstract_socket, 6},
	{"starts a process", start_process, 0},
	{"runs a program", run_program, 0},
	{"opens a raw socket", open_raw_socket, 0},
	{"becomes root with capabilities", become_root_again, 0},
};

/* --- running them ----------------------------------------------------------------------------- */

static int no_sandbox(void)
{
	return 0;
}

static const struct place {
	const char *name;
	int (*enter)(void);
} places[] = {
	{"mtr-packet", sandbox_mtr_packet},
	{"tracepath", sandbox_tracepath},
	{"the helper", sandbox_names},
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct run {
	const struct attack *attack;
	int (*enter)(void);
};

static int run(void *context)
{
	const struct run *run = context;

	if (run->enter() != 0)
		return NO_SANDBOX;
	return run->attack->try() ? SUCCEEDED : STOPPED;
}

static bool succeeds(const struct attack *attack, int (*enter)(void))
{
	struct run context = {attack, enter};
	struct sandbox_end end = sandbox_run(run, &context);

	/* A sandbox that cannot be entered stops nothing. */
	return end.signal == 0 && end.status != STOPPED;
}

static void listen_at(const char *name)
{
	int fd;

	if (!unix_socket(bind, name, &fd) || listen(fd, 100) != 0)
		err(EXIT_FAILURE, "unix socket");
}

static void set_up(void)
{
	if (unshare(CLONE_NEWNET) != 0)
		err(EXIT_FAILURE, "network namespace");
	if (!mkdtemp(folder))
		err(EXIT_FAILURE, "%s", folder);
	snprintf(secret_path, sizeof(secret_path), "%s/secret", folder);
	snprintf(new_path, sizeof(new_path), "%s/new", folder);
	snprintf(socket_path, sizeof(socket_path), "%s/socket", folder);
	int fd = open(secret_path, O_WRONLY | O_CREAT, 0600);
	if (fd < 0 || write(fd, "x", 1) != 1 || close(fd) != 0)
		err(EXIT_FAILURE, "%s", secret_path);
	listen_at(socket_path);
	listen_at(abstract_name);

	victim = fork();
	if (victim == 0)
		for (;;)
			pause();
	if (victim < 0)
		err(EXIT_FAILURE, "fork");
}

static void tear_down(void)
{
	kill(victim, SIGKILL);
	waitpid(victim, NULL, 0);
	unlink(secret_path);
	unlink(socket_path);
	rmdir(folder);
}

static const char *reason_to_skip(const struct attack *attack, const struct place *place)
{
	enum { GET_VERSION = 1 << 0 }; /* LANDLOCK_CREATE_RULESET_VERSION */

	if (!succeeds(attack, no_sandbox))
		return "it does not work here at all";
	if (place->enter == sandbox_names && attack->landlock > 0 &&
	    syscall(SYS_landlock_create_ruleset, NULL, 0, GET_VERSION) < attack->landlock)
		return "the kernel's Landlock cannot stop it";
	return NULL;
}

/* Returns whether the attack is stopped, or cannot be. */
static bool check(const struct attack *attack, const struct place *place)
{
	const char *skip = reason_to_skip(attack, place);
	bool stopped = skip || !succeeds(attack, place->enter);

	printf("%sok - taken over, %s never %s%s%s\n", stopped ? "" : "not ", place->name,
	       attack->name, skip ? " # SKIP " : "", skip ? skip : "");
	return stopped;
}

int main(void)
{
	bool all_stopped = true;

	if (geteuid() != 0 || sandbox_sanitized()) {
		puts("only for root, and not with sanitizers");
		return 77;
	}
	set_up();
	for (size_t i = 0; i < COUNT(attacks); i++)
		for (size_t j = 0; j < COUNT(places); j++)
			all_stopped &= check(&attacks[i], &places[j]);
	tear_down();
	return all_stopped ? EXIT_SUCCESS : EXIT_FAILURE;
}
