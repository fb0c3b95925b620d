/*
 * TCP probes by connect(): a socket for each, whose SYN has the TTL asked for and whose error queue
 * gets the ICMP errors about it. Runs in the unprivileged front end. Distrusts what the network
 * sends; the kernel has checked that it belongs to the connection.
 *
 * A probe is waiting (it has no socket yet), open (connecting), or failed (to be reported). The
 * kernel repeats a SYN after a second; an answer after that cannot be told from one to the
 * repetition. So a probe is given up shortly before.
 */
#include "frontend/transport/way.h"

#include <err.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/record.h"
#include "common/wire.h"
#include "frontend/process/clock.h"
#include "frontend/transport/ip_family.h"
#include "frontend/transport/local_route.h"
#include "frontend/transport/probe_socket.h"

enum {
	/* RFC 6298 2.1: the first repetition is due after a second. The kernel's timers may be an
	 * interval of CONFIG_HZ early, at most 10 ms. */
	GIVE_UP_MS = 980,
	/* When a SYN has left at the latest. The rest of a long call is an interruption, which must
	 * not make the round-trip time too short. */
	LEAVE_MAX_NS = 50 * NS_PER_US,
	EVENTS = 64, /* sockets handled for one look at the clock */
	/* A flow is a local port, beyond those that Linux chooses by itself. */
	FLOW_PORT_FIRST = 61000,
	FLOW_PORTS = 4096,
	FLOWINFO_SEND = 33, /* of linux/in6.h, which the C library's headers lack */
};

enum state { FREE = 0, WAITING, OPEN, FAILED, STATES };

struct probe {
	TAILQ_ENTRY(probe) entry; /* in the list of its state */
	enum state state;
	int fd;          /* OPEN */
	int error;       /* FAILED: errno */
	int64_t sent_ns; /* OPEN */
	struct probe_request request;
};

TAILQ_HEAD(probes, probe);

struct tcp {
	const struct transport_sink *sink;
	int epoll_fd; /* of the sockets alone */
	int fd_limit; /* their descriptors are below it */
	bool is_ready;
	struct probes lists[STATES]; /* in the order in which probes came into the state */
	struct probe *slots;         /* TRANSPORT_SLOTS, touched as they are used */
};

static void enter_state(struct tcp *tcp, struct probe *probe, enum state state)
{
	if (probe->state != FREE)
		TAILQ_REMOVE(&tcp->lists[probe->state], probe, entry);
	if (probe->state == OPEN)
		close(probe->fd);
	probe->state = state;
	if (state != FREE)
		TAILQ_INSERT_TAIL(&tcp->lists[state], probe, entry);
}

/* --- sending ---------------------------------------------------------------------------------- */

/* All probes of a flow have the same ports, one after the other. The IPv6 flow label, which the
 * kernel would choose anew for each socket, is the same, too. */
static int bind_flow(int fd, const struct probe_request *request)
{
	uint16_t port = (uint16_t)(FLOW_PORT_FIRST + request->flow % FLOW_PORTS);
	struct sockaddr_storage address;
	socklen_t length = ip_family_to_socket(request->family, request->source, port,
					       request->ifindex, &address);

	int error = probe_socket_set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (error == 0 && request->family == 6)
		error = probe_socket_set(fd, IPPROTO_IPV6, IPV6_AUTOFLOWLABEL, 0);
	if (error == 0 && request->family == 6)
		error = probe_socket_set(fd, IPPROTO_IPV6, FLOWINFO_SEND, 1);
	if (error == 0 && bind(fd, (struct sockaddr *)&address, length) != 0)
		error = errno;
	return error;
}

/* Errors are reported with their stamps, and close() resets the connection. */
static int set_up(int fd, const struct probe_request *request)
{
	static const struct linger reset = {.l_onoff = 1, .l_linger = 0};
	const struct ip_family *family = ip_family(request->family);
	bool is_flow = (request->flags & REQUEST_FLOW) != 0;
	struct probe_request common = *request;

	/* A socket is bound once. */
	if (is_flow)
		memset(common.source, 0, sizeof(common.source));
	int error = probe_socket_set_up(fd, &common);
	if (error == 0 && is_flow)
		error = bind_flow(fd, request);
	if (error == 0)
		error = probe_socket_set(fd, family->level, family->ttl, request->ttl);
	if (error == 0)
		error = probe_socket_set(fd, family->level, family->recverr, 1);
	if (error == 0)
		error = probe_socket_set(fd, SOL_SOCKET, SO_TIMESTAMPNS, 1);
	if (error == 0 && setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)) != 0)
		error = errno;
	/* A kernel before 5.9 has no such option and reports no extensions. */
	(void)probe_socket_set(fd, family->level, family->recverr_rfc4884, 1);
	return error;
}

static int connect_to(int fd, const struct probe_request *request)
{
	struct sockaddr_storage address;
	socklen_t length = ip_family_to_socket(request->family, request->destination, request->port,
					       request->ifindex, &address);
	struct sockaddr_in6 *six = (struct sockaddr_in6 *)&address;

	if (request->family == 6 && request->flags & REQUEST_FLOW)
		six->sin6_flowinfo = htonl(ip_family_flow_label(request->flow));
	int result = connect(fd, (struct sockaddr *)&address, length);
	/* A flow label of our choice is refused while an exclusive lease of one exists in this
	 * network namespace. Without it the label is 0. */
	if (result != 0 && errno == EINVAL && request->family == 6 && six->sin6_flowinfo != 0) {
		six->sin6_flowinfo = 0;
		result = connect(fd, (struct sockaddr *)&address, length);
	}
	return result == 0 || errno == EINPROGRESS ? 0 : errno;
}

/* The SYN leaves in about the middle of connect(). */
static int start_connect(struct tcp *tcp, struct probe *probe)
{
	struct epoll_event event = {.events = EPOLLOUT, .data.ptr = probe};
	int error = set_up(probe->fd, &probe->request);
	if (error != 0)
		return error;
	int64_t before_ns = clock_now_ns();
	error = connect_to(probe->fd, &probe->request);
	if (error != 0)
		return error;
	int64_t half_ns = (clock_now_ns() - before_ns) / 2;
	probe->sent_ns = before_ns + (half_ns < LEAVE_MAX_NS ? half_ns : LEAVE_MAX_NS);
	return epoll_ctl(tcp->epoll_fd, EPOLL_CTL_ADD, probe->fd, &event) == 0 ? 0 : errno;
}

static int send_probe(struct tcp *tcp, struct probe *probe)
{
	probe->fd = probe_socket_open(probe->request.family, IPPROTO_TCP);
	if (probe->fd < 0)
		return -probe->fd;
	int error = probe->fd < tcp->fd_limit ? start_connect(tcp, probe) : EMFILE;
	if (error != 0)
		close(probe->fd);
	return error;
}

/* EADDRNOTAVAIL has three reasons: the source is not local, this host has no address of the scope
 * (over IPv6), or the ports for the destination have run out. Only the last one passes. A flow has
 * no other port. */
static int unavailable_error(const struct probe_request *request)
{
	struct local_route route;

	if (request->flags & REQUEST_FLOW)
		return EADDRNOTAVAIL;
	int error = local_route(request, &route);
	if (error == EADDRNOTAVAIL && ip_family_is_unspecified(request->source))
		return ENETUNREACH;
	return error != 0 ? error : EAGAIN;
}

/* Sockets that close give back what has run out. If there are none, the caller asks again. */
static void send_waiting(struct tcp *tcp)
{
	struct probe *probe;

	while ((probe = TAILQ_FIRST(&tcp->lists[WAITING])) != NULL) {
		int error = send_probe(tcp, probe);

		if (error == EADDRNOTAVAIL)
			error = unavailable_error(&probe->request);
		if (error == ENOSPC) /* of epoll_ctl(2) */
			error = EAGAIN;
		if (transport_error_passes(error) && !TAILQ_EMPTY(&tcp->lists[OPEN]))
			return;
		probe->error = error;
		enter_state(tcp, probe, error == 0 ? OPEN : FAILED);
	}
}

/* --- answers ---------------------------------------------------------------------------------- */

static void report(struct tcp *tcp, struct probe *probe, struct probe_result *result)
{
	result->cookie = probe->request.cookie;
	/* First: the sink may use the slot again. */
	enter_state(tcp, probe, FREE);
	tcp->sink->result(tcp->sink->context, result);
}

/* The oldest error about the probe. False if there is none. */
static bool read_error(const struct probe *probe, int64_t now_ns, struct extension_info *extension,
		       struct probe_result *result)
{
	_Alignas(struct cmsghdr) uint8_t control[ERROR_CONTROL_BYTES];
	uint8_t data[ERROR_DATA_BYTES];
	struct iovec place = {data, sizeof(data)};
	struct msghdr message = {
		.msg_iov = &place,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};

	ssize_t length = recvmsg(probe->fd, &message, MSG_ERRQUEUE | MSG_DONTWAIT);
	if (length < 0)
		return false;
	struct probe_socket_error found = probe_socket_error(&message);
	if (found.error == NULL || found.error->ee_origin == SO_EE_ORIGIN_LOCAL)
		return false;
	/* The data begins with the TCP header. */
	probe_socket_icmp(&found, wire_family(probe->request.family)->header_bytes, data,
			  (size_t)length, extension, result);
	result->rtt_ns = clock_rtt_ns(probe->sent_ns, found.received_wall_ns,
				      clock_wall_offset_ns(), now_ns);
	return true;
}

static void answered_by_destination(const struct probe_request *request,
				    struct probe_result *result)
{
	result->kind = RESULT_REPLY;
	memcpy(result->responder, request->destination, sizeof(result->responder));
	if (ip_family_is_link_local(request->family, request->destination))
		result->responder_ifindex = request->ifindex;
}

/* How the connection came out, without an ICMP error. False if it is still open. */
static bool read_connection(const struct probe *probe, int64_t now_ns, const struct tcp_info *info,
			    struct probe_result *result)
{
	int error = 0;
	socklen_t length = sizeof(error);

	/* The kernel has measured: SYN/ACK came, whatever came after it. The smoothed time is that
	 * of the only sample, 0 for less than a microsecond. */
	if (info->tcpi_rtt != 0 || info->tcpi_state == TCP_ESTABLISHED) {
		answered_by_destination(&probe->request, result);
		result->rtt_ns = (int64_t)info->tcpi_rtt * NS_PER_US;
		return true;
	}
	if (getsockopt(probe->fd, SOL_SOCKET, SO_ERROR, &error, &length) != 0 || error == 0)
		return false;
	result->kind = RESULT_FAILED;
	result->error = error;
	result->rtt_ns = now_ns - probe->sent_ns;
	if (error == ECONNREFUSED)
		answered_by_destination(&probe->request, result);
	return true;
}

/* Returns how many results were reported. */
static size_t read_socket(struct tcp *tcp, struct probe *probe, int64_t now_ns)
{
	struct extension_info extension;
	struct probe_result result = {0};
	struct tcp_info info = {0};
	socklen_t length = sizeof(info);

	/* An earlier result of this round may have led to its end. */
	if (probe->state != OPEN ||
	    getsockopt(probe->fd, IPPROTO_TCP, TCP_INFO, &info, &length) != 0)
		return 0;
	if (!read_error(probe, now_ns, &extension, &result) &&
	    !read_connection(probe, now_ns, &info, &result))
		return 0;
	if (info.tcpi_total_retrans > 0)
		result = (struct probe_result){.kind = RESULT_LOST};
	report(tcp, probe, &result);
	return 1;
}

static size_t read_sockets(struct tcp *tcp, size_t most_results)
{
	struct epoll_event events[EVENTS];
	size_t reported = 0;
	int count;

	do {
		count = epoll_wait(tcp->epoll_fd, events, EVENTS, 0);
		int64_t now_ns = clock_now_ns();
		for (int i = 0; i < count; i++)
			reported += read_socket(tcp, events[i].data.ptr, now_ns);
	} while (count == EVENTS && reported < most_results);
	return reported;
}

static size_t report_failed(struct tcp *tcp, size_t most_results)
{
	struct probe *probe;
	size_t reported = 0;

	while (reported < most_results && (probe = TAILQ_FIRST(&tcp->lists[FAILED])) != NULL) {
		struct probe_result result = {.kind = RESULT_FAILED, .error = probe->error};

		report(tcp, probe, &result);
		reported++;
	}
	return reported;
}

static size_t report_lost(struct tcp *tcp, size_t most_results)
{
	int64_t sent_before_ns = clock_now_ns() - (int64_t)GIVE_UP_MS * NS_PER_MS;
	struct probe *probe;
	size_t reported = 0;

	while (reported < most_results && (probe = TAILQ_FIRST(&tcp->lists[OPEN])) != NULL &&
	       probe->sent_ns <= sent_before_ns) {
		struct probe_result result = {.kind = RESULT_LOST};

		report(tcp, probe, &result);
		reported++;
	}
	return reported;
}

/* --- the functions of way.h ------------------------------------------------------------------- */

static void tcp_probe(void *self, const struct probe_request *request)
{
	struct tcp *tcp = self;
	struct probe *probe = &tcp->slots[request->cookie % TRANSPORT_SLOTS];

	enter_state(tcp, probe, FREE);
	probe->request = *request;
	enter_state(tcp, probe, WAITING);
}

static void tcp_cancel(void *self, uint32_t cookie)
{
	struct tcp *tcp = self;
	struct probe *probe = &tcp->slots[cookie % TRANSPORT_SLOTS];

	if (probe->state != FREE && probe->request.cookie == cookie)
		enter_state(tcp, probe, FREE);
}

static void tcp_flush(void *self)
{
	send_waiting(self);
}

static size_t tcp_dispatch(void *self, size_t most_results)
{
	struct tcp *tcp = self;

	if (!tcp->is_ready) {
		tcp->is_ready = true;
		tcp->sink->ready(tcp->sink->context,
				 probe_socket_features(IPPROTO_TCP, FEATURE_TCP));
	}
	size_t reported = report_failed(tcp, most_results);
	reported += read_sockets(tcp, most_results);
	/* What has arrived by then counts. */
	reported += report_lost(tcp, most_results);
	send_waiting(tcp);
	return reported;
}

static int64_t tcp_next_ns(const void *self)
{
	const struct tcp *tcp = self;
	const struct probe *oldest = TAILQ_FIRST(&tcp->lists[OPEN]);

	if (!TAILQ_EMPTY(&tcp->lists[FAILED]))
		return 0;
	return oldest ? oldest->sent_ns + (int64_t)GIVE_UP_MS * NS_PER_MS : INT64_MAX;
}

static void tcp_close(void *self)
{
	struct tcp *tcp = self;
	struct probe *probe;

	while ((probe = TAILQ_FIRST(&tcp->lists[OPEN])) != NULL)
		enter_state(tcp, probe, FREE);
	close(tcp->epoll_fd);
	free(tcp->slots);
	free(tcp);
}

void tcp_open(struct way *way, int epoll_fd, const struct transport_sink *sink)
{
	static const struct way_functions functions = {
		tcp_probe, tcp_cancel, tcp_flush, tcp_dispatch, tcp_next_ns, tcp_close,
	};
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = way};
	struct tcp *tcp = calloc(1, sizeof(*tcp));

	if (tcp == NULL || (tcp->slots = calloc(TRANSPORT_SLOTS, sizeof(*tcp->slots))) == NULL)
		err(EXIT_FAILURE, "memory for TCP probes");
	tcp->sink = sink;
	tcp->fd_limit = probe_socket_fd_limit();
	for (int i = 0; i < STATES; i++)
		TAILQ_INIT(&tcp->lists[i]);
	tcp->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (tcp->epoll_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, tcp->epoll_fd, &event) != 0)
		err(EXIT_FAILURE, "epoll for TCP probes");
	*way = (struct way){&functions, tcp};
}
