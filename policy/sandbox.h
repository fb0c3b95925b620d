/*
 * The sandbox of the front end: capabilities dropped, no_new_privs, Landlock and a system call
 * filter, for a process that reads what its client and anyone on the network may have sent.
 * Entered once the broker runs: before, no_new_privs would disable the broker's file capability.
 *
 * All return 0, or -1 with errno: then the process must end. A system call that is not in the table
 * of the process (policy/filter/table_NAME.c) ends it; sandbox_names() answers it with EPERM
 * instead, because the C library's name services are modules of the administrator's choice.
 *
 * In a build with sanitizers there is no filter: their run-time opens files, installs handlers and
 * traces the process with a second one.
 */
#ifndef POSTERN_POLICY_SANDBOX_H
#define POSTERN_POLICY_SANDBOX_H

/* mtr-packet: descriptors 0 to 2, the channel to the broker, UDP, TCP and ping sockets. Of the
 * capabilities it keeps the one that routing marks need, if it holds it. */
int sandbox_mtr_packet(void);

/* tracepath: the same, and no capability. */
int sandbox_tracepath(void);

/* The helper process that looks up names: it reads files and talks to name servers and local name
 * services. Where root started it, it becomes an unprivileged user, if it may. */
int sandbox_names(void);

#endif
