/*
 * What a request line says. Pure functions on hostile bytes, without allocation; runs in the packet
 * front end. Interface names come back as text, because resolving them needs the kernel.
 */
#ifndef POSTERN_FRONTEND_PACKET_REQUEST_H
#define POSTERN_FRONTEND_PACKET_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "common/record.h"
#include "frontend/packet_line.h"

enum {
	/* Name and value pairs in one line; the protocol's limit. */
	REQUEST_ARGUMENTS = 16,
	/* "-2147483648": a token without leading zeros is never longer. */
	TOKEN_BYTES = 11,
};

/* The client's number for a request, as it came. */
struct token {
	uint8_t length;
	char bytes[TOKEN_BYTES];
};

/* Why a request is invalid, in two parts that make one word: "ttl" and "out-of-range". */
struct fault {
	const char *argument; /* NULL: `what` alone */
	const char *what;     /* NULL: no fault */
};

enum request_kind {
	REQUEST_PARSE_ERROR,     /* no token to answer to */
	REQUEST_UNKNOWN_COMMAND, /* token */
	REQUEST_INVALID,         /* token, fault */
	REQUEST_CHECK_SUPPORT,   /* token, feature */
	REQUEST_PROBE,           /* token and all below feature */
};

struct request {
	struct token token;
	struct fault fault;
	struct text feature;
	struct record_probe probe; /* cookie and ifindex not yet set; source zero: by route */
	struct text device;        /* local-device, length 0: none */
	struct text scope;         /* what followed % in the destination, length 0: nothing */
	int64_t timeout_ns;
	bool details;
	uint8_t families; /* which of ip-4, ip-6 were given: used while parsing */
	uint8_t sources;  /* which of local-ip-4, local-ip-6 */
};

enum { REQUEST_DEFAULT_TIMEOUT_S = 10 };

/* Fills *request; its texts point into `line`. */
enum request_kind request_parse(struct text line, struct request *request);

#endif
