/*
 * The packet personality: what mtr runs as mtr-packet. Starts the broker, confines itself, then
 * moves requests from stdin to the session, probes to the transport and replies to stdout, never
 * waiting for any one of them. Runs as the user; distrusts the client's bytes and the network's.
 */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "common/await.h"
#include "frontend/memory.h"
#include "frontend/packet_session.h"
#include "frontend/personality.h"
#include "policy/confine.h"
#include "policy/relro.h"

enum {
	NS_PER_S = 1000000000,
	LONG_WAIT_NS = 100000000,
	/* One turn of the loop does at most this much of each, so that no source starves another
	 * and no deadline waits for long. Lines that ask the kernel for routes take longer than
	 * others: they have a limit in time, too, looked at every few lines. */
	LINES_A_TURN = 512,
	LINES_A_LOOK = 32,
	LINES_NS = 500000,
	/* Looked at while the broker starts, in which time some 20 routes can be asked for. */
	LINES_AHEAD = 8,
	EVENTS_A_TURN = 1024,
	MANY_OPEN = 16,
	/* A broker says hello within a millisecond or two; one that has not by now never will. */
	HELLO_WAIT_S = 5,
};

struct packet {
	struct session session;
	struct transport *transport;
	struct line_reader *lines;
	struct await waits[2]; /* for the broker, for the client alone */
	int64_t hello_until_ns;
	size_t events_told; /* in this turn */
	bool input_ready;
	bool input_ended;
	bool lines_left; /* the reader may hold complete lines */
	bool output_blocked;
	bool transport_ready;
};

static int64_t monotonic_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

/* --- the transport's sink ----------------------------------------------------------------------
 */

static void tell_hello(void *context, const struct record_hello *hello)
{
	struct packet *packet = context;

	session_hello(&packet->session, hello);
}

static void tell_event(void *context, const struct record_event *event, const uint8_t *extension)
{
	struct packet *packet = context;

	packet->events_told++;
	session_event(&packet->session, event, extension);
}

static void tell_down(void *context, int error, const char *why)
{
	struct packet *packet = context;
	struct pollfd ready = {.fd = STDERR_FILENO, .events = POLLOUT};
	char line[600];
	int length = snprintf(line, sizeof(line), "mtr-packet: %s\n", why);

	/* A broker that was given up may still die. */
	if (packet->session.down_error)
		return;
	/* Nobody may be reading it, and the replies must not wait for that. */
	if (length > 0 && poll(&ready, 1, 0) == 1 && (ready.revents & POLLOUT))
		(void)!write(STDERR_FILENO, line, (size_t)length);
	session_down(&packet->session, error);
}

/* --- one turn ----------------------------------------------------------------------------------
 */

/* An answer that has arrived counts, however late this program comes to read it: what waits in the
 * channel is heard before anything is given up. */
static void hear_transport(struct packet *packet)
{
	bool due = session_next_ns(&packet->session) <= packet->session.now_ns;

	packet->events_told = 0;
	if (packet->transport_ready || due)
		transport_dispatch(packet->transport, EVENTS_A_TURN);
	if (due && packet->events_told >= EVENTS_A_TURN)
		transport_dispatch(packet->transport, RECORD_SLOTS);
	if (due)
		session_expire(&packet->session);
	if (!packet->session.ready && packet->session.now_ns >= packet->hello_until_ns)
		tell_down(packet, ETIMEDOUT, "postern-broker: does not say hello");
}

static void read_input(struct packet *packet)
{
	size_t room;
	char *space = line_space(packet->lines, &room);
	ssize_t count = read(STDIN_FILENO, space, room);

	if (count > 0)
		line_filled(packet->lines, (size_t)count);
	else if (count == 0 || (errno != EINTR && errno != EAGAIN))
		packet->input_ended = true;
	packet->input_ready = false;
}

/* Until the broker has said hello no line can be answered, and no timeout should begin. But the
 * routes that the first lines want can be asked for, which takes longest of all that they need. */
static void look_ahead(struct packet *packet)
{
	size_t ahead = 0;
	struct text line;

	if (!packet->input_ready || packet->lines_left)
		return;
	read_input(packet);
	packet->lines_left = true;
	for (int i = 0; i < LINES_AHEAD && line_ahead(packet->lines, &ahead, &line); i++)
		session_foresee(&packet->session, line);
}

static void take_lines(struct packet *packet)
{
	struct session *session = &packet->session;
	struct text line;

	if (packet->input_ready && !packet->lines_left)
		read_input(packet);
	/* A timeout begins when its request is taken. */
	session->now_ns = monotonic_ns();
	packet->lines_left = true;
	for (int i = 0; i < LINES_A_TURN && session_accepts(session); i++) {
		if (i % LINES_A_LOOK == LINES_A_LOOK - 1 &&
		    monotonic_ns() - session->now_ns > LINES_NS)
			return;
		switch (line_next(packet->lines, &line)) {
		case LINE_TEXT:
			session_line(session, line);
			break;
		case LINE_TOO_LONG:
			session_line_too_long(session);
			break;
		case LINE_NONE:
			packet->lines_left = false;
			return;
		}
	}
}

/* Returns false if the client is gone. */
static bool write_output(struct packet *packet)
{
	if (output_pending(&packet->session.output) == 0 || packet->output_blocked)
		return true;
	enum output_state state = output_write(&packet->session.output, STDOUT_FILENO);
	packet->output_blocked = state == OUTPUT_BLOCKED;
	return state != OUTPUT_CLOSED;
}

static int64_t wait_until_ns(const struct packet *packet)
{
	if (packet->lines_left && session_accepts(&packet->session))
		return packet->session.now_ns;
	int64_t until_ns = session_next_ns(&packet->session);
	if (!packet->session.ready && packet->hello_until_ns < until_ns)
		until_ns = packet->hello_until_ns;
	return until_ns;
}

/* poll(2) may come late by a thousandth of the time that it was told. So a long wait is ended a
 * little early, and a short one follows. */
static struct timespec poll_time(int64_t left_ns)
{
	if (left_ns > LONG_WAIT_NS)
		left_ns -= left_ns / 256;
	if (left_ns < 0)
		left_ns = 0;
	return (struct timespec){left_ns / NS_PER_S, left_ns % NS_PER_S};
}

/* Waits for the client and waits for the broker are of different lengths. Where many probes are
 * open, one waking serves them all. */
static int wait_shortly(struct packet *packet, struct pollfd *polled, nfds_t count,
			const struct timespec *wait)
{
	uint32_t open = session_open_probes(&packet->session);

	if (open >= MANY_OPEN)
		return ppoll(polled, count, wait, NULL);
	return await_ready(&packet->waits[open == 0], polled, count, wait, NULL);
}

/* Waits for whatever can happen next. Returns false if the client is gone. */
static bool wait_for_work(struct packet *packet)
{
	bool hungry = !packet->input_ended && !packet->lines_left &&
		      (session_accepts(&packet->session) || !packet->session.ready);
	struct pollfd polled[] = {
		{.fd = hungry ? STDIN_FILENO : -1, .events = POLLIN},
		{.fd = STDOUT_FILENO, .events = packet->output_blocked ? POLLOUT : 0},
		{.fd = transport_fd(packet->transport),
		 .events = transport_poll_events(packet->transport)},
		/* Looked at after stdin: a change that was made before the request that ends this
		 * wait was written shows before the request is read. (Those that are read with it
		 * may have been written some microseconds later.) */
		{.fd = packet->session.routes ? route_watch(packet->session.routes) : -1,
		 .events = POLLIN},
	};
	int64_t until_ns = wait_until_ns(packet);
	struct timespec wait = {0, 0};

	if (until_ns > packet->session.now_ns)
		wait = poll_time(until_ns - monotonic_ns());
	int ready = wait_shortly(packet, polled, sizeof(polled) / sizeof(polled[0]),
				 until_ns == INT64_MAX ? NULL : &wait);
	if (ready < 0)
		return errno == EINTR || errno == EAGAIN;
	packet->input_ready = polled[0].revents != 0;
	packet->transport_ready = polled[2].revents != 0;
	if (polled[1].revents & POLLOUT)
		packet->output_blocked = false;
	if (polled[3].revents != 0)
		route_check_changes(packet->session.routes);
	return (polled[1].revents & (POLLERR | POLLHUP | POLLNVAL)) == 0;
}

static bool is_finished(const struct packet *packet)
{
	return packet->input_ended && !packet->lines_left &&
	       session_open_probes(&packet->session) == 0 &&
	       output_pending(&packet->session.output) == 0;
}

static void serve(struct packet *packet)
{
	packet->hello_until_ns = monotonic_ns() + (int64_t)HELLO_WAIT_S * NS_PER_S;
	packet->transport_ready = true;
	do {
		packet->session.now_ns = monotonic_ns();
		hear_transport(packet);
		if (packet->session.ready)
			take_lines(packet);
		else
			look_ahead(packet);
		transport_flush(packet->transport);
		if (!write_output(packet))
			return;
	} while (!is_finished(packet) && wait_for_work(packet));
}

/* --- start -------------------------------------------------------------------------------------
 */

struct options {
	const char *broker_path;
	enum compat compat;
};

static const char usage[] =
	"usage: mtr-packet [--broker PATH] [--compat 0.95|0.96]\n"
	"\n"
	"Sends network probes for the program that runs it: requests on stdin, replies on stdout,\n"
	"one a line, as mtr-packet(8) describes.\n"
	"\n"
	"  --broker PATH   the privileged program to probe through\n"
	"  --compat WHICH  words of mtr 0.95 (default) or 0.96; also by POSTERN_COMPAT\n"
	"  -h, --help      this text\n"
	"  --version       the version\n";

static bool parse_compat(const char *text, enum compat *compat)
{
	if (strcmp(text, "0.95") == 0)
		*compat = COMPAT_0_95;
	else if (strcmp(text, "0.96") == 0)
		*compat = COMPAT_0_96;
	else
		return false;
	return true;
}

/* No character, so that `optopt` tells them from those. */
enum {
	OPTION_BROKER = 256,
	OPTION_COMPAT,
	OPTION_VERSION,
	OPTION_HELP,
};

/* In the words of glibc's getopt_long(3), whichever C library this program is linked with. `word`
 * is the argument that holds the option. */
static void complain_of_option(const char *program, int option, const char *word)
{
	if (option == ':')
		fprintf(stderr, "%s: option '--%s' requires an argument\n", program,
			optopt == OPTION_BROKER ? "broker" : "compat");
	else if (optopt == 0)
		fprintf(stderr, "%s: unrecognized option '%s'\n", program, word);
	else if (optopt >= OPTION_BROKER)
		fprintf(stderr, "%s: option '--%s' doesn't allow an argument\n", program,
			optopt == OPTION_HELP ? "help" : "version");
	else
		fprintf(stderr, "%s: invalid option -- '%c'\n", program, optopt);
}

/* Returns the exit status with which the program is to end now, or −1 to go on. */
static int parse_options(int argc, char **argv, struct options *options)
{
	static const struct option known[] = {
		{"broker", required_argument, NULL, OPTION_BROKER},
		{"compat", required_argument, NULL, OPTION_COMPAT},
		{"help", no_argument, NULL, OPTION_HELP},
		{"version", no_argument, NULL, OPTION_VERSION},
		{NULL, 0, NULL, 0},
	};
	const char *compat = getenv("POSTERN_COMPAT");
	int option;

	/* Whatever is in the environment, mtr must be served. */
	if (!compat || !parse_compat(compat, &options->compat))
		options->compat = COMPAT_0_95;
	opterr = 0;
	while ((option = getopt_long(argc, argv, ":h", known, NULL)) != -1) {
		if (option == OPTION_BROKER) {
			options->broker_path = optarg;
		} else if (option == OPTION_COMPAT && parse_compat(optarg, &options->compat)) {
			continue;
		} else if (option == 'h' || option == OPTION_HELP) {
			fputs(usage, stdout);
			return EXIT_SUCCESS;
		} else if (option == OPTION_VERSION) {
			puts("mtr-packet (postern) " POSTERN_VERSION);
			return EXIT_SUCCESS;
		} else {
			if (option == OPTION_COMPAT)
				fprintf(stderr,
					"mtr-packet: --compat: '%s' is neither 0.95 nor 0.96\n",
					optarg);
			else
				complain_of_option(argv[0], option, argv[optind - 1]);
			fputs(usage, stderr);
			return 2;
		}
	}
	if (optind == argc)
		return -1;
	fprintf(stderr, "mtr-packet: takes no argument: '%s'\n", argv[optind]);
	fputs(usage, stderr);
	return 2;
}

static int complain(const char *what)
{
	fprintf(stderr, "mtr-packet: %s: %s\n", what, strerror(errno));
	return EXIT_FAILURE;
}

int packet_main(int argc, char **argv)
{
	struct options options = {NULL, COMPAT_0_95};
	int status = parse_options(argc, argv, &options);

	if (status >= 0)
		return status;

	/* What takes longest comes first: the broker starts while the rest is made ready. After the
	 * confinement it would be disarmed. */
	struct packet packet = {.input_ready = false};
	const struct transport_sink sink = {&packet, tell_hello, tell_event, tell_down};
	packet.transport = transport_open(options.broker_path, &sink);

	if (!relro_protect())
		return complain("cannot make its constants read-only");
	/* A client that goes away is noticed by write(2). */
	signal(SIGPIPE, SIG_IGN);
	/* The default of 50 us would be added to every deadline. */
	prctl(PR_SET_TIMERSLACK, 1UL);
	packet.lines = memory_open(sizeof(*packet.lines));
	struct route_table *routes = route_open();
	if (!packet.lines || !session_open(&packet.session, options.compat, routes))
		return complain("no memory for the tables of probes");
	packet.session.transport = packet.transport;
	if (confine_packet() != 0)
		return complain("cannot confine itself (seccomp filters are needed)");

	serve(&packet);
	transport_leave(packet.transport);
	return EXIT_SUCCESS;
}
