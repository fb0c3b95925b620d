/*
 * What a broker link shares with its tests beyond frontend/transport.h.
 */
#ifndef POSTERN_FRONTEND_BROKER_LINK_H
#define POSTERN_FRONTEND_BROKER_LINK_H

#include "frontend/broker_process.h"
#include "frontend/transport.h"

/* A transport over a broker that runs already; takes over its descriptors. NULL: no memory. */
struct transport *broker_link_open(const struct broker_process *broker,
				   const struct transport_sink *sink);

#endif
