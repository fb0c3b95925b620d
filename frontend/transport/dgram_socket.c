/*
 * Opens the datagram sockets that probes leave by. Runs in the front end.
 */
#include "frontend/transport/dgram_socket.h"

#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/socket.h>
#include <unistd.h>

#include "frontend/transport/ip_family.h"
#include "frontend/transport/probe_socket.h"

enum {
	/* Holds 1,820 answers. The kernel grants less where net.core.rmem_max is lower. */
	RECEIVE_BUFFER_BYTES = 2 << 20,
	/* What the kernel counts for an ICMP error of full size (1,280 bytes), or one of any size
	 * in the half page that many drivers receive into. */
	ANSWER_BYTES = 2304,
};

enum when { ALWAYS, IF_KNOWN, WITHOUT_DF, WITH_DF };

static const struct option {
	uint8_t family; /* 0: both */
	enum when when;
	int level;
	int name;
	uint32_t value;
} options[] = {
	{0, ALWAYS, SOL_SOCKET, SO_TIMESTAMPNS, 1},
	{0, ALWAYS, SOL_SOCKET, SO_RCVBUF, RECEIVE_BUFFER_BYTES},
	{4, ALWAYS, IPPROTO_IP, IP_RECVERR, 1},
	{4, ALWAYS, IPPROTO_IP, IP_RECVTTL, 1},
	{4, IF_KNOWN, IPPROTO_IP, IP_RECVERR_RFC4884, 1}, /* since 5.9 */
	{4, WITHOUT_DF, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT},
	{4, WITH_DF, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE}, /* ignores the cached MTU */
	{6, ALWAYS, IPPROTO_IPV6, IPV6_V6ONLY, 1}, /* leaves the local port free in IPv4 */
	{6, ALWAYS, IPPROTO_IPV6, IPV6_RECVERR, 1},
	{6, ALWAYS, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1},
	{6, IF_KNOWN, IPPROTO_IPV6, IPV6_RECVERR_RFC4884, 1}, /* since 5.9 */
	{6, WITHOUT_DF, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DONT},
	{6, WITH_DF, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE},
	{6, WITH_DF, IPPROTO_IPV6, IPV6_DONTFRAG, 1},
};

static bool applies(const struct option *option, const struct dgram_kind *kind)
{
	if (option->family != 0 && option->family != kind->family)
		return false;
	return option->when != (kind->dont_fragment ? WITHOUT_DF : WITH_DF);
}

static int set_options(int fd, const struct dgram_kind *kind)
{
	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		const struct option *option = &options[i];

		if (!applies(option, kind))
			continue;
		int error = probe_socket_set(fd, option->level, option->name, option->value);
		if (error != 0 && option->when != IF_KNOWN)
			return -error;
	}
	return 0;
}

static int bind_local(int fd, const struct dgram_kind *kind)
{
	struct sockaddr_storage address;

	if (kind->ifindex != 0) {
		int error = probe_socket_set(fd, SOL_SOCKET, SO_BINDTOIFINDEX, kind->ifindex);
		if (error != 0)
			return -error;
	}
	socklen_t length = ip_family_to_socket(kind->family, kind->source, kind->local_port,
					       kind->ifindex, &address);
	return bind(fd, (const struct sockaddr *)&address, length) == 0 ? 0 : -errno;
}

static int read_back(int fd, uint32_t *answers_max, uint16_t *source_port)
{
	struct sockaddr_storage address;
	int buffer_bytes;
	socklen_t buffer_length = sizeof(buffer_bytes), address_length = sizeof(address);

	if (getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer_bytes, &buffer_length) != 0 ||
	    getsockname(fd, (struct sockaddr *)&address, &address_length) != 0)
		return -errno;
	*answers_max = (uint32_t)buffer_bytes / ANSWER_BYTES;
	if (*answers_max == 0)
		*answers_max = 1;
	*source_port = ip_family_port(&address);
	return 0;
}

int dgram_socket_open(const struct dgram_kind *kind, uint32_t *answers_max, uint16_t *source_port)
{
	int fd = probe_socket_open(kind->family, kind->protocol);

	if (fd < 0)
		return fd;
	int error = set_options(fd, kind);
	if (error == 0)
		error = bind_local(fd, kind);
	if (error == 0)
		error = read_back(fd, answers_max, source_port);
	if (error < 0)
		close(fd);
	return error < 0 ? error : fd;
}
