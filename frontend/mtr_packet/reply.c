/*
 * Writes reply lines of the text protocol. They are put together by hand: at a hundred thousand a
 * second, printf would cost more than all the rest of this program. Pure functions, without
 * allocation; run in the packet front end.
 */
#include "frontend/packet_reply.h"

#include <arpa/inet.h>
#include <string.h>

enum { NS_PER_US = 1000 };

/* Pieces of a few bytes: a call of memcpy(3) would take longer than copying them. */
static char *put_text(char *at, const char *text)
{
	while (*text != '\0')
		*at++ = *text++;
	return at;
}

/* A literal, of a length that the compiler knows. */
#define PUT(at, literal)                                                                           \
	((char *)memcpy((at), (literal), sizeof(literal) - 1) + sizeof(literal) - 1)

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
	at = put_text(at, name);
	*at++ = ' ';
	return put_number(at, number);
}

static char *put_address(char *at, uint8_t family, const uint8_t address[16])
{
	if (family == 6) {
		char text[INET6_ADDRSTRLEN];
		return put_text(at, inet_ntop(AF_INET6, address, text, sizeof(text)));
	}
	for (size_t i = 0; i < 4; i++) {
		if (i > 0)
			*at++ = '.';
		at = put_number(at, address[i]);
	}
	return at;
}

static char *put_head(char *at, const struct token *token, const char *word)
{
	/* All of it, since there is room: what is not of the token is written over. */
	memcpy(at, token->bytes, sizeof(token->bytes));
	at += token->length;
	*at++ = ' ';
	return put_text(at, word);
}

static size_t finish(const char *line, char *at)
{
	*at++ = '\n';
	return (size_t)(at - line);
}

size_t reply_word(char *line, const struct token *token, const char *word)
{
	return finish(line, put_head(line, token, word));
}

size_t reply_number(char *line, const struct token *token, const char *word, const char *name,
		    uint32_t number)
{
	return finish(line, put_argument(put_head(line, token, word), name, number));
}

size_t reply_fault(char *line, const struct token *token, const struct fault *fault)
{
	char *at = put_head(line, token, "invalid-argument reason ");

	if (fault->argument) {
		at = put_text(at, fault->argument);
		*at++ = '-';
	}
	return finish(line, put_text(at, fault->what));
}

size_t reply_support(char *line, const struct token *token, const char *text)
{
	return finish(line, put_text(put_head(line, token, "feature-support support "), text));
}

/* Four numbers a label: label, traffic class, bottom of stack, TTL (RFC 4950). */
static char *put_mpls(char *at, const struct extension_info *extension)
{
	const char *before = " mpls ";

	for (size_t i = 0; i < extension->mpls_count; i++) {
		const struct extension_mpls *label = &extension->mpls[i];
		at = put_text(at, before);
		at = put_number(at, label->label);
		*at++ = ',';
		at = put_number(at, label->traffic_class);
		*at++ = ',';
		at = put_number(at, label->bottom_of_stack);
		*at++ = ',';
		at = put_number(at, label->ttl);
		before = ",";
	}
	return at;
}

/* RFC 5837 lets a router describe up to four interfaces; a line takes sixteen arguments at most and
 * their names must not repeat, so it is the one where the probe came in, or else the first. */
static char *put_interface(char *at, const struct extension_info *extension)
{
	const struct extension_interface *interface = &extension->interfaces[0];

	if (extension->interface_count == 0)
		return at;
	for (size_t i = 0; i < extension->interface_count; i++) {
		if (extension->interfaces[i].role == EXTENSION_INCOMING) {
			interface = &extension->interfaces[i];
			break;
		}
	}
	if (interface->name[0] != '\0') {
		at = put_text(at, " interface ");
		at = put_text(at, interface->name);
	}
	if (interface->has_index)
		at = put_argument(at, "interface-index", interface->index);
	if (interface->address_family != 0) {
		at = put_text(at, " interface-ip ");
		at = put_address(at, interface->address_family, interface->address);
	}
	return at;
}

static char *put_details(char *at, const struct reply_answer *answer)
{
	const struct record_event *event = answer->event;

	if (event->what == EVENT_ICMP) {
		at = put_argument(at, "icmp-type", event->icmp_type);
		at = put_argument(at, "icmp-code", event->icmp_code);
	}
	if (event->mtu_bytes != 0 && answer->verdict != VERDICT_PACKET_TOO_BIG)
		at = put_argument(at, "mtu", event->mtu_bytes);
	if (event->known & EVENT_REPLY_TTL)
		at = put_argument(at, "reply-ttl", event->reply_ttl);
	if (event->known & EVENT_QUOTED) {
		at = put_argument(at, "quoted-ttl", event->quoted_ttl);
		at = put_argument(at, "quoted-tos", event->quoted_tos);
	}
	return answer->extension ? put_interface(at, answer->extension) : at;
}

size_t reply_answer(char *line, const struct reply_answer *answer)
{
	const struct record_event *event = answer->event;
	int64_t round_trip_ns = event->received_ns - event->sent_ns;
	char *at = put_head(line, answer->token, verdict_word(answer->verdict));

	at = answer->family == 4 ? PUT(at, " ip-4 ") : PUT(at, " ip-6 ");
	at = put_address(at, answer->family, event->responder);
	at = PUT(at, " round-trip-time ");
	if (round_trip_ns < 0)
		round_trip_ns = 0;
	at = put_number(at, ((uint64_t)round_trip_ns + NS_PER_US / 2) / NS_PER_US);
	if (answer->extension)
		at = put_mpls(at, answer->extension);
	if (answer->verdict == VERDICT_PACKET_TOO_BIG)
		at = put_argument(at, "mtu", event->mtu_bytes);
	if (answer->details)
		at = put_details(at, answer);
	return finish(line, at);
}
