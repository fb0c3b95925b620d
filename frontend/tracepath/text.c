/*
 * A trace as iputils' tracepath prints it, to the character, so that programs which read its lines
 * can read these; on a terminal with colours. Pure functions, in tracepath.
 */
#include <arpa/inet.h>
#include <netinet/ip_icmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/process/clock.h"
#include "frontend/tracepath/view.h"

enum {
	PRINT_BYTES = 1024,
	HOST_COLUMN = 52,
	US_PER_MS = NS_PER_MS / NS_PER_US,
};

void view_print(struct trace_page *page, const char *format, ...)
{
	char *room = output_room(page->output, PRINT_BYTES);
	va_list arguments;
	int length;

	va_start(arguments, format);
	length = vsnprintf(room, PRINT_BYTES, format, arguments);
	va_end(arguments);
	if (length < 0)
		abort();
	output_added(page->output, length < PRINT_BYTES ? (size_t)length : PRINT_BYTES - 1);
}

const char *view_address(const struct trace_page *page, uint8_t family, const uint8_t address[16],
			 uint32_t scope, char text[VIEW_ADDRESS_BYTES])
{
	size_t length;

	text[0] = '\0';
	inet_ntop(family == 4 ? AF_INET : AF_INET6, address, text, VIEW_ADDRESS_BYTES);
	length = strlen(text);
	if (scope != 0 && scope == page->scope && page->device[0] != '\0')
		snprintf(text + length, VIEW_ADDRESS_BYTES - length, "%%%s", page->device);
	else if (scope != 0)
		snprintf(text + length, VIEW_ADDRESS_BYTES - length, "%%%u", scope);
	return text;
}

static void print_column(struct trace_page *page, const char *text)
{
	int length = (int)strlen(text);
	int blanks = length < HOST_COLUMN ? HOST_COLUMN - length : 1;

	view_print(page, "%s%*s", text, blanks, "");
}

static void print_host(struct trace_page *page, const uint8_t address[16], uint32_t scope,
		       const char *name)
{
	char text[VIEW_ADDRESS_BYTES];
	char both[PRINT_BYTES / 2];

	view_address(page, page->family, address, scope, text);
	if (page->both) {
		snprintf(both, sizeof both, "%s (%s)", name ? name : text, text);
		print_column(page, both);
	} else {
		print_column(page, name ? name : text);
	}
}

void text_time(struct trace_page *page, int64_t time_ns)
{
	long long us = time_ns / NS_PER_US;

	view_print(page, "%3lld.%03lldms ", us / US_PER_MS, us % US_PER_MS);
}

/* iputils prints what Linux makes of an ICMP error. For IPv4 it has no errno for prohibited: the
 * codes 9, 10 and 13 are a network or host that cannot be reached (RFC 1812, 5.2.7.1). */
static const char *mark(const struct trace_page *page, const struct trace_hop *hop)
{
	switch (hop->refusal) {
	case TRACE_REFUSED_NETWORK:
		return "!N";
	case TRACE_REFUSED_PROTOCOL:
		return "!P";
	case TRACE_REFUSED_PROHIBITED:
		if (page->family == 6)
			return "!A";
		return hop->icmp_code == ICMP_NET_ANO ? "!N" : "!H";
	case TRACE_REFUSED_HOST:
	case TRACE_REFUSED_NOT:
		break;
	}
	return "!H";
}

void text_host(struct trace_page *page, const struct trace_hop *hop, const char *name)
{
	print_host(page, hop->address, hop->scope, name);
}

void text_colour(struct trace_page *page, enum colour which)
{
	if (page->colours)
		view_print(page, "%s", colour(which));
}

void text_painted(struct trace_page *page, enum colour which, const char *text)
{
	text_colour(page, which);
	view_print(page, "%s", text);
	text_colour(page, COLOUR_NONE);
}

void text_mark(struct trace_page *page, const struct trace_hop *hop)
{
	if (hop->outcome == TRACE_REACHED)
		text_painted(page, COLOUR_GREEN, "reached");
	else if (hop->outcome == TRACE_UNREACHABLE)
		text_painted(page, COLOUR_RED, mark(page, hop));
}

/* Each piece begins with a comma unless it is the first. */
static void print_interface(struct trace_page *page, const struct extension_interface *interface)
{
	static const char *const roles[] = {"INC", "SUB", "OUT", "NXT"};
	char text[VIEW_ADDRESS_BYTES];
	const char *comma = "";

	view_print(page, "%s:", roles[interface->role & 3]);
	if (interface->has_index) {
		view_print(page, "%u", interface->index);
		comma = ",";
	}
	if (interface->address_family != 0) {
		view_print(
			page, "%s%s", comma,
			view_address(page, interface->address_family, interface->address, 0, text));
		comma = ",";
	}
	if (interface->name[0] != '\0') {
		view_print(page, "%s\"%s\"", comma, interface->name);
		comma = ",";
	}
	if (interface->has_mtu)
		view_print(page, "%smtu=%u", comma, interface->mtu_bytes);
}

/* As traceroute -e does. */
static void print_extension(struct trace_page *page, const struct extension_info *info)
{
	view_print(page, "<");
	for (size_t i = 0; i < info->mpls_count; i++) {
		const struct extension_mpls *label = &info->mpls[i];

		view_print(page, "%sL=%u,E=%u,S=%u,T=%u", i ? "/" : "MPLS:", label->label,
			   label->traffic_class, label->bottom_of_stack, label->ttl);
	}
	for (size_t i = 0; i < info->interface_count; i++) {
		view_print(page, "%s", i + info->mpls_count > 0 ? ";" : "");
		print_interface(page, &info->interfaces[i]);
	}
	view_print(page, "> ");
}

static void print_ms(struct trace_page *page, int64_t time_ns)
{
	long long us = time_ns / NS_PER_US;

	view_print(page, "%lld.%03lld", us / US_PER_MS, us % US_PER_MS);
}

static void print_statistics(struct trace_page *page, const struct trace_hop *hop)
{
	int64_t least_ns = hop->rtt_ns[0];
	int64_t most_ns = hop->rtt_ns[0];
	int64_t sum_ns = 0;

	for (unsigned i = 0; i < hop->rtts; i++) {
		least_ns = hop->rtt_ns[i] < least_ns ? hop->rtt_ns[i] : least_ns;
		most_ns = hop->rtt_ns[i] > most_ns ? hop->rtt_ns[i] : most_ns;
		sum_ns += hop->rtt_ns[i];
	}
	view_print(page, "loss %u%% min/avg/max ", 100 * (hop->sent - hop->rtts) / hop->sent);
	print_ms(page, least_ns);
	view_print(page, "/");
	print_ms(page, sum_ns / hop->rtts);
	view_print(page, "/");
	print_ms(page, most_ns);
	view_print(page, " ms");
}

void text_details(struct trace_page *page, const struct trace_hop *hop)
{
	const struct extension_info *info = &hop->extension;
	bool told = page->extensions && hop->has_extension &&
		    info->mpls_count + info->interface_count > 0;
	bool counted = page->statistics && hop->rtts > 0 && hop->sent >= hop->rtts;

	/* A time has a blank behind it already. */
	if ((told || counted) && hop->outcome != TRACE_EXPIRED)
		view_print(page, " ");
	if (told)
		print_extension(page, info);
	if (counted)
		print_statistics(page, hop);
}

static void print_step(struct trace_page *page, const struct trace_step *step, const char *name)
{
	if (step->local) {
		view_print(page, "%2d?: %-32s ", step->ttl, "[LOCALHOST]");
		/* iputils has a time for IPv6 only. */
		if (page->family == 6)
			text_time(page, step->rtt_ns);
		view_print(page, "pmtu %u\n", step->mtu_bytes);
		return;
	}
	view_print(page, step->black_hole ? "%2d?: " : "%2d:  ", step->ttl);
	if (step->has_address)
		print_host(page, step->address, step->scope, name);
	else
		print_column(page, "[UNKNOWN]");
	if (!step->black_hole)
		text_time(page, step->rtt_ns);
	text_colour(page, COLOUR_YELLOW);
	view_print(page, "pmtu %u", step->mtu_bytes);
	if (step->black_hole && step->has_after_hop)
		view_print(page, " (black hole after hop %u)", step->after_hop);
	else if (step->black_hole)
		view_print(page, " (black hole before hop %u)", step->ttl);
	text_colour(page, COLOUR_NONE);
	view_print(page, "\n");
}

static void print_hop(struct trace_page *page, const struct trace_hop *hop, const char *name)
{
	if (hop->outcome == TRACE_UNKNOWN)
		return;
	if (hop->outcome == TRACE_SILENT) {
		view_print(page, "%2d:  ", hop->ttl);
		text_painted(page, COLOUR_DIM, "no reply");
		view_print(page, "\n");
		return;
	}
	if (hop->data) {
		view_print(page, "%2d?: reply received 8)\n", hop->ttl);
		return;
	}
	view_print(page, hop->ttl_uncertain ? "%2d?: " : "%2d:  ", hop->ttl);
	print_host(page, hop->address, hop->scope, name);
	text_time(page, hop->rtt_ns[0]);
	text_mark(page, hop);
	if (hop->outcome == TRACE_EXPIRED && hop->has_back && hop->back_hops != hop->ttl)
		view_print(page, "asymm %2u ", hop->back_hops);
	text_details(page, hop);
	view_print(page, "\n");
}

/* Without a single line nothing could be sent, and iputils prints a summary all the same. */
static bool is_cut_short(const struct trace_page *page, const struct trace_result *result)
{
	return result->stop == TRACE_STOP_DEADLINE || result->stop == TRACE_STOP_INTERRUPT ||
	       (result->stop == TRACE_STOP_ERROR && page->any_line);
}

void text_cut_short(struct trace_page *page, enum trace_stop stop, int error)
{
	view_print(page, "     Cut short: %s\n",
		   stop == TRACE_STOP_DEADLINE    ? "deadline"
		   : stop == TRACE_STOP_INTERRUPT ? "interrupted"
		   : stop == TRACE_STOP_PROBES    ? "too many probes"
						  : strerror(error));
}

static void print_end(struct trace_page *page, const struct trace_result *result)
{
	if (is_cut_short(page, result)) {
		text_cut_short(page, result->stop, result->error);
		return;
	}
	if (result->stop == TRACE_STOP_BLACKHOLE)
		view_print(page, "     Path MTU not found\n");
	if (result->stop == TRACE_STOP_MAX_HOPS && result->mtu_bytes != 0)
		view_print(page, "     Too many hops: pmtu %u\n", result->mtu_bytes);
	else if (result->stop == TRACE_STOP_MAX_HOPS)
		view_print(page, "     Too many hops\n");
	if (result->stop == TRACE_STOP_ERROR)
		view_print(page, "%2d:  send failed\n", page->next_ttl);
	view_print(page, "     Resume: ");
	if (result->mtu_bytes != 0 && result->stop != TRACE_STOP_BLACKHOLE)
		view_print(page, "pmtu %u ", result->mtu_bytes);
	if (result->has_hops)
		view_print(page, "hops %u ", result->hops);
	if (result->has_back)
		view_print(page, "back %u ", result->back_hops);
	view_print(page, "\n");
}

static void erase_progress(struct trace_page *page)
{
	if (page->progress)
		view_print(page, "\r\033[K");
	page->progress = false;
}

void view_progress(struct trace_page *page, uint32_t bytes)
{
	erase_progress(page);
	view_print(page, "%2d?: large packets get no answer: trying %u", page->next_ttl, bytes);
	page->progress = true;
}

static void text_begin(struct trace_page *page)
{
	(void)page;
}

static void text_fact(struct trace_page *page, const struct trace_fact *fact, const char *name)
{
	erase_progress(page);
	switch (fact->kind) {
	case TRACE_FACT_MTU:
		print_step(page, fact->step, name);
		page->any_line = true;
		break;
	case TRACE_FACT_HOP:
		print_hop(page, fact->hop, name);
		page->any_line = true;
		page->next_ttl = (uint8_t)(fact->hop->ttl + 1);
		break;
	case TRACE_FACT_END:
		print_end(page, fact->result);
		break;
	case TRACE_FACT_PATHS:
	case TRACE_FACT_PATHS_END:
		break;
	}
}

const struct trace_view trace_text_view = {text_begin, text_fact};
