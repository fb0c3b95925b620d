/*
 * Probes by datagram sockets, whose error queues get the ICMP errors about them: one mechanism for
 * UDP (udp.c) and ICMP echo (ping.c), which describe here what is different. Runs in the
 * unprivileged front end.
 */
#ifndef POSTERN_FRONTEND_TRANSPORT_DGRAM_H
#define POSTERN_FRONTEND_TRANSPORT_DGRAM_H

#include <stdbool.h>
#include <stdint.h>

#include "frontend/transport/dgram_table.h"
#include "frontend/transport/way.h"

struct dgram_pool;

struct dgram_protocol {
	/* What works in this process (enum hello_features). */
	uint32_t (*features)(void);
	/* What tells the probe apart from others of its socket. */
	uint16_t (*choose_number)(struct dgram_pool *pool, struct dgram_socket *socket,
				  const struct probe_request *request);
	/* Completes a probe whose number and nonce are chosen. */
	void (*finish)(struct dgram_probe *probe);
	/* Reads what a message shows of a probe. Before, `number` is the port of its address, and
	 * the payload all of its data. False: it is no answer. */
	bool (*read)(struct dgram_shown *shown, uint8_t family, bool is_error);
};

void dgram_open(struct way *way, int epoll_fd, const struct dgram_protocol *protocol,
		const struct transport_sink *sink);

#endif
