/*
 * The descriptors that a program of the front end begins with. Runs as the user; its caller may
 * have closed any descriptor, or have left any open.
 */
#include "frontend/standard_fds.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A descriptor 0, 1 or 2 that is closed would be given to the next socket, and a message for people
 * would then go into the channel. */
static void open_missing(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
		if (fcntl(fd, F_GETFD) >= 0 || errno != EBADF)
			continue;
		if (open("/dev/null", O_RDWR | O_NOCTTY) != fd)
			_exit(EXIT_FAILURE);
	}
}

/* What else the caller left open is none of this program's business, and the confinement lets it
 * use every descriptor that it has. A kernel before 5.9 cannot close them at once: there they stay,
 * being the user's own. */
static void close_others(void)
{
	(void)syscall(SYS_close_range, STDERR_FILENO + 1, ~0u, 0);
}

void standard_fds(void)
{
	open_missing();
	close_others();
}
