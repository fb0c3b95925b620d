/*
 * The last steps of the broker's start-up. Runs with identity and capabilities already given up.
 * They limit what an attacker can do who takes the process over later.
 */
#ifndef POSTERN_BROKER_LOCKDOWN_H
#define POSTERN_BROKER_LOCKDOWN_H

/* Resource limits, no_new_privs, Landlock where the kernel has it, and the system-call filter of
 * policy/filter/table_broker.c. fatal() if any of that fails. */
void lockdown(void);

#endif
