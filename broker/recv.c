/*
 * Receives answers from the raw sockets. Runs in the broker; what the kernel's filter let through
 * is still anybody's packet. Of each, only what an event holds goes any further.
 */
#include "broker/receive.h"

#include <netinet/in.h>
#include <string.h>

#include "broker/answer.h"
#include "broker/channel.h"
#include "broker/clock.h"
#include "broker/large_table.h"
#include "broker/sockets.h"
#include "common/message.h"
#include "common/wire.h"

enum {
	/* Holds every ICMP error (RFC 1812 4.3.2.3: 576 bytes; RFC 4443 2.4: 1280). Only an echo
	 * reply can be longer; its rest is read for the sake of the checksum. An even number, so
	 * that a checksum can be continued behind it. */
	HEAD_BYTES = 2048,
	PACKET_BYTES = 65536,
	/* Packets do not begin all at one offset of a page, where they would share few places in
	 * the processor's cache. */
	STAGGER_BYTES = 192,
	CONTROL_BYTES = 256,
};

static LARGE_TABLE uint8_t packets[RECEIVE_BATCH][PACKET_BYTES + STAGGER_BYTES];
static LARGE_TABLE _Alignas(struct cmsghdr) uint8_t controls[RECEIVE_BATCH][CONTROL_BYTES];
static struct sockaddr_in6 names[RECEIVE_BATCH];

void receive_control(struct msghdr *message, struct receive_control *control)
{
	memset(control, 0, sizeof(*control));
	for (struct cmsghdr *at = CMSG_FIRSTHDR(message); at != NULL;
	     at = message_next_control(message, at)) {
		const uint8_t *data = CMSG_DATA(at);
		int number;
		switch (at->cmsg_level) {
		case SOL_SOCKET:
			if (at->cmsg_type == SCM_TIMESTAMPNS)
				memcpy(&control->stamp, data, sizeof(control->stamp));
			break;
		case IPPROTO_IP:
			if (at->cmsg_type == IP_TTL) {
				memcpy(&number, data, sizeof(number));
				control->has_ttl = true;
				control->ttl = (uint8_t)number;
			} else if (at->cmsg_type == IP_PKTINFO) {
				control->local4 = data + offsetof(struct in_pktinfo, ipi_addr);
			} else if (at->cmsg_type == IP_RECVERR) {
				control->error = (const void *)data;
				control->error_bytes = at->cmsg_len - CMSG_LEN(0);
			}
			break;
		case IPPROTO_IPV6:
			if (at->cmsg_type == IPV6_HOPLIMIT) {
				memcpy(&number, data, sizeof(number));
				control->has_ttl = true;
				control->ttl = (uint8_t)number;
			} else if (at->cmsg_type == IPV6_PKTINFO) {
				control->local6 = data + offsetof(struct in6_pktinfo, ipi6_addr);
				memcpy(&control->ifindex,
				       data + offsetof(struct in6_pktinfo, ipi6_ifindex),
				       sizeof(control->ifindex));
			} else if (at->cmsg_type == IPV6_RECVERR) {
				control->error = (const void *)data;
				control->error_bytes = at->cmsg_len - CMSG_LEN(0);
			}
			break;
		}
	}
}

void receive_report(struct probe *probe, struct record_event *event, const uint8_t *extension,
		    const struct receive_control *control)
{
	event->cookie = probe->cookie;
	event->received_ns = clock_of_stamp(&control->stamp, probe->sent_ns - probe->sent_doubt_ns);
	event->sent_ns = probe->sent_ns < event->received_ns ? probe->sent_ns : event->received_ns;
	if (probe->identity.family == 6 && event->responder[0] == 0xfe &&
	    (event->responder[1] & 0xc0) == 0x80)
		event->responder_ifindex = control->ifindex;
	probe_close(probe);
	channel_event(event, extension);
}

/* An IPv4 raw socket delivers the IP header, an IPv6 one delivers its contents beside. False if
 * the packet is not even what its socket promises. */
static bool describe(size_t index, uint8_t protocol, uint8_t family, size_t bytes,
		     const struct receive_control *control, struct received *received)
{
	size_t head_bytes = bytes < HEAD_BYTES ? bytes : HEAD_BYTES;

	*received = (struct received){
		.family = family,
		.protocol = protocol,
		.tail = packets[index] + HEAD_BYTES,
		.tail_bytes = bytes - head_bytes,
	};
	if (family == 6) {
		if (control->local6 == NULL || !control->has_ttl)
			return false;
		received->ttl = control->ttl;
		received->source = (const uint8_t *)&names[index].sin6_addr;
		received->destination = control->local6;
		received->transport = packets[index];
		received->transport_bytes = head_bytes;
		return true;
	}
	struct wire_ip ip;
	if (!wire_ip_read(packets[index], head_bytes, &ip) || ip.family->family != 4 ||
	    ip.later_fragment)
		return false;
	received->ttl = ip.ttl;
	received->source = ip.source;
	received->destination = ip.destination;
	received->transport = ip.transport;
	received->transport_bytes = ip.transport_bytes;
	return true;
}

static void handle(size_t index, uint8_t family, uint8_t protocol, struct mmsghdr *message)
{
	struct receive_control control;
	struct received received;
	struct record_event event;
	const uint8_t *extension;

	receive_control(&message->msg_hdr, &control);
	if (!describe(index, protocol, family, message->msg_len, &control, &received))
		return;
	struct probe *probe = answer_recognise(&received, &event, &extension);
	if (probe != NULL)
		receive_report(probe, &event, extension, &control);
}

/* The kernel overwrites what a message had room for with what it has put there. */
static void offer(struct msghdr *header, struct iovec *piece, size_t index, uint8_t family)
{
	*piece = (struct iovec){packets[index], PACKET_BYTES};
	*header = (struct msghdr){
		/* The source address of an IPv4 packet is in its header. */
		.msg_name = family == 6 ? &names[index] : NULL,
		.msg_namelen = family == 6 ? sizeof(names[index]) : 0,
		.msg_iov = piece,
		.msg_iovlen = 1,
		.msg_control = controls[index],
		.msg_controllen = CONTROL_BYTES,
	};
}

bool receive_raw(int socket)
{
	static LARGE_TABLE struct mmsghdr messages[RECEIVE_BATCH];
	static struct iovec pieces[RECEIVE_BATCH];
	static uint8_t offered_family;
	uint8_t family = sockets_raw_family(socket);
	uint8_t protocol = sockets_raw_protocol(socket);

	for (size_t i = 0; i < RECEIVE_BATCH && family != offered_family; i++)
		offer(&messages[i].msg_hdr, &pieces[i], i, family);
	offered_family = family;
	int count = message_receive_many(socket, messages, RECEIVE_BATCH, MSG_DONTWAIT);
	if (count <= 0)
		return false;
	clock_compare();
	for (size_t i = 0; i < (size_t)count; i++) {
		handle(i, family, protocol, &messages[i]);
		offer(&messages[i].msg_hdr, &pieces[i], i, family);
	}
	return count == RECEIVE_BATCH;
}
