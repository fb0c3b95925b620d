/*
 * Messages through sockets by direct system calls. Runs on both sides; it reads no byte of a
 * message but the lengths of its control messages, which the kernel wrote.
 */
#include "common/message.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

int message_send_many(int socket, struct mmsghdr *messages, unsigned int count, int flags)
{
	return (int)syscall(SYS_sendmmsg, socket, messages, count, flags);
}

int message_receive_many(int socket, struct mmsghdr *messages, unsigned int count, int flags)
{
	return (int)syscall(SYS_recvmmsg, socket, messages, count, flags, NULL);
}

struct cmsghdr *message_next_control(const struct msghdr *message, struct cmsghdr *at)
{
	uint8_t *here = (uint8_t *)at;
	const uint8_t *end = (const uint8_t *)message->msg_control + message->msg_controllen;
	size_t room = (size_t)(end - here);
	size_t step = CMSG_ALIGN((size_t)at->cmsg_len);

	if (at->cmsg_len < sizeof(*at) || step > room || room - step < sizeof(*at))
		return NULL;
	return (struct cmsghdr *)(void *)(here + step);
}
