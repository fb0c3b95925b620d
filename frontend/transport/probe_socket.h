/*
 * Ordinary sockets that send probes and are told of ICMP errors about them. Runs in the front end.
 */
#ifndef POSTERN_FRONTEND_TRANSPORT_PROBE_SOCKET_H
#define POSTERN_FRONTEND_TRANSPORT_PROBE_SOCKET_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <time.h>
#include <linux/errqueue.h> /* needs time.h before it */

#include "frontend/transport/transport.h"

enum {
	/* For the control messages of one error: the error with its offender, and a time stamp. */
	ERROR_CONTROL_BYTES = 256,
	/* An ICMPv6 error is at most 1,280 bytes (RFC 4443 2.4). */
	ERROR_DATA_BYTES = 1280,
};

/* Opens a non-blocking socket for IPPROTO_UDP, _TCP or, in either family, _ICMP. Returns a
 * descriptor or a negative errno. */
int probe_socket_open(uint8_t family, uint8_t protocol);

/* Descriptors from this number on are not for probes: look-ups need one (local_route.h). Call it
 * before the process enters its sandbox. */
int probe_socket_fd_limit(void);

/* In which families a socket for `protocol` can be opened, as `feature` and as `feature` shifted
 * for IPv6, and FEATURE_MARK if this process may set marks (enum hello_features). */
uint32_t probe_socket_features(uint8_t protocol, uint32_t feature);

/* Sets a socket option that is an int. Returns 0 or an errno. */
int probe_socket_set(int fd, int level, int option, uint32_t value);

/* Gives a socket that is not bound yet the interface, mark, TOS and source address that the probe
 * asks for. Returns 0 or an errno. */
int probe_socket_set_up(int fd, const struct probe_request *request);

/* What a received message says beside its data. */
struct probe_socket_error {
	const struct sock_extended_err *error; /* in the message; NULL: it has none */
	int64_t received_wall_ns;              /* the kernel's stamp */
	uint8_t reply_ttl;                     /* on arrival; 0: the socket was not asked for it */
};

struct probe_socket_error probe_socket_error(struct msghdr *message);

/* Fills in all of a result that an ICMP error tells, but for cookie and round-trip time. `data` is
 * the message's: the quoted packet without its first `headers_bytes`, and extensions, which are
 * decoded into *extension. */
void probe_socket_icmp(const struct probe_socket_error *found, size_t headers_bytes,
		       const uint8_t *data, size_t length, struct extension_info *extension,
		       struct probe_result *result);

#endif
