#!/usr/bin/env python3
"""tracepath --paths on networks with known diamonds, in both families and with all protocols: those
that simnet plays, and real Linux routers. Also -x and -q. time-limit: 240"""
import json
import os
import re
import sys
import unittest

import jsonschema

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lab'))
import lab  # noqa: E402
import tap  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
SCHEMA = os.path.join(HERE, '..', '..', 'frontend', 'tracepath', 'tracepath.schema.json')
TARGETS = '203.0.113.1', '2001:db8:ff::1'
PROTOCOLS = 'udp', 'icmp', 'tcp'
# One run of 20 misses one of a node's next nodes, so one of 8 misses something of the widest graphs
# here. All of 5 runs with other flows miss something once in 30,000.
RUNS = 5


def addresses(hop, width):
    """Of both families, of hop 0 and so on."""
    six = '2001:db8:%x::%x' if hop else '2001:db8:%.0s:%x'
    return (['198.18.%d.%d' % (hop, k + 2) for k in range(width)],
            [six % (hop, k + 2) for k in range(width)])


def internet(widths, settings=None, destination=''):
    lines = ['hop address %s %s' % (','.join(sum(addresses(i, width), [])),
                                    (settings or {}).get(i, ''))
             for i, width in enumerate(widths)]
    return '\n'.join(lines + ['dest %s %s' % (target, destination) for target in TARGETS]) + '\n'


def trace(*options, timeout=60):
    return lab.run([lab.build('tracepath'), '-n', *options], timeout=timeout)


class Paths(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        with open(SCHEMA, encoding='utf-8') as file:
            cls.schema = json.load(file)

    def document(self, *options):
        done = trace('--paths', '--json', *options)
        document = json.loads(done.stdout)
        jsonschema.validate(document, self.schema)
        self.check_flows(document)
        return document

    def check_flows(self, document):
        """Links lead from nodes to nodes, and each has flows that were seen at both."""
        nodes = {0: None}
        for hop in document['hops']:
            nodes.update({node['id']: node for node in hop['nodes']})
            for link in hop['links'] or []:
                self.assertIn(link['from'], nodes)
                self.assertLessEqual(set(link['flows']), set(nodes[link['to']]['flows']))

    def explore(self, wanted, *options, links=None):
        """A document whose hops have these addresses, and so many links if that is given, at the
        first run or at one of the next."""
        wanted = [sorted(hop) for hop in wanted]
        for run in range(RUNS):
            document = self.document('--flow', str(1000 * run), *options)
            found = [sorted(node.get('address', '') for node in hop['nodes'])
                     for hop in document['hops']]
            found_links = links and [len(hop['links']) for hop in document['hops']]
            if found == wanted and found_links == links:
                return document
        self.assertEqual((found, found_links), (wanted, links))
        return None

    def explore_widths(self, widths, protocol, settings=None, links=None):
        with lab.simnet(internet(widths, settings)):
            return [self.explore([addresses(i, width)[family] for i, width in enumerate(widths)] +
                                 [[TARGETS[family]]], '-P', protocol, TARGETS[family], links=links)
                    for family in (0, 1)]

    def test_diamonds_are_found(self):
        for widths in ([1, 2, 1], [1, 3, 1], [1, 8, 1], [1, 16, 1], [1, 2, 1, 3, 1], [1, 2, 3, 1]):
            probes = []
            # Each router leads to all of the next hop.
            links = [near * far for near, far in zip([1, *widths], [*widths, 1])]
            for protocol in PROTOCOLS:
                for document in self.explore_widths(widths, protocol, links=links):
                    probes.append(document['probes'])
                    self.assertGreaterEqual(document['confidence'], 0.95)
                    self.assertEqual(document['stop_reason'], 'reached')
                    self.assertEqual([hop['balancing'] for hop in document['hops']],
                                     ['flow' if width > 1 else 'none' for width in [*widths, 1]])
            tap.note('widths %s: %d to %d probes' % (widths, min(probes), max(probes)))

    def test_branches_of_unequal_length(self):
        net = ('hop address 198.18.0.2\nhop address 198.18.1.2 branch 1/2\n'
               'hop address 198.18.1.3 branch 2/2\nhop address 198.18.2.3 branch 2/2\n'
               'hop address 198.18.3.2\ndest 203.0.113.1\n')
        for protocol in PROTOCOLS:
            with lab.simnet(net):
                document = self.explore([['198.18.0.2'], ['198.18.1.2', '198.18.1.3'],
                                         ['198.18.2.3', '198.18.3.2'],
                                         ['198.18.3.2', '203.0.113.1'], ['203.0.113.1']],
                                        '-P', protocol, TARGETS[0])
            name = {node['id']: node['address'] for hop in document['hops']
                    for node in hop['nodes']}
            links = [sorted((name.get(link['from']), name[link['to']]) for link in hop['links'])
                     for hop in document['hops'][2:]]
            self.assertEqual(links, [[('198.18.1.2', '198.18.3.2'), ('198.18.1.3', '198.18.2.3')],
                                     [('198.18.2.3', '198.18.3.2'), ('198.18.3.2', '203.0.113.1')],
                                     [('198.18.3.2', '203.0.113.1')]])

    def test_balancing_by_packet_is_recognised(self):
        for protocol in PROTOCOLS:
            for document in self.explore_widths([1, 3, 2, 1], protocol, {1: 'balance packet'}):
                self.assertEqual([hop['balancing'] for hop in document['hops']],
                                 ['none', 'packet', 'flow', 'none', 'none'])
                self.assertIsNone(document['hops'][2]['links'])
                self.assertEqual(len(document['hops'][3]['links']), 2)

    def test_real_linux_routers(self):
        for width in (2, 3, 8, 16):
            with lab.linux_diamond(width) as net:
                for protocol in ('udp', 'tcp'):
                    document = self.explore([['198.18.0.2'], net.middles4, ['198.18.41.2'],
                                             [net.destination4]],
                                            '-P', protocol, net.destination4)
                    self.assertEqual(document['hops'][1]['balancing'], 'flow')
                    # Over IPv6 r2 answers from the link that the probe came in by.
                    ends = ['2001:db8:%d::2' % (40 + k) for k in range(1, width + 1)]
                    document = self.explore([['2001:db8::2'], net.middles6, ends,
                                             [net.destination6]],
                                            '-P', protocol, net.destination6)
                    self.assertEqual(len(document['hops'][2]['links']), width)

    def test_the_graph_in_text(self):
        with lab.simnet(internet([1, 2, 1])):
            # Its ports are always the same, and with them the branches.
            done = trace('--paths', '-P', 'tcp', TARGETS[0])
        time_ms = r' +\d+\.\d{3}ms '
        self.assertRegex(done.stdout, r'^ 1:      198\.18\.0\.2' + time_ms + r'\n'
                         r' 2:  / a 198\.18\.1\.[23]' + time_ms + r'\n'
                         r' 2:  \\ b 198\.18\.1\.[23]' + time_ms + r'\n'
                         r' 3:      198\.18\.2\.2' + time_ms + r'from a b\n'
                         r' 4:      203\.0\.113\.1' + time_ms + r'reached\n'
                         r'     Paths: probes \d+ flows \d+ confidence 9\d%\n$')

    def test_a_limit_is_waited_for_and_is_no_silence(self):
        """That patience ends, and what is claimed then, test_paths.c says in virtual time."""
        with lab.simnet(internet([1, 2, 1, 1], {2: 'rate 4 burst 6'})):
            document = self.document(TARGETS[0])
        self.assertGreaterEqual(document['confidence'], 0.95)
        self.assertEqual([node['outcome'] for node in document['hops'][2]['nodes']], ['router'])

    def test_a_cut_claims_no_confidence(self):
        with lab.simnet(internet([1, 2, 1], {2: 'silent'}, 'silent')):
            document = self.document('-w', '0.5', TARGETS[0])
            self.assertIsNone(document['confidence'])
            self.assertEqual(document['stop_reason'], 'deadline')
            done = trace('--paths', '-e', '-w', '0.5', TARGETS[0])
            self.assertIn('     Cut short: deadline\n', done.stdout)
            self.assertNotIn('confidence', done.stdout.splitlines()[-1])
            self.assertEqual(done.returncode, 1)

    def test_lines_of_json(self):
        with lab.simnet(internet([1, 2, 1])):
            done = trace('--paths', '--jsonl', TARGETS[1])
        events = [json.loads(line) for line in done.stdout.splitlines()]
        for event in events:
            jsonschema.validate(event, self.schema)
        self.assertEqual([event['event'] for event in events], ['start'] + 4 * ['hop'] + ['end'])

    def test_what_contradicts(self):
        with lab.simnet(internet([1])):
            self.assertEqual(trace('--paths', '-l', '100', TARGETS[0]).returncode, 2)
            document = self.document('no.such.name.invalid')
            self.assertEqual(document['stop_reason'], 'error')


class Details(unittest.TestCase):
    def test_extensions_as_traceroute_shows_them(self):
        with lab.simnet(internet([1, 1], {1: 'mpls 24001:1:0:1,16005:0:1:255 interface incoming,'
                                             'index=3,name=eth0,address=198.18.1.9,mtu=1500 '
                                             'interface outgoing,name=xe-0/0/1'})):
            done = trace('-x', TARGETS[0])
            plain = trace(TARGETS[0])
            theirs = lab.run(['traceroute', '-n', '-e', TARGETS[0]]).stdout
        mpls = re.search(r'MPLS:[^;>]*', theirs).group(0)
        self.assertRegex(done.stdout, r'\n 2:  198\.18\.1\.2 +\d+\.\d{3}ms <' + mpls +
                         r';INC:3,198\.18\.1\.9,"eth0",mtu=1500;OUT:"xe-0/0/1"> \n')
        self.assertNotIn('MPLS', plain.stdout)

    def test_statistics(self):
        with lab.simnet(internet([1, 1, 1], {1: 'answer-loss 50%', 2: 'silent'})):
            done = trace('-q', '5', TARGETS[0])
            hops = json.loads(trace('-q', '5', '--json', TARGETS[1]).stdout)['hops']
        statistics = r'min/avg/max (\d+\.\d{3})/(\d+\.\d{3})/(\d+\.\d{3}) ms\n'
        self.assertRegex(done.stdout, r'\n 1:  .*ms loss 0% ' + statistics)
        self.assertRegex(done.stdout, r'\n 2:  .*ms loss [2468]0% ' + statistics)
        self.assertIn('\n 3:  no reply\n', done.stdout)
        self.assertRegex(done.stdout, r'\n 4:  .*ms reached loss 0% ' + statistics)
        for times in re.findall(statistics, done.stdout):
            self.assertEqual(list(times), sorted(times, key=float))
        self.assertEqual([hop['sent'] for hop in (hops[0], hops[1], hops[3])], [5, 5, 5])
        self.assertEqual(len(hops[0]['rtt_ms']), 5)


if __name__ == '__main__':
    lab.enter()
    tap.main()
