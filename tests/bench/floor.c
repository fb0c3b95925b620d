/*
 * What the kernel alone costs: ICMP echoes sent by sendmmsg and their replies received by recvmmsg
 * in batches, in one thread, without looking at any of them. With -b 1 it is what an echo costs
 * another user.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/icmp.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/support/bench/measure.h"

enum {
	BATCH_MOST = 64,
	ECHO_BYTES = 44, /* with its IPv4 header 64 */
	RECEIVE_BYTES = 128,
	BUFFER_BYTES = 8 << 20,
	PATIENCE_MS = 500,
};

static const uint8_t echo_request[ECHO_BYTES] = {8, 0, 0xf7, 0xff};

static int open_socket(void)
{
	int made = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP);
	struct icmp_filter only_replies = {.data = ~(1u << ICMP_ECHOREPLY)};
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	int bytes = BUFFER_BYTES;

	if (made < 0 ||
	    setsockopt(made, SOL_RAW, ICMP_FILTER, &only_replies, sizeof(only_replies)) != 0 ||
	    setsockopt(made, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes)) != 0 ||
	    setsockopt(made, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes)) != 0 ||
	    connect(made, (struct sockaddr *)&to, sizeof(to)) != 0)
		measure_die("cannot make a raw socket");
	return made;
}

static void prepare(struct mmsghdr *messages, struct iovec *pieces, void *bytes, size_t stride,
		    size_t length)
{
	for (size_t i = 0; i < BATCH_MOST; i++) {
		pieces[i] = (struct iovec){(uint8_t *)bytes + i * stride, length};
		messages[i].msg_hdr = (struct msghdr){.msg_iov = &pieces[i], .msg_iovlen = 1};
	}
}

struct result {
	uint64_t sent, received;
	int64_t took_ns;
};

/* Until the time is over, then as long as something comes. */
static void run(int socket_fd, unsigned int batch, int64_t for_ns, struct result *result)
{
	static struct mmsghdr out[BATCH_MOST], in[BATCH_MOST];
	static struct iovec out_pieces[BATCH_MOST], in_pieces[BATCH_MOST];
	static uint8_t received[BATCH_MOST][RECEIVE_BYTES];
	struct pollfd readable = {.fd = socket_fd, .events = POLLIN};
	int64_t started_ns = measure_now_ns();
	bool over = false;

	prepare(out, out_pieces, (void *)(uintptr_t)echo_request, 0, ECHO_BYTES);
	prepare(in, in_pieces, received, RECEIVE_BYTES, RECEIVE_BYTES);
	for (;;) {
		bool full = over || result->sent - result->received > 0;
		if (!full) {
			int sent = sendmmsg(socket_fd, out, batch, 0);
			if (sent < 0)
				measure_die("cannot send");
			result->sent += (uint64_t)sent;
		}
		int got = recvmmsg(socket_fd, in, batch, MSG_DONTWAIT, NULL);
		if (got > 0)
			result->received += (uint64_t)got;
		if (got <= 0 && full && poll(&readable, 1, PATIENCE_MS) <= 0)
			break;
		if (!over && measure_now_ns() - started_ns >= for_ns) {
			result->took_ns = measure_now_ns() - started_ns;
			over = true;
		}
		if (over && result->received == result->sent)
			break;
	}
	if (!over) {
		errno = 0;
		measure_die("nothing answers");
	}
}

int main(int argc, char **argv)
{
	struct result result = {0, 0, 0};
	int64_t for_ns = INT64_C(1000000000);
	unsigned int batch = BATCH_MOST;
	int option;

	while ((option = getopt(argc, argv, "b:s:")) != -1) {
		if (option == 'b')
			batch = (unsigned int)measure_number(optarg, BATCH_MOST);
		else if (option == 's')
			for_ns = measure_number(optarg, 3600000) * 1000000;
		else
			exit(2);
	}
	if (batch == 0)
		exit(2);
	run(open_socket(), batch, for_ns, &result);
	double rate = (double)result.received * 1e9 / (double)result.took_ns;
	printf("{\"sent\": %lu, \"replies\": %lu, \"no_replies\": %lu, \"rate\": %.0f, "
	       "\"cpu_us_each\": %.3f}\n",
	       result.sent, result.received, result.sent - result.received, rate, 1e6 / rate);
	return EXIT_SUCCESS;
}
