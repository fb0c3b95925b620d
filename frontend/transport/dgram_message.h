/*
 * UDP and ICMP echo probes as messages of sendmmsg(2), and what recvmmsg(2) gives as answers. Runs
 * in the front end. Distrusts the payload of what is received; addresses and errors are the
 * kernel's.
 */
#ifndef POSTERN_FRONTEND_TRANSPORT_DGRAM_MESSAGE_H
#define POSTERN_FRONTEND_TRANSPORT_DGRAM_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "frontend/transport/dgram_table.h"
#include "frontend/transport/probe_socket.h"

enum {
	/* TTL, TOS, source address, mark and flow label. */
	DGRAM_SEND_CONTROL_BYTES = 160,
};

/* Memory that one message to send refers to. */
struct dgram_outgoing {
	struct sockaddr_storage destination;
	struct iovec parts[3]; /* header, nonce, and what fills the payload */
	_Alignas(struct cmsghdr) uint8_t control[DGRAM_SEND_CONTROL_BYTES];
};

/* Memory that one message to be received refers to. */
struct dgram_incoming {
	struct sockaddr_storage peer;
	struct iovec data_part;
	_Alignas(struct cmsghdr) uint8_t control[ERROR_CONTROL_BYTES];
	uint8_t data[ERROR_DATA_BYTES];
};

/* How many bytes of a probe's headers its socket adds itself: all but an ICMP header. */
size_t dgram_hidden_bytes(const struct probe_request *request);

/* How many bytes of payload a probe has. A flow's are never fewer than a nonce: nothing else
 * tells its probes apart. */
size_t dgram_payload_bytes(const struct probe_request *request);

/* How many of them are the nonce. */
size_t dgram_nonce_bytes(const struct probe_request *request);

/* Has the message send `probe`, whose number, nonce and header are there. `fill` has as many bytes
 * as the payload. Message and probe refer to each other's memory until it is sent. */
void dgram_message_compose(struct msghdr *message, struct dgram_outgoing *memory,
			   const struct dgram_probe *probe, const uint8_t *fill, bool flow_label);

/* Prepares a message to be received into. */
void dgram_message_prepare(struct msghdr *message, struct dgram_incoming *memory);

#endif
