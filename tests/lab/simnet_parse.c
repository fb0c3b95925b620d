/*
 * Parser for the description of simnet's internet: a table of settings, each with the sections it
 * may stand in and the function that understands its value. Runs once at the start of simnet, a
 * test program; every mistake in a description is an error, since a test with a wrong one proves
 * nothing.
 */
#include "tests/lab/simnet_parse.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINE_BYTES = 2048, PPM = 1000000 };

enum section { IN_NET = 1, IN_HOP = 2, IN_DESTINATION = 4 };

struct parser {
	const char *name;
	unsigned line;
	struct net *net;
	enum section section;
	struct net_hop *hop;
	struct net_destination *destination;
	struct net_behaviour *behaviour;
	char *message;
	size_t message_bytes;
};

__attribute__((format(printf, 2, 3))) static bool fail(struct parser *parser, const char *format,
						       ...)
{
	int used = snprintf(parser->message, parser->message_bytes, "%s:%u: ", parser->name,
			    parser->line);

	if (used > 0 && (size_t)used < parser->message_bytes) {
		va_list arguments;

		va_start(arguments, format);
		vsnprintf(parser->message + used, parser->message_bytes - (size_t)used, format,
			  arguments);
		va_end(arguments);
	}
	return false;
}

bool net_address_equal(const struct net_address *a, const struct net_address *b)
{
	return a->family == b->family && memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

bool net_parse_address(const char *text, struct net_address *address)
{
	memset(address, 0, sizeof(*address));
	if (inet_pton(AF_INET, text, address->bytes) == 1)
		address->family = 4;
	else if (inet_pton(AF_INET6, text, address->bytes) == 1)
		address->family = 6;
	return address->family != 0;
}

bool net_parse_time(const char *text, uint64_t *time_ns)
{
	static const struct {
		const char *unit;
		double ns;
	} units[] = {{"", 1e6}, {"ms", 1e6}, {"s", 1e9}, {"us", 1e3}, {"ns", 1}};
	char *end;
	double value = strtod(text, &end);

	if (end == text || !(value >= 0 && value < 1e9))
		return false;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (strcmp(end, units[i].unit) == 0) {
			*time_ns = (uint64_t)(value * units[i].ns);
			return true;
		}
	}
	return false;
}

/* A whole number from `low` to `high`, decimal or 0x hexadecimal. */
static bool parse_number(const char *text, uint64_t low, uint64_t high, uint64_t *number)
{
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	*number = strtoull(text, &end, 0);
	return errno == 0 && *end == '\0' && *number >= low && *number <= high;
}

static bool get_number(struct parser *parser, const char *key, const char *text, uint64_t low,
		       uint64_t high, uint64_t *number)
{
	if (parse_number(text, low, high, number))
		return true;
	return fail(parser, "%s must be a number from %llu to %llu, not '%s'", key,
		    (unsigned long long)low, (unsigned long long)high, text);
}

/* "30%" or "30": percent, as parts per million. */
static bool get_share(struct parser *parser, const char *key, const char *text, uint32_t *ppm)
{
	char *end;
	double percent = strtod(text, &end);

	if (end == text || (*end != '\0' && strcmp(end, "%") != 0) ||
	    !(percent >= 0 && percent <= 100))
		return fail(parser, "%s must be from 0%% to 100%%, not '%s'", key, text);
	*ppm = (uint32_t)(percent * (PPM / 100) + 0.5);
	return true;
}

static bool get_time(struct parser *parser, const char *key, const char *text, uint64_t *time_ns)
{
	if (net_parse_time(text, time_ns))
		return true;
	return fail(parser, "%s must be a time like 20ms, 1.5s or 300us, not '%s'", key, text);
}

/* One word of a list that is a set of bits. */
struct word_bit {
	const char *word;
	uint32_t bits;
};

static bool get_bits(struct parser *parser, const char *key, char *text,
		     const struct word_bit *words, uint32_t *bits)
{
	char *save = NULL;

	for (char *word = strtok_r(text, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
		const struct word_bit *entry = words;

		while (entry->word && strcmp(entry->word, word) != 0)
			entry++;
		if (!entry->word)
			return fail(parser, "%s does not know '%s'", key, word);
		*bits |= entry->bits;
	}
	return true;
}

static bool set_seed(struct parser *parser, char *value)
{
	return get_number(parser, "seed", value, 0, UINT64_MAX, &parser->net->seed);
}

static bool set_queue(struct parser *parser, char *value)
{
	uint64_t number = 0;

	if (!get_number(parser, "queue", value, 1, 10000000, &number))
		return false;
	parser->net->queue_packets = number;
	return true;
}

static bool set_gateway(struct parser *parser, char *value)
{
	struct net *net = parser->net;
	char *save = NULL;

	for (char *word = strtok_r(value, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
		if (net->gateway_count == NET_GATEWAYS)
			return fail(parser, "more than %d gateway addresses", NET_GATEWAYS);
		if (!net_parse_address(word, &net->gateways[net->gateway_count]))
			return fail(parser, "gateway: '%s' is no address", word);
		net->gateway_count++;
	}
	return true;
}

static bool set_address(struct parser *parser, char *value)
{
	char *save = NULL;

	for (char *word = strtok_r(value, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
		struct net_address address;

		if (!net_parse_address(word, &address))
			return fail(parser, "address: '%s' is no address", word);

		size_t family = net_family_index(address.family);
		size_t *count = &parser->hop->address_count[family];

		if (*count == NET_HOP_ADDRESSES)
			return fail(parser, "more than %d addresses of a family",
				    NET_HOP_ADDRESSES);
		parser->hop->addresses[family][(*count)++] = address;
	}
	return true;
}

static bool set_balance(struct parser *parser, char *value)
{
	parser->hop->balance_packets = strcmp(value, "packet") == 0;
	return parser->hop->balance_packets || strcmp(value, "flow") == 0 ||
	       fail(parser, "balance is 'flow' or 'packet', not '%s'", value);
}

/* K/N, K from 1 to N. */
static bool set_branch(struct parser *parser, char *value)
{
	char *slash = strchr(value, '/');
	uint64_t branch = 0;
	uint64_t branches = 0;

	if (slash == NULL)
		return fail(parser, "branch is K/N, not '%s'", value);
	*slash++ = '\0';
	if (!get_number(parser, "branch", value, 1, NET_HOP_ADDRESSES, &branch) ||
	    !get_number(parser, "branch", slash, branch, NET_HOP_ADDRESSES, &branches))
		return false;
	parser->hop->branch = (uint32_t)branch - 1;
	parser->hop->branches = (uint32_t)branches;
	return true;
}

static bool set_delay(struct parser *parser, char *value)
{
	return get_time(parser, "delay", value, &parser->behaviour->delay_ns);
}

static bool set_jitter(struct parser *parser, char *value)
{
	return get_time(parser, "jitter", value, &parser->behaviour->jitter_ns);
}

static bool set_loss(struct parser *parser, char *value)
{
	return get_share(parser, "loss", value, &parser->behaviour->loss_ppm);
}

static bool set_answer_loss(struct parser *parser, char *value)
{
	return get_share(parser, "answer-loss", value, &parser->behaviour->answer_loss_ppm);
}

static bool set_rate(struct parser *parser, char *value)
{
	char *end;
	double rate = strtod(value, &end);

	if (end == value || *end != '\0' || !(rate > 0 && rate < 1e9))
		return fail(parser, "rate must be a number of answers a second, not '%s'", value);
	parser->behaviour->rate.per_second = rate;
	return true;
}

static bool set_burst(struct parser *parser, char *value)
{
	uint64_t number = 0;

	if (!get_number(parser, "burst", value, 1, 1000000, &number))
		return false;
	parser->behaviour->rate.burst = (double)number;
	return true;
}

static bool set_mtu(struct parser *parser, char *value)
{
	uint64_t number = 0;

	if (!get_number(parser, "mtu", value, 68, 65535, &number))
		return false;
	parser->hop->mtu_bytes = (uint32_t)number;
	return true;
}

static bool set_tell_mtu(struct parser *parser, char *value)
{
	uint64_t number = 0;

	if (!get_number(parser, "tell-mtu", value, 0, 65535, &number))
		return false;
	parser->hop->told_mtu_bytes = (int)number;
	return true;
}

static bool set_black_hole(struct parser *parser, char *value)
{
	(void)value;
	parser->hop->black_hole = true;
	return true;
}

static bool set_drop(struct parser *parser, char *value)
{
	(void)value;
	parser->hop->drop = true;
	return true;
}

static bool set_silent(struct parser *parser, char *value)
{
	(void)value;
	parser->behaviour->silent = true;
	return true;
}

static bool set_tos(struct parser *parser, char *value)
{
	uint64_t number = 0;

	if (!get_number(parser, "tos", value, 0, 255, &number))
		return false;
	parser->hop->tos = (int)number;
	return true;
}

static bool set_ttl(struct parser *parser, char *value)
{
	uint64_t number = 0;

	if (!get_number(parser, "ttl", value, 1, 255, &number))
		return false;
	parser->behaviour->ttl = (uint8_t)number;
	return true;
}

static bool set_back(struct parser *parser, char *value)
{
	uint64_t number = 0;

	if (!get_number(parser, "back", value, 0, 254, &number))
		return false;
	parser->behaviour->back_hops = (int)number;
	return true;
}

/* LABEL[:TC[:S[:TTL]]],...; S is set by itself for the last one. */
static bool set_mpls(struct parser *parser, char *value)
{
	struct net_behaviour *behaviour = parser->behaviour;
	char *save = NULL;

	for (char *word = strtok_r(value, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
		uint64_t parts[4] = {0, 0, 2, 1};
		static const uint64_t highest[4] = {0xfffff, 7, 1, 255};
		char *inner = NULL;
		size_t part = 0;

		for (char *text = strtok_r(word, ":", &inner); text;
		     text = strtok_r(NULL, ":", &inner), part++) {
			if (part == 4)
				return fail(parser, "mpls: LABEL:TC:S:TTL has four parts");
			if (!get_number(parser, "mpls", text, 0, highest[part], &parts[part]))
				return false;
		}
		if (behaviour->label_count == NET_LABELS)
			return fail(parser, "more than %d labels", NET_LABELS);
		behaviour->labels[behaviour->label_count++] = (struct net_label){
			.label = (uint32_t)parts[0],
			.traffic_class = (uint8_t)parts[1],
			.bottom =
				parts[2] == 2 ? (save == NULL || *save == '\0') : (uint8_t)parts[2],
			.ttl = (uint8_t)parts[3],
		};
	}
	return true;
}

static bool set_interface_part(struct parser *parser, struct net_interface *interface, char *part)
{
	static const char *const roles[] = {"incoming", "sub-ip", "outgoing", "next-hop"};
	char *equals = strchr(part, '=');
	uint64_t number = 0;

	for (uint8_t role = 0; role < 4; role++) {
		if (strcmp(part, roles[role]) == 0) {
			interface->role = role;
			return true;
		}
	}
	if (!equals)
		return fail(parser, "interface: '%s' is neither a role nor NAME=VALUE", part);
	*equals++ = '\0';
	if (strcmp(part, "index") == 0) {
		interface->has_index = true;
		return get_number(parser, "index", equals, 0, UINT32_MAX, &number) &&
		       (interface->index = (uint32_t)number, true);
	}
	if (strcmp(part, "mtu") == 0) {
		interface->has_mtu = true;
		return get_number(parser, "mtu", equals, 0, UINT32_MAX, &number) &&
		       (interface->mtu_bytes = (uint32_t)number, true);
	}
	if (strcmp(part, "name") == 0) {
		if (strlen(equals) >= NET_NAME_BYTES)
			return fail(parser, "interface name longer than 63 bytes (RFC 5837 4.3)");
		memcpy(interface->name, equals, strlen(equals) + 1);
		return true;
	}
	if (strcmp(part, "address") == 0)
		return net_parse_address(equals, &interface->address) ||
		       fail(parser, "interface: '%s' is no address", equals);
	return fail(parser, "interface does not know '%s'", part);
}

/* ROLE,index=N,name=NAME,address=ADDRESS,mtu=N; may stand up to four times. */
static bool set_interface(struct parser *parser, char *value)
{
	struct net_behaviour *behaviour = parser->behaviour;
	struct net_interface *interface = &behaviour->interfaces[behaviour->interface_count];
	char *save = NULL;

	if (behaviour->interface_count == NET_INTERFACES)
		return fail(parser, "more than %d interfaces", NET_INTERFACES);
	for (char *part = strtok_r(value, ",", &save); part; part = strtok_r(NULL, ",", &save)) {
		if (!set_interface_part(parser, interface, part))
			return false;
	}
	behaviour->interface_count++;
	return true;
}

static bool set_quote(struct parser *parser, char *value)
{
	uint64_t number = 0;

	parser->behaviour->quote_all = strcmp(value, "all") == 0;
	if (parser->behaviour->quote_all)
		return true;
	if (!get_number(parser, "quote (or 'all')", value, 0, 65535, &number))
		return false;
	parser->behaviour->quote_bytes = (int)number;
	return true;
}

static bool set_rfc4884(struct parser *parser, char *value)
{
	parser->behaviour->rfc4884_length = strcmp(value, "length") == 0;
	return parser->behaviour->rfc4884_length || strcmp(value, "compat") == 0 ||
	       fail(parser, "rfc4884 is 'length' or 'compat', not '%s'", value);
}

static bool set_ip_options(struct parser *parser, char *value)
{
	uint64_t number = 0;

	if (!get_number(parser, "ip-options", value, 4, 40, &number))
		return false;
	if (number % 4 != 0)
		return fail(parser, "ip-options must be a multiple of 4 bytes");
	parser->behaviour->ip_option_bytes = (uint8_t)number;
	return true;
}

static bool set_ip6_headers(struct parser *parser, char *value)
{
	static const struct word_bit words[] = {{"hop-by-hop", 1}, {"destination", 2}, {NULL, 0}};
	uint32_t bits = 0;

	if (!get_bits(parser, "ip6-headers", value, words, &bits))
		return false;
	parser->behaviour->hop_by_hop = bits & 1;
	parser->behaviour->destination_options = bits & 2;
	return true;
}

static bool set_duplicate(struct parser *parser, char *value)
{
	uint64_t number = 0;

	if (!get_number(parser, "duplicate", value, 1, 1000, &number))
		return false;
	parser->behaviour->tamper.duplicates = (uint32_t)number;
	return true;
}

static bool set_late(struct parser *parser, char *value)
{
	return get_time(parser, "late", value, &parser->behaviour->tamper.late_ns);
}

static bool set_truncate(struct parser *parser, char *value)
{
	uint64_t number = 0;

	if (!get_number(parser, "truncate", value, 0, 65535, &number))
		return false;
	parser->behaviour->tamper.truncate_bytes = (int)number;
	return true;
}

static bool set_corrupt(struct parser *parser, char *value)
{
	static const struct word_bit words[] = {
		{"checksum", CORRUPT_CHECKSUM},
		{"ip-checksum", CORRUPT_IP_CHECKSUM},
		{"cut", CORRUPT_CUT},
		{"extension", CORRUPT_EXTENSION},
		{"length", CORRUPT_LENGTH},
		{"quote", CORRUPT_QUOTE},
		{NULL, 0},
	};

	return get_bits(parser, "corrupt", value, words, &parser->behaviour->tamper.corrupt);
}

static bool set_forge(struct parser *parser, char *value)
{
	static const struct word_bit words[] = {
		{"id", FORGE_ID},
		{"sequence", FORGE_SEQUENCE},
		{"source-port", FORGE_SOURCE_PORT},
		{"destination-port", FORGE_DESTINATION_PORT},
		{"ports", FORGE_SOURCE_PORT | FORGE_DESTINATION_PORT},
		{"source", FORGE_SOURCE},
		{"destination", FORGE_DESTINATION},
		{"protocol", FORGE_PROTOCOL},
		{NULL, 0},
	};

	return get_bits(parser, "forge", value, words, &parser->behaviour->tamper.forge);
}

static bool set_share(struct parser *parser, char *value)
{
	return get_share(parser, "share", value, &parser->behaviour->tamper.share_ppm);
}

static bool set_then_genuine(struct parser *parser, char *value)
{
	parser->behaviour->tamper.then_genuine = true;
	return get_time(parser, "then-genuine", value, &parser->behaviour->tamper.genuine_ns);
}

struct answer_word {
	const char *word;
	enum net_answer answer;
};

static const struct answer_word refusal_words[] = {
	{"net-unreachable", ANSWER_NET_UNREACHABLE},
	{"host-unreachable", ANSWER_HOST_UNREACHABLE},
	{"protocol-unreachable", ANSWER_PROTOCOL_UNREACHABLE},
	{"port-unreachable", ANSWER_PORT_UNREACHABLE},
	{"prohibited", ANSWER_PROHIBITED},
	{NULL, ANSWER_SILENCE},
};

static const struct answer_word answer_words[] = {
	{"silence", ANSWER_SILENCE}, {"echo", ANSWER_ECHO},  {"data", ANSWER_UDP_DATA},
	{"syn-ack", ANSWER_SYN_ACK}, {"rst", ANSWER_RST},    {"init-ack", ANSWER_INIT_ACK},
	{"abort", ANSWER_ABORT},     {NULL, ANSWER_SILENCE},
};

static bool find_answer(const struct answer_word *words, const char *word, enum net_answer *answer)
{
	for (; words->word; words++) {
		if (strcmp(words->word, word) == 0) {
			*answer = words->answer;
			return true;
		}
	}
	return false;
}

static bool set_refuse(struct parser *parser, char *value)
{
	return find_answer(refusal_words, value, &parser->hop->refuse) ||
	       fail(parser, "refuse does not know '%s'", value);
}

static bool set_hops(struct parser *parser, char *value)
{
	uint64_t number = 0;

	if (!get_number(parser, "hops", value, 0, NET_HOPS, &number))
		return false;
	parser->destination->hops = number;
	parser->destination->hops_given = true;
	return true;
}

static bool rule_protocol(const char *word, uint8_t *protocol)
{
	static const struct {
		const char *word;
		uint8_t protocol;
	} protocols[] = {{"any", 0},
			 {"icmp", IPPROTO_ICMP},
			 {"udp", IPPROTO_UDP},
			 {"tcp", IPPROTO_TCP},
			 {"sctp", IPPROTO_SCTP}};

	for (size_t i = 0; i < sizeof(protocols) / sizeof(protocols[0]); i++) {
		if (strcmp(word, protocols[i].word) == 0) {
			*protocol = protocols[i].protocol;
			return true;
		}
	}
	return false;
}

/* The answers that each protocol can give besides ICMP errors and silence. */
static bool answer_fits(const struct net_rule *rule)
{
	switch (rule->answer) {
	case ANSWER_ECHO:
		return rule->protocol == IPPROTO_ICMP;
	case ANSWER_UDP_DATA:
		return rule->protocol == IPPROTO_UDP;
	case ANSWER_SYN_ACK:
	case ANSWER_RST:
		return rule->protocol == IPPROTO_TCP;
	case ANSWER_INIT_ACK:
	case ANSWER_ABORT:
		return rule->protocol == IPPROTO_SCTP;
	default:
		return true;
	}
}

static bool parse_ports(struct parser *parser, char *ports, struct net_rule *rule)
{
	char *dash = strchr(ports, '-');
	uint64_t first = 0;
	uint64_t last = 0;

	if (dash)
		*dash++ = '\0';
	if (!get_number(parser, "port", ports, 0, 65535, &first))
		return false;
	last = first;
	if (dash && !get_number(parser, "last port", dash, first, 65535, &last))
		return false;
	rule->any_port = false;
	rule->first_port = (uint16_t)first;
	rule->last_port = (uint16_t)last;
	return true;
}

/* PROTOCOL[:PORT[-PORT]]=ANSWER[:BYTES] */
static bool set_on(struct parser *parser, char *value)
{
	struct net_destination *destination = parser->destination;
	struct net_rule rule = {.any_port = true, .data_bytes = 32};
	char *answer = strchr(value, '=');
	char *ports = strchr(value, ':');
	uint64_t number = 0;

	if (!answer)
		return fail(parser, "on: PROTOCOL[:PORT[-PORT]]=ANSWER");
	*answer++ = '\0';
	if (ports && ports < answer) {
		*ports++ = '\0';
		if (!parse_ports(parser, ports, &rule))
			return false;
	}
	if (!rule_protocol(value, &rule.protocol))
		return fail(parser, "on: '%s' is no protocol (any, icmp, udp, tcp, sctp)", value);
	if (strncmp(answer, "data:", 5) == 0) {
		if (!get_number(parser, "data", answer + 5, 0, 65000, &number))
			return false;
		rule.data_bytes = (uint32_t)number;
		answer[4] = '\0';
	}
	if (!find_answer(answer_words, answer, &rule.answer) &&
	    !find_answer(refusal_words, answer, &rule.answer))
		return fail(parser, "on: '%s' is no answer", answer);
	if (!answer_fits(&rule))
		return fail(parser, "on: %s cannot answer '%s'", value, answer);
	if (destination->rule_count == NET_RULES)
		return fail(parser, "more than %d 'on' of a destination", NET_RULES);
	destination->rules[destination->rule_count++] = rule;
	return true;
}

struct setting {
	const char *key;
	unsigned sections; /* enum section, where it may stand */
	bool has_value;
	bool (*set)(struct parser *parser, char *value);
};

static const struct setting settings[] = {
	{"seed", IN_NET, true, set_seed},
	{"queue", IN_NET, true, set_queue},
	{"gateway", IN_NET, true, set_gateway},

	{"address", IN_HOP, true, set_address},
	{"balance", IN_HOP, true, set_balance},
	{"branch", IN_HOP, true, set_branch},
	{"mtu", IN_HOP, true, set_mtu},
	{"tell-mtu", IN_HOP, true, set_tell_mtu},
	{"black-hole", IN_HOP, false, set_black_hole},
	{"tos", IN_HOP, true, set_tos},
	{"refuse", IN_HOP, true, set_refuse},
	{"drop", IN_HOP, false, set_drop},

	{"hops", IN_DESTINATION, true, set_hops},
	{"on", IN_DESTINATION, true, set_on},

	{"delay", IN_HOP | IN_DESTINATION, true, set_delay},
	{"jitter", IN_HOP | IN_DESTINATION, true, set_jitter},
	{"loss", IN_HOP | IN_DESTINATION, true, set_loss},
	{"answer-loss", IN_HOP | IN_DESTINATION, true, set_answer_loss},
	{"rate", IN_HOP | IN_DESTINATION, true, set_rate},
	{"burst", IN_HOP | IN_DESTINATION, true, set_burst},
	{"silent", IN_HOP | IN_DESTINATION, false, set_silent},
	{"ttl", IN_HOP | IN_DESTINATION, true, set_ttl},
	{"back", IN_HOP | IN_DESTINATION, true, set_back},
	{"quote", IN_HOP | IN_DESTINATION, true, set_quote},
	{"rfc4884", IN_HOP | IN_DESTINATION, true, set_rfc4884},
	{"mpls", IN_HOP | IN_DESTINATION, true, set_mpls},
	{"interface", IN_HOP | IN_DESTINATION, true, set_interface},
	{"ip-options", IN_HOP | IN_DESTINATION, true, set_ip_options},
	{"ip6-headers", IN_HOP | IN_DESTINATION, true, set_ip6_headers},
	{"duplicate", IN_HOP | IN_DESTINATION, true, set_duplicate},
	{"late", IN_HOP | IN_DESTINATION, true, set_late},
	{"truncate", IN_HOP | IN_DESTINATION, true, set_truncate},
	{"corrupt", IN_HOP | IN_DESTINATION, true, set_corrupt},
	{"forge", IN_HOP | IN_DESTINATION, true, set_forge},
	{"share", IN_HOP | IN_DESTINATION, true, set_share},
	{"then-genuine", IN_HOP | IN_DESTINATION, true, set_then_genuine},
};

static void behaviour_defaults(struct net_behaviour *behaviour, uint8_t ttl)
{
	*behaviour = (struct net_behaviour){
		.ttl = ttl,
		.back_hops = -1,
		.quote_bytes = -1,
		.rfc4884_length = true,
		.rate = {.burst = 1},
		.tamper = {.truncate_bytes = -1, .share_ppm = PPM},
	};
}

static bool open_hop(struct parser *parser)
{
	struct net *net = parser->net;

	if (net->hop_count == NET_HOPS)
		return fail(parser, "more than %d hops", NET_HOPS);
	parser->hop = &net->hops[net->hop_count++];
	behaviour_defaults(&parser->hop->behaviour, 255);
	parser->hop->tos = -1;
	parser->hop->told_mtu_bytes = -1;
	parser->behaviour = &parser->hop->behaviour;
	parser->section = IN_HOP;
	return true;
}

static bool open_destination(struct parser *parser, char *text)
{
	struct net *net = parser->net;
	struct net_destination *destination = &net->destinations[net->destination_count];
	char *slash = text ? strchr(text, '/') : NULL;
	uint64_t bits;

	if (!text)
		return fail(parser, "dest needs an address");
	if (net->destination_count == NET_DESTINATIONS)
		return fail(parser, "more than %d destinations", NET_DESTINATIONS);
	if (slash)
		*slash++ = '\0';
	if (!net_parse_address(text, &destination->address))
		return fail(parser, "dest: '%s' is no address", text);
	bits = destination->address.family == 4 ? 32 : 128;
	if (slash && !get_number(parser, "prefix length", slash, 0, bits, &bits))
		return false;
	destination->prefix_bits = (uint8_t)bits;
	behaviour_defaults(&destination->behaviour, 64);
	net->destination_count++;
	parser->destination = destination;
	parser->behaviour = &destination->behaviour;
	parser->section = IN_DESTINATION;
	return true;
}

static bool apply_setting(struct parser *parser, const char *key, char **save)
{
	const struct setting *setting = settings;
	const struct setting *end = settings + sizeof(settings) / sizeof(settings[0]);
	char *value = NULL;

	while (setting < end && strcmp(setting->key, key) != 0)
		setting++;
	if (setting == end)
		return fail(parser, "unknown setting '%s'", key);
	if (!(setting->sections & parser->section))
		return fail(parser, "'%s' does not belong here (it is a setting of %s)", key,
			    setting->sections & IN_NET   ? "the whole net, before the first hop"
			    : setting->sections & IN_HOP ? "a hop"
							 : "a dest");
	if (setting->has_value) {
		value = strtok_r(NULL, " \t", save);
		if (!value)
			return fail(parser, "'%s' needs a value", key);
	}
	return setting->set(parser, value);
}

static bool parse_line(struct parser *parser, char *line)
{
	char *save = NULL;
	char *word;

	line[strcspn(line, "#\r")] = '\0';
	word = strtok_r(line, " \t", &save);
	if (word && strcmp(word, "hop") == 0) {
		if (!open_hop(parser))
			return false;
		word = strtok_r(NULL, " \t", &save);
	} else if (word && strcmp(word, "dest") == 0) {
		if (!open_destination(parser, strtok_r(NULL, " \t", &save)))
			return false;
		word = strtok_r(NULL, " \t", &save);
	}
	for (; word; word = strtok_r(NULL, " \t", &save)) {
		if (!apply_setting(parser, word, &save))
			return false;
	}
	return true;
}

/* Every random stream starts from the seed and its place, so that adding a hop changes no other. */
static void seed_streams(struct net *net)
{
	for (size_t i = 0; i < net->hop_count; i++)
		net->hops[i].behaviour.random.state = net->seed * 0x9e3779b97f4a7c15u + i + 1;
	for (size_t i = 0; i < net->destination_count; i++)
		net->destinations[i].behaviour.random.state =
			net->seed * 0x9e3779b97f4a7c15u + 0x10000 + i;
}

static bool finish(struct parser *parser)
{
	struct net *net = parser->net;

	for (size_t i = 0; i < net->destination_count; i++) {
		struct net_destination *destination = &net->destinations[i];

		if (!destination->hops_given)
			destination->hops = net->hop_count;
		if (destination->hops > net->hop_count)
			return fail(parser, "a dest lies behind %zu hops, but there are only %zu",
				    destination->hops, net->hop_count);
	}
	if (net->gateway_count == 0) {
		net_parse_address("198.18.0.2", &net->gateways[0]);
		net_parse_address("2001:db8::2", &net->gateways[1]);
		net->gateway_count = 2;
	}
	behaviour_defaults(&net->router.behaviour, 64);
	seed_streams(net);
	return true;
}

bool net_parse(const char *name, const char *text, struct net *net, char *message,
	       size_t message_bytes)
{
	struct parser parser = {
		.name = name,
		.net = net,
		.section = IN_NET,
		.message = message,
		.message_bytes = message_bytes,
	};

	memset(net, 0, sizeof(*net));
	net->queue_packets = 131072;
	while (*text) {
		char line[LINE_BYTES];
		size_t length = strcspn(text, "\n");

		parser.line++;
		if (length >= sizeof(line))
			return fail(&parser, "line longer than %d bytes", LINE_BYTES - 1);
		memcpy(line, text, length);
		line[length] = '\0';
		if (!parse_line(&parser, line))
			return false;
		text += length + (text[length] == '\n');
	}
	return finish(&parser);
}
