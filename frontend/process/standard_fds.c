/*
 * The descriptors that the front end begins with. Runs as the user, whose program may have closed
 * any descriptor, or have left any open.
 */
#include "frontend/process/standard_fds.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The next socket would get the number of a closed descriptor 0, 1 or 2, and a message for people
 * would then be sent to it. Writing to a missing stdout stays an error. */
static void open_missing(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
		if (fcntl(fd, F_GETFD) >= 0 || errno != EBADF)
			continue;
		int mode = fd == STDOUT_FILENO ? O_RDONLY : O_RDWR;
		if (open("/dev/null", mode | O_NOCTTY) != fd)
			_exit(EXIT_FAILURE);
	}
}

/* The sandbox allows the use of every descriptor that is open. A kernel before 5.9 cannot close
 * them at once: there they stay open, as they are for any program of the user's. */
static void close_others(void)
{
	(void)syscall(SYS_close_range, STDERR_FILENO + 1, ~0u, 0);
}

void standard_fds(void)
{
	open_missing();
	close_others();
}
