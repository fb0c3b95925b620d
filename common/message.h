/*
 * Messages through sockets, as the kernel takes and gives them, whichever C library a program is
 * linked with. Used by both sides.
 *
 * The kernel's lengths (msg_iovlen, msg_controllen, cmsg_len) have 64 bits where musl's, as POSIX
 * wants them, have 32, and padding beside them. musl's own sendmmsg(3) and recvmmsg(3) set that
 * padding to zero and, for sending, make one system call for each message. These do neither: so a
 * struct msghdr and a struct cmsghdr must be initialised as a whole, never member by member.
 */
#ifndef POSTERN_COMMON_MESSAGE_H
#define POSTERN_COMMON_MESSAGE_H

#include <sys/socket.h>

/* sendmmsg(2): one system call. Returns how many left, or −1 with errno if none did. */
int message_send_many(int socket, struct mmsghdr *messages, unsigned int count, int flags);

/* recvmmsg(2), without a time limit. Returns how many came, or −1 with errno if none did. */
int message_receive_many(int socket, struct mmsghdr *messages, unsigned int count, int flags);

/* CMSG_NXTHDR(3) on a message that was received, which musl's headers have with mixed signs: the
 * control message behind `at`, or NULL. */
struct cmsghdr *message_next_control(const struct msghdr *message, struct cmsghdr *at);

#endif
