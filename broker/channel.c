/*
 * The broker's end of the channel: reads messages, queues and sends records. Runs in the broker and
 * distrusts the peer, which may be any program with a socketpair. Lengths are checked here, what
 * the records say by policy/validate.c.
 */
#include "broker/channel.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broker/fatal.h"
#include "policy/descriptors.h"

enum {
	QUEUE_BYTES = RECORD_BATCH * sizeof(struct record_long_answer),
	/* A batch of short answers. Six long ones fit as well. */
	MESSAGE_BYTES = RECORD_BATCH * sizeof(struct record_answer),
};

static uint8_t queue[QUEUE_BYTES];
static size_t queue_begin, queue_end;

/* False if the front end must read first. Not sendmsg(2), which could pass a raw socket to another
 * process. */
static bool send_message(const void *bytes, size_t length)
{
	if (send(DESC_CHANNEL, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
		return true;
	if (errno == EAGAIN || errno == ENOBUFS)
		return false;
	_exit(0); /* the front end has closed the channel */
}

size_t channel_read(const struct record_probe **requests)
{
	static struct record_probe incoming[RECORD_BATCH];
	struct iovec piece = {.iov_base = incoming, .iov_len = sizeof(incoming)};
	/* No room for control data: the kernel closes a passed descriptor and sets MSG_CTRUNC. */
	struct mmsghdr message = {.msg_hdr = {.msg_iov = &piece, .msg_iovlen = 1}};
	/* recvmmsg, as for the raw sockets: the filter then allows no other call for reading. */
	int count = recvmmsg(DESC_CHANNEL, &message, 1, MSG_DONTWAIT, NULL);

	if (count < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if ((message.msg_hdr.msg_flags & MSG_CTRUNC) != 0)
		fatal(FATAL_BAD_REQUEST, "the front end sent ancillary data", 0, NULL);
	if (count < 0 && errno != ECONNRESET)
		fatal(FATAL_SYSTEM, "read from the channel", errno, NULL);
	if (count < 0 || message.msg_len == 0)
		_exit(0); /* the front end has closed the channel */
	if ((message.msg_hdr.msg_flags & MSG_TRUNC) != 0 || message.msg_len % sizeof(incoming[0]))
		fatal(FATAL_BAD_REQUEST, "the front end sent a message of a wrong length", 0, NULL);
	*requests = incoming;
	return message.msg_len / sizeof(incoming[0]);
}

void channel_queue(const void *record, size_t bytes)
{
	if (bytes > sizeof(queue) - queue_end)
		fatal(FATAL_SYSTEM, "the queue of the channel is full", 0, NULL);
	memcpy(queue + queue_end, record, bytes);
	queue_end += bytes;
}

bool channel_flush(void)
{
	while (queue_begin < queue_end) {
		/* Records of one kind make a message. */
		uint8_t kind = queue[queue_begin];
		size_t each = kind == RECORD_LONG_ANSWER ? sizeof(struct record_long_answer)
							 : sizeof(struct record_answer);
		size_t end = queue_begin + each;
		while (end < queue_end && queue[end] == kind &&
		       end + each <= queue_begin + MESSAGE_BYTES)
			end += each;
		if (!send_message(queue + queue_begin, end - queue_begin))
			return false;
		queue_begin = end;
	}
	queue_begin = 0;
	queue_end = 0;
	return true;
}
