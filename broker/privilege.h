/*
 * Identity and capabilities of the broker. Runs in the privileged process while it starts; each
 * function ends the process with fatal() if the kernel refuses a step or its result is not what was
 * asked for.
 */
#ifndef POSTERN_BROKER_PRIVILEGE_H
#define POSTERN_BROKER_PRIVILEGE_H

#include <stdbool.h>

/* Takes the real user and group of the process, which differ from the effective ones in a setuid
 * program, and holds CAP_NET_RAW, effective. Everything else is forgotten, but for what root needs
 * to leave its id. Without CAP_NET_RAW the exit status is FATAL_NO_PRIVILEGE. */
void privilege_become_invoker(void);

/* Whether the caller may set routing marks without the broker, too. Known after
 * privilege_become_invoker(). */
bool privilege_may_mark(void);

/* Root takes an unprivileged id, if it can. Then the last capabilities go: the process keeps
 * CAP_NET_RAW, effective (`keep_net_raw`: routing marks need it with each packet), or none. */
void privilege_give_up(bool keep_net_raw);

#endif
