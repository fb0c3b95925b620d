/*
 * The open UDP probes. Runs in the front end. Pure.
 */
#include "frontend/transport/udp_table.h"

#include <string.h>

static struct udp_chain *bucket(struct udp_table *table, const struct udp_socket *socket,
				const uint8_t destination[16], uint16_t port)
{
	const uint64_t odd = 0x9e3779b97f4a7c15; /* 2^64 divided by the golden ratio */
	uint64_t high, low;

	memcpy(&high, destination, sizeof(high));
	memcpy(&low, destination + sizeof(high), sizeof(low));
	uint64_t hash = (high ^ (uintptr_t)socket) * odd;
	hash = (hash ^ hash >> 32 ^ low ^ port) * odd;
	return &table->buckets[(hash >> 32) % UDP_BUCKETS];
}

static bool is_for(const struct udp_probe *probe, const struct udp_socket *socket,
		   const uint8_t destination[16], uint16_t port)
{
	return probe->socket == socket && probe->port == port &&
	       memcmp(probe->request.destination, destination, 16) == 0;
}

void udp_table_add(struct udp_table *table, struct udp_probe *probe)
{
	LIST_INSERT_HEAD(bucket(table, probe->socket, probe->request.destination, probe->port),
			 probe, chain);
}

void udp_table_remove(struct udp_probe *probe)
{
	LIST_REMOVE(probe, chain);
}

bool udp_table_has(struct udp_table *table, const struct udp_socket *socket,
		   const uint8_t destination[16], uint16_t port)
{
	struct udp_probe *probe;

	LIST_FOREACH (probe, bucket(table, socket, destination, port), chain)
		if (is_for(probe, socket, destination, port))
			return true;
	return false;
}

struct udp_probe *udp_table_match(struct udp_table *table, const struct udp_socket *socket,
				  const uint8_t destination[16], uint16_t port,
				  const uint8_t *payload, size_t payload_bytes)
{
	struct udp_probe *probe, *found = NULL;

	LIST_FOREACH (probe, bucket(table, socket, destination, port), chain) {
		size_t shown_bytes = probe->nonce_bytes;

		if (shown_bytes > payload_bytes)
			shown_bytes = payload_bytes;
		if (!is_for(probe, socket, destination, port) ||
		    memcmp(probe->nonce, payload, shown_bytes) != 0)
			continue;
		if (found != NULL)
			return NULL;
		found = probe;
	}
	return found;
}
