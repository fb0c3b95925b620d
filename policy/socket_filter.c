/*
 * The broker's socket filters. They run in the kernel, on packets that anyone may have sent, and
 * keep other people's traffic out of the broker, so that a broker which somebody has taken over
 * could not read it either. An IPv4 raw socket's program sees the packet from its IP header on, an
 * IPv6 one from its transport header on; register X holds where the transport header is, and the
 * rest is the same.
 */
#include "policy/socket_filter.h"

#include <errno.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "common/wire.h"

enum {
	PORTS_MAX = 200,
	PROGRAM_MAX = PORTS_MAX + 64,
	ACCEPT_WHOLE = 0x7fffffff,
	TCP_FLAGS = 0x3f, /* URG ACK PSH RST SYN FIN: one octet at offset 13 (RFC 9293 3.1) */
	TCP_SYN_ACK = 0x12,
	TCP_RST = 0x04,
	SCTP_INIT_ACK = 2, /* chunk types, RFC 9260 3.2 */
	SCTP_ABORT = 6,
	/* The scratch word that keeps the quoted packet's protocol. */
	QUOTED_PROTOCOL = 0,
};

struct program {
	struct sock_filter code[PROGRAM_MAX];
	unsigned short length;
};

static void emit(struct program *program, uint16_t code, uint32_t k, unsigned int jt,
		 unsigned int jf)
{
	program->code[program->length++] =
		(struct sock_filter){.code = code, .jt = (uint8_t)jt, .jf = (uint8_t)jf, .k = k};
}

static void load(struct program *program, uint16_t size, uint32_t offset_from_x)
{
	emit(program, (uint16_t)(BPF_LD | BPF_IND | size), offset_from_x, 0, 0);
}

static void skip_unless_equal(struct program *program, uint32_t value, unsigned int instructions)
{
	emit(program, BPF_JMP | BPF_JEQ | BPF_K, value, 0, instructions);
}

static void reject(struct program *program)
{
	emit(program, BPF_RET | BPF_K, 0, 0, 0);
}

/* Rejects unless the accumulator is equal to `value`. */
static void require(struct program *program, uint32_t value)
{
	emit(program, BPF_JMP | BPF_JEQ | BPF_K, value, 1, 0);
	reject(program);
}

/* How many of the ports follow each other, from the first on. */
static size_t run_length(const uint16_t *port, size_t count)
{
	size_t length = 1;

	while (length < count && port[length] == port[0] + length)
		length++;
	return length;
}

/* Accepts if the accumulator is one of the ports, otherwise rejects: the end of a branch. Ports
 * in a row, as the broker mostly holds them, are compared together, since the kernel needs longer
 * to take a longer filter; never more instructions than ports. */
static void accept_ports(struct program *program, const struct socket_filter_ports *ports)
{
	unsigned short accepting[PORTS_MAX];
	size_t runs = 0;

	for (size_t i = 0, length; i < ports->count; i += length) {
		uint32_t first = ports->port[i];
		length = run_length(ports->port + i, ports->count - i);
		if (length > 1)
			emit(program, BPF_JMP | BPF_JGE | BPF_K, first, 0, 1);
		accepting[runs++] = program->length;
		if (length > 1) /* not above the last */
			emit(program, BPF_JMP | BPF_JGT | BPF_K, first + (uint32_t)length - 1, 0,
			     0);
		else
			emit(program, BPF_JMP | BPF_JEQ | BPF_K, first, 0, 0);
	}
	reject(program);
	for (size_t i = 0; i < runs; i++) {
		struct sock_filter *jump_at = &program->code[accepting[i]];
		uint8_t ahead = (uint8_t)(program->length - accepting[i] - 1);
		if (BPF_OP(jump_at->code) == BPF_JGT)
			jump_at->jf = ahead;
		else
			jump_at->jt = ahead;
	}
	emit(program, BPF_RET | BPF_K, ACCEPT_WHOLE, 0, 0);
}

/* X := offset of the transport header. */
static void find_transport(struct program *program, uint8_t family)
{
	if (family == 4)
		emit(program, BPF_LDX | BPF_B | BPF_MSH, 0, 0, 0); /* IHL, options included */
	else
		emit(program, BPF_LDX | BPF_W | BPF_IMM, 0, 0, 0);
}

/* SYN/ACK or RST, to a TCP port of ours. */
static void write_tcp(struct program *program, const struct socket_filter_ports *ports)
{
	load(program, BPF_B, 13);
	emit(program, BPF_ALU | BPF_AND | BPF_K, TCP_FLAGS, 0, 0);
	emit(program, BPF_JMP | BPF_JSET | BPF_K, TCP_RST, 3, 0);
	emit(program, BPF_ALU | BPF_AND | BPF_K, TCP_SYN_ACK, 0, 0);
	require(program, TCP_SYN_ACK);
	load(program, BPF_H, 2);
	accept_ports(program, ports);
}

/* Any datagram to a UDP port of ours. */
static void write_udp(struct program *program, const struct socket_filter_ports *ports)
{
	load(program, BPF_H, 2);
	accept_ports(program, ports);
}

/* INIT ACK or ABORT first in the packet, to an SCTP port of ours. */
static void write_sctp(struct program *program, const struct socket_filter_ports *ports)
{
	load(program, BPF_B, 12);
	emit(program, BPF_JMP | BPF_JEQ | BPF_K, SCTP_INIT_ACK, 2, 0);
	emit(program, BPF_JMP | BPF_JEQ | BPF_K, SCTP_ABORT, 1, 0);
	reject(program);
	load(program, BPF_H, 2);
	accept_ports(program, ports);
}

/* A, M[QUOTED_PROTOCOL] := protocol of the quoted packet, X := its transport header minus the 8
 * octets of the ICMP header. */
static void find_quoted(struct program *program, const struct wire_family *wire)
{
	if (wire->family == 4) {
		load(program, BPF_B, 8 + 9);
		emit(program, BPF_ST, QUOTED_PROTOCOL, 0, 0);
		load(program, BPF_B, 8); /* the quoted header's own IHL, added to X */
		emit(program, BPF_ALU | BPF_AND | BPF_K, 15, 0, 0);
		emit(program, BPF_ALU | BPF_LSH | BPF_K, 2, 0, 0);
		emit(program, BPF_ALU | BPF_ADD | BPF_X, 0, 0, 0);
		emit(program, BPF_MISC | BPF_TAX, 0, 0, 0);
	} else {
		/* A large probe leaves in fragments, with a fragment header before the transport
		 * header (RFC 8200 4.5); no probe has another extension header. */
		load(program, BPF_B, 8 + 6);
		emit(program, BPF_ST, QUOTED_PROTOCOL, 0, 0);
		emit(program, BPF_LDX | BPF_W | BPF_IMM, (uint32_t)wire->header_bytes, 0, 0);
		skip_unless_equal(program, IPPROTO_FRAGMENT, 3);
		load(program, BPF_B, 8);
		emit(program, BPF_ST, QUOTED_PROTOCOL, 0, 0);
		emit(program, BPF_LDX | BPF_W | BPF_IMM, (uint32_t)wire->header_bytes + 8, 0, 0);
	}
	emit(program, BPF_LD | BPF_MEM, QUOTED_PROTOCOL, 0, 0);
}

/* A jump to what comes later: the place is given when it is known. */
static unsigned short jump(struct program *program)
{
	emit(program, BPF_JMP | BPF_JA, 0, 0, 0);
	return (unsigned short)(program->length - 1);
}

static void land(struct program *program, unsigned short jump_at)
{
	program->code[jump_at].k = program->length - jump_at - 1u;
}

/* An echo reply with an identifier of ours, or an error that quotes a packet from a port, or with
 * an identifier, of ours. All three end at one list, since each instruction costs start-up time. */
static void write_icmp(struct program *program, const struct wire_family *wire,
		       const struct socket_filter_ports *ports)
{
	bool has_too_big = wire->packet_too_big != wire->unreachable;

	load(program, BPF_B, 0);
	skip_unless_equal(program, wire->echo_reply, 2);
	load(program, BPF_H, 4);
	unsigned short from_reply = jump(program);

	emit(program, BPF_JMP | BPF_JEQ | BPF_K, wire->unreachable, 4, 0);
	emit(program, BPF_JMP | BPF_JEQ | BPF_K, wire->time_exceeded, 3, 0);
	emit(program, BPF_JMP | BPF_JEQ | BPF_K, wire->parameter_problem, 2, 0);
	emit(program, BPF_JMP | BPF_JEQ | BPF_K,
	     has_too_big ? wire->packet_too_big : wire->unreachable, 1, 0);
	reject(program);

	find_quoted(program, wire);
	skip_unless_equal(program, wire->icmp_protocol, 5);
	load(program, BPF_B, 8);
	require(program, wire->echo_request);
	load(program, BPF_H, 8 + 4);
	unsigned short from_echo = jump(program);
	emit(program, BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_UDP, 3, 0);
	emit(program, BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_TCP, 2, 0);
	require(program, IPPROTO_SCTP);
	load(program, BPF_H, 8);

	land(program, from_reply);
	land(program, from_echo);
	accept_ports(program, ports);
}

static int attach(int socket, struct program *program)
{
	struct sock_fprog fprog = {.len = program->length, .filter = program->code};

	return setsockopt(socket, SOL_SOCKET, SO_ATTACH_FILTER, &fprog, sizeof(fprog));
}

int socket_filter_reject_all(int socket)
{
	struct program program = {.length = 0};

	reject(&program);
	return attach(socket, &program);
}

int socket_filter_exact(int socket, uint8_t family, uint8_t protocol,
			const struct socket_filter_ports *ports)
{
	const struct wire_family *wire = wire_family(family);
	struct program program = {.length = 0};

	if (wire == NULL || ports->count > PORTS_MAX) {
		errno = EINVAL;
		return -1;
	}
	find_transport(&program, family);
	switch (protocol) {
	case IPPROTO_ICMP:
		write_icmp(&program, wire, ports);
		break;
	case IPPROTO_UDP:
		write_udp(&program, ports);
		break;
	case IPPROTO_TCP:
		write_tcp(&program, ports);
		break;
	case IPPROTO_SCTP:
		write_sctp(&program, ports);
		break;
	default:
		errno = EPROTONOSUPPORT;
		return -1;
	}
	return attach(socket, &program);
}

int socket_filter_lock(int socket)
{
	int one = 1;

	return setsockopt(socket, SOL_SOCKET, SO_LOCK_FILTER, &one, sizeof(one));
}
