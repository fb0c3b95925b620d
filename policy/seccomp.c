/*
 * The one call that installs a system-call filter. Runs in the broker and in the front end, before
 * they read what others sent.
 */
#include "policy/seccomp.h"

#include <linux/seccomp.h>
#include <sys/syscall.h>
#include <unistd.h>

int seccomp_enter(const struct sock_filter *filter, size_t length)
{
	const struct sock_fprog program = {
		.len = (unsigned short)length,
		.filter = (struct sock_filter *)filter,
	};

	return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
}
