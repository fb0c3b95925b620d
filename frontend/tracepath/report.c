/*
 * Facts on their way to a view, waiting for names. Runs in tracepath's tracepath; how long a name
 * may take is bounded here, and a name server that answers nothing at all is waited for once.
 */
#include "frontend/tracepath/report.h"

/* From the moment the name was asked for. Those of all hops are asked for together, so this is what
 * names add to a whole trace at most. */
#define NAME_WAIT_NS INT64_C(1000000000)

/* The address whose name the fact shows; false: none. */
static bool address_of(const struct trace_fact *fact, const uint8_t **address, uint32_t *scope)
{
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
			       int64_t now_ns, const char **name, int64_t *asked_ns)
{
	const uint8_t *address;
	uint32_t scope;

	if (report->names == NULL || !address_of(fact, &address, &scope))
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
	name_of(report, fact, now_ns, &name, &asked_ns);
}

int64_t report_show(struct trace_report *report, int64_t now_ns)
{
	while (report->first < report->count) {
		const struct trace_fact *fact = &report->facts[report->first];
		const char *name = NULL;
		int64_t asked_ns = 0;
		enum name_state state = name_of(report, fact, now_ns, &name, &asked_ns);

		if (state == NAME_AWAITED && !report->given_up && now_ns < asked_ns + NAME_WAIT_NS)
			return asked_ns + NAME_WAIT_NS;
		if (state == NAME_AWAITED && !names_answered(report->names))
			report->given_up = true;
		report->first++;
		report->view->fact(report->page, fact, state == NAME_KNOWN ? name : NULL);
	}
	return INT64_MAX;
}
