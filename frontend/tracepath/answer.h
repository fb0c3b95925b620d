/*
 * What an event of the channel means to a trace: the one place that knows ICMP's and ICMPv6's types
 * and codes. Pure functions on a strangers' words, in tracepath's prober.
 */
#ifndef POSTERN_FRONTEND_TRACE_ANSWER_H
#define POSTERN_FRONTEND_TRACE_ANSWER_H

#include "common/record.h"
#include "frontend/trace_engine.h"

/* `probe` is the kind of probe that was sent: family, protocol, destination. The answer's extension
 * is left NULL. */
struct trace_answer trace_answer_of(const struct record_probe *probe,
				    const struct record_event *event);

#endif
