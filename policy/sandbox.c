/*
 * Entering the front end's filters. Runs in the unprivileged front end, once it has opened all it
 * needs.
 */
#include "policy/confine.h"

#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "gen/filter_packet.h"
#include "gen/filter_resolver.h"
#include "gen/filter_tracepath.h"

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

static int enter(const struct sock_filter *filter, size_t length)
{
	const struct sock_fprog program = {
		.len = (unsigned short)length,
		.filter = (struct sock_filter *)filter,
	};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return -1;
	if (SANITIZED)
		return 0;
	return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
}

#define ENTER(filter) enter((filter), sizeof(filter) / sizeof((filter)[0]))

int confine_packet(void)
{
	return ENTER(filter_packet);
}

int confine_tracepath(void)
{
	return ENTER(filter_tracepath);
}

int confine_resolver(void)
{
	return ENTER(filter_resolver);
}
