#!/usr/bin/env python3
"""Debian's mtr (0.95) with build/mtr-packet over five real Linux routers: with every option each hop
is listed without loss, and the option's effect is seen in the captured packets.

time-limit: 90
"""
import concurrent.futures
import ipaddress
import json
import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import lab  # noqa: E402
import packet_nets  # noqa: E402
import tap  # noqa: E402
import wire  # noqa: E402
from test_packet_wire import tshark_finds_nothing_wrong  # noqa: E402

ROUTERS = 5
CYCLES = 5
# So many at once that the machine is busy and the rest of the suite's time is saved.
PARALLEL = 10

OPTIONS = ('', '-u', '-T -P 443', '-S -P 99', '-u -P 53', '-u -L 5001', '-s 1400', '-u -s 1400',
           '-T -s 1400', '-s 28', '-B 255', '-Q 46', '-u -Q 46', '-T -Q 46', '-M 7',
           '-T -M 7', '-a SECOND', '-u -a SECOND', '-T -a SECOND', '-I eth0', '-u -I eth0',
           '-T -I eth0', '-e')


def mtr(net, family, options, more=('-i', '0.2', '-G', '0.5'), cycles=CYCLES, prefix=(),
        program=None, destination=None):
    """The addresses and losses of a run's hops, or a text that says what went wrong."""
    network = net.network
    second = network.second4 if family == 4 else network.second6
    destination = destination or (network.destination4 if family == 4 else network.destination6)
    done = net.run(*prefix, 'env', 'MTR_PACKET=' + (program or lab.build('mtr-packet')), 'mtr',
                   '-%d' % family, '-n', '-j', '-c', str(cycles), *more,
                   *options.replace('SECOND', second).split(), destination, timeout=60)
    if done.returncode != 0 or done.stderr:
        return 'exit status %d, %s' % (done.returncode, done.stderr.strip())
    report = json.loads(done.stdout)['report']
    return [(hub['host'], hub['Loss%'], hub['Snt']) for hub in report['hubs']]


def expected(net, family, cycles=CYCLES):
    network = net.network
    return [(hop, 0.0, cycles) for hop in (network.hops4 if family == 4 else network.hops6)]


class Mtr(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.net = packet_nets.chain(ROUTERS)

    @classmethod
    def tearDownClass(cls):
        cls.net.close()

    def several(self, runs):
        """Runs [(family, options)] in parallel; returns what each found."""
        with concurrent.futures.ThreadPoolExecutor(PARALLEL) as pool:
            return list(pool.map(lambda run: mtr(self.net, *run), runs))

    def test_options(self):
        runs = [(family, options) for family in (4, 6) for options in OPTIONS]
        with lab.Capture() as capture:
            found = self.several(runs)
        for (family, options), hubs in zip(runs, found):
            with self.subTest(family=family, options=options):
                self.assertEqual(hubs, expected(self.net, family))
        self.check_wire(wire.read_pcap(capture.path))
        tshark_finds_nothing_wrong(self, self.net, capture.path,
                                   len(runs) * CYCLES * ROUTERS)

    def check_wire(self, packets):
        """Each option has its effect, in both families."""
        network = self.net.network
        sources = [ipaddress.ip_address(a) for a in (network.source4, network.second4,
                                                     network.source6, network.second6)]
        for family in 4, 6:
            sent = [p for p in packets if p.family == family and p.source in sources]
            for option, seen in (
                    ('udp', lambda p: p.protocol == wire.UDP),
                    ('-T -P 443', lambda p: p.protocol == wire.TCP and p.port == 443 and
                     p.flags == 2),
                    ('-u -P 53', lambda p: p.protocol == wire.UDP and p.port == 53),
                    ('-u -L 5001', lambda p: p.protocol == wire.UDP and p.source_port == 5001),
                    ('-s 1400', lambda p: p.type in (8, 128) and p.size == 1400),
                    ('-u -s 1400', lambda p: p.protocol == wire.UDP and p.size == 1400),
                    ('-B 255', lambda p: p.type in (8, 128) and
                     set(p.data) == {255}),
                    ('-Q 46', lambda p: p.type in (8, 128) and p.tos == 46),
                    ('-T -Q 46', lambda p: p.protocol == wire.TCP and p.tos == 46 & 0xfc)):
                with self.subTest(option=option, family=family):
                    self.assertGreaterEqual(sum(map(seen, sent)), CYCLES * ROUTERS)
            second = ipaddress.ip_address(network.second4 if family == 4 else network.second6)
            self.assertGreater(sum(p.source == second for p in sent), 3 * CYCLES * ROUTERS)

    def test_twelve_at_once(self):
        runs = [(family, options) for options in ('', '-u', '-T -P 443') for family in (4, 6)] * 2
        with concurrent.futures.ThreadPoolExecutor(len(runs)) as pool:
            found = list(pool.map(lambda run: mtr(self.net, *run), runs))
        for (family, options), hubs in zip(runs, found):
            with self.subTest(family=family, options=options):
                self.assertEqual(hubs, expected(self.net, family))

    def test_names_of_the_report(self):
        """The report as people see it: `mtr -n -r`."""
        done = self.net.run('env', 'MTR_PACKET=' + lab.build('mtr-packet'), 'mtr', '-n', '-r',
                            '-c', '2', '-i', '0.2', '-G', '0.5', self.net.network.destination4,
                            timeout=20)
        self.assertEqual(done.returncode, 0, done.stderr)
        lines = [line.split() for line in done.stdout.splitlines()[2:]]
        self.assertEqual([(line[1], line[2]) for line in lines],
                         [(hop, '0.0%') for hop in self.net.network.hops4])


MPLS_NET = '''
hop address 198.18.0.2,2001:db8::2
hop address 198.18.1.2,2001:db8:1::2 mpls 24001:2:0:1,16005:0:1:255
dest 203.0.113.1
dest 2001:db8:ff::1
'''


class Mpls(unittest.TestCase):
    def test_labels_are_shown(self):
        with packet_nets.simnet(MPLS_NET) as net:
            for family, destination in (4, '203.0.113.1'), (6, '2001:db8:ff::1'):
                done = net.run('env', 'MTR_PACKET=' + lab.build('mtr-packet'), 'mtr', '-n',
                               '--raw', '-e', '-c', '1', '-i', '0.2', '-G', '0.5',
                               '-%d' % family, destination, timeout=20)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertIn('24001', done.stdout)
                self.assertIn('16005', done.stdout)


if __name__ == '__main__':
    lab.enter()
    tap.main()
