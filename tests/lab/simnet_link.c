/*
 * AF_PACKET sockets of simnet, a test program: one that receives every frame of an interface and
 * one that only sends, past the queueing discipline. Needs CAP_NET_RAW in the network namespace.
 */
#include "tests/lab/simnet_link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	FRAME_BYTES = 66 * 1024, /* the largest packet that a veth carries, and its header */
	BUFFER_BYTES = 64 * 1024 * 1024,
	CONTROL_BYTES =
		CMSG_SPACE(sizeof(struct tpacket_auxdata)) + CMSG_SPACE(sizeof(struct timespec)),
};

static const int64_t MAX_AGE_NS = 1000000000;

struct link {
	int receiver;
	int sender;
	size_t mtu_bytes;
	uint8_t mac[MAC_BYTES];
	struct mmsghdr messages[LINK_BATCH];
	struct iovec parts[LINK_BATCH];
	uint8_t control[LINK_BATCH][CONTROL_BYTES];
	uint8_t (*frames)[FRAME_BYTES];
};

static int complain(const char *interface, const char *what)
{
	fprintf(stderr, "simnet: %s: %s: %s\n", interface, what, strerror(errno));
	return -1;
}

static void set_option(int socket, int level, int name, int value)
{
	/* Each of these makes it faster or tidier; it works without. */
	(void)setsockopt(socket, level, name, &value, sizeof(value));
}

/* The largest buffer that is allowed: root may exceed the system's limit. */
static void enlarge_buffer(int socket, int force, int ask)
{
	int bytes = BUFFER_BYTES;

	if (setsockopt(socket, SOL_SOCKET, force, &bytes, sizeof(bytes)) != 0)
		set_option(socket, SOL_SOCKET, ask, bytes);
}

static int open_socket(const char *interface, uint16_t protocol, int ifindex)
{
	struct sockaddr_ll address = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(protocol),
		.sll_ifindex = ifindex,
	};
	int descriptor = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (descriptor < 0)
		return complain(interface, "AF_PACKET socket");
	/* before bind: afterwards our own frames could already be in it */
	if (protocol)
		set_option(descriptor, SOL_PACKET, PACKET_IGNORE_OUTGOING, 1);
	if (bind(descriptor, (struct sockaddr *)&address, sizeof(address)) != 0) {
		complain(interface, "bind");
		close(descriptor);
		return -1;
	}
	return descriptor;
}

static int open_receiver(const char *interface, int ifindex)
{
	struct packet_mreq promiscuous = {.mr_ifindex = ifindex, .mr_type = PACKET_MR_PROMISC};
	int descriptor = open_socket(interface, ETH_P_ALL, ifindex);

	if (descriptor < 0)
		return -1;
	if (setsockopt(descriptor, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &promiscuous,
		       sizeof(promiscuous)) != 0) {
		complain(interface, "promiscuous mode");
		close(descriptor);
		return -1;
	}
	set_option(descriptor, SOL_PACKET, PACKET_AUXDATA, 1);
	set_option(descriptor, SOL_SOCKET, SO_TIMESTAMPNS, 1);
	enlarge_buffer(descriptor, SO_RCVBUFFORCE, SO_RCVBUF);
	return descriptor;
}

static int open_sender(const char *interface, int ifindex)
{
	int descriptor = open_socket(interface, 0, ifindex);

	if (descriptor < 0)
		return -1;
	set_option(descriptor, SOL_PACKET, PACKET_QDISC_BYPASS, 1);
	enlarge_buffer(descriptor, SO_SNDBUFFORCE, SO_SNDBUF);
	return descriptor;
}

static bool ask_interface(struct link *link, const char *interface)
{
	struct ifreq request = {0};

	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", interface);
	if (ioctl(link->receiver, SIOCGIFMTU, &request) != 0)
		return complain(interface, "MTU") == 0;
	link->mtu_bytes = (size_t)request.ifr_mtu;
	if (ioctl(link->receiver, SIOCGIFHWADDR, &request) != 0)
		return complain(interface, "hardware address") == 0;
	memcpy(link->mac, request.ifr_hwaddr.sa_data, MAC_BYTES);
	link->mac[MAC_BYTES - 1] ^= 1;
	return true;
}

static bool prepare_messages(struct link *link)
{
	link->frames = malloc(sizeof(*link->frames) * LINK_BATCH);
	if (!link->frames)
		return false;
	for (size_t i = 0; i < LINK_BATCH; i++)
		link->parts[i].iov_base = link->frames[i];
	return true;
}

struct link *link_open(const char *interface)
{
	struct link *link = calloc(1, sizeof(*link));
	unsigned ifindex = if_nametoindex(interface);

	if (!link)
		return NULL;
	link->sender = link->receiver = -1;
	if (ifindex == 0) {
		complain(interface, "interface");
		goto failed;
	}
	link->receiver = open_receiver(interface, (int)ifindex);
	link->sender = open_sender(interface, (int)ifindex);
	if (link->receiver < 0 || link->sender < 0 || !ask_interface(link, interface) ||
	    !prepare_messages(link))
		goto failed;
	return link;
failed:
	link_close(link);
	return NULL;
}

void link_close(struct link *link)
{
	if (link->receiver >= 0)
		close(link->receiver);
	if (link->sender >= 0)
		close(link->sender);
	free(link->frames);
	free(link);
}

int link_descriptor(const struct link *link)
{
	return link->receiver;
}

size_t link_mtu(const struct link *link)
{
	return link->mtu_bytes;
}

const uint8_t *link_mac(const struct link *link)
{
	return link->mac;
}

static int64_t clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* `to_monotonic_ns` takes the kernel's wall-clock time of arrival to CLOCK_MONOTONIC. Without one,
 * the time is now. */
static void read_control(struct msghdr *header, struct link_frame *frame, int64_t now_ns,
			 int64_t to_monotonic_ns)
{
	frame->checksum_pending = false;
	frame->came_ns = (uint64_t)now_ns;
	for (struct cmsghdr *item = CMSG_FIRSTHDR(header); item; item = CMSG_NXTHDR(header, item)) {
		if (item->cmsg_level == SOL_PACKET && item->cmsg_type == PACKET_AUXDATA) {
			struct tpacket_auxdata data;

			memcpy(&data, CMSG_DATA(item), sizeof(data));
			frame->checksum_pending = data.tp_status & TP_STATUS_CSUMNOTREADY;
		} else if (item->cmsg_level == SOL_SOCKET && item->cmsg_type == SCM_TIMESTAMPNS) {
			struct timespec came;
			int64_t came_ns;

			memcpy(&came, CMSG_DATA(item), sizeof(came));
			came_ns =
				(int64_t)came.tv_sec * 1000000000 + came.tv_nsec + to_monotonic_ns;
			/* a step of the wall clock in between must not count */
			if (came_ns <= now_ns && came_ns > now_ns - MAX_AGE_NS)
				frame->came_ns = (uint64_t)came_ns;
		}
	}
}

size_t link_receive(struct link *link, struct link_frame frames[LINK_BATCH])
{
	int64_t now_ns;
	int64_t to_monotonic_ns;
	int count;

	for (size_t i = 0; i < LINK_BATCH; i++) {
		link->parts[i].iov_len = FRAME_BYTES;
		link->messages[i].msg_hdr = (struct msghdr){
			.msg_iov = &link->parts[i],
			.msg_iovlen = 1,
			.msg_control = link->control[i],
			.msg_controllen = sizeof(link->control[i]),
		};
	}
	count = recvmmsg(link->receiver, link->messages, LINK_BATCH, MSG_DONTWAIT, NULL);
	now_ns = clock_ns(CLOCK_MONOTONIC);
	to_monotonic_ns = now_ns - clock_ns(CLOCK_REALTIME);
	for (int i = 0; i < count; i++) {
		frames[i].bytes = link->frames[i];
		frames[i].length = link->messages[i].msg_len;
		read_control(&link->messages[i].msg_hdr, &frames[i], now_ns, to_monotonic_ns);
	}
	return count > 0 ? (size_t)count : 0;
}

size_t link_send(struct link *link, struct queued_frame *frames[LINK_BATCH], size_t count)
{
	struct mmsghdr messages[LINK_BATCH] = {0};
	struct iovec parts[LINK_BATCH];
	size_t failed = 0;
	size_t done = 0;

	for (size_t i = 0; i < count; i++) {
		parts[i] = (struct iovec){frames[i]->bytes, frames[i]->length};
		messages[i].msg_hdr.msg_iov = &parts[i];
		messages[i].msg_hdr.msg_iovlen = 1;
	}
	while (done < count) {
		int sent = sendmmsg(link->sender, messages + done, (unsigned)(count - done), 0);

		/* The first frame is the one that failed: it is lost, as on a full link. */
		if (sent <= 0)
			failed++;
		done += sent > 0 ? (size_t)sent : 1;
	}
	for (size_t i = 0; i < count; i++)
		free(frames[i]);
	return failed;
}

uint64_t link_overflows(struct link *link)
{
	struct tpacket_stats statistics = {0};
	socklen_t length = sizeof(statistics);

	if (getsockopt(link->receiver, SOL_PACKET, PACKET_STATISTICS, &statistics, &length) != 0)
		return 0;
	return statistics.tp_drops;
}
