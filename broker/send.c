/*
 * Sends probes. Runs in the broker. What differs from probe to probe travels as control messages,
 * so that no option is ever set on a shared socket. The kernel refuses source addresses that are
 * not this host's.
 */
#include "broker/send.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "broker/build.h"
#include "broker/channel.h"
#include "broker/match.h"
#include "policy/descriptors.h"

enum {
	NS_PER_S = 1000000000,
	/* TTL, TOS, mark, packet information. */
	CONTROL_BYTES = 3 * CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(struct in6_pktinfo)),
};

static int64_t now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now); /* does not fail */
	return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

static void add_control(struct msghdr *header, int level, int type, const void *data, size_t bytes)
{
	struct cmsghdr *control = (void *)((uint8_t *)header->msg_control + header->msg_controllen);

	control->cmsg_len = CMSG_LEN(bytes);
	control->cmsg_level = level;
	control->cmsg_type = type;
	memcpy(CMSG_DATA(control), data, bytes);
	header->msg_controllen += CMSG_SPACE(bytes);
}

static void add_destination(const struct record_probe *request, struct msghdr *header)
{
	struct sockaddr_in *to4 = header->msg_name;
	struct sockaddr_in6 *to6 = header->msg_name;
	struct in_pktinfo info4 = {.ipi_ifindex = (int)request->ifindex};
	struct in6_pktinfo info6 = {.ipi6_ifindex = request->ifindex};

	if (request->family == 4) {
		to4->sin_family = AF_INET;
		memcpy(&to4->sin_addr, request->destination, sizeof(to4->sin_addr));
		memcpy(&info4.ipi_spec_dst, request->source, sizeof(info4.ipi_spec_dst));
		add_control(header, IPPROTO_IP, IP_PKTINFO, &info4, sizeof(info4));
	} else {
		to6->sin6_family = AF_INET6;
		to6->sin6_flowinfo = htonl(request->flow_label);
		memcpy(&to6->sin6_addr, request->destination, sizeof(to6->sin6_addr));
		memcpy(&info6.ipi6_addr, request->source, sizeof(info6.ipi6_addr));
		add_control(header, IPPROTO_IPV6, IPV6_PKTINFO, &info6, sizeof(info6));
	}
}

static void add_controls(const struct record_probe *request, struct msghdr *header)
{
	bool is_ipv6 = request->family == 6;
	int level = is_ipv6 ? IPPROTO_IPV6 : IPPROTO_IP;
	int ttl = request->ttl, tos = request->tos;

	add_control(header, level, is_ipv6 ? IPV6_HOPLIMIT : IP_TTL, &ttl, sizeof(ttl));
	add_control(header, level, is_ipv6 ? IPV6_TCLASS : IP_TOS, &tos, sizeof(tos));
	if ((request->flags & PROBE_MARK) != 0)
		add_control(header, SOL_SOCKET, SO_MARK, &request->mark, sizeof(request->mark));
}

void send_probe(const struct record_probe *request, uint16_t id)
{
	static uint8_t packet[UINT16_MAX];
	_Alignas(struct cmsghdr) uint8_t control[CONTROL_BYTES] = {0};
	struct sockaddr_in6 to = {0};
	struct iovec piece = {packet, build_probe(request, id, packet)};
	struct msghdr message = {.msg_name = &to,
				 .msg_namelen = sizeof(to),
				 .msg_iov = &piece,
				 .msg_iovlen = 1,
				 .msg_control = control};
	int fd = descriptor_raw(request->family, request->protocol == IPPROTO_SCTP,
				(request->flags & PROBE_DONT_FRAGMENT) != 0);

	add_destination(request, &message);
	add_controls(request, &message);
	int64_t before_ns = now_ns();
	if (sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
		struct record_answer failure = {
			.kind = RECORD_FAILURE, .cookie = request->cookie, .error = errno};
		match_close(request->cookie);
		channel_queue(&failure, sizeof(failure));
		return;
	}
	/* A packet leaves early in the call. An answer of this host may arrive within it. */
	match_open(request, packet, piece.iov_len, before_ns + (now_ns() - before_ns) / 3);
}
