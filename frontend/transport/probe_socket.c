/*
 * Options and the error queue of ordinary sockets. Runs in the front end. The bytes behind an error
 * are what anyone may have sent; the error itself is the kernel's.
 */
#include "frontend/transport/probe_socket.h"

#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "common/record.h"
#include "common/wire.h"
#include "frontend/transport/icmp_types.h"
#include "frontend/process/clock.h"
#include "frontend/transport/ip_family.h"

enum {
	/* There is one look-up at a time. The rest is for what this process may have inherited. */
	LOOK_UP_FDS = 4,
};

int probe_socket_set(int fd, int level, int option, uint32_t value)
{
	return setsockopt(fd, level, option, &value, sizeof(value)) == 0 ? 0 : errno;
}

int probe_socket_open(uint8_t family, uint8_t protocol)
{
	const struct ip_family *ip = ip_family(family);
	int type = protocol == IPPROTO_TCP ? SOCK_STREAM : SOCK_DGRAM;
	int fd = socket(ip->domain, type | SOCK_NONBLOCK | SOCK_CLOEXEC,
			protocol == IPPROTO_ICMP ? ip->icmp : 0);

	return fd >= 0 ? fd : -errno;
}

int probe_socket_fd_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur > INT_MAX)
		return INT_MAX;
	return limit.rlim_cur < LOOK_UP_FDS ? 0 : (int)limit.rlim_cur - LOOK_UP_FDS;
}

uint32_t probe_socket_features(uint8_t protocol, uint32_t feature)
{
	uint32_t found = 0;

	for (uint8_t family = 4; family <= 6; family += 2) {
		int fd = probe_socket_open(family, protocol);
		if (fd < 0)
			continue;
		found |= family == 4 ? feature : feature << FEATURE_IPV6_SHIFT;
		if (probe_socket_set(fd, SOL_SOCKET, SO_MARK, 0) == 0)
			found |= FEATURE_MARK;
		close(fd);
	}
	return found;
}

static int bind_source(int fd, const struct probe_request *request)
{
	struct sockaddr_storage address;
	socklen_t length = ip_family_to_socket(request->family, request->source, 0,
					       request->ifindex, &address);

	/* connect() chooses the port then: it knows which are free for this destination. */
	int error = probe_socket_set(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
	if (error != 0)
		return error;
	return bind(fd, (struct sockaddr *)&address, length) == 0 ? 0 : errno;
}

int probe_socket_set_up(int fd, const struct probe_request *request)
{
	const struct ip_family *family = ip_family(request->family);

	int error = 0;
	/* A v4-mapped address would make an IPv4 packet. */
	if (request->family == 6)
		error = probe_socket_set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
	if (error == 0 && request->tos != 0)
		error = probe_socket_set(fd, family->level, family->tos, request->tos);
	if (error == 0 && request->ifindex != 0)
		error = probe_socket_set(fd, SOL_SOCKET, SO_BINDTOIFINDEX, request->ifindex);
	if (error == 0 && request->flags & REQUEST_MARK)
		error = probe_socket_set(fd, SOL_SOCKET, SO_MARK, request->mark);
	if (error == 0 && !ip_family_is_unspecified(request->source))
		error = bind_source(fd, request);
	return error;
}

struct probe_socket_error probe_socket_error(struct msghdr *message)
{
	struct probe_socket_error found = {0};

	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c != NULL; c = CMSG_NXTHDR(message, c)) {
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPNS) {
			struct timespec stamp;

			memcpy(&stamp, CMSG_DATA(c), sizeof(stamp));
			found.received_wall_ns = (int64_t)stamp.tv_sec * NS_PER_S + stamp.tv_nsec;
		} else if ((c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_RECVERR) ||
			   (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_RECVERR)) {
			found.error = (const struct sock_extended_err *)CMSG_DATA(c);
		} else if ((c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TTL) ||
			   (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_HOPLIMIT)) {
			int ttl;

			memcpy(&ttl, CMSG_DATA(c), sizeof(ttl));
			found.reply_ttl = (uint8_t)ttl;
		}
	}
	return found;
}

/* The kernel tells where they begin if the ICMP header does, and whether they are valid. */
static bool read_extension(const struct sock_extended_err *error, size_t headers_bytes,
			   const uint8_t *data, size_t length, struct extension_info *extension)
{
	const struct sock_ee_data_rfc4884 *place = &error->ee_rfc4884;

	return !(place->flags & SO_EE_RFC4884_FLAG_INVALID) &&
	       extension_find(data, length, headers_bytes, place->len, false, extension);
}

void probe_socket_icmp(const struct probe_socket_error *found, size_t headers_bytes,
		       const uint8_t *data, size_t length, struct extension_info *extension,
		       struct probe_result *result)
{
	const struct sock_extended_err *error = found->error;
	uint8_t family = error->ee_origin == SO_EE_ORIGIN_ICMP6 ? 6 : 4;
	bool too_big = icmp_is_too_big(family, error->ee_type, error->ee_code);

	result->kind = RESULT_ICMP;
	result->known |= KNOWN_ICMP;
	result->icmp_type = error->ee_type;
	result->icmp_code = error->ee_code;
	result->mtu_bytes = too_big ? error->ee_info : 0;
	result->responder_ifindex = ip_family_from_socket(SO_EE_OFFENDER(error), result->responder);
	if (found->reply_ttl != 0) {
		result->known |= KNOWN_REPLY_TTL;
		result->reply_ttl = found->reply_ttl;
	}
	if (icmp_is_extensible(family, error->ee_type) &&
	    read_extension(error, headers_bytes, data, length, extension))
		result->extension = extension;
}
