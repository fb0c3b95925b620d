/*
 * The front end's own cage: no_new_privs and a system-call filter, entered once the broker runs
 * (before, no_new_privs would disarm the broker's file capability or setuid bit) and everything
 * that must be opened is open. For the front end, which does not trust the bytes its client and the
 * network send.
 *
 * All return 0, or -1 with errno; then the process is as it was, at most with no_new_privs set:
 * EINVAL from a kernel without seccomp filters. A system call that is not in the table of the
 * policy (policy/filter/table_NAME.c) ends the process; confine_resolver() answers it with EPERM
 * instead, because it holds whatever name service modules the machine is configured with.
 *
 * In a build with sanitizers only no_new_privs is set: their run-time opens files, installs
 * handlers and, for leaks, traces the process with a second one; a filter that lets that through
 * proves nothing.
 */
#ifndef POSTERN_POLICY_CONFINE_H
#define POSTERN_POLICY_CONFINE_H

/* The packet personality: read 0, write 1 and 2, talk through the sockets that are open. */
int confine_packet(void);
/* tracepath's prober. */
int confine_tracepath(void);
/* The helper process that looks names up: files, name servers and local name service sockets. */
int confine_resolver(void);

#endif
