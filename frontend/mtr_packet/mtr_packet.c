/*
 * The program that mtr runs as mtr-packet. Opens the transports, enters its sandbox, then moves
 * requests from stdin to the session, probes to the transports and replies to stdout, without
 * waiting for any one of them. Runs as the user; trusts neither the client's bytes nor the
 * network's.
 */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "frontend/command.h"
#include "frontend/mtr_packet/session.h"
#include "frontend/process/clock.h"
#include "policy/sandbox.h"

enum {
	/* Work of each kind in one turn of the loop, so that none delays the others for long. */
	LINES_PER_TURN = 512,
	RESULTS_PER_TURN = 1024,
};

struct mtr_packet {
	struct session session;
	struct line_reader lines;
	bool input_ready;
	bool input_ended;
	bool lines_left; /* the reader may hold complete lines */
	bool output_blocked;
	bool transport_ready;
};

/* Replies must not wait for a reader of stderr, so a warning is lost if there is none. */
static void warn(const char *text)
{
	struct pollfd ready = {.fd = STDERR_FILENO, .events = POLLOUT};

	if (poll(&ready, 1, 0) == 1 && (ready.revents & POLLOUT))
		dprintf(STDERR_FILENO, "mtr-packet: %s\n", text);
}

static const struct session_calls session_calls = {transport_probe, transport_cancel, warn};

/* --- one turn --- */

static int64_t next_ns(const struct mtr_packet *packet)
{
	int64_t session_ns = session_next_ns(&packet->session);
	int64_t transport_ns = transport_next_ns(packet->session.transport);

	return session_ns < transport_ns ? session_ns : transport_ns;
}

/* An answer that has arrived counts, so all are read before a probe is given up. */
static void read_results(struct mtr_packet *packet)
{
	struct session *session = &packet->session;
	bool due = next_ns(packet) <= session->now_ns;

	if (packet->transport_ready || due)
		transport_dispatch(session->transport, due ? TRANSPORT_SLOTS : RESULTS_PER_TURN);
	if (due)
		session_expire(session);
}

static void read_input(struct mtr_packet *packet)
{
	size_t room;
	char *space = line_space(&packet->lines, &room);
	ssize_t count = read(STDIN_FILENO, space, room);

	if (count > 0)
		line_filled(&packet->lines, (size_t)count);
	else if (count == 0 || (errno != EINTR && errno != EAGAIN))
		packet->input_ended = true;
	packet->input_ready = false;
	packet->lines_left = true;
}

static void take_lines(struct mtr_packet *packet)
{
	struct session *session = &packet->session;
	struct text line;

	if (packet->input_ready && !packet->lines_left)
		read_input(packet);
	/* A timeout begins when its request is taken. */
	session->now_ns = clock_now_ns();
	for (int i = 0; i < LINES_PER_TURN && packet->lines_left && session_accepts(session); i++) {
		switch (line_next(&packet->lines, &line)) {
		case LINE_TEXT:
			session_line(session, line);
			break;
		case LINE_TOO_LONG:
			session_line_too_long(session);
			break;
		case LINE_NONE:
			packet->lines_left = false;
			break;
		}
	}
}

/* Returns false if the client is gone. */
static bool write_output(struct mtr_packet *packet)
{
	if (output_pending(&packet->session.output) == 0 || packet->output_blocked)
		return true;
	enum output_state state = output_write(&packet->session.output, STDOUT_FILENO);
	packet->output_blocked = state == OUTPUT_BLOCKED;
	return state != OUTPUT_CLOSED;
}

/* How long the next poll may take. Returns NULL if there is no limit. */
static const struct timespec *poll_time(const struct mtr_packet *packet, struct timespec *time)
{
	int64_t until_ns = next_ns(packet);

	if (packet->lines_left && session_accepts(&packet->session))
		until_ns = 0;
	if (until_ns == INT64_MAX)
		return NULL;
	int64_t left_ns = until_ns - clock_now_ns();
	if (left_ns < 0)
		left_ns = 0;
	*time = (struct timespec){left_ns / NS_PER_S, left_ns % NS_PER_S};
	return time;
}

/* Waits for whatever can happen next. Returns false if the client is gone. */
static bool wait_for_work(struct mtr_packet *packet)
{
	bool want_input =
		!packet->input_ended && !packet->lines_left && session_accepts(&packet->session);
	struct pollfd polled[] = {
		{.fd = want_input ? STDIN_FILENO : -1, .events = POLLIN},
		{.fd = STDOUT_FILENO, .events = packet->output_blocked ? POLLOUT : 0},
		{.fd = transport_fd(packet->session.transport), .events = POLLIN},
	};
	struct timespec time;

	if (ppoll(polled, sizeof(polled) / sizeof(polled[0]), poll_time(packet, &time), NULL) < 0)
		return errno == EINTR || errno == EAGAIN;
	packet->input_ready = polled[0].revents != 0;
	packet->transport_ready = polled[2].revents != 0;
	if (polled[1].revents & POLLOUT)
		packet->output_blocked = false;
	return (polled[1].revents & (POLLERR | POLLHUP | POLLNVAL)) == 0;
}

static bool is_finished(const struct mtr_packet *packet)
{
	return packet->input_ended && !packet->lines_left &&
	       session_open_probes(&packet->session) == 0 &&
	       output_pending(&packet->session.output) == 0;
}

static void serve(struct mtr_packet *packet)
{
	packet->transport_ready = true;
	do {
		packet->session.now_ns = clock_now_ns();
		read_results(packet);
		take_lines(packet);
		transport_flush(packet->session.transport);
		if (!write_output(packet))
			return;
	} while (!is_finished(packet) && wait_for_work(packet));
}

/* --- start --- */

static const char usage[] =
	"usage: mtr-packet [--broker PATH] [--compat 0.95|0.96]\n"
	"\n"
	"Sends network probes for the program that runs it: requests on stdin, replies on stdout,\n"
	"one a line, as mtr-packet(8) describes.\n"
	"\n"
	"  --broker PATH   the privileged program for ICMP and SCTP probes\n"
	"  --compat WHICH  names of mtr 0.95 (default) or 0.96; also by POSTERN_COMPAT\n"
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

static _Noreturn void end_with_usage(void)
{
	fputs(usage, stderr);
	exit(2);
}

static void parse_options(int argc, char **argv, struct transport_options *options,
			  enum compat *compat)
{
	static const struct option known[] = {
		{"broker", required_argument, NULL, 'b'},
		{"compat", required_argument, NULL, 'c'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'v'},
		{NULL, 0, NULL, 0},
	};
	const char *environment = getenv("POSTERN_COMPAT");
	int option;

	/* mtr must work whatever is in the environment: another value is ignored. */
	if (environment)
		(void)parse_compat(environment, compat);
	while ((option = getopt_long(argc, argv, "h", known, NULL)) != -1) {
		switch (option) {
		case 'b':
			options->broker_path = optarg;
			break;
		case 'c':
			if (parse_compat(optarg, compat))
				break;
			fprintf(stderr, "mtr-packet: --compat: '%s' is neither 0.95 nor 0.96\n",
				optarg);
			end_with_usage();
		case 'h':
			fputs(usage, stdout);
			exit(EXIT_SUCCESS);
		case 'v':
			puts("mtr-packet (postern) " POSTERN_VERSION);
			exit(EXIT_SUCCESS);
		default:
			end_with_usage();
		}
	}
	if (optind == argc)
		return;
	fprintf(stderr, "mtr-packet: takes no argument: '%s'\n", argv[optind]);
	end_with_usage();
}

static int fail(const char *what)
{
	fprintf(stderr, "mtr-packet: %s: %s\n", what, strerror(errno));
	return EXIT_FAILURE;
}

int mtr_packet_main(int argc, char **argv)
{
	static struct mtr_packet packet;
	static const struct transport_sink sink = {&packet.session, session_ready, session_result,
						   session_down};
	struct transport_options options = {.broker_path = NULL};
	enum compat compat = COMPAT_0_95;

	parse_options(argc, argv, &options, &compat);
	/* write(2) tells that the client is gone. */
	signal(SIGPIPE, SIG_IGN);
	if (!session_open(&packet.session, &session_calls, compat))
		return fail("no memory for the tables of probes");
	packet.session.transport = transport_open(&options, &sink);
	/* From here on the broker's file capability could not take effect. */
	if (sandbox_mtr_packet() != 0)
		return fail("cannot enter the sandbox (seccomp filters are needed)");

	serve(&packet);
	transport_close(packet.session.transport);
	return EXIT_SUCCESS;
}
