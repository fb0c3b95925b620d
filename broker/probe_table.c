/*
 * The open probes, in a table of fixed size with two indices: by the whole identity, which every
 * ICMP error quotes, and by addresses and ports alone, which is all that some answers show. Runs in
 * the broker; nothing here allocates, and no look-up walks more than one bucket.
 */
#include "broker/probe_table.h"

#include <string.h>

#include "broker/large_table.h"
#include "common/record.h"

enum {
	/* Two buckets a slot keep chains short when every slot is open. */
	BUCKETS = RECORD_SLOTS * 2,
	/* Links are slot numbers plus one, so that memory that was never touched is empty lists. */
	NONE = 0,
};

static LARGE_TABLE struct probe slots[RECORD_SLOTS];
static LARGE_TABLE uint32_t exact_head[BUCKETS];
static LARGE_TABLE struct {
	uint32_t head;
	uint32_t tail;
} ports_list[BUCKETS];
static uint32_t open_counts[2][UINT8_MAX + 1]; /* by family and protocol */
static uint64_t hash_secret;

void probe_table_start(uint64_t secret)
{
	hash_secret = secret | 1;
}

static uint64_t mix(uint64_t hash, uint64_t value)
{
	hash = (hash ^ value) * 0x9e3779b97f4a7c15u;
	return hash ^ hash >> 29;
}

/* All but the destination port, or sequence number. */
static uint64_t hash_rest(const struct probe_identity *identity)
{
	uint64_t halves[2];
	uint64_t rest = (uint64_t)identity->source_port | (uint64_t)identity->protocol << 32 |
			(uint64_t)identity->family << 40;

	memcpy(halves, identity->destination, sizeof(halves));
	return mix(mix(mix(hash_secret, halves[0]), halves[1]), rest);
}

/* Probes in a row mostly differ by one in the port: they get buckets in a row, which share cache
 * lines. Different ports of one address never share a bucket, so nobody can choose them to do so.
 */
static uint32_t ports_bucket(const struct probe_identity *identity)
{
	return ((uint32_t)(hash_rest(identity) >> 40) + identity->port) % BUCKETS;
}

static uint32_t exact_bucket(const struct probe_identity *identity, uint32_t ports)
{
	return (ports + (uint32_t)(mix(hash_secret, identity->token) >> 40)) % BUCKETS;
}

static bool same_ports(const struct probe_identity *open, const struct probe_identity *sought)
{
	return open->family == sought->family && open->protocol == sought->protocol &&
	       open->source_port == sought->source_port && open->port == sought->port &&
	       memcmp(open->destination, sought->destination, sizeof(open->destination)) == 0 &&
	       (sought->any_source ||
		memcmp(open->source, sought->source, sizeof(open->source)) == 0);
}

static struct probe *at_link(uint32_t link)
{
	return &slots[link - 1];
}

static uint32_t link_to(const struct probe *probe)
{
	return (uint32_t)(probe - slots) + 1;
}

static uint32_t *open_count(uint8_t family, uint8_t protocol)
{
	return &open_counts[family == 6][protocol];
}

uint32_t probe_open_count(uint8_t family, uint8_t protocol)
{
	return *open_count(family, protocol);
}

struct probe *probe_slot(uint32_t cookie)
{
	return &slots[cookie % RECORD_SLOTS];
}

void probe_open(struct probe *probe)
{
	uint32_t link = link_to(probe);
	uint32_t ports = ports_bucket(&probe->identity);
	uint32_t exact = exact_bucket(&probe->identity, ports);

	probe->open = true;
	probe->ports_bucket = ports;
	probe->exact_bucket = exact;
	++*open_count(probe->identity.family, probe->identity.protocol);
	probe->exact_next = exact_head[exact];
	exact_head[exact] = link;

	/* At the tail: the oldest is found first, and that is the one answered first. */
	probe->ports_next = NONE;
	probe->ports_previous = ports_list[ports].tail;
	if (ports_list[ports].tail == NONE)
		ports_list[ports].head = link;
	else
		at_link(ports_list[ports].tail)->ports_next = link;
	ports_list[ports].tail = link;
}

void probe_close(struct probe *probe)
{
	uint32_t link = link_to(probe);
	uint32_t ports = probe->ports_bucket;
	uint32_t *from = &exact_head[probe->exact_bucket];

	while (*from != link)
		from = &at_link(*from)->exact_next;
	*from = probe->exact_next;

	if (probe->ports_previous == NONE)
		ports_list[ports].head = probe->ports_next;
	else
		at_link(probe->ports_previous)->ports_next = probe->ports_next;
	if (probe->ports_next == NONE)
		ports_list[ports].tail = probe->ports_previous;
	else
		at_link(probe->ports_next)->ports_previous = probe->ports_previous;
	probe->open = false;
	--*open_count(probe->identity.family, probe->identity.protocol);
}

struct probe *probe_find(const struct probe_identity *identity)
{
	uint32_t at = exact_head[exact_bucket(identity, ports_bucket(identity))];

	for (; at != NONE; at = at_link(at)->exact_next)
		if (at_link(at)->identity.token == identity->token &&
		    same_ports(&at_link(at)->identity, identity))
			return at_link(at);
	return NULL;
}

struct probe *probe_find_ports(const struct probe_identity *identity, const struct probe *after)
{
	uint32_t at = after == NULL ? ports_list[ports_bucket(identity)].head : after->ports_next;

	for (; at != NONE; at = at_link(at)->ports_next)
		if (same_ports(&at_link(at)->identity, identity))
			return at_link(at);
	return NULL;
}
