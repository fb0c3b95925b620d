/*
 * The paths that were found as a small graph: a line for each node, those of one hop one below the
 * other, with the nodes before them from which they are reached. Pure functions, in tracepath.
 */
#include "frontend/tracepath/paths.h"
#include "frontend/tracepath/view.h"

enum { LETTERS = 26 };

/* a, b, …, z, aa, ab, …: PATHS_NODES need no more. */
static void print_label(struct trace_page *page, unsigned i)
{
	if (i >= LETTERS)
		view_print(page, "%c", 'a' + (int)(i / LETTERS) - 1);
	view_print(page, "%c", 'a' + (int)(i % LETTERS));
}

/* The nodes of one hop stand between / and \, so that a diamond looks like one. */
static void print_rail(struct trace_page *page, const struct paths_hop *hop, unsigned i)
{
	if (hop->nodes == 1) {
		view_print(page, "    ");
		return;
	}
	view_print(page, "%c ", i == 0 ? '/' : i + 1 == hop->nodes ? '\\' : '|');
	print_label(page, i);
	view_print(page, " ");
}

static void print_links(struct trace_page *page, const struct paths_hop *hop, unsigned to)
{
	const struct paths_hop *before = hop->before;
	unsigned shown = 0;

	if (before == NULL || before->nodes == 1)
		return;
	view_print(page, "%sfrom", hop->node[to].hop.outcome == TRACE_EXPIRED ? "" : " ");
	for (unsigned from = 0; from < before->nodes; from++) {
		unsigned last = from;

		if (!paths_linked(hop, from, to))
			continue;
		while (last + 1 < before->nodes && paths_linked(hop, last + 1, to))
			last++;
		view_print(page, " ");
		print_label(page, from);
		if (last > from + 1) {
			view_print(page, "-");
			print_label(page, last);
			from = last;
		}
		shown++;
	}
	if (shown == 0)
		view_print(page, " ?");
}

static void print_node(struct trace_page *page, const struct paths_hop *hop, unsigned i)
{
	const struct paths_node *node = &hop->node[i];

	view_print(page, "%2d:  ", hop->ttl);
	print_rail(page, hop, i);
	if (node->hop.outcome == TRACE_SILENT) {
		text_painted(page, COLOUR_DIM, "no reply");
	} else {
		text_host(page, &node->hop, node->name);
		text_time(page, node->hop.rtt_ns[0]);
		text_mark(page, &node->hop);
	}
	print_links(page, hop, i);
	text_details(page, &node->hop);
	view_print(page, "\n");
}

/* A percentage that is not more than it is. */
static unsigned percent(double confidence)
{
	return (unsigned)(100 * confidence);
}

static void print_hop(struct trace_page *page, const struct paths_hop *hop)
{
	static const char *const balancing[] = {
		[PATHS_BALANCED_BY_PACKET] = "balanced by packet",
		[PATHS_BALANCED_SOMEHOW] = "balanced by flow or packet",
	};

	for (unsigned i = 0; i < hop->nodes; i++)
		print_node(page, hop, i);
	if (hop->balancing >= PATHS_BALANCED_BY_PACKET)
		view_print(page, "%2d:  %s\n", hop->ttl, balancing[hop->balancing]);
	if (percent(hop->confidence) < PATHS_PERCENT)
		view_print(page, "%2d:  confidence %u%%\n", hop->ttl, percent(hop->confidence));
}

static void print_end(struct trace_page *page, const struct paths_result *result)
{
	bool cut = result->stop >= TRACE_STOP_DEADLINE;

	if (cut)
		text_cut_short(page, result->stop, result->error);
	else if (result->stop == TRACE_STOP_MAX_HOPS)
		view_print(page, "     Too many hops\n");
	view_print(page, "     Paths: probes %u flows %u", result->probes, result->flows);
	if (!cut)
		view_print(page, " confidence %u%%", percent(result->confidence));
	view_print(page, "\n");
}

static void begin(struct trace_page *page)
{
	(void)page;
}

static void fact(struct trace_page *page, const struct trace_fact *fact, const char *name)
{
	(void)name;
	if (fact->kind == TRACE_FACT_PATHS)
		print_hop(page, fact->paths);
	else
		print_end(page, fact->paths_result);
}

const struct trace_view paths_text_view = {begin, fact};
