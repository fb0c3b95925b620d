/*
 * What the broker may still do once it serves. Compiled into the program that holds CAP_NET_RAW;
 * written for the day when that program is taken over by the bytes it reads: then this table, the
 * socket filters, and the few open descriptors are all an attacker has.
 *
 * What is not here is as telling: no socket, setsockopt, connect or open, no memory, no process, no
 * signal (no rt_sigreturn either: there is no handler), no change of identity. restart_syscall is
 * not needed: the only call that sleeps, ppoll, starts again as itself after a stop and continue.
 */
#include <linux/capability.h>
#include <sys/socket.h>
#include <time.h>

#include "broker/descriptors.h"
#include "policy/filter/table.h"

/* They stand in a row: fewer comparisons do for all than for each kind. */
_Static_assert(DESC_ECHO + 1 == DESC_RAW_FIRST && DESC_RAW_LAST + 1 == DESC_LOCAL_FIRST,
	       "no other descriptor is between them");
#define SENDING(n)   BETWEEN(n, DESC_ECHO, DESC_RAW_LAST)
#define RECEIVING(n) BETWEEN(n, DESC_RAW_FIRST, DESC_LOCAL_LAST)
#define ALL(n)       BETWEEN(n, DESC_ECHO, DESC_LOCAL_LAST)

/* Nothing but ppoll ever waits: a peer that does not read or a full socket buffer cannot stop the
 * broker. MSG_NOSIGNAL, because the front end may be gone. */
enum {
	RECEIVE = MSG_DONTWAIT,
	RECEIVE_ERROR = MSG_DONTWAIT | MSG_ERRQUEUE,
	SEND = MSG_DONTWAIT | MSG_NOSIGNAL,
};

static const struct entry entries[] = {
	ALLOW(sendmmsg, "probes leave", SENDING(0), IS(3, SEND)),
	ALLOW(bind,
	      "to hear while answers are awaited; to be the source of echo requests, which the "
	      "kernel allows of this host's addresses only (or, for one of many hosts, takes the "
	      "route's); and for a port of the user's choice: "
	      "UDP only, once a socket, and none below 1024 without CAP_NET_BIND_SERVICE",
	      ALL(0)),
	ALLOW(recvmmsg, "answers arrive", RECEIVING(0), IS(3, RECEIVE), IS_NULL(4)),
	ALLOW(recvmmsg,
	      "when probes left, and ICMP errors about probes from a port of the user's choice: "
	      "without IP_RECVERR a raw socket's error queue has nothing but times",
	      ALL(0), IS(3, RECEIVE_ERROR), IS_NULL(4)),
	ALLOW(recvmsg, "requests arrive", IS(0, DESC_CHANNEL), IS(2, RECEIVE)),
	ALLOW(sendto,
	      "events leave. Never by sendmsg: it can carry descriptors, and an accomplice at the "
	      "other end, whom no filter holds, could set IP_HDRINCL on a raw socket",
	      IS(0, DESC_CHANNEL), IS(3, SEND), IS_NULL(4)),
	ALLOW(ppoll, "the one place to wait; no signal mask to swap", IS_NULL(3)),
	ALLOW(sched_yield, "short waits: look again, but let others run first"),
	ALLOW(clock_gettime, "send times, where the kernel maps no vdso",
	      BETWEEN(0, CLOCK_REALTIME, CLOCK_MONOTONIC)),
	ALLOW(capset,
	      "CAP_NET_RAW to the effective set and back, around probes with a routing mark: "
	      "the permitted set holds nothing else, so nothing else can be had"),
	ALLOW(write, "one last line for people", IS(0, DESC_STDERR)),
	ALLOW(exit_group, "the end"),
};

const struct table table_broker = {
	.name = "broker",
	.otherwise = SCMP_ACT_KILL_PROCESS,
	.entries = entries,
	.count = COUNT(entries),
};
