#!/usr/bin/env python3
"""`local-device` where another interface has the better route: the probe leaves by the named one, with
the source that was asked for, or is refused; never by another, and never from another address.

time-limit: 60
"""
import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import lab  # noqa: E402
import packet_nets  # noqa: E402
import tap  # noqa: E402
import wire  # noqa: E402

PROTOCOLS = 'icmp', 'udp', 'tcp', 'sctp'
NUMBERS = {4: dict(zip(PROTOCOLS, (wire.ICMP, wire.UDP, wire.TCP, wire.SCTP))),
           6: dict(zip(PROTOCOLS, (wire.ICMP6, wire.UDP, wire.TCP, wire.SCTP)))}
FAR = {4: '203.0.113.9', 6: '2001:db8:113::9'}
ASIDE = {4: '198.18.50.1', 6: '2001:db8:50::1'}
SECOND_ASIDE = {4: '198.18.50.3', 6: '2001:db8:50::3'}
GATEWAY = {4: '198.18.50.2', 6: '2001:db8:50::2'}


class Devices(unittest.TestCase):
    """eth0 has the default route, `aside` one that is worse."""

    @classmethod
    def setUpClass(cls):
        cls.net = packet_nets.chain(0)
        cls.net.ip('link add aside type veth peer name aside2')
        cls.net.ip('link set aside2 up')
        cls.net.ip('link set aside up')
        for family, bits, nodad in (4, 24, ''), (6, 64, ' nodad'):
            for address in ASIDE[family], SECOND_ASIDE[family]:
                cls.net.ip('addr add %s/%d dev aside%s' % (address, bits, nodad))
            cls.net.ip('neigh add %s lladdr 02:00:00:00:00:99 dev aside' % GATEWAY[family])
            cls.net.ip('-%d route add default via %s dev aside metric 4096' % (
                family, GATEWAY[family]))
        cls.client = cls.net.client()
        network = cls.net.network
        cls.sources = {4: {'none': None, 'its own': ASIDE[4], 'its second': SECOND_ASIDE[4],
                           'that of eth0': network.source4},
                       6: {'none': None, 'its own': ASIDE[6], 'its second': SECOND_ASIDE[6],
                           'that of eth0': network.source6}}

    @classmethod
    def tearDownClass(cls):
        cls.client.close()
        cls.net.close()

    def sent(self, capture):
        """(family, protocol number, source) of each probe in a capture."""
        return [(p.family, p.protocol, str(p.source)) for p in wire.read_pcap(capture.path)
                if str(p.destination) in FAR.values()]

    def check(self, family, protocol, which, more=''):
        source = self.sources[family][which]
        request = 'send-probe ip-%d %s protocol %s timeout 0.1 local-device aside%s%s' % (
            family, FAR[family], protocol, more,
            ' local-ip-%d %s' % (family, source) if source else '')
        with lab.Capture(device='aside') as aside, lab.Capture() as eth0:
            reply = self.client.one(request)
        self.assertEqual(self.sent(eth0), [], 'the wrong interface')
        if reply.get('reason') == 'source-with-device':
            self.assertEqual(self.sent(aside), [])
            self.assertEqual(family, 6)
            self.assertIn(protocol, ('icmp', 'sctp'))
            self.assertNotEqual(which, 'none')
            tap.note('refused: %s' % request)
            return
        self.assertEqual(reply.word, 'no-reply', reply)
        sent = self.sent(aside)
        self.assertEqual([(f, n) for f, n, _ in sent], [(family, NUMBERS[family][protocol])])
        if source:
            self.assertEqual(sent[0][2], source)
        else:
            self.assertIn(sent[0][2], (ASIDE[family], SECOND_ASIDE[family]))

    def test_every_protocol_and_source(self):
        for family in 4, 6:
            for protocol in PROTOCOLS:
                for which in self.sources[family]:
                    with self.subTest(family=family, protocol=protocol, source=which):
                        self.check(family, protocol, which)

    def test_with_dont_fragment(self):
        for family in 4, 6:
            for protocol in 'icmp', 'udp':
                with self.subTest(family=family, protocol=protocol):
                    self.check(family, protocol, 'none', ' dont-fragment 1')

    def test_without_a_device_the_better_route_counts(self):
        for family in 4, 6:
            for protocol in PROTOCOLS:
                with lab.Capture(device='aside') as aside, lab.Capture() as eth0:
                    self.client.one('send-probe ip-%d %s protocol %s timeout 0.1' % (
                        family, FAR[family], protocol))
                with self.subTest(family=family, protocol=protocol):
                    self.assertEqual(self.sent(aside), [])
                    self.assertEqual(len(self.sent(eth0)), 1)


if __name__ == '__main__':
    lab.enter()
    tap.main()
