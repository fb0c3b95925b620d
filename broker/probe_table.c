/*
 * The open probes, in a table of fixed size with two indices: by the whole identity, which every
 * ICMP error quotes, and by addresses and ports alone, which is all that some answers show. Runs in
 * the broker; nothing here allocates, and no look-up walks more than one bucket.
 */
#include "broker/probe_table.h"

#include <string.h>

#include "common/record.h"

enum {
	/* Two buckets a slot keep chains short when every slot is open. */
	BUCKETS = RECORD_SLOTS * 2,
	/* Links are slot numbers plus one, so that memory that was never touched is empty lists. */
	NONE = 0,
};

static struct probe slots[RECORD_SLOTS];
static uint32_t exact_head[BUCKETS];
static uint32_t ports_head[BUCKETS];
static uint32_t ports_tail[BUCKETS];
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

static uint64_t hash_ports(const struct probe_identity *identity)
{
	uint64_t halves[2];
	uint64_t ports = (uint64_t)identity->source_port << 16 | identity->port;

	memcpy(halves, identity->destination, sizeof(halves));
	ports |= (uint64_t)identity->protocol << 32 | (uint64_t)identity->family << 40;
	return mix(mix(mix(hash_secret, halves[0]), halves[1]), ports);
}

static uint32_t bucket_of(uint64_t hash)
{
	return (uint32_t)(hash >> 40) % BUCKETS;
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

struct probe *probe_slot(uint32_t cookie)
{
	return &slots[cookie % RECORD_SLOTS];
}

void probe_open(struct probe *probe)
{
	uint32_t link = link_to(probe);
	uint64_t hash = hash_ports(&probe->identity);
	uint32_t exact = bucket_of(mix(hash, probe->identity.token));
	uint32_t ports = bucket_of(hash);

	probe->open = true;
	probe->exact_next = exact_head[exact];
	exact_head[exact] = link;

	/* At the tail: the oldest is found first, and that is the one answered first. */
	probe->ports_next = NONE;
	probe->ports_previous = ports_tail[ports];
	if (ports_tail[ports] == NONE)
		ports_head[ports] = link;
	else
		at_link(ports_tail[ports])->ports_next = link;
	ports_tail[ports] = link;
}

void probe_close(struct probe *probe)
{
	uint32_t link = link_to(probe);
	uint64_t hash = hash_ports(&probe->identity);
	uint32_t ports = bucket_of(hash);

	uint32_t *from = &exact_head[bucket_of(mix(hash, probe->identity.token))];
	while (*from != link)
		from = &at_link(*from)->exact_next;
	*from = probe->exact_next;

	if (probe->ports_previous == NONE)
		ports_head[ports] = probe->ports_next;
	else
		at_link(probe->ports_previous)->ports_next = probe->ports_next;
	if (probe->ports_next == NONE)
		ports_tail[ports] = probe->ports_previous;
	else
		at_link(probe->ports_next)->ports_previous = probe->ports_previous;
	probe->open = false;
}

struct probe *probe_find(const struct probe_identity *identity)
{
	uint32_t at = exact_head[bucket_of(mix(hash_ports(identity), identity->token))];

	for (; at != NONE; at = at_link(at)->exact_next)
		if (at_link(at)->identity.token == identity->token &&
		    same_ports(&at_link(at)->identity, identity))
			return at_link(at);
	return NULL;
}

struct probe *probe_find_ports(const struct probe_identity *identity, const struct probe *after)
{
	uint32_t at =
		after == NULL ? ports_head[bucket_of(hash_ports(identity))] : after->ports_next;

	for (; at != NONE; at = at_link(at)->ports_next)
		if (same_ports(&at_link(at)->identity, identity))
			return at_link(at);
	return NULL;
}
