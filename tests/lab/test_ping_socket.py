#!/usr/bin/env python3
"""ICMP by ping sockets: an ordinary user with no_new_privs, for whom the broker has no privilege, where
net.ipv4.ping_group_range is open. Every hop in mtr, every argument, and the same answers that other
tests hold against the broker: true, forged, broken and late ones. And a broker that dies.

time-limit: 120
"""
import concurrent.futures
import os
import signal
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import lab  # noqa: E402
import packet_nets  # noqa: E402
import processes  # noqa: E402
import sandboxes  # noqa: E402
import tap  # noqa: E402
import test_packet_answers as answers  # noqa: E402
import test_packet_devices as devices  # noqa: E402
import test_packet_forged as forged  # noqa: E402
import wire  # noqa: E402
from packet_client import Client  # noqa: E402
from test_packet_mtr import expected, mtr  # noqa: E402

FAMILIES = 4, 6
CYCLES = 2
PREFIX = (*sandboxes.as_user(), '--no-new-privs')
OPTIONS = '', '-s 1400', '-s 28', '-B 255', '-Q 46', '-a SECOND', '-I eth0', '-e'


def program():
    return os.path.join(sandboxes.install('none'), 'mtr-packet')


def client(net, **how):
    """An mtr-packet in the host's namespace that has ping sockets only."""
    if lab.in_user_namespace():
        raise unittest.SkipTest('other users need the real root')
    lab.inside(lab.HOST, lab.allow_ping, True)
    return Client(prefix=[*net.prefix, *PREFIX], program=program(), **how)


class Chain(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.net = packet_nets.chain(5)
        cls.client = client(cls.net)
        network = cls.net.network
        cls.destinations = {4: 'ip-4 ' + network.destination4, 6: 'ip-6 ' + network.destination6}

    @classmethod
    def tearDownClass(cls):
        cls.client.close()
        cls.net.close()

    def test_mtr(self):
        runs = [(family, options) for family in FAMILIES for options in OPTIONS]
        with concurrent.futures.ThreadPoolExecutor(len(runs)) as pool:
            # mtr allows only root an interval below one second
            found = list(pool.map(lambda run: mtr(
                self.net, *run, more=('-i', '1', '-G', '0.5'), cycles=CYCLES, prefix=PREFIX,
                program=program()), runs))
        for (family, options), hubs in zip(runs, found):
            with self.subTest(family=family, options=options):
                self.assertEqual(hubs, expected(self.net, family, CYCLES))

    def test_tracepath(self):
        network = self.net.network
        for hops, destination in ((network.hops4, network.destination4),
                                  (network.hops6, network.destination6)):
            done = self.net.run(*PREFIX, os.path.join(sandboxes.install('none'), 'tracepath'),
                                '-n', '-P', 'icmp', destination, timeout=20)
            self.assertEqual(done.stderr, '')
            lines = [line.split() for line in done.stdout.splitlines()[1:-1]]
            self.assertEqual([line[1] for line in lines], list(hops))

    def test_support_is_told_as_it_is(self):
        """Nobody is told of a missing privilege before it is missed."""
        for feature in 'icmp', 'udp', 'tcp', 'local-device':
            self.assertEqual(self.client.supports(feature), 'ok', feature)
        for family in FAMILIES:
            self.assertEqual(self.client.one('send-probe ' + self.destinations[family]).word,
                             'reply')
        self.assertEqual(self.client.errors, [])
        with client(self.net) as other:
            self.assertEqual(other.one('send-probe protocol sctp ' + self.destinations[4]).word,
                             'permission-denied')
            for feature in 'sctp', 'mark':
                self.assertEqual(other.supports(feature), 'no')
        self.assertEqual(len(other.errors), 1, other.errors)
        self.assertIn('CAP_NET_RAW', other.errors[0])

    def test_details_and_mtu(self):
        for family, kind in (4, 11), (6, 3):
            probe = 'send-probe %s timeout 2 details 1' % self.destinations[family]
            reply = self.client.one(probe + ' ttl 3')
            self.assertEqual((reply.word, reply['icmp-type'], reply['icmp-code'],
                              reply['reply-ttl']), ('ttl-expired', str(kind), '0', '62'), reply)
            reply = self.client.one(probe + ' dont-fragment 1 size 1501')
            self.assertEqual((reply.word, reply.get('mtu')), ('packet-too-big', '1500'), reply)
            self.assertEqual(self.client.one(probe + ' size 4000').word, 'reply')

    def test_ten_thousand_at_once(self):
        """More than the receive buffer of one socket holds: none is lost, in either family."""
        for family in FAMILIES:
            for ttl in '', ' ttl 3':
                began = time.monotonic()
                replies = self.client.ask(*['send-probe ' + self.destinations[family] + ttl]
                                          * 10000, within=30)
                self.assertEqual({r.word for r in replies}, {'ttl-expired' if ttl else 'reply'})
                tap.note('IPv%d%s: %.0f a second' % (
                    family, ttl, 10000 / (time.monotonic() - began)))


LABELS = '100,0,0,1,16005,0,1,255'
EXTENSION_NET = '''
hop address 198.18.1.1,2001:db8:1::1 mpls 100:0:0:1 mpls 16005:0:1:255
hop address 198.18.2.1,2001:db8:2::1 mpls 100:0:0:1 mpls 16005:0:1:255 rfc4884 compat
dest 203.0.113.1
dest 2001:db8:113::1
'''


class Extension(unittest.TestCase):
    def test_labels_where_the_length_says_and_at_the_old_place(self):
        with packet_nets.simnet(EXTENSION_NET) as net, client(net) as one:
            for family in FAMILIES:
                for ttl in 1, 2:
                    for size in 60, 1000:
                        reply = one.one('send-probe ip-%d %s ttl %d size %d' % (
                            family, answers.DESTINATION[family] % 1, ttl, size))
                        with self.subTest(family=family, ttl=ttl, size=size):
                            self.assertEqual((reply.word, reply.get('mpls')),
                                             ('ttl-expired', LABELS), reply)


# ---- tests of other files, by ping sockets --------------------------------------------------------

class Forged(answers.Forged):
    pass


class Late(answers.Late):
    pass


class AlmostRight(forged.Forged):
    protocols = 'icmp',


class Devices(devices.Devices):
    """Here nothing is refused: a socket that is bound to a device obeys any source."""

    def check(self, family, protocol, which, more=''):
        super().check(family, protocol, which, more)
        reply = self.client.one('send-probe ip-%d %s timeout 0.1 local-device aside%s%s' % (
            family, devices.FAR[family], more,
            ' local-ip-%d %s' % (family, self.sources[family][which])
            if self.sources[family][which] else ''))
        self.assertEqual(reply.word, 'no-reply', reply)


class DevicesWithBroker(Devices):
    """What the broker cannot send goes by ping sockets."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.client.close()
        cls.client = Client(prefix=cls.net.prefix)


# ---- with a broker ------------------------------------------------------------------------------

class Broker(unittest.TestCase):
    """One that works, in a network of 300 ms."""
    DELAY_MS = 150

    def setUp(self):
        self.net = packet_nets.wire_host(self.DELAY_MS)
        self.addCleanup(self.net.close)
        network = self.net.network
        self.requests = ['send-probe ip-4 ' + network.destination4,
                         'send-probe ip-6 ' + network.destination6] * 100

    def start(self, ping):
        lab.inside(lab.HOST, lab.allow_ping, ping)
        started = Client(prefix=self.net.prefix)
        self.addCleanup(started.close)
        self.assertEqual(started.one(self.requests[0]).word, 'reply')
        return started

    def kill_while_open(self, started):
        """Returns the replies to probes that were open then."""
        first = started.next_token
        started.next_token += len(self.requests)
        started.write(''.join('%d %s\n' % (first + i, request)
                              for i, request in enumerate(self.requests)))
        time.sleep(0.1)
        os.kill(processes.broker_of(started.process.pid), signal.SIGKILL)
        replies = started.wait_for(1 + len(self.requests), 10)[1:]
        self.assertEqual(sorted(r.token for r in replies),
                         list(range(first, first + len(self.requests))))
        return replies

    def test_its_death_costs_no_icmp_probe(self):
        started = self.start(True)
        replies = self.kill_while_open(started)
        self.assertEqual({r.word for r in replies}, {'reply'})
        self.assertGreaterEqual(min(r.ms for r in replies), 2 * self.DELAY_MS - 5)
        self.assertEqual(started.supports('icmp'), 'ok')
        self.assertEqual(started.supports('sctp'), 'no')
        self.assertEqual(len(started.errors), 1, started.errors)
        tap.note(started.errors[0])

    def test_where_ping_sockets_are_closed_each_probe_is_answered_once(self):
        started = self.start(False)
        replies = self.kill_while_open(started)
        self.assertEqual({r.word for r in replies}, {'unexpected-error'})
        self.assertEqual(started.supports('icmp'), 'no')

    def test_it_is_used_while_it_works(self):
        """Its identifiers are held ports, which no ping of another user gets by chance."""
        started = self.start(True)
        with lab.Capture(filter='icmp or icmp6') as capture:
            started.ask(*self.requests)
        sent = {p.identifier for p in wire.read_pcap(capture.path) if p.type in (8, 128)}
        held = {int(line.split()[1].split(':')[1], 16)
                for table in ('/proc/net/udp', '/proc/net/udp6')
                for line in self.net.run('cat', table).stdout.splitlines()[1:]}
        self.assertEqual(sent - held, set())


if __name__ == '__main__':
    lab.enter()
    packet_nets.Net.client = client
    answers.PROTOCOLS = answers.ORDINARY = devices.PROTOCOLS = 'icmp',
    # The kernel does not show the quoted source address, as for UDP.
    answers.WRONG = [(wrong, quoted - {'icmp'} if wrong == 'forge source' else quoted, direct)
                     for wrong, quoted, direct in answers.WRONG]
    tap.main()
