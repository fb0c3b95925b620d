/*
 * The helper process that looks up names: names from the hosts file through its sandbox, who it
 * runs as, and what tracepath does when it dies. Only loopback addresses are looked up, so that
 * nothing leaves this host.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "frontend/tracepath/names.h"

static const uint8_t loopback[16] = {127, 0, 0, 1};

static enum name_state wait_for_name(struct names *names, const uint8_t address[16],
				     const char **name)
{
	int64_t asked_ns;
	enum name_state state = names_get(names, 4, address, 0, 5, name, &asked_ns);

	for (int i = 0; i < 100 && state == NAME_AWAITED; i++) {
		struct pollfd ready = {.fd = names_fd(names), .events = POLLIN};

		cr_assert_eq(asked_ns, 5);
		poll(&ready, 1, 100);
		names_read(names);
		state = names_get(names, 4, address, 0, 7, name, &asked_ns);
	}
	return state;
}

/* Does the hosts file know the address by this name? */
static bool hosts_file_has_localhost(void)
{
	FILE *file = fopen("/etc/hosts", "re");
	char line[512];
	bool has = false;

	while (file != NULL && fgets(line, sizeof line, file))
		has |= strncmp(line, "127.0.0.1", 9) == 0 && strstr(line, "localhost") != NULL;
	if (file != NULL)
		fclose(file);
	return has;
}

Test(names, the_helper_finds_what_the_hosts_file_has)
{
	const char *name = NULL;

	if (!hosts_file_has_localhost())
		cr_skip_test("no localhost in /etc/hosts");
	struct names *names = names_start();

	cr_assert_not_null(names);
	cr_assert(!names_answered(names));
	cr_assert_eq(wait_for_name(names, loopback, &name), NAME_KNOWN);
	cr_assert_str_eq(name, "localhost");
	cr_assert(names_answered(names));
	/* Another time it comes from memory. */
	cr_assert_eq(wait_for_name(names, loopback, &name), NAME_KNOWN);
	names_end(names);
}

static pid_t only_child(void)
{
	char path[64];
	int pid = 0;

	snprintf(path, sizeof path, "/proc/self/task/%d/children", getpid());
	FILE *file = fopen(path, "re");

	if (file == NULL || fscanf(file, "%d", &pid) != 1)
		pid = 0;
	if (file != NULL)
		fclose(file);
	return pid;
}

static long status_number(pid_t pid, const char *format)
{
	char path[64], line[256];
	long number = -1;

	snprintf(path, sizeof path, "/proc/%d/status", pid);
	FILE *file = fopen(path, "re");

	while (file != NULL && fgets(line, sizeof line, file) && number < 0)
		if (sscanf(line, format, &number) != 1)
			number = -1;
	if (file != NULL)
		fclose(file);
	return number;
}

Test(names, the_helper_of_root_is_an_unprivileged_user)
{
	const char *name;
	struct names *names = names_start();
	pid_t helper = only_child();

	cr_assert_not_null(names);
	if (helper == 0 || geteuid() != 0) {
		names_end(names);
		cr_skip_test("not root, or the kernel does not list children");
	}
	/* It answers once it has entered its sandbox. */
	wait_for_name(names, loopback, &name);
	cr_expect_eq(status_number(helper, "Uid: %*d %ld"), 65534);
	cr_expect_eq(status_number(helper, "Uid: %*d %*d %ld"), 65534);
	cr_expect_eq(status_number(helper, "Gid: %*d %*d %ld"), 65534);
	cr_expect_eq(status_number(helper, "CapPrm: %lx"), 0);
	cr_expect_eq(status_number(helper, "CapBnd: %lx"), 0);
	cr_expect_eq(status_number(helper, "NoNewPrivs: %ld"), 1);
	names_end(names);
}

Test(names, a_helper_that_dies_leaves_no_name_awaited)
{
	struct names *names = names_start();
	const char *name;
	int64_t asked_ns;
	pid_t helper = only_child();

	cr_assert_not_null(names);
	if (helper == 0) {
		names_end(names);
		cr_skip_test("the kernel does not list children");
	}
	kill(helper, SIGKILL);
	cr_assert_eq(wait_for_name(names, loopback, &name), NAME_NONE);
	cr_assert_eq(names_fd(names), -1);
	const uint8_t other[16] = {127, 0, 0, 2};
	cr_assert_eq(names_get(names, 4, other, 0, 0, &name, &asked_ns), NAME_NONE);
	names_end(names);
}

Test(names, the_helper_is_gone_after_the_end)
{
	struct names *names = names_start();

	cr_assert_not_null(names);
	names_end(names);
	cr_assert(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
}
