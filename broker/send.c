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
#include "broker/raw_sockets.h"
#include "common/wire.h"

/* <linux/in6.h> has it, but cannot be included beside the C library's headers. */
#ifndef IPV6_FLOWINFO
#define IPV6_FLOWINFO 11
#endif

enum {
	NS_PER_S = 1000000000,
	/* TTL, TOS, mark, flow label, packet information. */
	CONTROL_BYTES = 4 * CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(struct in6_pktinfo)),
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

static void address_ipv4(const struct record_probe *request, struct msghdr *header)
{
	struct sockaddr_in *to = header->msg_name;
	struct in_pktinfo info = {.ipi_ifindex = (int)request->ifindex};

	to->sin_family = AF_INET;
	memcpy(&to->sin_addr, request->destination, sizeof(to->sin_addr));
	memcpy(&info.ipi_spec_dst, request->source, sizeof(info.ipi_spec_dst));
	add_control(header, IPPROTO_IP, IP_PKTINFO, &info, sizeof(info));
}

static void address_ipv6(const struct record_probe *request, struct msghdr *header)
{
	struct sockaddr_in6 *to = header->msg_name;
	struct in6_pktinfo info = {.ipi6_ifindex = request->ifindex};

	to->sin6_family = AF_INET6;
	memcpy(&to->sin6_addr, request->destination, sizeof(to->sin6_addr));
	memcpy(&info.ipi6_addr, request->source, sizeof(info.ipi6_addr));
	add_control(header, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof(info));
}

/* Returns the length of the control messages without the flow label, which is the last. */
static size_t add_controls(const struct record_probe *request, struct msghdr *header)
{
	bool is_ipv6 = request->family == 6;
	int level = is_ipv6 ? IPPROTO_IPV6 : IPPROTO_IP;
	int ttl = request->ttl, tos = request->tos;
	uint32_t label_be = htonl(request->flow_label);

	add_control(header, level, is_ipv6 ? IPV6_HOPLIMIT : IP_TTL, &ttl, sizeof(ttl));
	add_control(header, level, is_ipv6 ? IPV6_TCLASS : IP_TOS, &tos, sizeof(tos));
	if ((request->flags & PROBE_MARK) != 0)
		add_control(header, SOL_SOCKET, SO_MARK, &request->mark, sizeof(request->mark));
	size_t unlabelled_bytes = header->msg_controllen;
	if ((request->flags & PROBE_FLOW_LABEL) != 0)
		add_control(header, level, IPV6_FLOWINFO, &label_be, sizeof(label_be));
	return unlabelled_bytes;
}

void send_probe(const struct record_probe *request, uint16_t id)
{
	static uint8_t packet[UINT16_MAX];
	_Alignas(struct cmsghdr) uint8_t control[CONTROL_BYTES] = {0};
	struct sockaddr_in6 to = {0};
	struct iovec piece = {packet, build_probe(request, id, packet)};
	struct mmsghdr message = {.msg_hdr = {.msg_name = &to,
					      .msg_namelen = sizeof(to),
					      .msg_iov = &piece,
					      .msg_iovlen = 1,
					      .msg_control = control}};
	struct msghdr *header = &message.msg_hdr;
	int fd = sockets_raw(request->family, request->protocol,
			     (request->flags & PROBE_DONT_FRAGMENT) != 0);

	if (request->family == 6)
		address_ipv6(request, header);
	else
		address_ipv4(request, header);
	size_t unlabelled_bytes = add_controls(request, header);
	int64_t before_ns = now_ns();
	int sent = sendmmsg(fd, &message, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (sent < 0 && errno == EINVAL && header->msg_controllen != unlabelled_bytes) {
		/* While anyone in the network namespace holds an exclusive label, the kernel takes
		 * only leased ones. The label of its own choice is as constant. */
		header->msg_controllen = unlabelled_bytes;
		before_ns = now_ns();
		sent = sendmmsg(fd, &message, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	}
	if (sent < 0) {
		struct record_failure failure = {
			.kind = RECORD_FAILURE, .cookie = request->cookie, .error = errno};
		match_close(request->cookie);
		channel_queue(&failure, sizeof(failure));
		return;
	}
	/* A packet leaves early in the call. An answer of this host may arrive within it. */
	match_open(request, packet, piece.iov_len, before_ns + (now_ns() - before_ns) / 3);
}
