/*
 * Decides what becomes of a packet in simnet's internet: which hop ends its way, or which
 * destination it reaches. No socket and no clock in here, so that unit tests can drive it.
 */
#include "tests/lab/simnet_path.h"

#include <netinet/in.h>
#include <string.h>

/* splitmix64 (Steele, Lea, Flood 2014): small, and good from any seed. */
static uint64_t random_next(struct net_random *random)
{
	uint64_t z = random->state += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

bool path_chance(struct net_random *random, uint32_t ppm)
{
	if (ppm == 0 || ppm >= 1000000)
		return ppm != 0;
	return random_next(random) % 1000000 < ppm;
}

bool path_rate_allows(struct net_rate *rate, uint64_t now_ns)
{
	if (rate->per_second == 0)
		return true;
	if (rate->filled_ns == 0)
		rate->tokens = rate->burst;
	else if (now_ns > rate->filled_ns) /* packets from two processors may swap places */
		rate->tokens += (double)(now_ns - rate->filled_ns) / 1e9 * rate->per_second;
	if (rate->tokens > rate->burst)
		rate->tokens = rate->burst;
	rate->filled_ns = now_ns;
	if (rate->tokens < 1)
		return false;
	rate->tokens -= 1;
	return true;
}

/* What routers hash to choose among equal paths: addresses, protocol, flow label, and the first
 * four bytes of the transport header (ports; type, code and checksum of ICMP). Each router has a
 * `salt` of its own, so that their choices are independent. */
static uint32_t flow_hash(const struct packet_view *view, uint64_t salt)
{
	uint64_t hash = 0xcbf29ce484222325u;
	struct net_random mixed;
	uint8_t key[16 + 16 + 4 + 4 + 1] = {0};

	memcpy(key, view->source.bytes, 16);
	memcpy(key + 16, view->destination.bytes, 16);
	put32(key + 32, view->flow_label);
	if (!view->fragment && view->transport_bytes >= 4)
		memcpy(key + 36, view->transport, 4);
	key[40] = view->protocol;
	for (size_t i = 0; i < sizeof(key); i++)
		hash = (hash ^ key[i]) * 0x100000001b3u;
	mixed.state = hash + salt * 0x9e3779b97f4a7c15u;
	return (uint32_t)random_next(&mixed);
}

static bool hop_address(struct net_hop *hop, size_t number, const struct packet_view *view,
			struct net_address *address)
{
	size_t family = net_family_index(view->family);
	size_t count = hop->address_count[family];

	if (count == 0)
		return false;
	if (count == 1)
		*address = hop->addresses[family][0];
	else if (hop->balance_packets)
		*address = hop->addresses[family][hop->next_address++ % count];
	else
		*address = hop->addresses[family][flow_hash(view, number) % count];
	return true;
}

static bool prefix_matches(const struct net_destination *destination,
			   const struct net_address *address)
{
	size_t whole = destination->prefix_bits / 8;
	unsigned rest = destination->prefix_bits % 8;

	if (destination->address.family != address->family ||
	    memcmp(destination->address.bytes, address->bytes, whole) != 0)
		return false;
	return rest == 0 ||
	       (destination->address.bytes[whole] ^ address->bytes[whole]) >> (8 - rest) == 0;
}

static bool hop_has_address(const struct net_hop *hop, const struct net_address *address)
{
	size_t family = net_family_index(address->family);

	for (size_t i = 0; i < hop->address_count[family]; i++) {
		if (net_address_equal(&hop->addresses[family][i], address))
			return true;
	}
	return false;
}

/* The longest prefix that a destination has; otherwise an address of a hop itself. */
static struct net_destination *find_destination(struct net *net, const struct net_address *address,
						size_t *hops)
{
	struct net_destination *best = NULL;

	for (size_t i = 0; i < net->destination_count; i++) {
		struct net_destination *destination = &net->destinations[i];

		if ((!best || destination->prefix_bits > best->prefix_bits) &&
		    prefix_matches(destination, address))
			best = destination;
	}
	if (best) {
		*hops = best->hops;
		return best;
	}
	for (*hops = 0; *hops < net->hop_count; (*hops)++) {
		if (hop_has_address(&net->hops[*hops], address))
			return &net->router;
	}
	*hops = 0;
	for (size_t i = 0; i < net->gateway_count; i++) {
		if (net_address_equal(&net->gateways[i], address))
			return &net->router;
	}
	*hops = net->hop_count;
	return NULL;
}

static uint64_t leg_delay(struct net_behaviour *behaviour)
{
	if (behaviour->jitter_ns == 0)
		return behaviour->delay_ns;
	return behaviour->delay_ns + random_next(&behaviour->random) % behaviour->jitter_ns;
}

/* The packet ends at this hop, which answers by `answer`. */
static void hop_answers(struct net_hop *hop, const struct packet_view *view, enum net_answer answer,
			struct path_end *end)
{
	end->fate = PATH_SWALLOWED;
	/* RFC 1122 3.2.2: no error about a fragment other than the first */
	if (hop->behaviour.silent || view->fragment_offset_bytes != 0 ||
	    !hop_address(hop, end->hops + 1, view, &end->speaker))
		return;
	end->fate = PATH_ANSWERED;
	end->answer = answer;
	end->behaviour = &hop->behaviour;
	end->mtu_bytes = hop->told_mtu_bytes >= 0 ? (uint32_t)hop->told_mtu_bytes : hop->mtu_bytes;
}

/* Whether the path of this flow leads over the hop. */
static bool is_on_path(const struct net_hop *hop, const struct packet_view *view)
{
	return hop->branches == 0 || flow_hash(view, 0) % hop->branches == hop->branch;
}

/* Returns true if the packet goes on behind the hop. */
static bool pass_hop(struct net_hop *hop, const struct packet_view *view, struct path_end *end)
{
	if (!is_on_path(hop, view))
		return true;
	end->delay_ns += leg_delay(&hop->behaviour);
	if (path_chance(&hop->behaviour.random, hop->behaviour.loss_ppm)) {
		end->fate = PATH_LOST;
		return false;
	}
	if (hop->tos >= 0)
		end->tos = (uint8_t)hop->tos;
	if (end->ttl <= 1) {
		hop_answers(hop, view, ANSWER_TIME_EXCEEDED, end);
		return false;
	}
	if (hop->drop) {
		end->fate = PATH_SWALLOWED;
		return false;
	}
	if (hop->refuse != ANSWER_SILENCE) {
		hop_answers(hop, view, hop->refuse, end);
		return false;
	}
	if (hop->mtu_bytes && view->total_bytes > hop->mtu_bytes && view->dont_fragment) {
		hop_answers(hop, view, ANSWER_TOO_BIG, end);
		if (hop->black_hole)
			end->fate = PATH_SWALLOWED;
		return false;
	}
	end->ttl--;
	return true;
}

void path_walk(struct net *net, const struct packet_view *view, struct path_end *end)
{
	size_t hops;
	struct net_destination *destination = find_destination(net, &view->destination, &hops);

	memset(end, 0, sizeof(*end));
	end->tos = view->tos;
	end->ttl = view->ttl;
	for (end->hops = 0; end->hops < hops; end->hops++) {
		if (!pass_hop(&net->hops[end->hops], view, end))
			return;
	}
	if (!destination) {
		end->fate = PATH_NOWHERE;
		return;
	}
	end->delay_ns += leg_delay(&destination->behaviour);
	if (path_chance(&destination->behaviour.random, destination->behaviour.loss_ppm)) {
		end->fate = PATH_LOST;
		return;
	}
	end->fate = PATH_ARRIVED;
	end->destination = destination;
	end->behaviour = &destination->behaviour;
	end->speaker = view->destination;
}

static uint16_t rule_port(const struct packet_view *view)
{
	if (view->protocol == IPPROTO_ICMP || view->protocol == IPPROTO_ICMPV6 ||
	    view->transport_bytes < 4)
		return 0;
	return get16(view->transport + 2);
}

/* What a host does without a rule: it has no service but answers pings. */
static const struct net_rule *default_rule(uint8_t protocol)
{
	static const struct net_rule rules[] = {
		{.protocol = IPPROTO_ICMP, .answer = ANSWER_ECHO},
		{.protocol = IPPROTO_UDP, .answer = ANSWER_PORT_UNREACHABLE},
		{.protocol = IPPROTO_TCP, .answer = ANSWER_RST},
		{.protocol = IPPROTO_SCTP, .answer = ANSWER_ABORT},
		{.protocol = 0, .answer = ANSWER_PROTOCOL_UNREACHABLE},
	};
	size_t i = 0;

	while (rules[i].protocol && rules[i].protocol != protocol)
		i++;
	return &rules[i];
}

const struct net_rule *path_rule(const struct net_destination *destination,
				 const struct packet_view *view)
{
	static const struct net_rule silence = {.answer = ANSWER_SILENCE};
	uint8_t protocol = view->protocol == IPPROTO_ICMPV6 ? IPPROTO_ICMP : view->protocol;
	uint16_t port = rule_port(view);

	if (destination->behaviour.silent)
		return &silence;
	for (size_t i = 0; i < destination->rule_count; i++) {
		const struct net_rule *rule = &destination->rules[i];

		if (rule->protocol != 0 && rule->protocol != protocol)
			continue;
		if (rule->any_port || (port >= rule->first_port && port <= rule->last_port))
			return rule;
	}
	return default_rule(protocol);
}
