/*
 * Prints what postern doctor found, for people and for programs. Runs as the user. Paths and the
 * broker's line may be anything: no control character of theirs reaches a terminal.
 */
#include "frontend/doctor/report.h"

#include <stdio.h>

#include "frontend/process/colour.h"
#include "frontend/transport/transport.h"

static const struct {
	const char *name;
	uint32_t feature;
} protocols[] = {
	{"icmp", FEATURE_ICMP},
	{"udp", FEATURE_UDP},
	{"tcp", FEATURE_TCP},
	{"sctp", FEATURE_SCTP},
};

enum { PROTOCOLS = sizeof(protocols) / sizeof(protocols[0]) };

/* ASCII alone, as valid JSON and for terminals of any encoding. */
static void print_text(const char *text)
{
	for (; *text != '\0'; text++)
		putchar(*text >= ' ' && *text <= '~' ? *text : '?');
}

static void print_string(const char *text)
{
	putchar('"');
	for (; *text != '\0'; text++) {
		if (*text == '"' || *text == '\\')
			putchar('\\');
		putchar(*text >= ' ' && *text <= '~' ? *text : '?');
	}
	putchar('"');
}

static const char *file_privilege(const struct facts *facts)
{
	if (facts->file.st_mode == 0)
		return "none";
	if ((facts->file.st_mode & S_ISUID) != 0 && facts->file.st_uid == 0)
		return "setuid root";
	if (facts->has_capability)
		return facts->capability_effective ? "cap_net_raw=ep" : "cap_net_raw=p";
	return "none";
}

/* How ICMP probes leave. */
static const char *icmp_transport(const struct facts *facts)
{
	const struct trial *trial = &facts->trial;

	if (trial->broker != BROKER_NONE)
		return trial->broker == BROKER_OWN ? "broker" : "socket";
	return trial->working & (FEATURE_ICMP | FEATURE_ICMP << FEATURE_IPV6_SHIFT) ? "ping" : NULL;
}

/* --- text ------------------------------------------------------------------------------------- */

static void print_broker(const struct facts *facts)
{
	bool is_service = facts->trial.broker == BROKER_SERVICE || facts->service_named;

	fputs("broker       ", stdout);
	print_text(is_service ? facts->service : facts->path);
	if (!is_service)
		printf(" (privilege: %s)", file_privilege(facts));
	putchar('\n');
	if (facts->trial.broker == BROKER_NONE && facts->trial.broker_why[0] != '\0') {
		fputs("it says      ", stdout);
		print_text(facts->trial.broker_why);
		putchar('\n');
	}
	if (icmp_transport(facts) && facts->trial.broker == BROKER_NONE)
		puts("ICMP goes by ping sockets.");
}

static void print_mark(const struct facts *facts, uint32_t feature, int width)
{
	bool works = (facts->trial.working & feature) != 0;

	printf(" %s%-*s%s", colour(works ? COLOUR_GREEN : COLOUR_RED), width, works ? "ok" : "no",
	       colour(COLOUR_NONE));
}

static void print_cause(const struct cause *cause)
{
	putchar('\n');
	fputs(colour(cause->matters ? COLOUR_RED : COLOUR_YELLOW), stdout);
	if (!cause->matters)
		fputs("Remark: ", stdout);
	print_text(cause->reason);
	fputs(colour(COLOUR_NONE), stdout);
	putchar('\n');
	if (cause->command == NULL)
		return;
	fputs(cause->as_root ? "    as root: " : "    ", stdout);
	print_text(cause->command);
	putchar('\n');
}

void report_text(const struct facts *facts, const struct cause *causes, size_t count, bool works)
{
	print_broker(facts);
	printf("\n             IPv4  IPv6\n");
	for (size_t i = 0; i < PROTOCOLS; i++) {
		printf("%-12s", protocols[i].name);
		print_mark(facts, protocols[i].feature, 5);
		print_mark(facts, protocols[i].feature << FEATURE_IPV6_SHIFT, 0);
		putchar('\n');
	}
	printf("%-12s %s\n", "mark", facts->trial.features & FEATURE_MARK ? "ok" : "no");
	for (size_t i = 0; i < count; i++)
		print_cause(&causes[i]);
	if (works)
		puts("\nEverything works here.");
}

/* --- JSON ------------------------------------------------------------------------------------- */

static void print_member(const char *name, const char *value)
{
	printf("\"%s\":", name);
	if (value)
		print_string(value);
	else
		fputs("null", stdout);
}

static const char *boolean(bool value)
{
	return value ? "true" : "false";
}

static void print_json_protocols(const struct facts *facts)
{
	fputs(",\"protocols\":{", stdout);
	for (size_t i = 0; i < PROTOCOLS; i++)
		printf("%s\"%s\":{\"ipv4\":%s,\"ipv6\":%s}", i > 0 ? "," : "", protocols[i].name,
		       boolean(facts->trial.working & protocols[i].feature),
		       boolean(facts->trial.working & protocols[i].feature << FEATURE_IPV6_SHIFT));
	printf("},\"mark\":%s", boolean(facts->trial.features & FEATURE_MARK));
}

void report_json(const struct facts *facts, const struct cause *causes, size_t count, bool works)
{
	printf("{\"version\":1,\"works\":%s,", boolean(works));
	print_member("broker", facts->path);
	putchar(',');
	print_member("file_privilege", file_privilege(facts));
	putchar(',');
	print_member("icmp", icmp_transport(facts));
	print_json_protocols(facts);
	fputs(",\"causes\":[", stdout);
	for (size_t i = 0; i < count; i++) {
		printf("%s{\"id\":\"%s\",\"matters\":%s,", i > 0 ? "," : "", causes[i].id,
		       boolean(causes[i].matters));
		print_member("reason", causes[i].reason);
		putchar(',');
		print_member("command", causes[i].command);
		printf(",\"as_root\":%s}", boolean(causes[i].as_root));
	}
	puts("]}");
}
