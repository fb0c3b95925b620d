/*
 * What an event of the channel means to a trace. Pure functions on strangers' words, in tracepath's
 * prober; the meanings of the codes are those that Linux gives an application (and with it iputils'
 * tracepath).
 */
#include "frontend/trace_answer.h"

#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <string.h>

enum {
	ICMP6_POLICY = 5, /* RFC 4443, 3.1 */
	ICMP6_REJECT_ROUTE = 6,
};

struct meaning {
	uint8_t type;
	int code; /* −1: any */
	enum trace_answer_kind kind;
	enum trace_refusal refusal;
};

/* The first that fits; what fits none is an unreachable of no special kind. */
static const struct meaning meanings_4[] = {
	{ICMP_TIME_EXCEEDED, ICMP_EXC_TTL, TRACE_ANSWER_EXPIRED, TRACE_REFUSED_NOT},
	{ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, TRACE_ANSWER_TOO_BIG, TRACE_REFUSED_NOT},
	{ICMP_DEST_UNREACH, ICMP_PORT_UNREACH, TRACE_ANSWER_REACHED, TRACE_REFUSED_NOT},
	{ICMP_DEST_UNREACH, ICMP_NET_UNREACH, TRACE_ANSWER_UNREACHABLE, TRACE_REFUSED_NETWORK},
	{ICMP_DEST_UNREACH, ICMP_NET_UNKNOWN, TRACE_ANSWER_UNREACHABLE, TRACE_REFUSED_NETWORK},
	{ICMP_DEST_UNREACH, ICMP_NET_UNR_TOS, TRACE_ANSWER_UNREACHABLE, TRACE_REFUSED_NETWORK},
	{ICMP_DEST_UNREACH, ICMP_PROT_UNREACH, TRACE_ANSWER_UNREACHABLE, TRACE_REFUSED_PROTOCOL},
	{ICMP_PARAMETERPROB, -1, TRACE_ANSWER_UNREACHABLE, TRACE_REFUSED_PROTOCOL},
	{ICMP_DEST_UNREACH, ICMP_NET_ANO, TRACE_ANSWER_UNREACHABLE, TRACE_REFUSED_PROHIBITED},
	{ICMP_DEST_UNREACH, ICMP_HOST_ANO, TRACE_ANSWER_UNREACHABLE, TRACE_REFUSED_PROHIBITED},
	{ICMP_DEST_UNREACH, ICMP_PKT_FILTERED, TRACE_ANSWER_UNREACHABLE, TRACE_REFUSED_PROHIBITED},
	{ICMP_DEST_UNREACH, -1, TRACE_ANSWER_UNREACHABLE, TRACE_REFUSED_HOST},
};

static const struct meaning meanings_6[] = {
	{ICMP6_TIME_EXCEEDED, ICMP6_TIME_EXCEED_TRANSIT, TRACE_ANSWER_EXPIRED, TRACE_REFUSED_NOT},
	{ICMP6_PACKET_TOO_BIG, -1, TRACE_ANSWER_TOO_BIG, TRACE_REFUSED_NOT},
	{ICMP6_DST_UNREACH, ICMP6_DST_UNREACH_NOPORT, TRACE_ANSWER_REACHED, TRACE_REFUSED_NOT},
	{ICMP6_DST_UNREACH, ICMP6_DST_UNREACH_NOROUTE, TRACE_ANSWER_UNREACHABLE,
	 TRACE_REFUSED_NETWORK},
	{ICMP6_DST_UNREACH, ICMP6_DST_UNREACH_ADMIN, TRACE_ANSWER_UNREACHABLE,
	 TRACE_REFUSED_PROHIBITED},
	{ICMP6_DST_UNREACH, ICMP6_POLICY, TRACE_ANSWER_UNREACHABLE, TRACE_REFUSED_PROHIBITED},
	{ICMP6_DST_UNREACH, ICMP6_REJECT_ROUTE, TRACE_ANSWER_UNREACHABLE, TRACE_REFUSED_PROHIBITED},
	{ICMP6_PARAM_PROB, -1, TRACE_ANSWER_UNREACHABLE, TRACE_REFUSED_PROTOCOL},
	{ICMP6_DST_UNREACH, -1, TRACE_ANSWER_UNREACHABLE, TRACE_REFUSED_HOST},
};

static void give_meaning(struct trace_answer *answer, const struct meaning *meanings, size_t count,
			 const struct record_event *event)
{
	answer->kind = TRACE_ANSWER_UNREACHABLE;
	answer->refusal = TRACE_REFUSED_HOST;
	for (size_t i = 0; i < count; i++) {
		if (meanings[i].type != event->icmp_type ||
		    (meanings[i].code >= 0 && meanings[i].code != event->icmp_code))
			continue;
		answer->kind = meanings[i].kind;
		answer->refusal = meanings[i].refusal;
		return;
	}
}

static void take_icmp(struct trace_answer *answer, const struct record_probe *probe,
		      const struct record_event *event)
{
	answer->icmp = true;
	answer->icmp_type = event->icmp_type;
	answer->icmp_code = event->icmp_code;
	if (probe->family == 4)
		give_meaning(answer, meanings_4, sizeof meanings_4 / sizeof meanings_4[0], event);
	else
		give_meaning(answer, meanings_6, sizeof meanings_6 / sizeof meanings_6[0], event);
	/* A destination that refuses a protocol was reached all the same; for UDP iputils' view
	 * holds. */
	if (answer->kind == TRACE_ANSWER_UNREACHABLE && probe->protocol != IPPROTO_UDP &&
	    memcmp(event->responder, probe->destination, sizeof event->responder) == 0)
		answer->kind = TRACE_ANSWER_REACHED;
}

struct trace_answer trace_answer_of(const struct record_probe *probe,
				    const struct record_event *event)
{
	struct trace_answer answer = {
		.has_reply_ttl = (event->known & EVENT_REPLY_TTL) != 0,
		.reply_ttl = event->reply_ttl,
		.has_quoted_ttl = (event->known & EVENT_QUOTED) != 0,
		.quoted_ttl = event->quoted_ttl,
		.error = event->error,
		.scope = event->responder_ifindex,
		.rtt_ns = event->received_ns - event->sent_ns,
		.mtu_bytes = event->mtu_bytes,
	};

	memcpy(answer.address, event->responder, sizeof answer.address);
	switch (event->what) {
	case EVENT_REPLY:
		answer.kind = TRACE_ANSWER_REACHED;
		answer.data = probe->protocol == IPPROTO_UDP;
		break;
	case EVENT_ICMP:
		take_icmp(&answer, probe, event);
		break;
	case EVENT_BUSY:
		answer.kind = TRACE_ANSWER_BUSY;
		break;
	default:
		answer.kind = TRACE_ANSWER_FAILED;
		break;
	}
	return answer;
}
