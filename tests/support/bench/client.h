/*
 * A program under measurement: started with two pipes, fed request lines, its replies cut into
 * lines, and at its end the processor time of it and of everything it started. Runs in the
 * benchmark programs.
 */
#ifndef POSTERN_TESTS_BENCH_CLIENT_H
#define POSTERN_TESTS_BENCH_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
	CLIENT_INPUT_BYTES = 65536,
	CLIENT_OUTPUT_BYTES = 65536,
};

struct client {
	pid_t pid;
	int to_fd;   /* its stdin, non-blocking; −1 once closed */
	int from_fd; /* its stdout, blocking */
	size_t unwritten_start, unwritten_end;
	size_t unread_start, unread_end;
	char unwritten[CLIENT_OUTPUT_BYTES];
	char unread[CLIENT_INPUT_BYTES];
};

enum reply_word {
	REPLY_ANSWER, /* reply, ttl-expired, no-route with an address */
	REPLY_NO_REPLY,
	REPLY_OTHER,
};

struct reply {
	uint32_t token;
	enum reply_word word;
	uint32_t rtt_us; /* with REPLY_ANSWER */
};

/* Processor time so far, user and system. */
struct client_cpu {
	int64_t program_ns;
	int64_t others_ns; /* of what the program started: a broker */
};

/* Once, before the first client: orphans of the programs become ours, to be measured. */
void client_prepare(void);

/* Starts argv[0], found by PATH, with argv's arguments. Ends this program if it cannot. */
void client_start(struct client *client, char *const argv[]);

/* Bytes that may be added to what is to be written, and where; then how many were. */
char *client_space(struct client *client, size_t *room);
void client_added(struct client *client, size_t count);
bool client_has_unwritten(const struct client *client);

/* Writes what it takes now. */
void client_write(struct client *client);

/* Reads what is there, waiting for it if there is nothing; false at the end of its output. */
bool client_read(struct client *client);

/* Cuts the next complete line off what was read. A line that cannot be understood ends this
 * program. */
bool client_next(struct client *client, struct reply *reply);

struct client_cpu client_cpu(const struct client *client);

/* Closes its stdin and reads to the end of its stdout. */
void client_hang_up(struct client *client);

/* Hangs up, then waits for all processes that this one has started: of several clients, the last.
 * Returns the program's status, as of waitpid(2). */
int client_end(struct client *client);

/* "TOKEN REQUEST\n", in place; returns its length, at most 12 more than the request's. */
size_t client_put_request(char *at, uint32_t token, const char *request, size_t length);

#endif
