/*
 * Runs one transport by itself (frontend/transport/way.h) and keeps what it reports.
 */
#ifndef POSTERN_TESTS_SUPPORT_WAY_H
#define POSTERN_TESTS_SUPPORT_WAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "frontend/transport/way.h"

/* The last result of each slot, and how many it had. */
extern struct probe_result way_results[TRANSPORT_SLOTS];
extern struct extension_info way_extensions[TRANSPORT_SLOTS];
extern unsigned way_counts[TRANSPORT_SLOTS];
extern size_t way_count;      /* of results in all */
extern uint32_t way_features; /* what was reported as ready */

typedef void way_open_function(struct way *way, int epoll_fd, const struct transport_sink *sink);

/* Opens a transport and has it report that it is ready. */
void way_start(way_open_function *open_way);
void way_stop(void);

void way_probe(const struct probe_request *request);
void way_cancel(uint32_t cookie);
void way_flush(void);

/* Dispatches until there were `count` results in all, or for `wait_ms`. */
void way_run_until(size_t count, int wait_ms);

/* Enters a network namespace that has nothing but a loopback interface of this MTU. False: the
 * process may not. Sockets that are open remain where they are. */
bool way_enter_namespace(int mtu);
bool way_write_sysctl(const char *path, const char *value);

#endif
