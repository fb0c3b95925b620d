/*
 * What a transport's result means to a trace. Pure functions in tracepath; the meanings of the
 * codes are those that Linux gives an application, and with it iputils' tracepath.
 */
#include "frontend/tracepath/answer.h"

#include <errno.h>
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

static void read_icmp(struct trace_answer *answer, const struct probe_request *request,
		      const struct probe_result *result)
{
	const struct meaning *meanings = request->family == 4 ? meanings_4 : meanings_6;
	size_t count = request->family == 4 ? sizeof meanings_4 / sizeof meanings_4[0]
					    : sizeof meanings_6 / sizeof meanings_6[0];

	answer->icmp = true;
	answer->icmp_type = result->icmp_type;
	answer->icmp_code = result->icmp_code;
	answer->kind = TRACE_ANSWER_UNREACHABLE;
	answer->refusal = TRACE_REFUSED_HOST;
	for (size_t i = 0; i < count; i++) {
		if (meanings[i].type != result->icmp_type ||
		    (meanings[i].code >= 0 && meanings[i].code != result->icmp_code))
			continue;
		answer->kind = meanings[i].kind;
		answer->refusal = meanings[i].refusal;
		break;
	}
	/* A destination that refuses a protocol is reached all the same. With UDP iputils does not
	 * see it so. */
	if (answer->kind == TRACE_ANSWER_UNREACHABLE && request->protocol != IPPROTO_UDP &&
	    memcmp(result->responder, request->destination, sizeof result->responder) == 0)
		answer->kind = TRACE_ANSWER_REACHED;
}

static enum trace_answer_kind kind_of_failure(int error)
{
	switch (error) {
	case ENOBUFS:
	case EAGAIN:
	case ENOMEM:
		return TRACE_ANSWER_BUSY;
	case EMSGSIZE:
		return TRACE_ANSWER_TOO_LARGE;
	default:
		return TRACE_ANSWER_FAILED;
	}
}

struct trace_answer trace_answer_of(const struct probe_request *request,
				    const struct probe_result *result)
{
	struct trace_answer answer = {
		.has_reply_ttl = (result->known & KNOWN_REPLY_TTL) != 0,
		.reply_ttl = result->reply_ttl,
		.error = result->error,
		.scope = result->responder_ifindex,
		.rtt_ns = result->rtt_ns,
		.mtu_bytes = result->mtu_bytes,
		.extension = result->extension,
	};

	memcpy(answer.address, result->responder, sizeof answer.address);
	switch (result->kind) {
	case RESULT_REPLY:
		answer.kind = TRACE_ANSWER_REACHED;
		answer.data = request->protocol == IPPROTO_UDP;
		break;
	case RESULT_ICMP:
		read_icmp(&answer, request, result);
		break;
	case RESULT_LOST:
		answer.kind = TRACE_ANSWER_LOST;
		break;
	case RESULT_FAILED:
		answer.kind = kind_of_failure(result->error);
		break;
	}
	return answer;
}
