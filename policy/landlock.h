/*
 * Landlock: denies this process access to files by name, permanently. Runs in the broker and the
 * front end, just before the system call filter.
 */
#ifndef POSTERN_POLICY_LANDLOCK_H
#define POSTERN_POLICY_LANDLOCK_H

/* Denies every access to files by name that the kernel's version of Landlock knows, and with
 * version 6 also abstract AF_UNIX sockets and signals to processes outside. Descriptors that are
 * open stay usable, and so does the network. Needs no_new_privs. Returns 0, also where the kernel
 * has no Landlock; -1 with errno otherwise. */
int landlock_enter(void);

/* The same, but files may still be read as far as the process's rights permit. The memory of other
 * processes may not, in /proc or with ptrace(2): Landlock denies that in any case. */
int landlock_enter_read_only(void);

#endif
