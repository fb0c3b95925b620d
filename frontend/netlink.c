/*
 * rtnetlink plumbing (RFC 3549): builds one question, sends it, reads its answer, finds attributes.
 * Runs in the front end, before and after its confinement. It knows lengths, not meanings, and
 * believes none of them before they are checked against what was received.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "frontend/netlink.h"

int netlink_open(uint32_t groups)
{
	const struct sockaddr_nl self = {.nl_family = AF_NETLINK, .nl_groups = groups};
	const struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
	int saved;

	if (fd < 0)
		return -1;
	/* Connected to the kernel, nobody else's messages are accepted. */
	if (bind(fd, (const struct sockaddr *)&self, sizeof self) == 0 &&
	    connect(fd, (const struct sockaddr *)&kernel, sizeof kernel) == 0)
		return fd;
	saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

static struct nlmsghdr *header(struct netlink_question *question)
{
	return (struct nlmsghdr *)question->bytes;
}

void *netlink_begin(struct netlink_question *question, uint16_t type, size_t size)
{
	memset(question, 0, sizeof *question);
	header(question)->nlmsg_type = type;
	header(question)->nlmsg_flags = NLM_F_REQUEST;
	header(question)->nlmsg_len = (uint32_t)NLMSG_SPACE(size);
	return NLMSG_DATA(header(question));
}

void netlink_put(struct netlink_question *question, uint16_t type, const void *value, size_t size)
{
	size_t length = header(question)->nlmsg_len;
	struct rtattr *attribute = (struct rtattr *)(void *)(question->bytes + length);

	attribute->rta_type = type;
	attribute->rta_len = (uint16_t)RTA_LENGTH(size);
	memcpy(RTA_DATA(attribute), value, size);
	header(question)->nlmsg_len = (uint32_t)(length + RTA_SPACE(size));
}

void netlink_put32(struct netlink_question *question, uint16_t type, uint32_t value)
{
	netlink_put(question, type, &value, sizeof value);
}

/* Whether a received message of `length` bytes answers question `sequence`: 0 and *done, or the
 * errno it carries. Answers to earlier questions, given up half-way, are passed over. */
static int judge(const struct nlmsghdr *answer, size_t length, uint32_t sequence, uint16_t expected,
		 bool *done)
{
	struct nlmsgerr error;

	*done = false;
	if (length < sizeof *answer || answer->nlmsg_len < sizeof *answer ||
	    answer->nlmsg_len > length)
		return EBADMSG;
	if (answer->nlmsg_seq != sequence)
		return 0;
	*done = true;
	if (answer->nlmsg_type == expected)
		return 0;
	if (answer->nlmsg_type != NLMSG_ERROR || answer->nlmsg_len < NLMSG_LENGTH(sizeof error))
		return EBADMSG;
	memcpy(&error, NLMSG_DATA(answer), sizeof error);
	return error.error != 0 ? -error.error : EBADMSG;
}

int netlink_ask(int fd, struct netlink_question *question, uint16_t expected,
		struct nlmsghdr *answer)
{
	static uint32_t sequence;
	bool done = false;
	int error = 0;

	header(question)->nlmsg_seq = ++sequence;
	if (send(fd, question, header(question)->nlmsg_len, 0) < 0)
		return errno;
	/* The kernel has queued its answer before send() returns: nothing to wait for. */
	while (error == 0 && !done) {
		ssize_t length = recv(fd, answer, NETLINK_ANSWER_BYTES, MSG_TRUNC);

		if (length < 0 && errno == EINTR)
			continue;
		if (length < 0)
			return errno;
		if (length > NETLINK_ANSWER_BYTES)
			return EMSGSIZE;
		error = judge(answer, (size_t)length, sequence, expected, &done);
	}
	return error;
}

const void *netlink_head(const struct nlmsghdr *answer, size_t size)
{
	return answer->nlmsg_len < NLMSG_LENGTH(size) ? NULL : NLMSG_DATA(answer);
}

static void find(const uint8_t *bytes, size_t length, struct netlink_attributes *attributes)
{
	memset(attributes->table, 0, attributes->size * sizeof attributes->table[0]);
	while (length >= sizeof(struct rtattr)) {
		const struct rtattr *attribute = (const struct rtattr *)(const void *)bytes;
		size_t type = attribute->rta_type & (size_t)NLA_TYPE_MASK;
		size_t step = RTA_ALIGN((size_t)attribute->rta_len);

		if (attribute->rta_len < sizeof *attribute || attribute->rta_len > length)
			return;
		if (type < attributes->size)
			attributes->table[type] = attribute;
		if (step >= length)
			return;
		bytes += step;
		length -= step;
	}
}

void netlink_attributes(const struct nlmsghdr *answer, size_t size,
			struct netlink_attributes *attributes)
{
	size_t offset = NLMSG_SPACE(size);
	size_t length = answer->nlmsg_len > offset ? answer->nlmsg_len - offset : 0;

	find((const uint8_t *)answer + offset, length, attributes);
}

void netlink_nested(const struct rtattr *outer, struct netlink_attributes *attributes)
{
	find(RTA_DATA(outer), RTA_PAYLOAD(outer), attributes);
}

bool netlink_value(const struct netlink_attributes *attributes, uint16_t type, void *value,
		   size_t size)
{
	const struct rtattr *attribute = type < attributes->size ? attributes->table[type] : NULL;

	if (attribute == NULL || RTA_PAYLOAD(attribute) < size)
		return false;
	memcpy(value, RTA_DATA(attribute), size);
	return true;
}
