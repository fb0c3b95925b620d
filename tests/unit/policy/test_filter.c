/*
 * What the compiler of filters made of the broker's table, evaluated instruction by instruction for
 * every descriptor and every combination of flags: more than could be tried on a kernel, and the
 * comparisons that libseccomp merges are where a mistake would hide.
 */
#include <criterion/criterion.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "policy/descriptors.h"
#include "gen/filter_broker.h"

enum {
	LENGTH = sizeof(filter_broker) / sizeof(filter_broker[0]),
	RECEIVE = MSG_DONTWAIT,
	RECEIVE_RAW = MSG_DONTWAIT | MSG_TRUNC,
	SEND = MSG_DONTWAIT | MSG_NOSIGNAL,
};

#if defined(__x86_64__)
#define NATIVE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define NATIVE AUDIT_ARCH_AARCH64
#endif

static uint32_t load(const struct seccomp_data *data, uint32_t offset)
{
	uint32_t word;

	cr_assert_leq(offset + sizeof(word), sizeof(*data));
	memcpy(&word, (const char *)data + offset, sizeof(word));
	return word;
}

static bool jumps(const struct sock_filter *instruction, uint32_t accumulator)
{
	switch (BPF_OP(instruction->code)) {
	case BPF_JEQ:
		return accumulator == instruction->k;
	case BPF_JGT:
		return accumulator > instruction->k;
	case BPF_JGE:
		return accumulator >= instruction->k;
	case BPF_JSET:
		return (accumulator & instruction->k) != 0;
	default:
		cr_assert_fail("jump 0x%02x", instruction->code);
		return false;
	}
}

/* The few instructions that a seccomp filter consists of; the answer. */
static uint32_t evaluate(const struct seccomp_data *data)
{
	uint32_t accumulator = 0;

	for (size_t at = 0; at < LENGTH; at++) {
		const struct sock_filter *instruction = &filter_broker[at];
		switch (instruction->code) {
		case BPF_LD | BPF_W | BPF_ABS:
			accumulator = load(data, instruction->k);
			break;
		case BPF_ALU | BPF_AND | BPF_K:
			accumulator &= instruction->k;
			break;
		case BPF_JMP | BPF_JA:
			at += instruction->k;
			break;
		case BPF_RET | BPF_K:
			return instruction->k;
		default:
			at += jumps(instruction, accumulator) ? instruction->jt : instruction->jf;
		}
	}
	cr_assert_fail("the filter runs off its end");
	return SECCOMP_RET_KILL_PROCESS;
}

static bool allows(long call, uint64_t fd, uint64_t second, uint64_t third, uint64_t fourth,
		   uint64_t fifth)
{
	const struct seccomp_data data = {
		.nr = (int)call,
		.arch = NATIVE,
		.args = {fd, second, third, fourth, fifth},
	};
	uint32_t answer = evaluate(&data);

	cr_assert(answer == SECCOMP_RET_ALLOW || answer == SECCOMP_RET_KILL_PROCESS, "0x%x",
		  answer);
	return answer == SECCOMP_RET_ALLOW;
}

static bool is_raw(uint64_t fd)
{
	return fd >= DESC_RAW_FIRST && fd <= DESC_RAW_LAST;
}

static bool receives(uint64_t fd)
{
	return fd == DESC_ICMP4 || fd == DESC_ICMP6 || fd == DESC_SCTP4 || fd == DESC_SCTP6;
}

/* What table_broker.c says, said again. */
static bool may(long call, uint64_t fd, uint64_t flags)
{
	switch (call) {
	case SYS_sendto:
		return fd == DESC_CHANNEL && flags == SEND;
	case SYS_sendmmsg:
		return is_raw(fd) && flags == SEND;
	case SYS_recvmmsg:
		return (fd == DESC_CHANNEL && flags == RECEIVE) ||
		       (receives(fd) && flags == RECEIVE_RAW);
	default:
		return false;
	}
}

static void check(long call, uint64_t fd, uint64_t flags)
{
	bool is_single = call == SYS_sendmsg || call == SYS_recvmsg;
	uint64_t third = is_single ? flags : 64;
	uint64_t fourth = is_single ? 0 : flags;

	cr_assert_eq(allows(call, fd, 4096, third, fourth, 0), may(call, fd, flags),
		     "call %ld, descriptor %lx, flags %lx", call, fd, flags);
	if (call == SYS_recvmmsg)
		cr_assert_not(allows(call, fd, 4096, third, fourth, 1), "a time limit");
	if (call == SYS_sendto)
		cr_assert_not(allows(call, fd, 4096, third, fourth, 1), "an address");
}

/* Combinations of the flags that matter and of single ones that do not belong. */
static void check_flags(long call, uint64_t fd)
{
	for (unsigned bit = 0; bit < 64; bit++)
		for (unsigned base = 0; base < 16; base++) {
			uint64_t flags = (base & 1 ? MSG_DONTWAIT : 0) |
					 (base & 2 ? MSG_NOSIGNAL : 0) |
					 (base & 4 ? MSG_TRUNC : 0) | (base & 8 ? MSG_ERRQUEUE : 0);
			check(call, fd, flags);
			check(call, fd, flags | UINT64_C(1) << bit);
		}
}

Test(filter, every_descriptor_and_flag, .timeout = 60)
{
	/* sendmsg is among them because it must not be allowed: it can pass a socket on. */
	static const long calls[] = {SYS_sendmsg, SYS_sendto, SYS_recvmsg, SYS_sendmmsg,
				     SYS_recvmmsg};

	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		for (uint64_t fd = 0; fd < DESC_COUNT + 64; fd++)
			check_flags(calls[i], fd);
		/* Bits that the kernel would not look at make no other descriptor of it. */
		for (unsigned bit = 8; bit < 64; bit++)
			check_flags(calls[i], DESC_RAW_FIRST | UINT64_C(1) << bit);
	}
}

Test(filter, bind_and_write)
{
	for (uint64_t fd = 0; fd < DESC_COUNT + 64; fd++) {
		cr_assert_eq(allows(SYS_bind, fd, 0, 0, 0, 0), fd == DESC_SCTP4 || fd == DESC_SCTP6,
			     "%lu", fd);
		cr_assert_eq(allows(SYS_write, fd, 0, 0, 0, 0), fd == DESC_STDERR, "%lu", fd);
	}
}

Test(filter, another_architecture_may_nothing)
{
	for (int call = 0; call < 520; call++) {
		struct seccomp_data data = {.nr = call, .arch = AUDIT_ARCH_I386};
		cr_assert_eq(evaluate(&data), SECCOMP_RET_KILL_PROCESS);
	}
}
