/*
 * Entry of mtr-packet where it is a program of its own: mtr starts one for each run, so it holds
 * the packet personality alone and no dynamic loader, and starts in a fifth of the time. Runs as
 * the user; trusts its caller no further than any program does.
 */
#include <stddef.h>

#include "frontend/personality.h"
#include "frontend/standard_fds.h"

int main(int argc, char **argv)
{
	static char name[] = "mtr-packet";
	static char *nameless[] = {name, NULL};

	standard_fds();
	/* Whoever runs a program may leave out even its name. */
	return argc < 1 ? packet_main(1, nameless) : packet_main(argc, argv);
}
