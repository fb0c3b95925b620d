/*
 * The way probes leave the front end and answers come back. Runs in the unprivileged front end. The
 * commands (mtr-packet, tracepath) know only this interface. Behind it, chosen by protocol:
 *
 *      UDP     ordinary sockets with an error queue    udp.c
 *      TCP     non-blocking connect()                  tcp.c
 *      ICMP    the broker; where there is none,        broker_link.c
 *              ping sockets with an error queue        ping.c
 *      SCTP    the broker                              broker_link.c
 *
 * One descriptor to poll, no threads, no blocking call after transport_open(). Everything a
 * transport has to report comes through the sink's functions, from within transport_dispatch()
 * only.
 */
#ifndef POSTERN_FRONTEND_TRANSPORT_TRANSPORT_H
#define POSTERN_FRONTEND_TRANSPORT_TRANSPORT_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/hello.h"
#include "frontend/transport/extension.h"

enum {
	/* UDP flows that differ though the destination port is fixed. Those of TCP, and of UDP and
	 * ICMP otherwise, are 4096 and more. */
	TRANSPORT_ONE_PORT_FLOWS = 64,
	/* Probes open at once; the low 16 bits of a cookie name the slot. */
	TRANSPORT_SLOTS = 65536,
};

/* What works, beside the bits of enum hello_features in common/hello.h. */
enum transport_features {
	FEATURE_UDP = 1u << 1,
	FEATURE_TCP = 1u << 2,
	FEATURE_PROTOCOLS = FEATURE_ICMP | FEATURE_UDP | FEATURE_TCP | FEATURE_SCTP,
};

enum request_flags {
	REQUEST_DONT_FRAGMENT = 1u << 0, /* never fragmented, path MTU cache ignored */
	REQUEST_MARK = 1u << 1,          /* `mark` is the routing mark */
	REQUEST_FLOW = 1u << 2, /* `flow` chooses one path through per-flow load balancing */
};

/* One probe to send, the same for every way. Addresses are in network byte order, an IPv4 address
 * in the first four bytes and the rest zero. */
struct probe_request {
	uint32_t cookie;      /* comes back with the result; low 16 bits: the slot */
	uint8_t family;       /* 4 or 6 */
	uint8_t protocol;     /* IPPROTO_ICMP for echo in either family, _UDP, _TCP, _SCTP */
	uint8_t ttl;          /* 1..255 */
	uint8_t tos;          /* traffic class */
	uint8_t payload_byte; /* fills the payload; 0: its first eight bytes may be a nonce */
	bool random_payload;  /* the pattern asked for was negative ("random"): a nonce is allowed,
				 too */
	uint16_t flags;       /* enum request_flags */
	uint16_t size_bytes;  /* whole packet, IP header included; less than the headers: just those
			       */
	uint16_t port;        /* destination port; 0: UDP: 33434 and up, changing; ICMP: none */
	uint16_t local_port;  /* UDP: 1024..65535; 0: the kernel's choice */
	uint32_t ifindex; /* send through this interface, and scope of a link-local destination; 0:
			     by route */
	uint32_t mark;    /* with REQUEST_MARK */
	uint32_t flow;    /* with REQUEST_FLOW */
	uint8_t destination[16];
	uint8_t source[16]; /* all zero: the kernel chooses */
};

enum result_kind {
	/* The destination answered in the probe's own protocol: echo reply, UDP datagram, open or
	 * refused TCP port, INIT-ACK or ABORT. */
	RESULT_REPLY = 1,
	/* An ICMP error about the probe: icmp_type and icmp_code are those of the family. */
	RESULT_ICMP = 2,
	/* Nothing was sent: `error` is the errno. After a temporary one
	 * (transport_error_passes) the caller sends again. EAGAIN is also the error of a probe
	 * whose answer can no longer arrive since the broker has died. */
	RESULT_FAILED = 3,
	/* The probe was lost: an answer that still comes could not be told from one to its
	 * repetition (TCP). */
	RESULT_LOST = 4,
};

enum result_known {
	KNOWN_REPLY_TTL = 1u << 0,  /* reply_ttl is set */
	KNOWN_QUOTED_TTL = 1u << 1, /* quoted_ttl and quoted_tos are set: only over the broker,
				       since an error queue does not show the quoted IP header */
	KNOWN_ICMP = 1u << 2,       /* icmp_type and icmp_code are set: with RESULT_ICMP always */
};

/* How a probe ended. */
struct probe_result {
	uint32_t cookie;
	enum result_kind kind;
	uint8_t known; /* enum result_known */
	uint8_t icmp_type;
	uint8_t icmp_code;
	uint8_t reply_ttl;          /* TTL of the answer on arrival */
	uint8_t quoted_ttl;         /* TTL of the probe as quoted */
	uint8_t quoted_tos;         /* TOS of the probe as quoted */
	int error;                  /* errno, RESULT_FAILED */
	int64_t rtt_ns;             /* kernel receive time minus send time, 0 or more */
	uint8_t responder[16];      /* who sent the answer */
	uint32_t responder_ifindex; /* scope of a link-local responder, otherwise 0 */
	uint32_t mtu_bytes;         /* next-hop MTU: ICMPv4 3/4 (RFC 1191), ICMPv6 2 (RFC 4443) */
	const struct extension_info *extension; /* RFC 4884; NULL: none; valid during the call */
};

/* Whether an errno of RESULT_FAILED passes by itself, for lack of buffers or descriptors: the
 * caller sends again. */
static inline bool transport_error_passes(int error)
{
	return error == EAGAIN || error == ENOBUFS || error == ENOMEM || error == EINTR ||
	       error == EMFILE || error == ENFILE;
}

struct transport;

struct transport_sink {
	void *context; /* passed to each function below */
	/* Once, before any result: what works (enum hello_features in common/hello.h). */
	void (*ready)(void *context, uint32_t features);
	/* A probe ended. The cookie may be one that was cancelled meanwhile: ignore it then. */
	void (*result)(void *context, const struct probe_result *result);
	/* A way is gone (the broker died or could not start), once for each: `lost` has the
	 * features that no longer work (enum hello_features; none of those that another way
	 * serves), `error` is the errno for every open and every later probe of these, `why` one
	 * line without newline for the user. May come before or after ready(). */
	void (*down)(void *context, uint32_t lost, int error, const char *why);
};

struct transport_options {
	const char
		*broker_path; /* where the broker is; NULL: beside this program, or as installed */
	bool without_broker;  /* UDP and TCP are all that will be asked for: start none */
};

/* Starts the transports. Never NULL: what goes wrong, even at start, is reported through sink->down
 * at the first dispatch; the process ends if there is no memory. The caller keeps `sink` alive
 * until transport_close(). */
struct transport *transport_open(const struct transport_options *options,
				 const struct transport_sink *sink);
/* Closes all sockets and waits for the broker to end. */
void transport_close(struct transport *transport);

/* The descriptor to poll for POLLIN (an epoll instance: it has all others in it). */
int transport_fd(const struct transport *transport);

/* When transport_dispatch() is to be called at the latest though nothing has arrived, in
 * CLOCK_MONOTONIC nanoseconds; INT64_MAX: no such time. */
int64_t transport_next_ns(const struct transport *transport);

/* Queues a probe; it leaves at transport_flush(). At most TRANSPORT_SLOTS probes may be open: the
 * cookie's low 16 bits name a slot of the caller's that is free. Before ready() probes are kept. */
void transport_probe(struct transport *transport, const struct probe_request *request);

/* After ready(): whether a probe leaves by the broker's sockets, not by those of this process. */
bool transport_uses_broker(const struct transport *transport, const struct probe_request *request);

/* Forgets a probe: no result for this cookie is wanted any more and its slot is free again. Unknown
 * or answered cookies are ignored. */
void transport_cancel(struct transport *transport, uint32_t cookie);

/* Sends what is queued as far as the kernel takes it now; the rest leaves in a later call. */
void transport_flush(struct transport *transport);

/* Reads what has arrived and calls the sink; returns when nothing is left or about `most_results`
 * were reported. Call it when poll() or transport_next_ns() says so, and once after
 * transport_open(). */
void transport_dispatch(struct transport *transport, size_t most_results);

#endif
