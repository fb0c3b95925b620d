/*
 * Reads a request line of the text protocol. Pure functions without allocation on bytes of the
 * client, which is not trusted; run in mtr-packet. Interface names stay text: only the kernel knows
 * their indexes.
 */
#ifndef POSTERN_FRONTEND_MTR_PACKET_REQUEST_H
#define POSTERN_FRONTEND_MTR_PACKET_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "frontend/mtr_packet/line.h"
#include "frontend/transport/transport.h"

enum {
	/* Pairs of name and value in one line; the protocol's limit. */
	REQUEST_ARGUMENTS = 16,
	REQUEST_DEFAULT_TIMEOUT_S = 10,
	/* "-2147483648": no token without leading zeros is longer. */
	TOKEN_BYTES = 11,
};

/* The client's number for a request, as it came. */
struct token {
	uint8_t length;
	char bytes[TOKEN_BYTES];
};

/* Why a request is invalid: ARGUMENT-WHAT, as in ttl-out-of-range. `what` NULL: it is valid. */
struct fault {
	const char *argument;
	const char *what;
};

enum request_kind {
	REQUEST_PARSE_ERROR,     /* there is no token to reply to */
	REQUEST_UNKNOWN_COMMAND, /* token */
	REQUEST_INVALID,         /* token, fault, unknown */
	REQUEST_CHECK_SUPPORT,   /* token, feature */
	REQUEST_SEND_PROBE,      /* token and all below `feature` */
};

struct request {
	struct token token;
	struct fault fault;
	struct text feature;
	struct probe_request probe; /* all but cookie and ifindex */
	struct text device;         /* local-device; length 0: none */
	struct text scope;          /* what follows % in the destination; length 0: nothing */
	int64_t timeout_ns;
	bool details;
	uint8_t destinations; /* families of ip-4 and ip-6 in this line, one bit each */
	uint8_t sources;      /* the same of local-ip-4 and local-ip-6 */
	size_t unknown_count;
	struct text unknown[REQUEST_ARGUMENTS]; /* argument names that are ignored */
};

/* Fills *request. Its texts point into `line`. */
enum request_kind request_parse(struct text line, struct request *request);

#endif
