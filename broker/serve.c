/*
 * The broker's loop: requests go from channel to validate to build to send, answers from recv to
 * match to channel. Runs in the broker after lock-down. The requests come from any program. Nothing
 * is read before the queue of the channel is empty, so a front end that does not read its answers
 * stops its own broker and nothing else.
 */
#include "broker/serve.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#include "broker/channel.h"
#include "broker/fatal.h"
#include "broker/recv.h"
#include "broker/send.h"
#include "policy/descriptors.h"
#include "policy/validate.h"

/* The channel, then the raw sockets that receive. */
static struct pollfd polled[] = {
	{DESC_CHANNEL, POLLIN, 0}, {DESC_ICMP4, POLLIN, 0}, {DESC_ICMP6, POLLIN, 0},
	{DESC_SCTP4, POLLIN, 0},   {DESC_SCTP6, POLLIN, 0},
};

enum { POLLED = sizeof(polled) / sizeof(polled[0]) };

/* A raw SCTP socket that receives keeps the host from answering "protocol unreachable" to others.
 * So it is enabled with the first SCTP probe. */
static void enable_receive(const struct record_probe *request)
{
	static bool is_enabled[2];
	bool is_ipv6 = request->family == 6;
	/* Large enough for IPv4, too: the unspecified address of either family is zero. */
	const struct sockaddr_in6 any = {.sin6_family = is_ipv6 ? AF_INET6 : AF_INET};
	int fd = descriptor_raw(request->family, true, false);

	if (request->protocol != IPPROTO_SCTP || is_enabled[is_ipv6])
		return;
	if (bind(fd, (const struct sockaddr *)&any, sizeof(any)) != 0)
		fatal(FATAL_SYSTEM, "have the SCTP socket receive", errno, NULL);
	is_enabled[is_ipv6] = true;
}

static void serve_requests(const uint16_t held_port[RECORD_PROBE_IDS])
{
	const struct record_probe *requests;
	size_t count = channel_read(&requests);

	for (size_t i = 0; i < count; i++) {
		const char *wrong = validate_probe(&requests[i]);
		if (wrong != NULL)
			fatal(FATAL_BAD_REQUEST, "the front end sent a bad request", 0, wrong);
		enable_receive(&requests[i]);
	}
	for (size_t done = 0; done < count;)
		done += send_group(requests + done, count - done, held_port);
}

static void wait_for(short channel_event, nfds_t count)
{
	polled[0].events = channel_event;
	while (ppoll(polled, count, NULL, NULL) < 0)
		if (errno != EINTR)
			fatal(FATAL_SYSTEM, "wait for requests and answers", errno, NULL);
}

_Noreturn void serve(const uint16_t held_port[RECORD_PROBE_IDS])
{
	for (;;) {
		while (!channel_flush())
			wait_for(POLLOUT, 1);
		wait_for(POLLIN, POLLED);
		/* Answers first: a receive buffer can overflow, the channel cannot. */
		for (size_t i = 1; i < POLLED; i++)
			if (polled[i].revents != 0 && channel_flush())
				recv_answers(polled[i].fd);
		if (polled[0].revents != 0 && channel_flush())
			serve_requests(held_port);
	}
}
