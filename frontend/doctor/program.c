/*
 * Which programs the names mtr-packet and tracepath lead to. Runs in postern doctor, as the user.
 * What it starts may be any program: it gets no input, little time, and its output is only searched
 * for a name.
 */
#include "frontend/doctor/program.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum {
	VERSION_BYTES = 256,
	VERSION_MS = 2000,
};

/* As the kernel was asked to execute it: works without /proc. */
static const char *own_path(void)
{
	return (const char *)getauxval(AT_EXECFN);
}

char *program_own_directory(void)
{
	char *path = own_path() ? realpath(own_path(), NULL) : NULL;
	char *slash = path ? strrchr(path, '/') : NULL;

	if (slash == NULL) {
		free(path);
		return NULL;
	}
	*slash = '\0';
	return path;
}

static bool is_file_that_runs(const char *path)
{
	struct stat status;

	return stat(path, &status) == 0 && S_ISREG(status.st_mode) && access(path, X_OK) == 0;
}

/* As execvp(3) does. Allocated; NULL: none. */
static char *find_in_path(const char *name)
{
	const char *list = getenv("PATH");
	char *path = NULL;

	if (strchr(name, '/'))
		return is_file_that_runs(name) ? strdup(name) : NULL;
	while (list != NULL) {
		int length = (int)strcspn(list, ":");

		if (asprintf(&path, "%.*s%s%s", length, list, length > 0 ? "/" : "", name) < 0)
			return NULL;
		if (is_file_that_runs(path))
			return path;
		free(path);
		list = list[length] == ':' ? list + length + 1 : NULL;
	}
	return NULL;
}

/* Starts PATH --version with its output in *output. Returns the process, −1: none. */
static pid_t start_version(const char *path, int *output)
{
	char *const argv[] = {(char *)path, (char *)"--version", NULL};
	posix_spawn_file_actions_t actions;
	pid_t pid = -1;
	int pipe_fd[2];

	if (pipe2(pipe_fd, O_CLOEXEC) != 0)
		return -1;
	if (posix_spawn_file_actions_init(&actions) == 0) {
		if (posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY,
						     0) != 0 ||
		    posix_spawn_file_actions_adddup2(&actions, pipe_fd[1], STDOUT_FILENO) != 0 ||
		    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY,
						     0) != 0 ||
		    posix_spawn(&pid, path, &actions, NULL, argv, environ) != 0)
			pid = -1;
		posix_spawn_file_actions_destroy(&actions);
	}
	close(pipe_fd[1]);
	*output = pipe_fd[0];
	return pid;
}

static bool says_postern(const char *path)
{
	char text[VERSION_BYTES] = "";
	int output = -1, status;
	pid_t pid = start_version(path, &output);
	struct pollfd polled = {.fd = output, .events = POLLIN};

	if (pid > 0 && poll(&polled, 1, VERSION_MS) > 0 && read(output, text, sizeof(text) - 1) < 0)
		text[0] = '\0';
	if (output >= 0)
		close(output);
	if (pid > 0) {
		kill(pid, SIGKILL);
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
	}
	return strstr(text, "postern") != NULL;
}

static bool is_postern(const char *path)
{
	struct stat own, other;

	if (own_path() && stat(own_path(), &own) == 0 && stat(path, &other) == 0 &&
	    own.st_dev == other.st_dev && own.st_ino == other.st_ino)
		return true;
	return says_postern(path);
}

struct found_program program_find(const char *name, const char *variable)
{
	const char *named = variable ? getenv(variable) : NULL;
	struct found_program found = {.name = name, .variable = named ? variable : NULL};

	found.path = find_in_path(named ? named : name);
	found.is_postern = found.path && is_postern(found.path);
	return found;
}
