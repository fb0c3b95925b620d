/*
 * Finds, starts and buries the broker. Runs in the front end, as the user; the broker's privilege
 * comes from its file, never from here.
 */
#ifndef POSTERN_FRONTEND_BROKER_PROCESS_H
#define POSTERN_FRONTEND_BROKER_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct broker_process {
	pid_t pid;      /* -1: none that is still to be waited for */
	int channel_fd; /* this end of the channel; -1: none */
	int words_fd;   /* where the broker's words for people arrive; -1: none */
};

/* Where the broker is: `wanted` if not NULL, else beside this program's own executable (a build
 * tree), else where it is installed. Always fills `path`; whether it can be run is not checked. */
void broker_find(const char *wanted, char *path, size_t size);

/* Starts it. Returns 0, or an errno with nothing left open. */
int broker_start(const char *path, struct broker_process *broker);

/* After the channel ended: gathers how it ended into one line without newline ("postern-broker:
 * ..." as it said, or its signal or status) and returns the errno that this means for probes. */
int broker_last_words(struct broker_process *broker, char *why, size_t size);

/* Closes what is open; the broker ends by itself when its channel does. */
void broker_leave(struct broker_process *broker);

/* The same, and waits for it to be gone (it takes a millisecond; 50 at most): whoever inherits our
 * children may be slow to notice. */
void broker_bury(struct broker_process *broker);

#endif
