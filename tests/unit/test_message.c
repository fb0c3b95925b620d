/*
 * Messages as the kernel takes and gives them: several in one system call, and the walk over
 * control messages, whose lengths are the kernel's.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/message.h"

enum {
	MESSAGES = 4,
	BYTES = 16,
};

static int ends[2];
static uint8_t bytes[MESSAGES][BYTES];
static struct iovec pieces[MESSAGES];
static struct mmsghdr messages[MESSAGES];

static void open_pair(void)
{
	cr_assert_eq(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends), 0);
	for (int i = 0; i < MESSAGES; i++) {
		memset(bytes[i], 'a' + i, BYTES);
		pieces[i] = (struct iovec){bytes[i], (size_t)i + 1};
		messages[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &pieces[i], .msg_iovlen = 1}};
	}
}

TestSuite(message, .init = open_pair);

Test(message, several_at_once)
{
	cr_assert_eq(message_send_many(ends[0], messages, MESSAGES, MSG_DONTWAIT), MESSAGES);
	for (int i = 0; i < MESSAGES; i++) {
		memset(bytes[i], 0, BYTES);
		pieces[i].iov_len = BYTES;
	}
	cr_assert_eq(message_receive_many(ends[1], messages, MESSAGES, MSG_DONTWAIT), MESSAGES);
	for (int i = 0; i < MESSAGES; i++) {
		cr_expect_eq(messages[i].msg_len, (unsigned int)i + 1);
		cr_expect_eq(bytes[i][i], 'a' + i);
	}
}

Test(message, errors_are_told)
{
	cr_expect_eq(message_receive_many(ends[1], messages, MESSAGES, MSG_DONTWAIT), -1);
	cr_expect_eq(errno, EAGAIN);
	close(ends[1]);
	cr_expect_eq(message_send_many(ends[0], messages, 1, MSG_DONTWAIT | MSG_NOSIGNAL), -1);
	cr_expect_eq(errno, ECONNREFUSED);
}

static struct cmsghdr *put(uint8_t *at, int type, size_t data_bytes)
{
	struct cmsghdr header = {
		.cmsg_len = CMSG_LEN(data_bytes), .cmsg_level = SOL_SOCKET, .cmsg_type = type};

	memcpy(at, &header, sizeof(header));
	return (struct cmsghdr *)(void *)at;
}

Test(message, control_messages_one_by_one)
{
	_Alignas(struct cmsghdr) uint8_t control[256] = {0};
	const size_t sizes[] = {4, 8, 1, 0};
	struct msghdr message = {.msg_control = control};
	size_t end = 0;

	for (int i = 0; i < 4; i++) {
		put(control + end, i, sizes[i]);
		/* The kernel leaves out the padding behind the last. */
		message.msg_controllen = end + CMSG_LEN(sizes[i]);
		end += CMSG_SPACE(sizes[i]);
	}
	struct cmsghdr *at = CMSG_FIRSTHDR(&message);
	for (int i = 0; i < 4; i++, at = message_next_control(&message, at)) {
		cr_assert_not_null(at, "%d", i);
		cr_expect_eq(at->cmsg_type, i);
	}
	cr_expect_null(at);
}

/* Nothing behind the end is looked at, whatever a length says. */
Test(message, control_messages_that_lie)
{
	_Alignas(struct cmsghdr) uint8_t control[256] = {0};
	struct msghdr message = {.msg_control = control, .msg_controllen = CMSG_SPACE(4)};

	put(control + CMSG_SPACE(4), 1, 4);
	cr_expect_null(message_next_control(&message, put(control, 0, 4)), "behind the end");
	message.msg_controllen = CMSG_SPACE(4) + sizeof(struct cmsghdr) - 1;
	cr_expect_null(message_next_control(&message, put(control, 0, 4)), "half a header");
	message.msg_controllen = CMSG_SPACE(4) + sizeof(struct cmsghdr);
	cr_expect_not_null(message_next_control(&message, put(control, 0, 4)), "a whole header");
	struct cmsghdr *first = put(control, 0, 4);
	first->cmsg_len = 0;
	cr_expect_null(message_next_control(&message, first), "no length");
	first->cmsg_len = 4096;
	cr_expect_null(message_next_control(&message, first), "too long");
}
