/*
 * ICMP errors of both families (RFC 792, RFC 1191, RFC 4443, RFC 4884). Pure data in the front end.
 */
#include "frontend/transport/icmp_types.h"

#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>

static const struct icmp_types icmp4 = {
	.unreachable = ICMP_DEST_UNREACH,
	.time_exceeded = ICMP_TIME_EXCEEDED,
	.parameter_problem = ICMP_PARAMETERPROB,
	.packet_too_big = ICMP_DEST_UNREACH,
	.packet_too_big_code = ICMP_FRAG_NEEDED,
	.extension_length = 5,
	.extension_unit = 4,
};

static const struct icmp_types icmp6 = {
	.unreachable = ICMP6_DST_UNREACH,
	.time_exceeded = ICMP6_TIME_EXCEEDED,
	.parameter_problem = ICMP6_PARAM_PROB,
	.packet_too_big = ICMP6_PACKET_TOO_BIG,
	.packet_too_big_code = -1,
	.extension_length = 4,
	.extension_unit = 8,
};

const struct icmp_types *icmp_types(uint8_t family)
{
	return family == 4 ? &icmp4 : &icmp6;
}

bool icmp_is_too_big(uint8_t family, uint8_t type, uint8_t code)
{
	const struct icmp_types *types = icmp_types(family);

	return type == types->packet_too_big &&
	       (types->packet_too_big_code < 0 || code == types->packet_too_big_code);
}

bool icmp_is_extensible(uint8_t family, uint8_t type)
{
	const struct icmp_types *types = icmp_types(family);

	return type == types->unreachable || type == types->time_exceeded ||
	       (family == 4 && type == types->parameter_problem);
}
