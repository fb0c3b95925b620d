/*
 * The internet that simnet plays, as its description file has it: hops, destinations, and how
 * each of them answers. Filled by simnet_parse.c; simnet_path.c walks it and keeps the few counters
 * that change (random streams, token buckets) in it.
 */
#ifndef POSTERN_TESTS_LAB_SIMNET_NET_H
#define POSTERN_TESTS_LAB_SIMNET_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	NET_HOPS = 64,         /* as many as tracepath's and mtr's tests need, with room to spare */
	NET_HOP_ADDRESSES = 16, /* per family: one for each path of a load-balanced hop */
	NET_DESTINATIONS = 256,
	NET_GATEWAYS = 8,
	NET_RULES = 16,
	NET_LABELS = 16,
	NET_INTERFACES = 4, /* RFC 5837 4.1: one for each role */
	NET_NAME_BYTES = 64,
};

struct net_address {
	uint8_t family; /* 4, 6, or 0: none */
	uint8_t bytes[16];
};

/* What a hop or a destination answers to a probe. */
enum net_answer {
	ANSWER_SILENCE = 0,
	ANSWER_TIME_EXCEEDED,
	ANSWER_TOO_BIG,
	ANSWER_NET_UNREACHABLE,
	ANSWER_HOST_UNREACHABLE,
	ANSWER_PROTOCOL_UNREACHABLE,
	ANSWER_PORT_UNREACHABLE,
	ANSWER_PROHIBITED,
	ANSWER_ECHO, /* from here on the probe's own protocol speaks */
	ANSWER_UDP_DATA,
	ANSWER_SYN_ACK,
	ANSWER_RST,
	ANSWER_INIT_ACK,
	ANSWER_ABORT,
};

struct net_label {
	uint32_t label; /* 20 bits */
	uint8_t traffic_class;
	uint8_t bottom;
	uint8_t ttl;
};

/* One interface information object, RFC 5837. */
struct net_interface {
	uint8_t role; /* 0 incoming, 1 sub-IP, 2 outgoing, 3 next hop */
	bool has_index;
	bool has_mtu;
	uint32_t index;
	uint32_t mtu_bytes;
	struct net_address address;
	char name[NET_NAME_BYTES]; /* at most 63 bytes; empty: none */
};

enum net_corruption {
	CORRUPT_CHECKSUM = 1u << 0,    /* the checksum of the answer's transport or ICMP header */
	CORRUPT_IP_CHECKSUM = 1u << 1, /* the checksum of the outer IPv4 header */
	CORRUPT_CUT = 1u << 2,         /* the frame ends before the length in the IP header */
	CORRUPT_EXTENSION = 1u << 3,   /* the checksum of the RFC 4884 extension structure */
	CORRUPT_LENGTH = 1u << 4,      /* the RFC 4884 length field points behind the packet */
	CORRUPT_QUOTE = 1u << 5, /* the quoted header length (IPv4) or next header is nonsense */
};

enum net_forgery {
	FORGE_ID = 1u << 0,       /* echo identifier; SCTP verification tag */
	FORGE_SEQUENCE = 1u << 1, /* echo sequence; TCP sequence or acknowledgement number */
	FORGE_SOURCE_PORT = 1u << 2,
	FORGE_DESTINATION_PORT = 1u << 3,
	FORGE_SOURCE = 1u << 4,      /* the quoted source address */
	FORGE_DESTINATION = 1u << 5, /* the quoted destination; the sender of a direct answer */
	FORGE_PROTOCOL = 1u << 6,    /* the (quoted) protocol */
};

/* What is wrong with an answer. */
struct net_tamper {
	uint32_t corrupt;    /* enum net_corruption */
	uint32_t forge;      /* enum net_forgery */
	uint32_t duplicates; /* further copies */
	uint64_t late_ns;
	int truncate_bytes;  /* of the quote, or of a direct answer's transport; -1: none */
	uint32_t share_ppm;  /* how many answers are tampered with; the others are right */
	bool then_genuine;   /* the right answer follows the wrong one */
	uint64_t genuine_ns; /* ... after this time */
};

struct net_random {
	uint64_t state;
};

/* ICMP errors a second, as a token bucket. */
struct net_rate {
	double per_second; /* 0: unlimited */
	double burst;
	double tokens;
	uint64_t filled_ns;
};

/* How a hop or a destination speaks. */
struct net_behaviour {
	uint64_t delay_ns; /* what the way to here adds to the round trip */
	uint64_t jitter_ns;
	uint32_t loss_ppm;        /* of everything that comes here or passes */
	uint32_t answer_loss_ppm; /* of its own answers only */
	struct net_rate rate;
	struct net_random random;
	uint8_t ttl;     /* with which its answers leave it */
	int back_hops;   /* hops on the way back; -1: as many as on the way out */
	int quote_bytes; /* behind the quoted IP header; -1: what RFC 1812 and RFC 4443 want */
	bool quote_all;
	bool rfc4884_length;     /* set the length field; otherwise 128 bytes, as old routers do */
	uint8_t ip_option_bytes; /* IPv4 options in its answers */
	bool hop_by_hop;         /* IPv6 extension headers in its answers */
	bool destination_options;
	size_t label_count;
	struct net_label labels[NET_LABELS];
	size_t interface_count;
	struct net_interface interfaces[NET_INTERFACES];
	struct net_tamper tamper;
	bool silent;
};

struct net_hop {
	struct net_behaviour behaviour;
	size_t address_count[2]; /* IPv4, IPv6 */
	struct net_address addresses[2][NET_HOP_ADDRESSES];
	bool balance_packets; /* among its addresses by packet; otherwise by flow */
	uint32_t next_address;
	uint32_t branch;      /* the hop is on the path of every flow whose hash is this ... */
	uint32_t branches;    /* ... modulo this; 0: of all */
	uint32_t mtu_bytes;     /* of the link behind it; 0: unlimited */
	int told_mtu_bytes;     /* in its "too big"; -1: the true one */
	bool black_hole;        /* too big packets are dropped without an error */
	int tos;                /* rewritten here; -1: left alone */
	enum net_answer refuse; /* instead of passing anything on; ANSWER_SILENCE: it passes */
	bool drop;              /* forwards nothing, without an error */
};

/* What a destination answers to one protocol and port. */
struct net_rule {
	uint8_t protocol; /* IPPROTO_ICMP stands for echo in both families; 0: every protocol */
	bool any_port;
	uint16_t first_port;
	uint16_t last_port;
	enum net_answer answer;
	uint32_t data_bytes; /* of ANSWER_UDP_DATA */
};

struct net_destination {
	struct net_behaviour behaviour;
	struct net_address address;
	uint8_t prefix_bits;
	size_t hops; /* in front of it */
	bool hops_given;
	size_t rule_count;
	struct net_rule rules[NET_RULES];
};

struct net {
	uint64_t seed;
	size_t queue_packets; /* answers that may wait at once */
	size_t gateway_count;
	struct net_address gateways[NET_GATEWAYS];
	size_t hop_count;
	struct net_hop hops[NET_HOPS];
	size_t destination_count;
	struct net_destination destinations[NET_DESTINATIONS];
	struct net_destination router; /* how a hop's own address answers */
};

static inline size_t net_family_index(uint8_t family)
{
	return family == 6;
}

bool net_address_equal(const struct net_address *a, const struct net_address *b);

#endif
