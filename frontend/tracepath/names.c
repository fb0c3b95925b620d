/*
 * Names of addresses: tracepath's cache, and the helper process with its threads that call
 * getnameinfo(3). tracepath distrusts the helper's answers; the helper distrusts name servers, has
 * no descriptor but its end of the channel, and may do only what name services need
 * (policy/filter/table_names.c).
 */
#include "frontend/tracepath/names.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "frontend/transport/ip_family.h"
#include "policy/sandbox.h"

enum {
	/* A trace has at most 255 hops, some with more than one address. */
	NAMES_MAX = 320,
	/* Lookups at once. One takes milliseconds, or ten seconds and more where the name server
	 * does not answer. */
	THREADS = 8,
	CHANNEL = 3, /* the helper's descriptor */
};

struct name_request {
	uint32_t index;
	uint32_t scope;
	uint8_t family;
	uint8_t reserved[7];
	uint8_t address[16];
};

struct name_reply {
	uint32_t index;
	char name[NAME_BYTES]; /* empty: none */
};

struct entry {
	enum name_state state;
	struct name_request request;
	int64_t asked_ns;
	char name[NAME_BYTES];
};

struct names {
	int fd; /* the channel; -1: the helper is gone */
	pid_t pid;
	unsigned count;
	bool answered;
	struct entry entries[NAMES_MAX];
};

/* --- in the helper ---------------------------------------------------------------------------- */

static void look_up(const struct name_request *request, struct name_reply *reply)
{
	struct sockaddr_storage address;
	socklen_t length =
		ip_family_to_socket(request->family, request->address, 0, request->scope, &address);

	memset(reply, 0, sizeof *reply);
	reply->index = request->index;
	if (getnameinfo((struct sockaddr *)&address, length, reply->name, sizeof reply->name, NULL,
			0, NI_NAMEREQD) != 0)
		reply->name[0] = '\0';
}

/* All threads read from one socket: each request goes to one that is free. */
static void *serve(void *nothing)
{
	struct name_request request;
	struct name_reply reply;

	for (;;) {
		ssize_t length = recv(CHANNEL, &request, sizeof request, 0);

		if (length < 0 && errno == EINTR)
			continue;
		if (length != sizeof request)
			_exit(EXIT_SUCCESS);
		look_up(&request, &reply);
		if (send(CHANNEL, &reply, sizeof reply, MSG_NOSIGNAL) < 0 && errno != EINTR)
			_exit(EXIT_SUCCESS);
	}
	return nothing;
}

/* The helper keeps nothing of tracepath's open: who reads its output waits for the end of file. */
static void keep_channel_only(int channel)
{
	int null = open("/dev/null", O_RDWR);

	if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0 ||
	    dup2(null, STDERR_FILENO) < 0 || (channel != CHANNEL && dup2(channel, CHANNEL) < 0) ||
	    close_range(CHANNEL + 1, ~0u, 0) != 0)
		_exit(EXIT_FAILURE);
}

static _Noreturn void run_helper(int channel)
{
	struct pollfd end = {.fd = CHANNEL}; /* POLLHUP is always reported */
	pthread_t thread;

	/* The terminal's interrupt is for tracepath, whose last lines may still need names. */
	signal(SIGINT, SIG_IGN);
	keep_channel_only(channel);
	if (sandbox_names() != 0)
		_exit(EXIT_FAILURE);
	for (int i = 0; i < THREADS; i++)
		if (pthread_create(&thread, NULL, serve, NULL) != 0)
			_exit(EXIT_FAILURE);
	/* A lookup may hang when tracepath ends: this thread ends them all. */
	while (poll(&end, 1, -1) < 0 && errno == EINTR)
		;
	_exit(EXIT_SUCCESS);
}

/* --- in tracepath ----------------------------------------------------------------------------- */

struct names *names_start(void)
{
	struct names *names = calloc(1, sizeof *names);
	int pair[2];

	if (names == NULL)
		return NULL;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
		free(names);
		return NULL;
	}
	names->pid = fork();
	if (names->pid == 0)
		run_helper(pair[1]);
	close(pair[1]);
	names->fd = pair[0];
	if (names->pid < 0) {
		int error = errno;

		close(pair[0]);
		free(names);
		errno = error;
		return NULL;
	}
	return names;
}

/* The helper ends when the channel is closed. */
void names_end(struct names *names)
{
	if (names == NULL)
		return;
	if (names->fd >= 0)
		close(names->fd);
	while (waitpid(names->pid, NULL, 0) < 0 && errno == EINTR)
		;
	free(names);
}

int names_fd(const struct names *names)
{
	return names ? names->fd : -1;
}

bool names_answered(const struct names *names)
{
	return names->answered;
}

static void helper_gone(struct names *names)
{
	close(names->fd);
	names->fd = -1;
	for (unsigned i = 0; i < names->count; i++)
		if (names->entries[i].state == NAME_AWAITED)
			names->entries[i].state = NAME_NONE;
}

/* A name must not control the terminal that it is shown on. */
static void keep_printable(char *to, const char *from, size_t size)
{
	size_t i;

	for (i = 0; i + 1 < size && from[i] != '\0'; i++)
		to[i] = (char)(from[i] > ' ' && from[i] < 0x7f ? from[i] : '?');
	to[i] = '\0';
}

void names_read(struct names *names)
{
	struct name_reply reply;

	while (names->fd >= 0) {
		ssize_t length = recv(names->fd, &reply, sizeof reply, MSG_DONTWAIT);

		if (length < 0 && errno == EINTR)
			continue;
		if (length < 0 && errno == EAGAIN)
			return;
		if (length != sizeof reply || reply.index >= names->count) {
			helper_gone(names);
			return;
		}
		struct entry *entry = &names->entries[reply.index];

		names->answered = true;
		keep_printable(entry->name, reply.name, sizeof entry->name);
		entry->state = entry->name[0] != '\0' ? NAME_KNOWN : NAME_NONE;
	}
}

static struct entry *find(struct names *names, const struct name_request *request)
{
	for (unsigned i = 0; i < names->count; i++) {
		struct entry *entry = &names->entries[i];

		if (entry->request.family == request->family &&
		    entry->request.scope == request->scope &&
		    memcmp(entry->request.address, request->address, sizeof request->address) == 0)
			return entry;
	}
	return NULL;
}

static struct entry *ask(struct names *names, struct name_request *request, int64_t now_ns)
{
	struct entry *entry = &names->entries[names->count];

	if (names->count == NAMES_MAX)
		return NULL;
	request->index = names->count++;
	*entry = (struct entry){.state = NAME_AWAITED, .request = *request, .asked_ns = now_ns};
	if (names->fd < 0) {
		entry->state = NAME_NONE;
	} else if (send(names->fd, request, sizeof *request, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
		entry->state = NAME_NONE;
		/* The socket has room for more requests than a trace has hops. */
		helper_gone(names);
	}
	return entry;
}

enum name_state names_get(struct names *names, uint8_t family, const uint8_t address[16],
			  uint32_t scope, int64_t now_ns, const char **name, int64_t *asked_ns)
{
	struct name_request request = {.family = family, .scope = scope};

	memcpy(request.address, address, sizeof request.address);
	struct entry *entry = find(names, &request);
	if (entry == NULL)
		entry = ask(names, &request, now_ns);
	if (entry == NULL)
		return NAME_NONE;
	*name = entry->name;
	*asked_ns = entry->asked_ns;
	return entry->state;
}
