/*
 * The broker's first step. Runs in the privileged process and distrusts everything that a process
 * inherits.
 */
#ifndef POSTERN_BROKER_SANITISE_H
#define POSTERN_BROKER_SANITISE_H

/* Makes the process independent of what its caller arranged: environment, umask, signals (SIGTERM
 * ends it, all others that can be are blocked), interval timers, descriptors (0 to 2 are valid, 1
 * is /dev/null, all above are closed), the soft limit of descriptors. The process becomes not
 * dumpable and has no core file. fatal() if any of that fails. */
void sanitise(void);

/* fatal() unless descriptor 0 is a connected AF_UNIX SOCK_SEQPACKET socket. */
void channel_check(void);

#endif
