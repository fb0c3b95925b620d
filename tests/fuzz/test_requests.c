/*
 * Random request lines, valid and broken mixed, to a real mtr-packet with its broker in an empty
 * network: each gets exactly one reply, and memory stays bounded, with a client that writes in odd
 * pieces and now and then stops reading. What a line is to be answered with is found out here by a
 * second, simple reading of the protocol.
 *
 *      usage: test_requests [LINES [SEED]]        BUILD names the directory with mtr-packet
 *
 * time-limit: 120
 */
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/sandbox.h"

enum {
	DEFAULT_LINES = 100000,
	LONGEST = 9000, /* bytes of a line */
	CHUNK = 1 << 16,
	COUNTERS = 1 << 21,
	SILENCE_S = 30, /* no reply for so long: some are missing */
	MEMORY_KB = 40 << 10,
	SANITIZED_MEMORY_KB = 400 << 10,
};

static uint64_t random_state;

static uint32_t draw(uint32_t below)
{
	random_state = random_state * 6364136223846793005 + 1442695040888963407;
	return (uint32_t)((random_state >> 33) % below);
}

#define PICK(list) ((list)[draw(sizeof(list) / sizeof((list)[0]))])

__attribute__((format(printf, 1, 2), noreturn)) static void die(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	printf("\nnot ok - one reply for each line\n");
	exit(EXIT_FAILURE);
}

/* --- lines -------------------------------------------------------------------------------------
 */

#define LONG_WORD                                                                                  \
	"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static const char *const destinations[] = {"ip-4 127.0.0.1",
					   "ip-4 127.0.0.2",
					   "ip-4 127.9.9.9",
					   "ip-6 ::1",
					   "ip-4 203.0.113.1",
					   "ip-6 2001:db8::1",
					   "ip-6 fe80::1%lo",
					   "ip-4 0.0.0.0",
					   "ip-4 224.0.0.1",
					   "ip-6 ff02::1",
					   "ip-4 127.255.255.255",
					   "ip-6 ::ffff:127.0.0.1",
					   "ip-4 ::1",
					   "ip-6 127.0.0.1",
					   "ip-4 x",
					   "ip-6 fe80::1%nosuch",
					   "ip-6 fe80::1%1",
					   "ip-6 ::",
					   "ip-4 255.255.255.255"};
static const char *const names[] = {
	"ip-4",       "ip-6",         "protocol", "port",          "local-ip-4", "local-ip-6",
	"local-port", "local-device", "timeout",  "ttl",           "size",       "bit-pattern",
	"tos",        "mark",         "details",  "dont-fragment", "flow",       "feature",
	"",           "ttl0",         "TTL",      "\xff"};
static const char *const values[] = {"0",
				     "1",
				     "-1",
				     "2",
				     "64",
				     "255",
				     "256",
				     "1023",
				     "1024",
				     "1400",
				     "65535",
				     "65536",
				     "-511",
				     "-512",
				     "4294967295",
				     "4294967296",
				     "99999999999999999999999",
				     "0.5",
				     "1e9",
				     "x",
				     "icmp",
				     "udp",
				     "tcp",
				     "sctp",
				     "lo",
				     "nosuch",
				     "127.0.0.1",
				     "::1",
				     "203.0.113.9",
				     "0x10",
				     "+7",
				     "-",
				     LONG_WORD};
static const char *const right_arguments[] = {"ttl 1",
					      "ttl 64",
					      "size 28",
					      "size 1400",
					      "size 9000",
					      "size 65535",
					      "protocol udp",
					      "protocol tcp",
					      "protocol tcp port 9",
					      "protocol udp port 9",
					      "protocol sctp",
					      "tos 184",
					      "bit-pattern -3",
					      "mark 7",
					      "details 1",
					      "dont-fragment 1",
					      "flow 9",
					      "local-device lo",
					      "local-ip-4 127.0.0.9",
					      "local-ip-6 ::1",
					      "protocol udp local-port 5001"};
static const char *const features[] = {"icmp", "ip-6", "mark", "version", "nothing", "\xc3\xa4"};
static const char *const timeouts[] = {"0", "0.01", "0.1", "0.5", "1"};

static char line[LONGEST + 1];
static size_t length;

__attribute__((format(printf, 1, 2))) static void add(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	length += (size_t)vsnprintf(line + length, LONGEST - length, format, arguments);
	va_end(arguments);
}

/* Most are answered by the loopback; timeouts are short, so that the test ends. */
static void make_probe(int token)
{
	add("%d send-probe %s timeout %s", token,
	    draw(4) ? destinations[draw(4)] : PICK(destinations), PICK(timeouts));
	for (uint32_t i = draw(3); i > 0; i--)
		add(" %s", PICK(right_arguments));
}

static void make_wild_probe(int token)
{
	add("%d send-probe %s timeout %s", token, PICK(destinations), PICK(timeouts));
	for (uint32_t i = draw(18); i > 0; i--)
		add(" %s %s", PICK(names), PICK(values));
	if (draw(10) == 0)
		add(" ttl");
	/* Whatever was drawn: not the ten seconds that are the default, nor a month. */
	add(" timeout 0.1");
}

static void make_noise(uint32_t most)
{
	for (uint32_t i = draw(most); i > 0; i--)
		line[length++] = (char)(draw(3) ? ' ' + (int)draw(95) : (int)draw(256));
}

static void make_line(int token)
{
	length = 0;
	switch (draw(12)) {
	case 0:
		make_wild_probe(token);
		break;
	case 1:
		add("%d check-support feature %s", token, PICK(features));
		break;
	case 2:
		add("%d %s", token, PICK(names));
		break;
	case 3:
		make_noise(200);
		break;
	case 4:
		if (draw(20) == 0)
			make_noise(LONGEST);
		break;
	case 5:
		make_probe(token);
		line[draw((uint32_t)length)] = (char)draw(256);
		/* A point that is lost must not make it 91 seconds. */
		add(" timeout 0.1");
		break;
	default:
		make_probe(token);
	}
	for (size_t i = 0; i < length; i++)
		if (line[i] == '\n')
			line[i] = ' ';
	if (draw(5) == 0)
		line[length++] = '\r';
	line[length++] = '\n';
}

/* --- what is due -------------------------------------------------------------------------------
 */

static int due[COUNTERS]; /* by token */
static long due_overflow, due_parse_error, sent_lines, replies;

static int *due_for(long token)
{
	return &due[(uint32_t)token % COUNTERS];
}

/* The token that a line is to be answered with; false: 0 command-parse-error. */
static bool token_of(const char *text, size_t count, long *token)
{
	size_t fields = 0, at = 0, first = 0, first_length = 0;

	if (count > 0 && text[count - 1] == '\r')
		count--;
	while (at < count) {
		if (text[at] == ' ' || text[at] == '\t') {
			at++;
			continue;
		}
		size_t from = at;
		while (at < count && text[at] != ' ' && text[at] != '\t')
			at++;
		if (fields++ == 0) {
			first = from;
			first_length = at - from;
		}
	}
	if (fields < 2 || fields % 2 || fields > 34 || first_length >= 100)
		return false;
	char copy[100];
	memcpy(copy, text + first, first_length);
	copy[first_length] = '\0';
	/* strtol would take leading blanks of other kinds. */
	const char *digits = copy + (copy[0] == '-' || copy[0] == '+');
	if (strspn(digits, "0123456789") != strlen(digits) || !*digits ||
	    strlen(copy) != first_length)
		return false;
	errno = 0;
	*token = strtol(copy, NULL, 10);
	return errno == 0 && *token >= INT32_MIN && *token <= INT32_MAX;
}

static void expect_reply(void)
{
	long token;

	sent_lines++;
	if (length - 1 > 4095)
		due_overflow++;
	else if (token_of(line, length - 1, &token))
		(*due_for(token))++;
	else
		due_parse_error++;
}

static void take_reply(const char *text)
{
	char *rest;
	long token = strtol(text, &rest, 10);

	replies++;
	if (strcmp(text, "0 command-buffer-overflow") == 0)
		due_overflow--;
	else if (strcmp(text, "0 command-parse-error") == 0)
		due_parse_error--;
	else if (*rest != ' ' || --*due_for(token) < 0)
		die("a reply that nobody waits for: %s", text);
	if (due_overflow < 0 || due_parse_error < 0)
		die("an error that nobody made: %s", text);
	if (strstr(text, "unexpected-error") || strstr(text, "probes-exhausted"))
		die("what must not happen here: %s", text);
}

/* --- the program under test --------------------------------------------------------------------
 */

static pid_t child;
static int to_child, from_child;

static void write_file(const char *path, const char *format, unsigned number)
{
	char text[50];
	int fd = open(path, O_WRONLY);
	int count = snprintf(text, sizeof(text), format, number);

	if (fd < 0 || write(fd, text, (size_t)count) != count)
		die("%s: %s", path, strerror(errno));
	close(fd);
}

/* A network of its own with nothing but the loopback: no probe can leave. */
static void enter_private_network(void)
{
	unsigned uid = getuid(), gid = getgid();
	struct ifreq request = {.ifr_name = "lo"};

	if (uid == 0) {
		if (unshare(CLONE_NEWNET) != 0)
			die("unshare: %s", strerror(errno));
	} else {
		if (unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0) {
			printf("ok - one reply for each line # SKIP no user namespaces\n");
			exit(77);
		}
		write_file("/proc/self/setgroups", "deny", 0);
		write_file("/proc/self/uid_map", "0 %u 1", uid);
		write_file("/proc/self/gid_map", "0 %u 1", gid);
	}
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	request.ifr_flags = IFF_UP | IFF_RUNNING;
	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &request) != 0)
		die("lo: %s", strerror(errno));
	close(fd);
}

static void start_program(void)
{
	int input[2], output[2];
	char path[4096];
	const char *build = getenv("BUILD");

	snprintf(path, sizeof(path), "%s/mtr-packet", build ? build : "build");
	if (pipe2(input, O_CLOEXEC) != 0 || pipe2(output, O_CLOEXEC) != 0)
		die("pipe: %s", strerror(errno));
	child = fork();
	if (child == 0) {
		dup2(input[0], 0);
		dup2(output[1], 1);
		execl(path, "mtr-packet", (char *)NULL);
		_exit(127);
	}
	close(input[0]);
	close(output[1]);
	to_child = input[1];
	from_child = output[0];
	fcntl(to_child, F_SETFL, O_NONBLOCK);
	signal(SIGPIPE, SIG_IGN);
}

/* The most memory it ever used. */
static long memory_kb(void)
{
	char path[50], text[4096];
	long kb = -1;

	snprintf(path, sizeof(path), "/proc/%d/status", child);
	FILE *status = fopen(path, "r");
	while (status && fgets(text, sizeof(text), status))
		if (sscanf(text, "VmHWM: %ld", &kb) == 1)
			break;
	if (status)
		fclose(status);
	return kb;
}

/* --- the two streams ---------------------------------------------------------------------------
 */

static char input[2 * CHUNK];
static size_t input_from, input_to;

static void make_input(long lines)
{
	if (input_from == input_to)
		input_from = input_to = 0;
	while (sent_lines < lines && input_to + LONGEST + 2 < sizeof(input)) {
		make_line((int)(sent_lines % (COUNTERS - 1)) + 1);
		expect_reply();
		memcpy(input + input_to, line, length);
		input_to += length;
	}
}

static void write_input(void)
{
	size_t most = draw(3) ? input_to - input_from : 1 + draw(500);

	if (most > input_to - input_from)
		most = input_to - input_from;
	ssize_t count = write(to_child, input + input_from, most);
	if (count < 0 && errno != EAGAIN)
		die("mtr-packet is gone: %s", strerror(errno));
	if (count > 0)
		input_from += (size_t)count;
}

static void read_output(void)
{
	static char output[CHUNK];
	static size_t have;
	ssize_t count = read(from_child, output + have, sizeof(output) - 1 - have);
	char *at = output, *newline;

	if (count <= 0)
		die("mtr-packet ended after %ld of %ld replies", replies, sent_lines);
	have += (size_t)count;
	while ((newline = memchr(at, '\n', have - (size_t)(at - output)))) {
		*newline = '\0';
		take_reply(at);
		at = newline + 1;
	}
	have -= (size_t)(at - output);
	memmove(output, at, have);
}

static void pause_reading(void)
{
	const struct timespec pause = {0, 20 * 1000000};

	nanosleep(&pause, NULL);
}

static void exchange(long lines)
{
	while (replies < lines) {
		if (input_from == input_to)
			make_input(lines);
		struct pollfd polled[] = {
			{.fd = from_child, .events = POLLIN},
			{.fd = input_from < input_to ? to_child : -1, .events = POLLOUT},
		};
		int ready = poll(polled, 2, SILENCE_S * 1000);
		if (ready == 0)
			die("%ld of %ld lines have no reply", sent_lines - replies, sent_lines);
		if (polled[1].revents)
			write_input();
		if (polled[0].revents && draw(2000) == 0)
			pause_reading();
		else if (polled[0].revents)
			read_output();
	}
}

int main(int argc, char **argv)
{
	long lines = argc > 1 ? atol(argv[1]) : DEFAULT_LINES;
	unsigned long seed = argc > 2 ? strtoul(argv[2], NULL, 10) : 1;
	long most_kb = sandbox_sanitized() ? SANITIZED_MEMORY_KB : MEMORY_KB;
	int status;

	random_state = seed;
	enter_private_network();
	start_program();
	exchange(lines);

	long used_kb = memory_kb();
	close(to_child);
	char extra;
	if (read(from_child, &extra, 1) != 0)
		die("more replies than lines");
	if (waitpid(child, &status, 0) != child || status != 0)
		die("mtr-packet ended with wait status %#x", (unsigned)status);
	for (size_t i = 0; i < COUNTERS; i++)
		if (due[i] != 0)
			die("token %zu was answered for another", i);
	printf("# %ld lines, seed %lu, %ld kB at most\n", lines, seed, used_kb);
	printf("ok - one reply for each line\n");
	printf("%sok - memory is bounded\n", used_kb >= 0 && used_kb <= most_kb ? "" : "not ");
	return used_kb >= 0 && used_kb <= most_kb ? EXIT_SUCCESS : EXIT_FAILURE;
}
