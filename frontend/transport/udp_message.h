/*
 * UDP probes as messages of sendmmsg(2), and what recvmmsg(2) gives as answers. Runs in the front
 * end. Distrusts the payload of what is received; addresses and errors are the kernel's.
 */
#ifndef POSTERN_FRONTEND_TRANSPORT_UDP_MESSAGE_H
#define POSTERN_FRONTEND_TRANSPORT_UDP_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "frontend/transport/probe_socket.h"
#include "frontend/transport/udp_table.h"

enum {
	/* TTL, TOS, source address, mark and flow label. */
	UDP_SEND_CONTROL_BYTES = 160,
};

/* Memory that one message to send refers to. */
struct udp_outgoing {
	struct sockaddr_storage destination;
	struct iovec parts[2]; /* nonce, and what fills the payload */
	_Alignas(struct cmsghdr) uint8_t control[UDP_SEND_CONTROL_BYTES];
};

/* Memory that one message to be received refers to. */
struct udp_incoming {
	struct sockaddr_storage peer;
	struct iovec data_part;
	_Alignas(struct cmsghdr) uint8_t control[ERROR_CONTROL_BYTES];
	uint8_t data[ERROR_DATA_BYTES];
};

/* How many bytes a probe's IP and UDP header have. */
size_t udp_headers_bytes(const struct probe_request *request);

/* How many bytes of UDP payload a probe has. A flow's are never fewer than a nonce: nothing else
 * tells its probes apart. */
size_t udp_payload_bytes(const struct probe_request *request);

/* How many of them are the nonce. */
size_t udp_nonce_bytes(const struct probe_request *request);

/* Has the message send `probe`, whose port and nonce are chosen. `fill` has as many bytes as the
 * payload. Message and probe refer to each other's memory until it is sent. */
void udp_message_compose(struct msghdr *message, struct udp_outgoing *memory,
			 const struct udp_probe *probe, const uint8_t *fill, bool flow_label);

/* Prepares a message to be received into. */
void udp_message_prepare(struct msghdr *message, struct udp_incoming *memory);

#endif
