/*
 * The end of the broker's start-up: limits, Landlock, and the system-call filter, tried call by
 * call.
 */
#include <criterion/criterion.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "broker/lockdown.h"
#include "gen/filter_broker.h"
#include "policy/descriptors.h"
#include "policy/seccomp.h"
#include "tests/support/sandbox.h"

enum {
	SURVIVED = 42,
	NO_FILTER = 43,
	SEND = MSG_DONTWAIT | MSG_NOSIGNAL,
	RECEIVE_RAW = MSG_DONTWAIT | MSG_TRUNC,
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct call {
	long number;
	long arguments[5];
	const char *why;
};

/* Every descriptor is closed, so that what is allowed fails with EBADF and does nothing. */
static int make_call(void *context)
{
	const struct call *call = context;
	const long *a = call->arguments;

	if (syscall(SYS_close_range, 0, ~0u, 0) != 0 ||
	    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
	    seccomp_enter(filter_broker, COUNT(filter_broker)) != 0)
		return NO_FILTER;
	syscall(call->number, a[0], a[1], a[2], a[3], a[4]);
	return SURVIVED;
}

/* All that a broker does after its start. */
static const long allowed_numbers[] = {
	SYS_sendmmsg, SYS_recvmmsg,      SYS_sendto, SYS_ppoll,
	SYS_bind,     SYS_clock_gettime, SYS_write,  SYS_exit_group,
};

/* uretprobe and uprobe (x86-64, Linux 6.11 and 6.18) are the trampolines of kernel probes; the
 * kernel lets them pass any filter, and answers a call from elsewhere with SIGILL or an error. */
static bool is_unfiltered(long number)
{
#ifdef __x86_64__
	return number == 335 || number == 336;
#else
	return false;
#endif
}

static bool is_allowed(long number)
{
	for (size_t i = 0; i < COUNT(allowed_numbers); i++)
		if (number == allowed_numbers[i])
			return true;
	return false;
}

Test(broker_filter, every_other_call_kills, .timeout = 60)
{
	/* Beyond the last call of any kernel so far, to see that unknown ones are refused. */
	for (long number = 0; number < 520; number++) {
		if (is_allowed(number) || is_unfiltered(number))
			continue;
		struct call call = {.number = number, .arguments = {-1, 0, 0, 0, 0}};
		struct sandbox_end end = sandbox_run(make_call, &call);
		cr_expect_eq(end.signal, SIGSYS, "system call %ld: signal %d, status %d", number,
			     end.signal, end.status);
	}
}

static void expect(const struct call *calls, size_t count, int signal, int status)
{
	for (size_t i = 0; i < count; i++) {
		struct call call = calls[i];
		struct sandbox_end end = sandbox_run(make_call, &call);
		cr_expect(end.signal == signal && end.status == status,
			  "call %ld(%ld, %ld, %ld, %ld), %s: signal %d, status %d", call.number,
			  call.arguments[0], call.arguments[1], call.arguments[2],
			  call.arguments[3], call.why, end.signal, end.status);
	}
}

Test(broker_filter, arguments_are_pinned, .timeout = 60)
{
	static const struct call killed[] = {
		{SYS_recvmmsg, {DESC_CHANNEL, 0, 1, 0}, "may block"},
		{SYS_recvmmsg, {DESC_CHANNEL, 0, 1, RECEIVE_RAW}, "hides that it was cut"},
		{SYS_recvmmsg, {DESC_ICMP4, 0, 1, MSG_DONTWAIT | MSG_ERRQUEUE}, "error queue"},
		{SYS_recvmmsg, {DESC_ICMP4, 0, 1, RECEIVE_RAW | MSG_PEEK}, "peeks"},
		{SYS_recvmmsg, {DESC_ICMP4, 0, 1, RECEIVE_RAW, 1}, "time limit"},
		{SYS_recvmmsg, {DESC_ICMP4, 0, 1, MSG_TRUNC}, "may block"},
		{SYS_recvmmsg, {DESC_ICMP6_DF, 0, 1, RECEIVE_RAW}, "only sends"},
		{SYS_recvmmsg, {DESC_PROBE_ID_FIRST, 0, 1, RECEIVE_RAW}, "holds a port"},
		{SYS_recvmmsg, {DESC_PROBE_ID_LAST, 0, 1, RECEIVE_RAW}, "holds a port"},
		{SYS_recvmmsg, {DESC_NULL, 0, 1, RECEIVE_RAW}, "not a socket"},
		{SYS_sendto, {DESC_CHANNEL, 0, 0, MSG_DONTWAIT, 0}, "may raise SIGPIPE"},
		{SYS_sendto, {DESC_CHANNEL, 0, 0, MSG_NOSIGNAL, 0}, "may block"},
		{SYS_sendto, {DESC_CHANNEL, 0, 0, SEND, 1}, "to an address"},
		{SYS_sendto, {DESC_RAW_FIRST, 0, 0, SEND, 0}, "without control messages"},
		{SYS_sendmmsg, {DESC_CHANNEL, 0, 1, SEND}, "can pass a socket on"},
		{SYS_sendmmsg, {DESC_STDERR, 0, 1, SEND}, "stderr may be a socket"},
		{SYS_sendmmsg, {DESC_RAW_LAST, 0, 1, 0}, "may block"},
		{SYS_sendmmsg, {DESC_RAW_FIRST, 0, 1, SEND | MSG_CONFIRM}, "neighbour table"},
		{SYS_sendmmsg, {DESC_PROBE_ID_LAST, 0, 1, SEND}, "holds a port"},
		{SYS_sendmmsg, {DESC_COUNT, 0, 1, SEND}, "no descriptor"},
		{SYS_bind, {DESC_CHANNEL, 0, 0}, "the channel"},
		{SYS_bind, {DESC_STDERR, 0, 0}, "stderr may be a socket"},
		{SYS_bind, {DESC_PROBE_ID_FIRST, 0, 0}, "holds a port"},
		{SYS_bind, {DESC_ICMP4, 0, 0}, "receives already"},
		{SYS_bind, {DESC_SCTP4_DF, 0, 0}, "only sends"},
		{SYS_bind, {DESC_SCTP6_DF, 0, 0}, "only sends"},
		{SYS_write, {DESC_CHANNEL, 0, 0}, "the channel"},
		{SYS_write, {DESC_NULL, 0, 0}, "/dev/null"},
		{SYS_write, {DESC_RAW_FIRST, 0, 0}, "a raw socket"},
		{SYS_clock_gettime, {CLOCK_PROCESS_CPUTIME_ID, 0}, "another clock"},
		{SYS_clock_gettime, {-6, 0}, "the clock of another process"},
		{SYS_ppoll, {0, 0, 0, 1}, "a signal mask"},
	};
	expect(killed, COUNT(killed), SIGSYS, 0);
}

Test(broker_filter, what_the_broker_does_is_allowed, .timeout = 60)
{
	static const struct timespec at_once = {0, 0};
	static const struct call allowed[] = {
		{SYS_recvmmsg, {DESC_CHANNEL, 0, 1, MSG_DONTWAIT}, "requests"},
		{SYS_sendto, {DESC_CHANNEL, 0, 0, SEND, 0}, "answers"},
		{SYS_bind, {DESC_SCTP4, 0, 0}, "to receive"},
		{SYS_bind, {DESC_SCTP6, 0, 0}, "to receive"},
		{SYS_write, {DESC_STDERR, 0, 0}, "the reason why it ends"},
		{SYS_clock_gettime, {CLOCK_MONOTONIC, 0}, "the time"},
		{SYS_clock_gettime, {CLOCK_MONOTONIC, 0}, "the time"},
		{SYS_ppoll, {0, 0, (long)&at_once, 0}, "waiting"},
	};
	expect(allowed, COUNT(allowed), 0, SURVIVED);

	for (int fd = DESC_RAW_FIRST; fd <= DESC_RAW_LAST; fd++) {
		const struct call traffic[] = {
			{SYS_sendmmsg, {fd, 0, 1, SEND}, "probes"},
			{SYS_recvmmsg, {fd, 0, 1, RECEIVE_RAW, 0}, "answers"},
		};
		bool receives = (fd - DESC_RAW_FIRST) % 2 == 0;
		expect(traffic, receives ? 2 : 1, 0, SURVIVED);
	}
}

#ifdef __x86_64__
static int call_32_bit(void *context)
{
	(void)context;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
	    seccomp_enter(filter_broker, COUNT(filter_broker)) != 0)
		return NO_FILTER;
	sandbox_call_32_bit();
	return SURVIVED;
}

Test(broker_filter, the_32_bit_entry_kills)
{
	if (!sandbox_has_32_bit())
		cr_skip_test("int 0x80 does not work here, filter or not");
	struct sandbox_end end = sandbox_run(call_32_bit, NULL);
	cr_expect_eq(end.signal, SIGSYS, "signal %d, status %d", end.signal, end.status);
}

Test(broker_filter, x32_kills)
{
	/* Even a call that the table allows. */
	struct call x32 = {.number = SANDBOX_X32 | SYS_exit_group};
	struct sandbox_end end = sandbox_run(make_call, &x32);
	cr_expect_eq(end.signal, SIGSYS, "signal %d, status %d", end.signal, end.status);
}
#endif

/* lockdown() ends in the filter, through which nothing can be asked: its other steps are read from
 * outside by tests/hostile/test_broker_state.py. */
static int lock_down(void *context)
{
	(void)context;
	lockdown();
	getppid();
	return SURVIVED;
}

Test(lockdown, ends_in_the_filter)
{
	struct sandbox_end end = sandbox_run(lock_down, NULL);
	cr_expect_eq(end.signal, SIGSYS, "signal %d, status %d", end.signal, end.status);
}
