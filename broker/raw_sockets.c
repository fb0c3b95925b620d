/*
 * The raw sockets after they have been opened. Runs in the broker, while it starts and after
 * lock-down; the descriptor numbers are those that the system-call filter allows.
 */
#include "broker/raw_sockets.h"

#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/socket.h>

#include "broker/fatal.h"
#include "policy/descriptors.h"

int sockets_raw(uint8_t family, uint8_t protocol, bool dont_fragment)
{
	int first = family == 4 ? DESC_ICMP4 : DESC_ICMP6;

	if (protocol == IPPROTO_SCTP)
		first = family == 4 ? DESC_SCTP4 : DESC_SCTP6;
	return first + dont_fragment;
}

void sockets_enable_receive(int fd)
{
	const struct sockaddr_in6 any6 = {.sin6_family = AF_INET6};
	const struct sockaddr_in any = {.sin_family = AF_INET};
	int error = fd == DESC_SCTP4 ? bind(fd, (const struct sockaddr *)&any, sizeof(any))
				     : bind(fd, (const struct sockaddr *)&any6, sizeof(any6));

	if (error != 0)
		fatal(FATAL_START, "have the SCTP socket receive", errno, NULL);
}
