/*
 * Finds, starts and reaps the broker, or connects to one that a service manager starts. Runs in the
 * front end, as the user: the broker's privilege comes from its file.
 */
#ifndef POSTERN_FRONTEND_TRANSPORT_BROKER_PROCESS_H
#define POSTERN_FRONTEND_TRANSPORT_BROKER_PROCESS_H

#include <stddef.h>
#include <sys/types.h>

/* Where a service manager listens: /run/postern/broker.sock. */
extern const char broker_service_socket[];

struct broker_process {
	const char *name; /* for messages: the program, or the socket; outlives this */
	pid_t pid;        /* −1: none that is still to be reaped */
	int channel_fd;   /* this end of the channel; −1: none */
	int stderr_fd;    /* where the broker's error line arrives; −1: none */
};

/* Where the broker is: `wanted` if not NULL, else beside this program's own executable (a build
 * tree), else where it is installed. Always fills `path`; whether it can be run is not checked. */
void broker_find(const char *wanted, char *path, size_t size);

/* Gives the front end a broker: `wanted` if not NULL, else the one behind the socket that the
 * environment names in POSTERN_BROKER. What is chosen in this way is never replaced by another
 * broker, which may be one of another network. Otherwise it is the one that broker_find() finds, or
 * if that cannot be run or ends at once, one behind /run/postern/broker.sock.
 *
 * Returns 0, or an errno with nothing left open and one line without newline in `why`. After 0 the
 * broker may still end before its hello. Waits for a broker to start only where there is another
 * one. */
int broker_open(const char *wanted, struct broker_process *broker, char *why, size_t size);

/* To be called after the channel ended. Writes why the broker ended as one line without newline
 * (its own error line, or else its signal or exit status) and returns the errno that this means for
 * probes: EPERM if it had no privilege, otherwise ECONNRESET. */
int broker_exit_reason(struct broker_process *broker, char *why, size_t size);

/* Closes the descriptors, upon which the broker ends by itself. */
void broker_close(struct broker_process *broker);

/* Waits for the broker to end: a millisecond usually, 50 at most. */
void broker_reap(struct broker_process *broker);

#endif
