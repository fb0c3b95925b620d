/*
 * The open UDP probes, found by what an answer shows: the socket, the probe's destination and
 * destination port, and where a router quotes it, the payload. Runs in the front end. Pure; the
 * answers are what strangers sent.
 */
#ifndef POSTERN_FRONTEND_TRANSPORT_UDP_TABLE_H
#define POSTERN_FRONTEND_TRANSPORT_UDP_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "frontend/transport/transport.h"

enum {
	UDP_NONCE_BYTES = 8,
	/* One for each probe of 10,000 that are open. */
	UDP_BUCKETS = 16384,
};

enum udp_state {
	UDP_FREE = 0,
	UDP_QUEUED, /* in the queue of its group */
	UDP_OPEN,   /* sent, in the table */
	UDP_FAILED, /* not sent, to be reported */
};

struct udp_group;
struct udp_socket;

struct udp_probe {
	struct probe_request request;
	enum udp_state state;
	uint8_t nonce_bytes; /* so many first bytes of the payload are the nonce */
	uint8_t nonce[UDP_NONCE_BYTES];
	uint16_t port;                /* OPEN: destination port */
	int64_t sent_ns;              /* OPEN */
	int error;                    /* FAILED: errno */
	uint32_t mtu_bytes;           /* FAILED by EMSGSIZE: MTU of the link; 0: unknown */
	struct udp_group *group;      /* QUEUED */
	struct udp_socket *socket;    /* OPEN; FAILED: the one that it was to leave by */
	TAILQ_ENTRY(udp_probe) queue; /* QUEUED, FAILED */
	LIST_ENTRY(udp_probe) chain;  /* OPEN */
};

LIST_HEAD(udp_chain, udp_probe);

struct udp_table {
	struct udp_chain buckets[UDP_BUCKETS]; /* all zero: empty */
};

/* By the probe's socket, destination and port, which stay as they are until it is removed. */
void udp_table_add(struct udp_table *table, struct udp_probe *probe);
void udp_table_remove(struct udp_probe *probe);

/* Is there an open probe from this socket to this destination and port? */
bool udp_table_has(struct udp_table *table, const struct udp_socket *socket,
		   const uint8_t destination[16], uint16_t port);

/* The only open probe that an answer may be about; NULL if there is none or several are possible.
 * `payload` has the first bytes of the probe as they are quoted, as far as they are. */
struct udp_probe *udp_table_match(struct udp_table *table, const struct udp_socket *socket,
				  const uint8_t destination[16], uint16_t port,
				  const uint8_t *payload, size_t payload_bytes);

#endif
