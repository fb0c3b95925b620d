/*
 * tracepath's output formats on facts made by hand: iputils' lines to the character, and JSON that
 * stays valid with any bytes in names.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/tracepath/answer.h"
#include "frontend/tracepath/paths.h"
#include "frontend/tracepath/report.h"
#include "frontend/tracepath/view.h"

static struct output output;

static struct trace_page page(uint8_t family)
{
	cr_assert(output_open(&output, VIEW_BYTES));
	return (struct trace_page){.output = &output,
				   .destination = "target.example",
				   .family = family,
				   .address = {203, 0, 113, 1},
				   .protocol = "udp",
				   .transport = "direct",
				   .started = "2026-11-26T15:00:00Z",
				   .next_ttl = 1};
}

/* What was written since the last call. */
static const char *written(void)
{
	output_room(&output, 1)[0] = '\0';
	const char *text = output.bytes + output.start;

	output.start = output.end;
	return text;
}

static void expect_hop(struct trace_page *on, const struct trace_hop *hop, const char *name,
		       const char *text)
{
	struct trace_fact fact = {.kind = TRACE_FACT_HOP, .hop = hop};

	trace_text_view.fact(on, &fact, name);
	cr_assert_str_eq(written(), text);
}

static void expect_step(struct trace_page *on, const struct trace_step *step, const char *name,
			const char *text)
{
	struct trace_fact fact = {.kind = TRACE_FACT_MTU, .step = step};

	trace_text_view.fact(on, &fact, name);
	cr_assert_str_eq(written(), text);
}

static void expect_end(struct trace_page *on, const struct trace_result *result, const char *text)
{
	struct trace_fact fact = {.kind = TRACE_FACT_END, .result = result};

	trace_text_view.fact(on, &fact, NULL);
	cr_assert_str_eq(written(), text);
}

static const struct trace_hop router = {.ttl = 3,
					.outcome = TRACE_EXPIRED,
					.has_back = true,
					.back_hops = 3,
					.address = {198, 18, 2, 2},
					.rtts = 1,
					.rtt_ns = {58999}};

Test(trace_view, hops_as_iputils_prints_them)
{
	struct trace_page on = page(4);
	struct trace_hop hop = router;

	expect_hop(&on, &hop, NULL,
		   " 3:  198.18.2.2                                            0.058ms \n");
	hop.back_hops = 7;
	hop.rtt_ns[0] = INT64_C(3079260123);
	expect_hop(
		&on, &hop, "r.example",
		" 3:  r.example                                           3079.260ms asymm  7 \n");
	on.both = true;
	expect_hop(
		&on, &hop, "r.example",
		" 3:  r.example (198.18.2.2)                              3079.260ms asymm  7 \n");
	expect_hop(
		&on, &hop, NULL,
		" 3:  198.18.2.2 (198.18.2.2)                             3079.260ms asymm  7 \n");
	on.both = false;
	hop.outcome = TRACE_REACHED;
	expect_hop(&on, &hop, NULL,
		   " 3:  198.18.2.2                                          3079.260ms reached\n");
	expect_hop(&on, &hop,
		   "a-name-that-is-longer-than-the-column-that-it-has-to-stand-in.example",
		   " 3:  a-name-that-is-longer-than-the-column-that-it-has-to-stand-in.example "
		   "3079.260ms reached\n");
	hop.data = true;
	expect_hop(&on, &hop, NULL, " 3?: reply received 8)\n");
	hop = (struct trace_hop){.ttl = 12, .outcome = TRACE_SILENT};
	expect_hop(&on, &hop, NULL, "12:  no reply\n");
	hop.outcome = TRACE_UNKNOWN;
	expect_hop(&on, &hop, NULL, "");
	hop = router;
	hop.outcome = TRACE_REACHED;
	hop.ttl_uncertain = true;
	expect_hop(&on, &hop, NULL,
		   " 3?: 198.18.2.2                                            0.058ms reached\n");
	output_close(&output);
}

Test(trace_view, details_that_were_asked_for)
{
	static const char *const column = "198.18.2.2                                        ";
	struct trace_page on = page(4);
	struct trace_hop hop = router;
	char text[256];

	hop.has_extension = true;
	hop.extension.mpls_count = 2;
	hop.extension.mpls[0] = (struct extension_mpls){24001, 1, 0, 1};
	hop.extension.mpls[1] = (struct extension_mpls){16005, 0, 1, 255};
	snprintf(text, sizeof text, " 3:  %s    0.058ms \n", column);
	expect_hop(&on, &hop, NULL, text);
	on.extensions = true;
	snprintf(text, sizeof text,
		 " 3:  %s    0.058ms <MPLS:L=24001,E=1,S=0,T=1/L=16005,E=0,S=1,T=255> \n", column);
	expect_hop(&on, &hop, NULL, text);
	hop.extension.mpls_count = 0;
	hop.extension.interface_count = 2;
	hop.extension.interfaces[0] = (struct extension_interface){
		.role = EXTENSION_INCOMING, .has_index = true, .index = 3, .name = "eth0"};
	hop.extension.interfaces[1] = (struct extension_interface){.role = EXTENSION_NEXT_HOP,
								   .has_mtu = true,
								   .mtu_bytes = 1500,
								   .address_family = 4,
								   .address = {198, 18, 1, 9}};
	hop.outcome = TRACE_REACHED;
	snprintf(text, sizeof text,
		 " 3:  %s    0.058ms reached <INC:3,\"eth0\";NXT:198.18.1.9,mtu=1500> \n", column);
	expect_hop(&on, &hop, NULL, text);
	on.statistics = true;
	hop.has_extension = false;
	hop.sent = 4;
	hop.rtts = 3;
	hop.rtt_ns[1] = 2000000;
	hop.rtt_ns[2] = 1000;
	snprintf(text, sizeof text,
		 " 3:  %s    0.058ms reached loss 25%% min/avg/max 0.001/0.686/2.000 ms\n", column);
	expect_hop(&on, &hop, NULL, text);
	output_close(&output);
}

/* One node, then two of which the second does not answer, then one that both lead to. */
static void make_diamond(struct paths_hop hops[3])
{
	for (unsigned i = 0; i < 3; i++) {
		hops[i].ttl = (uint8_t)(i + 1);
		hops[i].before = i > 0 ? &hops[i - 1] : NULL;
		hops[i].confidence = 0.96875;
		hops[i].nodes = i == 1 ? 2 : 1;
		memset(hops[i].at, PATHS_UNSEEN, sizeof hops[i].at);
		for (unsigned flow = 0; flow < 4; flow++)
			hops[i].at[flow] = i == 1 ? flow % 2 : 0;
		for (unsigned node = 0; node < hops[i].nodes; node++) {
			hops[i].node[node].id = i + 1 + 10 * node;
			hops[i].node[node].hop = router;
			hops[i].node[node].hop.ttl = hops[i].ttl;
			hops[i].node[node].hop.has_back = false;
		}
	}
	hops[1].balancing = PATHS_BALANCED_BY_FLOW;
	hops[1].node[1].hop = (struct trace_hop){.ttl = 2, .outcome = TRACE_SILENT};
	hops[2].node[0].hop.outcome = TRACE_REACHED;
	hops[2].confidence = 0.4999;
}

static const struct paths_result paths_result = {
	.stop = TRACE_STOP_REACHED, .confidence = 0.4999, .probes = 20, .flows = 4};

static const char *show_paths(const struct trace_view *view, struct trace_page *on,
			      struct paths_hop hops[3])
{
	struct trace_fact fact = {.kind = TRACE_FACT_PATHS, .paths_result = &paths_result};

	view->begin(on);
	for (unsigned i = 0; i < 3; i++) {
		fact.paths = &hops[i];
		view->fact(on, &fact, NULL);
	}
	fact.kind = TRACE_FACT_PATHS_END;
	view->fact(on, &fact, NULL);
	return written();
}

Test(trace_view, paths_as_a_graph)
{
	static struct paths_hop hops[3];
	struct trace_page on = page(4);

	make_diamond(hops);
	cr_assert_str_eq(show_paths(&paths_text_view, &on, hops),
			 " 1:      198.18.2.2                                            0.058ms \n"
			 " 2:  / a 198.18.2.2                                            0.058ms \n"
			 " 2:  \\ b no reply\n"
			 " 3:      198.18.2.2                                            0.058ms "
			 "reached from a b\n"
			 " 3:  confidence 49%\n"
			 "     Paths: probes 20 flows 4 confidence 49%\n");
	hops[2].nodes = 2;
	hops[2].node[1] = hops[2].node[0];
	hops[1].balancing = PATHS_BALANCED_BY_PACKET;
	const char *text = show_paths(&paths_text_view, &on, hops);
	cr_assert(strstr(text, " 2:  balanced by packet\n"), "%s", text);
	cr_assert(strstr(text, "reached from ?\n"), "%s", text);
	output_close(&output);
}

Test(trace_view, many_nodes_are_shown_as_ranges)
{
	static struct paths_hop hops[3];
	struct trace_page on = page(4);

	make_diamond(hops);
	hops[1].nodes = 30;
	for (unsigned i = 0; i < 30; i++) {
		hops[1].node[i] = hops[1].node[0];
		hops[0].at[i] = hops[2].at[i] = 0;
		hops[1].at[i] = (uint8_t)i;
	}
	hops[2].at[2] = PATHS_UNSEEN; /* not known of node c */
	const char *text = show_paths(&paths_text_view, &on, hops);
	cr_assert(strstr(text, "\n 2:  \\ ad 198.18.2.2 "), "%s", text);
	cr_assert(strstr(text, "reached from a b d-ad\n"), "%s", text);
	output_close(&output);
}

Test(trace_view, paths_as_nodes_and_links)
{
	static struct paths_hop hops[3];
	struct trace_page on = page(4);

	make_diamond(hops);
	on.first_flow = 100;
	on.paths = true;
	const char *text = show_paths(&paths_jsonl_view, &on, hops);
	cr_assert(strstr(text,
			 "\"paths\":true}\n{\"event\":\"hop\",\"ttl\":1,\"balancing\":\"none\","
			 "\"confidence\":0.968,\"nodes\":[{\"id\":1,"),
		  "%s", text);
	cr_assert(strstr(text, "\"links\":[{\"from\":0,\"to\":1,\"flows\":[100,101,102,103]}]}\n"),
		  "%s", text);
	cr_assert(strstr(text, "{\"id\":12,\"ttl\":2,\"outcome\":\"silent\",\"rtt_ms\":[],"
			       "\"flows\":[101,103]}],"),
		  "%s", text);
	cr_assert(strstr(text, "\"links\":[{\"from\":2,\"to\":3,\"flows\":[100,102]},"
			       "{\"from\":12,\"to\":3,\"flows\":[101,103]}]}\n"),
		  "%s", text);
	cr_assert(strstr(text, "{\"event\":\"end\",\"probes\":20,\"flows\":4,\"confidence\":0.499,"
			       "\"stop_reason\":\"reached\"}\n"),
		  "%s", text);
	output_close(&output);
}

Test(trace_view, refusals_as_linux_reports_them)
{
	static const struct {
		uint8_t family;
		enum trace_refusal refusal;
		uint8_t code;
		const char *mark;
	} cases[] = {
		{4, TRACE_REFUSED_HOST, 1, "!H\n"},       {4, TRACE_REFUSED_NETWORK, 0, "!N\n"},
		{4, TRACE_REFUSED_PROTOCOL, 2, "!P\n"},   {4, TRACE_REFUSED_PROHIBITED, 13, "!H\n"},
		{4, TRACE_REFUSED_PROHIBITED, 9, "!N\n"}, {4, TRACE_REFUSED_PROHIBITED, 10, "!H\n"},
		{6, TRACE_REFUSED_PROHIBITED, 1, "!A\n"}, {6, TRACE_REFUSED_NOT, 0, "!H\n"},
	};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct trace_page on = page(cases[i].family);
		struct trace_hop hop = router;
		struct trace_fact fact = {.kind = TRACE_FACT_HOP, .hop = &hop};

		hop.outcome = TRACE_UNREACHABLE;
		hop.refusal = cases[i].refusal;
		hop.icmp_code = cases[i].code;
		trace_text_view.fact(&on, &fact, NULL);
		cr_assert(strstr(written(), cases[i].mark) != NULL, "case %zu", i);
		output_close(&output);
	}
}

Test(trace_view, steps_and_summaries_as_iputils_prints_them)
{
	struct trace_page on = page(4);
	struct trace_step step = {.ttl = 1, .local = true, .mtu_bytes = 1500, .rtt_ns = 62000};
	struct trace_result result = {
		.mtu_bytes = 1400, .has_hops = true, .has_back = true, .hops = 4, .back_hops = 5};

	expect_step(&on, &step, NULL, " 1?: [LOCALHOST]                      pmtu 1500\n");
	on.family = 6;
	expect_step(&on, &step, NULL,
		    " 1?: [LOCALHOST]                        0.062ms pmtu 1500\n");
	on.family = 4;
	step = (struct trace_step){
		.ttl = 2, .has_address = true, .address = {198, 18, 0, 2}, .mtu_bytes = 1400};
	expect_step(
		&on, &step, NULL,
		" 2:  198.18.0.2                                            0.000ms pmtu 1400\n");
	step.black_hole = step.has_after_hop = true;
	step.after_hop = 1;
	expect_step(
		&on, &step, NULL,
		" 2?: 198.18.0.2                                          pmtu 1400 (black hole "
		"after hop 1)\n");
	step.has_after_hop = step.has_address = false;
	expect_step(
		&on, &step, NULL,
		" 2?: [UNKNOWN]                                           pmtu 1400 (black hole "
		"before hop 2)\n");
	on.any_line = false;
	expect_end(&on, &result, "     Resume: pmtu 1400 hops 4 back 5 \n");
	result = (struct trace_result){.stop = TRACE_STOP_MAX_HOPS, .mtu_bytes = 1400};
	expect_end(&on, &result, "     Too many hops: pmtu 1400\n     Resume: pmtu 1400 \n");
	result.stop = TRACE_STOP_UNREACHABLE;
	expect_end(&on, &result, "     Resume: pmtu 1400 \n");
	result.stop = TRACE_STOP_ERROR;
	result.error = EPIPE;
	expect_end(&on, &result, " 1:  send failed\n     Resume: pmtu 1400 \n");
	on.any_line = true;
	expect_end(&on, &result, "     Cut short: Broken pipe\n");
	result.stop = TRACE_STOP_DEADLINE;
	expect_end(&on, &result, "     Cut short: deadline\n");
	result.stop = TRACE_STOP_INTERRUPT;
	expect_end(&on, &result, "     Cut short: interrupted\n");
	result.stop = TRACE_STOP_BLACKHOLE;
	expect_end(&on, &result, "     Path MTU not found\n     Resume: \n");
	result = (struct trace_result){.has_hops = true, .hops = 4};
	expect_end(&on, &result, "     Resume: hops 4 \n");
	output_close(&output);
}

Test(trace_view, progress_is_erased_by_the_next_line)
{
	struct trace_page on = page(4);
	struct trace_hop hop = {.ttl = 10, .outcome = TRACE_SILENT};

	view_progress(&on, 1400);
	cr_assert_str_eq(written(), " 1?: large packets get no answer: trying 1400");
	view_progress(&on, 1450);
	cr_assert_str_eq(written(), "\r\033[K 1?: large packets get no answer: trying 1450");
	expect_hop(&on, &hop, NULL, "\r\033[K10:  no reply\n");
	expect_hop(&on, &hop, NULL, "10:  no reply\n");
	output_close(&output);
}

Test(trace_view, json_strings_hold_any_bytes)
{
	static const struct {
		const char *bytes;
		const char *json;
	} cases[] = {
		{"plain", "\"plain\""},
		{"a\"b\\c/d", "\"a\\\"b\\\\c/d\""},
		{"\n\t\x01\x1f\x7f", "\"\\u000a\\u0009\\u0001\\u001f\\u007f\""},
		{"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80",
		 "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\""},
		{"\xff\xc3(", "\"\\ufffd\\ufffd(\""},
		{"\xc0\x80", "\"\\ufffd\\ufffd\""},
		{"\xed\xa0\x80", "\"\\ufffd\\ufffd\\ufffd\""},
		{"\xe2\x82", "\"\\ufffd\\ufffd\""},
		{"\xf4\x90\x80\x80", "\"\\ufffd\\ufffd\\ufffd\\ufffd\""},
		{"\xf0\x9f\x98", "\"\\ufffd\\ufffd\\ufffd\""},
	};
	char expected[512];

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct trace_page on = page(4);

		on.destination = cases[i].bytes;
		trace_jsonl_view.begin(&on);
		snprintf(expected, sizeof expected,
			 "{\"event\":\"start\",\"version\":1,\"destination\":%s,"
			 "\"address\":\"203.0.113.1\",\"source\":null,\"family\":4,"
			 "\"protocol\":\"udp\",\"transport\":\"direct\","
			 "\"started\":\"2026-11-26T15:00:00Z\"}\n",
			 cases[i].json);
		cr_assert_str_eq(written(), expected);
		output_close(&output);
	}
}

Test(trace_view, the_document_puts_steps_to_their_hops)
{
	struct trace_page on = page(4);
	struct trace_hop hop = router;
	struct trace_step steps[3] = {
		{.ttl = 3, .local = true, .mtu_bytes = 1500},
		{.ttl = 3, .has_address = true, .address = {198, 18, 1, 2}, .mtu_bytes = 1400},
		{.ttl = 9,
		 .black_hole = true,
		 .has_after_hop = true,
		 .after_hop = 8,
		 .mtu_bytes = 1300}};
	struct trace_result result = {.stop = TRACE_STOP_DEADLINE, .mtu_bytes = 1300};

	on.has_source = true;
	on.source[0] = 198;
	trace_json_view.begin(&on);
	for (int i = 0; i < 3; i++)
		trace_json_view.fact(
			&on, &(struct trace_fact){.kind = TRACE_FACT_MTU, .step = &steps[i]},
			i == 1 ? "n\"" : NULL);
	trace_json_view.fact(&on, &(struct trace_fact){.kind = TRACE_FACT_HOP, .hop = &hop}, NULL);
	trace_json_view.fact(&on, &(struct trace_fact){.kind = TRACE_FACT_END, .result = &result},
			     NULL);
	cr_assert_str_eq(
		written(),
		"{\"version\":1,\"destination\":\"target.example\",\"address\":\"203.0.113.1\","
		"\"source\":\"198.0.0.0\",\"family\":4,\"protocol\":\"udp\","
		"\"transport\":\"direct\",\"started\":\"2026-11-26T15:00:00Z\",\"hops\":[\n"
		"{\"ttl\":3,\"outcome\":\"router\",\"address\":\"198.18.2.2\",\"rtt_ms\":[0.059],"
		"\"back\":3,\"asymmetric\":false,\"pmtu_events\":["
		"{\"mtu\":1500,\"local\":true,\"black_hole\":false},"
		"{\"mtu\":1400,\"local\":false,\"black_hole\":false,\"address\":\"198.18.1.2\","
		"\"name\":\"n\\\"\",\"rtt_ms\":0.000}]},\n"
		"{\"ttl\":9,\"outcome\":\"unknown\",\"rtt_ms\":[],\"pmtu_events\":["
		"{\"mtu\":1300,\"local\":false,\"black_hole\":true,\"after_hop\":8}]}\n"
		"],\"pmtu\":null,\"hop_count\":null,\"back\":null,"
		"\"stop_reason\":\"deadline\"}\n");
	output_close(&output);
}

Test(trace_view, extensions_in_json)
{
	struct trace_page on = page(6);
	struct trace_hop hop = router;

	hop.has_extension = true;
	hop.extension.mpls_count = 2;
	hop.extension.mpls[0] = (struct extension_mpls){24001, 1, 0, 1};
	hop.extension.mpls[1] = (struct extension_mpls){16005, 0, 1, 255};
	hop.extension.interface_count = 1;
	hop.extension.interfaces[0] = (struct extension_interface){.role = EXTENSION_OUTGOING,
								   .has_index = true,
								   .index = 7,
								   .has_mtu = true,
								   .mtu_bytes = 9000,
								   .address_family = 4,
								   .address = {198, 18, 7, 1},
								   .name = "ge-0/0/1"};
	trace_jsonl_view.fact(&on, &(struct trace_fact){.kind = TRACE_FACT_HOP, .hop = &hop}, NULL);
	const char *text = written();

	cr_assert(strstr(text, "\"mpls\":[{\"label\":24001,\"traffic_class\":1,"
			       "\"bottom_of_stack\":false,\"ttl\":1},{\"label\":16005,"
			       "\"traffic_class\":0,\"bottom_of_stack\":true,\"ttl\":255}]"));
	cr_assert(strstr(text,
			 "\"interfaces\":[{\"role\":\"outgoing\",\"index\":7,"
			 "\"address\":\"198.18.7.1\",\"name\":\"ge-0/0/1\",\"mtu\":9000}]}\n"));
	output_close(&output);
}

Test(trace_view, addresses_with_a_scope)
{
	char text[VIEW_ADDRESS_BYTES];
	const uint8_t address[16] = {0xfe, 0x80, [15] = 1};
	struct trace_page on = page(6);

	on.scope = 3;
	cr_assert_str_eq(view_address(&on, 6, address, 3, text), "fe80::1%3");
	strcpy(on.device, "eth0");
	cr_assert_str_eq(view_address(&on, 6, address, 3, text), "fe80::1%eth0");
	cr_assert_str_eq(view_address(&on, 6, address, 4, text), "fe80::1%4");
	cr_assert_str_eq(view_address(&on, 6, address, 0, text), "fe80::1");
	output_close(&output);
}

/* --- the report ------------------------------------------------------------------------------- */

Test(trace_report, without_names_nothing_waits)
{
	struct trace_page on = page(4);
	struct trace_report report = {.view = &trace_text_view, .page = &on};
	struct trace_hop hop = router;

	report_fact(&report, &(struct trace_fact){.kind = TRACE_FACT_HOP, .hop = &hop}, 0);
	cr_assert_eq(report_show(&report, 0), INT64_MAX);
	cr_assert(strstr(written(), "198.18.2.2"));
	output_close(&output);
}

/* --- what ICMP means -------------------------------------------------------------------------- */

static struct trace_answer meaning(uint8_t family, uint8_t protocol, uint8_t type, uint8_t code,
				   bool from_destination)
{
	struct probe_request request = {
		.family = family, .protocol = protocol, .destination = {203}};
	struct probe_result result = {.kind = RESULT_ICMP,
				      .icmp_type = type,
				      .icmp_code = code,
				      .responder = {from_destination ? 203 : 198}};

	return trace_answer_of(&request, &result);
}

Test(trace_answer, every_icmp_error_has_a_meaning)
{
	static const struct {
		uint8_t family, type, code;
		enum trace_answer_kind kind;
		enum trace_refusal refusal;
	} cases[] = {
		{4, 11, 0, TRACE_ANSWER_EXPIRED, TRACE_REFUSED_NOT},
		{4, 3, 4, TRACE_ANSWER_TOO_BIG, TRACE_REFUSED_NOT},
		{4, 3, 3, TRACE_ANSWER_REACHED, TRACE_REFUSED_NOT},
		{4, 3, 0, TRACE_ANSWER_UNREACHABLE, TRACE_REFUSED_NETWORK},
		{4, 3, 1, TRACE_ANSWER_UNREACHABLE, TRACE_REFUSED_HOST},
		{4, 3, 2, TRACE_ANSWER_UNREACHABLE, TRACE_REFUSED_PROTOCOL},
		{4, 3, 13, TRACE_ANSWER_UNREACHABLE, TRACE_REFUSED_PROHIBITED},
		{4, 3, 77, TRACE_ANSWER_UNREACHABLE, TRACE_REFUSED_HOST},
		{4, 12, 0, TRACE_ANSWER_UNREACHABLE, TRACE_REFUSED_PROTOCOL},
		{4, 11, 1, TRACE_ANSWER_UNREACHABLE, TRACE_REFUSED_HOST},
		{6, 3, 0, TRACE_ANSWER_EXPIRED, TRACE_REFUSED_NOT},
		{6, 2, 0, TRACE_ANSWER_TOO_BIG, TRACE_REFUSED_NOT},
		{6, 1, 4, TRACE_ANSWER_REACHED, TRACE_REFUSED_NOT},
		{6, 1, 0, TRACE_ANSWER_UNREACHABLE, TRACE_REFUSED_NETWORK},
		{6, 1, 1, TRACE_ANSWER_UNREACHABLE, TRACE_REFUSED_PROHIBITED},
		{6, 1, 3, TRACE_ANSWER_UNREACHABLE, TRACE_REFUSED_HOST},
		{6, 1, 6, TRACE_ANSWER_UNREACHABLE, TRACE_REFUSED_PROHIBITED},
		{6, 4, 1, TRACE_ANSWER_UNREACHABLE, TRACE_REFUSED_PROTOCOL},
	};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct trace_answer answer =
			meaning(cases[i].family, IPPROTO_UDP, cases[i].type, cases[i].code, false);

		cr_assert_eq(answer.kind, cases[i].kind, "case %zu", i);
		cr_assert_eq(answer.refusal, cases[i].refusal, "case %zu", i);
	}
}

Test(trace_answer, a_destination_that_refuses_a_protocol_was_reached)
{
	cr_assert_eq(meaning(4, IPPROTO_TCP, 3, 2, true).kind, TRACE_ANSWER_REACHED);
	cr_assert_eq(meaning(4, IPPROTO_TCP, 3, 2, false).kind, TRACE_ANSWER_UNREACHABLE);
	cr_assert_eq(meaning(4, IPPROTO_UDP, 3, 2, true).kind, TRACE_ANSWER_UNREACHABLE);
}

Test(trace_answer, replies)
{
	struct probe_request request = {.family = 4, .protocol = IPPROTO_UDP};
	struct probe_result result = {
		.kind = RESULT_REPLY, .rtt_ns = 4000, .known = KNOWN_REPLY_TTL, .reply_ttl = 60};
	struct trace_answer answer = trace_answer_of(&request, &result);

	cr_assert_eq(answer.kind, TRACE_ANSWER_REACHED);
	cr_assert(answer.data);
	cr_assert_eq(answer.rtt_ns, 4000);
	cr_assert(answer.has_reply_ttl);
	cr_assert_eq(answer.reply_ttl, 60);
	request.protocol = IPPROTO_TCP;
	result.known = 0;
	answer = trace_answer_of(&request, &result);
	cr_assert(!answer.data && !answer.has_reply_ttl);
	result.kind = RESULT_LOST;
	cr_assert_eq(trace_answer_of(&request, &result).kind, TRACE_ANSWER_LOST);
}

Test(trace_answer, failures)
{
	static const struct {
		int error;
		enum trace_answer_kind kind;
	} cases[] = {
		{ENETUNREACH, TRACE_ANSWER_FAILED}, {EACCES, TRACE_ANSWER_FAILED},
		{ENOBUFS, TRACE_ANSWER_BUSY},       {EAGAIN, TRACE_ANSWER_BUSY},
		{ENOMEM, TRACE_ANSWER_BUSY},        {EMSGSIZE, TRACE_ANSWER_TOO_LARGE},
	};
	const struct probe_request request = {.family = 4, .protocol = IPPROTO_UDP};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct probe_result result = {
			.kind = RESULT_FAILED, .error = cases[i].error, .mtu_bytes = 1500};
		struct trace_answer answer = trace_answer_of(&request, &result);

		cr_assert_eq(answer.kind, cases[i].kind, "case %zu", i);
		cr_assert_eq(answer.error, cases[i].error, "case %zu", i);
		cr_assert_eq(answer.mtu_bytes, 1500, "case %zu", i);
	}
}
