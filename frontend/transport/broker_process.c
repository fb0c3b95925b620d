/*
 * Finds, starts and reaps the broker, or connects to one that a service manager starts. Runs in the
 * front end, as the user, before the sandbox is entered. A broker started here gets the channel as
 * descriptor 0, a socket for its error line as descriptor 2, no argument and no environment. Of its
 * error line nothing is trusted but that it is bytes.
 */
#include "frontend/transport/broker_process.h"

#include <cap-ng.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

static const char program[] = "postern-broker";
/* Where a service manager listens (broker/postern-broker.socket). */
const char broker_service_socket[] = "/run/postern/broker.sock";

enum {
	PATH_BYTES = 4096,
	/* A broker that has neither sent its hello nor ended after this time is kept. */
	START_MS = 5000,
	/* How long a broker whose channel is closed may take to end. */
	REAP_MS = 50,
};

void broker_find(const char *wanted, char *path, size_t size)
{
	if (wanted) {
		snprintf(path, size, "%s", wanted);
		return;
	}

	ssize_t length = readlink("/proc/self/exe", path, size - sizeof(program));
	if (length > 0 && (size_t)length < size - sizeof(program)) {
		path[length] = '\0';
		char *slash = strrchr(path, '/');
		if (slash) {
			memcpy(slash + 1, program, sizeof(program));
			if (access(path, X_OK) == 0)
				return;
		}
	}
	snprintf(path, size, "%s", POSTERN_BROKER_PATH);
}

/* The broker lets those set routing marks who can do so without it. It learns this from the
 * inheritable set, the only one that execve(2) keeps without giving privilege. If a call fails the
 * broker refuses marks, which is what its hello says. */
static void pass_on_capabilities(void)
{
	static const unsigned int capabilities[] = {CAP_NET_RAW, CAP_NET_ADMIN};
	bool changed = false;

	if (capng_get_caps_process() != 0)
		return;
	for (size_t i = 0; i < sizeof(capabilities) / sizeof(*capabilities); i++) {
		/* capset(2) wants an inheritable capability in the bounding set as well. */
		if (capng_have_capability(CAPNG_PERMITTED, capabilities[i]) &&
		    capng_have_capability(CAPNG_BOUNDING_SET, capabilities[i]))
			changed |= capng_update(CAPNG_ADD, CAPNG_INHERITABLE, capabilities[i]) == 0;
	}
	if (changed)
		(void)capng_apply(CAPNG_SELECT_CAPS);
}

/* Returns 0 or an errno. */
static int spawn(const char *path, int channel_fd, int stderr_fd, pid_t *pid)
{
	posix_spawn_file_actions_t actions;
	char name[] = "postern-broker";
	char *const argv[] = {name, NULL};
	char *const envp[] = {NULL};

	int error = posix_spawn_file_actions_init(&actions);
	if (error)
		return error;
	error = posix_spawn_file_actions_adddup2(&actions, channel_fd, STDIN_FILENO);
	if (!error)
		error = posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null",
							 O_WRONLY, 0);
	if (!error)
		error = posix_spawn_file_actions_adddup2(&actions, stderr_fd, STDERR_FILENO);
	if (!error)
		error = posix_spawn(pid, path, &actions, NULL, argv, envp);
	posix_spawn_file_actions_destroy(&actions);
	return error;
}

static const struct broker_process none = {program, -1, -1, -1};

/* Returns 0, or an errno with nothing left open. */
static int start(const char *path, struct broker_process *broker)
{
	int channel[2], errors[2];

	*broker = none;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel) < 0)
		return errno;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, errors) < 0) {
		int error = errno;
		close(channel[0]);
		close(channel[1]);
		return error;
	}

	pass_on_capabilities();
	int error = spawn(path, channel[1], errors[1], &broker->pid);
	close(channel[1]);
	close(errors[1]);
	broker->channel_fd = channel[0];
	broker->stderr_fd = errors[0];
	if (error) {
		broker->pid = -1;
		broker_close(broker);
	}
	return error;
}

/* Connects to a broker. Returns as start() does. Does not wait where its queue is full. */
static int connect_to(const char *path, struct broker_process *broker)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	size_t length = strlen(path);

	*broker = none;
	if (length >= sizeof(address.sun_path))
		return ENAMETOOLONG;
	memcpy(address.sun_path, path, length);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return errno;
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) != 0) {
		int error = errno;
		close(fd);
		return error;
	}
	broker->name = path;
	broker->channel_fd = fd;
	return 0;
}

/* Waits for the hello or the end of the broker. Returns false if it has ended. */
static bool has_started(const struct broker_process *broker)
{
	struct pollfd channel = {.fd = broker->channel_fd, .events = POLLIN};
	char byte;

	(void)poll(&channel, 1, START_MS);
	return recv(broker->channel_fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) != 0;
}

static int open_named(const char *path, struct broker_process *broker, char *why, size_t size)
{
	int error = connect_to(path, broker);

	if (error)
		snprintf(why, size, "POSTERN_BROKER: %s: %s", strerror(error), path);
	return error;
}

int broker_open(const char *wanted, struct broker_process *broker, char *why, size_t size)
{
	const char *named = getenv("POSTERN_BROKER");
	struct broker_process service;
	char path[PATH_BYTES];

	if (!wanted && named && *named)
		return open_named(named, broker, why, size);
	broker_find(wanted, path, sizeof(path));
	int error = start(path, broker);
	if (error)
		snprintf(why, size, "%s: %s: %s", program, strerror(error), path);

	/* Few hosts have the socket: elsewhere nothing waits for the broker to start. */
	if (wanted || access(broker_service_socket, W_OK) != 0 || (!error && has_started(broker)))
		return error;
	/* If this fails too, why the broker of this process does not work is what matters. */
	if (connect_to(broker_service_socket, &service) != 0)
		return error;
	broker_close(broker);
	broker_reap(broker);
	*broker = service;
	return 0;
}

/* Reads the first line that the broker wrote. Returns its length. */
static size_t read_error_line(const struct broker_process *broker, char *line, size_t size)
{
	ssize_t length = recv(broker->stderr_fd, line, size - 1, MSG_DONTWAIT);

	if (length <= 0)
		return 0;
	line[length] = '\0';
	length = (ssize_t)strcspn(line, "\n");
	line[length] = '\0';
	/* The line is shown on terminals: no control characters. */
	for (ssize_t i = 0; i < length; i++)
		if (line[i] < ' ' || line[i] > '~')
			line[i] = '?';
	return (size_t)length;
}

/* The channel ends a moment before the process does. */
static bool wait_for_end(struct broker_process *broker, int *status)
{
	for (int ms = 0; broker->pid > 0 && ms < REAP_MS; ms++) {
		pid_t ended = waitpid(broker->pid, status, WNOHANG);
		if (ended == broker->pid) {
			broker->pid = -1;
			return true;
		}
		if (ended < 0 && errno != EINTR)
			return false;
		poll(NULL, 0, 1);
	}
	return false;
}

int broker_exit_reason(struct broker_process *broker, char *why, size_t size)
{
	int status = 0;
	bool ended = wait_for_end(broker, &status);

	if (read_error_line(broker, why, size) == 0) {
		if (ended && WIFSIGNALED(status))
			snprintf(why, size, "%s: ended by signal %d", broker->name,
				 WTERMSIG(status));
		else if (ended)
			snprintf(why, size, "%s: ended with exit status %d", broker->name,
				 WEXITSTATUS(status));
		else
			snprintf(why, size, "%s: closed its channel", broker->name);
	}
	return ended && WIFEXITED(status) && WEXITSTATUS(status) == EX_NOPERM ? EPERM : ECONNRESET;
}

void broker_close(struct broker_process *broker)
{
	if (broker->channel_fd >= 0)
		close(broker->channel_fd);
	if (broker->stderr_fd >= 0)
		close(broker->stderr_fd);
	broker->channel_fd = -1;
	broker->stderr_fd = -1;
}

void broker_reap(struct broker_process *broker)
{
	int status;

	(void)wait_for_end(broker, &status);
}
