/*
 * Finds, starts and buries the broker: a socketpair on its descriptor 0, nothing else inherited but
 * a place for one line of words, no argument, no environment. Runs in the front end, as the user,
 * before it confines itself.
 */
#include "frontend/broker_process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

static const char program[] = "postern-broker";

enum {
	/* Asked for, granted as far as net.core.wmem_max goes: room for every probe that may be
	 * open, so that neither side waits for the other more often than it must. */
	CHANNEL_BYTES = 8 << 20,
	/* How long a broker whose channel ended may take to be gone. */
	BURIAL_MS = 50,
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

/* The child of vfork(2), from there to execve(2): its three descriptors and nothing else; its
 * signals it puts in order itself. It runs in the memory of its parent, which stands still
 * meanwhile: it may call nothing but the system, and write nothing but *error, why it failed, and
 * errno.
 * Should a signal reach it, the parent has no handlers that could run here. */
static _Noreturn void become(const char *path, int channel_fd, int words_fd, volatile int *error)
{
	static const char cannot[] = "postern-broker: cannot be run: ";
	char name[] = "postern-broker";
	char *const argv[] = {name, NULL};
	char *const envp[] = {NULL};
	int null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);

	if (null_fd >= 0 && dup2(channel_fd, STDIN_FILENO) >= 0 &&
	    dup2(null_fd, STDOUT_FILENO) >= 0 && dup2(words_fd, STDERR_FILENO) >= 0)
		execve(path, argv, envp);
	*error = errno;
	/* Where vfork(2) is a fork(2), as musl has it on some processors, the parent does not see
	 * that: this it will hear. */
	const char *why = strerror(errno);
	(void)!write(words_fd, cannot, sizeof(cannot) - 1);
	(void)!write(words_fd, why, strlen(why));
	_exit(EXIT_FAILURE);
}

/* posix_spawn(3) does as much, but takes memory, and waits on a pipe before this process can go on
 * (musl), or sets every signal back before the other can (glibc). Returns 0 or an errno. */
static int spawn(const char *path, int channel_fd, int words_fd, pid_t *pid)
{
	volatile int error = 0;

	*pid = vfork();
	if (*pid < 0)
		return errno;
	if (*pid == 0)
		become(path, channel_fd, words_fd, &error);
	if (error != 0)
		(void)waitpid(*pid, NULL, 0);
	return error;
}

static void widen(int fd)
{
	int bytes = CHANNEL_BYTES;

	/* Less than asked for only means more waiting. */
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
}

int broker_start(const char *path, struct broker_process *broker)
{
	int channel[2], words[2];

	*broker = (struct broker_process){-1, -1, -1};
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel) < 0)
		return errno;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, words) < 0) {
		int error = errno;
		close(channel[0]);
		close(channel[1]);
		return error;
	}

	int error = spawn(path, channel[1], words[1], &broker->pid);
	/* The broker's end as well, which it may not widen itself; it has nothing to say yet. */
	widen(channel[0]);
	widen(channel[1]);
	close(channel[1]);
	close(words[1]);
	broker->channel_fd = channel[0];
	broker->words_fd = words[0];
	if (error) {
		broker->pid = -1;
		broker_leave(broker);
	}
	return error;
}

/* Its first line, which is what it ends with; 0: it said nothing. */
static size_t hear(struct broker_process *broker, char *line, size_t size)
{
	ssize_t length = recv(broker->words_fd, line, size - 1, MSG_DONTWAIT);
	char *newline;

	if (length <= 0)
		return 0;
	newline = memchr(line, '\n', (size_t)length);
	if (newline)
		length = newline - line;
	line[length] = '\0';
	/* Words are for a terminal: nothing in them may steer it. */
	for (ssize_t i = 0; i < length; i++)
		if (line[i] < ' ' || line[i] > '~')
			line[i] = '?';
	return (size_t)length;
}

/* The channel's end comes a moment before the process's. */
static bool wait_for_end(struct broker_process *broker, int *status)
{
	for (int ms = 0; broker->pid > 0 && ms < BURIAL_MS; ms++) {
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

int broker_last_words(struct broker_process *broker, char *why, size_t size)
{
	int status = 0;
	bool ended = wait_for_end(broker, &status);

	if (hear(broker, why, size) == 0) {
		if (ended && WIFSIGNALED(status))
			snprintf(why, size, "%s: ended by signal %d", program, WTERMSIG(status));
		else if (ended)
			snprintf(why, size, "%s: ended with exit status %d", program,
				 WEXITSTATUS(status));
		else
			snprintf(why, size, "%s: closed its channel", program);
	}
	return ended && WIFEXITED(status) && WEXITSTATUS(status) == EX_NOPERM ? EPERM : ECONNRESET;
}

void broker_leave(struct broker_process *broker)
{
	if (broker->channel_fd >= 0)
		close(broker->channel_fd);
	if (broker->words_fd >= 0)
		close(broker->words_fd);
	broker->channel_fd = -1;
	broker->words_fd = -1;
}

void broker_bury(struct broker_process *broker)
{
	int status;

	broker_leave(broker);
	(void)wait_for_end(broker, &status);
}
