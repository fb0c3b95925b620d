/*
 * tracepath: options, the destination's name, the helper for names, then one loop that moves
 * probes, answers, names and lines, none of which waits for another. Runs as the user, with UDP and
 * TCP without any privileged process; once the destination is known it enters its sandbox. It
 * distrusts what comes from the network and from the helper.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "common/record.h"
#include "frontend/command.h"
#include "frontend/process/advice.h"
#include "frontend/process/clock.h"
#include "frontend/process/output.h"
#include "frontend/tracepath/answer.h"
#include "frontend/tracepath/engine.h"
#include "frontend/tracepath/names.h"
#include "frontend/tracepath/options.h"
#include "frontend/tracepath/paths.h"
#include "frontend/tracepath/report.h"
#include "frontend/tracepath/view.h"
#include "frontend/transport/ip_family.h"
#include "frontend/transport/local_route.h"
#include "frontend/transport/transport.h"
#include "policy/sandbox.h"
#include "policy/validate.h"

enum {
	RESULTS_A_TURN = 256,
	/* The broker is ready within a millisecond or two. */
	READY_WAIT_S = 10,
	/* Passes everywhere, and has room for what a router quotes. */
	SMALL_BYTES = 64,
	LENGTH_4_BYTES = 65535, /* first lengths, as iputils has them */
	LENGTH_6_BYTES = 128000,
	LEAST_MTU_4_BYTES = 68,   /* RFC 791, 3.2 */
	LEAST_MTU_6_BYTES = 1280, /* RFC 8200, 5 */
	HEADERS_6_BYTES = 48,     /* IPv6's and UDP's; options.c checks IPv4's */
	/* iputils counts ports up from probe to probe and begins again after so many. */
	PORTS = 64,
	NO_STATUS = -1, /* no exit status yet */
};

_Static_assert(VIEW_DEVICE_BYTES >= IF_NAMESIZE, "room for an interface's name");

struct tracepath {
	struct tracepath_options options;
	struct probe_request request; /* what all probes have in common */
	struct local_route route;
	int route_error;
	int64_t route_ns; /* how long it took to find the route */
	struct transport *transport;
	struct trace *trace;
	struct paths *paths;              /* with --paths, in place of `trace` */
	uint32_t flow_probe[PATHS_FLOWS]; /* the last probe of each flow, and one more */
	struct names *names;
	struct output output;
	struct trace_page page;
	struct trace_report report;
	int signal_fd;
	bool ready;
	int down_error;
	char down_why[ADVICE_BYTES];
	int output_error; /* errno */
	bool output_closed;
	bool output_blocked;
	bool interrupted;
	bool one_in_flight;  /* of a flow: its ports do not tell UDP and TCP probes apart */
	bool shows_progress; /* text on a terminal */
	uint32_t progress_bytes;
	enum trace_stop stop; /* why the trace ended */
	int stop_error;       /* errno, with TRACE_STOP_ERROR */
	bool reached;
};

static int fail(struct tracepath *tracepath, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Says on stderr why there is no trace, and in JSON on stdout. Returns the exit status. */
static int fail(struct tracepath *tracepath, const char *format, ...)
{
	const struct trace_result result = {.stop = TRACE_STOP_ERROR};
	const struct paths_result paths_result = {.stop = TRACE_STOP_ERROR};
	const struct trace_fact end = {
		.kind = tracepath->options.paths ? TRACE_FACT_PATHS_END : TRACE_FACT_END,
		.result = &result,
		.paths_result = &paths_result,
	};
	char why[512];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(why, sizeof why, format, arguments);
	va_end(arguments);
	fprintf(stderr, "%s: %s\n", tracepath->options.program, why);
	if (tracepath->options.format != FORMAT_TEXT && tracepath->output.bytes != NULL) {
		tracepath->page.error = why;
		tracepath->report.view->begin(&tracepath->page);
		tracepath->report.view->fact(&tracepath->page, &end, NULL);
		output_write(&tracepath->output, STDOUT_FILENO);
	}
	return STATUS_WRONG;
}

/* --- what comes in ---------------------------------------------------------------------------- */

static uint32_t wanted_feature(const struct tracepath *tracepath)
{
	uint32_t feature = tracepath->request.protocol == IPPROTO_ICMP  ? FEATURE_ICMP
			   : tracepath->request.protocol == IPPROTO_TCP ? FEATURE_TCP
									: FEATURE_UDP;

	return tracepath->request.family == 6 ? feature << FEATURE_IPV6_SHIFT : feature;
}

static void on_down(void *context, uint32_t lost, int error, const char *why)
{
	struct tracepath *tracepath = context;

	if (tracepath->down_error != 0 || !(lost & wanted_feature(tracepath)))
		return;
	tracepath->down_error = error ? error : EIO;
	advice_write(tracepath->down_why, why);
}

static void on_ready(void *context, uint32_t features)
{
	struct tracepath *tracepath = context;
	uint32_t wanted = wanted_feature(tracepath);
	char why[128];

	tracepath->ready = true;
	snprintf(why, sizeof why, "%s over IPv%u does not work here",
		 tracepath->options.protocol_name, tracepath->request.family);
	/* Sockets of its own are tried, as iputils does: the kernel says what is wrong. */
	if (wanted & (FEATURE_ICMP | FEATURE_ICMP << FEATURE_IPV6_SHIFT) && !(features & wanted))
		on_down(tracepath, wanted, EPROTONOSUPPORT, why);
}

static void on_result(void *context, const struct probe_result *result)
{
	struct tracepath *tracepath = context;
	struct trace_answer answer = trace_answer_of(&tracepath->request, result);

	if (tracepath->trace != NULL)
		trace_answer(tracepath->trace, clock_now_ns(), (uint16_t)result->cookie, &answer);
	else if (tracepath->paths != NULL)
		paths_answer(tracepath->paths, clock_now_ns(), (uint16_t)result->cookie, &answer);
}

static void on_fact(void *context, const struct trace_fact *fact)
{
	struct tracepath *tracepath = context;

	if (fact->kind == TRACE_FACT_END) {
		tracepath->stop = fact->result->stop;
		tracepath->stop_error = fact->result->error;
		tracepath->reached = fact->result->reached;
	} else if (fact->kind == TRACE_FACT_PATHS_END) {
		tracepath->stop = fact->paths_result->stop;
		tracepath->stop_error = fact->paths_result->error;
		tracepath->reached = fact->paths_result->reached;
	}
	report_fact(&tracepath->report, fact, clock_now_ns());
}

/* --- the two engines -------------------------------------------------------------------------- */

static bool next_probe(struct tracepath *tracepath, struct trace_probe *probe)
{
	return tracepath->paths != NULL ? paths_next(tracepath->paths, clock_now_ns(), probe)
					: trace_next(tracepath->trace, clock_now_ns(), probe);
}

static int64_t engine_wake_ns(const struct tracepath *tracepath)
{
	return tracepath->paths != NULL ? paths_wake_ns(tracepath->paths)
					: trace_wake_ns(tracepath->trace);
}

static bool engine_ended(const struct tracepath *tracepath)
{
	return tracepath->paths != NULL ? paths_ended(tracepath->paths)
					: trace_ended(tracepath->trace);
}

static void stop_engine(struct tracepath *tracepath, enum trace_stop stop, int error)
{
	if (tracepath->paths != NULL)
		paths_stop(tracepath->paths, stop, error);
	else
		trace_stop(tracepath->trace, stop, error);
}

/* --- the destination -------------------------------------------------------------------------- */

/* The unspecified address is this host, as for connect(2). */
static void take_address(struct tracepath *tracepath, const struct sockaddr *address)
{
	struct probe_request *request = &tracepath->request;

	memset(request->destination, 0, sizeof request->destination);
	if (address->sa_family == AF_INET) {
		const struct sockaddr_in *four = (const struct sockaddr_in *)address;
		struct in_addr here = {htonl(INADDR_LOOPBACK)};
		bool any = four->sin_addr.s_addr == htonl(INADDR_ANY);

		request->family = 4;
		memcpy(request->destination, any ? &here : &four->sin_addr, sizeof here);
		return;
	}
	const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)address;
	bool any = IN6_IS_ADDR_UNSPECIFIED(&six->sin6_addr);

	request->family = 6;
	if (tracepath->options.device == NULL)
		request->ifindex = six->sin6_scope_id;
	memcpy(request->destination, any ? &in6addr_loopback : &six->sin6_addr,
	       sizeof six->sin6_addr);
}

/* Multicast, broadcast and reserved addresses have no path. */
static int find_route(struct tracepath *tracepath)
{
	const struct probe_request *request = &tracepath->request;

	if (!validate_is_unicast(request->family, request->destination))
		return EACCES;
	int64_t began_ns = clock_now_ns();
	int error = local_route(request, &tracepath->route);

	tracepath->route_ns = clock_now_ns() - began_ns;
	return error;
}

/* Takes the first of the name's addresses that there is a route to; without any, the first. */
static int look_up_destination(struct tracepath *tracepath)
{
	const struct tracepath_options *options = &tracepath->options;
	struct addrinfo hints = {.ai_socktype = SOCK_DGRAM, .ai_flags = AI_IDN};
	struct addrinfo *addresses;

	hints.ai_family = options->family == 4 ? AF_INET : options->family == 6 ? AF_INET6 : 0;
	int error = getaddrinfo(options->destination, NULL, &hints, &addresses);

	if (error != 0)
		return fail(tracepath, "%s: %s", options->destination,
			    error == EAI_SYSTEM ? strerror(errno) : gai_strerror(error));
	for (const struct addrinfo *a = addresses; a != NULL; a = a->ai_next) {
		take_address(tracepath, a->ai_addr);
		tracepath->route_error = find_route(tracepath);
		if (tracepath->route_error == 0)
			break;
	}
	if (tracepath->route_error != 0)
		take_address(tracepath, addresses->ai_addr);
	freeaddrinfo(addresses);
	return NO_STATUS;
}

static int choose_device(struct tracepath *tracepath)
{
	const char *device = tracepath->options.device;

	if (device == NULL)
		return NO_STATUS;
	tracepath->request.ifindex = interface_index(device, strlen(device));
	if (tracepath->request.ifindex == 0)
		return fail(tracepath, "interface %s: %s", device, strerror(ENODEV));
	return NO_STATUS;
}

/* The source address decides the family, too. */
static int choose_source(struct tracepath *tracepath)
{
	struct tracepath_options *options = &tracepath->options;
	uint8_t family = 4;

	if (options->source == NULL)
		return NO_STATUS;
	if (inet_pton(AF_INET, options->source, tracepath->request.source) != 1) {
		family = 6;
		if (inet_pton(AF_INET6, options->source, tracepath->request.source) != 1)
			return fail(tracepath, "source '%s' is not an address", options->source);
	}
	if (options->family != 0 && options->family != family)
		return fail(tracepath, "source %s is not an IPv%u address", options->source,
			    options->family);
	options->family = family;
	return NO_STATUS;
}

static int find_destination(struct tracepath *tracepath)
{
	const struct tracepath_options *options = &tracepath->options;
	int status = choose_device(tracepath);

	if (status == NO_STATUS)
		status = choose_source(tracepath);
	if (status == NO_STATUS)
		status = look_up_destination(tracepath);
	if (status != NO_STATUS)
		return status;
	if (tracepath->route_error == EADDRNOTAVAIL && options->source)
		return fail(tracepath, "source %s is not an address of this host", options->source);
	if (tracepath->request.family == 6 && options->length_bytes != 0 &&
	    options->length_bytes <= HEADERS_6_BYTES)
		return fail(tracepath, "pktlen: %u is not more than IPv6 headers have, %d",
			    options->length_bytes, HEADERS_6_BYTES);
	return NO_STATUS;
}

/* --- setting up ------------------------------------------------------------------------------- */

static void fill_request(struct tracepath *tracepath)
{
	const struct tracepath_options *options = &tracepath->options;
	struct probe_request *request = &tracepath->request;

	request->protocol = options->protocol;
	request->port = options->port;
	if (options->protocol != IPPROTO_TCP)
		request->flags |= REQUEST_DONT_FRAGMENT;
	if (options->has_flow || options->paths) {
		tracepath->one_in_flight = options->protocol != IPPROTO_ICMP;
		request->flags |= REQUEST_FLOW;
		request->flow = options->flow;
	}
	/* Flows differ in the destination port, too, unless one was asked for. */
	if (options->paths && options->protocol == IPPROTO_UDP && !options->port_given)
		request->port = 0;
}

/* What there is to say before the destination is known. */
static void open_page(struct tracepath *tracepath)
{
	static const struct trace_view *const views[][FORMATS] = {
		{&trace_text_view, &trace_json_view, &trace_jsonl_view},
		{&paths_text_view, &paths_json_view, &paths_jsonl_view},
	};
	const struct tracepath_options *options = &tracepath->options;
	time_t now = time(NULL);
	struct tm utc;

	tracepath->page = (struct trace_page){
		.output = &tracepath->output,
		.destination = options->destination,
		.protocol = options->protocol_name,
		.transport = "direct",
		.next_ttl = (uint8_t)options->first_ttl,
		.both = options->both,
		.extensions = options->extensions,
		.statistics = options->tries_given && !options->paths,
		.paths = options->paths,
		.first_flow = options->flow,
		.colours = colour(COLOUR_NONE)[0] != '\0',
	};
	tracepath->report = (struct trace_report){
		.view = views[options->paths][options->format],
		.page = &tracepath->page,
	};
	if (gmtime_r(&now, &utc) != NULL)
		strftime(tracepath->page.started, sizeof tracepath->page.started,
			 "%Y-%m-%dT%H:%M:%SZ", &utc);
	tracepath->shows_progress = options->format == FORMAT_TEXT && isatty(STDOUT_FILENO) == 1;
}

static void fill_page(struct tracepath *tracepath)
{
	struct trace_page *page = &tracepath->page;
	const struct probe_request *request = &tracepath->request;

	page->family = request->family;
	memcpy(page->address, request->destination, sizeof page->address);
	page->has_source = tracepath->route_error == 0;
	memcpy(page->source, tracepath->route.source, sizeof page->source);
	/* The name of the interface cannot be looked up in the sandbox. */
	if (ip_family_is_link_local(request->family, request->destination) &&
	    if_indextoname(request->ifindex, page->device) != NULL)
		page->scope = request->ifindex;
	tracepath->report.names = tracepath->names;
}

static bool begin_trace(struct tracepath *tracepath)
{
	const struct tracepath_options *options = &tracepath->options;
	bool four = tracepath->request.family == 4;
	uint32_t length = four ? LENGTH_4_BYTES : LENGTH_6_BYTES;
	struct trace_config config = {
		.hops = {.first_ttl = (uint8_t)options->first_ttl,
			 .max_hops = (uint8_t)options->max_hops,
			 .tries = options->tries,
			 .tries_exact = options->tries_given || tracepath->one_in_flight,
			 .wait_ns = options->wait_ns,
			 .wait_exact = options->wait_given,
			 .all_tries = options->tries_given,
			 .scout = options->protocol != IPPROTO_TCP && !tracepath->one_in_flight,
			 .sized = true},
		.deadline_ns = options->deadline_ns,
		.wanted_bytes = length,
		.local_mtu_bytes = UINT32_MAX,
		.local_ns = tracepath->route_ns,
		.most_bytes = UINT16_MAX,
		.small_bytes = SMALL_BYTES,
		.least_mtu_bytes = four ? LEAST_MTU_4_BYTES : LEAST_MTU_6_BYTES,
		.one_in_flight = tracepath->one_in_flight,
	};

	if (options->length_bytes != 0 && options->length_bytes < length)
		config.wanted_bytes = options->length_bytes;
	if (options->protocol == IPPROTO_TCP)
		config.wanted_bytes = 0;
	if (config.wanted_bytes <= config.small_bytes) {
		config.small_bytes = config.wanted_bytes;
		config.hops.sized = false;
	}
	/* The route's MTU may be one that an earlier trace has learnt. A UDP probe that is too
	 * large for the link fails and tells that of the link. */
	if (tracepath->route_error == 0 && config.hops.max_hops != 0 &&
	    (options->protocol == IPPROTO_ICMP || tracepath->route.mtu_bytes > UINT16_MAX))
		config.local_mtu_bytes = tracepath->route.mtu_bytes;
	tracepath->trace = trace_new(&config, on_fact, tracepath, clock_now_ns());
	return tracepath->trace != NULL;
}

static bool begin_paths(struct tracepath *tracepath)
{
	const struct tracepath_options *options = &tracepath->options;
	bool one_port = options->protocol == IPPROTO_UDP && options->port_given;
	const struct paths_config config = {
		.first_ttl = (uint8_t)options->first_ttl,
		.max_hops = (uint8_t)options->max_hops,
		.tries = options->tries,
		.wait_ns = options->wait_ns,
		.deadline_ns = options->deadline_ns,
		.flows = one_port ? TRANSPORT_ONE_PORT_FLOWS : PATHS_FLOWS,
		.one_per_flow = tracepath->one_in_flight,
		.bytes = options->protocol == IPPROTO_TCP ? 0 : SMALL_BYTES,
	};

	tracepath->paths = paths_new(&config, on_fact, tracepath, clock_now_ns());
	return tracepath->paths != NULL;
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

/* The helper for names comes first, so that it inherits nothing; then the broker, whose file
 * capability the sandbox would disable. */
static int set_up(struct tracepath *tracepath, const struct transport_sink *sink)
{
	const struct tracepath_options *options = &tracepath->options;
	const struct transport_options transport = {
		.broker_path = options->broker,
		.without_broker = options->protocol != IPPROTO_ICMP,
	};
	int status;

	open_page(tracepath);
	if (!output_open(&tracepath->output, VIEW_BYTES))
		return fail(tracepath, "memory for output: %s", strerror(errno));
	if (!options->numeric)
		tracepath->names = names_start(); /* without it there are addresses */
	fill_request(tracepath);
	status = find_destination(tracepath);
	if (status != NO_STATUS)
		return status;
	fill_page(tracepath);
	tracepath->transport = transport_open(&transport, sink);
	tracepath->signal_fd = open_signals();
	if (tracepath->signal_fd < 0)
		return fail(tracepath, "signalfd: %s", strerror(errno));
	if (sandbox_tracepath() != 0)
		return fail(tracepath, "sandbox: %s", strerror(errno));
	return NO_STATUS;
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

	while (next_probe(tracepath, &next)) {
		struct probe_request request = tracepath->request;
		uint32_t *last = &tracepath->flow_probe[next.flow];

		/* An answer that shows no nonce is credited to the only open probe of a flow. */
		if (tracepath->one_in_flight && *last > 0)
			transport_cancel(tracepath->transport, *last - 1);
		*last = next.id + 1u;
		request.cookie = next.id;
		request.flow += next.flow;
		request.ttl = next.ttl;
		request.size_bytes = (uint16_t)next.bytes;
		if (request.protocol == IPPROTO_UDP && !(request.flags & REQUEST_FLOW))
			request.port = next_port(request.port, next.id);
		transport_probe(tracepath->transport, &request);
	}
	transport_flush(tracepath->transport);
}

static void show_progress(struct tracepath *tracepath)
{
	uint32_t bytes;

	if (!tracepath->shows_progress || tracepath->trace == NULL ||
	    !trace_searching(tracepath->trace, &bytes) || bytes == tracepath->progress_bytes)
		return;
	tracepath->progress_bytes = bytes;
	view_progress(&tracepath->page, bytes);
}

/* Writes what standard output takes without waiting: a slow reader delays lines and nothing else.
 */
static void write_lines(struct tracepath *tracepath)
{
	if (tracepath->output_closed) {
		tracepath->output.start = tracepath->output.end = 0;
		return;
	}
	if (output_pending(&tracepath->output) == 0 || tracepath->output_blocked)
		return;
	errno = 0;
	enum output_state state = output_write(&tracepath->output, STDOUT_FILENO);

	tracepath->output_blocked = state == OUTPUT_BLOCKED;
	tracepath->output_closed = state == OUTPUT_CLOSED;
	if (tracepath->output_closed)
		tracepath->output_error = errno;
}

static void wait_until(struct tracepath *tracepath, int64_t until_ns)
{
	bool pending = output_pending(&tracepath->output) > 0 && !tracepath->output_closed;
	int64_t transport_ns = transport_next_ns(tracepath->transport);
	struct pollfd polled[] = {
		{.fd = transport_fd(tracepath->transport), .events = POLLIN},
		{.fd = tracepath->signal_fd, .events = POLLIN},
		{.fd = names_fd(tracepath->names), .events = POLLIN},
		/* Without events it still tells that the reader is gone. */
		{.fd = tracepath->output_closed ? -1 : STDOUT_FILENO,
		 .events = pending ? POLLOUT : 0},
	};
	struct timespec wait = {0, 0};

	if (transport_ns < until_ns)
		until_ns = transport_ns;
	int64_t left_ns = until_ns == INT64_MAX ? 0 : until_ns - clock_now_ns();

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

static bool wait_for_transport(struct tracepath *tracepath)
{
	int64_t until_ns = clock_now_ns() + (int64_t)READY_WAIT_S * NS_PER_S;

	while (true) {
		transport_dispatch(tracepath->transport, 1);
		if (tracepath->ready || tracepath->down_error != 0)
			break;
		if (clock_now_ns() >= until_ns)
			on_down(tracepath, UINT32_MAX, ETIMEDOUT, "postern-broker: is not ready");
		wait_until(tracepath, until_ns);
		tracepath->interrupted = read_signals(tracepath);
		if (tracepath->interrupted)
			break;
	}
	return tracepath->down_error == 0 && !tracepath->interrupted;
}

/* What remains is names, and a reader who takes the lines. Names are not waited for after the
 * deadline or a further interrupt. */
static void show_rest(struct tracepath *tracepath, int64_t names_until_ns)
{
	struct trace_report *report = &tracepath->report;

	while (!tracepath->output_closed) {
		if (clock_now_ns() >= names_until_ns) {
			report->given_up = true;
			names_until_ns = INT64_MAX;
		}
		int64_t show_ns = report_show(report, clock_now_ns());

		write_lines(tracepath);
		if (show_ns == INT64_MAX && output_pending(&tracepath->output) == 0)
			return;
		wait_until(tracepath, show_ns < names_until_ns ? show_ns : names_until_ns);
		if (!read_signals(tracepath))
			continue;
		if (report->given_up)
			return;
		report->given_up = true;
	}
}

static void trace_and_show(struct tracepath *tracepath)
{
	int64_t names_until_ns = INT64_MAX;

	if (tracepath->options.deadline_ns != 0)
		names_until_ns = clock_now_ns() + tracepath->options.deadline_ns;
	if (tracepath->route_error != 0)
		stop_engine(tracepath, TRACE_STOP_ERROR, tracepath->route_error);
	tracepath->report.view->begin(&tracepath->page);
	while (!engine_ended(tracepath) && !tracepath->output_closed) {
		transport_dispatch(tracepath->transport, RESULTS_A_TURN);
		if (read_signals(tracepath))
			stop_engine(tracepath, TRACE_STOP_INTERRUPT, 0);
		if (tracepath->down_error != 0)
			stop_engine(tracepath, TRACE_STOP_ERROR, tracepath->down_error);
		send_probes(tracepath);
		int64_t show_ns = report_show(&tracepath->report, clock_now_ns());

		show_progress(tracepath);
		write_lines(tracepath);
		int64_t wake_ns = engine_wake_ns(tracepath);

		if (!engine_ended(tracepath))
			wait_until(tracepath, show_ns < wake_ns ? show_ns : wake_ns);
	}
	show_rest(tracepath, names_until_ns);
}

/* --- the end ---------------------------------------------------------------------------------- */

/* Says on stderr what went wrong. A reader that is gone has seen what it wanted. */
static int exit_status(const struct tracepath *tracepath)
{
	const struct tracepath_options *options = &tracepath->options;

	if (tracepath->output_closed && tracepath->output_error != 0 &&
	    tracepath->output_error != EPIPE)
		fprintf(stderr, "%s: standard output: %s\n", options->program,
			strerror(tracepath->output_error));
	if (tracepath->output_closed)
		return EXIT_FAILURE;
	if (tracepath->down_error != 0)
		fprintf(stderr, "%s: %s\n", options->program, tracepath->down_why);
	else if (tracepath->stop == TRACE_STOP_ERROR)
		fprintf(stderr, "%s: %s: %s\n", options->program, options->destination,
			strerror(tracepath->stop_error));
	if (tracepath->stop == TRACE_STOP_ERROR)
		return STATUS_WRONG;
	return options->reached_or_fail && !tracepath->reached ? STATUS_WRONG : EXIT_SUCCESS;
}

static int run(struct tracepath *tracepath, const struct transport_sink *sink)
{
	int status = set_up(tracepath, sink);

	if (status != NO_STATUS)
		return status;
	if (!wait_for_transport(tracepath))
		return tracepath->interrupted ? EXIT_FAILURE
					      : fail(tracepath, "%s", tracepath->down_why);
	if (transport_uses_broker(tracepath->transport, &tracepath->request))
		tracepath->page.transport = "broker";
	if (!(tracepath->options.paths ? begin_paths(tracepath) : begin_trace(tracepath)))
		return fail(tracepath, "no memory");
	trace_and_show(tracepath);
	return exit_status(tracepath);
}

int tracepath_main(int argc, char **argv)
{
	struct tracepath *tracepath = calloc(1, sizeof *tracepath);

	if (tracepath == NULL)
		return EXIT_FAILURE;
	const struct transport_sink sink = {tracepath, on_ready, on_result, on_down};
	int status = tracepath_parse(argc, argv, &tracepath->options);

	tracepath->signal_fd = -1;
	signal(SIGPIPE, SIG_IGN);
	if (status == NO_STATUS) {
		status = run(tracepath, &sink);
		if (tracepath->transport != NULL)
			transport_close(tracepath->transport);
		names_end(tracepath->names);
		trace_free(tracepath->trace);
		paths_free(tracepath->paths);
		output_close(&tracepath->output);
	}
	free(tracepath);
	return status;
}
