/*
 * How long a program takes from being started to its first reply, with the request already in its
 * stdin.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/bench/client.h"
#include "tests/support/bench/measure.h"

enum {
	TIMES_MOST = 10000,
	NS_PER_US = 1000,
};

static struct client client;

static void await_reply(void)
{
	struct reply reply;

	while (!client_next(&client, &reply)) {
		if (!client_read(&client)) {
			errno = 0;
			measure_die("the program ended before it had answered");
		}
	}
	if (reply.word != REPLY_ANSWER) {
		errno = 0;
		measure_die("the probe was not answered");
	}
}

static void ask(char *const argv[], const char *request)
{
	size_t room;
	char *space;

	client_start(&client, argv);
	space = client_space(&client, &room);
	client_added(&client, client_put_request(space, 1, request, strlen(request)));
	client_write(&client);
	await_reply();
}

int main(int argc, char **argv)
{
	const char *request = "send-probe ip-4 127.0.0.1";
	static int64_t took_ns[TIMES_MOST];
	size_t times = 20;
	int option;

	while ((option = getopt(argc, argv, "+c:r:")) != -1) {
		if (option == 'c')
			times = (size_t)measure_number(optarg, TIMES_MOST);
		else if (option == 'r')
			request = optarg;
		else
			exit(2);
	}
	if (optind == argc || strlen(request) > 400)
		exit(2);
	client_prepare();
	for (size_t i = 0; i < times; i++) {
		int64_t from_ns = measure_now_ns();
		ask(argv + optind, request);
		took_ns[i] = measure_now_ns() - from_ns;
		(void)client_end(&client);
	}
	printf("{");
	measure_print_distribution("first_reply_us", took_ns, times, NS_PER_US);
	puts("}");
	return EXIT_SUCCESS;
}
