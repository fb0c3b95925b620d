/*
 * Which raw socket a probe uses. Runs in the broker, while it starts and after lock-down.
 */
#ifndef POSTERN_BROKER_RAW_SOCKETS_H
#define POSTERN_BROKER_RAW_SOCKETS_H

#include <stdbool.h>
#include <stdint.h>

/* The raw socket for a probe. `family` and `protocol` as in struct record_probe. */
int sockets_raw(uint8_t family, uint8_t protocol, bool dont_fragment);

/* Has the receive socket of SCTP get packets to any address of this host, which it does not before.
 */
void sockets_enable_receive(int fd);

#endif
