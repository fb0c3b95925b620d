/*
 * Entry of the front end: opens the standard descriptors and picks the command by the name that the
 * program was run as (mtr-packet, tracepath, ...) or by its first argument (postern packet ...).
 * Runs as the user; does not trust the descriptors and arguments that its caller gave it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/command.h"
#include "frontend/process/standard_fds.h"

struct command {
	const char *program;    /* name of the link, NULL: none */
	const char *subcommand; /* `postern SUBCOMMAND`, NULL: none */
	int (*run)(int argc, char **argv);
};

static const struct command commands[] = {
	{"mtr-packet", "packet", mtr_packet_main},
	{"tracepath", "tracepath", tracepath_main},
	{"tracepath4", "tracepath4", tracepath_main},
	{"tracepath6", "tracepath6", tracepath_main},
	{NULL, "doctor", doctor_main},
};

enum { COMMANDS = sizeof(commands) / sizeof(commands[0]) };

static const char usage[] =
	"usage: postern packet [OPTION...]       what mtr runs: probes by request lines on stdin\n"
	"       postern tracepath [OPTION...] DESTINATION[/PORT]\n"
	"       postern doctor [OPTION...]       what works here, and what to do about the rest\n"
	"       postern --help | --version\n"
	"Each command has a --help of its own. Run under the name mtr-packet, tracepath, "
	"tracepath4\n"
	"or tracepath6, the program is that command.\n";

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static int run_subcommand(int argc, char **argv)
{
	if (argc >= 1 && strcmp(argv[0], "--version") == 0) {
		puts("postern " POSTERN_VERSION);
		return EXIT_SUCCESS;
	}
	if (argc >= 1 && (strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0)) {
		fputs(usage, stdout);
		return EXIT_SUCCESS;
	}
	for (size_t i = 0; argc >= 1 && i < COMMANDS; i++)
		if (strcmp(argv[0], commands[i].subcommand) == 0)
			return commands[i].run(argc, argv);
	if (argc >= 1)
		fprintf(stderr, "postern: no such command: %s\n", argv[0]);
	fputs(usage, stderr);
	return 2;
}

int main(int argc, char **argv)
{
	standard_fds();

	/* execve(2) allows an empty argument vector. */
	if (argc < 1)
		return run_subcommand(0, argv);
	const char *name = base_name(argv[0]);
	for (size_t i = 0; i < COMMANDS; i++)
		if (commands[i].program && strcmp(name, commands[i].program) == 0)
			return commands[i].run(argc, argv);
	return run_subcommand(argc - 1, argv + 1);
}
