/*
 * Questions to the kernel over rtnetlink (RFC 3549), one at a time, each answered before the call
 * returns. Needs no privilege. Runs in the front end; distrusts only message lengths.
 */
#ifndef POSTERN_FRONTEND_NETLINK_H
#define POSTERN_FRONTEND_NETLINK_H

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	/* Far more than any question of this program needs. */
	NETLINK_QUESTION_BYTES = 512,
	/* A link with all its attributes but statistics takes 2 to 3 KiB; a message that does not
	 * fit is refused with EMSGSIZE. */
	NETLINK_ANSWER_BYTES = 16384,
};

struct netlink_question {
	_Alignas(struct nlmsghdr) uint8_t bytes[NETLINK_QUESTION_BYTES];
};

/* Attributes of an answer by their type, NULL where absent; they live as long as the answer. */
struct netlink_attributes {
	const struct rtattr **table;
	size_t size; /* types from 0 to size − 1 are kept */
};

/* A socket that only the kernel can send to, subscribed to the multicast groups whose bits
 * (1 << (RTNLGRP_… − 1)) are set; −1 and errno. */
int netlink_open(uint32_t groups);

/* Begins a question: the message's type and its fixed header of `size` bytes, all zero; returns
 * that header for the caller to fill in. */
void *netlink_begin(struct netlink_question *question, uint16_t type, size_t size);
/* Appends an attribute. The caller never asks more than NETLINK_QUESTION_BYTES hold. */
void netlink_put(struct netlink_question *question, uint16_t type, const void *value, size_t size);
void netlink_put32(struct netlink_question *question, uint16_t type, uint32_t value);

/* Sends the question and reads its answer, of the message type `expected`, into `answer`
 * (NETLINK_ANSWER_BYTES, aligned as the header). Returns 0 or an errno: the kernel's own, or what
 * went wrong on the way. */
int netlink_ask(int fd, struct netlink_question *question, uint16_t expected,
		struct nlmsghdr *answer);

/* The fixed header of an answer; NULL if it is shorter than `size`. */
const void *netlink_head(const struct nlmsghdr *answer, size_t size);
/* Finds the attributes behind a fixed header of `size` bytes, or inside another attribute. */
void netlink_attributes(const struct nlmsghdr *answer, size_t size,
			struct netlink_attributes *attributes);
void netlink_nested(const struct rtattr *outer, struct netlink_attributes *attributes);

/* Copies an attribute's value if it is there with at least `size` bytes. */
bool netlink_value(const struct netlink_attributes *attributes, uint16_t type, void *value,
		   size_t size);

#endif
