/*
 * causes.c: what is said in states that a test cannot make on every machine.
 * tests/lab/test_doctor.py makes the others.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "frontend/doctor/causes.h"
#include "frontend/transport/transport.h"

enum { ALL = FEATURE_PROTOCOLS * (1 + (1 << FEATURE_IPV6_SHIFT)) };

/* All is well; each case changes something. */
static const struct facts fine = {
	.wanted = ALL,
	.path = "/opt/it's here/postern-broker",
	.file = {.st_mode = S_IFREG | 0755},
	.has_capability = true,
	.keeps_capabilities = true,
	.service = "/run/postern/broker.sock",
	.service_error = ENOENT,
	.has_proc = true,
	.has_null = true,
	.kernel_has_ipv6 = true,
	.has_route = {true, true},
	.program = {{.name = "mtr-packet", .path = (char *)"/bin/mtr-packet", .is_postern = true},
		    {.name = "tracepath", .path = (char *)"/bin/tracepath", .is_postern = true}},
	.trial = {.finished = true, .broker = BROKER_OWN, .features = ALL, .working = ALL},
};

static void lose_broker(struct facts *facts, int error, const char *why)
{
	uint32_t lost = (FEATURE_ICMP | FEATURE_SCTP) * (1 + (1 << FEATURE_IPV6_SHIFT));

	facts->trial.broker = BROKER_NONE;
	facts->trial.broker_error = error;
	strcpy(facts->trial.broker_why, why);
	facts->trial.features &= ~lost;
	facts->trial.working &= ~lost;
}

static void lose_capabilities(struct facts *facts)
{
	lose_broker(facts, EPERM, "postern-broker: CAP_NET_RAW is not held");
	facts->has_capability = false;
	facts->keeps_capabilities = false;
}

static void lose_kernel_ipv6(struct facts *facts)
{
	facts->kernel_has_ipv6 = false;
	facts->has_route[1] = false;
	facts->trial.features = facts->trial.working = FEATURE_PROTOCOLS;
}

static void end_trial(struct facts *facts)
{
	facts->trial = (struct trial){.signal = SIGSYS};
}

static void end_broker(struct facts *facts)
{
	lose_broker(facts, ECONNRESET, "postern-broker: ended by signal 31");
}

static void lose_several(struct facts *facts)
{
	lose_capabilities(facts);
	facts->no_new_privs = facts->bounded = facts->nosuid = true;
}

static void lose_answer(struct facts *facts)
{
	facts->trial.working &= ~(uint32_t)FEATURE_TCP;
	facts->has_comparison = true;
	facts->comparison.working = ALL & ~(uint32_t)FEATURE_TCP;
}

static void close_ping(struct facts *facts)
{
	facts->ping_closed = true;
}

static const struct {
	const char *name;
	void (*change)(struct facts *facts);
	const char *id; /* of the first; NULL: none */
	size_t count;
	bool matters;
	const char *reason, *command; /* parts of them */
} cases[] = {
	{"nothing", NULL, NULL, 0, false, NULL, NULL},
	{"a file system without capabilities", lose_capabilities, "no-file-privilege", 1, true,
	 "no file capability", "chown 0 '/opt/it'\\''s here/postern-broker' && chmod u+s '/opt/"},
	{"no IPv6 in the kernel", lose_kernel_ipv6, "ipv6-off", 1, true, "This kernel has no IPv6",
	 "modprobe ipv6"},
	{"the trial is killed", end_trial, "trial-ended", 1, true, "ended by signal 31", NULL},
	{"the broker is killed", end_broker, "broker-failed", 1, true, "ended by signal 31", NULL},
	{"several hold", lose_several, "bounding-set", 1, true, "bounding set",
	 "systemctl enable --now postern-broker.socket"},
	{"no answer anywhere", lose_answer, "unknown", 1, true, "TCP over IPv4: no answer", NULL},
	{"ping sockets are closed", close_ping, "ping-group-range", 1, false, "not needed", NULL},
};

Test(causes, states)
{
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct facts facts = fine;
		struct cause causes[CAUSES_MAX];

		if (cases[i].change)
			cases[i].change(&facts);
		size_t count = causes_find(&facts, causes);
		cr_expect_eq(count, cases[i].count, "%s: %zu causes", cases[i].name, count);
		if (count == 0 || cases[i].id == NULL)
			continue;
		cr_expect_str_eq(causes[0].id, cases[i].id, "%s", cases[i].name);
		cr_expect_eq(causes[0].matters, cases[i].matters, "%s", cases[i].name);
		cr_expect(!cases[i].reason || strstr(causes[0].reason, cases[i].reason), "%s: %s",
			  cases[i].name, causes[0].reason);
		cr_expect(cases[i].command
				  ? causes[0].command && strstr(causes[0].command, cases[i].command)
				  : causes[0].command == NULL,
			  "%s: %s", cases[i].name,
			  causes[0].command ? causes[0].command : "no command");
	}
}
