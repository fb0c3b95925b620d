/*
 * The name that the end of a probe has in the text protocol: from a result or an errno to a reply
 * status. Pure functions; run in mtr-packet.
 */
#ifndef POSTERN_FRONTEND_MTR_PACKET_REPLY_STATUS_H
#define POSTERN_FRONTEND_MTR_PACKET_REPLY_STATUS_H

#include <stdbool.h>

#include "frontend/transport/transport.h"

/* The version of mtr whose names are used. */
enum compat {
	COMPAT_0_95,
	COMPAT_0_96,
};

enum reply_status {
	STATUS_REPLY,
	STATUS_TTL_EXPIRED,
	STATUS_PACKET_TOO_BIG,
	STATUS_NO_ROUTE,
	STATUS_NO_ROUTE_HOST,
	STATUS_NO_ROUTE_NETWORK,
	STATUS_HOST_DOWN,
	STATUS_NETWORK_DOWN,
	STATUS_NO_REPLY,
	STATUS_PERMISSION_DENIED,
	STATUS_ADDRESS_IN_USE,
	STATUS_ADDRESS_NOT_AVAILABLE,
	STATUS_INVALID_ARGUMENT,
	STATUS_UNEXPECTED_ERROR,
};

/* The name in the protocol. */
const char *reply_status_name(enum reply_status status);

/* For a RESULT_REPLY or RESULT_ICMP. */
enum reply_status reply_status_of_answer(const struct probe_request *probe,
					 const struct probe_result *result, enum compat compat);

/* For a RESULT_FAILED whose errno is not temporary. */
enum reply_status reply_status_of_errno(const struct probe_request *probe, int error,
					enum compat compat);

/* A router refuses an IPv6 probe for its size, and the probe may be fragmented. The kernel has
 * learnt the path MTU from the same ICMP error (RFC 8201) and fragments when it is sent again. */
bool needs_fragments(const struct probe_request *probe, const struct probe_result *result);

#endif
