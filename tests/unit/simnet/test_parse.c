/*
 * The description of simnet's internet: what each setting becomes, and that every mistake is found
 * on its line. A description that is silently misread would make other tests pass for nothing.
 */
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "tests/lab/simnet_parse.h"

static struct net net;
static char message[256];

static void parse(const char *text)
{
	cr_assert(net_parse("test", text, &net, message, sizeof message), "%s", message);
}

static void refuse(const char *text, const char *expected)
{
	message[0] = '\0';
	cr_expect_not(net_parse("test", text, &net, message, sizeof message), "accepted: %s", text);
	cr_expect(strstr(message, expected), "'%s' should have said '%s' about: %s", message,
		  expected, text);
}

Test(simnet_parse, an_empty_description_has_gateways)
{
	struct net_address gateway;

	parse("# nothing\n\n");
	cr_assert_eq(net.hop_count, 0);
	cr_assert_eq(net.gateway_count, 2);
	cr_assert(net_parse_address("198.18.0.2", &gateway));
	cr_assert(net_address_equal(&gateway, &net.gateways[0]));
	cr_assert(net_parse_address("2001:db8::2", &gateway));
	cr_assert(net_address_equal(&gateway, &net.gateways[1]));
}

Test(simnet_parse, settings_stand_on_the_line_or_on_later_ones)
{
	parse("seed 9\nhop address 198.18.0.2,2001:db8::2 delay 1.5ms loss 25%\n"
	      "    mtu 1400 black-hole # comment\n\thop silent\r\n"
	      "dest 203.0.113.0/24 hops 1 ttl 128\n");
	cr_assert_eq(net.seed, 9);
	cr_assert_eq(net.hop_count, 2);
	cr_assert_eq(net.hops[0].address_count[0], 1);
	cr_assert_eq(net.hops[0].address_count[1], 1);
	cr_assert_eq(net.hops[0].behaviour.delay_ns, 1500000);
	cr_assert_eq(net.hops[0].behaviour.loss_ppm, 250000);
	cr_assert_eq(net.hops[0].mtu_bytes, 1400);
	cr_assert(net.hops[0].black_hole);
	cr_assert_eq(net.hops[0].behaviour.ttl, 255);
	cr_assert_eq(net.hops[0].tos, -1);
	cr_assert(net.hops[1].behaviour.silent);
	cr_assert_not(net.hops[0].behaviour.silent);
	cr_assert_eq(net.destinations[0].prefix_bits, 24);
	cr_assert_eq(net.destinations[0].hops, 1);
	cr_assert_eq(net.destinations[0].behaviour.ttl, 128);
}

Test(simnet_parse, a_label_stack_ends_by_itself)
{
	const struct net_label *labels = net.hops[0].behaviour.labels;

	parse("hop mpls 24001:5,16005:0:1:255,1048575\n");
	cr_assert_eq(net.hops[0].behaviour.label_count, 3);
	cr_assert_eq(labels[0].label, 24001);
	cr_assert_eq(labels[0].traffic_class, 5);
	cr_assert_eq(labels[0].bottom, 0);
	cr_assert_eq(labels[0].ttl, 1);
	cr_assert_eq(labels[1].bottom, 1);
	cr_assert_eq(labels[1].ttl, 255);
	cr_assert_eq(labels[2].label, 1048575);
	cr_assert_eq(labels[2].bottom, 1);
}

Test(simnet_parse, interface_information)
{
	const struct net_interface *interfaces = net.hops[0].behaviour.interfaces;

	parse("hop interface outgoing,index=7,name=ge-0/0/1,address=2001:db8::7,mtu=9000\n"
	      "    interface incoming,name=x\n");
	cr_assert_eq(net.hops[0].behaviour.interface_count, 2);
	cr_assert_eq(interfaces[0].role, 2);
	cr_assert(interfaces[0].has_index && interfaces[0].index == 7);
	cr_assert(interfaces[0].has_mtu && interfaces[0].mtu_bytes == 9000);
	cr_assert_eq(interfaces[0].address.family, 6);
	cr_assert_str_eq(interfaces[0].name, "ge-0/0/1");
	cr_assert_eq(interfaces[1].role, 0);
	cr_assert_not(interfaces[1].has_index);
}

Test(simnet_parse, rules_of_a_destination)
{
	const struct net_rule *rules = net.destinations[0].rules;

	parse("dest 203.0.113.1 on udp:53=data:40 on tcp:80-90=syn-ack on any=prohibited\n");
	cr_assert_eq(net.destinations[0].rule_count, 3);
	cr_assert_eq(rules[0].protocol, IPPROTO_UDP);
	cr_assert_eq(rules[0].answer, ANSWER_UDP_DATA);
	cr_assert_eq(rules[0].data_bytes, 40);
	cr_assert(rules[0].first_port == 53 && rules[0].last_port == 53 && !rules[0].any_port);
	cr_assert(rules[1].first_port == 80 && rules[1].last_port == 90);
	cr_assert_eq(rules[2].protocol, 0);
	cr_assert(rules[2].any_port && rules[2].answer == ANSWER_PROHIBITED);
}

Test(simnet_parse, what_is_wrong_with_answers)
{
	const struct net_tamper *tamper = &net.hops[0].behaviour.tamper;

	parse("hop corrupt checksum,cut forge ports,id truncate 0 duplicate 2 late 3s share 50%\n"
	      "    then-genuine 1us\nhop\n");
	cr_assert_eq(tamper->corrupt, CORRUPT_CHECKSUM | CORRUPT_CUT);
	cr_assert_eq(tamper->forge, FORGE_SOURCE_PORT | FORGE_DESTINATION_PORT | FORGE_ID);
	cr_assert_eq(tamper->truncate_bytes, 0);
	cr_assert_eq(tamper->duplicates, 2);
	cr_assert_eq(tamper->late_ns, 3000000000u);
	cr_assert_eq(tamper->share_ppm, 500000);
	cr_assert(tamper->then_genuine && tamper->genuine_ns == 1000);
	cr_assert_eq(net.hops[1].behaviour.tamper.truncate_bytes, -1);
	cr_assert_eq(net.hops[1].behaviour.tamper.share_ppm, 1000000);
}

Test(simnet_parse, mistakes_are_found_on_their_line)
{
	static const char *const cases[][2] = {
		{"hop\nhop\nbogus 1\n", "test:3: unknown setting 'bogus'"},
		{"hop seed 1\n", "'seed' does not belong here"},
		{"address 198.18.0.1\n", "'address' does not belong here"},
		{"hop on udp=echo\n", "'on' does not belong here"},
		{"hop delay\n", "'delay' needs a value"},
		{"hop delay 5m\n", "delay must be a time"},
		{"hop delay -1\n", "delay must be a time"},
		{"hop loss 101%\n", "loss must be from 0% to 100%"},
		{"hop loss 1x\n", "loss must be"},
		{"hop mtu 67\n", "mtu must be a number from 68 to 65535"},
		{"hop ttl 256\n", "ttl must be"},
		{"hop ttl +1\n", "ttl must be"},
		{"hop tos 0x100\n", "tos must be"},
		{"hop address 198.18.0.256\n", "'198.18.0.256' is no address"},
		{"hop address 1.1.1.1,1.1.1.2,1.1.1.3,1.1.1.4,1.1.1.5,1.1.1.6,1.1.1.7,1.1.1.8,"
		 "1.1.1.9,1.1.1.10,1.1.1.11,1.1.1.12,1.1.1.13,1.1.1.14,1.1.1.15,1.1.1.16,1.1.1."
		 "17\n",
		 "more than 16 addresses"},
		{"hop branch 2\n", "branch is K/N, not '2'"},
		{"hop branch 3/2\n", "branch must be"},
		{"hop mpls 1048576\n", "mpls must be"},
		{"hop mpls 1:0:0:1:1\n", "four parts"},
		{"hop interface sideways\n", "neither a role"},
		{"hop interface incoming,speed=9\n", "does not know 'speed'"},
		{"hop corrupt checksum,soul\n", "does not know 'soul'"},
		{"hop forge money\n", "does not know 'money'"},
		{"hop ip-options 6\n", "multiple of 4"},
		{"hop ip6-headers routing\n", "does not know 'routing'"},
		{"hop quote some\n", "quote (or 'all')"},
		{"hop rfc4884 maybe\n", "'length' or 'compat'"},
		{"hop balance luck\n", "'flow' or 'packet'"},
		{"hop refuse echo\n", "refuse does not know 'echo'"},
		{"dest\n", "dest needs an address"},
		{"dest here\n", "'here' is no address"},
		{"dest 203.0.113.1/33\n", "prefix length must be"},
		{"dest 203.0.113.1 on udp\n", "PROTOCOL[:PORT[-PORT]]=ANSWER"},
		{"dest 203.0.113.1 on dccp=rst\n", "'dccp' is no protocol"},
		{"dest 203.0.113.1 on udp=rst\n", "udp cannot answer 'rst'"},
		{"dest 203.0.113.1 on udp=hello\n", "'hello' is no answer"},
		{"dest 203.0.113.1 on udp:9-8=silence\n", "last port must be"},
		{"hop\ndest 203.0.113.1 hops 2\n", "behind 2 hops, but there are only 1"},
	};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		refuse(cases[i][0], cases[i][1]);
}

Test(simnet_parse, there_are_at_most_64_hops)
{
	char text[65 * 4 + 1] = "";

	for (int i = 0; i < 64; i++)
		strcat(text, "hop\n");
	parse(text);
	cr_assert_eq(net.hop_count, NET_HOPS);
	strcat(text, "hop\n");
	refuse(text, "test:65: more than 64 hops");
}
