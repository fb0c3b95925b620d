/*
 * What the transport over the broker shares with its tests beyond frontend/transport/way.h.
 */
#ifndef POSTERN_FRONTEND_TRANSPORT_BROKER_LINK_H
#define POSTERN_FRONTEND_TRANSPORT_BROKER_LINK_H

#include "frontend/transport/broker_process.h"
#include "frontend/transport/way.h"

/* broker_link_open() with a broker that runs already; takes over its descriptors. */
void broker_link_attach(struct way *way, int epoll_fd, const struct broker_process *broker,
			const struct transport_sink *sink);

#endif
