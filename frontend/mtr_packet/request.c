/*
 * Reads a request line of the text protocol: splits it into fields, then reads each argument by a
 * table of names, ranges and places. Pure functions without allocation on bytes of the client,
 * which is not trusted; run in mtr-packet.
 */
#include "frontend/mtr_packet/request.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "frontend/process/clock.h"
#include "policy/validate.h"

enum {
	/* Token, command, and the arguments. */
	FIELDS = 2 + 2 * REQUEST_ARGUMENTS,
	FAMILY_4 = 1,
	FAMILY_6 = 2,
};

static bool is_blank(char byte)
{
	return byte == ' ' || byte == '\t';
}

/* Splits at blanks. Returns the number of fields, FIELDS + 1 if there are more than FIELDS. */
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
		while (at < end && !is_blank(*at))
			at++;
		fields[count++] = (struct text){from, (size_t)(at - from)};
	}
}

/* Numbers of any length that no range includes keep a value of this size. */
static const int64_t OUT_OF_ALL_RANGES = INT64_C(1) << 53;

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
		if (sum < OUT_OF_ALL_RANGES)
			sum = sum * 10 + (*at - '0');
	}
	*value = negative ? -sum : sum;
	return true;
}

/* Only leading zeros make a token longer than TOKEN_BYTES. Those that do not fit are dropped. */
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

/* Reads seconds with an optional fraction. Digits below a nanosecond are dropped, and more than 68
 * years are 68 years. */
static bool read_seconds(struct text text, int64_t *value_ns)
{
	const char *at = text.bytes, *end = text.bytes + text.length;
	int64_t seconds = 0, fraction_ns = 0, unit_ns = NS_PER_S / 10;
	size_t digits = 0;

	for (; at < end && *at >= '0' && *at <= '9'; at++, digits++)
		if (seconds <= INT32_MAX)
			seconds = seconds * 10 + (*at - '0');
	if (at < end && *at == '.') {
		for (at++; at < end && *at >= '0' && *at <= '9'; at++, digits++, unit_ns /= 10)
			fraction_ns += unit_ns * (*at - '0');
	}
	if (at < end || digits == 0)
		return false;
	if (seconds > INT32_MAX)
		seconds = INT32_MAX;
	*value_ns = seconds * NS_PER_S + fraction_ns;
	return true;
}

static bool read_address(uint8_t family, struct text text, uint8_t address[16])
{
	char copy[INET6_ADDRSTRLEN];

	if (text.length >= sizeof(copy) || memchr(text.bytes, '\0', text.length))
		return false;
	memcpy(copy, text.bytes, text.length);
	copy[text.length] = '\0';
	memset(address, 0, 16);
	return inet_pton(family == 4 ? AF_INET : AF_INET6, copy, address) == 1;
}

/* --- arguments of send-probe ------------------------------------------------------------------ */

struct argument {
	struct text name;
	/* Reads a value. Returns what is wrong with it, or NULL. */
	const char *(*read)(struct request *request, const struct argument *argument,
			    struct text value);
	uint8_t family;       /* of an address */
	int64_t least, most;  /* of a number */
	size_t offset, bytes; /* of a number: its place in struct request */
	uint16_t flag;        /* of a number: enum request_flags, set with it */
};

static const char *read_in_range(const struct argument *argument, struct text value,
				 int64_t *number)
{
	if (!read_integer(value, number))
		return "not-a-number";
	return *number < argument->least || *number > argument->most ? "out-of-range" : NULL;
}

static const char *read_number(struct request *request, const struct argument *argument,
			       struct text value)
{
	void *place = (char *)request + argument->offset;
	int64_t number;
	const char *fault = read_in_range(argument, value, &number);

	if (fault)
		return fault;
	if (argument->bytes == sizeof(uint8_t))
		*(uint8_t *)place = (uint8_t)number;
	else if (argument->bytes == sizeof(uint16_t))
		*(uint16_t *)place = (uint16_t)number;
	else
		*(uint32_t *)place = (uint32_t)number;
	request->probe.flags |= argument->flag;
	return NULL;
}

static const char *read_pattern(struct request *request, const struct argument *argument,
				struct text value)
{
	int64_t number;
	const char *fault = read_in_range(argument, value, &number);

	if (fault)
		return fault;
	request->probe.random_payload = number < 0;
	request->probe.payload_byte = (uint8_t)(number & 0xff);
	return NULL;
}

static const char *read_dont_fragment(struct request *request, const struct argument *argument,
				      struct text value)
{
	int64_t number;
	const char *fault = read_in_range(argument, value, &number);

	if (!fault && number != 0)
		request->probe.flags |= REQUEST_DONT_FRAGMENT;
	return fault;
}

static uint8_t family_bit(const struct argument *argument)
{
	return argument->family == 4 ? FAMILY_4 : FAMILY_6;
}

static const char *read_destination(struct request *request, const struct argument *argument,
				    struct text value)
{
	const char *percent = argument->family == 6 ? memchr(value.bytes, '%', value.length) : NULL;

	request->destinations |= family_bit(argument);
	request->probe.family = argument->family;
	if (percent) {
		size_t length = (size_t)(percent - value.bytes);
		request->scope = (struct text){percent + 1, value.length - length - 1};
		value.length = length;
		if (request->scope.length == 0)
			return "not-an-address";
	}
	if (!read_address(argument->family, value, request->probe.destination))
		return "not-an-address";
	return NULL;
}

static const char *read_source(struct request *request, const struct argument *argument,
			       struct text value)
{
	static const uint8_t kernels_choice[16];
	uint8_t *source = request->probe.source;

	request->sources |= family_bit(argument);
	if (!read_address(argument->family, value, source))
		return "not-an-address";
	if (memcmp(source, kernels_choice, sizeof(kernels_choice)) == 0)
		return NULL;
	/* A TCP socket would take a multicast address and then use another one. */
	return validate_is_unicast(argument->family, source) ? NULL : "not-unicast";
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
	if (text_equals(value, TEXT("icmp")))
		request->probe.protocol = IPPROTO_ICMP;
	else if (text_equals(value, TEXT("udp")))
		request->probe.protocol = IPPROTO_UDP;
	else if (text_equals(value, TEXT("tcp")))
		request->probe.protocol = IPPROTO_TCP;
	else if (text_equals(value, TEXT("sctp")))
		request->probe.protocol = IPPROTO_SCTP;
	else
		return "unknown";
	return NULL;
}

static const char *read_device(struct request *request, const struct argument *argument,
			       struct text value)
{
	(void)argument;
	request->device = value;
	return NULL;
}

#define PLACE(member)                                                                              \
	.offset = offsetof(struct request, member), .bytes = sizeof(((struct request *)0)->member)
#define NUMBER(low, high, member) .read = read_number, .least = (low), .most = (high), PLACE(member)

static const struct argument arguments[] = {
	{TEXT("ip-4"), .read = read_destination, .family = 4},
	{TEXT("ip-6"), .read = read_destination, .family = 6},
	{TEXT("local-ip-4"), .read = read_source, .family = 4},
	{TEXT("local-ip-6"), .read = read_source, .family = 6},
	{TEXT("local-device"), .read = read_device},
	{TEXT("protocol"), .read = read_protocol},
	{TEXT("timeout"), .read = read_timeout},
	{TEXT("ttl"), NUMBER(1, 255, probe.ttl)},
	{TEXT("size"), NUMBER(0, 65535, probe.size_bytes)},
	{TEXT("tos"), NUMBER(0, 255, probe.tos)},
	{TEXT("port"), NUMBER(1, 65535, probe.port)},
	{TEXT("local-port"), NUMBER(1024, 65535, probe.local_port)},
	{TEXT("mark"), NUMBER(0, UINT32_MAX, probe.mark), .flag = REQUEST_MARK},
	{TEXT("flow"), NUMBER(0, UINT32_MAX, probe.flow), .flag = REQUEST_FLOW},
	{TEXT("details"), NUMBER(0, 1, details)},
	{TEXT("bit-pattern"), .read = read_pattern, .least = -511, .most = 255},
	{TEXT("dont-fragment"), .read = read_dont_fragment, .least = 0, .most = 1},
};

static const struct argument *find_argument(struct text name)
{
	for (size_t i = 0; i < sizeof(arguments) / sizeof(arguments[0]); i++)
		if (text_equals(arguments[i].name, name))
			return &arguments[i];
	return NULL;
}

/* Names and values alternate. Of an argument that is given twice only the last counts. */
static bool is_given_again(const struct text *names, size_t count)
{
	for (size_t i = 2; i < count; i += 2)
		if (text_equals(names[0], names[i]))
			return true;
	return false;
}

static void read_arguments(struct request *request, const struct text *fields, size_t count)
{
	for (size_t i = 0; i < count && !request->fault.what; i += 2) {
		const struct argument *argument = find_argument(fields[i]);
		if (!argument) {
			request->unknown[request->unknown_count++] = fields[i];
		} else if (!is_given_again(fields + i, count - i)) {
			request->fault.argument = argument->name.bytes;
			request->fault.what = argument->read(request, argument, fields[i + 1]);
		}
	}
}

/* What can be wrong between arguments that are right one by one. */
static struct fault check_combination(const struct request *request)
{
	const struct probe_request *probe = &request->probe;

	if (request->destinations == 0)
		return (struct fault){"destination", "missing"};
	if (request->destinations == (FAMILY_4 | FAMILY_6))
		return (struct fault){"destination", "of-both-families"};
	if (request->sources & ~request->destinations)
		return (struct fault){probe->family == 4 ? "local-ip-6" : "local-ip-4",
				      "of-other-family"};
	/* The broker ends when it is asked for another destination. */
	if (!validate_is_unicast(probe->family, probe->destination))
		return (struct fault){"destination", "not-unicast"};
	/* The ports of one connection cannot be used twice at once. */
	if (probe->protocol == IPPROTO_TCP && (probe->flags & REQUEST_FLOW))
		return (struct fault){"flow", "with-tcp"};
	return (struct fault){NULL, NULL};
}

/* Ports of a protocol that has none are ignored, as by mtr-packet 0.95. */
static void set_ports(struct probe_request *probe)
{
	if (probe->protocol == IPPROTO_ICMP)
		probe->port = 0;
	else if (probe->port == 0 && probe->protocol != IPPROTO_UDP)
		probe->port = 80;
	if (probe->protocol != IPPROTO_UDP)
		probe->local_port = 0;
}

static enum request_kind parse_probe(struct request *request, const struct text *fields,
				     size_t count)
{
	request->probe.protocol = IPPROTO_ICMP;
	request->probe.ttl = 255;
	request->probe.size_bytes = 64;
	request->timeout_ns = (int64_t)REQUEST_DEFAULT_TIMEOUT_S * NS_PER_S;

	read_arguments(request, fields, count);
	if (!request->fault.what)
		request->fault = check_combination(request);
	set_ports(&request->probe);
	return request->fault.what ? REQUEST_INVALID : REQUEST_SEND_PROBE;
}

static enum request_kind parse_check_support(struct request *request, const struct text *fields,
					     size_t count)
{
	for (size_t i = 0; i < count; i += 2)
		if (text_equals(fields[i], TEXT("feature")))
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
	if (text_equals(fields[1], TEXT("send-probe")))
		return parse_probe(request, fields + 2, count - 2);
	if (text_equals(fields[1], TEXT("check-support")))
		return parse_check_support(request, fields + 2, count - 2);
	return REQUEST_UNKNOWN_COMMAND;
}
