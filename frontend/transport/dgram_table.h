/*
 * The open probes of datagram sockets, found by what an answer shows: the socket, the probe's
 * destination and number, and as far as it is there, the payload. Runs in the front end and makes
 * no system call. Anyone may have sent the answers.
 */
#ifndef POSTERN_FRONTEND_TRANSPORT_DGRAM_TABLE_H
#define POSTERN_FRONTEND_TRANSPORT_DGRAM_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "frontend/transport/transport.h"

enum {
	DGRAM_NONCE_BYTES = 8,
	/* The longest header that a socket does not add itself. */
	DGRAM_HEADER_BYTES = 8,
	/* One for each probe of 10,000 that are open. */
	DGRAM_BUCKETS = 16384,
};

enum dgram_state {
	DGRAM_FREE = 0,
	DGRAM_QUEUED, /* in the queue of its group */
	DGRAM_OPEN,   /* sent, in the table */
	DGRAM_FAILED, /* not sent, to be reported */
};

struct dgram_group;
struct dgram_socket;

struct dgram_probe {
	struct probe_request request;
	enum dgram_state state;
	uint8_t nonce_bytes; /* so many first bytes of the payload are the nonce */
	uint8_t nonce[DGRAM_NONCE_BYTES];
	uint8_t header[DGRAM_HEADER_BYTES]; /* OPEN: the protocol's, if the socket adds none */
	uint16_t number;                    /* OPEN: UDP: destination port; ICMP: echo sequence */
	int64_t sent_ns;                    /* OPEN */
	bool may_be_answered;               /* OPEN: by an answer that is unclear */
	int error;                          /* FAILED: errno */
	uint32_t mtu_bytes;                 /* FAILED by EMSGSIZE: MTU of the link; 0: unknown */
	struct dgram_group *group;          /* QUEUED */
	struct dgram_socket *socket;        /* OPEN; FAILED: the one that it was to leave by */
	TAILQ_ENTRY(dgram_probe) queue;     /* QUEUED, FAILED */
	LIST_ENTRY(dgram_probe) chain;      /* OPEN */
};

LIST_HEAD(dgram_chain, dgram_probe);

struct dgram_table {
	struct dgram_chain buckets[DGRAM_BUCKETS]; /* all zero: empty */
};

/* By the probe's socket, destination and number, which stay as they are until it is removed. */
void dgram_table_add(struct dgram_table *table, struct dgram_probe *probe);
void dgram_table_remove(struct dgram_probe *probe);

/* Is there an open probe from this socket to this destination with this number? */
bool dgram_table_has(struct dgram_table *table, const struct dgram_socket *socket,
		     const uint8_t destination[16], uint16_t number);

/* What an answer shows of the probe. */
struct dgram_shown {
	uint8_t destination[16];
	uint16_t number;
	bool is_whole;          /* all of the payload: a nonce that is missing is a wrong one */
	const uint8_t *payload; /* its first bytes, as far as they are shown */
	size_t payload_bytes;
};

/* The only open probe that an answer may be about; NULL if there is none or several are possible.
 */
struct dgram_probe *dgram_table_match(struct dgram_table *table, const struct dgram_socket *socket,
				      const struct dgram_shown *shown);

#endif
