/*
 * The broker's socket filters. They run in the kernel, on packets that anyone may have sent, and
 * keep packets of other programs out of the broker, so that a broker which was taken over cannot
 * read them either. An IPv4 raw socket's filter sees the packet from its IP header on, an IPv6 one
 * from its transport header on. Each filter loads into A the identifier that the packet is for; the
 * list of this broker's own follows.
 */
#include "policy/socket_filter.h"

#include <linux/filter.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <string.h>
#include <sys/socket.h>

#include "common/record.h"
#include "common/wire.h"

enum {
	ACCEPT_WHOLE = 0x7fffffff,
	PROGRAM_MAX = 32 + RECORD_PROBE_IDS + 2,
};

/* Offsets are relative to X. A condition names how many instructions it skips. */
#define LOAD8(offset)        BPF_STMT(BPF_LD | BPF_B | BPF_IND, offset)
#define LOAD16(offset)       BPF_STMT(BPF_LD | BPF_H | BPF_IND, offset)
#define SET_X(k)             BPF_STMT(BPF_LDX | BPF_W | BPF_IMM, k)
#define IF_EQUAL(k, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, k, yes, no)
#define SKIP(count)          BPF_STMT(BPF_JMP | BPF_JA, count)
#define REJECT               BPF_STMT(BPF_RET | BPF_K, 0)

/* With A the protocol and X the transport header of a quoted packet: loads the identifier of an
 * echo request, or the source port of an SCTP packet. Nine instructions. */
#define LOAD_QUOTED_ID(icmp, echo_request)                                                         \
	IF_EQUAL(icmp, 0, 5), LOAD8(0), IF_EQUAL(echo_request, 1, 0), REJECT, LOAD16(4), SKIP(3),  \
		IF_EQUAL(IPPROTO_SCTP, 1, 0), REJECT, LOAD16(0)

static const struct sock_filter icmp4[] = {
	/* X: the ICMP header. Its place depends on the IP options. */
	BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 0),
	/* An echo reply: its identifier. */
	LOAD8(0),
	IF_EQUAL(ICMP_ECHOREPLY, 0, 2),
	LOAD16(4),
	SKIP(4 + 9 + 9),
	/* Nothing but errors otherwise. */
	IF_EQUAL(ICMP_DEST_UNREACH, 3, 0),
	IF_EQUAL(ICMP_TIME_EXCEEDED, 2, 0),
	IF_EQUAL(ICMP_PARAMETERPROB, 1, 0),
	REJECT,
	/* A: the quoted protocol. X: behind the quoted IP header and its options. */
	LOAD8(8 + 9),
	BPF_STMT(BPF_ST, 0),
	LOAD8(8),
	BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 15),
	BPF_STMT(BPF_ALU | BPF_LSH | BPF_K, 2),
	BPF_STMT(BPF_ALU | BPF_ADD | BPF_X, 0),
	BPF_STMT(BPF_ALU | BPF_ADD | BPF_K, 8),
	BPF_STMT(BPF_MISC | BPF_TAX, 0),
	BPF_STMT(BPF_LD | BPF_MEM, 0),
	LOAD_QUOTED_ID(IPPROTO_ICMP, ICMP_ECHO),
};

static const struct sock_filter icmp6[] = {
	SET_X(0),
	/* An echo reply: its identifier. */
	LOAD8(0),
	IF_EQUAL(ICMP6_ECHO_REPLY, 0, 2),
	LOAD16(4),
	SKIP(5 + 5 + 9),
	/* Nothing but errors otherwise. */
	IF_EQUAL(ICMP6_DST_UNREACH, 4, 0),
	IF_EQUAL(ICMP6_PACKET_TOO_BIG, 3, 0),
	IF_EQUAL(ICMP6_TIME_EXCEEDED, 2, 0),
	IF_EQUAL(ICMP6_PARAM_PROB, 1, 0),
	REJECT,
	/* A: the quoted protocol. X: behind the quoted IP header, and behind the fragment header
	 * of a probe that left in fragments (RFC 8200 4.5). */
	LOAD8(8 + 6),
	SET_X(8 + 40),
	IF_EQUAL(IPPROTO_FRAGMENT, 0, 2),
	LOAD8(0),
	SET_X(8 + 40 + 8),
	LOAD_QUOTED_ID(IPPROTO_ICMPV6, ICMP6_ECHO_REQUEST),
};

/* INIT ACK or ABORT first in the packet: its destination port. The first instruction is IPv4's. */
static const struct sock_filter sctp[] = {
	BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 0), LOAD8(12), IF_EQUAL(WIRE_SCTP_INIT_ACK, 2, 0),
	IF_EQUAL(WIRE_SCTP_ABORT, 1, 0),        REJECT,    LOAD16(2),
};
_Static_assert(sizeof(icmp4) / sizeof(icmp4[0]) <= 32, "the longest program fits");

static int attach(int fd, struct sock_filter *code, size_t length)
{
	struct sock_fprog program = {.len = (unsigned short)length, .filter = code};

	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program));
}

int socket_filter_attach(int fd, uint8_t family, uint8_t protocol, const uint16_t *held_ports)
{
	struct sock_filter code[PROGRAM_MAX];
	size_t bytes = sizeof(sctp);

	if (protocol == IPPROTO_SCTP) {
		memcpy(code, sctp, sizeof(sctp));
		if (family == 6)
			code[0] = (struct sock_filter)SET_X(0);
	} else {
		bytes = family == 6 ? sizeof(icmp6) : sizeof(icmp4);
		memcpy(code, family == 6 ? icmp6 : icmp4, bytes);
	}
	size_t length = bytes / sizeof(code[0]);
	for (size_t i = 0; i < RECORD_PROBE_IDS; i++)
		code[length++] = (struct sock_filter)IF_EQUAL(held_ports[i],
							      (uint8_t)(RECORD_PROBE_IDS - i), 0);
	code[length++] = (struct sock_filter)REJECT;
	code[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, ACCEPT_WHOLE);
	return attach(fd, code, length);
}

int socket_filter_reject_all(int fd)
{
	struct sock_filter code[] = {REJECT};

	return attach(fd, code, 1);
}

int socket_filter_lock(int fd)
{
	int one = 1;

	return setsockopt(fd, SOL_SOCKET, SO_LOCK_FILTER, &one, sizeof(one));
}
