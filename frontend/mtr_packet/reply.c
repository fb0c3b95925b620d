/*
 * Writes reply lines of the text protocol. Pure functions without allocation; run in mtr-packet.
 * They do not use printf, which would cost more than the rest of this program at a hundred thousand
 * replies a second.
 */
#include "frontend/mtr_packet/reply.h"

#include <arpa/inet.h>
#include <string.h>

#include "frontend/process/clock.h"

static char *put_number(char *at, uint64_t number)
{
	size_t length = 1;

	for (uint64_t rest = number; rest >= 10; rest /= 10)
		length++;
	for (size_t i = length; i-- > 0; number /= 10)
		at[i] = (char)('0' + number % 10);
	return at + length;
}

/* " NAME NUMBER" */
static char *put_argument(char *at, const char *name, uint64_t number)
{
	*at++ = ' ';
	at = stpcpy(at, name);
	*at++ = ' ';
	return put_number(at, number);
}

static char *put_address(char *at, uint8_t family, const uint8_t address[16])
{
	if (family == 6) {
		char text[INET6_ADDRSTRLEN];
		return stpcpy(at, inet_ntop(AF_INET6, address, text, sizeof(text)));
	}
	for (size_t i = 0; i < 4; i++) {
		if (i > 0)
			*at++ = '.';
		at = put_number(at, address[i]);
	}
	return at;
}

/* "TOKEN NAME" */
static char *put_head(char *at, const struct token *token, const char *name)
{
	memcpy(at, token->bytes, token->length);
	at += token->length;
	*at++ = ' ';
	return stpcpy(at, name);
}

static size_t finish(const char *line, char *at)
{
	*at++ = '\n';
	return (size_t)(at - line);
}

size_t write_reply(char *line, const struct token *token, const char *name)
{
	return finish(line, put_head(line, token, name));
}

size_t write_reply_number(char *line, const struct token *token, const char *name,
			  const char *argument, uint32_t number)
{
	return finish(line, put_argument(put_head(line, token, name), argument, number));
}

size_t write_reply_fault(char *line, const struct token *token, struct fault fault)
{
	char *at = put_head(line, token, "invalid-argument reason ");

	at = stpcpy(at, fault.argument);
	*at++ = '-';
	return finish(line, stpcpy(at, fault.what));
}

size_t write_reply_support(char *line, const struct token *token, const char *text)
{
	return finish(line, stpcpy(put_head(line, token, "feature-support support "), text));
}

/* Four numbers for each label: label, traffic class, bottom of stack, TTL (RFC 4950). */
static char *put_mpls(char *at, const struct extension_info *extension)
{
	for (size_t i = 0; i < extension->mpls_count; i++) {
		const struct extension_mpls *label = &extension->mpls[i];
		at = stpcpy(at, i == 0 ? " mpls " : ",");
		at = put_number(at, label->label);
		*at++ = ',';
		at = put_number(at, label->traffic_class);
		*at++ = ',';
		at = put_number(at, label->bottom_of_stack);
		*at++ = ',';
		at = put_number(at, label->ttl);
	}
	return at;
}

/* A router may describe four interfaces (RFC 5837), but a name may stand only once in a line. So it
 * is the interface where the probe came in, or else the first. */
static const struct extension_interface *choose_interface(const struct extension_info *extension)
{
	for (size_t i = 0; i < extension->interface_count; i++)
		if (extension->interfaces[i].role == EXTENSION_INCOMING)
			return &extension->interfaces[i];
	return &extension->interfaces[0];
}

static char *put_interface(char *at, const struct extension_interface *interface)
{
	if (interface->name[0] != '\0') {
		at = stpcpy(at, " interface ");
		at = stpcpy(at, interface->name);
	}
	if (interface->has_index)
		at = put_argument(at, "interface-index", interface->index);
	if (interface->address_family != 0) {
		at = stpcpy(at, " interface-ip ");
		at = put_address(at, interface->address_family, interface->address);
	}
	return at;
}

static char *put_details(char *at, const struct reply_answer *answer)
{
	const struct probe_result *result = answer->result;

	if (result->known & KNOWN_ICMP) {
		at = put_argument(at, "icmp-type", result->icmp_type);
		at = put_argument(at, "icmp-code", result->icmp_code);
	}
	if (result->mtu_bytes != 0 && answer->status != STATUS_PACKET_TOO_BIG)
		at = put_argument(at, "mtu", result->mtu_bytes);
	if (result->known & KNOWN_REPLY_TTL)
		at = put_argument(at, "reply-ttl", result->reply_ttl);
	if (result->known & KNOWN_QUOTED_TTL) {
		at = put_argument(at, "quoted-ttl", result->quoted_ttl);
		at = put_argument(at, "quoted-tos", result->quoted_tos);
	}
	if (result->extension && result->extension->interface_count > 0)
		at = put_interface(at, choose_interface(result->extension));
	return at;
}

size_t write_reply_answer(char *line, const struct reply_answer *answer)
{
	const struct probe_result *result = answer->result;
	char *at = put_head(line, answer->token, reply_status_name(answer->status));

	at = stpcpy(at, answer->family == 4 ? " ip-4 " : " ip-6 ");
	at = put_address(at, answer->family, result->responder);
	at = put_argument(at, "round-trip-time",
			  (uint64_t)(result->rtt_ns + NS_PER_US / 2) / NS_PER_US);
	if (result->extension)
		at = put_mpls(at, result->extension);
	if (answer->status == STATUS_PACKET_TOO_BIG)
		at = put_argument(at, "mtu", result->mtu_bytes);
	if (answer->details)
		at = put_details(at, answer);
	return finish(line, at);
}
