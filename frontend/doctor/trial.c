/*
 * Tries what works. Runs in child processes of postern doctor, which share the result with it by
 * memory: in the sandbox nothing else is needed to report.
 */
#include "frontend/doctor/trial.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/hello.h"
#include "frontend/process/clock.h"
#include "frontend/transport/broker_process.h"
#include "frontend/transport/transport.h"
#include "policy/sandbox.h"

enum {
	TRIAL_S = 20,
	HELLO_MS = 5000,
	/* Loopback answers within a millisecond; a busy machine may take longer. */
	ANSWER_MS = 2000,
	/* UDP: a port that some program holds may not answer. */
	TRIES = 3,
	FAMILIES = 2,
};

/* --- the broker ------------------------------------------------------------------------------- */

/* Of a broker that ended: Postern's writes a line that begins with its name. broker_exit_reason()
 * makes one up for those that say nothing. */
static bool is_line_of_postern(const char *why)
{
	static const char name[] = "postern-broker: ";

	return strncmp(why, name, sizeof(name) - 1) == 0 && !strstr(why, "exit status");
}

static void read_hello(struct broker_process *broker, struct trial *trial)
{
	struct pollfd channel = {.fd = broker->channel_fd, .events = POLLIN};
	struct record_hello hello = {.kind = 0};
	ssize_t length;

	(void)poll(&channel, 1, HELLO_MS);
	length = recv(broker->channel_fd, &hello, sizeof(hello), MSG_DONTWAIT | MSG_TRUNC);
	if (length <= 0 && !(length < 0 && errno == EAGAIN)) {
		trial->broker_error =
			broker_exit_reason(broker, trial->broker_why, sizeof(trial->broker_why));
		trial->is_no_postern = broker->pid == -1 && broker->stderr_fd >= 0 &&
				       !is_line_of_postern(trial->broker_why);
		return;
	}
	if (length == sizeof(hello) && hello.kind == RECORD_HELLO &&
	    hello.version == RECORD_VERSION) {
		trial->broker = broker->stderr_fd >= 0 ? BROKER_OWN : BROKER_SERVICE;
		return;
	}
	trial->broker_error = EPROTO;
	trial->is_no_postern = hello.kind != RECORD_HELLO;
	snprintf(trial->broker_why, sizeof(trial->broker_why), "%s: %s", broker->name,
		 trial->is_no_postern ? "sends no hello" : "is of another version");
}

static void try_broker(const char *path, struct trial *trial)
{
	struct broker_process broker;

	trial->broker_error =
		broker_open(path, &broker, trial->broker_why, sizeof(trial->broker_why));
	if (trial->broker_error != 0) {
		trial->is_no_postern = trial->broker_error == ENOEXEC;
		return;
	}
	read_hello(&broker, trial);
	broker_close(&broker);
	broker_reap(&broker);
}

/* --- the transports --------------------------------------------------------------------------- */

/* SCTP first: if it cannot be sent, this is reported before the answer to the echo. */
static const struct {
	uint32_t feature;
	uint8_t protocol;
	uint16_t port; /* 0: the transport's choice */
} protocols[] = {
	{FEATURE_SCTP, IPPROTO_SCTP, 9 /* discard */},
	{FEATURE_ICMP, IPPROTO_ICMP, 0},
	{FEATURE_UDP, IPPROTO_UDP, 0},
	{FEATURE_TCP, IPPROTO_TCP, 9 /* discard */},
};

enum {
	PROTOCOLS = sizeof(protocols) / sizeof(protocols[0]),
	SCTP = FEATURE_SCTP | FEATURE_SCTP << FEATURE_IPV6_SHIFT,
	UDP = FEATURE_UDP | FEATURE_UDP << FEATURE_IPV6_SHIFT,
};

/* A cookie is a protocol, a family and a try. */
static uint32_t feature_of(uint32_t cookie)
{
	uint32_t feature = protocols[cookie / TRIES / FAMILIES].feature;

	return cookie / TRIES % FAMILIES == 0 ? feature : feature << FEATURE_IPV6_SHIFT;
}

static struct probe_request request_of(uint32_t cookie)
{
	struct probe_request request = {
		.cookie = cookie,
		.protocol = protocols[cookie / TRIES / FAMILIES].protocol,
		.port = protocols[cookie / TRIES / FAMILIES].port,
		.ttl = 64,
	};

	if (cookie / TRIES % FAMILIES == 0) {
		request.family = 4;
		request.destination[0] = 127;
		request.destination[3] = 1;
	} else {
		request.family = 6;
		request.destination[15] = 1;
	}
	return request;
}

struct watch {
	struct trial *trial;
	bool ready;
	uint32_t awaited; /* features whose probes are to be answered */
};

static void on_ready(void *context, uint32_t features)
{
	struct watch *watch = context;

	watch->trial->features = features;
	watch->ready = true;
}

/* This host's own answer to a probe that nothing listens for. Other errors are a firewall's. */
static bool is_own_error(const struct probe_result *result)
{
	bool is_udp = (feature_of(result->cookie) & UDP) != 0;

	if (feature_of(result->cookie) > FEATURE_PROTOCOLS)
		return is_udp && result->icmp_type == ICMP6_DST_UNREACH &&
		       result->icmp_code == ICMP6_DST_UNREACH_NOPORT;
	return is_udp && result->icmp_type == ICMP_DEST_UNREACH &&
	       result->icmp_code == ICMP_PORT_UNREACH;
}

static void on_result(void *context, const struct probe_result *result)
{
	const struct watch *watch = context;
	uint32_t feature = feature_of(result->cookie);

	if (feature & SCTP) {
		if (result->kind == RESULT_FAILED)
			watch->trial->working &= ~feature;
	} else if (result->kind == RESULT_REPLY ||
		   (result->kind == RESULT_ICMP && is_own_error(result))) {
		watch->trial->working |= feature;
	}
}

static void on_down(void *context, uint32_t lost, int error, const char *why)
{
	struct trial *trial = ((struct watch *)context)->trial;

	trial->features &= ~lost;
	trial->working &= ~lost;
	if (trial->broker_error != 0)
		return;
	trial->broker_error = error;
	snprintf(trial->broker_why, sizeof(trial->broker_why), "%s", why);
}

/* Until the transports are ready and what is awaited has come, or the time is up. */
static void dispatch(struct transport *transport, const struct watch *watch, int wait_ms)
{
	int64_t until_ns = clock_now_ns() + (int64_t)wait_ms * NS_PER_MS;

	do {
		struct pollfd polled = {.fd = transport_fd(transport), .events = POLLIN};

		transport_dispatch(transport, TRANSPORT_SLOTS);
		if (watch->ready && (watch->awaited & ~watch->trial->working) == 0)
			return;
		(void)poll(&polled, 1, 20);
	} while (clock_now_ns() < until_ns);
}

static void try_transports(const char *path, struct trial *trial)
{
	struct watch watch = {.trial = trial};
	const struct transport_sink sink = {&watch, on_ready, on_result, on_down};
	const struct transport_options options = {.broker_path = path};
	struct transport *transport = transport_open(&options, &sink);

	if (sandbox_mtr_packet() != 0) {
		trial->sandbox_error = errno;
		return;
	}
	dispatch(transport, &watch, HELLO_MS + ANSWER_MS);
	trial->working = trial->features & SCTP;
	watch.awaited = trial->features & ~(uint32_t)(SCTP | FEATURE_MARK);
	for (uint32_t cookie = 0; cookie < PROTOCOLS * FAMILIES * TRIES; cookie++) {
		const struct probe_request request = request_of(cookie);

		if (trial->features & feature_of(cookie))
			transport_probe(transport, &request);
	}
	transport_flush(transport);
	dispatch(transport, &watch, ANSWER_MS);
	transport_close(transport);
}

/* --- a network of its own --------------------------------------------------------------------- */

static bool write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool written = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return written;
}

/* As root of a user namespace where that is needed. */
static bool unshare_network(void)
{
	char uid_map[64], gid_map[64];

	snprintf(uid_map, sizeof(uid_map), "0 %u 1", geteuid());
	snprintf(gid_map, sizeof(gid_map), "0 %u 1", getegid());
	if (unshare(CLONE_NEWNET) == 0)
		return true;
	return unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0 &&
	       write_file("/proc/self/setgroups", "deny") &&
	       write_file("/proc/self/uid_map", uid_map) &&
	       write_file("/proc/self/gid_map", gid_map);
}

static bool enter_private_network(void)
{
	struct ifreq loopback = {.ifr_name = "lo", .ifr_flags = IFF_UP};

	if (!unshare_network())
		return false;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	return fd >= 0 && ioctl(fd, SIOCSIFFLAGS, &loopback) == 0;
}

/* --- child processes -------------------------------------------------------------------------- */

bool trial_run(const char *broker_path, bool private_network, struct trial *trial)
{
	struct trial *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
				    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status = 0;

	*trial = (struct trial){.finished = false};
	if (shared == MAP_FAILED)
		return false;
	pid_t child = fork();
	if (child == 0) {
		alarm(TRIAL_S);
		if (private_network && !enter_private_network())
			_exit(EXIT_FAILURE);
		try_broker(broker_path, shared);
		try_transports(broker_path, shared);
		shared->finished = shared->sandbox_error == 0;
		_exit(EXIT_SUCCESS);
	}
	while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	*trial = *shared;
	munmap(shared, sizeof(*shared));
	if (WIFSIGNALED(status))
		trial->signal = WTERMSIG(status);
	return child > 0 && (WIFSIGNALED(status) || WEXITSTATUS(status) == EXIT_SUCCESS);
}

/* --- system calls ----------------------------------------------------------------------------- */

static const struct {
	const char *name;
	long number;
	long argument[4];
} calls[] = {
	{"socket(AF_INET, SOCK_DGRAM)", SYS_socket, {AF_INET, SOCK_DGRAM}},
	{"socket(AF_INET, SOCK_STREAM)", SYS_socket, {AF_INET, SOCK_STREAM}},
	{"socket(AF_INET6, SOCK_DGRAM)", SYS_socket, {AF_INET6, SOCK_DGRAM}},
	{"socket(AF_INET6, SOCK_STREAM)", SYS_socket, {AF_INET6, SOCK_STREAM}},
	/* Protocol 0 does not exist; this is found before the privilege is asked for. */
	{"socket(AF_INET, SOCK_RAW)", SYS_socket, {AF_INET, SOCK_RAW}},
	{"socket(AF_INET6, SOCK_RAW)", SYS_socket, {AF_INET6, SOCK_RAW}},
	{"socketpair(AF_UNIX)", SYS_socketpair, {AF_UNIX, SOCK_SEQPACKET}},
	{"bind", SYS_bind, {-1}},
	{"connect", SYS_connect, {-1}},
	{"getsockname", SYS_getsockname, {-1}},
	{"setsockopt", SYS_setsockopt, {-1}},
	{"getsockopt", SYS_getsockopt, {-1}},
	{"sendto", SYS_sendto, {-1}},
	{"sendmmsg", SYS_sendmmsg, {-1}},
	{"recvfrom", SYS_recvfrom, {-1}},
	{"recvmsg", SYS_recvmsg, {-1}},
	{"recvmmsg", SYS_recvmmsg, {-1}},
	{"epoll_create1", SYS_epoll_create1, {0}},
	{"epoll_ctl", SYS_epoll_ctl, {-1}},
	{"seccomp", SYS_seccomp, {SECCOMP_GET_ACTION_AVAIL, 0, 0}},
	{"prctl(PR_SET_NO_NEW_PRIVS)", SYS_prctl, {PR_SET_NO_NEW_PRIVS, 1}},
};

static bool is_denied(size_t i)
{
	const long *argument = calls[i].argument;
	int status = 0;
	pid_t child = fork();

	if (child == 0) {
		long result = syscall(calls[i].number, argument[0], argument[1], argument[2],
				      argument[3], 0, 0);
		_exit(result < 0 && (errno == EPERM || errno == EACCES || errno == ENOSYS));
	}
	while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	return child > 0 && status != 0;
}

size_t trial_denied_calls(char *names, size_t size)
{
	size_t count = 0, length = 0;

	names[0] = '\0';
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		if (!is_denied(i))
			continue;
		if (length < size)
			length += (size_t)snprintf(names + length, size - length, "%s%s",
						   count > 0 ? ", " : "", calls[i].name);
		count++;
	}
	return count;
}
