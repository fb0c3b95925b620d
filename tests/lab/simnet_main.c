/*
 * simnet: plays an internet at the far end of a veth, for tests (README.md beside this file). Runs
 * with CAP_NET_RAW of a private network namespace that a test made; it trusts its command line and
 * description, and nothing that arrives on the wire.
 */
#include "tests/lab/simnet_parse.h"
#include "tests/lab/simnet_serve.h"
#include "tests/lab/simnet_wire.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { USAGE = 2, DESCRIPTION_BYTES = 1 << 20, MESSAGE_BYTES = 256 };

static const char usage_text[] =
	"usage: simnet [--for SECONDS] [--stats] DESCRIPTION INTERFACE\n"
	"       simnet [--for SECONDS] [--stats] --check DESCRIPTION\n"
	"       simnet [--for SECONDS] [--stats] --wire IF1 IF2 [--delay MS] [--loss PERCENT]\n"
	"              [--seed N]\n"
	"Ends when its stdin does, or at SIGTERM. DESCRIPTION is a file.\n";

static bool read_file(const char *path, char *text)
{
	FILE *file = fopen(path, "re");
	size_t length;

	if (!file) {
		fprintf(stderr, "simnet: %s: %s\n", path, strerror(errno));
		return false;
	}
	length = fread(text, 1, DESCRIPTION_BYTES - 1, file);
	text[length] = '\0';
	if (ferror(file) || length == DESCRIPTION_BYTES - 1) {
		fprintf(stderr, "simnet: %s: cannot be read, or is too long\n", path);
		fclose(file);
		return false;
	}
	fclose(file);
	return true;
}

static bool load(const char *path, struct net *net)
{
	static char text[DESCRIPTION_BYTES];
	char message[MESSAGE_BYTES];

	if (!read_file(path, text))
		return false;
	if (net_parse(path, text, net, message, sizeof(message)))
		return true;
	fprintf(stderr, "simnet: %s\n", message);
	return false;
}

struct arguments {
	struct loop_options loop;
	struct wire wire;
	bool wire_mode;
	bool check;
};

static bool take_option(struct arguments *arguments, int option, const char *value)
{
	char *end = NULL;

	switch (option) {
	case 'f':
		arguments->loop.for_seconds = strtod(value, &end);
		return *end == '\0';
	case 's':
		arguments->loop.statistics = true;
		return true;
	case 'w':
		arguments->wire_mode = true;
		return true;
	case 'c':
		arguments->check = true;
		return true;
	case 'd':
		return net_parse_time(value, &arguments->wire.delay_ns);
	case 'l':
		arguments->wire.loss_ppm = (uint32_t)(strtod(value, &end) * 10000);
		return *end == '\0' && arguments->wire.loss_ppm <= 1000000;
	case 'n':
		arguments->wire.seed = strtoull(value, &end, 0);
		return *end == '\0';
	default:
		return false;
	}
}

static const struct option options[] = {
	{"for", required_argument, NULL, 'f'},   {"stats", no_argument, NULL, 's'},
	{"wire", no_argument, NULL, 'w'},        {"check", no_argument, NULL, 'c'},
	{"delay", required_argument, NULL, 'd'}, {"loss", required_argument, NULL, 'l'},
	{"seed", required_argument, NULL, 'n'},  {NULL, 0, NULL, 0},
};

int main(int argc, char **argv)
{
	static struct net net;
	struct arguments arguments = {.loop = {0}};
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (!take_option(&arguments, option, optarg)) {
			fputs(usage_text, stderr);
			return USAGE;
		}
	}
	if (argc - optind != (arguments.check ? 1 : 2)) {
		fputs(usage_text, stderr);
		return USAGE;
	}
	if (arguments.wire_mode) {
		arguments.wire.interfaces[0] = argv[optind];
		arguments.wire.interfaces[1] = argv[optind + 1];
		return wire_run(&arguments.wire, &arguments.loop);
	}
	if (!load(argv[optind], &net))
		return 1;
	return arguments.check ? 0 : serve_net(&net, argv[optind + 1], &arguments.loop);
}
