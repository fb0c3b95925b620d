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
	/* Packets in one system call, around which the clock is read: with more, the send times are
	 * less exact; one each costs more than a tenth of the rate. */
	GROUP = 4,
	/* A longer share is that of a process that was interrupted during the call. */
	SHARE_MAX_NS = 50000,
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

/* Fills in the destination and the control messages. */
static void add_address(const struct record_probe *request, struct msghdr *header)
{
	struct sockaddr_in *to4 = header->msg_name;
	struct sockaddr_in6 *to6 = header->msg_name;
	struct in_pktinfo info4 = {.ipi_ifindex = (int)request->ifindex};
	struct in6_pktinfo info6 = {.ipi6_ifindex = request->ifindex};
	int ttl = request->ttl, tos = request->tos;

	if (request->family == 4) {
		*to4 = (struct sockaddr_in){.sin_family = AF_INET};
		memcpy(&to4->sin_addr, request->destination, sizeof(to4->sin_addr));
		memcpy(&info4.ipi_spec_dst, request->source, sizeof(info4.ipi_spec_dst));
		add_control(header, IPPROTO_IP, IP_PKTINFO, &info4, sizeof(info4));
		add_control(header, IPPROTO_IP, IP_TTL, &ttl, sizeof(ttl));
		add_control(header, IPPROTO_IP, IP_TOS, &tos, sizeof(tos));
	} else {
		*to6 = (struct sockaddr_in6){.sin6_family = AF_INET6,
					     .sin6_flowinfo = htonl(request->flow_label)};
		memcpy(&to6->sin6_addr, request->destination, sizeof(to6->sin6_addr));
		memcpy(&info6.ipi6_addr, request->source, sizeof(info6.ipi6_addr));
		add_control(header, IPPROTO_IPV6, IPV6_PKTINFO, &info6, sizeof(info6));
		add_control(header, IPPROTO_IPV6, IPV6_HOPLIMIT, &ttl, sizeof(ttl));
		add_control(header, IPPROTO_IPV6, IPV6_TCLASS, &tos, sizeof(tos));
	}
	if ((request->flags & PROBE_MARK) != 0)
		add_control(header, SOL_SOCKET, SO_MARK, &request->mark, sizeof(request->mark));
}

static int socket_of(const struct record_probe *request)
{
	return descriptor_raw(request->family, request->protocol == IPPROTO_SCTP,
			      (request->flags & PROBE_DONT_FRAGMENT) != 0);
}

size_t send_group(const struct record_probe *requests, size_t count,
		  const uint16_t held_port[RECORD_PROBE_IDS])
{
	static struct outgoing {
		uint8_t packet[UINT16_MAX];
		_Alignas(struct cmsghdr) uint8_t control[CONTROL_BYTES];
		struct sockaddr_in6 to;
		struct iovec piece;
	} outgoing[GROUP];
	static struct mmsghdr messages[GROUP];
	int fd = socket_of(&requests[0]);
	unsigned int length = 0;

	for (; length < GROUP && length < count && socket_of(&requests[length]) == fd; length++) {
		const struct record_probe *request = &requests[length];
		struct outgoing *out = &outgoing[length];
		struct msghdr *header = &messages[length].msg_hdr;
		size_t bytes = build_probe(request, held_port[request->probe_id], out->packet);
		out->piece = (struct iovec){out->packet, bytes};
		*header = (struct msghdr){
			&out->to, sizeof(out->to), &out->piece, 1, out->control, 0, 0};
		add_address(request, header);
	}
	int64_t before_ns = now_ns();
	int sent = sendmmsg(fd, messages, length, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (sent < 0) {
		struct record_answer failure = {
			.kind = RECORD_FAILURE, .cookie = requests[0].cookie, .error = errno};
		match_close(requests[0].cookie);
		channel_queue(&failure, sizeof(failure));
		return 1;
	}
	int64_t share_ns = (now_ns() - before_ns) / sent;
	if (share_ns > SHARE_MAX_NS)
		share_ns = SHARE_MAX_NS;
	/* Each packet has an equal share of the call's time and leaves early in it, hence a third:
	 * on loopback the answer arrives before the share ends. */
	for (int i = 0; i < sent; i++)
		match_open(&requests[i], outgoing[i].packet, outgoing[i].piece.iov_len,
			   before_ns + share_ns * i + share_ns / 3);
	return (size_t)sent;
}
