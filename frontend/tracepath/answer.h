/*
 * What a transport's result means to a trace: the one place that knows the types and codes of ICMP
 * and ICMPv6. Pure functions in tracepath; the results are about what strangers sent.
 */
#ifndef POSTERN_FRONTEND_TRACEPATH_ANSWER_H
#define POSTERN_FRONTEND_TRACEPATH_ANSWER_H

#include "frontend/tracepath/facts.h"
#include "frontend/transport/transport.h"

/* `request` is the kind of probe that was sent: family, protocol, destination. The answer is valid
 * as long as the result. */
struct trace_answer trace_answer_of(const struct probe_request *request,
				    const struct probe_result *result);

#endif
