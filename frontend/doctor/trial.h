/*
 * Tries what works: starts or connects to a broker, opens the transports as mtr-packet does, in the
 * same sandbox, and probes the loopback addresses. Runs in child processes of postern doctor, as a
 * system call that is denied may end them.
 */
#ifndef POSTERN_FRONTEND_DOCTOR_TRIAL_H
#define POSTERN_FRONTEND_DOCTOR_TRIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum broker_kind {
	BROKER_NONE,
	BROKER_OWN,     /* started by the front end */
	BROKER_SERVICE, /* behind a socket */
};

struct trial {
	bool finished;
	int signal;        /* that ended it; 0: none */
	int sandbox_error; /* errno; 0: it was entered */
	enum broker_kind broker;
	bool is_no_postern;   /* the broker said what Postern's never says */
	int broker_error;     /* errno; 0: it works */
	char broker_why[512]; /* the same as one line */
	/* features in frontend/transport/transport.h: */
	uint32_t features; /* could be opened */
	uint32_t working;  /* of these, what got an answer from loopback; SCTP: was sent */
};

/* Fills *trial. `broker_path` as in struct transport_options. `private_network`: in a network
 * namespace of its own, which has no firewall. Returns false if there could be no trial. Takes up
 * to 20 seconds where a program that is no broker is silent, otherwise at most some 3. */
bool trial_run(const char *broker_path, bool private_network, struct trial *trial);

/* Tries each system call that the programs need, with arguments that do nothing. Writes those that
 * are denied, separated by commas; returns how many. */
size_t trial_denied_calls(char *names, size_t size);

#endif
