/*
 * A program under measurement, its pipes and what it costs. Runs in the benchmark programs, which
 * trust it: what it should not do ends them.
 */
#include "tests/support/bench/client.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/bench/measure.h"

extern char **environ;

void client_prepare(void)
{
	if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0)
		measure_die("cannot adopt orphans");
}

void client_start(struct client *client, char *const argv[])
{
	posix_spawn_file_actions_t files;
	int to[2], from[2];

	memset(client, 0, offsetof(struct client, unwritten));
	if (pipe2(to, O_CLOEXEC) != 0 || pipe2(from, O_CLOEXEC) != 0)
		measure_die("cannot make pipes");
	posix_spawn_file_actions_init(&files);
	posix_spawn_file_actions_adddup2(&files, to[0], STDIN_FILENO);
	posix_spawn_file_actions_adddup2(&files, from[1], STDOUT_FILENO);
	errno = posix_spawnp(&client->pid, argv[0], &files, NULL, argv, environ);
	if (errno != 0)
		measure_die(argv[0]);
	posix_spawn_file_actions_destroy(&files);
	close(to[0]);
	close(from[1]);
	client->to_fd = to[1];
	client->from_fd = from[0];
	if (fcntl(client->to_fd, F_SETFL, O_NONBLOCK) != 0)
		measure_die("cannot set up a pipe");
}

/* --- requests ----------------------------------------------------------------------------------
 */

size_t client_put_request(char *at, uint32_t token, const char *request, size_t length)
{
	char digits[10];
	size_t from = sizeof(digits);
	char *start = at;

	do {
		digits[--from] = (char)('0' + token % 10);
		token /= 10;
	} while (token > 0);
	memcpy(at, digits + from, sizeof(digits) - from);
	at += sizeof(digits) - from;
	*at++ = ' ';
	memcpy(at, request, length);
	at += length;
	*at++ = '\n';
	return (size_t)(at - start);
}

char *client_space(struct client *client, size_t *room)
{
	size_t left = client->unwritten_end - client->unwritten_start;

	if (client->unwritten_start > 0) {
		memmove(client->unwritten, client->unwritten + client->unwritten_start, left);
		client->unwritten_start = 0;
		client->unwritten_end = left;
	}
	*room = sizeof(client->unwritten) - left;
	return client->unwritten + left;
}

void client_added(struct client *client, size_t count)
{
	client->unwritten_end += count;
}

bool client_has_unwritten(const struct client *client)
{
	return client->unwritten_end > client->unwritten_start;
}

void client_write(struct client *client)
{
	if (!client_has_unwritten(client))
		return;
	ssize_t written = write(client->to_fd, client->unwritten + client->unwritten_start,
				client->unwritten_end - client->unwritten_start);
	if (written >= 0)
		client->unwritten_start += (size_t)written;
	else if (errno != EAGAIN && errno != EINTR)
		measure_die("cannot write to the program");
}

/* --- replies -----------------------------------------------------------------------------------
 */

bool client_read(struct client *client)
{
	size_t left = client->unread_end - client->unread_start;

	memmove(client->unread, client->unread + client->unread_start, left);
	client->unread_start = 0;
	client->unread_end = left;
	ssize_t count = read(client->from_fd, client->unread + left, sizeof(client->unread) - left);
	if (count < 0 && errno != EINTR)
		measure_die("cannot read from the program");
	if (count > 0)
		client->unread_end += (size_t)count;
	return count != 0;
}

static bool starts_with(const char *at, const char *end, const char *word)
{
	size_t length = strlen(word);

	return (size_t)(end - at) >= length && memcmp(at, word, length) == 0;
}

/* The number behind "round-trip-time ". */
static bool read_rtt(const char *at, const char *end, uint32_t *rtt_us)
{
	static const char name[] = " round-trip-time ";
	const char *found = memmem(at, (size_t)(end - at), name, sizeof(name) - 1);

	*rtt_us = 0;
	if (!found)
		return false;
	for (at = found + sizeof(name) - 1; at < end && *at >= '0' && *at <= '9'; at++)
		*rtt_us = *rtt_us * 10 + (uint32_t)(*at - '0');
	return true;
}

bool client_next(struct client *client, struct reply *reply)
{
	const char *at = client->unread + client->unread_start;
	const char *end = memchr(at, '\n', client->unread_end - client->unread_start);

	if (!end) {
		if (client->unread_end - client->unread_start == sizeof(client->unread))
			measure_die("a reply without end");
		return false;
	}
	client->unread_start = (size_t)(end - client->unread) + 1;
	reply->token = 0;
	for (; at < end && *at >= '0' && *at <= '9'; at++)
		reply->token = reply->token * 10 + (uint32_t)(*at - '0');
	if (read_rtt(at, end, &reply->rtt_us))
		reply->word = REPLY_ANSWER;
	else
		reply->word = starts_with(at, end, " no-reply") ? REPLY_NO_REPLY : REPLY_OTHER;
	return true;
}

/* --- what it costs -----------------------------------------------------------------------------
 */

static size_t read_file(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t used = 0;
	ssize_t count;

	while (fd >= 0 && used + 1 < size && (count = read(fd, text + used, size - 1 - used)) > 0)
		used += (size_t)count;
	if (fd >= 0)
		close(fd);
	text[used] = '\0';
	return used;
}

/* 0 for a process that is gone. */
static int64_t cpu_ns(pid_t pid)
{
	char path[64], text[256];

	snprintf(path, sizeof(path), "/proc/%d/schedstat", pid);
	return read_file(path, text, sizeof(text)) > 0 ? strtoll(text, NULL, 10) : 0;
}

struct client_cpu client_cpu(const struct client *client)
{
	struct client_cpu used = {.program_ns = cpu_ns(client->pid)};
	char path[64], text[4096];
	pid_t pid;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", client->pid, client->pid);
	read_file(path, text, sizeof(text));
	for (char *at = text; (pid = (pid_t)strtol(at, &at, 10)) > 0;)
		used.others_ns += cpu_ns(pid);
	return used;
}

void client_hang_up(struct client *client)
{
	struct reply ignored;

	close(client->to_fd);
	client->to_fd = -1;
	while (client_read(client))
		while (client_next(client, &ignored))
			;
	close(client->from_fd);
}

int client_end(struct client *client)
{
	int status, of_program = 0;
	pid_t pid;

	client_hang_up(client);
	while ((pid = waitpid(-1, &status, 0)) > 0)
		if (pid == client->pid)
			of_program = status;
	return of_program;
}
