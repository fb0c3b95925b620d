/*
 * Very many probes at once to somebody who never answers: how far from its time each is given up,
 * and how much memory that takes. Requests are written at a steady pace, since a request's time
 * begins when it is read, and nobody outside sees that.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/bench/client.h"
#include "tests/support/bench/measure.h"

enum {
	PROBES_MOST = 1 << 20,
	PIECE = 32, /* requests written at once */
	LINE_BYTES = 512,
	NS_PER_US = 1000,
	TOLERANCE_NS = 2000000,
};

static const int64_t NS_PER_S = 1000000000;

static struct client client;
static int64_t asked_ns[PROBES_MOST], late_ns[PROBES_MOST];
static uint32_t probes = 65536, rate = 50000, timeout_ms = 4000;
static uint32_t sent, answered, no_replies, others;
static struct client_state fullest;

static void send_piece(const char *request, size_t length, int64_t now_ns)
{
	size_t room;
	char *space = client_space(&client, &room);
	char *at = space;

	for (int i = 0; i < PIECE && sent < probes && room - (size_t)(at - space) > LINE_BYTES;
	     i++) {
		asked_ns[sent] = now_ns;
		at += client_put_request(at, sent++, request, length);
	}
	client_added(&client, (size_t)(at - space));
	client_write(&client);
	if (sent == probes)
		client_look(&client, &fullest);
}

static void take_replies(void)
{
	struct reply reply;

	if (!client_read(&client)) {
		errno = 0;
		measure_die("the program ended before it had answered");
	}
	int64_t now_ns = measure_now_ns();
	while (client_next(&client, &reply)) {
		if (reply.token >= sent || answered == probes)
			measure_die("a reply to nothing");
		late_ns[answered++] = now_ns - asked_ns[reply.token] - timeout_ms * 1000000ll;
		no_replies += reply.word == REPLY_NO_REPLY;
		others += reply.word != REPLY_NO_REPLY;
	}
}

/* The program has started when it answers something. */
static void await_start(void)
{
	static const char question[] = "check-support feature version";
	struct reply reply;
	size_t room;

	client_added(&client, client_put_request(client_space(&client, &room), 0, question,
						 sizeof(question) - 1));
	client_write(&client);
	while (!client_next(&client, &reply)) {
		if (!client_read(&client)) {
			errno = 0;
			measure_die("the program ended before it had answered");
		}
	}
}

static void run(const char *request, size_t length)
{
	int64_t start_ns = measure_now_ns();
	int64_t piece_ns = NS_PER_S * PIECE / rate;

	for (int64_t pieces = 0; answered < probes;) {
		struct pollfd readable = {.fd = client.from_fd, .events = POLLIN};
		int64_t wait_ns = start_ns + pieces * piece_ns - measure_now_ns();
		struct timespec wait = {wait_ns / NS_PER_S, wait_ns % NS_PER_S};

		if (sent < probes && wait_ns <= 0) {
			send_piece(request, length, measure_now_ns());
			pieces++;
			wait = (struct timespec){0, 0};
		}
		if (ppoll(&readable, 1, sent < probes ? &wait : NULL, NULL) == 1)
			take_replies();
	}
}

static uint32_t count_off(void)
{
	uint32_t off = 0;

	for (uint32_t i = 0; i < answered; i++)
		off += late_ns[i] > TOLERANCE_NS || late_ns[i] < -TOLERANCE_NS;
	return off;
}

int main(int argc, char **argv)
{
	char request[LINE_BYTES - 32];
	const char *target = NULL;
	int option;

	while ((option = getopt(argc, argv, "+t:c:p:m:")) != -1) {
		if (option == 't')
			target = optarg;
		else if (option == 'c')
			probes = (uint32_t)measure_number(optarg, PROBES_MOST);
		else if (option == 'p')
			rate = (uint32_t)measure_number(optarg, 10000000);
		else if (option == 'm')
			timeout_ms = (uint32_t)measure_number(optarg, 60000);
		else
			exit(2);
	}
	if (optind == argc || target == NULL || rate == 0)
		exit(2);
	int length = snprintf(request, sizeof(request), "send-probe ip-4 %s timeout %u.%03u",
			      target, timeout_ms / 1000, timeout_ms % 1000);
	client_prepare();
	client_start(&client, argv + optind);
	await_start();
	run(request, (size_t)length);
	(void)client_end(&client);
	printf("{\"probes\": %u, \"no_replies\": %u, \"others\": %u, \"off_by_2_ms\": %u, "
	       "\"peak_kb_program\": %ld, \"peak_kb_broker\": %ld, ",
	       answered, no_replies, others, count_off(), fullest.peak_kb_program,
	       fullest.peak_kb_others);
	measure_print_distribution("late_us", late_ns, answered, NS_PER_US);
	puts("}");
	return EXIT_SUCCESS;
}
