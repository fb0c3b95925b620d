/*
 * What the broker may do once it serves. Compiled into the program that was started with
 * CAP_NET_RAW. If the bytes that it reads take it over, an attacker has the calls of this table,
 * through the socket filters, on the few open descriptors, and nothing else.
 *
 * There is no socket, setsockopt, connect or open, no memory, no process, no signal and no change
 * of identity. restart_syscall is not needed: ppoll starts again as itself.
 */
#include <sys/socket.h>
#include <time.h>

#include "policy/descriptors.h"
#include "policy/filter/table.h"

/* Nothing but ppoll waits: a front end that does not read or a full socket buffer cannot stop the
 * broker. */
enum {
	SEND = MSG_DONTWAIT | MSG_NOSIGNAL,
	RECEIVE_RAW = MSG_DONTWAIT | MSG_TRUNC,
};

static const struct entry entries[] = {
	ALLOW(sendmmsg, "probes leave", BETWEEN(0, DESC_RAW_FIRST, DESC_RAW_LAST), IS(3, SEND)),
	ALLOW(recvmmsg, "answers arrive, with their real length", IS(0, DESC_ICMP4),
	      IS(3, RECEIVE_RAW), IS_NULL(4)),
	ALLOW(recvmmsg, "the same", IS(0, DESC_ICMP6), IS(3, RECEIVE_RAW), IS_NULL(4)),
	ALLOW(recvmmsg, "the same", IS(0, DESC_SCTP4), IS(3, RECEIVE_RAW), IS_NULL(4)),
	ALLOW(recvmmsg, "the same", IS(0, DESC_SCTP6), IS(3, RECEIVE_RAW), IS_NULL(4)),
	ALLOW(recvmmsg, "requests arrive", IS(0, DESC_CHANNEL), IS(3, MSG_DONTWAIT), IS_NULL(4)),
	ALLOW(sendto,
	      "answers go to the front end. Not by sendmsg: it can pass a raw socket to a process "
	      "that has no filter, where IP_HDRINCL gives any source address",
	      IS(0, DESC_CHANNEL), IS(3, SEND), IS_NULL(4)),
	ALLOW(ppoll, "the one place to wait; no signal mask", IS_NULL(3)),
	ALLOW(bind, "the SCTP sockets receive from the first SCTP probe on", IS(0, DESC_SCTP4)),
	ALLOW(bind, "the same", IS(0, DESC_SCTP6)),
	ALLOW(clock_gettime, "send times, where the kernel maps no vdso", IS(0, CLOCK_MONOTONIC)),
	ALLOW(write, "the line that says why the broker ends", IS(0, DESC_STDERR)),
	ALLOW(exit_group, "the end"),
};

const struct table table_broker = {
	.name = "broker",
	.otherwise = SCMP_ACT_KILL_PROCESS,
	.entries = entries,
	.count = COUNT(entries),
};
