/*
 * Reads packets from the raw sockets and passes on the answers. Runs in the broker. The socket
 * filters let in packets that anyone may have sent. A packet that answers no probe is dropped here.
 */
#include "broker/recv.h"

#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "broker/channel.h"
#include "broker/match.h"
#include "common/record.h"
#include "common/wire.h"
#include "policy/descriptors.h"

enum {
	NS_PER_S = 1000000000,
	IPV4_HEADER_BYTES_MAX = 60,
	PACKET_BYTES = IPV4_HEADER_BYTES_MAX + RECORD_LONG_BYTES,
	/* Stamp, IPv6 hop limit, packet information. */
	CONTROL_BYTES = CMSG_SPACE(sizeof(struct timespec)) + CMSG_SPACE(sizeof(int)) +
			CMSG_SPACE(sizeof(struct in6_pktinfo)),
};

/* What the kernel says beside the packet. */
static void read_control(struct msghdr *header, struct record_answer *answer)
{
	for (struct cmsghdr *at = CMSG_FIRSTHDR(header); at != NULL; at = CMSG_NXTHDR(header, at)) {
		const void *data = CMSG_DATA(at);
		if (at->cmsg_level == SOL_SOCKET && at->cmsg_type == SCM_TIMESTAMPNS) {
			const struct timespec *stamp = data;
			answer->received_wall_ns = stamp->tv_sec * NS_PER_S + stamp->tv_nsec;
		} else if (at->cmsg_level == IPPROTO_IPV6 && at->cmsg_type == IPV6_HOPLIMIT) {
			answer->ttl = (uint8_t) * (const int *)data;
		} else if (at->cmsg_level == IPPROTO_IPV6 && at->cmsg_type == IPV6_PKTINFO) {
			const struct in6_pktinfo *info = data;
			answer->ifindex = info->ipi6_ifindex;
			memcpy(answer->local, &info->ipi6_addr, sizeof(answer->local));
		}
	}
}

/* `data` has the first bytes of a packet of `packet_bytes`. `answer` has what the kernel says. */
static void handle_packet(uint8_t family, struct record_long_answer *answer, const uint8_t *data,
			  size_t packet_bytes)
{
	const struct wire_family *wire = wire_family(family);
	struct record_answer *head = &answer->head;
	size_t bytes = packet_bytes < PACKET_BYTES ? packet_bytes : PACKET_BYTES;

	/* An IPv4 raw socket delivers the IP header. */
	if (family == 4) {
		struct wire_ip ip;
		if (!wire_ip_read(data, bytes, &ip) || ip.family != wire)
			return;
		head->ttl = ip.ttl;
		memcpy(head->responder, ip.source, wire->address_bytes);
		memcpy(head->local, ip.destination, wire->address_bytes);
		packet_bytes -= (size_t)(ip.transport - data);
		data = ip.transport;
		bytes = ip.transport_bytes;
	}
	if (!match_answer(family, head, data, bytes))
		return;
	/* The long form is for what the short one would cut. */
	bool is_long = packet_bytes > RECORD_SHORT_BYTES;
	size_t room = is_long ? RECORD_LONG_BYTES : RECORD_SHORT_BYTES;
	head->kind = is_long ? RECORD_LONG_ANSWER : RECORD_ANSWER;
	head->packet_bytes = (uint32_t)packet_bytes;
	head->data_bytes = (uint32_t)(packet_bytes < room ? packet_bytes : room);
	memcpy(is_long ? answer->data : head->data, data, head->data_bytes);
	channel_queue(answer, is_long ? sizeof(*answer) : sizeof(*head));
}

void recv_answers(int fd)
{
	uint8_t family = fd == DESC_ICMP4 || fd == DESC_SCTP4 ? 4 : 6;
	uint8_t protocol = fd == DESC_ICMP4 || fd == DESC_ICMP6 ? IPPROTO_ICMP : IPPROTO_SCTP;
	static struct incoming {
		uint8_t packet[PACKET_BYTES];
		struct sockaddr_in6 from;
		_Alignas(struct cmsghdr) uint8_t control[CONTROL_BYTES];
		struct iovec piece;
	} incoming[RECORD_BATCH];
	static struct mmsghdr messages[RECORD_BATCH];

	for (size_t i = 0; i < RECORD_BATCH; i++) {
		struct incoming *in = &incoming[i];
		in->piece = (struct iovec){in->packet, sizeof(in->packet)};
		messages[i].msg_hdr = (struct msghdr){&in->from,   sizeof(in->from), &in->piece, 1,
						      in->control, CONTROL_BYTES,    0};
	}
	/* MSG_TRUNC: the kernel tells the length of a packet that does not fit. */
	int count = recvmmsg(fd, messages, RECORD_BATCH, MSG_DONTWAIT | MSG_TRUNC, NULL);
	for (int i = 0; i < count; i++) {
		struct record_long_answer answer = {.head.protocol = protocol};
		read_control(&messages[i].msg_hdr, &answer.head);
		if (family == 6)
			memcpy(answer.head.responder, &incoming[i].from.sin6_addr,
			       sizeof(answer.head.responder));
		handle_packet(family, &answer, incoming[i].packet, messages[i].msg_len);
	}
}
