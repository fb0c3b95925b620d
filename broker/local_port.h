/*
 * Source ports of a user's own choice (UDP): holds them, and hears the answers to their probes.
 * Runs in the broker.
 */
#ifndef POSTERN_BROKER_LOCAL_PORT_H
#define POSTERN_BROKER_LOCAL_PORT_H

#include <stdint.h>

/* Binds a port, if this broker does not hold it yet. Returns 0, or an errno: EADDRINUSE if another
 * program has it, EMFILE if this broker holds as many as it can (LOCAL_PORTS). */
int local_port_hold(uint16_t port);

/* How many are held; their descriptors are DESC_LOCAL_FIRST and those after it. */
int local_port_count(void);

/* Reads what has arrived on a held port's socket, a batch at most, and queues events. */
void local_port_receive(int socket);

#endif
