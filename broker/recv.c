/*
 * Reads packets from the raw sockets and passes on the answers. Runs in the broker. The socket
 * filters let in packets that anyone may have sent. Of a packet that answers no probe nothing goes
 * any further.
 */
#include "broker/recv.h"

#include <errno.h>
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

struct incoming {
	uint8_t packet[PACKET_BYTES];
	struct sockaddr_in6 from; /* zero for IPv4, where the header has it */
	_Alignas(struct cmsghdr) uint8_t control[CONTROL_BYTES];
	struct iovec piece;
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

/* The long form is for what the short one would cut; of an echo reply the beginning is enough. */
static void queue_answer(struct record_long_answer *answer, bool is_echo_reply, const uint8_t *data)
{
	struct record_answer *head = &answer->head;
	bool is_long = !is_echo_reply && head->packet_bytes > RECORD_SHORT_BYTES;
	size_t room = is_long ? RECORD_LONG_BYTES : RECORD_SHORT_BYTES;

	head->kind = is_long ? RECORD_LONG_ANSWER : RECORD_ANSWER;
	head->data_bytes = (uint16_t)(head->packet_bytes < room ? head->packet_bytes : room);
	memcpy(is_long ? answer->data : head->data, data, head->data_bytes);
	channel_queue(answer, is_long ? sizeof(*answer) : sizeof(*head));
}

static void handle_packet(struct incoming *incoming, struct mmsghdr *message, uint8_t family,
			  uint8_t protocol)
{
	const struct wire_family *wire = wire_family(family);
	struct record_long_answer answer = {.head.protocol = protocol};
	const uint8_t *data = incoming->packet;
	size_t bytes = message->msg_len < PACKET_BYTES ? message->msg_len : PACKET_BYTES;

	read_control(&message->msg_hdr, &answer.head);
	memcpy(answer.head.responder, &incoming->from.sin6_addr, sizeof(answer.head.responder));
	if (family == 4) {
		/* An IPv4 raw socket delivers the IP header. */
		struct wire_ip ip;
		if (!wire_ip_read(data, bytes, &ip) || ip.family != wire)
			return;
		answer.head.ttl = ip.ttl;
		memcpy(answer.head.responder, ip.source, wire->address_bytes);
		memcpy(answer.head.local, ip.destination, wire->address_bytes);
		data = ip.transport;
		bytes = ip.transport_bytes;
	}
	if (!match_answer(family, &answer.head, data, bytes))
		return;
	answer.head.packet_bytes = (uint16_t)(message->msg_len - (data - incoming->packet));
	queue_answer(&answer, protocol == IPPROTO_ICMP && data[0] == wire->echo_reply, data);
}

bool recv_answers(int fd)
{
	uint8_t family = fd == DESC_ICMP4 || fd == DESC_SCTP4 ? 4 : 6;
	uint8_t protocol = fd == DESC_ICMP4 || fd == DESC_ICMP6 ? IPPROTO_ICMP : IPPROTO_SCTP;
	static struct incoming incoming[RECORD_BATCH];
	static struct mmsghdr messages[RECORD_BATCH];

	for (size_t i = 0; i < RECORD_BATCH; i++) {
		incoming[i].piece = (struct iovec){incoming[i].packet, PACKET_BYTES};
		messages[i].msg_hdr = (struct msghdr){
			.msg_name = family == 6 ? &incoming[i].from : NULL,
			.msg_namelen = sizeof(incoming[i].from),
			.msg_iov = &incoming[i].piece,
			.msg_iovlen = 1,
			.msg_control = incoming[i].control,
			.msg_controllen = CONTROL_BYTES,
		};
	}
	/* MSG_TRUNC: the kernel tells the length of a packet that does not fit. */
	int count = recvmmsg(fd, messages, RECORD_BATCH, MSG_DONTWAIT | MSG_TRUNC, NULL);
	if (count < 0 && errno == ENOTSOCK)
		return false;
	for (int i = 0; i < count; i++)
		handle_packet(&incoming[i], &messages[i], family, protocol);
	return true;
}
