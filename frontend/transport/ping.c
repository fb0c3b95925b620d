/*
 * ICMP echo by ping sockets (IPPROTO_ICMP, SOCK_DGRAM), which the kernel opens for groups in
 * net.ipv4.ping_group_range. Runs in the unprivileged front end and distrusts what it receives.
 *
 * The kernel sets identifier and checksum, and gives a socket the echo replies and the ICMP errors
 * with its identifier, from whatever host. The errors quote the probe from its ICMP header on.
 */
#include <err.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/record.h"
#include "common/wire.h"
#include "frontend/process/random.h"
#include "frontend/transport/dgram.h"
#include "frontend/transport/dgram_message.h"
#include "frontend/transport/dgram_pool.h"
#include "frontend/transport/echo.h"
#include "frontend/transport/ip_family.h"
#include "frontend/transport/probe_socket.h"

enum {
	SEQUENCE_AT = 6, /* in the ICMP header, RFC 792, RFC 4443 4.1 */
	SEQUENCES = 65536,
	/* Of one socket: so a free one is always near a random one. */
	SEQUENCES_MAX = SEQUENCES / 2,
	HOP_LIMIT_INVALID = 256,
};

/* Before Linux 5.18 IPv6 ping sockets ignore control messages, and with them the hop limit: all
 * probes would get to the destination. A hop limit that is out of range shows it. */
static bool obeys_hop_limit(int fd)
{
	const struct in6_addr loopback = IN6ADDR_LOOPBACK_INIT;
	const int hop_limit = HOP_LIMIT_INVALID;
	struct sockaddr_in6 destination = {.sin6_family = AF_INET6, .sin6_addr = loopback};
	uint8_t header[WIRE_ICMP_HEADER_BYTES] = {wire_family(6)->echo_request};
	struct iovec part = {header, sizeof(header)};
	_Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(hop_limit))] = {0};
	struct mmsghdr message = {.msg_hdr = {
					  .msg_name = &destination,
					  .msg_namelen = sizeof(destination),
					  .msg_iov = &part,
					  .msg_iovlen = 1,
					  .msg_control = control,
					  .msg_controllen = sizeof(control),
				  }};
	struct cmsghdr *c = CMSG_FIRSTHDR(&message.msg_hdr);

	*c = (struct cmsghdr){CMSG_LEN(sizeof(hop_limit)), IPPROTO_IPV6, IPV6_HOPLIMIT};
	memcpy(CMSG_DATA(c), &hop_limit, sizeof(hop_limit));
	return sendmmsg(fd, &message, 1, MSG_DONTWAIT) < 0 && errno == EINVAL;
}

static uint32_t features(void)
{
	const uint32_t icmp6 = (uint32_t)FEATURE_ICMP << FEATURE_IPV6_SHIFT;
	uint32_t found = probe_socket_features(IPPROTO_ICMP, FEATURE_ICMP);
	int fd = probe_socket_open(6, IPPROTO_ICMP);

	if (fd < 0)
		return found;
	if (!obeys_hop_limit(fd))
		found &= ~icmp6;
	close(fd);
	return found;
}

/* A random one, or the next that is free. */
static uint16_t choose_sequence(struct dgram_pool *pool, struct dgram_socket *socket,
				const struct probe_request *request)
{
	uint16_t sequence;

	if (socket->numbers_taken == NULL)
		socket->numbers_taken = calloc(SEQUENCES / 8, 1);
	if (socket->numbers_taken == NULL)
		err(EXIT_FAILURE, "memory for ICMP probes");
	uint8_t *taken = socket->numbers_taken;

	random_bytes(&sequence, sizeof(sequence));
	while (taken[sequence / 8] & 1u << sequence % 8 ||
	       dgram_table_has(&pool->table, socket, request->destination, sequence))
		sequence++;
	taken[sequence / 8] |= (uint8_t)(1u << sequence % 8);
	if (dgram_pool_count_number(socket, SEQUENCES_MAX) + 1 == SEQUENCES_MAX)
		memset(taken, 0, SEQUENCES / 8);
	return sequence;
}

static void write_header(struct dgram_probe *probe)
{
	const struct probe_request *request = &probe->request;

	memset(probe->header, 0, sizeof(probe->header));
	probe->header[0] = wire_family(request->family)->echo_request;
	wire_put16(probe->header + SEQUENCE_AT, probe->number);
	if (request->flags & REQUEST_FLOW)
		echo_keep_checksum(request, probe->number, dgram_payload_bytes(request),
				   probe->nonce);
}

static bool read_shown(struct dgram_shown *shown, uint8_t family, bool is_error)
{
	const uint8_t *header = shown->payload;

	if (shown->payload_bytes < WIRE_ICMP_HEADER_BYTES)
		return false;
	if (!is_error && header[0] != wire_family(family)->echo_reply)
		return false;
	shown->number = wire_get16(header + SEQUENCE_AT);
	shown->payload += WIRE_ICMP_HEADER_BYTES;
	shown->payload_bytes -= WIRE_ICMP_HEADER_BYTES;
	/* Other users can send replies with this identifier, but do not know the nonce. */
	shown->is_whole = !is_error;
	return true;
}

void ping_open(struct way *way, int epoll_fd, const struct transport_sink *sink)
{
	static const struct dgram_protocol ping = {
		features,
		choose_sequence,
		write_header,
		read_shown,
	};

	dgram_open(way, epoll_fd, &ping, sink);
}
