/*
 * The channel between front end and broker: fixed-size records on an AF_UNIX SOCK_SEQPACKET
 * socketpair. Both sides compile this one description; the broker distrusts every byte it reads
 * through it, the front end distrusts only lengths.
 *
 * Integers are in host byte order unless the name ends in _be. Addresses are in network byte order;
 * an IPv4 address is the first four bytes, the other twelve are zero. Reserved bytes are zero, and
 * the broker ends if they are not. A message carries one or more records of one kind and nothing
 * else.
 *
 *      broker -> front end    HELLO once, first of all (common/hello.h)
 *                             ANSWER, LONG_ANSWER, FAILURE
 *      front end -> broker    PROBE
 */
#ifndef POSTERN_COMMON_RECORD_H
#define POSTERN_COMMON_RECORD_H

#include <stddef.h>
#include <stdint.h>

enum {
	/* Probes open at once in one broker; the low 16 bits of a cookie name the slot. */
	RECORD_SLOTS = 65536,
	/* Records in one message: enough to spread the cost of system calls and wake-ups. */
	RECORD_BATCH = 64,
	/* UDP ports held in the network namespace: ICMP echo identifiers, SCTP source ports. */
	RECORD_PROBE_IDS = 16,
	/* Eight payload bytes that tell a true answer from a forged one. */
	RECORD_NONCE_BYTES = 8,
	/* First bytes of an answer, from its transport header on. The short form holds the answer
	 * to a probe of 64 bytes, mtr's default, with its ICMP header; the long form any ICMP error
	 * (RFC 1812 4.3.2.3: 576 bytes; RFC 4443 2.4: 1,280, of which 40 are the IPv6 header). */
	RECORD_SHORT_BYTES = 80,
	RECORD_LONG_BYTES = 1240,
};

enum record_kind {
	RECORD_HELLO = 1,
	RECORD_PROBE,
	RECORD_ANSWER,
	RECORD_LONG_ANSWER,
	RECORD_FAILURE
};

enum probe_flags {
	/* Not fragmented (IPv4: DF set), whatever path MTU the kernel has cached. */
	PROBE_DONT_FRAGMENT = 1u << 0,
	PROBE_MARK = 1u << 1, /* `mark` is the routing mark (SO_MARK) */
	/* ICMP: the first payload bytes are `nonce`, as far as there is room. */
	PROBE_NONCE = 1u << 2,
	PROBE_FLAGS = (1u << 3) - 1, /* all that are defined */
};

/* One probe to send. It first closes the probe that is open in its slot. One ANSWER or FAILURE at
 * most comes back for it; there is none if no answer arrives. */
struct record_probe {
	uint8_t kind;         /* RECORD_PROBE */
	uint8_t family;       /* 4 or 6 */
	uint8_t protocol;     /* IPPROTO_ICMP for echo in either family, or IPPROTO_SCTP */
	uint8_t ttl;          /* 1..255, IPv6 hop limit */
	uint8_t tos;          /* IPv4 type of service, IPv6 traffic class */
	uint8_t payload_byte; /* what fills the packet behind its headers and nonce */
	uint16_t flags;       /* enum probe_flags */
	uint32_t cookie;      /* comes back with the answer; low 16 bits: the slot */
	uint16_t size_bytes;  /* whole packet, IP header included; less than the headers: just those
			       */
	uint16_t port;        /* SCTP: destination port; ICMP: 0 */
	uint32_t number;     /* what tells probes with one identifier apart. ICMP: echo sequence, at
				most 65535; SCTP: initiate tag, not 0 (RFC 9260 3.3.2) */
	uint32_t ifindex;    /* send through this interface; 0: by route */
	uint32_t mark;       /* with PROBE_MARK, otherwise 0 */
	uint32_t flow_label; /* IPv6, at most 0xfffff; 0: the kernel's choice */
	uint8_t probe_id;    /* index of the held port: echo identifier, SCTP source port */
	uint8_t reserved[7];
	uint8_t nonce[RECORD_NONCE_BYTES]; /* with PROBE_NONCE, otherwise 0 */
	uint8_t destination[16];
	uint8_t source[16]; /* local to this host (the kernel checks); all zero: by route */
};
_Static_assert(sizeof(struct record_probe) == 80, "probe record layout");
_Static_assert(offsetof(struct record_probe, probe_id) == 32, "probe record layout");
_Static_assert(offsetof(struct record_probe, nonce) == 40, "probe record layout");
_Static_assert(offsetof(struct record_probe, destination) == 48, "probe record layout");

/* What became of a probe; closes it. An answer is a packet that agrees with the probe: its headers
 * and, where it shows it, the nonce. The front end reads what it says and verifies its checksum. A
 * failure has kind, cookie and errno: the probe was not sent. */
struct record_answer {
	uint8_t kind;     /* RECORD_ANSWER, RECORD_FAILURE; RECORD_LONG_ANSWER: the head of one */
	uint8_t protocol; /* of the answer itself: IPPROTO_ICMP in either family, or IPPROTO_SCTP */
	uint8_t ttl;      /* on arrival */
	uint8_t reserved;
	uint32_t cookie;
	int64_t sent_ns;          /* CLOCK_MONOTONIC: when the probe left */
	int64_t received_wall_ns; /* CLOCK_REALTIME: the kernel's receive stamp */
	uint8_t responder[16];    /* who sent the answer */
	uint8_t local[16];        /* the address that it was sent to */
	uint32_t ifindex;         /* where an IPv6 answer arrived; 0: unknown */
	int32_t error;            /* RECORD_FAILURE: errno of the send */
	uint32_t packet_bytes;    /* length on arrival, from the transport header on */
	uint32_t data_bytes;      /* of them in `data` */
	uint8_t data[RECORD_SHORT_BYTES];
};
_Static_assert(sizeof(struct record_answer) == 152, "answer record layout");
_Static_assert(offsetof(struct record_answer, data) == 72, "answer record layout");

/* The same with more data: for answers that do not fit in the short form. */
struct record_long_answer {
	struct record_answer head; /* its `data` is unused and zero */
	uint8_t data[RECORD_LONG_BYTES];
};
_Static_assert(sizeof(struct record_long_answer) == 1392, "long answer record layout");

#endif
