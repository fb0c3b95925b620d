/*
 * What a request line says: splits it into fields, then reads each argument by a table of names,
 * ranges and places. Pure functions on hostile bytes, without allocation; runs in the packet front
 * end.
 */
#include "frontend/packet_request.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>

#include "policy/admission.h"

enum {
	NS_PER_S = 1000000000,
	FIELDS = 2 + 2 * REQUEST_ARGUMENTS,
	FAMILY_4 = 1,
	FAMILY_6 = 2,
	/* Longer texts are no literal address. */
	ADDRESS_TEXT_BYTES = INET6_ADDRSTRLEN,
};

static inline bool text_is(struct text text, const char *word, size_t length)
{
	return text.length == length && memcmp(text.bytes, word, length) == 0;
}

static bool is_blank(char byte)
{
	return byte == ' ' || byte == '\t';
}

/* Most bytes are neither blanks nor less than them. */
static bool is_in_field(char byte)
{
	return (unsigned char)byte > ' ' || !is_blank(byte);
}

/* Splits at blanks; returns the number of fields, FIELDS + 1 if there are more than FIELDS. */
static size_t split(struct text line, struct text fields[FIELDS])
{
	const char *at = line.bytes, *end = line.bytes + line.length;
	size_t count = 0;

	for (;;) {
		while (at < end && is_blank(*at))
			at++;
		if (at == end)
			return count;
		if (count == FIELDS)
			return FIELDS + 1;
		const char *from = at;
		while (at < end && is_in_field(*at))
			at++;
		fields[count++] = (struct text){from, (size_t)(at - from)};
	}
}

/* Numbers beyond every range that an argument has keep this value, whatever their length. */
static const int64_t BEYOND = INT64_C(1) << 53;

/* Reads a decimal integer with an optional sign. Returns false if the text is none. */
static bool read_integer(struct text text, int64_t *value)
{
	const char *at = text.bytes, *end = text.bytes + text.length;
	bool negative = at < end && *at == '-';
	int64_t sum = 0;

	if (at < end && (*at == '-' || *at == '+'))
		at++;
	if (at == end)
		return false;
	for (; at < end; at++) {
		if (*at < '0' || *at > '9')
			return false;
		if (sum < BEYOND)
			sum = sum * 10 + (*at - '0');
	}
	*value = negative ? -sum : sum;
	return true;
}

/* A token is answered as it came. Only a run of leading zeros can make it longer than TOKEN_BYTES;
 * it loses as many of them as do not fit. */
static bool read_token(struct text text, struct token *token)
{
	int64_t value;

	if (!read_integer(text, &value) || value < INT32_MIN || value > INT32_MAX)
		return false;
	size_t sign = text.bytes[0] == '-' || text.bytes[0] == '+';
	size_t keep = text.length <= TOKEN_BYTES ? text.length : TOKEN_BYTES;
	token->length = (uint8_t)keep;
	memcpy(token->bytes, text.bytes, sign);
	memcpy(token->bytes + sign, text.bytes + text.length - (keep - sign), keep - sign);
	return true;
}

/* Reads seconds with an optional fraction; digits beyond nanoseconds are dropped. */
static bool read_seconds(struct text text, int64_t *value_ns)
{
	const char *at = text.bytes, *end = text.bytes + text.length;
	int64_t seconds = 0, fraction = 0, unit = NS_PER_S / 10;
	size_t digits = 0;

	for (; at < end && *at >= '0' && *at <= '9'; at++, digits++)
		if (seconds <= INT32_MAX)
			seconds = seconds * 10 + (*at - '0');
	if (at < end && *at == '.') {
		for (at++; at < end && *at >= '0' && *at <= '9'; at++, digits++, unit /= 10)
			fraction += unit * (*at - '0');
	}
	if (at < end || digits == 0)
		return false;
	/* Longer than 68 years is for ever. */
	if (seconds > INT32_MAX)
		seconds = INT32_MAX;
	*value_ns = seconds * NS_PER_S + fraction;
	return true;
}

static bool read_address(int family, struct text text, uint8_t address[16])
{
	char copy[ADDRESS_TEXT_BYTES];

	if (text.length >= sizeof(copy) || memchr(text.bytes, '\0', text.length))
		return false;
	memcpy(copy, text.bytes, text.length);
	copy[text.length] = '\0';
	memset(address, 0, 16);
	return inet_pton(family, copy, address) == 1;
}

/* --- arguments of send-probe ------------------------------------------------------------------ */

struct argument {
	const char *name;
	size_t name_length;
	/* Reads a value; returns what is wrong with it, or NULL. */
	const char *(*read)(struct request *request, const struct argument *argument,
			    struct text value);
	int64_t least, most; /* for numbers */
	/* Where a number goes. */
	void (*store)(struct request *request, int64_t value);
};

static const char *read_number(struct request *request, const struct argument *argument,
			       struct text value)
{
	int64_t number;

	if (!read_integer(value, &number))
		return "not-a-number";
	if (number < argument->least || number > argument->most)
		return "out-of-range";
	argument->store(request, number);
	return NULL;
}

static void store_ttl(struct request *request, int64_t value)
{
	request->probe.ttl = (uint8_t)value;
}

static void store_size(struct request *request, int64_t value)
{
	request->probe.size_bytes = (uint16_t)value;
}

static void store_pattern(struct request *request, int64_t value)
{
	request->probe.payload_byte = (uint8_t)(value & 0xff);
}

static void store_tos(struct request *request, int64_t value)
{
	request->probe.tos = (uint8_t)value;
}

static void store_port(struct request *request, int64_t value)
{
	request->probe.port = (uint16_t)value;
}

static void store_local_port(struct request *request, int64_t value)
{
	request->probe.source_port = (uint16_t)value;
}

static void store_mark(struct request *request, int64_t value)
{
	request->probe.mark = (uint32_t)value;
	request->probe.flags |= PROBE_MARK;
}

static void store_flow(struct request *request, int64_t value)
{
	request->probe.flow = (uint32_t)value;
	request->probe.flags |= PROBE_FLOW;
}

static void store_dont_fragment(struct request *request, int64_t value)
{
	request->probe.flags &= (uint16_t)~PROBE_DONT_FRAGMENT;
	if (value)
		request->probe.flags |= PROBE_DONT_FRAGMENT;
}

static void store_details(struct request *request, int64_t value)
{
	request->details = value != 0;
}

static const char *read_ip_4(struct request *request, const struct argument *argument,
			     struct text value)
{
	(void)argument;
	request->families |= FAMILY_4;
	request->probe.family = 4;
	return read_address(AF_INET, value, request->probe.destination) ? NULL : "not-an-address";
}

static const char *read_ip_6(struct request *request, const struct argument *argument,
			     struct text value)
{
	const char *percent = memchr(value.bytes, '%', value.length);

	(void)argument;
	request->families |= FAMILY_6;
	request->probe.family = 6;
	request->scope.length = 0;
	if (percent) {
		size_t length = (size_t)(percent - value.bytes);
		request->scope = (struct text){percent + 1, value.length - length - 1};
		value.length = length;
		if (request->scope.length == 0)
			return "not-an-address";
	}
	return read_address(AF_INET6, value, request->probe.destination) ? NULL : "not-an-address";
}

static const char *read_local_ip_4(struct request *request, const struct argument *argument,
				   struct text value)
{
	(void)argument;
	request->sources |= FAMILY_4;
	return read_address(AF_INET, value, request->probe.source) ? NULL : "not-an-address";
}

static const char *read_local_ip_6(struct request *request, const struct argument *argument,
				   struct text value)
{
	(void)argument;
	request->sources |= FAMILY_6;
	return read_address(AF_INET6, value, request->probe.source) ? NULL : "not-an-address";
}

static const char *read_timeout(struct request *request, const struct argument *argument,
				struct text value)
{
	int64_t number;

	(void)argument;
	if (read_seconds(value, &request->timeout_ns))
		return NULL;
	return read_integer(value, &number) ? "out-of-range" : "not-a-number";
}

static const char *read_protocol(struct request *request, const struct argument *argument,
				 struct text value)
{
	(void)argument;
	if (text_is(value, "icmp", 4))
		request->probe.protocol = IPPROTO_ICMP;
	else if (text_is(value, "udp", 3))
		request->probe.protocol = IPPROTO_UDP;
	else if (text_is(value, "tcp", 3))
		request->probe.protocol = IPPROTO_TCP;
	else if (text_is(value, "sctp", 4))
		request->probe.protocol = IPPROTO_SCTP;
	else
		return "unknown";
	return NULL;
}

static const char *read_local_device(struct request *request, const struct argument *argument,
				     struct text value)
{
	(void)argument;
	if (value.length >= IFNAMSIZ)
		return "unknown";
	request->device = value;
	return NULL;
}

#define NAME(text) (text), sizeof(text) - 1

/* What mtr sends most comes first. */
static const struct argument arguments[] = {
	{NAME("ip-4"), read_ip_4, 0, 0, NULL},
	{NAME("ip-6"), read_ip_6, 0, 0, NULL},
	{NAME("local-ip-4"), read_local_ip_4, 0, 0, NULL},
	{NAME("local-ip-6"), read_local_ip_6, 0, 0, NULL},
	{NAME("protocol"), read_protocol, 0, 0, NULL},
	{NAME("timeout"), read_timeout, 0, 0, NULL},
	{NAME("ttl"), read_number, 1, 255, store_ttl},
	{NAME("size"), read_number, 0, 65535, store_size},
	{NAME("bit-pattern"), read_number, -511, 255, store_pattern},
	{NAME("tos"), read_number, 0, 255, store_tos},
	{NAME("port"), read_number, 1, 65535, store_port},
	{NAME("local-port"), read_number, 1024, 65535, store_local_port},
	{NAME("local-device"), read_local_device, 0, 0, NULL},
	{NAME("mark"), read_number, 0, UINT32_MAX, store_mark},
	{NAME("flow"), read_number, 0, UINT32_MAX, store_flow},
	{NAME("details"), read_number, 0, 1, store_details},
	{NAME("dont-fragment"), read_number, 0, 1, store_dont_fragment},
};

enum { ARGUMENTS = sizeof(arguments) / sizeof(arguments[0]) };

/* Of an argument that is given twice only the last one counts, for what is wrong with it, too. */
static bool is_given_again(const struct text *names, size_t count)
{
	for (size_t i = 2; i < count; i += 2)
		if (text_is(names[0], names[i].bytes, names[i].length))
			return true;
	return false;
}

static struct fault read_argument(struct request *request, struct text name, struct text value)
{
	for (size_t i = 0; i < ARGUMENTS; i++) {
		const struct argument *argument = &arguments[i];
		if (!text_is(name, argument->name, argument->name_length))
			continue;
		return (struct fault){argument->name, argument->read(request, argument, value)};
	}
	return (struct fault){NULL, "unknown-argument"};
}

/* What can be wrong between arguments that are right each for itself. */
static struct fault check_whole(struct request *request)
{
	struct record_probe *probe = &request->probe;

	if (request->families == 0)
		return (struct fault){"destination", "missing"};
	if (request->families == (FAMILY_4 | FAMILY_6))
		return (struct fault){"destination", "of-both-families"};
	if (request->sources & ~request->families)
		return (struct fault){probe->family == 4 ? "local-ip-6" : "local-ip-4",
				      "of-other-family"};
	/* The broker ends for a destination that is not one host: ask the same judge before. */
	if (!admission_is_unicast(probe->family, probe->destination))
		return (struct fault){"destination", "not-unicast"};

	/* Ports mean nothing to a protocol without them, as they always did. */
	if (probe->protocol == IPPROTO_ICMP)
		probe->port = 0;
	else if (probe->port == 0 && probe->protocol != IPPROTO_UDP)
		probe->port = 80;
	if (probe->protocol != IPPROTO_UDP)
		probe->source_port = 0;
	return (struct fault){NULL, NULL};
}

static enum request_kind parse_probe(struct request *request, const struct text *fields,
				     size_t count)
{
	request->probe.kind = RECORD_PROBE;
	request->probe.protocol = IPPROTO_ICMP;
	request->probe.ttl = 255;
	request->probe.size_bytes = 64;
	request->timeout_ns = (int64_t)REQUEST_DEFAULT_TIMEOUT_S * NS_PER_S;

	for (size_t i = 0; i < count && !request->fault.what; i += 2) {
		request->fault = read_argument(request, fields[i], fields[i + 1]);
		if (request->fault.what && is_given_again(fields + i, count - i))
			request->fault.what = NULL;
	}
	if (!request->fault.what)
		request->fault = check_whole(request);
	return request->fault.what ? REQUEST_INVALID : REQUEST_PROBE;
}

static enum request_kind parse_check_support(struct request *request, const struct text *fields,
					     size_t count)
{
	for (size_t i = 0; i < count; i += 2)
		if (text_is(fields[i], "feature", 7))
			request->feature = fields[i + 1];
	if (request->feature.bytes)
		return REQUEST_CHECK_SUPPORT;
	request->fault = (struct fault){"feature", "missing"};
	return REQUEST_INVALID;
}

enum request_kind request_parse(struct text line, struct request *request)
{
	struct text fields[FIELDS];
	size_t count = split(line, fields);

	memset(request, 0, sizeof(*request));
	if (count < 2 || count > FIELDS || count % 2 != 0 ||
	    !read_token(fields[0], &request->token))
		return REQUEST_PARSE_ERROR;
	if (text_is(fields[1], "send-probe", 10))
		return parse_probe(request, fields + 2, count - 2);
	if (text_is(fields[1], "check-support", 13))
		return parse_check_support(request, fields + 2, count - 2);
	return REQUEST_UNKNOWN_COMMAND;
}
