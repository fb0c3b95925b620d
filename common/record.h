/*
 * The channel between front end and broker: fixed-size records on an AF_UNIX SOCK_SEQPACKET
 * socketpair. Both sides compile this one description; the broker distrusts every byte it reads
 * through it, the front end distrusts only lengths.
 *
 * All integers are in host byte order, addresses in network byte order as the kernel keeps them
 * (an IPv4 address is the first four bytes, the other twelve are zero). Reserved bytes are zero,
 * and the broker ends if they are not. A message carries one or more records of one kind and
 * nothing else. Times are CLOCK_MONOTONIC nanoseconds.
 *
 *      broker -> front end    HELLO once, first of all; then EVENT and EVENT_EXT
 *      front end -> broker    PROBE, CANCEL
 */
#ifndef POSTERN_COMMON_RECORD_H
#define POSTERN_COMMON_RECORD_H

#include <stddef.h>
#include <stdint.h>

enum {
	/* Raised whenever a layout or a meaning below changes; both sides must agree exactly. */
	RECORD_VERSION = 1,
	/* Probes open at once in one broker; the low 16 bits of a cookie name the slot. */
	RECORD_SLOTS = 65536,
	/* Records in one message: enough to spread the cost of system calls and of waking the other
	 * side, few enough that the answers to as many probes, which this very host gives while
	 * they are sent, find room in a socket's buffer of the system's default size. */
	RECORD_BATCH = 256,
	/* An RFC 4884 extension structure is at most what fits behind the 128 quoted bytes in the
	 * 576 bytes that an ICMPv4 error may have (RFC 1812, 4.3.2.3), rounded up. Longer ones
	 * (IPv6 could carry them) are cut here and flagged EVENT_EXTENSION_CUT. */
	RECORD_EXTENSION_BYTES = 512,
};

enum record_kind {
	RECORD_HELLO = 1,
	RECORD_PROBE = 2,
	RECORD_CANCEL = 3,
	RECORD_EVENT = 4,
	RECORD_EVENT_EXT = 5,
};

/* What works in this broker on this machine. A protocol bit is shifted by its family's offset. */
enum hello_features {
	FEATURE_ICMP = 1u << 0,
	FEATURE_UDP = 1u << 1,
	FEATURE_TCP = 1u << 2,
	FEATURE_SCTP = 1u << 3,
	FEATURE_IPV6_SHIFT = 8, /* IPv4 bits as above, IPv6 bits shifted left by this */
	FEATURE_MARK = 1u << 16,
	FEATURE_DEVICE = 1u << 17,
	FEATURE_LOCAL_PORT = 1u << 18,
};

/* The first message of every broker: it has given up everything it could and is ready. */
struct record_hello {
	uint8_t kind; /* RECORD_HELLO */
	uint8_t reserved[3];
	uint32_t version;         /* RECORD_VERSION */
	uint32_t features;        /* enum hello_features */
	uint32_t slots;           /* probes that may be open at once */
	uint32_t batch;           /* records in one message at most */
	uint32_t extension_bytes; /* RECORD_EXTENSION_BYTES */
	uint32_t reserved2[2];
};
_Static_assert(sizeof(struct record_hello) == 32, "hello record layout");

enum probe_flags {
	PROBE_DONT_FRAGMENT =
		1u << 0,      /* IPv4 DF set; never fragmented here, path MTU cache ignored */
	PROBE_MARK = 1u << 1, /* `mark` is the routing mark (SO_MARK) */
	PROBE_FLOW = 1u << 2, /* `flow` chooses one path through per-flow load balancing */
	PROBE_FLAGS = (1u << 3) - 1, /* all that are defined */
};

/* One probe to send. The answer, or the reason that none was sent, comes back as one EVENT. */
struct record_probe {
	uint8_t kind;         /* RECORD_PROBE */
	uint8_t family;       /* 4 or 6 */
	uint8_t protocol;     /* IPPROTO_ICMP for echo in either family, _UDP, _TCP, _SCTP */
	uint8_t ttl;          /* 1..255, IPv6 hop limit */
	uint8_t tos;          /* IPv4 type of service, IPv6 traffic class */
	uint8_t payload_byte; /* what fills the packet behind its headers */
	uint16_t flags;       /* enum probe_flags */
	uint32_t cookie;      /* comes back in the event; low 16 bits: a slot that is free */
	uint16_t size_bytes;  /* whole packet, IP header included; less than the headers: just those
			       */
	uint16_t port; /* destination port; 0 only for ICMP, or UDP: 33434 and up, changing */
	uint16_t source_port; /* UDP only: 1024..65535, bound by the broker; 0: one the broker holds
			       */
	uint16_t reserved;
	uint32_t ifindex; /* send through this interface, and scope of a link-local destination; 0:
			     by route */
	uint32_t mark;    /* with PROBE_MARK */
	uint32_t flow;    /* with PROBE_FLOW */
	uint8_t destination[16];
	uint8_t source[16]; /* required, local to this host (the kernel checks): IPv4 TCP and UDP
			       checksums and the match of quoted packets need it */
};
_Static_assert(sizeof(struct record_probe) == 64, "probe record layout");
_Static_assert(offsetof(struct record_probe, cookie) == 8, "probe record layout");
_Static_assert(offsetof(struct record_probe, destination) == 32, "probe record layout");

/* Forget a probe: no event for this cookie is wanted any more and its slot is free again. Unknown
 * or answered cookies are ignored, since the event may be on its way. */
struct record_cancel {
	uint8_t kind; /* RECORD_CANCEL */
	uint8_t reserved[3];
	uint32_t cookie;
};
_Static_assert(sizeof(struct record_cancel) == 8, "cancel record layout");

enum event_what {
	/* The destination answered in the probe's own protocol: echo reply, UDP datagram, SYN/ACK
	 * or RST, INIT-ACK or ABORT. */
	EVENT_REPLY = 1,
	/* An ICMP error that quotes the probe: icmp_type and icmp_code are those of the family. */
	EVENT_ICMP = 2,
	/* Nothing was sent: `error` is the errno. */
	EVENT_FAILED = 3,
	/* Nothing was sent for a passing lack of identifiers: try again in a few milliseconds. */
	EVENT_BUSY = 4,
};

enum event_known {
	EVENT_REPLY_TTL = 1u << 0,     /* reply_ttl is set */
	EVENT_QUOTED = 1u << 1,        /* quoted_ttl and quoted_tos are set */
	EVENT_EXTENSION_CUT = 1u << 2, /* the extension structure was longer than the record */
	/* Its place was told by RFC 4884's length field; without this bit it was found where RFC
	 * 4884 5.5 says old routers put it. */
	EVENT_EXTENSION_TOLD = 1u << 3,
};

/* How a probe ended. */
struct record_event {
	uint8_t kind; /* RECORD_EVENT, or RECORD_EVENT_EXT as the head of that record */
	uint8_t what; /* enum event_what */
	uint8_t icmp_type;
	uint8_t icmp_code;
	uint32_t cookie;
	int64_t sent_ns;       /* just before the packet left */
	int64_t received_ns;   /* the kernel's receive time of the answer, never before sent_ns */
	uint8_t responder[16]; /* who sent the answer */
	uint32_t responder_ifindex; /* scope of a link-local responder, otherwise 0 */
	uint32_t mtu_bytes;         /* next-hop MTU: ICMPv4 3/4 (RFC 1191), ICMPv6 2 (RFC 4443) */
	int32_t error;              /* errno, EVENT_FAILED */
	uint8_t known;              /* enum event_known */
	uint8_t reply_ttl;          /* TTL of the answer on arrival */
	uint8_t quoted_ttl;         /* TTL of the probe as quoted */
	uint8_t quoted_tos;         /* TOS of the probe as quoted */
	uint16_t extension_bytes;   /* used bytes of the extension, RECORD_EVENT_EXT */
	uint8_t reserved[6];
};
_Static_assert(sizeof(struct record_event) == 64, "event record layout");
_Static_assert(offsetof(struct record_event, responder) == 24, "event record layout");

/* An event whose answer carried an RFC 4884 extension structure. */
struct record_event_ext {
	struct record_event event;
	uint8_t extension[RECORD_EXTENSION_BYTES]; /* verbatim, from its version field on */
};
_Static_assert(sizeof(struct record_event_ext) == 576, "extended event record layout");

#endif
