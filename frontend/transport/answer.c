/*
 * Reads what an answer says that the broker passed on. Pure functions in the unprivileged front
 * end; every byte may be forged and each length is checked before it is used.
 */
#include "frontend/transport/answer.h"

#include <netinet/in.h>
#include <string.h>

#include "common/checksum.h"
#include "common/wire.h"
#include "frontend/transport/echo.h"
#include "frontend/transport/icmp_types.h"
#include "frontend/transport/ip_family.h"

enum {
	SCTP_CHECKSUM_OFFSET = 8,
};

/* A long echo reply is passed on in part: the rest is what the probe was filled with. Of other
 * packets that are not here as a whole the checksum remains unknown. The kernel has verified that
 * of ICMPv6 (RFC 3542 3.1). */
static bool icmp_checksum_holds(const struct record_answer *answer, const uint8_t *data,
				const struct record_probe *probe, const struct wire_family *wire)
{
	size_t missing_bytes = (size_t)answer->packet_bytes - answer->data_bytes;

	if (wire->family == 6 || (missing_bytes > 0 && data[0] != wire->echo_reply))
		return true;
	uint64_t sum = checksum_add(0, data, answer->data_bytes);
	/* Such a record is full, so the rest begins at an even offset. */
	sum = echo_add_fill(sum, probe->payload_byte, missing_bytes);
	return checksum_fold(sum) == 0xffff;
}

/* RFC 9653 allows a zero checksum only to those who were told so, and an INIT of ours does not.
 * Packets of this host to itself have none, since no wire needs it. */
static bool sctp_checksum_holds(const struct record_answer *answer, const uint8_t *data)
{
	static const uint8_t zero[4];

	if (memcmp(data + SCTP_CHECKSUM_OFFSET, zero, sizeof(zero)) == 0)
		return memcmp(answer->responder, answer->local, sizeof(answer->local)) == 0;
	if (answer->data_bytes < answer->packet_bytes)
		return true;
	uint32_t crc = crc32c(0, data, SCTP_CHECKSUM_OFFSET);
	crc = crc32c(crc, zero, sizeof(zero));
	crc = crc32c(crc, data + WIRE_SCTP_HEADER_BYTES,
		     answer->data_bytes - (size_t)WIRE_SCTP_HEADER_BYTES);
	/* The only little-endian field of all (RFC 9260 appendix A). */
	const uint8_t *field = data + SCTP_CHECKSUM_OFFSET;
	return crc == ((uint32_t)field[3] << 24 | (uint32_t)field[2] << 16 |
		       (uint32_t)field[1] << 8 | field[0]);
}

/* Of other types nothing is an answer, whatever it quotes. */
static bool is_error(const uint8_t *data, uint8_t family)
{
	const struct icmp_types *types = icmp_types(family);

	return data[0] == types->unreachable || data[0] == types->time_exceeded ||
	       data[0] == types->parameter_problem || data[0] == types->packet_too_big;
}

static uint32_t next_hop_mtu(const uint8_t *data, uint8_t family)
{
	if (!icmp_is_too_big(family, data[0], data[1]))
		return 0;
	return family == 4 ? wire_get16(data + 6) : wire_get32(data + 4);
}

static void read_error(const struct record_answer *answer, const uint8_t *data, uint8_t family,
		       struct probe_result *result, struct extension_info *extension)
{
	const struct icmp_types *types = icmp_types(family);
	struct wire_ip quoted;
	const uint8_t *quote = data + WIRE_ICMP_HEADER_BYTES;
	size_t quote_bytes = answer->data_bytes - (size_t)WIRE_ICMP_HEADER_BYTES;
	size_t told_bytes = 0;

	if (icmp_is_extensible(family, data[0])) {
		told_bytes = (size_t)data[types->extension_length] * types->extension_unit;
		if (extension_find(quote, quote_bytes, 0, told_bytes,
				   answer->data_bytes < answer->packet_bytes, extension))
			result->extension = extension;
	}
	if (told_bytes != 0 && told_bytes < quote_bytes)
		quote_bytes = told_bytes;
	result->kind = RESULT_ICMP;
	result->known |= KNOWN_ICMP;
	result->icmp_type = data[0];
	result->icmp_code = data[1];
	result->mtu_bytes = next_hop_mtu(data, family);
	if (wire_ip_read(quote, quote_bytes, &quoted)) {
		result->known |= KNOWN_QUOTED_TTL;
		result->quoted_ttl = quoted.ttl;
		result->quoted_tos = family == 4 ? quote[1] : (uint8_t)(wire_get16(quote) >> 4);
	}
}

bool answer_read(const struct record_answer *answer, const uint8_t *data,
		 const struct record_probe *probe, struct probe_result *result,
		 struct extension_info *extension)
{
	const struct wire_family *wire = wire_family(probe->family);

	*result = (struct probe_result){
		.cookie = probe->cookie,
		.kind = RESULT_REPLY,
		.known = KNOWN_REPLY_TTL,
		.reply_ttl = answer->ttl,
	};
	memcpy(result->responder, answer->responder, sizeof(result->responder));
	if (ip_family_is_link_local(probe->family, answer->responder))
		result->responder_ifindex = answer->ifindex;
	if (answer->protocol == IPPROTO_SCTP)
		return answer->data_bytes >= WIRE_SCTP_HEADER_BYTES &&
		       sctp_checksum_holds(answer, data);
	if (answer->data_bytes < WIRE_ICMP_HEADER_BYTES ||
	    !icmp_checksum_holds(answer, data, probe, wire))
		return false;
	if (data[0] == wire->echo_reply)
		return true;
	if (!is_error(data, probe->family))
		return false;
	read_error(answer, data, probe->family, result, extension);
	return true;
}
