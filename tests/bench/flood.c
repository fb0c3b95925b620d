/*
 * Keeps N probes in flight through the text protocol of any mtr-packet, for a time or a number of
 * probes. Prints how many were answered, at what rate, for how much processor time, and with which
 * round-trip times; with -w also how far these are from what a capture on loopback shows.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/bench/client.h"
#include "tests/support/bench/measure.h"
#include "tests/support/bench/wire.h"

enum {
	TOKENS = 1 << 22, /* the most probes of one run */
	LINE_BYTES = 512,
	NS_PER_US = 1000,
};

static const uint32_t UNANSWERED = UINT32_MAX, GIVEN_UP = UINT32_MAX - 1;

struct flood {
	uint32_t window;
	uint32_t probes; /* at most */
	int64_t for_ns;
	const char *request; /* with a * instead of the address if `captured` */
	bool captured;
	uint32_t sent, answered, replies, no_replies, others, twice;
	uint32_t counted_replies; /* when the time was over */
	int64_t started_ns, counted_ns;
	uint32_t rtts_us[TOKENS]; /* by token */
};

static struct flood flood;
static struct client client;

static void usage(void)
{
	fputs("usage: flood [-n IN-FLIGHT] [-c PROBES] [-s MILLISECONDS] [-r REQUEST] [-w]\n"
	      "             -- PROGRAM [ARGUMENT ...]\n"
	      "With -w, REQUEST has a * where each probe's own address goes.\n",
	      stderr);
	exit(2);
}

static void parse_options(int argc, char **argv)
{
	int option;

	flood.window = 64;
	flood.probes = TOKENS;
	flood.for_ns = INT64_C(1000000000);
	flood.request = "send-probe ip-4 127.0.0.1 timeout 2";
	while ((option = getopt(argc, argv, "+n:c:s:r:w")) != -1) {
		switch (option) {
		case 'n':
			flood.window = (uint32_t)measure_number(optarg, 1 << 20);
			break;
		case 'c':
			flood.probes = (uint32_t)measure_number(optarg, TOKENS);
			break;
		case 's':
			flood.for_ns = measure_number(optarg, 3600000) * 1000000;
			break;
		case 'r':
			flood.request = optarg;
			break;
		case 'w':
			flood.captured = true;
			break;
		default:
			usage();
		}
	}
	if (optind == argc || strlen(flood.request) + 32 > LINE_BYTES)
		usage();
	if (flood.captured && (!strchr(flood.request, '*') || flood.probes > WIRE_PROBES_MAX))
		usage();
}

static size_t put_request(char *at, uint32_t token)
{
	static size_t length;
	char text[LINE_BYTES];

	if (length == 0)
		length = strlen(flood.request);
	if (!flood.captured)
		return client_put_request(at, token, flood.request, length);
	int before = (int)strcspn(flood.request, "*");
	uint32_t address = WIRE_FIRST_ADDRESS + token;
	int bytes = snprintf(text, sizeof(text), "%.*s127.1.%u.%u%s", before, flood.request,
			     address >> 8 & 0xff, address & 0xff, flood.request + before + 1);
	return client_put_request(at, token, text, (size_t)bytes);
}

static void refill(void)
{
	size_t room;
	char *start = client_space(&client, &room);
	char *at = start;

	while (flood.sent - flood.answered < flood.window && flood.sent < flood.probes &&
	       room - (size_t)(at - start) >= LINE_BYTES)
		at += put_request(at, flood.sent++);
	client_added(&client, (size_t)(at - start));
}

static void count(const struct reply *reply)
{
	if (reply->token >= flood.sent || flood.rtts_us[reply->token] != UNANSWERED) {
		flood.twice++;
		return;
	}
	flood.answered++;
	flood.rtts_us[reply->token] = GIVEN_UP;
	if (reply->word == REPLY_ANSWER) {
		flood.replies++;
		flood.rtts_us[reply->token] = reply->rtt_us;
	} else if (reply->word == REPLY_NO_REPLY) {
		flood.no_replies++;
	} else {
		flood.others++;
	}
}

/* What was answered until the time was over is the rate; the rest is only waited for. */
static void stop_sending(int64_t now_ns)
{
	flood.counted_ns = now_ns;
	flood.counted_replies = flood.replies;
	flood.probes = flood.sent;
}

static void run(void)
{
	bool stopped = false;
	struct reply reply;

	flood.started_ns = measure_now_ns();
	while (flood.answered < flood.probes) {
		refill();
		client_write(&client);
		if (client_has_unwritten(&client)) {
			struct pollfd ready[] = {{.fd = client.from_fd, .events = POLLIN},
						 {.fd = client.to_fd, .events = POLLOUT}};
			poll(ready, 2, -1);
			if (ready[0].revents == 0)
				continue;
		}
		if (!client_read(&client)) {
			errno = 0;
			measure_die("the program ended before it had answered");
		}
		while (client_next(&client, &reply))
			count(&reply);
		int64_t now_ns = measure_now_ns();
		if (!stopped &&
		    (now_ns - flood.started_ns >= flood.for_ns || flood.answered == flood.probes)) {
			stop_sending(now_ns);
			stopped = true;
		}
	}
}

static void print_rtts(void)
{
	int64_t *values = calloc(flood.sent + 1, sizeof(*values));
	size_t used = 0;

	if (!values)
		measure_die("no memory");
	for (uint32_t i = 0; i < flood.sent; i++)
		if (flood.rtts_us[i] < GIVEN_UP)
			values[used++] = flood.rtts_us[i];
	measure_print_distribution("rtt_us", values, used, 1);
	free(values);
}

/* Reported minus captured, of all probes that were answered. */
static void print_errors(struct wire *wire)
{
	struct wire_probe *probes = calloc(flood.sent + 1, sizeof(*probes));
	int64_t *values = calloc(flood.sent + 1, sizeof(*values));
	size_t used = 0;

	if (!probes || !values)
		measure_die("no memory");
	wire_close(wire, probes, flood.sent);
	for (size_t i = 0; i < flood.sent; i++) {
		if (flood.rtts_us[i] >= GIVEN_UP || probes[i].left_ns == 0 ||
		    probes[i].answered_ns == 0)
			continue;
		int64_t wire_ns = probes[i].answered_ns - probes[i].left_ns;
		values[used++] = (int64_t)flood.rtts_us[i] * NS_PER_US - wire_ns;
	}
	printf(", ");
	measure_print_distribution("rtt_minus_wire_us", values, used, NS_PER_US);
	free(values);
	free(probes);
}

int main(int argc, char **argv)
{
	struct client_cpu used;
	int status;
	struct wire *wire = NULL;

	parse_options(argc, argv);
	memset(flood.rtts_us, 0xff, sizeof(flood.rtts_us));
	client_prepare();
	if (flood.captured)
		wire = wire_open(flood.probes);
	client_start(&client, argv + optind);
	run();
	used = client_cpu(&client);
	status = client_end(&client);

	double seconds = (double)(flood.counted_ns - flood.started_ns) / 1e9;
	double each = flood.replies ? 1.0 / flood.replies / 1000 : 0;
	printf("{\"sent\": %u, \"replies\": %u, \"no_replies\": %u, \"others\": %u, \"twice\": %u, "
	       "\"rate\": %.0f, \"seconds\": %.3f, ",
	       flood.sent, flood.replies, flood.no_replies, flood.others, flood.twice,
	       flood.counted_replies / seconds, seconds);
	printf("\"cpu_us_each\": %.3f, \"cpu_us_program\": %.3f, \"cpu_us_broker\": %.3f, "
	       "\"status\": %d, ",
	       (double)(used.program_ns + used.others_ns) * each, (double)used.program_ns * each,
	       (double)used.others_ns * each, status);
	print_rtts();
	if (wire)
		print_errors(wire);
	puts("}");
	return EXIT_SUCCESS;
}
