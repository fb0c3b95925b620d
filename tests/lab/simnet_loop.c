/*
 * The waiting of simnet, a test program. It must never outlive the test that started it: it ends
 * with its stdin, by a signal, or when its time is up.
 */
#include "tests/lab/simnet_loop.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

enum { OWN_DESCRIPTORS = 2, MAX_DESCRIPTORS = 4 };

struct loop {
	int signals;
	uint64_t end_ns;
};

uint64_t loop_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

struct loop *loop_new(const struct loop_options *options)
{
	struct loop *loop = calloc(1, sizeof(*loop));
	sigset_t set;

	if (!loop)
		return NULL;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	loop->signals = -1;
	if (sigprocmask(SIG_BLOCK, &set, NULL) == 0)
		loop->signals = signalfd(-1, &set, SFD_CLOEXEC);
	if (loop->signals < 0) {
		fprintf(stderr, "simnet: signals: %s\n", strerror(errno));
		free(loop);
		return NULL;
	}
	/* the default slack of 50 us would be seen in every round-trip time */
	prctl(PR_SET_TIMERSLACK, 1);
	loop->end_ns = UINT64_MAX;
	if (options->for_seconds > 0)
		loop->end_ns = loop_now_ns() + (uint64_t)(options->for_seconds * 1e9);
	return loop;
}

void loop_free(struct loop *loop)
{
	close(loop->signals);
	free(loop);
}

static bool stdin_ended(void)
{
	char bytes[256];

	return read(STDIN_FILENO, bytes, sizeof(bytes)) <= 0;
}

bool loop_wait(struct loop *loop, const int *descriptors, size_t count, uint64_t until_ns)
{
	struct pollfd polled[OWN_DESCRIPTORS + MAX_DESCRIPTORS] = {
		{.fd = STDIN_FILENO, .events = POLLIN},
		{.fd = loop->signals, .events = POLLIN},
	};
	uint64_t now_ns = loop_now_ns();
	uint64_t left_ns;
	struct timespec timeout;
	int ready;

	for (size_t i = 0; i < count; i++)
		polled[OWN_DESCRIPTORS + i] =
			(struct pollfd){.fd = descriptors[i], .events = POLLIN};
	if (now_ns >= loop->end_ns)
		return false;
	if (until_ns > loop->end_ns)
		until_ns = loop->end_ns;
	left_ns = until_ns > now_ns ? until_ns - now_ns : 0;
	timeout.tv_sec = (time_t)(left_ns / 1000000000u);
	timeout.tv_nsec = (long)(left_ns % 1000000000u);
	ready = ppoll(polled, (nfds_t)(OWN_DESCRIPTORS + count),
		      until_ns == UINT64_MAX ? NULL : &timeout, NULL);
	if (ready < 0)
		return errno == EINTR;
	if (polled[1].revents)
		return false;
	return !polled[0].revents || !stdin_ended();
}
