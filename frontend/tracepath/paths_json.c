/*
 * The paths that were found as JSON: nodes and links with the flows that were seen there. Pure
 * functions, in tracepath; tracepath(8) and tracepath.schema.json describe the format.
 */
#include "frontend/tracepath/paths.h"
#include "frontend/tracepath/view.h"

static const char *const balancing_names[] = {
	[PATHS_BALANCED_NOT] = "\"none\"",
	[PATHS_BALANCED_BY_FLOW] = "\"flow\"",
	[PATHS_BALANCED_BY_PACKET] = "\"packet\"",
	[PATHS_BALANCED_SOMEHOW] = "null",
};

/* The flows that were seen at node `to`, and, unless that is the only one before, at `from`. */
static void print_flows(struct trace_page *page, const struct paths_hop *hop, unsigned from,
			unsigned to)
{
	bool any_from = hop->before == NULL || hop->before->nodes == 1 || from == PATHS_UNSEEN;
	unsigned shown = 0;

	view_print(page, "\"flows\":[");
	for (unsigned flow = 0; flow < PATHS_FLOWS; flow++)
		if (hop->at[flow] == to && (any_from || hop->before->at[flow] == from))
			view_print(page, "%s%u", shown++ ? "," : "", page->first_flow + flow);
	view_print(page, "]");
}

static void print_nodes(struct trace_page *page, const struct paths_hop *hop)
{
	view_print(page, ",\"nodes\":[");
	for (unsigned i = 0; i < hop->nodes; i++) {
		view_print(page, "%s{\"id\":%u,", i ? "," : "", hop->node[i].id);
		json_hop(page, &hop->node[i].hop, hop->node[i].name);
		view_print(page, ",");
		print_flows(page, hop, PATHS_UNSEEN, i);
		view_print(page, "}");
	}
	view_print(page, "]");
}

static void print_link(struct trace_page *page, const struct paths_hop *hop, unsigned from,
		       unsigned to, unsigned number)
{
	view_print(page, "%s{\"from\":%u,\"to\":%u,", number ? "," : "",
		   hop->before != NULL ? hop->before->node[from].id : 0, hop->node[to].id);
	print_flows(page, hop, from, to);
	view_print(page, "}");
}

/* The first hop is linked to this host, which has number 0. */
static void print_links(struct trace_page *page, const struct paths_hop *hop)
{
	unsigned sources = hop->before != NULL ? hop->before->nodes : 1;
	unsigned number = 0;

	view_print(page, ",\"links\":[");
	for (unsigned from = 0; from < sources; from++)
		for (unsigned to = 0; to < hop->nodes; to++)
			if (hop->before == NULL || paths_linked(hop, from, to))
				print_link(page, hop, from, to, number++);
	view_print(page, "]");
}

/* In thousandths, and not more than it is. */
static double shown(double confidence)
{
	return (double)(unsigned)(1000 * confidence) / 1000;
}

static void print_hop(struct trace_page *page, const struct paths_hop *hop)
{
	view_print(page, "\"ttl\":%u,\"balancing\":%s,\"confidence\":%.3f", hop->ttl,
		   balancing_names[hop->balancing], shown(hop->confidence));
	print_nodes(page, hop);
	if (paths_links_known(hop))
		print_links(page, hop);
	else
		view_print(page, ",\"links\":null");
}

static void print_result(struct trace_page *page, const struct paths_result *result)
{
	view_print(page, "\"probes\":%u,\"flows\":%u,", result->probes, result->flows);
	/* After a cut the rest of the paths is not known. */
	if (result->stop < TRACE_STOP_DEADLINE)
		view_print(page, "\"confidence\":%.3f,", shown(result->confidence));
	else
		view_print(page, "\"confidence\":null,");
	json_stop(page, result->stop, result->error);
}

/* --- the document ----------------------------------------------------------------------------- */

static void json_begin(struct trace_page *page)
{
	view_print(page, "{");
	json_head(page);
	view_print(page, ",\"hops\":[");
}

static void json_fact(struct trace_page *page, const struct trace_fact *fact, const char *name)
{
	(void)name;
	if (fact->kind == TRACE_FACT_PATHS) {
		view_print(page, "%s\n{", page->any_hop ? "," : "");
		page->any_hop = true;
		print_hop(page, fact->paths);
		view_print(page, "}");
		return;
	}
	view_print(page, "\n],");
	print_result(page, fact->paths_result);
	view_print(page, "}\n");
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
	(void)name;
	if (fact->kind == TRACE_FACT_PATHS) {
		view_print(page, "{\"event\":\"hop\",");
		print_hop(page, fact->paths);
	} else {
		view_print(page, "{\"event\":\"end\",");
		print_result(page, fact->paths_result);
	}
	view_print(page, "}\n");
}

const struct trace_view paths_json_view = {json_begin, json_fact};
const struct trace_view paths_jsonl_view = {jsonl_begin, jsonl_fact};
