/*
 * The broker's one loop. Runs confined, until the front end is gone.
 */
#ifndef POSTERN_BROKER_SERVE_H
#define POSTERN_BROKER_SERVE_H

#include "broker/descriptors.h"

enum {
	/* Channel, receiving raw sockets, local ports: what is polled at once at the most. */
	SERVE_POLLED = 1 + RAW_SOCKETS / 2 + LOCAL_PORTS,
};

_Noreturn void serve(void);

#endif
