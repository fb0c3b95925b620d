/*
 * Many programs at once, each asked for probes at a steady rate, as on a host with many users.
 * Prints whether all are answered, and how much of a processor all of them together take.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/bench/client.h"
#include "tests/support/bench/measure.h"

enum {
	CLIENTS_MOST = 200,
	EVENTS = 64,
	LINE_BYTES = 512,
};

static const int64_t NS_PER_S = 1000000000;

static struct client *clients;
static long client_count = 100, rate = 100, for_ms = 2000;
static uint32_t sent, replies, no_replies, others;
static int64_t rtt_sum_us;
static int poll_fd;

static void ask(struct client *client, const char *request)
{
	size_t room;
	char *space = client_space(client, &room);

	if (room < LINE_BYTES)
		measure_die("a program reads nothing");
	client_added(client, client_put_request(space, sent++, request, strlen(request)));
	client_write(client);
}

static void take_replies(struct client *client)
{
	struct reply reply;

	if (!client_read(client)) {
		errno = 0;
		measure_die("a program ended");
	}
	while (client_next(client, &reply)) {
		replies += reply.word == REPLY_ANSWER;
		no_replies += reply.word == REPLY_NO_REPLY;
		others += reply.word == REPLY_OTHER;
		rtt_sum_us += reply.rtt_us;
	}
}

static void wait_for_replies(int64_t until_ns)
{
	struct epoll_event events[EVENTS];
	int64_t left_ns = until_ns - measure_now_ns();

	if (left_ns < 0)
		left_ns = 0;
	struct timespec wait = {left_ns / NS_PER_S, left_ns % NS_PER_S};
	int count = epoll_pwait2(poll_fd, events, EVENTS, &wait, NULL);
	for (int i = 0; i < count; i++)
		take_replies(&clients[events[i].data.u32]);
}

static void start_all(char *const argv[], const char *request)
{
	poll_fd = epoll_create1(EPOLL_CLOEXEC);
	clients = calloc((size_t)client_count, sizeof(*clients));
	if (poll_fd < 0 || !clients)
		measure_die("cannot start");
	for (long i = 0; i < client_count; i++) {
		struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)i};
		client_start(&clients[i], argv);
		if (epoll_ctl(poll_fd, EPOLL_CTL_ADD, clients[i].from_fd, &event) != 0)
			measure_die("cannot wait for a program");
		ask(&clients[i], request);
	}
	int64_t until_ns = measure_now_ns() + 10 * NS_PER_S;
	while (replies < sent && measure_now_ns() < until_ns)
		wait_for_replies(until_ns);
	if (replies < sent) {
		errno = 0;
		measure_die("not every program answers");
	}
}

static int64_t cpu_ns(void)
{
	int64_t sum_ns = 0;

	for (long i = 0; i < client_count; i++) {
		struct client_cpu used = client_cpu(&clients[i]);
		sum_ns += used.program_ns + used.others_ns;
	}
	return sum_ns;
}

static void run(const char *request)
{
	int64_t start_ns = measure_now_ns();
	int64_t total = client_count * rate * for_ms / 1000;

	for (int64_t i = 0; i < total; i++) {
		int64_t due_ns = start_ns + i * NS_PER_S / (client_count * rate);
		do
			wait_for_replies(due_ns);
		while (measure_now_ns() < due_ns);
		ask(&clients[i % client_count], request);
	}
	int64_t until_ns = measure_now_ns() + 3 * NS_PER_S;
	while (replies + no_replies + others < sent && measure_now_ns() < until_ns)
		wait_for_replies(until_ns);
}

int main(int argc, char **argv)
{
	const char *request = "send-probe ip-4 127.0.0.1 timeout 2";
	int option;

	while ((option = getopt(argc, argv, "+k:p:s:r:")) != -1) {
		if (option == 'k')
			client_count = measure_number(optarg, CLIENTS_MOST);
		else if (option == 'p')
			rate = measure_number(optarg, 1000000);
		else if (option == 's')
			for_ms = measure_number(optarg, 60000);
		else if (option == 'r')
			request = optarg;
		else
			exit(2);
	}
	if (optind == argc || client_count == 0 || rate == 0 || strlen(request) + 32 > LINE_BYTES)
		exit(2);
	client_prepare();
	start_all(argv + optind, request);
	sent = replies = 0;
	rtt_sum_us = 0;
	int64_t cpu_before_ns = cpu_ns();
	int64_t start_ns = measure_now_ns();
	run(request);
	int64_t took_ns = measure_now_ns() - start_ns;
	int64_t used_ns = cpu_ns() - cpu_before_ns;
	for (long i = client_count; i-- > 1;)
		client_hang_up(&clients[i]);
	(void)client_end(&clients[0]);
	printf("{\"programs\": %ld, \"sent\": %u, \"replies\": %u, \"no_replies\": %u, "
	       "\"others\": %u, \"cpu_share\": %.4f, \"cpu_us_each\": %.3f, \"rtt_us_mean\": "
	       "%.1f}\n",
	       client_count, sent, replies, no_replies, others, (double)used_ns / (double)took_ns,
	       (double)used_ns / 1000 / sent, (double)rtt_sum_us / (replies ? replies : 1));
	return EXIT_SUCCESS;
}
