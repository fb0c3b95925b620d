/*
 * Turns a probe request of the commands into the record that the broker understands. Runs in the
 * front end.
 */
#ifndef POSTERN_FRONTEND_TRANSPORT_PROBE_RECORD_H
#define POSTERN_FRONTEND_TRANSPORT_PROBE_RECORD_H

#include "common/record.h"
#include "frontend/transport/probe_number.h"
#include "frontend/transport/transport.h"

/* Fills `probe`, which holds a number afterwards whatever is returned. Returns 0, or the errno for
 * a request that is not to be sent: EINVAL (the broker would not allow it), EXDEV (over IPv6 not
 * both of source and interface can be obeyed), or why there is no route. */
int probe_record_make(struct probe_numbers *numbers, const struct probe_request *request,
		      int64_t now_ns, struct record_probe *probe);

#endif
