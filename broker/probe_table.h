/*
 * The open probes of a broker, found again by what an answer shows of them. Runs in the broker;
 * every entry was made from a request that passed the checks, every look-up is made with numbers
 * that anyone on the network may have chosen.
 */
#ifndef POSTERN_BROKER_PROBE_TABLE_H
#define POSTERN_BROKER_PROBE_TABLE_H

#include <stdbool.h>
#include <stdint.h>

/* What tells probes apart on the wire. */
struct probe_identity {
	uint8_t family;       /* 4 or 6 */
	uint8_t protocol;     /* IPPROTO_ICMP (echo of either family), _UDP, _TCP, _SCTP */
	uint16_t source_port; /* ICMP: the identifier */
	uint16_t port;        /* destination port; ICMP: the sequence number */
	/* TCP: sequence number of the SYN; UDP: checksum; SCTP: initiate tag; ICMP: 0 */
	uint32_t token;
	uint8_t destination[16];
	uint8_t source[16];
	/* Only in what is looked for: the kernel has compared the source address already. */
	bool any_source;
};

/* A slot: one open probe, or free. */
struct probe {
	struct probe_identity identity;
	uint32_t cookie;
	uint16_t payload_bytes; /* of a SYN: a RST acknowledges them too */
	bool open;
	bool is_tuned;
	uint16_t tuned_word; /* the first two payload bytes, chosen to tell probes apart */
	bool ports_suffice;  /* no probe of its kind had these ports lately: identity.h says more */
	uint8_t ring;        /* where the identity comes from, for identity.c */
	uint32_t ring_number;
	uint64_t batch_number;  /* of the message that last named this slot, for serve.c */
	int64_t sent_ns;        /* as near as can be told */
	uint32_t sent_doubt_ns; /* it may have left so much earlier */
	/* Where it stands in the two indices, and its links there, slot numbers plus one. */
	uint32_t exact_bucket;
	uint32_t ports_bucket;
	uint32_t exact_next;
	uint32_t ports_next;
	uint32_t ports_previous;
};

/* Empties the table and seeds its hashes; `secret` should be unpredictable. */
void probe_table_start(uint64_t secret);

/* The slot that a cookie names. */
struct probe *probe_slot(uint32_t cookie);

/* Puts a slot, its identity and cookie filled in, into the indices. */
void probe_open(struct probe *probe);

/* Takes it out again: no answer finds it any more. */
void probe_close(struct probe *probe);

/* How many probes of a kind are open; `family` and `protocol` as in an identity. */
uint32_t probe_open_count(uint8_t family, uint8_t protocol);

/* The open probe with exactly this identity, or NULL. */
struct probe *probe_find(const struct probe_identity *identity);

/* The open probes with this identity but for the token, oldest first: the first with `after` NULL,
 * then the one after `after`. */
struct probe *probe_find_ports(const struct probe_identity *identity, const struct probe *after);

#endif
