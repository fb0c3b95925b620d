/*
 * A child process for a function that cannot be undone. Runs in test programs.
 */
#include "tests/support/sandbox.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
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

bool sandbox_fail_sockets(unsigned int argument, int value, int error)
{
	uint32_t at = (uint32_t)offsetof(struct seccomp_data, args) + 8 * argument;
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, at),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)value, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = sizeof(code) / sizeof(code[0]), .filter = code};

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0;
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

#ifdef __x86_64__
bool sandbox_call_32_bit(void)
{
	enum { GETPID_32_BIT = 20 };
	long result;

	/* Older kernels do not keep the registers that 32-bit programs do not have. */
	__asm__ volatile("int $0x80"
			 : "=a"(result)
			 : "a"(GETPID_32_BIT)
			 : "memory", "r8", "r9", "r10", "r11");
	return result == getpid();
}

static int try_32_bit(void *context)
{
	(void)context;
	signal(SIGSEGV, SIG_DFL); /* a sanitizer would report it as a fault */
	return sandbox_call_32_bit() ? 0 : 1;
}

bool sandbox_has_32_bit(void)
{
	struct sandbox_end end = sandbox_run(try_32_bit, NULL);

	return end.signal == 0 && end.status == 0;
}
#endif

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
