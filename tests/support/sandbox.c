/*
 * A child process for a function that cannot be undone. Runs in test programs.
 */
#include "tests/support/sandbox.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

bool sandbox_sanitized(void)
{
#if defined(__SANITIZE_ADDRESS__)
	return true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
	return true;
#endif
#endif
	return false;
}

static void child(int (*body)(void *context), void *context)
{
	const struct rlimit none = {0, 0};

	alarm(10);
	if (setrlimit(RLIMIT_CORE, &none) != 0)
		_exit(125);
	/* Not _exit(): sanitizers and Criterion do work there that a filter would not allow. */
	syscall(SYS_exit_group, body(context));
}

struct sandbox_end sandbox_run(int (*body)(void *context), void *context)
{
	int status;
	pid_t pid = fork();

	if (pid < 0) {
		perror("fork");
		abort();
	}
	if (pid == 0)
		child(body, context);
	if (waitpid(pid, &status, 0) != pid) {
		perror("waitpid");
		abort();
	}
	if (WIFSIGNALED(status))
		return (struct sandbox_end){.signal = WTERMSIG(status)};
	return (struct sandbox_end){.status = WEXITSTATUS(status)};
}
