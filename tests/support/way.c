/*
 * Runs one transport by itself and keeps what it reports.
 */
#include "tests/support/way.h"

#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "frontend/process/clock.h"

struct probe_result way_results[TRANSPORT_SLOTS];
struct extension_info way_extensions[TRANSPORT_SLOTS];
unsigned way_counts[TRANSPORT_SLOTS];
size_t way_count;
uint32_t way_features;

static struct way way;
static int epoll_fd = -1;

static void on_ready(void *context, uint32_t features)
{
	(void)context;
	way_features = features;
}

static void on_result(void *context, const struct probe_result *result)
{
	size_t slot = result->cookie % TRANSPORT_SLOTS;

	(void)context;
	way_results[slot] = *result;
	if (result->extension != NULL)
		way_extensions[slot] = *result->extension;
	way_counts[slot]++;
	way_count++;
}

void way_start(way_open_function *open_way)
{
	static const struct transport_sink sink = {NULL, on_ready, on_result, NULL};

	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	open_way(&way, epoll_fd, &sink);
	way.functions->dispatch(way.self, 1);
}

void way_stop(void)
{
	way.functions->close(way.self);
	close(epoll_fd);
}

void way_probe(const struct probe_request *request)
{
	way.functions->probe(way.self, request);
}

void way_cancel(uint32_t cookie)
{
	way.functions->cancel(way.self, cookie);
}

void way_flush(void)
{
	way.functions->flush(way.self);
}

void way_run_until(size_t count, int wait_ms)
{
	int64_t end_ns = clock_now_ns() + (int64_t)wait_ms * NS_PER_MS;
	struct epoll_event event;

	while (way_count < count && clock_now_ns() < end_ns) {
		way_flush();
		epoll_wait(epoll_fd, &event, 1, 1);
		way.functions->dispatch(way.self, 1000);
	}
}

bool way_enter_namespace(int mtu)
{
	struct ifreq loopback = {.ifr_name = "lo", .ifr_mtu = mtu};

	if (unshare(CLONE_NEWNET) != 0)
		return false;
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	bool done = ioctl(fd, SIOCSIFMTU, &loopback) == 0;
	loopback.ifr_flags = IFF_UP;
	done = done && ioctl(fd, SIOCSIFFLAGS, &loopback) == 0;
	close(fd);
	return done;
}

bool way_write_sysctl(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return false;
	bool done = write(fd, value, strlen(value)) == (ssize_t)strlen(value);
	close(fd);
	return done;
}
