/*
 * tracepath's command line. Runs in tracepath before anything is opened; it trusts the user who
 * typed it.
 */
#include "frontend/tracepath/options.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	UDP_PORT = 44444, /* the first, as iputils has it */
	TCP_PORT = 80,
	/* Of one hop. Routers limit their errors to about one a second. */
	MOST_TRIES = 10,
	MOST_SECONDS = 86400,
	OPTION_JSON = 256,
	OPTION_JSONL,
	OPTION_FLOW,
	OPTION_BROKER,
	OPTION_PATHS,
};

static const char usage[] =
	"\n"
	"Usage\n"
	"  tracepath [options] <destination>[/<port>]\n"
	"\n"
	"Options:\n"
	"  -4             use IPv4\n"
	"  -6             use IPv6\n"
	"  -b             print both name and ip\n"
	"  -e             exit status 1 unless the destination was reached\n"
	"  -f <ttl>       begin with this hop (1)\n"
	"  -h             print this help and exit\n"
	"  -I <device>    send through this interface\n"
	"  -l <length>    use packet <length>\n"
	"  -m <hops>      use maximum <hops> (30)\n"
	"  -n             no dns name resolution\n"
	"  -P <protocol>  probe with icmp, udp or tcp (udp)\n"
	"  -p <port>      use destination <port> (udp: from 44444 up, tcp: 80)\n"
	"  -q <tries>     probe each hop so often, 1 to 10, and print loss and times\n"
	"  -s <address>   send from this address\n"
	"  -V             print version and exit\n"
	"  -W <seconds>   longest wait for the answer to one try (1)\n"
	"  -w <seconds>   end after this time with what is known\n"
	"  -x             print MPLS labels and interfaces that routers tell\n"
	"  --broker <path>  the privileged program, with -P icmp\n"
	"  --flow <n>     keep to one of the paths that routers balance over\n"
	"  --json         one JSON document\n"
	"  --jsonl        one JSON event a line, as it happens\n"
	"  --paths        find all paths that routers balance over\n"
	"  <destination>  dns name or ip address\n"
	"\n"
	"For more details see tracepath(8).\n";

static const struct option long_options[] = {
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'V'},
	{"json", no_argument, NULL, OPTION_JSON},
	{"jsonl", no_argument, NULL, OPTION_JSONL},
	{"flow", required_argument, NULL, OPTION_FLOW},
	{"broker", required_argument, NULL, OPTION_BROKER},
	{"paths", no_argument, NULL, OPTION_PATHS},
	{NULL, 0, NULL, 0},
};

static int complain(const struct tracepath_options *options, int status, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static int complain(const struct tracepath_options *options, int status, const char *format, ...)
{
	va_list arguments;

	fprintf(stderr, "%s: ", options->program);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
	return status;
}

/* A whole decimal number in bounds; otherwise complains and returns false. */
static bool number(const struct tracepath_options *options, const char *what, const char *text,
		   long long least, long long most, long long *value)
{
	char *end;

	errno = 0;
	*value = strtoll(text, &end, 10);
	if (end == text || *end != '\0') {
		complain(options, STATUS_WRONG, "%s: '%s' is not a number", what, text);
		return false;
	}
	if (errno != 0 || *value < least || *value > most) {
		complain(options, STATUS_WRONG, "%s: %s is not between %lld and %lld", what, text,
			 least, most);
		return false;
	}
	return true;
}

static bool seconds(const struct tracepath_options *options, const char *what, const char *text,
		    int64_t *time_ns)
{
	char *end;
	double value = strtod(text, &end);

	/* Not the reverse: every comparison with "nan" is false. */
	if (end == text || *end != '\0' || !(value >= 0.001 && value <= MOST_SECONDS)) {
		complain(options, STATUS_WRONG, "%s: '%s' is not between 0.001 and %d seconds",
			 what, text, MOST_SECONDS);
		return false;
	}
	*time_ns = (int64_t)(value * 1e9);
	return true;
}

static bool protocol(struct tracepath_options *options, const char *text)
{
	static const struct {
		const char *name;
		uint8_t number;
	} protocols[] = {{"icmp", IPPROTO_ICMP}, {"udp", IPPROTO_UDP}, {"tcp", IPPROTO_TCP}};

	for (size_t i = 0; i < sizeof protocols / sizeof protocols[0]; i++) {
		if (strcmp(text, protocols[i].name) != 0)
			continue;
		options->protocol = protocols[i].number;
		options->protocol_name = protocols[i].name;
		return true;
	}
	complain(options, STATUS_WRONG, "protocol: '%s' is none of icmp, udp, tcp", text);
	return false;
}

static bool take_number(struct tracepath_options *options, int option)
{
	long long value = 0;

	switch (option) {
	case 'f':
		if (!number(options, "first ttl", optarg, 1, UINT8_MAX, &value))
			return false;
		options->first_ttl = (unsigned)value;
		return true;
	case 'l':
		if (!number(options, "pktlen", optarg, 29, INT_MAX, &value))
			return false;
		options->length_bytes = (uint32_t)value;
		return true;
	case 'm':
		if (!number(options, "max hops", optarg, 0, UINT8_MAX, &value))
			return false;
		options->max_hops = (unsigned)value;
		return true;
	case 'p':
		if (!number(options, "port", optarg, 0, UINT16_MAX, &value))
			return false;
		options->port = (uint16_t)value;
		options->port_given = value != 0;
		return true;
	case 'q':
		if (!number(options, "tries", optarg, 1, MOST_TRIES, &value))
			return false;
		options->tries = (unsigned)value;
		options->tries_given = true;
		return true;
	default: /* OPTION_FLOW */
		if (!number(options, "flow", optarg, 0, UINT32_MAX, &value))
			return false;
		options->flow = (uint32_t)value;
		options->has_flow = true;
		return true;
	}
}

static int end_output(const struct tracepath_options *options)
{
	if (fflush(stdout) == 0)
		return EXIT_SUCCESS;
	return complain(options, STATUS_WRONG, "standard output: %s", strerror(errno));
}

/* Returns −1 to go on, or an exit status. */
static int take_option(struct tracepath_options *options, int option)
{
	bool good = true;

	switch (option) {
	case '4':
	case '6':
		if (options->family != 0 && options->family != option - '0')
			return complain(options, STATUS_USAGE, "either -4 or -6, not both");
		options->family = (uint8_t)(option - '0');
		break;
	case 'b':
		options->both = true;
		break;
	case 'e':
		options->reached_or_fail = true;
		break;
	case 'h':
		fputs(usage, stdout);
		return end_output(options);
	case 'I':
		options->device = optarg;
		break;
	case 'n':
		options->numeric = true;
		break;
	case 'P':
		good = protocol(options, optarg);
		break;
	case 's':
		options->source = optarg;
		break;
	case 'V':
		printf("tracepath from postern %s\n", POSTERN_VERSION);
		return end_output(options);
	case 'W':
		good = seconds(options, "wait", optarg, &options->wait_ns);
		options->wait_given = true;
		break;
	case 'w':
		good = seconds(options, "deadline", optarg, &options->deadline_ns);
		break;
	case OPTION_JSON:
		options->format = FORMAT_JSON;
		break;
	case OPTION_JSONL:
		options->format = FORMAT_JSONL;
		break;
	case OPTION_PATHS:
		options->paths = true;
		break;
	case 'x':
		options->extensions = true;
		break;
	case OPTION_BROKER:
		options->broker = optarg;
		break;
	case '?':
		return STATUS_USAGE; /* getopt has said it */
	default:
		good = take_number(options, option);
		break;
	}
	return good ? -1 : STATUS_WRONG;
}

/* NAME/PORT, unless -p was given: then a slash is part of the name, as with iputils. */
static int take_destination(struct tracepath_options *options, char *text)
{
	char *slash = strchr(text, '/');
	long long value;

	options->destination = text;
	if (slash != NULL && !options->port_given) {
		*slash = '\0';
		if (!number(options, "port", slash + 1, 1, UINT16_MAX, &value))
			return STATUS_WRONG;
		options->port = (uint16_t)value;
		options->port_given = true;
	}
	if (options->paths && options->length_bytes != 0)
		return complain(options, STATUS_USAGE, "either --paths or -l, not both");
	if (options->port_given && options->protocol == IPPROTO_ICMP)
		return complain(options, STATUS_USAGE, "icmp has no ports");
	if (!options->port_given && options->protocol == IPPROTO_UDP)
		options->port = UDP_PORT;
	if (!options->port_given && options->protocol == IPPROTO_TCP)
		options->port = TCP_PORT;
	return -1;
}

int tracepath_parse(int argc, char **argv, struct tracepath_options *options)
{
	char *slash = strrchr(argv[0], '/');
	int option;

	*options = (struct tracepath_options){
		.program = slash ? slash + 1 : argv[0],
		.max_hops = 30,
		.first_ttl = 1,
		.tries = 3,
		.wait_ns = 1000000000,
		.protocol = IPPROTO_UDP,
		.protocol_name = "udp",
	};
	if (strcmp(options->program, "tracepath4") == 0)
		options->family = 4;
	if (strcmp(options->program, "tracepath6") == 0)
		options->family = 6;
	argv[0] = options->program; /* what getopt's complaints begin with */
	while ((option = getopt_long(argc, argv, "46bef:hI:l:m:nP:p:q:s:VW:w:x", long_options,
				     NULL)) != -1) {
		int status = take_option(options, option);

		if (status >= 0)
			return status;
	}
	if (optind == argc)
		return complain(options, STATUS_USAGE,
				"no destination; '%s -h' says how it is called", options->program);
	if (argc - optind > 1)
		return complain(options, STATUS_USAGE, "more than one destination: '%s'",
				argv[optind + 1]);
	if (options->first_ttl > options->max_hops && options->max_hops > 0)
		return complain(options, STATUS_WRONG, "first ttl %u is beyond max hops %u",
				options->first_ttl, options->max_hops);
	return take_destination(options, argv[optind]);
}
