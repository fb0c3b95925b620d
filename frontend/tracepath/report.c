/*
 * Facts on their way to a view, waiting for names. Runs in tracepath's tracepath; how long a name
 * may take is bounded here, and a name server that answers nothing at all is waited for once.
 */
#include "frontend/tracepath/report.h"

#include "frontend/tracepath/paths.h"

/* From the moment the name was asked for. Those of all hops are asked for together, so this is what
 * names add to a whole trace at most. */
#define NAME_WAIT_NS INT64_C(1000000000)

static unsigned nodes_of(const struct trace_fact *fact)
{
	return fact->kind == TRACE_FACT_PATHS ? fact->paths->nodes : 1;
}

/* The address whose name the fact shows for a node; false: none. */
static bool address_of(const struct trace_fact *fact, unsigned node, const uint8_t **address,
		       uint32_t *scope)
{
	if (fact->kind == TRACE_FACT_PATHS && fact->paths->node[node].hop.outcome != TRACE_SILENT) {
		*address = fact->paths->node[node].hop.address;
		*scope = fact->paths->node[node].hop.scope;
		return true;
	}
	if (fact->kind == TRACE_FACT_HOP && fact->hop->outcome != TRACE_SILENT) {
		*address = fact->hop->address;
		*scope = fact->hop->scope;
		return true;
	}
	if (fact->kind == TRACE_FACT_MTU && fact->step->has_address) {
		*address = fact->step->address;
		*scope = fact->step->scope;
		return true;
	}
	return false;
}

static enum name_state name_of(struct trace_report *report, const struct trace_fact *fact,
			       unsigned node, int64_t now_ns, const char **name, int64_t *asked_ns)
{
	const uint8_t *address;
	uint32_t scope;

	*name = NULL;
	if (report->names == NULL || !address_of(fact, node, &address, &scope))
		return NAME_NONE;
	return names_get(report->names, report->page->family, address, scope, now_ns, name,
			 asked_ns);
}

void report_fact(struct trace_report *report, const struct trace_fact *fact, int64_t now_ns)
{
	const char *name;
	int64_t asked_ns;

	if (report->count == REPORT_FACTS)
		return;
	report->facts[report->count++] = *fact;
	for (unsigned node = 0; node < nodes_of(fact); node++)
		name_of(report, fact, node, now_ns, &name, &asked_ns);
}

/* The names of a fact, as far as they are known: *name of a single address, otherwise in the nodes.
 * Returns until when to wait for the others, 0: there are none or they were waited for. */
static int64_t find_names(struct trace_report *report, const struct trace_fact *fact,
			  int64_t now_ns, const char **name)
{
	for (unsigned node = 0; node < nodes_of(fact); node++) {
		int64_t asked_ns = 0;
		enum name_state state = name_of(report, fact, node, now_ns, name, &asked_ns);

		if (state == NAME_AWAITED && !report->given_up && now_ns < asked_ns + NAME_WAIT_NS)
			return asked_ns + NAME_WAIT_NS;
		if (state == NAME_AWAITED && !names_answered(report->names))
			report->given_up = true;
		if (state != NAME_KNOWN)
			*name = NULL;
		if (fact->kind == TRACE_FACT_PATHS)
			fact->paths->node[node].name = *name;
	}
	return 0;
}

int64_t report_show(struct trace_report *report, int64_t now_ns)
{
	while (report->first < report->count) {
		const struct trace_fact *fact = &report->facts[report->first];
		const char *name = NULL;
		int64_t until_ns = find_names(report, fact, now_ns, &name);

		if (until_ns != 0)
			return until_ns;
		report->first++;
		report->view->fact(report->page, fact, name);
	}
	return INT64_MAX;
}
