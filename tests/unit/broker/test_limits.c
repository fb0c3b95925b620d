/*
 * The broker's system-call filter, tried call by call: what its table does not allow ends the
 * process, what it allows with certain arguments is allowed with no others.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "broker/descriptors.h"
#include "policy/privilege.h"
#include "tests/support/sandbox.h"

enum {
	SURVIVED = 42,
	NO_FILTER = 43,
	SEND = MSG_DONTWAIT | MSG_NOSIGNAL,
};

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
	struct step_failure failure;

	if (syscall(SYS_close_range, 0, ~0u, 0) != 0 ||
	    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || !seccomp_enter_broker(&failure))
		return NO_FILTER;
	syscall(call->number, a[0], a[1], a[2], a[3], a[4]);
	return SURVIVED;
}

static const long allowed_numbers[] = {
	SYS_sendmmsg, SYS_recvmmsg, SYS_recvmsg, SYS_sendto,     SYS_ppoll,       SYS_clock_gettime,
	SYS_bind,     SYS_capset,   SYS_write,   SYS_exit_group, SYS_sched_yield,
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
	for (size_t i = 0; i < sizeof(allowed_numbers) / sizeof(allowed_numbers[0]); i++)
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

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

Test(broker_filter, arguments_are_pinned, .timeout = 60)
{
	static const struct call killed[] = {
		{SYS_recvmsg, {DESC_CHANNEL, 0, 0}, "may block"},
		{SYS_recvmsg, {DESC_CHANNEL, 0, MSG_DONTWAIT | MSG_ERRQUEUE}, "error queue"},
		{SYS_recvmsg, {DESC_NULL, 0, MSG_DONTWAIT}, "not a socket"},
		{SYS_recvmsg, {DESC_RAW_FIRST, 0, MSG_DONTWAIT | MSG_PEEK}, "peeks"},
		{SYS_recvmsg, {DESC_RAW_LAST, 0, MSG_DONTWAIT | MSG_ERRQUEUE}, "raw error queue"},
		{SYS_recvmsg, {DESC_HELD_FIRST, 0, MSG_DONTWAIT}, "holds a port"},
		{SYS_recvmsg, {DESC_HELD_LAST, 0, MSG_DONTWAIT}, "holds a port"},
		{SYS_recvmsg, {-1, 0, MSG_DONTWAIT}, "no descriptor"},
		{SYS_recvmmsg, {DESC_RAW_FIRST, 0, 1, 0}, "may block"},
		{SYS_recvmmsg, {DESC_RAW_FIRST, 0, 1, MSG_DONTWAIT, 1}, "time limit"},
		{SYS_recvmmsg, {DESC_HELD_FIRST, 0, 1, MSG_DONTWAIT}, "holds a port"},
		{SYS_sendmsg, {DESC_CHANNEL, 0, SEND}, "can pass a socket on"},
		{SYS_sendto, {DESC_CHANNEL, 0, 0, MSG_DONTWAIT, 0}, "may raise SIGPIPE"},
		{SYS_sendto, {DESC_CHANNEL, 0, 0, MSG_NOSIGNAL, 0}, "may block"},
		{SYS_sendto, {DESC_CHANNEL, 0, 0, SEND, 1}, "to an address"},
		{SYS_sendto, {DESC_RAW_FIRST, 0, 0, SEND, 0}, "probes leave in batches only"},
		{SYS_sendmsg, {DESC_RAW_FIRST, 0, SEND | MSG_OOB}, "urgent data"},
		{SYS_sendmsg, {DESC_RAW_FIRST, 0, SEND | MSG_CONFIRM}, "touches the ARP cache"},
		{SYS_sendmsg, {DESC_STDERR, 0, SEND}, "stderr may be a socket"},
		{SYS_sendmsg, {DESC_HELD_FIRST, 0, SEND}, "holds a port"},
		{SYS_sendmsg, {DESC_RAW_FIRST, 0, SEND}, "probes leave in batches only"},
		{SYS_recvmsg, {DESC_RAW_FIRST, 0, MSG_DONTWAIT}, "answers arrive in batches only"},
		{SYS_recvmmsg, {DESC_RAW_FIRST, 0, 1, MSG_ERRQUEUE}, "error queue, may block"},
		{SYS_recvmmsg,
		 {DESC_RAW_FIRST, 0, 1, MSG_DONTWAIT | MSG_ERRQUEUE, 1},
		 "error queue, time limit"},
		{SYS_recvmmsg, {DESC_CHANNEL, 0, 1, MSG_DONTWAIT}, "a message at a time"},
		{SYS_sendmmsg, {DESC_CHANNEL, 0, 1, SEND}, "a message at a time"},
		{SYS_sendmmsg, {DESC_RAW_LAST, 0, 1, 0}, "may block"},
		{SYS_sendmmsg, {DESC_HELD_FIRST + 1, 0, 1, SEND}, "holds a port"},
		{SYS_bind, {DESC_CHANNEL, 0, 0}, "the channel"},
		{SYS_bind, {DESC_STDERR, 0, 0}, "stderr may be a socket"},
		{SYS_recvmmsg, {DESC_ECHO, 0, 1, MSG_DONTWAIT}, "it only sends"},
		{SYS_sendmmsg, {DESC_ECHO, 0, 1, 0}, "may block"},
		{SYS_sendmmsg, {DESC_LOCAL_FIRST, 0, 1, SEND}, "hears only"},
		{SYS_bind, {DESC_HELD_FIRST, 0, 0}, "holds a port"},
		{SYS_write, {0, 0, 0}, "the channel"},
		{SYS_write, {1, 0, 0}, "/dev/null"},
		{SYS_write, {DESC_RAW_FIRST, 0, 0}, "a raw socket"},
		{SYS_clock_gettime, {CLOCK_PROCESS_CPUTIME_ID, 0}, "another clock"},
		{SYS_clock_gettime, {-6, 0}, "another process' clock"},
		{SYS_ppoll, {0, 0, 0, 1}, "a signal mask"},
	};
	expect(killed, COUNT(killed), SIGSYS, 0);
}

Test(broker_filter, what_the_broker_does_is_allowed, .timeout = 60)
{
	static const struct timespec at_once = {0, 0};
	static const struct call allowed[] = {
		{SYS_recvmsg, {DESC_CHANNEL, 0, MSG_DONTWAIT}, "requests"},
		{SYS_sendto, {DESC_CHANNEL, 0, 0, SEND, 0}, "events"},
		{SYS_bind, {DESC_RAW_FIRST, 0, 0}, "to hear"},
		{SYS_bind, {DESC_ECHO, 0, 0}, "a source address"},
		{SYS_sendmmsg, {DESC_ECHO, 0, 1, SEND}, "echo requests"},
		{SYS_recvmmsg, {DESC_ECHO, 0, 1, MSG_DONTWAIT | MSG_ERRQUEUE, 0}, "when they left"},
		{SYS_bind, {DESC_LOCAL_FIRST, 0, 0}, "a port"},
		{SYS_bind, {DESC_LOCAL_LAST, 0, 0}, "a port"},
		{SYS_write, {2, 0, 0}, "the last line"},
		{SYS_clock_gettime, {CLOCK_MONOTONIC, 0}, "the time"},
		{SYS_clock_gettime, {CLOCK_REALTIME, 0}, "the time"},
		{SYS_ppoll, {0, 0, (long)&at_once, 0}, "waiting"},
		{SYS_capset, {0, 0}, "marks"},
	};
	expect(allowed, COUNT(allowed), 0, SURVIVED);

	for (int fd = DESC_RAW_FIRST; fd <= DESC_LOCAL_LAST; fd++) {
		if (fd == DESC_ECHO)
			continue;
		const struct call traffic[] = {
			{SYS_recvmmsg, {fd, 0, 1, MSG_DONTWAIT, 0}, "answers"},
			{SYS_recvmmsg,
			 {fd, 0, 1, MSG_DONTWAIT | MSG_ERRQUEUE, 0},
			 "errors, or when probes left"},
			{SYS_sendmmsg, {fd, 0, 1, SEND}, "probes"},
		};
		expect(traffic, fd < DESC_LOCAL_FIRST ? 3 : 2, 0, SURVIVED);
	}
}

#ifdef __x86_64__
static int call_32_bit(void *context)
{
	(void)context;
	struct step_failure failure;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || !seccomp_enter_broker(&failure))
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

static int take_limits(void *context)
{
	(void)context;
	struct step_failure failure;
	struct rlimit files;
	struct pollfd two[2] = {{.fd = -1}, {.fd = -1}};

	if (!privilege_limits(2, &failure))
		return 1;
	if (prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0 || prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
		return 2;
	if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_max != 2)
		return 3;
	/* As many as were asked for can be polled, and no descriptor can be made. */
	if (poll(two, 2, 0) != 0)
		return 4;
	if (dup(0) >= 0 || errno != EMFILE || socket(AF_INET, SOCK_DGRAM, 0) >= 0)
		return 5;
	if (fork() >= 0 && getuid() != 0)
		return 6;
	return SURVIVED;
}

Test(limits, hold)
{
	struct sandbox_end end = sandbox_run(take_limits, NULL);
	cr_expect(end.signal == 0 && end.status == SURVIVED, "signal %d, status %d", end.signal,
		  end.status);
}
