/*
 * The open probes of datagram sockets. Runs in the front end and makes no system call.
 */
#include "frontend/transport/dgram_table.h"

#include <string.h>

static struct dgram_chain *bucket(struct dgram_table *table, const struct dgram_socket *socket,
				  const uint8_t destination[16], uint16_t number)
{
	const uint64_t odd = 0x9e3779b97f4a7c15; /* 2^64 divided by the golden ratio */
	uint64_t high, low;

	memcpy(&high, destination, sizeof(high));
	memcpy(&low, destination + sizeof(high), sizeof(low));
	uint64_t hash = (high ^ (uintptr_t)socket) * odd;
	hash = (hash ^ hash >> 32 ^ low ^ number) * odd;
	return &table->buckets[(hash >> 32) % DGRAM_BUCKETS];
}

static bool is_for(const struct dgram_probe *probe, const struct dgram_socket *socket,
		   const uint8_t destination[16], uint16_t number)
{
	return probe->socket == socket && probe->number == number &&
	       memcmp(probe->request.destination, destination, 16) == 0;
}

void dgram_table_add(struct dgram_table *table, struct dgram_probe *probe)
{
	LIST_INSERT_HEAD(bucket(table, probe->socket, probe->request.destination, probe->number),
			 probe, chain);
}

void dgram_table_remove(struct dgram_probe *probe)
{
	LIST_REMOVE(probe, chain);
}

bool dgram_table_has(struct dgram_table *table, const struct dgram_socket *socket,
		     const uint8_t destination[16], uint16_t number)
{
	struct dgram_probe *probe;

	LIST_FOREACH (probe, bucket(table, socket, destination, number), chain)
		if (is_for(probe, socket, destination, number))
			return true;
	return false;
}

struct dgram_probe *dgram_table_match(struct dgram_table *table, const struct dgram_socket *socket,
				      const struct dgram_shown *shown)
{
	struct dgram_probe *probe, *found = NULL;

	LIST_FOREACH (probe, bucket(table, socket, shown->destination, shown->number), chain) {
		size_t nonce_bytes = probe->nonce_bytes;

		if (nonce_bytes > shown->payload_bytes && !shown->is_whole)
			nonce_bytes = shown->payload_bytes;
		if (!is_for(probe, socket, shown->destination, shown->number) ||
		    nonce_bytes > shown->payload_bytes ||
		    memcmp(probe->nonce, shown->payload, nonce_bytes) != 0)
			continue;
		if (found != NULL)
			return NULL;
		found = probe;
	}
	return found;
}
