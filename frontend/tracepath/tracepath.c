/*
 * tracepath: options, the destination's name, the helpers, then one loop that moves probes,
 * answers, names and lines, none of which waits for another. Runs as the user; once the broker runs
 * and the destination is known it confines itself. It distrusts whatever comes from the network and
 * from the helper that looks up names.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "frontend/names.h"
#include "frontend/packet_output.h"
#include "frontend/personality.h"
#include "frontend/route.h"
#include "frontend/trace_answer.h"
#include "frontend/trace_engine.h"
#include "frontend/trace_report.h"
#include "frontend/trace_view.h"
#include "frontend/tracepath_options.h"
#include "frontend/transport.h"
#include "policy/admission.h"
#include "policy/confine.h"

enum {
	NS_PER_S = 1000000000,
	EVENTS_A_TURN = 256,
	/* A broker says hello within a millisecond or two. */
	HELLO_WAIT_S = 10,
	/* A probe that passes everywhere and still has room for what a router quotes. */
	SMALL_BYTES = 64,
	LENGTH_4_BYTES = 65535, /* first lengths, as iputils has them */
	LENGTH_6_BYTES = 128000,
	LEAST_MTU_4_BYTES = 68,   /* RFC 791, 3.2 */
	LEAST_MTU_6_BYTES = 1280, /* RFC 8200, 5 */
	HEADERS_6_BYTES = 48,     /* IPv6's and UDP's; tracepath_options.c knows IPv4's */
	/* iputils counts ports up from probe to probe and begins again after so many. */
	PORTS = 64,
	FOUND = -1, /* no exit status yet */
};

_Static_assert(VIEW_DEVICE_BYTES >= IF_NAMESIZE, "room for an interface's name");

struct tracepath {
	struct tracepath_options options;
	struct record_probe probe; /* what all probes have in common */
	struct route_answer route;
	int route_error;
	int64_t route_ns; /* how long asking took */
	struct route_table *routes;
	struct transport *transport;
	struct trace *trace;
	struct names *names;
	struct output output;
	struct trace_page page;
	struct trace_report report;
	int signal_fd;
	bool ready; /* the transport said hello */
	int down_error;
	char down_why[512];
	bool output_closed;
	bool output_blocked;
	bool interrupted;
	struct trace_result result;
};

static int64_t monotonic_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

/* --- what comes in ---------------------------------------------------------------------------- */

static void tell_hello(void *context, const struct record_hello *hello)
{
	struct tracepath *tracepath = context;
	uint32_t features = hello->features;

	if (tracepath->probe.family == 6)
		features >>= FEATURE_IPV6_SHIFT;
	uint32_t wanted = tracepath->probe.protocol == IPPROTO_ICMP  ? FEATURE_ICMP
			  : tracepath->probe.protocol == IPPROTO_TCP ? FEATURE_TCP
								     : FEATURE_UDP;

	tracepath->ready = true;
	if (features & wanted)
		return;
	tracepath->down_error = EPROTONOSUPPORT;
	snprintf(tracepath->down_why, sizeof tracepath->down_why,
		 "%s over IPv%u does not work here; 'postern doctor' says why",
		 tracepath->options.protocol_name, tracepath->probe.family);
}

static void tell_event(void *context, const struct record_event *event, const uint8_t *extension)
{
	struct tracepath *tracepath = context;
	struct trace_answer answer = trace_answer_of(&tracepath->probe, event);
	struct extension_info info;

	if (extension != NULL && extension_decode(extension, event->extension_bytes,
						  (event->known & EVENT_EXTENSION_CUT) != 0, &info))
		answer.extension = &info;
	if (tracepath->trace != NULL)
		trace_answer(tracepath->trace, monotonic_ns(), (uint16_t)event->cookie, &answer);
}

static void tell_down(void *context, int error, const char *why)
{
	struct tracepath *tracepath = context;

	if (tracepath->down_error != 0)
		return;
	tracepath->down_error = error ? error : EIO;
	snprintf(tracepath->down_why, sizeof tracepath->down_why, "%s", why);
}

static void tell_fact(void *context, const struct trace_fact *fact)
{
	struct tracepath *tracepath = context;

	if (fact->kind == TRACE_FACT_END)
		tracepath->result = *fact->result;
	report_fact(&tracepath->report, fact, monotonic_ns());
}

/* --- the destination -------------------------------------------------------------------------- */

/* The unspecified address is this host, as for connect(). */
static void take_address(struct record_probe *probe, const struct sockaddr *address)
{
	memset(probe->destination, 0, sizeof probe->destination);
	if (address->sa_family == AF_INET) {
		const struct sockaddr_in *four = (const struct sockaddr_in *)address;
		struct in_addr here = {htonl(INADDR_LOOPBACK)};
		bool any = four->sin_addr.s_addr == htonl(INADDR_ANY);

		probe->family = 4;
		memcpy(probe->destination, any ? &here : &four->sin_addr, sizeof here);
		return;
	}
	const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)address;
	bool any = IN6_IS_ADDR_UNSPECIFIED(&six->sin6_addr);

	probe->family = 6;
	probe->ifindex = six->sin6_scope_id;
	memcpy(probe->destination, any ? &in6addr_loopback : &six->sin6_addr,
	       sizeof six->sin6_addr);
}

/* Multicast, broadcast and reserved addresses have no path; the broker would end for them. */
static int ask_route(struct tracepath *tracepath)
{
	const struct record_probe *probe = &tracepath->probe;
	struct route_query query = {.family = probe->family, .ifindex = probe->ifindex};

	if (!admission_is_unicast(probe->family, probe->destination))
		return EACCES;
	memcpy(query.destination, probe->destination, sizeof query.destination);
	memcpy(query.source, probe->source, sizeof query.source);
	int64_t began_ns = monotonic_ns();
	int error = route_lookup(tracepath->routes, &query, &tracepath->route);

	tracepath->route_ns = monotonic_ns() - began_ns;
	return error;
}

/* The first of the name's addresses that there is a route to; without any, the first. */
static int look_up_destination(struct tracepath *tracepath)
{
	const struct tracepath_options *options = &tracepath->options;
	struct addrinfo hints = {.ai_socktype = SOCK_DGRAM, .ai_flags = AI_IDN};
	struct addrinfo *addresses;
	uint32_t ifindex = tracepath->probe.ifindex;

	hints.ai_family = options->family == 4 ? AF_INET : options->family == 6 ? AF_INET6 : 0;
	int error = getaddrinfo(options->destination, NULL, &hints, &addresses);

	if (error != 0) {
		fprintf(stderr, "%s: %s: %s\n", options->program, options->destination,
			error == EAI_SYSTEM ? strerror(errno) : gai_strerror(error));
		return STATUS_WRONG;
	}
	for (const struct addrinfo *a = addresses; a != NULL; a = a->ai_next) {
		take_address(&tracepath->probe, a->ai_addr);
		if (ifindex != 0)
			tracepath->probe.ifindex = ifindex;
		tracepath->route_error = ask_route(tracepath);
		if (tracepath->route_error == 0)
			break;
	}
	if (tracepath->route_error != 0) {
		take_address(&tracepath->probe, addresses->ai_addr);
		if (ifindex != 0)
			tracepath->probe.ifindex = ifindex;
	}
	freeaddrinfo(addresses);
	return FOUND;
}

static int choose_device(struct tracepath *tracepath)
{
	const struct tracepath_options *options = &tracepath->options;

	if (options->device == NULL)
		return FOUND;
	tracepath->probe.ifindex = if_nametoindex(options->device);
	if (tracepath->probe.ifindex != 0)
		return FOUND;
	fprintf(stderr, "%s: interface %s: %s\n", options->program, options->device,
		strerror(errno));
	return STATUS_WRONG;
}

/* The source address decides the family, too. */
static int choose_source(struct tracepath *tracepath)
{
	struct tracepath_options *options = &tracepath->options;
	uint8_t family = 4;

	if (options->source == NULL)
		return FOUND;
	if (inet_pton(AF_INET, options->source, tracepath->probe.source) != 1) {
		family = 6;
		if (inet_pton(AF_INET6, options->source, tracepath->probe.source) != 1) {
			fprintf(stderr, "%s: source '%s' is not an address\n", options->program,
				options->source);
			return STATUS_WRONG;
		}
	}
	if (options->family != 0 && options->family != family) {
		fprintf(stderr, "%s: source %s is not an IPv%u address\n", options->program,
			options->source, options->family);
		return STATUS_WRONG;
	}
	options->family = family;
	return FOUND;
}

static int find_destination(struct tracepath *tracepath)
{
	const struct tracepath_options *options = &tracepath->options;
	int status = choose_device(tracepath);

	if (status == FOUND)
		status = choose_source(tracepath);
	if (status != FOUND)
		return status;
	tracepath->routes = route_open();
	if (tracepath->routes == NULL) {
		fprintf(stderr, "%s: asking the kernel for routes: %s\n", options->program,
			strerror(errno));
		return STATUS_WRONG;
	}
	status = look_up_destination(tracepath);
	if (status == FOUND && tracepath->route_error == EADDRNOTAVAIL && options->source) {
		fprintf(stderr, "%s: source %s is not an address of this host\n", options->program,
			options->source);
		return STATUS_WRONG;
	}
	if (status == FOUND && tracepath->probe.family == 6 && options->length_bytes != 0 &&
	    options->length_bytes <= HEADERS_6_BYTES) {
		fprintf(stderr, "%s: pktlen: %u is not more than IPv6 headers have, %d\n",
			options->program, options->length_bytes, HEADERS_6_BYTES);
		return STATUS_WRONG;
	}
	return status;
}

/* --- setting up ------------------------------------------------------------------------------- */

/* RFC 4291, 2.5.6 */
static bool is_link_local(const struct record_probe *probe)
{
	return probe->family == 6 && probe->destination[0] == 0xfe &&
	       (probe->destination[1] & 0xc0) == 0x80;
}

static void fill_probe(struct tracepath *tracepath)
{
	const struct tracepath_options *options = &tracepath->options;
	struct record_probe *probe = &tracepath->probe;

	probe->protocol = options->protocol;
	probe->flags = PROBE_DONT_FRAGMENT;
	if (options->has_flow) {
		probe->flags |= PROBE_FLOW;
		probe->flow = options->flow;
	}
	probe->port = options->port;
	if (tracepath->route_error == 0)
		memcpy(probe->source, tracepath->route.source, sizeof probe->source);
	/* A link-local destination is on a link. */
	if (is_link_local(probe) && probe->ifindex == 0)
		probe->ifindex = tracepath->route.ifindex;
}

static void fill_page(struct tracepath *tracepath)
{
	const struct tracepath_options *options = &tracepath->options;

	tracepath->page = (struct trace_page){
		.output = &tracepath->output,
		.destination = options->destination,
		.family = tracepath->probe.family,
		.protocol = options->protocol_name,
		.first_ttl = (uint8_t)options->first_ttl,
		.both = options->both,
	};
	memcpy(tracepath->page.address, tracepath->probe.destination,
	       sizeof tracepath->page.address);
	/* Its name must be known before confinement. */
	if (is_link_local(&tracepath->probe) &&
	    if_indextoname(tracepath->probe.ifindex, tracepath->page.device) != NULL)
		tracepath->page.scope = tracepath->probe.ifindex;
	tracepath->report = (struct trace_report){
		.view = options->format == FORMAT_JSON    ? &trace_json_view
			: options->format == FORMAT_JSONL ? &trace_jsonl_view
							  : &trace_text_view,
		.page = &tracepath->page,
		.names = tracepath->names,
	};
}

static bool begin_trace(struct tracepath *tracepath)
{
	const struct tracepath_options *options = &tracepath->options;
	uint32_t length = tracepath->probe.family == 4 ? LENGTH_4_BYTES : LENGTH_6_BYTES;
	struct trace_config config = {
		.first_ttl = (uint8_t)options->first_ttl,
		.max_hops = (uint8_t)options->max_hops,
		.tries = options->tries,
		.tries_exact = options->tries_given,
		.wait_ns = options->wait_ns,
		.wait_exact = options->wait_given,
		.deadline_ns = options->deadline_ns,
		.wanted_bytes = length,
		.local_mtu_bytes = tracepath->route.mtu_bytes,
		.local_ns = tracepath->route_ns,
		.most_bytes = UINT16_MAX,
		.least_mtu_bytes =
			tracepath->probe.family == 4 ? LEAST_MTU_4_BYTES : LEAST_MTU_6_BYTES,
		.scout_tells = options->protocol == IPPROTO_UDP,
	};

	if (options->length_bytes != 0 && options->length_bytes < length)
		config.wanted_bytes = options->length_bytes;
	/* Nothing is sent without a route or hops, and no first link's MTU could matter. */
	if (tracepath->route_error != 0 || config.local_mtu_bytes == 0 || config.max_hops == 0)
		config.local_mtu_bytes = config.wanted_bytes;
	config.small_bytes = SMALL_BYTES;
	if (config.wanted_bytes < config.small_bytes)
		config.small_bytes = config.wanted_bytes;
	tracepath->trace = trace_new(&config, tell_fact, tracepath, monotonic_ns());
	return tracepath->trace != NULL;
}

/* Signals become readable, so that they end the trace between two steps of it. */
static int open_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	if (sigprocmask(SIG_BLOCK, &set, NULL) != 0)
		return -1;
	return signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}

/* The helper first, so that it inherits nothing; then the broker, which its file's capability would
 * not reach once this process is confined. */
static int set_up(struct tracepath *tracepath, const struct transport_sink *sink)
{
	const struct tracepath_options *options = &tracepath->options;
	int status;

	if (!options->numeric)
		tracepath->names = names_start(); /* without it addresses do as well */
	status = find_destination(tracepath);
	if (status != FOUND)
		return status;
	if (!output_open(&tracepath->output, VIEW_BYTES)) {
		fprintf(stderr, "%s: memory for output: %s\n", options->program, strerror(errno));
		return EXIT_FAILURE;
	}
	fill_probe(tracepath);
	fill_page(tracepath);
	tracepath->transport = transport_open(options->broker, sink);
	tracepath->signal_fd = open_signals();
	if (tracepath->signal_fd < 0) {
		fprintf(stderr, "%s: signalfd: %s\n", options->program, strerror(errno));
		return EXIT_FAILURE;
	}
	if (confine_tracepath() != 0) {
		fprintf(stderr, "%s: seccomp filter: %s\n", options->program, strerror(errno));
		return EXIT_FAILURE;
	}
	return FOUND;
}

/* --- the loop --------------------------------------------------------------------------------- */

static uint16_t next_port(uint16_t first, unsigned probe)
{
	unsigned ports = UINT16_MAX - first + 1u;

	return (uint16_t)(first + probe % (ports < PORTS ? ports : PORTS));
}

static void send_probes(struct tracepath *tracepath)
{
	struct trace_probe next;
	bool any = false;

	while (trace_next(tracepath->trace, monotonic_ns(), &next)) {
		struct record_probe probe = tracepath->probe;

		probe.kind = RECORD_PROBE;
		probe.cookie = next.id;
		probe.ttl = next.ttl;
		probe.size_bytes = (uint16_t)next.bytes;
		if (probe.protocol == IPPROTO_UDP && !tracepath->options.has_flow)
			probe.port = next_port(probe.port, next.id);
		transport_probe(tracepath->transport, &probe);
		any = true;
	}
	if (any)
		transport_flush(tracepath->transport);
}

/* Writes what standard output takes without waiting: a reader that stands still delays lines and
 * nothing else. */
static void write_lines(struct tracepath *tracepath)
{
	if (tracepath->output_closed) {
		tracepath->output.start = tracepath->output.end = 0;
		return;
	}
	if (output_pending(&tracepath->output) == 0 || tracepath->output_blocked)
		return;
	enum output_state state = output_write(&tracepath->output, STDOUT_FILENO);

	tracepath->output_blocked = state == OUTPUT_BLOCKED;
	tracepath->output_closed = state == OUTPUT_CLOSED;
}

static void wait_until(struct tracepath *tracepath, int64_t until_ns)
{
	bool pending = output_pending(&tracepath->output) > 0 && !tracepath->output_closed;
	struct pollfd polled[] = {
		{.fd = transport_fd(tracepath->transport),
		 .events = transport_poll_events(tracepath->transport)},
		{.fd = tracepath->signal_fd, .events = POLLIN},
		{.fd = names_fd(tracepath->names), .events = POLLIN},
		/* Without events it still tells that the reader is gone. */
		{.fd = tracepath->output_closed ? -1 : STDOUT_FILENO,
		 .events = pending ? POLLOUT : 0},
	};
	int64_t left_ns = until_ns == INT64_MAX ? 0 : until_ns - monotonic_ns();
	struct timespec wait = {0, 0};

	if (left_ns > 0)
		wait = (struct timespec){left_ns / NS_PER_S, left_ns % NS_PER_S};
	if (ppoll(polled, sizeof polled / sizeof polled[0], until_ns == INT64_MAX ? NULL : &wait,
		  NULL) < 0)
		return;
	if (polled[3].revents & (POLLERR | POLLNVAL))
		tracepath->output_closed = true;
	if (polled[3].revents & POLLOUT)
		tracepath->output_blocked = false;
	if (polled[2].revents)
		names_read(tracepath->names);
}

/* Returns whether there was a signal. */
static bool read_signals(struct tracepath *tracepath)
{
	struct signalfd_siginfo info;

	return read(tracepath->signal_fd, &info, sizeof info) == (ssize_t)sizeof info;
}

/* One turn. Returns when the next is due. */
static int64_t probe_and_listen(struct tracepath *tracepath)
{
	int64_t now_ns;

	transport_dispatch(tracepath->transport, EVENTS_A_TURN);
	if (read_signals(tracepath)) {
		tracepath->interrupted = true;
		trace_stop(tracepath->trace, TRACE_STOP_DEADLINE, 0);
	}
	if (tracepath->down_error != 0)
		trace_stop(tracepath->trace, TRACE_STOP_ERROR, tracepath->down_error);
	now_ns = monotonic_ns();
	if (now_ns >= trace_wake_ns(tracepath->trace))
		trace_tick(tracepath->trace, now_ns);
	send_probes(tracepath);
	transport_flush(tracepath->transport);
	return trace_wake_ns(tracepath->trace);
}

static bool wait_for_hello(struct tracepath *tracepath)
{
	int64_t until_ns = monotonic_ns() + (int64_t)HELLO_WAIT_S * NS_PER_S;

	while (!tracepath->ready && tracepath->down_error == 0 && !tracepath->interrupted) {
		transport_dispatch(tracepath->transport, 1);
		if (tracepath->ready || tracepath->down_error != 0)
			break;
		if (monotonic_ns() >= until_ns)
			tell_down(tracepath, ETIMEDOUT, "postern-broker: does not say hello");
		wait_until(tracepath, until_ns);
		tracepath->interrupted = read_signals(tracepath);
	}
	return tracepath->down_error == 0 && !tracepath->interrupted;
}

/* What remains is names, for which neither a further interrupt nor the deadline waits, and a reader
 * who takes the lines. */
static void show_rest(struct tracepath *tracepath, int64_t patience_ns)
{
	struct trace_report *report = &tracepath->report;

	while (!tracepath->output_closed) {
		if (monotonic_ns() >= patience_ns) {
			report->given_up = true;
			patience_ns = INT64_MAX;
		}
		int64_t show_ns = report_show(report, monotonic_ns());

		write_lines(tracepath);
		if (show_ns == INT64_MAX && output_pending(&tracepath->output) == 0)
			return;
		wait_until(tracepath, show_ns < patience_ns ? show_ns : patience_ns);
		if (!read_signals(tracepath))
			continue;
		if (report->given_up)
			return;
		report->given_up = true;
	}
}

static void trace_and_show(struct tracepath *tracepath)
{
	int64_t next_ns = monotonic_ns();
	int64_t patience_ns = INT64_MAX;

	if (tracepath->options.deadline_ns != 0)
		patience_ns = next_ns + tracepath->options.deadline_ns;
	if (tracepath->route_error != 0)
		trace_stop(tracepath->trace, TRACE_STOP_ERROR, tracepath->route_error);
	tracepath->report.view->begin(&tracepath->page);
	while (!trace_ended(tracepath->trace) && !tracepath->output_closed) {
		next_ns = probe_and_listen(tracepath);
		int64_t show_ns = report_show(&tracepath->report, monotonic_ns());

		write_lines(tracepath);
		if (!trace_ended(tracepath->trace))
			wait_until(tracepath, show_ns < next_ns ? show_ns : next_ns);
	}
	show_rest(tracepath, patience_ns);
}

/* --- the end ---------------------------------------------------------------------------------- */

static int exit_status(const struct tracepath *tracepath)
{
	if (tracepath->output_closed)
		return EXIT_FAILURE;
	if (tracepath->options.reached_or_fail && tracepath->result.stop != TRACE_STOP_REACHED)
		return STATUS_WRONG;
	return EXIT_SUCCESS;
}

static int run(struct tracepath *tracepath, const struct transport_sink *sink)
{
	const struct tracepath_options *options = &tracepath->options;
	int status = set_up(tracepath, sink);

	if (status != FOUND)
		return status;
	if (!wait_for_hello(tracepath)) {
		if (!tracepath->interrupted)
			fprintf(stderr, "%s: %s\n", options->program, tracepath->down_why);
		return EXIT_FAILURE;
	}
	if (!begin_trace(tracepath)) {
		fprintf(stderr, "%s: no memory\n", options->program);
		return EXIT_FAILURE;
	}
	trace_and_show(tracepath);
	if (tracepath->down_error != 0)
		fprintf(stderr, "%s: %s\n", options->program, tracepath->down_why);
	else if (tracepath->result.stop == TRACE_STOP_ERROR)
		fprintf(stderr, "%s: %s: %s\n", options->program, options->destination,
			strerror(tracepath->result.error));
	return exit_status(tracepath);
}

int tracepath_main(int argc, char **argv)
{
	struct tracepath *tracepath = calloc(1, sizeof *tracepath);

	if (tracepath == NULL)
		return EXIT_FAILURE;
	const struct transport_sink sink = {tracepath, tell_hello, tell_event, tell_down};
	int status = tracepath_parse(argc, argv, &tracepath->options);

	tracepath->signal_fd = -1;
	signal(SIGPIPE, SIG_IGN);
	if (status == FOUND) {
		status = run(tracepath, &sink);
		if (tracepath->transport != NULL)
			transport_close(tracepath->transport);
		names_end(tracepath->names);
		if (tracepath->routes != NULL)
			route_close(tracepath->routes);
		trace_free(tracepath->trace);
		output_close(&tracepath->output);
	}
	free(tracepath);
	return status;
}
