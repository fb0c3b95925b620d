/*
 * Writes reply lines of the text protocol. They are put together by hand: at a hundred thousand a
 * second, printf would cost more than all the rest of this program. Pure functions, without
 * allocation; run in the packet front end.
 */
#include "frontend/packet_reply.h"

#include <arpa/inet.h>
#include <string.h>

enum { NS_PER_US = 1000 };

static char *put_bytes(char *at, const char *bytes, size_t length)
{
	memcpy(at, bytes, length);
	return at + length;
}

static char *put_text(char *at, const char *text)
{
	return put_bytes(at, text, strlen(text));
}

static char *put_number(char *at, uint64_t number)
{
	char digits[20];
	size_t from = sizeof(digits);

	do {
		digits[--from] = (char)('0' + number % 10);
		number /= 10;
	} while (number > 0);
	return put_bytes(at, digits + from, sizeof(digits) - from);
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
	at = put_bytes(at, token->bytes, token->length);
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

	at = put_text(at, answer->family == 4 ? " ip-4 " : " ip-6 ");
	at = put_address(at, answer->family, event->responder);
	if (round_trip_ns < 0)
		round_trip_ns = 0;
	at = put_argument(at, "round-trip-time",
			  ((uint64_t)round_trip_ns + NS_PER_US / 2) / NS_PER_US);
	if (answer->extension)
		at = put_mpls(at, answer->extension);
	if (answer->verdict == VERDICT_PACKET_TOO_BIG)
		at = put_argument(at, "mtu", event->mtu_bytes);
	if (answer->details)
		at = put_details(at, answer);
	return finish(line, at);
}
