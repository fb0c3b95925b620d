/*
 * `postern doctor`: tries what works in this process on this machine, finds why the rest does not,
 * and gives the command that mends each cause. Runs as the user. Its probes go to the loopback
 * addresses alone. It trusts the kernel; what a broker or another program says is only shown.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/transport/transport.h"
#include "frontend/command.h"
#include "frontend/doctor/causes.h"
#include "frontend/doctor/facts.h"
#include "frontend/doctor/report.h"

static const char usage[] =
	"usage: postern doctor [-4|-6] [--json] [--broker PATH]\n"
	"\n"
	"Tries each protocol on the loopback addresses, says what does not work and why, and\n"
	"gives a command that mends it. Exit status 0 if everything works, 1 if not, 2 for a\n"
	"wrong option.\n"
	"\n"
	"  -4, -6          only this version of IP is to work\n"
	"  --json          print one JSON object\n"
	"  --broker PATH   the privileged program to try\n"
	"  -h, --help      this text\n"
	"  --version       the version\n";

struct options {
	const char *broker_path;
	uint32_t wanted; /* features */
	bool json;
};

/* A report that was not written completely is not to be relied on. */
static int end_of_output(int status)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	fprintf(stderr, "postern doctor: standard output: %s\n", strerror(errno));
	return EXIT_FAILURE;
}

static _Noreturn void end_with_usage(void)
{
	fputs(usage, stderr);
	exit(2);
}

static void parse_options(int argc, char **argv, struct options *options)
{
	static const struct option known[] = {
		{"broker", required_argument, NULL, 'b'},
		{"json", no_argument, NULL, 'j'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'v'},
		{NULL, 0, NULL, 0},
	};
	int option;

	while ((option = getopt_long(argc, argv, "46h", known, NULL)) != -1) {
		switch (option) {
		case '4':
			options->wanted = FEATURE_PROTOCOLS;
			break;
		case '6':
			options->wanted = FEATURE_PROTOCOLS << FEATURE_IPV6_SHIFT;
			break;
		case 'b':
			options->broker_path = optarg;
			break;
		case 'j':
			options->json = true;
			break;
		case 'h':
			fputs(usage, stdout);
			exit(end_of_output(EXIT_SUCCESS));
		case 'v':
			puts("postern doctor " POSTERN_VERSION);
			exit(end_of_output(EXIT_SUCCESS));
		default:
			end_with_usage();
		}
	}
	if (optind == argc)
		return;
	fprintf(stderr, "postern doctor: takes no argument: '%s'\n", argv[optind]);
	end_with_usage();
}

int doctor_main(int argc, char **argv)
{
	struct options options = {
		.wanted = FEATURE_PROTOCOLS | FEATURE_PROTOCOLS << FEATURE_IPV6_SHIFT,
	};
	static struct facts facts;
	struct cause causes[CAUSES_MAX];
	bool works = true;

	parse_options(argc, argv, &options);
	/* A closed pipe is an error of write(2), which is told. */
	signal(SIGPIPE, SIG_IGN);
	facts_find(options.broker_path, options.wanted, &facts);
	size_t count = causes_find(&facts, causes);
	for (size_t i = 0; i < count; i++)
		works = works && !causes[i].matters;
	(options.json ? report_json : report_text)(&facts, causes, count, works);
	return end_of_output(works ? EXIT_SUCCESS : EXIT_FAILURE);
}
