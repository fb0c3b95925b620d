/*
 * Identities for probes. Runs in the broker. Numbers are handed out in rings, so that each comes
 * again only after all others; a ring is divided into blocks, and a block is not entered again
 * until LINGER_NS after the last use in it, so that an answer that comes late finds nobody. When
 * that would be too soon, the request waits (EVENT_BUSY): a flood slows down, nothing is confused.
 */
#include "broker/identity.h"

#include <netinet/in.h>
#include <stddef.h>
#include <string.h>

#include "broker/large_table.h"

enum {
	/* The last holders serve probes of a flow, whose source port must not change. */
	FLOW_HOLDERS = 16,
	PLAIN_HOLDERS = HELD_PORTS - FLOW_HOLDERS,
	/* traceroute's first port, and how many follow it */
	UDP_FIRST_PORT = 33434,
	UDP_PORTS = 65536 - UDP_FIRST_PORT,
	SEQUENCES = 65536,
	/* Checksums 1..65535; 0 means "none" in UDP over IPv4 (RFC 768). */
	UDP_CHECKSUMS = 65535,
	FLOW_BLOCKS = 16,
	FLOW_BLOCK = 4095,
	LOCAL_PORT_BLOCKS = 42,
	LOCAL_PORT_BLOCK = 764,
	BLOCKS_MAX = PLAIN_HOLDERS,
	/* How often another identity is tried when the one at hand is open still. */
	TRIES = 16,
	FREE_PORT_TRIES = 4,
	/* From one TCP sequence number or SCTP tag to the next: further than a packet is long,
	 * since a RST acknowledges the data of its SYN, too; odd, so that all 32-bit numbers get
	 * their turn. */
	TOKEN_STEP = 65537,
};

/* Longer than a packet is likely to live; mtr's own patience is 10 s. */
static const int64_t LINGER_NS = 10 * INT64_C(1000000000);

struct ring {
	uint32_t block; /* numbers in a block */
	uint32_t blocks;
	uint32_t next;
	int64_t used_ns;  /* last use of any, 0: never */
	int64_t *last_ns; /* last use of each block, 0: never */
};

enum ring_name {
	RING_NONE,      /* TCP, SCTP: 32-bit tokens do not repeat within hours */
	RING_ECHO,      /* identifier and sequence number */
	RING_UDP,       /* source port and changing destination port */
	RING_UDP_PURE,  /* source port alone, for a fixed destination port */
	RING_UDP_TUNED, /* source port and checksum */
	RING_LOCAL,     /* changing destination port, source port of the user's choice */
	RING_LOCAL_TUNED,
	RING_FLOW, /* FLOW_HOLDERS rings: sequence number or checksum */
	RINGS = RING_FLOW + FLOW_HOLDERS,
};

static struct ring rings[RINGS];
static LARGE_TABLE int64_t last_uses_ns[RINGS][BLOCKS_MAX];
/* The destination port to which RING_UDP_PURE has last given each source port. */
static uint16_t pure_port[PLAIN_HOLDERS];
static const struct held_ports *held;
static uint32_t token_counter;
static uint32_t tcp_turn;
static uint16_t flow_secret;

static void ring_start(enum ring_name name, uint32_t block, uint32_t blocks)
{
	int64_t *last_ns = last_uses_ns[name];

	/* One that was never used is zero as it is, and its pages need not be there. */
	if (rings[name].used_ns != 0)
		memset(last_ns, 0, sizeof(last_uses_ns[name]));
	rings[name] = (struct ring){.block = block, .blocks = blocks, .last_ns = last_ns};
}

void identity_start(const struct held_ports *ports, uint64_t secret)
{
	held = ports;
	token_counter = (uint32_t)secret;
	tcp_turn = (uint32_t)(secret >> 32) % HELD_PORTS;
	flow_secret = (uint16_t)(secret >> 48);
	ring_start(RING_ECHO, SEQUENCES, PLAIN_HOLDERS);
	ring_start(RING_UDP, UDP_PORTS, PLAIN_HOLDERS);
	ring_start(RING_UDP_PURE, 1, PLAIN_HOLDERS);
	ring_start(RING_UDP_TUNED, UDP_CHECKSUMS, PLAIN_HOLDERS);
	ring_start(RING_LOCAL, LOCAL_PORT_BLOCK, LOCAL_PORT_BLOCKS);
	ring_start(RING_LOCAL_TUNED, FLOW_BLOCK, FLOW_BLOCKS);
	for (unsigned int i = 0; i < FLOW_HOLDERS; i++)
		ring_start(RING_FLOW + i, FLOW_BLOCK, FLOW_BLOCKS);
}

/* The number and its block that the ring would give next; false while its block lingers. */
static bool ring_peek(const struct ring *ring, int64_t now_ns, uint32_t *block, uint32_t *rest)
{
	*block = ring->next / ring->block;
	*rest = ring->next % ring->block;
	return *rest != 0 || ring->last_ns[*block] == 0 ||
	       now_ns - ring->last_ns[*block] >= LINGER_NS;
}

static void ring_use(struct ring *ring, uint32_t number, int64_t now_ns)
{
	ring->last_ns[number / ring->block] = now_ns;
	ring->used_ns = now_ns;
}

/* The ring goes on behind `number`. */
static void ring_pass(struct ring *ring, uint32_t number)
{
	ring->next = (number + 1) % (ring->block * ring->blocks);
}

/* The ring that serves a UDP or ICMP request. */
static enum ring_name ring_for(const struct record_probe *request, int64_t now_ns)
{
	bool is_udp = request->protocol == IPPROTO_UDP;
	bool is_flow = (request->flags & PROBE_FLOW) != 0;
	uint32_t block, rest;

	if (is_udp && request->source_port != 0)
		return request->port == 0 && !is_flow ? RING_LOCAL : RING_LOCAL_TUNED;
	if (is_flow)
		return RING_FLOW + request->flow % FLOW_HOLDERS;
	if (!is_udp)
		return RING_ECHO;
	if (request->port == 0)
		return RING_UDP;
	/* Few probes to one port differ in their source port; for many there are not enough, and
	 * two bytes of the payload are given up, or added if it has none. */
	if (ring_peek(&rings[RING_UDP_PURE], now_ns, &block, &rest))
		return RING_UDP_PURE;
	return RING_UDP_TUNED;
}

static uint16_t flow_port(const struct record_probe *request)
{
	if (request->port != 0)
		return request->port;
	return (uint16_t)(UDP_FIRST_PORT + request->flow / FLOW_HOLDERS % UDP_PORTS);
}

/* What number `rest` of block `block` of a ring means on the wire. */
static enum identity_result ring_identity(const struct record_probe *request, enum ring_name name,
					  uint32_t block, uint32_t rest,
					  struct probe_identity *identity)
{
	uint32_t number = block * rings[name].block + rest;

	switch (name) {
	case RING_ECHO:
		identity->source_port = held->port[block];
		identity->port = (uint16_t)rest;
		return IDENTITY_GIVEN;
	case RING_UDP:
		identity->source_port = held->port[block];
		identity->port = (uint16_t)(UDP_FIRST_PORT + rest);
		return IDENTITY_PATTERN;
	case RING_UDP_PURE:
		identity->source_port = held->port[block];
		identity->port = request->port;
		return IDENTITY_PATTERN;
	case RING_UDP_TUNED:
		/* From port to port: a datagram that answers shows no more than its ports. */
		identity->source_port = held->port[number % PLAIN_HOLDERS];
		identity->port = request->port;
		identity->token = number / PLAIN_HOLDERS + 1;
		return IDENTITY_TUNED;
	case RING_LOCAL:
		identity->source_port = request->source_port;
		identity->port = (uint16_t)(UDP_FIRST_PORT + number);
		return IDENTITY_PATTERN;
	case RING_LOCAL_TUNED:
		identity->source_port = request->source_port;
		identity->port = flow_port(request);
		identity->token = number + 1;
		return IDENTITY_TUNED;
	default:
		break;
	}
	identity->source_port = held->port[PLAIN_HOLDERS + request->flow % FLOW_HOLDERS];
	if (request->protocol == IPPROTO_ICMP) {
		identity->port = (uint16_t)number;
		return IDENTITY_TUNED;
	}
	identity->port = flow_port(request);
	identity->token = number + 1;
	return IDENTITY_TUNED;
}

/* Whether an open probe could be taken for one with this identity. With a few tries for a pair of
 * ports that is free, few answering datagrams have more than one probe to belong to. */
static bool is_taken(const struct probe_identity *identity, enum identity_result result,
		     enum ring_name name, int tries)
{
	if (result == IDENTITY_PATTERN || (name == RING_UDP_TUNED && tries < FREE_PORT_TRIES))
		return probe_find_ports(identity, NULL) != NULL;
	return probe_find(identity) != NULL;
}

/* The rings of UDP with a pure payload share source ports: what one has given to a destination port
 * looks the same from the other, down to the checksum. `number` is of ring `name`. */
static bool is_lately_the_others(const struct probe_identity *identity, enum ring_name name,
				 uint32_t number, int64_t now_ns)
{
	if (name != RING_UDP && name != RING_UDP_PURE)
		return false;
	uint32_t holder = number / rings[name].block;
	int64_t other_ns = rings[name == RING_UDP ? RING_UDP_PURE : RING_UDP].last_ns[holder];
	if (other_ns == 0 || now_ns - other_ns >= LINGER_NS)
		return false;
	return name == RING_UDP ? identity->port == pure_port[holder]
				: identity->port >= UDP_FIRST_PORT;
}

/* A host that probes itself would hear its own datagram as the answer. */
static bool is_own_answer(const struct probe_identity *identity)
{
	return identity->port == identity->source_port &&
	       memcmp(identity->destination, identity->source, sizeof(identity->source)) == 0;
}

/* A probe from this host to a port that this broker holds here would have no answer: its socket
 * swallows it. */
static bool is_swallowed(const struct probe_identity *identity, enum ring_name name)
{
	if ((name != RING_UDP && name != RING_LOCAL) ||
	    memcmp(identity->destination, identity->source, sizeof(identity->source)) != 0)
		return false;
	for (size_t i = 0; i < HELD_PORTS; i++)
		if (held->port[i] == identity->port)
			return true;
	return false;
}

static enum identity_result take_from_ring(const struct record_probe *request, int64_t now_ns,
					   struct probe *probe)
{
	struct probe_identity *identity = &probe->identity;
	enum ring_name name = ring_for(request, now_ns);
	struct ring *ring = &rings[name];

	for (int i = 0; i < TRIES; i++) {
		uint32_t block, rest;
		uint32_t number = ring->next;
		if (!ring_peek(ring, now_ns, &block, &rest)) {
			if (name != RING_UDP_PURE)
				return IDENTITY_NONE;
			/* The last of it was not to be had. */
			name = RING_UDP_TUNED;
			ring = &rings[name];
			continue;
		}
		identity->token = 0;
		enum identity_result result = ring_identity(request, name, block, rest, identity);
		ring_use(ring, number, now_ns);
		ring_pass(ring, number);
		if (is_taken(identity, result, name, i) || is_own_answer(identity) ||
		    is_swallowed(identity, name) ||
		    is_lately_the_others(identity, name, number, now_ns))
			continue;
		if (name == RING_UDP_PURE)
			pure_port[block] = identity->port;
		probe->ports_suffice = result == IDENTITY_PATTERN;
		probe->ring = (uint8_t)name;
		probe->ring_number = number;
		return result;
	}
	return IDENTITY_NONE;
}

/* TCP and SCTP: the token is unique; the source port should be one that has nothing open to this
 * destination port, since a host answers one connection's addresses once. */
static enum identity_result take_token(const struct record_probe *request, struct probe *probe)
{
	struct probe_identity *identity = &probe->identity;
	bool is_flow = (request->flags & PROBE_FLOW) != 0;

	identity->port = request->port;
	token_counter += TOKEN_STEP;
	if (token_counter == 0) /* an initiate tag of 0 is invalid (RFC 9260 3.3.2) */
		token_counter += TOKEN_STEP;
	identity->token = token_counter;
	probe->ports_suffice = false;
	probe->ring = RING_NONE;
	/* Once round, and one further: probes that find no free port share them in turn. */
	for (int i = 0; i <= HELD_PORTS; i++) {
		tcp_turn = (tcp_turn + 1) % HELD_PORTS;
		identity->source_port = held->port[is_flow ? request->flow % HELD_PORTS : tcp_turn];
		if (is_flow || probe_find_ports(identity, NULL) == NULL)
			break;
	}
	return IDENTITY_GIVEN;
}

enum identity_result identity_take(const struct record_probe *request, int64_t now_ns,
				   struct probe *probe)
{
	struct probe_identity *identity = &probe->identity;

	identity->family = request->family;
	identity->protocol = request->protocol;
	memcpy(identity->destination, request->destination, sizeof(identity->destination));
	memcpy(identity->source, request->source, sizeof(identity->source));
	if (request->protocol == IPPROTO_TCP || request->protocol == IPPROTO_SCTP)
		return take_token(request, probe);
	return take_from_ring(request, now_ns, probe);
}

void identity_given_up(const struct probe *probe, int64_t now_ns)
{
	if (probe->ring == RING_NONE)
		return;
	struct ring *ring = &rings[probe->ring];
	uint32_t number = probe->ring_number;
	bool has_entered = ring->next % ring->block != 0;
	ring_use(ring, number, now_ns);
	/* A whole turn later the ring is in the same block again, and has not come to this number
	 * yet: it is left out. */
	if (has_entered && number / ring->block == ring->next / ring->block && number >= ring->next)
		ring_pass(ring, number);
}

bool identity_ports_suffice(const struct probe *probe)
{
	const struct ring *tuned = &rings[RING_UDP_TUNED];
	int64_t since_ns = probe->sent_ns - LINGER_NS;

	if (!probe->ports_suffice || (probe->ring != RING_UDP && probe->ring != RING_UDP_PURE))
		return probe->ports_suffice;
	/* These two use the same ports, the one to changing destination ports; a block is a port.
	 */
	const struct ring *other = &rings[probe->ring == RING_UDP ? RING_UDP_PURE : RING_UDP];
	uint32_t holder = probe->ring_number / rings[probe->ring].block;
	return (other->last_ns[holder] == 0 || other->last_ns[holder] <= since_ns) &&
	       (tuned->used_ns == 0 || tuned->used_ns <= since_ns);
}

uint16_t identity_flow_checksum(uint32_t flow)
{
	uint32_t hash = (flow + 1) * 0x9e3779b1u;

	/* 1..65534: neither of the two zeros of one's complement arithmetic. */
	return (uint16_t)(1 + ((hash >> 16) ^ flow_secret) % 65534);
}
