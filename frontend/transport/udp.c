/*
 * UDP probes by ordinary sockets. Runs in the unprivileged front end.
 */
#include <netinet/in.h>

#include "common/record.h"
#include "frontend/transport/dgram.h"
#include "frontend/transport/dgram_pool.h"
#include "frontend/transport/probe_socket.h"

enum {
	/* Changing destination ports, as traceroute and mtr-packet use them. */
	PORT_FIRST = 33434,
	PORTS = UINT16_MAX + 1 - PORT_FIRST,
	/* Each source port of flows has so many destination ports: DGRAM_FLOW_SOCKETS times as
	 * many paths can be told apart. */
	FLOW_PORTS = 1024,
};

static uint32_t features(void)
{
	return probe_socket_features(IPPROTO_UDP, FEATURE_UDP);
}

static uint16_t choose_port(struct dgram_pool *pool, struct dgram_socket *socket,
			    const struct probe_request *request)
{
	uint16_t port;

	if (request->port != 0)
		return request->port;
	if (request->flags & REQUEST_FLOW)
		return (uint16_t)(PORT_FIRST + request->flow / DGRAM_FLOW_SOCKETS % FLOW_PORTS);
	/* On this host a socket of our own would take the probe and not answer. */
	do
		port = (uint16_t)(PORT_FIRST + dgram_pool_count_number(socket, PORTS));
	while (pool->source_ports[port] > 0);
	return port;
}

static void finish(struct dgram_probe *probe)
{
	(void)probe;
}

/* Of a datagram the payload is not the probe's. */
static bool read_shown(struct dgram_shown *shown, uint8_t family, bool is_error)
{
	(void)family;
	if (!is_error)
		shown->payload_bytes = 0;
	return true;
}

void udp_open(struct way *way, int epoll_fd, const struct transport_sink *sink)
{
	static const struct dgram_protocol udp = {features, choose_port, finish, read_shown};

	dgram_open(way, epoll_fd, &udp, sink);
}
