/*
 * What a TCP segment and a UDP datagram cost a program on this host: one byte goes to and fro over
 * loopback, without waiting. Shows whether other people's probes slow the host down.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/support/bench/measure.h"

static struct sockaddr_in bind_loopback(int fd)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t size = sizeof(at);

	if (fd < 0 || bind(fd, (struct sockaddr *)&at, size) != 0 ||
	    getsockname(fd, (struct sockaddr *)&at, &size) != 0)
		measure_die("cannot bind");
	return at;
}

static void connect_to(int fd, const struct sockaddr_in *to)
{
	if (connect(fd, (const struct sockaddr *)to, sizeof(*to)) != 0)
		measure_die("cannot connect");
}

static void open_udp(int pair[2])
{
	pair[0] = socket(AF_INET, SOCK_DGRAM, 0);
	pair[1] = socket(AF_INET, SOCK_DGRAM, 0);
	struct sockaddr_in first = bind_loopback(pair[0]), second = bind_loopback(pair[1]);
	connect_to(pair[0], &second);
	connect_to(pair[1], &first);
}

static void open_tcp(int pair[2])
{
	int listening = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in at = bind_loopback(listening);
	int no_delay = 1;

	if (listen(listening, 1) != 0)
		measure_die("cannot listen");
	pair[0] = socket(AF_INET, SOCK_STREAM, 0);
	connect_to(pair[0], &at);
	pair[1] = accept(listening, NULL, NULL);
	for (int i = 0; i < 2; i++)
		if (setsockopt(pair[i], IPPROTO_TCP, TCP_NODELAY, &no_delay, sizeof(no_delay)) != 0)
			measure_die("cannot set TCP_NODELAY");
	close(listening);
}

/* Microseconds for each byte that was sent and received. */
static double cost_us(const int pair[2], long rounds)
{
	int64_t started_ns = measure_now_ns();
	char byte = 0;

	for (long i = 0; i < rounds; i++)
		for (int from = 0; from < 2; from++)
			if (send(pair[from], &byte, 1, 0) != 1 ||
			    recv(pair[1 - from], &byte, 1, 0) != 1)
				measure_die("cannot send");
	return (double)(measure_now_ns() - started_ns) / 1000 / (double)(2 * rounds);
}

int main(int argc, char **argv)
{
	long rounds = argc > 1 ? measure_number(argv[1], 10000000) : 10000;
	int tcp[2], udp[2];

	if (rounds == 0)
		exit(2);
	open_tcp(tcp);
	open_udp(udp);
	printf("{\"tcp_us\": %.3f, \"udp_us\": %.3f}\n", cost_us(tcp, rounds),
	       cost_us(udp, rounds));
	return EXIT_SUCCESS;
}
