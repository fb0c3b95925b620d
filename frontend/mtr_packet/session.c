/*
 * One client's session: takes request lines, opens probes, and writes a reply line for what becomes
 * of each. Runs in mtr-packet; does not trust the client's lines. Every line gets exactly one
 * reply: a slot is released where its reply is written, and nowhere else.
 */
#include "frontend/mtr_packet/session.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/record.h"
#include "frontend/mtr_packet/feature.h"
#include "frontend/mtr_packet/reply.h"
#include "frontend/process/clock.h"
#include "frontend/transport/local_route.h"

enum {
	/* No request is taken while more than this waits for a client that does not read. */
	OUTPUT_STOP_BYTES = 256 << 10,
	/* Then a reply for each open probe fits, and one for the line at hand. */
	OUTPUT_BYTES = OUTPUT_STOP_BYTES + (TRANSPORT_SLOTS + 1) * REPLY_BYTES,
	/* A probe is sent again after 2 ms, then 4, up to 64. */
	RETRY_FIRST_NS = 2 * NS_PER_MS,
	RETRY_DOUBLINGS = 5,
	/* With timeout 0, how long a probe may take to leave through the broker. */
	LEAVE_NS = 5 * NS_PER_MS,
};

/* --- replies --- */

static char *room(struct session *session)
{
	return output_room(&session->output, REPLY_BYTES);
}

static void add_reply(struct session *session, const struct token *token, const char *name)
{
	output_added(&session->output, write_reply(room(session), token, name));
}

static void add_status(struct session *session, const struct token *token, enum reply_status status)
{
	add_reply(session, token, reply_status_name(status));
}

static void add_number(struct session *session, const struct token *token, enum reply_status status,
		       const char *argument, uint32_t number)
{
	output_added(&session->output,
		     write_reply_number(room(session), token, reply_status_name(status), argument,
					number));
}

static void add_fault(struct session *session, const struct token *token, struct fault fault)
{
	output_added(&session->output, write_reply_fault(room(session), token, fault));
}

static void add_lost(struct session *session, const struct token *token,
		     const struct lost_way *lost)
{
	if (lost->error == EPERM || lost->error == EACCES)
		add_status(session, token, STATUS_PERMISSION_DENIED);
	else
		add_number(session, token, STATUS_UNEXPECTED_ERROR, "errno", (uint32_t)lost->error);
}

static void close_slot(struct session *session, struct slot *slot)
{
	deadlines_remove(session->deadlines, slots_number(slot));
	slots_release(session->slots, slot);
}

/* --- warnings --- */

static void warn_of_lost(struct session *session, struct lost_way *lost)
{
	if (lost->why[0] != '\0')
		session->calls->warn(lost->why);
	lost->why[0] = '\0';
}

/* Once for each name. The terminal gets none of the client's control characters. */
static void warn_of_unknown(struct session *session, struct text name)
{
	char shown[UNKNOWN_NAME_BYTES], warning[WARNING_BYTES];
	size_t length = name.length < sizeof(shown) ? name.length : sizeof(shown) - 1;

	for (size_t i = 0; i < length; i++)
		shown[i] = name.bytes[i] > ' ' && name.bytes[i] <= '~' ? name.bytes[i] : '?';
	shown[length] = '\0';
	for (uint32_t i = 0; i < session->unknown_count; i++)
		if (strcmp(session->unknown[i], shown) == 0)
			return;
	if (session->unknown_count == UNKNOWN_NAMES_MAX)
		return;
	strcpy(session->unknown[session->unknown_count++], shown);
	snprintf(warning, sizeof(warning), "unknown argument is ignored: %s", shown);
	session->calls->warn(warning);
}

/* --- probes --- */

/* Hands a probe to the transport, the first time or again. */
static void send_slot(struct session *session, struct slot *slot)
{
	slot->state = SLOT_SENT;
	deadlines_set(session->deadlines, slots_number(slot), slot->deadline_ns);
	session->calls->probe(session->transport, &slot->probe);
}

static void send_later(struct session *session, struct slot *slot)
{
	int64_t retry_ns = session->now_ns + ((int64_t)RETRY_FIRST_NS << slot->retries);

	if (slot->retries < RETRY_DOUBLINGS)
		slot->retries++;
	slot->state = SLOT_WAITING;
	deadlines_set(session->deadlines, slots_number(slot),
		      retry_ns < slot->deadline_ns ? retry_ns : slot->deadline_ns);
}

static struct fault fault_of_errno(int error)
{
	switch (error) {
	case EMSGSIZE:
		return (struct fault){"size", "out-of-range"};
	case ENODEV:
		return (struct fault){"local-device", "unknown"};
	case EXDEV:
		return (struct fault){"source", "with-device"};
	default:
		return (struct fault){"probe", "refused"};
	}
}

static void add_failure(struct session *session, const struct slot *slot, int error)
{
	struct local_route route = {.mtu_bytes = 0};
	enum reply_status status = reply_status_of_errno(&slot->probe, error, session->compat);

	switch (status) {
	case STATUS_UNEXPECTED_ERROR:
		add_number(session, &slot->token, status, "errno", (uint32_t)error);
		break;
	case STATUS_PACKET_TOO_BIG:
		if (local_route(&slot->probe, &route) != 0)
			route.mtu_bytes = 0;
		add_number(session, &slot->token, status, "mtu", route.mtu_bytes);
		break;
	case STATUS_INVALID_ARGUMENT:
		add_fault(session, &slot->token, fault_of_errno(error));
		break;
	default:
		add_status(session, &slot->token, status);
		break;
	}
}

static void on_failed(struct session *session, struct slot *slot, int error)
{
	struct local_route route;
	int reason = 0;

	if (transport_error_passes(error)) {
		send_later(session, slot);
		return;
	}
	/* From a raw socket these may mean a source address that is not local. The route lookup
	 * tells. */
	if (error == EINVAL || error == ENETUNREACH)
		reason = local_route(&slot->probe, &route);
	add_failure(session, slot, reason != 0 ? reason : error);
	close_slot(session, slot);
}

static void on_answer(struct session *session, struct slot *slot, const struct probe_result *result)
{
	/* Each time a link that is narrower still may follow. A path has few of them. */
	if (slot->retries < RETRY_DOUBLINGS && needs_fragments(&slot->probe, result)) {
		send_later(session, slot);
		return;
	}
	const struct reply_answer answer = {
		.token = &slot->token,
		.status = reply_status_of_answer(&slot->probe, result, session->compat),
		.family = slot->probe.family,
		.details = slot->details,
		.result = result,
	};
	output_added(&session->output, write_reply_answer(room(session), &answer));
	close_slot(session, slot);
}

/* --- requests --- */

/* The scope of an address may be an interface's name or index (RFC 4007 11.2). */
static uint32_t scope_index(struct text scope)
{
	uint64_t number = 0;

	for (size_t i = 0; i < scope.length; i++) {
		if (scope.bytes[i] < '0' || scope.bytes[i] > '9')
			return interface_index(scope.bytes, scope.length);
		number = number * 10 + (uint64_t)(scope.bytes[i] - '0');
		if (number > INT32_MAX)
			return 0;
	}
	return (uint32_t)number;
}

/* local-device and the destination's scope both name the interface to send through. */
static struct fault resolve_interfaces(struct request *request)
{
	uint32_t device = 0, scope = 0;

	if (request->device.length > 0) {
		device = interface_index(request->device.bytes, request->device.length);
		if (device == 0)
			return (struct fault){"local-device", "unknown"};
	}
	if (request->scope.length > 0) {
		scope = scope_index(request->scope);
		if (scope == 0)
			return (struct fault){"ip-6", "unknown-interface"};
	}
	if (device != 0 && scope != 0 && device != scope)
		return (struct fault){"local-device", "of-other-interface"};
	request->probe.ifindex = device != 0 ? device : scope;
	return (struct fault){NULL, NULL};
}

static void open_probe(struct session *session, struct request *request)
{
	struct slot *slot = slots_take(session->slots);

	request->probe.cookie = slot->probe.cookie;
	slot->probe = request->probe;
	slot->deadline_ns =
		session->now_ns + (request->timeout_ns > 0 ? request->timeout_ns : LEAVE_NS);
	slot->token = request->token;
	slot->details = request->details;
	slot->retries = 0;
	send_slot(session, slot);
}

static struct lost_way *find_lost(struct session *session, uint32_t features)
{
	for (uint32_t i = 0; i < session->lost_count; i++)
		if (session->lost[i].features & features)
			return &session->lost[i];
	return NULL;
}

static void take_probe(struct session *session, struct request *request)
{
	struct lost_way *lost = find_lost(session, feature_of_probe(&request->probe));

	if (lost) {
		warn_of_lost(session, lost);
		add_lost(session, &request->token, lost);
		return;
	}
	struct fault fault = check_features(&request->probe, session->features);
	if (!fault.what)
		fault = resolve_interfaces(request);
	if (fault.what)
		add_fault(session, &request->token, fault);
	else if ((request->probe.flags & REQUEST_MARK) && !(session->features & FEATURE_MARK))
		add_status(session, &request->token, STATUS_PERMISSION_DENIED);
	else
		open_probe(session, request);
}

static void take_check_support(struct session *session, const struct request *request)
{
	uint32_t needed = features_of_name(request->feature);
	const char *answer = session->features & needed ? "ok" : "no";
	struct lost_way *lost = find_lost(session, needed);

	if (text_equals(request->feature, TEXT("version")))
		answer = session->compat == COMPAT_0_96 ? "0.96-postern-" POSTERN_VERSION
							: "0.95-postern-" POSTERN_VERSION;
	/* mtr ends its session on "no". */
	if (lost && !(session->features & needed))
		warn_of_lost(session, lost);
	output_added(&session->output, write_reply_support(room(session), &request->token, answer));
}

/* For a line without a token. */
static const struct token no_token = {1, "0"};

/* --- what the loop calls --- */

bool session_accepts(const struct session *session)
{
	return session->ready && output_pending(&session->output) < OUTPUT_STOP_BYTES &&
	       slots_used(session->slots) < TRANSPORT_SLOTS;
}

void session_line(struct session *session, struct text line)
{
	struct request request;
	enum request_kind kind = request_parse(line, &request);

	for (size_t i = 0; i < request.unknown_count; i++)
		warn_of_unknown(session, request.unknown[i]);
	switch (kind) {
	case REQUEST_PARSE_ERROR:
		add_reply(session, &no_token, "command-parse-error");
		break;
	case REQUEST_UNKNOWN_COMMAND:
		add_reply(session, &request.token, "unknown-command");
		break;
	case REQUEST_INVALID:
		add_fault(session, &request.token, request.fault);
		break;
	case REQUEST_CHECK_SUPPORT:
		take_check_support(session, &request);
		break;
	case REQUEST_SEND_PROBE:
		take_probe(session, &request);
		break;
	}
}

void session_line_too_long(struct session *session)
{
	add_reply(session, &no_token, "command-buffer-overflow");
}

void session_expire(struct session *session)
{
	int32_t number;

	while ((number = deadlines_take_due(session->deadlines, session->now_ns)) !=
	       DEADLINE_NONE) {
		struct slot *slot = slots_at(session->slots, (uint32_t)number);
		if (slot->deadline_ns > session->now_ns) {
			send_slot(session, slot);
			continue;
		}
		if (slot->state == SLOT_SENT)
			session->calls->cancel(session->transport, slot->probe.cookie);
		add_status(session, &slot->token, STATUS_NO_REPLY);
		close_slot(session, slot);
	}
}

int64_t session_next_ns(const struct session *session)
{
	return deadlines_earliest_ns(session->deadlines);
}

uint32_t session_open_probes(const struct session *session)
{
	return slots_used(session->slots);
}

/* --- what the transport calls --- */

void session_ready(void *context, uint32_t features)
{
	struct session *session = context;

	session->features = features;
	session->ready = true;
}

void session_result(void *context, const struct probe_result *result)
{
	struct session *session = context;
	struct slot *slot = slots_find(session->slots, result->cookie);

	if (!slot || slot->state != SLOT_SENT)
		return;
	switch (result->kind) {
	case RESULT_REPLY:
	case RESULT_ICMP:
		on_answer(session, slot, result);
		break;
	case RESULT_FAILED:
		on_failed(session, slot, result->error);
		break;
	case RESULT_LOST:
		add_status(session, &slot->token, STATUS_NO_REPLY);
		close_slot(session, slot);
		break;
	}
}

void session_down(void *context, uint32_t lost_features, int error, const char *why)
{
	struct session *session = context;
	bool worked = (session->features & lost_features) != 0;

	if (session->lost_count == LOST_WAYS_MAX)
		return;
	struct lost_way *lost = &session->lost[session->lost_count++];
	lost->features = lost_features;
	lost->error = error;
	advice_write(lost->why, why);
	session->features &= ~lost_features;
	/* A way that never worked matters only to a client that asks for it. */
	if (worked)
		warn_of_lost(session, lost);

	for (struct slot *slot = slots_next(session->slots, NULL); slot;
	     slot = slots_next(session->slots, slot)) {
		if (!(feature_of_probe(&slot->probe) & lost_features))
			continue;
		add_lost(session, &slot->token, lost);
		close_slot(session, slot);
	}
}

/* --- opening and closing --- */

bool session_open(struct session *session, const struct session_calls *calls, enum compat compat)
{
	*session = (struct session){.calls = calls, .compat = compat};
	session->slots = slots_open();
	session->deadlines = deadlines_open(TRANSPORT_SLOTS);
	if (session->slots && session->deadlines && output_open(&session->output, OUTPUT_BYTES))
		return true;
	session_close(session);
	return false;
}

void session_close(struct session *session)
{
	slots_close(session->slots);
	deadlines_close(session->deadlines);
	output_close(&session->output);
}
