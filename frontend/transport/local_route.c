/*
 * Routes of this host by connected UDP sockets. Runs in the front end; asks only the kernel.
 */
#include "frontend/transport/local_route.h"

#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/wire.h"
#include "frontend/transport/ip_family.h"
#include "frontend/transport/probe_socket.h"

enum { PACKET_BYTES_MAX = 65535, UDP_HEADER_BYTES = 8 };

static uint32_t cached_mtu(int fd, const struct ip_family *family)
{
	int mtu = 0;
	socklen_t length = sizeof(mtu);

	return getsockopt(fd, family->level, family->mtu, &mtu, &length) == 0 ? (uint32_t)mtu : 0;
}

/* The MTU of the link, which is not the path MTU that the kernel may have cached. A packet that is
 * too long for the link makes an entry in the error queue that tells. With MSG_MORE one that fits
 * is not sent: it waits for the rest, which never comes. */
static uint32_t link_mtu(int fd, const struct ip_family *family, size_t header_bytes)
{
	static uint8_t payload[PACKET_BYTES_MAX]; /* zero */
	_Alignas(struct cmsghdr) uint8_t control[ERROR_CONTROL_BYTES];
	struct msghdr message = {.msg_control = control, .msg_controllen = sizeof(control)};

	if (probe_socket_set(fd, family->level, family->recverr, 1) != 0 ||
	    probe_socket_set(fd, family->level, family->mtu_discover, IP_PMTUDISC_PROBE) != 0 ||
	    send(fd, payload, sizeof(payload) - header_bytes, MSG_MORE | MSG_DONTWAIT) >= 0 ||
	    recvmsg(fd, &message, MSG_ERRQUEUE | MSG_DONTWAIT) < 0)
		return 0;
	const struct sock_extended_err *error = probe_socket_error(&message).error;
	return error && error->ee_errno == EMSGSIZE ? error->ee_info : 0;
}

static int ask(int fd, const struct probe_request *request, struct local_route *route)
{
	const struct ip_family *family = ip_family(request->family);
	const size_t header_bytes = wire_family(request->family)->header_bytes + UDP_HEADER_BYTES;
	struct sockaddr_storage address;
	socklen_t length;

	int error = probe_socket_set_up(fd, request);
	if (error != 0)
		return error;
	length = ip_family_to_socket(request->family, request->destination, request->port,
				     request->ifindex, &address);
	if (connect(fd, (struct sockaddr *)&address, length) != 0)
		return errno;
	length = sizeof(address);
	if (getsockname(fd, (struct sockaddr *)&address, &length) != 0)
		return errno;
	ip_family_from_socket((struct sockaddr *)&address, route->source);
	/* No packet is too long for the loopback device. */
	route->mtu_bytes = link_mtu(fd, family, header_bytes);
	if (route->mtu_bytes == 0)
		route->mtu_bytes = cached_mtu(fd, family);
	return 0;
}

int local_route(const struct probe_request *request, struct local_route *route)
{
	int fd = socket(ip_family(request->family)->domain, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return errno;
	int error = ask(fd, request, route);
	close(fd);
	return error;
}

uint32_t interface_index(const char *name, size_t length)
{
	struct ifreq request = {0};

	if (length == 0 || length >= sizeof(request.ifr_name))
		return 0;
	memcpy(request.ifr_name, name, length);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return 0;
	bool found = ioctl(fd, SIOCGIFINDEX, &request) == 0;
	close(fd);
	return found ? (uint32_t)request.ifr_ifindex : 0;
}
