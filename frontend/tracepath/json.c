/*
 * A trace as one JSON document, or as one event a line while it runs. tracepath(8) and
 * tracepath.schema.json describe them. Pure functions, in tracepath.
 */
#include <stdio.h>
#include <string.h>

#include "frontend/process/clock.h"
#include "frontend/tracepath/view.h"

/* Raised when a field changes its meaning or goes. */
enum { FORMAT_VERSION = 1 };

static const char *const stop_names[] = {
	[TRACE_STOP_REACHED] = "reached",
	[TRACE_STOP_MAX_HOPS] = "max-hops",
	[TRACE_STOP_UNREACHABLE] = "unreachable",
	[TRACE_STOP_DEADLINE] = "deadline",
	[TRACE_STOP_INTERRUPT] = "deadline",
	[TRACE_STOP_BLACKHOLE] = "blackhole",
	[TRACE_STOP_ERROR] = "error",
	[TRACE_STOP_PROBES] = "probes",
};

static const char *const outcome_names[] = {
	[TRACE_UNKNOWN] = "unknown",         [TRACE_SILENT] = "silent",
	[TRACE_EXPIRED] = "router",          [TRACE_REACHED] = "reached",
	[TRACE_UNREACHABLE] = "unreachable",
};

static const char *const refusal_names[] = {
	[TRACE_REFUSED_NOT] = "other",
	[TRACE_REFUSED_HOST] = "host",
	[TRACE_REFUSED_NETWORK] = "network",
	[TRACE_REFUSED_PROTOCOL] = "protocol",
	[TRACE_REFUSED_PROHIBITED] = "prohibited",
};

static const char *const role_names[] = {
	[EXTENSION_INCOMING] = "incoming",
	[EXTENSION_SUB_IP] = "sub-ip",
	[EXTENSION_OUTGOING] = "outgoing",
	[EXTENSION_NEXT_HOP] = "next-hop",
};

/* --- strings (RFC 8259, 7) -------------------------------------------------------------------- */

static bool is_continuation(const char *byte)
{
	return ((unsigned char)*byte & 0xc0) == 0x80;
}

/* Bytes of the UTF-8 sequence at `text` (RFC 3629, 4), 0 if it is none. */
static unsigned utf8_length(const char *text)
{
	unsigned char first = (unsigned char)text[0];
	unsigned char second = (unsigned char)text[1];

	if (first < 0x80)
		return 1;
	if (first < 0xc2 || first > 0xf4 || !is_continuation(text + 1))
		return 0;
	if (first < 0xe0)
		return 2;
	if ((first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f) ||
	    (first == 0xf0 && second < 0x90) || (first == 0xf4 && second > 0x8f) ||
	    !is_continuation(text + 2))
		return 0;
	if (first < 0xf0)
		return 3;
	return is_continuation(text + 3) ? 4 : 0;
}

static void print_string(struct trace_page *page, const char *text)
{
	view_print(page, "\"");
	while (*text != '\0') {
		unsigned length = utf8_length(text);
		unsigned char byte = (unsigned char)*text;

		if (length == 0) {
			view_print(page, "\\ufffd");
			length = 1;
		} else if (byte < 0x20 || byte == 0x7f) {
			view_print(page, "\\u%04x", byte);
		} else if (byte == '"' || byte == '\\') {
			view_print(page, "\\%c", byte);
		} else {
			view_print(page, "%.*s", (int)length, text);
		}
		text += length;
	}
	view_print(page, "\"");
}

/* --- pieces ----------------------------------------------------------------------------------- */

static void print_host(struct trace_page *page, const uint8_t address[16], uint32_t scope,
		       const char *name)
{
	char text[VIEW_ADDRESS_BYTES];

	view_print(page, ",\"address\":\"%s\"",
		   view_address(page, page->family, address, scope, text));
	if (name != NULL) {
		view_print(page, ",\"name\":");
		print_string(page, name);
	}
}

static void print_step(struct trace_page *page, const struct trace_step *step, const char *name)
{
	view_print(page, "\"mtu\":%u,\"local\":%s,\"black_hole\":%s", step->mtu_bytes,
		   step->local ? "true" : "false", step->black_hole ? "true" : "false");
	if (step->black_hole && step->has_after_hop)
		view_print(page, ",\"after_hop\":%u", step->after_hop);
	if (step->has_address)
		print_host(page, step->address, step->scope, name);
	if (step->has_address && !step->black_hole)
		view_print(page, ",\"rtt_ms\":%.3f", (double)step->rtt_ns / NS_PER_MS);
}

static void print_mpls(struct trace_page *page, const struct extension_info *info)
{
	view_print(page, ",\"mpls\":[");
	for (size_t i = 0; i < info->mpls_count; i++) {
		const struct extension_mpls *label = &info->mpls[i];

		view_print(
			page,
			"%s{\"label\":%u,\"traffic_class\":%u,\"bottom_of_stack\":%s,\"ttl\":%u}",
			i ? "," : "", label->label, label->traffic_class,
			label->bottom_of_stack ? "true" : "false", label->ttl);
	}
	view_print(page, "]");
}

static void print_interface(struct trace_page *page, const struct extension_interface *interface)
{
	char text[VIEW_ADDRESS_BYTES];

	view_print(page, "{\"role\":\"%s\"", role_names[interface->role & 3]);
	if (interface->has_index)
		view_print(page, ",\"index\":%u", interface->index);
	if (interface->address_family != 0)
		view_print(
			page, ",\"address\":\"%s\"",
			view_address(page, interface->address_family, interface->address, 0, text));
	if (interface->name[0] != '\0') {
		view_print(page, ",\"name\":");
		print_string(page, interface->name);
	}
	if (interface->has_mtu)
		view_print(page, ",\"mtu\":%u", interface->mtu_bytes);
	view_print(page, "}");
}

static void print_extension(struct trace_page *page, const struct trace_hop *hop)
{
	const struct extension_info *info = &hop->extension;

	if (hop->has_extension && info->mpls_count > 0)
		print_mpls(page, info);
	if (!hop->has_extension || info->interface_count == 0)
		return;
	view_print(page, ",\"interfaces\":[");
	for (size_t i = 0; i < info->interface_count; i++) {
		view_print(page, "%s", i ? "," : "");
		print_interface(page, &info->interfaces[i]);
	}
	view_print(page, "]");
}

void json_hop(struct trace_page *page, const struct trace_hop *hop, const char *name)
{
	view_print(page, "\"ttl\":%u,\"outcome\":\"%s\"", hop->ttl, outcome_names[hop->outcome]);
	if (hop->outcome == TRACE_UNREACHABLE)
		view_print(page, ",\"refusal\":\"%s\"", refusal_names[hop->refusal]);
	if (hop->outcome >= TRACE_EXPIRED)
		print_host(page, hop->address, hop->scope, name);
	view_print(page, ",\"rtt_ms\":[");
	for (unsigned i = 0; i < hop->rtts; i++)
		view_print(page, "%s%.3f", i ? "," : "", (double)hop->rtt_ns[i] / NS_PER_MS);
	view_print(page, "]");
	if (hop->sent != 0)
		view_print(page, ",\"sent\":%u", hop->sent);
	if (hop->ttl_uncertain)
		view_print(page, ",\"ttl_uncertain\":true");
	if (hop->has_back)
		view_print(page, ",\"back\":%u", hop->back_hops);
	if (hop->has_back && !hop->ttl_uncertain)
		view_print(page, ",\"asymmetric\":%s",
			   hop->back_hops != hop->ttl ? "true" : "false");
	if (hop->icmp)
		view_print(page, ",\"icmp\":{\"type\":%u,\"code\":%u}", hop->icmp_type,
			   hop->icmp_code);
	print_extension(page, hop);
}

static void print_known(struct trace_page *page, const char *name, bool known, unsigned value)
{
	if (known)
		view_print(page, "\"%s\":%u,", name, value);
	else
		view_print(page, "\"%s\":null,", name);
}

void json_stop(struct trace_page *page, enum trace_stop stop, int error)
{
	view_print(page, "\"stop_reason\":\"%s\"", stop_names[stop]);
	if (stop == TRACE_STOP_ERROR) {
		view_print(page, ",\"error\":");
		print_string(page, page->error ? page->error : strerror(error));
	}
}

static void print_result(struct trace_page *page, const struct trace_result *result)
{
	print_known(page, "pmtu", result->has_mtu, result->mtu_bytes);
	print_known(page, "hop_count", result->has_hops, result->hops);
	print_known(page, "back", result->has_back, result->back_hops);
	json_stop(page, result->stop, result->error);
}

static void print_address(struct trace_page *page, const char *key, bool known,
			  const uint8_t address[16], uint32_t scope)
{
	char text[VIEW_ADDRESS_BYTES];

	if (known)
		view_print(page, ",\"%s\":\"%s\"", key,
			   view_address(page, page->family, address, scope, text));
	else
		view_print(page, ",\"%s\":null", key);
}

void json_head(struct trace_page *page)
{
	view_print(page, "\"version\":%d,\"destination\":", FORMAT_VERSION);
	print_string(page, page->destination);
	print_address(page, "address", page->family != 0, page->address, page->scope);
	print_address(page, "source", page->has_source, page->source, page->scope);
	if (page->family != 0)
		view_print(page, ",\"family\":%u", page->family);
	else
		view_print(page, ",\"family\":null");
	view_print(page, ",\"protocol\":\"%s\",\"transport\":\"%s\",\"started\":\"%s\"",
		   page->protocol, page->transport, page->started);
	if (page->paths)
		view_print(page, ",\"paths\":true");
}

/* --- the document ----------------------------------------------------------------------------- */

static void json_begin(struct trace_page *page)
{
	view_print(page, "{");
	json_head(page);
	view_print(page, ",\"hops\":[");
}

/* The steps that show at this hop, and those that were kept for hops that never came. */
static void print_kept_steps(struct trace_page *page, uint8_t ttl)
{
	unsigned first = 0;
	unsigned kept = 0;

	view_print(page, ",\"pmtu_events\":[");
	for (unsigned i = 0; i < page->steps; i++) {
		if (page->step[i]->ttl > ttl) {
			memmove(page->step_name[kept], page->step_name[i],
				sizeof page->step_name[i]);
			page->step[kept++] = page->step[i];
			continue;
		}
		view_print(page, "%s{", first++ ? "," : "");
		print_step(page, page->step[i],
			   page->step_name[i][0] != '\0' ? page->step_name[i] : NULL);
		view_print(page, "}");
	}
	page->steps = kept;
	view_print(page, "]");
}

static void keep_step(struct trace_page *page, const struct trace_step *step, const char *name)
{
	char *kept = page->step_name[page->steps];

	if (page->steps == TRACE_STEPS)
		return;
	snprintf(kept, sizeof page->step_name[0], "%s", name ? name : "");
	page->step[page->steps++] = step;
}

static void document_hop(struct trace_page *page, const struct trace_hop *hop, const char *name)
{
	view_print(page, "%s\n{", page->any_hop ? "," : "");
	page->any_hop = true;
	json_hop(page, hop, name);
	print_kept_steps(page, hop->ttl);
	view_print(page, "}");
}

/* The trace ended between a step and its hop: of that hop nothing else is known. */
static void json_rest(struct trace_page *page)
{
	while (page->steps > 0) {
		uint8_t ttl = page->step[0]->ttl;

		view_print(page, "%s\n{\"ttl\":%u,\"outcome\":\"unknown\",\"rtt_ms\":[]",
			   page->any_hop ? "," : "", ttl);
		page->any_hop = true;
		print_kept_steps(page, ttl);
		view_print(page, "}");
	}
}

static void json_fact(struct trace_page *page, const struct trace_fact *fact, const char *name)
{
	switch (fact->kind) {
	case TRACE_FACT_MTU:
		keep_step(page, fact->step, name);
		break;
	case TRACE_FACT_HOP:
		document_hop(page, fact->hop, name);
		break;
	case TRACE_FACT_END:
		json_rest(page);
		view_print(page, "\n],");
		print_result(page, fact->result);
		view_print(page, "}\n");
		break;
	case TRACE_FACT_PATHS:
	case TRACE_FACT_PATHS_END:
		break;
	}
}

/* --- lines ------------------------------------------------------------------------------------ */

static void jsonl_begin(struct trace_page *page)
{
	view_print(page, "{\"event\":\"start\",");
	json_head(page);
	view_print(page, "}\n");
}

static void jsonl_fact(struct trace_page *page, const struct trace_fact *fact, const char *name)
{
	switch (fact->kind) {
	case TRACE_FACT_MTU:
		view_print(page, "{\"event\":\"pmtu\",\"ttl\":%u,", fact->step->ttl);
		print_step(page, fact->step, name);
		break;
	case TRACE_FACT_HOP:
		view_print(page, "{\"event\":\"hop\",");
		json_hop(page, fact->hop, name);
		break;
	case TRACE_FACT_END:
		view_print(page, "{\"event\":\"end\",");
		print_result(page, fact->result);
		break;
	case TRACE_FACT_PATHS:
	case TRACE_FACT_PATHS_END:
		return;
	}
	view_print(page, "}\n");
}

const struct trace_view trace_json_view = {json_begin, json_fact};
const struct trace_view trace_jsonl_view = {jsonl_begin, jsonl_fact};
