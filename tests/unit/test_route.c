/*
 * route_lookup() and the interface names against the running kernel, in a network namespace that
 * almost each test makes for itself (skipped where none may be made), with a veth pair that leads
 * nowhere.
 */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <linux/seccomp.h>

#include "frontend/route.h"
#include "tests/support/sandbox.h"

/* An ordinary user gets a network namespace only with a user namespace of its own; which a process
 * with threads, as a test of Criterion's is, cannot enter: run the whole under unshare -Urn then.
 */
static bool own_network(void)
{
	return unshare(CLONE_NEWNET) == 0;
}

static void ip(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void ip(const char *format, ...)
{
	char arguments[200], command[256];
	va_list list;

	va_start(list, format);
	vsnprintf(arguments, sizeof arguments, format, list);
	va_end(list);
	snprintf(command, sizeof command, "PATH=$PATH:/sbin:/usr/sbin ip %s", arguments);
	cr_assert_eq(system(command), 0, "%s", command);
}

static uint32_t near, down;

/* near (198.18.0.1, .9, 2001:db8::1, fe80::77) – far; idle has an address but is down. */
static struct route_table *network(void)
{
	struct route_table *table;

	if (!own_network())
		cr_skip_test("no network namespace may be made here");
	ip("link set lo up");
	ip("link add near type veth peer name far");
	ip("link add idle type veth peer name idle2");
	ip("addr add 198.18.0.1/24 dev near");
	ip("addr add 198.18.0.9/24 dev near");
	ip("addr add 198.18.9.1/24 dev idle");
	ip("-6 addr add 2001:db8::1/64 dev near nodad");
	ip("-6 addr add fe80::77/64 dev near nodad");
	ip("link set far up");
	ip("link set near up mtu 1400");
	near = if_nametoindex("near");
	down = if_nametoindex("idle");
	table = route_open();
	cr_assert_not_null(table, "%s", strerror(errno));
	return table;
}

static void parse(const char *text, uint8_t address[16])
{
	memset(address, 0, 16);
	if (text != NULL)
		cr_assert_eq(inet_pton(strchr(text, ':') ? AF_INET6 : AF_INET, text, address), 1);
}

static struct route_query query(const char *destination, const char *source, uint32_t ifindex)
{
	struct route_query q = {
		.family = strchr(destination, ':') ? 6 : 4,
		.ifindex = ifindex,
	};

	parse(destination, q.destination);
	parse(source, q.source);
	return q;
}

static struct route_answer found(struct route_table *table, const struct route_query *q,
				 const char *source)
{
	struct route_answer answer;
	uint8_t expected[16];
	int error = route_lookup(table, q, &answer);

	cr_assert_eq(error, 0, "%s", strerror(error));
	parse(source, expected);
	cr_assert_arr_eq(answer.source, expected, 16, "not %s", source);
	return answer;
}

static void refused(struct route_table *table, const char *destination, const char *source,
		    uint32_t ifindex, int expected)
{
	static const struct route_answer nothing;
	struct route_query q = query(destination, source, ifindex);
	struct route_answer answer;
	int error = route_lookup(table, &q, &answer);

	cr_expect_eq(error, expected, "%s: %s, not %s", destination, strerrorname_np(error),
		     strerrorname_np(expected));
	cr_expect_eq(memcmp(&answer, &nothing, sizeof answer), 0);
}

Test(route, sources_and_mtus, .timeout = 20)
{
	struct route_table *table = network();
	struct route_query q = query("198.18.0.2", NULL, 0);
	struct route_answer answer = found(table, &q, "198.18.0.1");

	cr_assert_eq(answer.ifindex, near);
	cr_assert_eq(answer.mtu_bytes, 1400);
	cr_assert_eq(answer.path_mtu_bytes, 1400);
	q = query("198.18.0.2", "198.18.0.9", near);
	found(table, &q, "198.18.0.9");
	q = query("127.0.0.1", "127.3.4.5", 0);
	answer = found(table, &q, "127.3.4.5");
	cr_assert_eq(answer.mtu_bytes, 65536);
	q = query("2001:db8::2", NULL, 0);
	answer = found(table, &q, "2001:db8::1");
	cr_assert_eq(answer.ifindex, near);
	q = query("2001:db8::1", NULL, 0);
	found(table, &q, "2001:db8::1");
	q = query("fe80::1", NULL, near);
	answer = found(table, &q, "fe80::77");
	cr_assert_eq(answer.ifindex, near);
	q = query("fe80::1", "fe80::77", near);
	found(table, &q, "fe80::77");
	route_close(table);
}

Test(route, foreign_sources, .timeout = 20)
{
	struct route_table *table = network();

	refused(table, "198.18.0.2", "198.18.0.3", 0, EADDRNOTAVAIL);
	refused(table, "198.18.0.2", "198.18.0.255", 0, EADDRNOTAVAIL);
	refused(table, "198.18.0.2", "198.18.0.3", near, EADDRNOTAVAIL);
	refused(table, "2001:db8::2", "2001:db8::3", 0, EADDRNOTAVAIL);
	refused(table, "2001:db8::2", "2001:db9::3", near, EADDRNOTAVAIL);
	refused(table, "fe80::1", "fe80::78", near, EADDRNOTAVAIL);
	route_close(table);
}

Test(route, refusing_routes, .timeout = 20)
{
	struct route_table *table = network();

	ip("route add unreachable 198.19.1.0/24");
	ip("route add prohibit 198.19.2.0/24");
	ip("route add blackhole 198.19.3.0/24");
	ip("-6 route add unreachable 2001:db8:1::/48");
	ip("-6 route add prohibit 2001:db8:2::/48");
	ip("-6 route add blackhole 2001:db8:3::/48");
	refused(table, "198.19.1.1", NULL, 0, EHOSTUNREACH);
	refused(table, "198.19.2.1", NULL, 0, EACCES);
	refused(table, "198.19.3.1", NULL, 0, ENETUNREACH);
	refused(table, "198.19.3.1", "198.18.0.1", 0, ENETUNREACH);
	refused(table, "198.19.4.1", NULL, 0, ENETUNREACH);
	refused(table, "2001:db8:1::1", NULL, 0, EHOSTUNREACH);
	refused(table, "2001:db8:2::1", NULL, 0, EACCES);
	refused(table, "2001:db8:3::1", NULL, 0, ENETUNREACH);
	refused(table, "2001:db8:4::1", NULL, 0, ENETUNREACH);
	refused(table, "198.18.0.255", NULL, 0, EACCES);
	refused(table, "255.255.255.255", NULL, near, EACCES);
	refused(table, "224.0.0.1", NULL, near, EACCES);
	refused(table, "ff02::1", NULL, near, EACCES);
	route_close(table);
}

Test(route, interfaces_down_or_missing, .timeout = 20)
{
	struct route_table *table = network();

	refused(table, "198.18.9.2", NULL, 0, ENETUNREACH);
	refused(table, "198.18.9.2", NULL, down, ENETDOWN);
	refused(table, "fe80::1", NULL, down, ENETDOWN);
	refused(table, "198.18.0.2", NULL, 9999, ENODEV);
	refused(table, "2001:db8::2", NULL, 9999, ENODEV);
	refused(table, "2001:db8::2", NULL, UINT32_MAX, ENODEV);
	route_close(table);
}

Test(route, mark_and_tos_reach_the_rules, .timeout = 20)
{
	struct route_table *table = network();
	struct route_query q = query("198.18.0.2", NULL, 0);
	struct route_query q6 = query("2001:db8::2", NULL, 0);
	struct route_answer answer;

	ip("rule add fwmark 5 table 99");
	ip("route add prohibit default table 99");
	ip("-6 rule add fwmark 5 table 99");
	ip("-6 route add prohibit default table 99");
	ip("rule add tos 0x10 table 99");
	q.mark = q6.mark = 5; /* counts for nothing without has_mark */
	found(table, &q, "198.18.0.1");
	found(table, &q6, "2001:db8::1");
	q.has_mark = q6.has_mark = true;
	cr_assert_eq(route_lookup(table, &q, &answer), EACCES);
	cr_assert_eq(route_lookup(table, &q6, &answer), EACCES);
	q.mark = 6;
	found(table, &q, "198.18.0.1");
	q.tos = 0x10;
	cr_assert_eq(route_lookup(table, &q, &answer), EACCES);
	q.tos = 0xb8;
	found(table, &q, "198.18.0.1");
	route_close(table);
}

Test(route, route_mtu_goes_before_the_links, .timeout = 20)
{
	struct route_table *table = network();
	struct route_query q = query("198.19.4.1", NULL, 0);

	ip("route add 198.19.4.0/24 via 198.18.0.2 mtu 1300");
	cr_assert_eq(found(table, &q, "198.18.0.1").mtu_bytes, 1300);
	ip("-6 route add 2001:db8:4::/48 via 2001:db8::2 mtu 1310");
	q = query("2001:db8:4::4", NULL, 0);
	cr_assert_eq(found(table, &q, "2001:db8::1").mtu_bytes, 1310);
	route_close(table);
}

/* Every kind of change is noticed at once after route_check_changes(). */
Test(route, changes_drop_the_cache, .timeout = 20)
{
	struct route_table *table = network();
	struct route_query q = query("198.18.0.2", NULL, 0);
	struct route_query q6 = query("2001:db8:7::1", NULL, 0);
	struct route_answer answer;

	cr_assert_eq(found(table, &q, "198.18.0.1").mtu_bytes, 1400);
	ip("link set near mtu 1350");
	route_check_changes(table);
	cr_assert_eq(found(table, &q, "198.18.0.1").mtu_bytes, 1350);
	ip("addr del 198.18.0.1/24 dev near");
	ip("addr add 198.18.0.7/24 dev near");
	route_check_changes(table);
	found(table, &q, "198.18.0.7");
	ip("route add 198.18.0.2/32 dev near src 198.18.9.1");
	route_check_changes(table);
	found(table, &q, "198.18.9.1");
	ip("rule add to 198.18.0.2 prohibit");
	route_check_changes(table);
	cr_assert_eq(route_lookup(table, &q, &answer), EACCES);

	cr_assert_eq(route_lookup(table, &q6, &answer), ENETUNREACH);
	ip("-6 route add 2001:db8:7::/64 via 2001:db8::2");
	route_check_changes(table);
	found(table, &q6, "2001:db8::1");
	ip("-6 addr add 2001:db8:7::7/64 dev near nodad");
	route_check_changes(table);
	found(table, &q6, "2001:db8:7::7");
	ip("-6 rule add to 2001:db8:7::/64 prohibit");
	route_check_changes(table);
	cr_assert_eq(route_lookup(table, &q6, &answer), EACCES);
	route_close(table);
}

static void sleep_ms(long ms)
{
	nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

/* The kernel takes up a new link's carrier a moment after the link is up: until then packets may be
 * lost, and what was learnt is forgotten again. */
static void settle(struct route_table *table)
{
	struct pollfd monitor = {.fd = route_monitor_fd(table), .events = POLLIN};

	for (int i = 0; i < 50 && poll(&monitor, 1, 100) == 1; i++)
		route_check_changes(table);
}

Test(route, changes_are_noticed_without_being_asked_for, .timeout = 20)
{
	struct route_table *table = network();
	struct pollfd monitor = {.fd = route_monitor_fd(table), .events = POLLIN};
	struct route_query q = query("198.18.0.2", NULL, 0);

	settle(table);
	found(table, &q, "198.18.0.1");
	cr_assert_eq(poll(&monitor, 1, 0), 0, "nothing was changed yet");
	ip("link set near mtu 1350");
	cr_assert_eq(poll(&monitor, 1, 5000), 1);
	sleep_ms(50); /* several ticks of the coarse clock */
	cr_assert_eq(found(table, &q, "198.18.0.1").mtu_bytes, 1350);
	route_close(table);
}

/* Whoever polls is woken by the first change that concerns what is kept, and by no other. */
Test(route, watched_changes, .timeout = 20)
{
	struct route_table *table = network();
	struct pollfd watch = {.events = POLLIN};
	struct route_query q = query("198.18.0.77", NULL, 0);
	uint32_t ifindex;

	settle(table);
	cr_assert_eq(route_watch(table), -1, "nothing is kept");
	ip("addr add 198.18.0.55/24 dev near");
	found(table, &q, "198.18.0.1");
	watch.fd = route_watch(table);
	cr_assert_eq(watch.fd, route_monitor_fd(table));
	cr_assert_eq(poll(&watch, 1, 0), 0, "what was reported before is told again");
	ip("route add 198.18.0.77/32 dev near src 198.18.0.9");
	cr_assert_eq(poll(&watch, 1, 5000), 1);
	route_check_changes(table);
	cr_assert_eq(route_watch(table), -1);
	found(table, &q, "198.18.0.9");
	cr_assert_eq(route_watch(table), watch.fd);
	/* The name of a link is kept as well. */
	ip("route del 198.18.0.77/32");
	cr_assert_eq(poll(&watch, 1, 5000), 1);
	route_check_changes(table);
	cr_assert_eq(route_interface_index(table, "near", &ifindex), 0);
	cr_assert_eq(route_watch(table), watch.fd);
	cr_assert_eq(route_interface_index(table, "near", &ifindex), 0);
	ip("link set near name other");
	cr_assert_eq(poll(&watch, 1, 5000), 1);
	route_check_changes(table);
	cr_assert_eq(route_interface_index(table, "near", &ifindex), ENODEV);
	route_close(table);
}

/* More destinations than the cache holds, twice: right answers, not stale ones of others. */
Test(route, more_destinations_than_places, .timeout = 60)
{
	struct route_table *table = network();
	struct route_query q = query("198.19.0.0", NULL, 0);

	ip("route add 198.19.0.0/17 via 198.18.0.2 src 198.18.0.9");
	ip("route add 198.19.128.0/17 via 198.18.0.2");
	for (unsigned i = 0; i < 40000; i++) {
		unsigned host = i * 11 % 65536;

		q.destination[2] = (uint8_t)(host >> 8);
		q.destination[3] = (uint8_t)host;
		found(table, &q, host < 32768 ? "198.18.0.9" : "198.18.0.1");
	}
	route_close(table);
}

static uint16_t checksum(const uint8_t *bytes, size_t length)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < length; i += 2)
		sum += (uint32_t)(bytes[i] << 8 | bytes[i + 1]);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t) ~(sum + (sum >> 16));
}

/* Lets `near` receive, from its peer, a router's "fragmentation needed, 1200" that quotes an echo
 * reply from 198.18.0.1 to 198.19.0.1: those the kernel believes without a socket. */
static void receive_too_big(void)
{
	/* clang-format off */
	uint8_t frame[70] = {
		[12] = 0x08, 0x00,                         /* Ethernet: IPv4 */
		0x45, 0, 0, 56, 0, 1, 0, 0, 64, IPPROTO_ICMP, 0, 0,
		198, 18, 0, 2, 198, 18, 0, 1,
		3, 4, 0, 0, 0, 0, 1200 >> 8, 1200 & 0xff,  /* ICMP: MTU 1200 */
		0x45, 0, 1400 >> 8, 1400 & 0xff, 0, 1, 0x40, 0, 64, IPPROTO_ICMP, 0, 0,
		198, 18, 0, 1, 198, 19, 0, 1,
		0, 0, 0xff, 0xfd, 0, 1, 0, 1,              /* echo reply */
	};
	/* clang-format on */
	struct sockaddr_ll to = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(0x0800),
		.sll_ifindex = (int)if_nametoindex("far"),
	};
	struct ifreq request = {.ifr_name = "near"};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	uint16_t sum = checksum(frame + 14, 20);

	cr_assert(fd >= 0 && ioctl(fd, SIOCGIFHWADDR, &request) == 0);
	memcpy(frame, request.ifr_hwaddr.sa_data, 6);
	frame[24] = (uint8_t)(sum >> 8);
	frame[25] = (uint8_t)sum;
	sum = checksum(frame + 42, 20);
	frame[52] = (uint8_t)(sum >> 8);
	frame[53] = (uint8_t)sum;
	sum = checksum(frame + 34, 36);
	frame[36] = (uint8_t)(sum >> 8);
	frame[37] = (uint8_t)sum;
	cr_assert_eq(sendto(fd, frame, sizeof frame, 0, (struct sockaddr *)&to, sizeof to),
		     sizeof frame);
	close(fd);
}

Test(route, learnt_path_mtu, .timeout = 20)
{
	struct route_table *table = network();
	struct route_query q = query("198.19.0.1", NULL, 0);
	struct route_answer answer;

	ip("route add 198.19.0.0/24 via 198.18.0.2 mtu 1390");
	answer = found(table, &q, "198.18.0.1");
	cr_assert_eq(answer.path_mtu_bytes, 1390);
	settle(table);
	receive_too_big();
	/* Nothing reports it; a cached answer may stand for two seconds. */
	for (int i = 0; i < 100 && answer.path_mtu_bytes != 1200; i++) {
		if (i % 25 == 24) /* as a router does for each packet that is too big */
			receive_too_big();
		sleep_ms(50);
		answer = found(table, &q, "198.18.0.1");
	}
	cr_assert_eq(answer.path_mtu_bytes, 1200);
	cr_assert_eq(answer.mtu_bytes, 1390, "the route's own stands");
	route_close(table);
}

Test(route, names_of_interfaces, .timeout = 20)
{
	struct route_table *table = network();
	char name[IF_NAMESIZE];
	uint32_t ifindex;

	for (int round = 0; round < 2; round++) { /* asked for, then remembered */
		cr_assert_eq(route_interface_index(table, "near", &ifindex), 0);
		cr_assert_eq(ifindex, near);
		cr_assert_eq(route_interface_name(table, down, name), 0);
		cr_assert_str_eq(name, "idle");
	}
	cr_assert_eq(route_interface_name(table, 9999, name), ENODEV);
	cr_assert_str_empty(name);
	cr_assert_eq(route_interface_name(table, 0, name), ENODEV);
	cr_assert_eq(route_interface_index(table, "", &ifindex), ENODEV);
	cr_assert_eq(route_interface_index(table, "a/b c", &ifindex), ENODEV);
	cr_assert_eq(route_interface_index(table, "nea", &ifindex), ENODEV);
	cr_assert_eq(route_interface_index(table, "a-name-longer-than-any-link-has", &ifindex),
		     ENODEV);
	ip("link property add dev near altname a-name-longer-than-any-link-has");
	cr_assert_eq(route_interface_index(table, "a-name-longer-than-any-link-has", &ifindex), 0);
	cr_assert_eq(ifindex, near);
	ip("link set near down");
	ip("link set near name renamed");
	route_check_changes(table);
	cr_assert_eq(route_interface_index(table, "near", &ifindex), ENODEV);
	cr_assert_eq(route_interface_index(table, "renamed", &ifindex), 0);
	cr_assert_eq(ifindex, near);
	route_close(table);
}

struct hits {
	struct route_table *table; /* NULL: looks at the clock only */
	struct route_query query;
};

enum { HITS = 100, ENDED_IN_PEACE = 42, NOT_TRIED = 43 };

static int64_t coarse_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int look_up(const struct hits *hits)
{
	struct route_answer answer;

	if (hits->table != NULL)
		return route_lookup(hits->table, &hits->query, &answer);
	return coarse_ns() > 0 ? 0 : EINVAL;
}

/* From now on any system call but the last one ends the process. */
static bool forbid_system_calls(void)
{
	static struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};
	static struct sock_fprog program = {sizeof filter / sizeof filter[0], filter};

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/* At the beginning of a tick of the coarse clock, and after the look-up that reads, once in each
 * tick, what has changed. */
static int look_up_without_system_calls(void *context)
{
	const struct hits *hits = context;
	int64_t tick_ns = coarse_ns();
	int different = 0;

	while (coarse_ns() == tick_ns)
		;
	int error = look_up(hits);
	if (!forbid_system_calls())
		return NOT_TRIED;
	for (int i = 0; i < HITS; i++)
		different += look_up(hits) != error;
	return different == 0 ? ENDED_IN_PEACE : 1;
}

/* Where the machine interrupts the child until the tick is over, another is tried. */
static struct sandbox_end try_without_system_calls(struct hits *hits)
{
	struct sandbox_end end = {.signal = SIGSYS};

	for (int i = 0; i < 50 && end.signal == SIGSYS; i++)
		end = sandbox_run(look_up_without_system_calls, hits);
	return end;
}

/* The promise that no probe pays a system call. Any network will do, even one without a route. */
Test(route, hits_make_no_system_call, .timeout = 30)
{
	struct hits hits = {NULL, query("127.0.0.1", NULL, 0)};
	struct sandbox_end end = try_without_system_calls(&hits);

	if (end.signal == SIGSYS)
		cr_skip_test("even the clock takes a system call here");
	hits.table = route_open();
	cr_assert_not_null(hits.table, "%s", strerror(errno));
	end = try_without_system_calls(&hits);
	cr_expect(end.signal == 0 && end.status == ENDED_IN_PEACE, "signal %d, status %d",
		  end.signal, end.status);
	route_close(hits.table);
}
