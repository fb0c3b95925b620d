/*
 * The way of one packet through the internet: who answers it, with what, and when.
 */
#ifndef POSTERN_TESTS_LAB_SIMNET_PATH_H
#define POSTERN_TESTS_LAB_SIMNET_PATH_H

#include "tests/lab/simnet_packet.h"

enum path_fate {
	PATH_ANSWERED,  /* a hop answers by `answer` */
	PATH_ARRIVED,   /* at `destination` */
	PATH_LOST,      /* by a loss that the description asks for */
	PATH_SWALLOWED, /* black hole, drop, silent hop */
	PATH_NOWHERE,   /* no such destination */
};

struct path_end {
	enum path_fate fate;
	enum net_answer answer;
	struct net_behaviour *behaviour; /* of the hop or destination that answers */
	struct net_destination *destination;
	struct net_address speaker;
	size_t hops;        /* in front of who speaks */
	uint64_t delay_ns;  /* round trip */
	uint8_t tos;        /* of the packet where it ended */
	uint8_t ttl;        /* the same */
	uint32_t mtu_bytes; /* of ANSWER_TOO_BIG */
};

/* Lets a packet travel. Changes the random streams of the hops that it passes. */
void path_walk(struct net *net, const struct packet_view *view, struct path_end *end);

/* What a destination answers to a packet that has arrived. */
const struct net_rule *path_rule(const struct net_destination *destination,
				 const struct packet_view *view);

/* True in `ppm` of a million cases. */
bool path_chance(struct net_random *random, uint32_t ppm);

/* Takes a token; false: the rate is used up. */
bool path_rate_allows(struct net_rate *rate, uint64_t now_ns);

#endif
