/*
 * How the broker ends when something fails: one line on stderr, then exit. Runs in the broker,
 * during start-up and after lock-down. There is no other way to report an error: no step of the
 * start-up is skipped, and a request that is not allowed ends the broker.
 */
#ifndef POSTERN_BROKER_FATAL_H
#define POSTERN_BROKER_FATAL_H

/* The exit statuses of sysexits.h that the front end and postern doctor know. */
enum {
	FATAL_SYSTEM = 1,        /* a step of the start-up, or a later system call, failed */
	FATAL_CHANNEL = 64,      /* descriptor 0 is no connected AF_UNIX SOCK_SEQPACKET socket */
	FATAL_BAD_REQUEST = 65,  /* the front end sent what the channel does not allow */
	FATAL_NO_PRIVILEGE = 77, /* CAP_NET_RAW is not held, or of no use here */
};

/* Ends the process with "postern-broker: WHAT[: strerror(error)][ (remedy)]". `error` 0 and
 * `remedy` NULL leave that part out. */
_Noreturn void fatal(int status, const char *what, int error, const char *remedy);

#endif
