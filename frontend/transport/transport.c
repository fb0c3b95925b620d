/*
 * Holds the transports together: opens them, gives each probe to the one of its protocol, and polls
 * them all through one descriptor. Runs in the unprivileged front end.
 */
#include "frontend/transport/transport.h"

#include <err.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/record.h"
#include "frontend/process/clock.h"
#include "frontend/transport/ip_family.h"
#include "frontend/transport/local_route.h"
#include "frontend/transport/way.h"

/* WAY_BROKER is the last: when it reports that it is down, the others have reported what works. */
enum way_index { WAY_UDP, WAY_TCP, WAY_PING, WAY_BROKER, WAYS };

struct transport {
	const struct transport_sink *sink; /* the commands' */
	struct transport_sink direct_sink; /* what all but the broker link report to */
	struct transport_sink broker_sink; /* what the broker link reports to */
	int epoll_fd;
	bool was_dispatched; /* all but the broker link are ready then */
	unsigned way_count;  /* WAY_PING and WAY_BROKER are left out without a broker */
	unsigned not_ready;  /* ways that are neither ready nor down */
	uint32_t direct_features;
	uint32_t broker_features;
	struct way ways[WAYS];
	uint8_t way_of_slot[TRANSPORT_SLOTS]; /* enum way_index of the latest probe */
};

/* --- what the ways report --------------------------------------------------------------------- */

/* IPv6 sockets can be opened though IPv6 is disabled (net.ipv6.conf.all.disable_ipv6). It works if
 * there is a route to this host, or to any other. */
static bool ipv6_works(void)
{
	static const struct probe_request destinations[] = {
		{.family = 6, .destination = {[15] = 1}},
		{.family = 6, .destination = {0x20, 0x01, 0x0d, 0xb8, [15] = 1}},
	};
	struct local_route route;

	return local_route(&destinations[0], &route) == 0 ||
	       local_route(&destinations[1], &route) == 0;
}

/* The kernel gives UDP and TCP sockets to everyone. */
static void report_denied(const struct transport *transport)
{
	static const struct {
		uint32_t feature;
		const char *why;
	} sockets[] = {
		{FEATURE_UDP, "a system call filter denies UDP sockets"},
		{FEATURE_TCP, "a system call filter denies TCP sockets"},
	};

	for (size_t i = 0; i < sizeof(sockets) / sizeof(*sockets); i++) {
		uint32_t both = sockets[i].feature | sockets[i].feature << FEATURE_IPV6_SHIFT;

		if (!(transport->direct_features & both))
			transport->sink->down(transport->sink->context, both, EPERM,
					      sockets[i].why);
	}
}

static void one_is_settled(struct transport *transport)
{
	uint32_t features = transport->direct_features | transport->broker_features;

	if (--transport->not_ready > 0)
		return;
	report_denied(transport);
	if (!ipv6_works())
		features &= ~((uint32_t)FEATURE_PROTOCOLS << FEATURE_IPV6_SHIFT);
	transport->sink->ready(transport->sink->context, features);
}

static void on_direct_ready(void *context, uint32_t features)
{
	struct transport *transport = context;

	transport->direct_features |= features;
	one_is_settled(transport);
}

static void on_broker_ready(void *context, uint32_t features)
{
	struct transport *transport = context;

	transport->broker_features = features;
	one_is_settled(transport);
}

static void on_result(void *context, const struct probe_result *result)
{
	struct transport *transport = context;

	transport->sink->result(transport->sink->context, result);
}

/* Ping sockets may still serve ICMP, and UDP and TCP probes have marks, when the broker is gone. */
static void on_broker_down(void *context, uint32_t lost, int error, const char *why)
{
	struct transport *transport = context;

	transport->broker_features = 0;
	lost &= ~transport->direct_features;
	transport->sink->down(transport->sink->context, lost, error, why);
	/* Before it was ready: nothing of it is waited for any more. */
	if (transport->not_ready > 0)
		one_is_settled(transport);
}

/* --- the functions of transport.h ------------------------------------------------------------- */

/* Each TCP probe needs a descriptor. Where the limit cannot be raised fewer are open at once. */
static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &limit);
}

struct transport *transport_open(const struct transport_options *options,
				 const struct transport_sink *sink)
{
	struct transport *transport = calloc(1, sizeof(*transport));

	if (transport == NULL)
		err(EXIT_FAILURE, "memory for the transports");
	transport->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (transport->epoll_fd < 0)
		err(EXIT_FAILURE, "epoll");
	transport->sink = sink;
	transport->direct_sink =
		(struct transport_sink){transport, on_direct_ready, on_result, NULL};
	transport->broker_sink =
		(struct transport_sink){transport, on_broker_ready, on_result, on_broker_down};
	transport->way_count = options->without_broker ? WAY_PING : WAYS;
	transport->not_ready = transport->way_count;

	/* The broker inherits the limits: it is started first. */
	if (!options->without_broker)
		broker_link_open(&transport->ways[WAY_BROKER], transport->epoll_fd,
				 options->broker_path, &transport->broker_sink);
	raise_descriptor_limit();
	if (!options->without_broker)
		ping_open(&transport->ways[WAY_PING], transport->epoll_fd, &transport->direct_sink);
	udp_open(&transport->ways[WAY_UDP], transport->epoll_fd, &transport->direct_sink);
	tcp_open(&transport->ways[WAY_TCP], transport->epoll_fd, &transport->direct_sink);
	return transport;
}

void transport_close(struct transport *transport)
{
	for (unsigned i = 0; i < transport->way_count; i++)
		transport->ways[i].functions->close(transport->ways[i].self);
	close(transport->epoll_fd);
	free(transport);
}

int transport_fd(const struct transport *transport)
{
	return transport->epoll_fd;
}

int64_t transport_next_ns(const struct transport *transport)
{
	int64_t next_ns = INT64_MAX;

	for (unsigned i = 0; i < transport->way_count; i++) {
		const struct way *way = &transport->ways[i];
		int64_t way_ns = way->functions->next_ns(way->self);

		if (way_ns < next_ns)
			next_ns = way_ns;
	}
	return next_ns;
}

/* Raw IPv6 sockets do not obey an interface and any source at once (probe_record.c). */
static bool has_source_and_interface(const struct probe_request *request)
{
	return request->family == 6 && request->ifindex != 0 &&
	       !ip_family_is_unspecified(request->source);
}

static uint8_t way_for_icmp(const struct transport *transport, const struct probe_request *request)
{
	uint32_t feature = FEATURE_ICMP;

	if (request->family == 6)
		feature <<= FEATURE_IPV6_SHIFT;
	if (!(transport->direct_features & feature))
		return WAY_BROKER;
	if (transport->broker_features & feature && !has_source_and_interface(request))
		return WAY_BROKER;
	return WAY_PING;
}

static uint8_t way_for(const struct transport *transport,
		       const struct probe_request *request) /* enum way_index */
{
	switch (request->protocol) {
	case IPPROTO_UDP:
		return WAY_UDP;
	case IPPROTO_TCP:
		return WAY_TCP;
	case IPPROTO_ICMP:
		return way_for_icmp(transport, request);
	default:
		return WAY_BROKER;
	}
}

bool transport_uses_broker(const struct transport *transport, const struct probe_request *request)
{
	return way_for(transport, request) == WAY_BROKER;
}

void transport_probe(struct transport *transport, const struct probe_request *request)
{
	uint8_t index = way_for(transport, request);
	const struct way *way = &transport->ways[index];

	/* Without a broker the commands do not ask for its protocols. */
	if (index >= transport->way_count)
		abort();
	transport->way_of_slot[request->cookie % TRANSPORT_SLOTS] = index;
	way->functions->probe(way->self, request);
}

void transport_cancel(struct transport *transport, uint32_t cookie)
{
	const struct way *way = &transport->ways[transport->way_of_slot[cookie % TRANSPORT_SLOTS]];

	way->functions->cancel(way->self, cookie);
}

void transport_flush(struct transport *transport)
{
	for (unsigned i = 0; i < transport->way_count; i++)
		transport->ways[i].functions->flush(transport->ways[i].self);
}

/* Which ways have something to do, as a set of 1 << enum way_index: at the first call all. */
static unsigned due_ways(struct transport *transport)
{
	struct epoll_event events[WAYS * 2];
	unsigned due = transport->was_dispatched ? 0 : (1u << transport->way_count) - 1;
	int64_t now_ns = clock_now_ns();

	int count = epoll_wait(transport->epoll_fd, events, WAYS * 2, 0);
	for (int i = 0; i < count; i++)
		due |= 1u << ((struct way *)events[i].data.ptr - transport->ways);
	for (unsigned i = 0; i < transport->way_count; i++) {
		const struct way *way = &transport->ways[i];

		if (way->functions->next_ns(way->self) <= now_ns)
			due |= 1u << i;
	}
	transport->was_dispatched = true;
	return due;
}

void transport_dispatch(struct transport *transport, size_t most_results)
{
	unsigned due = due_ways(transport);

	for (unsigned i = 0; i < transport->way_count; i++)
		if (due & 1u << i)
			transport->ways[i].functions->dispatch(transport->ways[i].self,
							       most_results);
}
