/*
 * Source-address choice: which source address, interface and MTU a probe would use, as the kernel
 * sees it (RTM_GETROUTE), remembered until the kernel reports a change. Runs in the front end,
 * before and after its confinement; it distrusts the lengths of messages and the table's callers
 * not at all.
 */
#include <errno.h>
#include <netinet/in.h>
#include <linux/if_link.h>
#include <linux/ipv6.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "frontend/memory.h"
#include "frontend/netlink.h"
#include "frontend/route.h"

enum {
	/* 16384 destinations in 2 MB that are touched only as they are used; a scan of more
	 * pays a system call for each probe, as it would without a cache. */
	CACHE_SETS = 4096,
	CACHE_WAYS = 4,
	/* How long an answer is used when nothing is reported. Learnt path MTUs come and go
	 * without a report. */
	ANSWER_LIFE_NS = 2000000000,
	/* A client names one device or a few. */
	INTERFACES = 16,
	/* ALTIFNAMSIZ of <linux/if.h>, which cannot be included beside <net/if.h>. */
	ALTERNATIVE_NAME_BYTES = 128,
	/* Reports read in one go; a router that reloads its routes sends thousands, and the rest
	 * only says again that something changed. */
	REPORTS_AT_ONCE = 64,
};

/* A query in one form for hash and comparison: no padding, unused bytes zero. */
struct route_key {
	uint8_t family;
	uint8_t tos;
	uint8_t has_mark;
	uint8_t reserved;
	uint32_t mark;
	uint32_t ifindex;
	uint32_t reserved2;
	uint8_t destination[16];
	uint8_t source[16];
};
_Static_assert(sizeof(struct route_key) == 6 * sizeof(uint64_t), "hashed as six words");

struct cached_route {
	struct route_key key;
	struct route_answer answer;
	int error;
	uint32_t generation; /* valid while it is the table's; 0 never is */
	int64_t until_ns;
};

/* None lies on two pages. */
struct cache_set {
	_Alignas(512) struct cached_route ways[CACHE_WAYS];
};

struct cached_interface {
	uint32_t generation;
	uint32_t index;
	uint32_t mtu_bytes;
	uint32_t mtu_ipv6_bytes; /* may be less: routers announce it (RFC 4861, 4.6.4) */
	bool up;
	char name[IF_NAMESIZE];
};

struct route_table {
	int request_fd;
	int monitor_fd;
	uint32_t generation; /* grows whenever the kernel reports a change */
	int64_t checked_ns;  /* coarse clock, when reports were last read */
	bool watched;        /* the caller polls for reports ... */
	bool remembers;      /* ... which may concern what is kept */
	uint32_t next_interface;
	struct cached_interface interfaces[INTERFACES];
	_Alignas(struct nlmsghdr) uint8_t answer[NETLINK_ANSWER_BYTES];
	struct cache_set sets[CACHE_SETS];
};

/* What a route message says, as far as it matters here. */
struct kernel_route {
	uint8_t type;       /* RTN_UNICAST, … */
	uint32_t ifindex;   /* outgoing */
	uint32_t mtu_bytes; /* 0: none of its own, the interface's holds */
	bool learnt;        /* … or rather, mtu_bytes may be a path MTU that will expire */
	int error;
	uint8_t source[16]; /* the kernel's choice, all zero if none */
};

#define GROUP(name) (1u << (RTNLGRP_##name - 1))

static const uint32_t watched = GROUP(LINK) | GROUP(IPV4_IFADDR) | GROUP(IPV4_ROUTE) |
				GROUP(IPV4_RULE) | GROUP(IPV6_IFADDR) | GROUP(IPV6_ROUTE) |
				GROUP(IPV6_RULE) | GROUP(NEXTHOP);

static const uint8_t no_address[16];

struct route_table *route_open(void)
{
	struct route_table *table = memory_open(sizeof *table);
	int saved;

	if (table == NULL)
		return NULL;
	table->generation = 1;
	table->request_fd = netlink_open(0);
	table->monitor_fd = netlink_open(watched);
	if (table->request_fd >= 0 && table->monitor_fd >= 0)
		return table;
	saved = errno;
	route_close(table);
	errno = saved;
	return NULL;
}

void route_close(struct route_table *table)
{
	if (table == NULL)
		return;
	if (table->request_fd >= 0)
		close(table->request_fd);
	if (table->monitor_fd >= 0)
		close(table->monitor_fd);
	memory_close(table, sizeof *table);
}

int route_monitor_fd(const struct route_table *table)
{
	return table->monitor_fd;
}

/* What is reported does not matter, only that something is; ENOBUFS says that reports were lost,
 * which is a report too. */
void route_check_changes(struct route_table *table)
{
	bool changed = false;
	uint8_t ignored;

	for (int i = 0; i < REPORTS_AT_ONCE; i++) {
		ssize_t got = recv(table->monitor_fd, &ignored, sizeof ignored, MSG_DONTWAIT);

		if (got < 0 && errno != ENOBUFS)
			break;
		changed = true;
	}
	if (!changed)
		return;
	table->remembers = false;
	if (++table->generation == 0)
		table->generation = 1;
}

int route_watch(struct route_table *table)
{
	table->watched = true;
	return table->remembers ? table->monitor_fd : -1;
}

/* Before the kernel is asked for something that is to be kept. What it reported while nothing was
 * kept was not polled for, and is of no interest. */
static void begin_to_remember(struct route_table *table)
{
	if (!table->remembers)
		route_check_changes(table);
	table->remembers = true;
}

/* A few nanoseconds: the coarse clock is read without a system call and without the hardware. */
static int64_t coarse_clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int64_t notice_changes(struct route_table *table)
{
	int64_t now_ns = coarse_clock_ns();

	if (!table->watched && now_ns != table->checked_ns) {
		table->checked_ns = now_ns;
		route_check_changes(table);
	}
	return now_ns;
}

static struct nlmsghdr *answer_buffer(struct route_table *table)
{
	return (struct nlmsghdr *)(void *)table->answer;
}

/* RFC 4861, 4.6.4: a router's MTU option lowers what IPv6 may use of a link. */
static uint32_t ipv6_mtu(const struct netlink_attributes *link, uint32_t mtu_bytes)
{
	const struct rtattr *families[AF_INET6 + 1], *inet6[IFLA_INET6_CONF + 1];
	struct netlink_attributes by_family = {families, AF_INET6 + 1};
	struct netlink_attributes settings = {inet6, IFLA_INET6_CONF + 1};
	int32_t values[DEVCONF_MTU6 + 1];

	if (link->table[IFLA_AF_SPEC] == NULL)
		return mtu_bytes;
	netlink_nested(link->table[IFLA_AF_SPEC], &by_family);
	if (families[AF_INET6] == NULL)
		return mtu_bytes;
	netlink_nested(families[AF_INET6], &settings);
	if (!netlink_value(&settings, IFLA_INET6_CONF, values, sizeof values) ||
	    values[DEVCONF_MTU6] <= 0)
		return mtu_bytes;
	return (uint32_t)values[DEVCONF_MTU6];
}

/* Keeps what a link message tells in the place of the interface that was kept longest. */
static int keep_interface(struct route_table *table, const struct cached_interface **found)
{
	struct cached_interface *kept = &table->interfaces[table->next_interface];
	const struct nlmsghdr *answer = answer_buffer(table);
	const struct ifinfomsg *head = netlink_head(answer, sizeof *head);
	const struct rtattr *known[IFLA_AF_SPEC + 1];
	struct netlink_attributes attributes = {known, IFLA_AF_SPEC + 1};

	if (head == NULL)
		return EBADMSG;
	netlink_attributes(answer, sizeof *head, &attributes);
	memset(kept, 0, sizeof *kept);
	if (known[IFLA_IFNAME] == NULL || RTA_PAYLOAD(known[IFLA_IFNAME]) > sizeof kept->name ||
	    !netlink_value(&attributes, IFLA_MTU, &kept->mtu_bytes, sizeof kept->mtu_bytes))
		return EBADMSG;
	memcpy(kept->name, RTA_DATA(known[IFLA_IFNAME]), RTA_PAYLOAD(known[IFLA_IFNAME]));
	kept->name[sizeof kept->name - 1] = 0;
	kept->index = (uint32_t)head->ifi_index;
	kept->up = (head->ifi_flags & IFF_UP) != 0;
	kept->mtu_ipv6_bytes = ipv6_mtu(&attributes, kept->mtu_bytes);
	kept->generation = table->generation;
	table->next_interface = (table->next_interface + 1) % INTERFACES;
	*found = kept;
	return 0;
}

/* Asks for a link by index, or by name if that is not NULL. */
static int ask_interface(struct route_table *table, uint32_t ifindex, const char *name,
			 const struct cached_interface **found)
{
	struct netlink_question question;
	struct ifinfomsg *head = netlink_begin(&question, RTM_GETLINK, sizeof *head);
	int error;

	begin_to_remember(table);
	head->ifi_index = (int)ifindex;
	netlink_put32(&question, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
	if (name != NULL)
		netlink_put(&question, strlen(name) < IFNAMSIZ ? IFLA_IFNAME : IFLA_ALT_IFNAME,
			    name, strlen(name) + 1);
	error = netlink_ask(table->request_fd, &question, RTM_NEWLINK, answer_buffer(table));
	if (error != 0)
		return error;
	return keep_interface(table, found);
}

static int find_interface(struct route_table *table, uint32_t ifindex,
			  const struct cached_interface **found)
{
	if (ifindex == 0 || ifindex > INT32_MAX)
		return ENODEV;
	for (size_t i = 0; i < INTERFACES; i++) {
		*found = &table->interfaces[i];
		if ((*found)->index == ifindex && (*found)->generation == table->generation)
			return 0;
	}
	return ask_interface(table, ifindex, NULL, found);
}

/* A link's alternative names work too, but are not remembered. */
int route_interface_index(struct route_table *table, const char *name, uint32_t *ifindex)
{
	const struct cached_interface *found;
	int error;

	*ifindex = 0;
	notice_changes(table);
	if (name[0] == 0 || strlen(name) >= ALTERNATIVE_NAME_BYTES)
		return ENODEV;
	for (size_t i = 0; i < INTERFACES; i++) {
		found = &table->interfaces[i];
		if (found->generation == table->generation && strcmp(found->name, name) == 0) {
			*ifindex = found->index;
			return 0;
		}
	}
	error = ask_interface(table, 0, name, &found);
	if (error == 0)
		*ifindex = found->index;
	return error == EINVAL ? ENODEV : error; /* a name that no link can have */
}

int route_interface_name(struct route_table *table, uint32_t ifindex, char *name)
{
	const struct cached_interface *found;
	int error;

	name[0] = 0;
	notice_changes(table);
	error = find_interface(table, ifindex, &found);
	if (error == 0)
		memcpy(name, found->name, sizeof found->name);
	return error;
}

static size_t address_bytes(uint8_t family)
{
	return family == 4 ? 4 : 16;
}

static bool is_zero(const uint8_t address[16])
{
	return memcmp(address, no_address, 16) == 0;
}

static void build_route_question(struct netlink_question *question, const struct route_key *key,
				 uint32_t flags)
{
	struct rtmsg *head = netlink_begin(question, RTM_GETROUTE, sizeof *head);
	size_t bytes = address_bytes(key->family);

	head->rtm_family = key->family == 4 ? AF_INET : AF_INET6;
	head->rtm_dst_len = (unsigned char)(bytes * 8);
	head->rtm_tos = key->tos;
	head->rtm_flags = flags;
	netlink_put(question, RTA_DST, key->destination, bytes);
	if (!is_zero(key->source)) {
		head->rtm_src_len = (unsigned char)(bytes * 8);
		netlink_put(question, RTA_SRC, key->source, bytes);
	}
	if (key->ifindex != 0)
		netlink_put32(question, RTA_OIF, key->ifindex);
	if (key->has_mark)
		netlink_put32(question, RTA_MARK, key->mark);
}

static int read_route(const struct nlmsghdr *answer, uint8_t family, struct kernel_route *route)
{
	const struct rtmsg *head = netlink_head(answer, sizeof *head);
	const struct rtattr *known[RTA_CACHEINFO + 1], *metric[RTAX_MTU + 1];
	struct netlink_attributes attributes = {known, RTA_CACHEINFO + 1};
	struct netlink_attributes metrics = {metric, RTAX_MTU + 1};
	struct rta_cacheinfo cache = {0};

	memset(route, 0, sizeof *route);
	if (head == NULL)
		return EBADMSG;
	netlink_attributes(answer, sizeof *head, &attributes);
	route->type = head->rtm_type;
	netlink_value(&attributes, RTA_OIF, &route->ifindex, sizeof route->ifindex);
	netlink_value(&attributes, RTA_PREFSRC, route->source, address_bytes(family));
	netlink_value(&attributes, RTA_CACHEINFO, &cache, sizeof cache);
	route->error = -(int)cache.rta_error;
	if (known[RTA_METRICS] != NULL) {
		netlink_nested(known[RTA_METRICS], &metrics);
		netlink_value(&metrics, RTAX_MTU, &route->mtu_bytes, sizeof route->mtu_bytes);
	}
	route->learnt = route->mtu_bytes != 0 && cache.rta_expires != 0;
	return 0;
}

static int ask_route(struct route_table *table, const struct route_key *key, uint32_t flags,
		     struct kernel_route *route)
{
	struct netlink_question question;
	int error;

	build_route_question(&question, key, flags);
	error = netlink_ask(table->request_fd, &question, RTM_NEWROUTE, answer_buffer(table));
	if (error != 0)
		return error;
	return read_route(answer_buffer(table), key->family, route);
}

/* The kernel refuses foreign sources as well, but with an EINVAL that has other meanings too (IPv4)
 * or only when a packet is sent (IPv6). */
static int check_source(struct route_table *table, const struct route_key *key)
{
	static const uint8_t link_local[2] = {0xfe, 0x80};
	struct route_key question = {.family = key->family};
	struct kernel_route route;
	int error;

	memcpy(question.destination, key->source, sizeof question.destination);
	if (key->family == 6 && memcmp(key->source, link_local, sizeof link_local) == 0)
		question.ifindex = key->ifindex;
	error = ask_route(table, &question, 0, &route);
	if (error == 0 && route.type == RTN_LOCAL)
		return 0;
	return error == ENOBUFS || error == ENOMEM ? error : EADDRNOTAVAIL;
}

/* What a send would say about a route of this type, 0 if it would send. */
static int type_error(const struct kernel_route *route)
{
	switch (route->type) {
	case RTN_UNICAST:
	case RTN_LOCAL:
	case RTN_ANYCAST:
		return 0;
	case RTN_BROADCAST: /* as a socket without SO_BROADCAST */
	case RTN_MULTICAST: /* never probed */
	case RTN_PROHIBIT:
		return EACCES;
	case RTN_UNREACHABLE: /* also the kernel's own entry where nothing matches */
		return route->error == ENETUNREACH ? ENETUNREACH : EHOSTUNREACH;
	default:
		return ENETUNREACH;
	}
}

/* An interface that is missing or down looks like a missing route. */
static int explain_unreachable(struct route_table *table, uint32_t ifindex, int error)
{
	const struct cached_interface *interface;

	if (error == EINVAL) /* a blackhole: the source has been checked */
		error = ENETUNREACH;
	if (ifindex == 0 || (error != ENETUNREACH && error != EHOSTUNREACH))
		return error;
	switch (find_interface(table, ifindex, &interface)) {
	case 0:
		return interface->up ? error : ENETDOWN;
	case ENODEV:
		return ENODEV;
	default:
		return error;
	}
}

static int find_mtus(struct route_table *table, const struct route_key *key,
		     const struct kernel_route *route, struct route_answer *answer)
{
	const struct cached_interface *interface;
	struct kernel_route configured = *route;
	int error = find_interface(table, route->ifindex, &interface);

	if (error != 0)
		return error;
	/* Behind a learnt path MTU stands the route as it was configured. */
	if (route->learnt && ask_route(table, key, RTM_F_FIB_MATCH, &configured) != 0)
		configured.mtu_bytes = 0;
	answer->mtu_bytes = configured.mtu_bytes;
	if (answer->mtu_bytes == 0)
		answer->mtu_bytes =
			key->family == 4 ? interface->mtu_bytes : interface->mtu_ipv6_bytes;
	answer->path_mtu_bytes = route->learnt ? route->mtu_bytes : answer->mtu_bytes;
	return 0;
}

static int ask_kernel(struct route_table *table, const struct route_key *key,
		      struct route_answer *answer)
{
	struct kernel_route route;
	bool chosen = is_zero(key->source);
	int error = chosen ? 0 : check_source(table, key);

	if (error != 0)
		return error;
	error = ask_route(table, key, 0, &route);
	if (error == 0)
		error = type_error(&route);
	if (error != 0)
		return explain_unreachable(table, key->ifindex, error);
	memcpy(answer->source, chosen ? route.source : key->source, sizeof answer->source);
	if (is_zero(answer->source))
		return ENETUNREACH;
	answer->ifindex = route.ifindex;
	return find_mtus(table, key, &route, answer);
}

static void make_key(const struct route_query *query, struct route_key *key)
{
	memset(key, 0, sizeof *key);
	key->family = query->family;
	key->tos = query->tos;
	key->has_mark = query->has_mark;
	key->mark = query->has_mark ? query->mark : 0;
	key->ifindex = query->ifindex;
	memcpy(key->destination, query->destination, address_bytes(query->family));
	memcpy(key->source, query->source, address_bytes(query->family));
}

/* The keys come from this process's own client: no need for a hash that withstands an attack. */
static size_t cache_set(const struct route_key *key)
{
	uint64_t words[6], hash = 0;

	memcpy(words, key, sizeof words);
	for (size_t i = 0; i < 6; i++) {
		hash = (hash ^ words[i]) * 0x9e3779b97f4a7c15;
		hash ^= hash >> 32;
	}
	return (size_t)(hash % CACHE_SETS);
}

/* The entry that holds `key`, or the one of its set that has the least to lose. */
static struct cached_route *find_cached(struct route_table *table, const struct route_key *key,
					int64_t now_ns, bool *hit)
{
	struct cached_route *set = table->sets[cache_set(key)].ways;
	struct cached_route *oldest = &set[0];

	for (size_t i = 0; i < CACHE_WAYS; i++) {
		bool valid = set[i].generation == table->generation && set[i].until_ns > now_ns;

		*hit = valid && memcmp(&set[i].key, key, sizeof *key) == 0;
		if (*hit)
			return &set[i];
		if (!valid)
			set[i].until_ns = 0;
		if (set[i].until_ns < oldest->until_ns)
			oldest = &set[i];
	}
	return oldest;
}

static bool worth_keeping(int error)
{
	return error == 0 || error == ENETUNREACH || error == EHOSTUNREACH || error == EACCES ||
	       error == ENETDOWN || error == ENODEV || error == EADDRNOTAVAIL;
}

int route_lookup(struct route_table *table, const struct route_query *query,
		 struct route_answer *answer)
{
	int64_t now_ns = notice_changes(table);
	struct cached_route *entry;
	struct route_key key;
	bool hit;

	make_key(query, &key);
	entry = find_cached(table, &key, now_ns, &hit);
	if (!hit) {
		begin_to_remember(table);
		entry->key = key;
		memset(&entry->answer, 0, sizeof entry->answer);
		entry->error = ask_kernel(table, &key, &entry->answer);
		if (entry->error != 0)
			memset(&entry->answer, 0, sizeof entry->answer);
		entry->generation = worth_keeping(entry->error) ? table->generation : 0;
		entry->until_ns = now_ns + ANSWER_LIFE_NS;
	}
	*answer = entry->answer;
	return entry->error;
}
