/*
 * One client's session: takes request lines, opens probes on the transport, and turns what becomes
 * of them into reply lines. Runs in the packet front end. Every line gets exactly one reply: a slot
 * is released where its reply is written, and nowhere else.
 */
#include "frontend/packet_session.h"

#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/extension.h"
#include "frontend/packet_reply.h"

enum {
	NS_PER_MS = 1000000,
	/* With this much waiting for a client that does not read, no more requests are taken. */
	OUTPUT_STOP_BYTES = 256 << 10,
	/* One reply for each open probe, and one for the line at hand. */
	OUTPUT_BYTES = OUTPUT_STOP_BYTES + (RECORD_SLOTS + 1) * REPLY_BYTES,
	/* A passing shortage is tried again after 2 ms, then 4, up to 64; and so is what a router
	 * wants in fragments. */
	RETRY_FIRST_MS = 2,
	RETRY_DOUBLINGS = 5,
	STALE_TRIES = 3,
	/* Deadlines of one call: what is due then is told before the rest is looked at. */
	EXPIRE_AT_ONCE = 1024,
};

/* --- replies -----------------------------------------------------------------------------------
 */

static char *line_room(struct session *session)
{
	return output_room(&session->output, REPLY_BYTES);
}

static void say_word(struct session *session, const struct token *token, const char *word)
{
	output_added(&session->output, reply_word(line_room(session), token, word));
}

static void say_fault(struct session *session, const struct token *token, struct fault fault)
{
	output_added(&session->output, reply_fault(line_room(session), token, &fault));
}

static void say_number(struct session *session, const struct token *token, const char *word,
		       const char *name, uint32_t number)
{
	output_added(&session->output, reply_number(line_room(session), token, word, name, number));
}

/* Requests without a usable token are answered with this one. */
static const struct token no_token = {1, "0"};

static void close_slot(struct session *session, struct slot *slot)
{
	deadlines_remove(session->deadlines, slots_number(slot));
	slots_release(session->slots, slot);
}

/* --- routes ------------------------------------------------------------------------------------
 */

static int ask_route(struct session *session, const struct record_probe *probe,
		     struct route_answer *answer)
{
	struct route_query query = {
		.family = probe->family,
		.tos = probe->tos,
		.has_mark = (probe->flags & PROBE_MARK) != 0,
		.mark = probe->mark,
		.ifindex = probe->ifindex,
	};

	if (!session->routes)
		return ENETUNREACH;
	memcpy(query.destination, probe->destination, sizeof(query.destination));
	memcpy(query.source, probe->source, sizeof(query.source));
	return route_lookup(session->routes, &query, answer);
}

static bool is_link_local(const struct record_probe *probe)
{
	return probe->family == 6 && probe->destination[0] == 0xfe &&
	       (probe->destination[1] & 0xc0) == 0x80;
}

/* The broker wants a source address with every probe, and the link of a link-local destination. */
static int route_slot(struct session *session, struct slot *slot)
{
	struct route_answer answer;
	int error = ask_route(session, &slot->probe, &answer);

	if (error)
		return error;
	slot->source_routed = memcmp(slot->probe.source, answer.source, sizeof(answer.source)) != 0;
	memcpy(slot->probe.source, answer.source, sizeof(slot->probe.source));
	slot->link_routed = is_link_local(&slot->probe) && slot->probe.ifindex == 0;
	if (slot->link_routed)
		slot->probe.ifindex = answer.ifindex;
	slot->routed = true;
	return 0;
}

/* The kernel has refused what it said a moment ago: an address or a route has changed since. Mtr
 * would end its session on the words for that, so the route is asked for once more, a few times. */
static bool forget_stale_route(struct session *session, struct slot *slot, int error)
{
	bool may_be_stale = error == EINVAL || error == EADDRNOTAVAIL || error == ENODEV ||
			    error == ENETUNREACH;

	if (!may_be_stale || !slot->routed || slot->tries >= STALE_TRIES)
		return false;
	if (slot->source_routed)
		memset(slot->probe.source, 0, sizeof(slot->probe.source));
	if (slot->link_routed)
		slot->probe.ifindex = 0;
	slot->routed = false;
	route_check_changes(session->routes);
	return true;
}

/* --- probes that could not be sent -------------------------------------------------------------
 */

/* The kernel says EINVAL for many things; the others it says of one argument. */
static struct fault refused_argument(int error)
{
	switch (error) {
	case EMSGSIZE:
		return (struct fault){"size", "out-of-range"};
	case ENODEV:
		return (struct fault){"local-device", "unknown"};
	default:
		return (struct fault){"probe", "refused"};
	}
}

static void answer_errno(struct session *session, struct slot *slot, int error)
{
	enum verdict verdict = verdict_of_errno(&slot->probe, error, session->compat);
	const char *word = verdict_word(verdict);
	struct route_answer route;

	switch (verdict) {
	case VERDICT_UNEXPECTED_ERROR:
		say_number(session, &slot->token, word, "errno", (uint32_t)error);
		break;
	case VERDICT_PACKET_TOO_BIG:
		/* The kernel has refused it without asking a router: the link is what is narrow. */
		if (ask_route(session, &slot->probe, &route) != 0)
			route.mtu_bytes = 0;
		say_number(session, &slot->token, word, "mtu", route.mtu_bytes);
		break;
	case VERDICT_INVALID_ARGUMENT:
		say_fault(session, &slot->token, refused_argument(error));
		break;
	default:
		say_word(session, &slot->token, word);
		break;
	}
	close_slot(session, slot);
}

static void wait_and_retry(struct session *session, struct slot *slot)
{
	int64_t retry_ns = session->now_ns + ((int64_t)RETRY_FIRST_MS * NS_PER_MS << slot->tries);

	if (slot->tries < RETRY_DOUBLINGS)
		slot->tries++;
	slot->state = SLOT_WAITING;
	deadlines_set(session->deadlines, slots_number(slot),
		      retry_ns < slot->deadline_ns ? retry_ns : slot->deadline_ns);
}

static void not_sent(struct session *session, struct slot *slot, int error)
{
	if (verdict_is_shortage(error) || forget_stale_route(session, slot, error))
		wait_and_retry(session, slot);
	else
		answer_errno(session, slot, error);
}

/* Hands a slot's probe to the transport, the first time or again. */
static void send_slot(struct session *session, struct slot *slot)
{
	int error = slot->routed ? 0 : route_slot(session, slot);

	if (error) {
		not_sent(session, slot, error);
		return;
	}
	slot->state = SLOT_SENT;
	deadlines_set(session->deadlines, slots_number(slot), slot->deadline_ns);
	transport_probe(session->transport, &slot->probe);
}

/* --- requests ----------------------------------------------------------------------------------
 */

static uint32_t protocol_feature(uint8_t protocol)
{
	switch (protocol) {
	case IPPROTO_UDP:
		return FEATURE_UDP;
	case IPPROTO_TCP:
		return FEATURE_TCP;
	case IPPROTO_SCTP:
		return FEATURE_SCTP;
	default:
		return FEATURE_ICMP;
	}
}

static const uint32_t all_protocols = FEATURE_ICMP | FEATURE_UDP | FEATURE_TCP | FEATURE_SCTP;

/* What this request needs and this machine lacks, as a verdict; VERDICT_REPLY if nothing. */
static struct fault check_features(const struct session *session, const struct request *request,
				   bool *permitted)
{
	const struct record_probe *probe = &request->probe;
	uint32_t features = session->hello.features;
	uint32_t family = probe->family == 4 ? features : features >> FEATURE_IPV6_SHIFT;

	*permitted = !((probe->flags & PROBE_MARK) && !(features & FEATURE_MARK)) &&
		     !(probe->source_port != 0 && !(features & FEATURE_LOCAL_PORT)) &&
		     !((request->device.length > 0) && !(features & FEATURE_DEVICE));
	if ((family & all_protocols) == 0)
		return (struct fault){"ip-version", "not-supported"};
	if ((family & protocol_feature(probe->protocol)) == 0)
		return (struct fault){"protocol", "not-supported"};
	return (struct fault){NULL, NULL};
}

/* The index of an interface by name, or by number where `numbers` are allowed; 0: there is none. */
static uint32_t find_interface(struct session *session, struct text name, bool numbers)
{
	char copy[IF_NAMESIZE];
	uint32_t ifindex = 0;

	if (name.length >= sizeof(copy) || memchr(name.bytes, '\0', name.length))
		return 0;
	memcpy(copy, name.bytes, name.length);
	copy[name.length] = '\0';
	if (session->routes && route_interface_index(session->routes, copy, &ifindex) == 0)
		return ifindex;
	if (!numbers || strspn(copy, "0123456789") != name.length)
		return 0;
	unsigned long number = strtoul(copy, NULL, 10);
	return number <= INT32_MAX ? (uint32_t)number : 0;
}

/* local-device and the destination's %interface name the same thing: the way out. */
static struct fault resolve_interfaces(struct session *session, struct request *request)
{
	uint32_t device = 0, scope = 0;

	if (request->device.length > 0) {
		device = find_interface(session, request->device, false);
		if (device == 0)
			return (struct fault){"local-device", "unknown"};
	}
	if (request->scope.length > 0) {
		scope = find_interface(session, request->scope, true);
		if (scope == 0)
			return (struct fault){"ip-6", "unknown-interface"};
	}
	if (device != 0 && scope != 0 && device != scope)
		return (struct fault){"local-device", "of-other-interface"};
	request->probe.ifindex = device != 0 ? device : scope;
	return (struct fault){NULL, NULL};
}

static void open_probe(struct session *session, const struct request *request)
{
	struct slot *slot = slots_take(session->slots);
	uint32_t cookie = slot->probe.cookie;

	slot->probe = request->probe;
	slot->probe.cookie = cookie;
	slot->deadline_ns = session->now_ns + request->timeout_ns;
	slot->token = request->token;
	slot->details = request->details;
	slot->routed = false;
	slot->tries = 0;
	send_slot(session, slot);
}

static void say_down(struct session *session, const struct token *token)
{
	if (session->down_error == EPERM || session->down_error == EACCES)
		say_word(session, token, verdict_word(VERDICT_PERMISSION_DENIED));
	else
		say_number(session, token, verdict_word(VERDICT_UNEXPECTED_ERROR), "errno",
			   (uint32_t)session->down_error);
}

static void take_probe(struct session *session, struct request *request)
{
	bool permitted;

	if (session->down_error) {
		say_down(session, &request->token);
		return;
	}
	struct fault fault = check_features(session, request, &permitted);
	if (!fault.what && permitted)
		fault = resolve_interfaces(session, request);
	if (fault.what)
		say_fault(session, &request->token, fault);
	else if (!permitted)
		say_word(session, &request->token, verdict_word(VERDICT_PERMISSION_DENIED));
	else
		open_probe(session, request);
}

/* --- check-support -----------------------------------------------------------------------------
 */

struct feature {
	const char *name;
	uint32_t any_of; /* works if one of these does */
};

#define EITHER_FAMILY(bit) ((bit) | (uint32_t)(bit) << FEATURE_IPV6_SHIFT)
#define PROTOCOLS          (FEATURE_ICMP | FEATURE_UDP | FEATURE_TCP | FEATURE_SCTP)

static const struct feature features[] = {
	{"send-probe", EITHER_FAMILY(PROTOCOLS)},
	{"ip-4", PROTOCOLS},
	{"ip-6", PROTOCOLS << FEATURE_IPV6_SHIFT},
	{"icmp", EITHER_FAMILY(FEATURE_ICMP)},
	{"udp", EITHER_FAMILY(FEATURE_UDP)},
	{"tcp", EITHER_FAMILY(FEATURE_TCP)},
	{"sctp", EITHER_FAMILY(FEATURE_SCTP)},
	{"mark", FEATURE_MARK},
	{"local-device", FEATURE_DEVICE},
	{"details", EITHER_FAMILY(PROTOCOLS)},
	{"dont-fragment", EITHER_FAMILY(PROTOCOLS)},
	{"flow", EITHER_FAMILY(PROTOCOLS)},
};

/* Sockets of a family can be had though the family is switched off: whether IPv6 works here shows
 * in a route to this host, or to any other. */
static bool has_ipv6(struct session *session)
{
	static const uint8_t here[16] = {[15] = 1};
	static const uint8_t elsewhere[16] = {0x20, 0x01, 0x0d, 0xb8, [15] = 1};
	struct record_probe probe = {.family = 6};
	struct route_answer answer;

	if (!session->routes)
		return true;
	memcpy(probe.destination, here, sizeof(here));
	if (ask_route(session, &probe, &answer) == 0)
		return true;
	memcpy(probe.destination, elsewhere, sizeof(elsewhere));
	return ask_route(session, &probe, &answer) == 0;
}

static bool is_supported(struct session *session, struct text name)
{
	for (size_t i = 0; i < sizeof(features) / sizeof(features[0]); i++) {
		if (strlen(features[i].name) != name.length ||
		    memcmp(features[i].name, name.bytes, name.length) != 0)
			continue;
		return (session->hello.features & features[i].any_of) != 0 &&
		       (strcmp(features[i].name, "ip-6") != 0 || has_ipv6(session));
	}
	return false;
}

static void take_check_support(struct session *session, const struct request *request)
{
	static const char version[] = "version";
	const char *answer = is_supported(session, request->feature) ? "ok" : "no";

	if (request->feature.length == sizeof(version) - 1 &&
	    memcmp(request->feature.bytes, version, sizeof(version) - 1) == 0)
		answer = session->compat == COMPAT_0_96 ? "0.96-postern-" POSTERN_VERSION
							: "0.95-postern-" POSTERN_VERSION;
	output_added(&session->output, reply_support(line_room(session), &request->token, answer));
}

/* --- what the loop calls -----------------------------------------------------------------------
 */

bool session_accepts(const struct session *session)
{
	return session->ready && output_pending(&session->output) < OUTPUT_STOP_BYTES &&
	       slots_used(session->slots) < session->hello.slots;
}

void session_line(struct session *session, struct text line)
{
	struct request request;

	switch (request_parse(line, &request)) {
	case REQUEST_PARSE_ERROR:
		say_word(session, &no_token, "command-parse-error");
		break;
	case REQUEST_UNKNOWN_COMMAND:
		say_word(session, &request.token, "unknown-command");
		break;
	case REQUEST_INVALID:
		say_fault(session, &request.token, request.fault);
		break;
	case REQUEST_CHECK_SUPPORT:
		take_check_support(session, &request);
		break;
	case REQUEST_PROBE:
		take_probe(session, &request);
		break;
	}
}

void session_line_too_long(struct session *session)
{
	say_word(session, &no_token, "command-buffer-overflow");
}

void session_foresee(struct session *session, struct text line)
{
	struct request request;
	struct route_answer route;

	if (request_parse(line, &request) != REQUEST_PROBE)
		return;
	if (!resolve_interfaces(session, &request).what)
		(void)ask_route(session, &request.probe, &route);
}

void session_expire(struct session *session)
{
	for (int i = 0; i < EXPIRE_AT_ONCE; i++) {
		int32_t number = deadlines_take_due(session->deadlines, session->now_ns);
		if (number == DEADLINE_NONE)
			return;
		struct slot *slot = slots_at(session->slots, (uint32_t)number);
		if (slot->deadline_ns > session->now_ns) {
			send_slot(session, slot);
			continue;
		}
		if (slot->state == SLOT_SENT)
			transport_cancel(session->transport, slot->probe.cookie);
		say_word(session, &slot->token, verdict_word(VERDICT_NO_REPLY));
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

/* --- what the transport calls ------------------------------------------------------------------
 */

void session_hello(void *context, const struct record_hello *hello)
{
	struct session *session = context;

	if (session->ready)
		return;
	session->hello = *hello;
	if (session->hello.slots > RECORD_SLOTS)
		session->hello.slots = RECORD_SLOTS;
	session->ready = true;
}

static void answer_event(struct session *session, struct slot *slot,
			 const struct record_event *event, const uint8_t *bytes)
{
	struct extension_info extension;
	struct reply_answer answer = {
		.token = &slot->token,
		.verdict = verdict_of_answer(&slot->probe, event, session->compat),
		.family = slot->probe.family,
		.details = slot->details,
		.event = event,
	};

	if (bytes && extension_decode(bytes, event->extension_bytes,
				      (event->known & EVENT_EXTENSION_CUT) != 0, &extension))
		answer.extension = &extension;
	output_added(&session->output, reply_answer(line_room(session), &answer));
	close_slot(session, slot);
}

void session_event(void *context, const struct record_event *event, const uint8_t *extension)
{
	struct session *session = context;
	struct slot *slot = slots_find(session->slots, event->cookie);

	if (!slot || slot->state != SLOT_SENT)
		return;
	switch (event->what) {
	case EVENT_REPLY:
	case EVENT_ICMP:
		/* A path has few narrower links one behind the other; more is no path. */
		if (slot->tries < RETRY_DOUBLINGS &&
		    verdict_is_worth_fragments(&slot->probe, event))
			wait_and_retry(session, slot);
		else
			answer_event(session, slot, event, extension);
		break;
	case EVENT_FAILED:
		not_sent(session, slot, event->error);
		break;
	case EVENT_BUSY:
		wait_and_retry(session, slot);
		break;
	default:
		break;
	}
}

void session_down(void *context, int error)
{
	struct session *session = context;

	session->down_error = error != 0 ? error : EIO;
	session->ready = true;
	session->hello = (struct record_hello){.slots = RECORD_SLOTS};
	for (uint32_t number = 0; session_open_probes(session) > 0; number++) {
		struct slot *slot = slots_at(session->slots, number);
		if (slot->state == SLOT_FREE)
			continue;
		say_down(session, &slot->token);
		close_slot(session, slot);
	}
}

/* --- opening and closing -----------------------------------------------------------------------
 */

bool session_open(struct session *session, enum compat compat, struct route_table *routes)
{
	*session = (struct session){.compat = compat, .routes = routes};
	session->slots = slots_open();
	session->deadlines = deadlines_open(RECORD_SLOTS);
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
