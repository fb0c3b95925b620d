#!/usr/bin/env python3
"""Which answer belongs to which probe: forged, broken, late and doubled answers resolve no probe but
their own, and clients that share a network never see each other's.

time-limit: 90
"""
import os
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import lab  # noqa: E402
import packet_nets  # noqa: E402
import tap  # noqa: E402
from packet_client import Client, MTR_PACKET  # noqa: E402

FAMILIES = 4, 6
PROTOCOLS = 'icmp', 'udp', 'tcp', 'sctp'
ORDINARY = 'udp', 'tcp'  # go by ordinary sockets
HOP = {4: '198.18.%d.1', 6: '2001:db8:%x::1'}
DESTINATION = {4: '203.0.113.%d', 6: '2001:db8:113::%x'}

ANSWERS = ('on icmp=echo on udp:7=data:64 on udp=port-unreachable on tcp:80=syn-ack on tcp=rst '
           'on sctp:80=init-ack on sctp=abort')

# What is wrong with an answer, and the protocols whose probes it must not resolve: in an ICMP error
# that quotes the probe, and in the destination's direct answer. The kernel does not show an ordinary
# UDP socket the quoted source address.
ALL = frozenset(PROTOCOLS)
PORTS = ALL - {'icmp'}
WRONG = (
    ('forge id', {'icmp', 'sctp'}, {'icmp', 'sctp'}),
    ('forge sequence', {'icmp', 'tcp', 'sctp'}, {'icmp', 'tcp', 'sctp'}),
    ('forge source-port', PORTS, PORTS),
    ('forge destination-port', PORTS, PORTS),
    ('forge ports', PORTS, PORTS),
    ('forge source', ALL - {'udp'}, frozenset()),
    ('forge destination', ALL, ALL),
    ('forge protocol', ALL, ALL),
    ('truncate 0', ALL, ALL),
    ('truncate 3', ALL, ALL),
    ('truncate 7', ALL, ALL),
    ('corrupt checksum', ALL, ALL),
    ('corrupt cut', ALL, ALL),
    ('corrupt quote', ALL, frozenset()),
)


def description(more):
    """Hop i and destination i answer wrong as line i of WRONG says."""
    lines = []
    for i, (wrong, _, _) in enumerate(WRONG, 1):
        lines.append('hop address %s,%s delay 100us %s %s' % (HOP[4] % i, HOP[6] % i, wrong, more))
    for i, (wrong, _, _) in enumerate(WRONG, 1):
        for family in FAMILIES:
            lines.append('dest %s %s %s %s' % (DESTINATION[family] % i, wrong, more, ANSWERS))
    return '\n'.join(lines)


def cases():
    """(family, protocol, line, ttl or None, port) of each answer that must resolve nothing."""
    for family in FAMILIES:
        for number, (_, quoted, direct) in enumerate(WRONG, 1):
            for protocol in PROTOCOLS:
                if protocol in quoted:
                    yield family, protocol, number, number, 9
                for port in {'icmp': (0,), 'udp': (7, 9)}.get(protocol, (80, 9)):
                    # A closed UDP port answers by an ICMP error, which quotes.
                    if protocol in (quoted if port == 9 and protocol == 'udp' else direct):
                        yield family, protocol, number, None, port


def request(case, timeout):
    family, protocol, number, ttl, port = case
    fields = ['send-probe ip-%d' % family, DESTINATION[family] % number, 'protocol', protocol,
              'timeout', str(timeout)]
    if protocol != 'icmp':
        fields += ['port', str(port)]
    if ttl:
        fields += ['ttl', str(ttl)]
    return ' '.join(fields)


def ask_by_protocol(client, asked, timeout, more=''):
    """The replies in the order of the cases. One protocol after the other: an answer to a TCP probe
    whose protocol is forged to UDP, all checksums right, *is* a datagram for a UDP probe that is
    open with the same ports."""
    replies = {}
    for protocol in PROTOCOLS:
        group = [case for case in asked if case[1] == protocol]
        replies.update(zip(group, client.ask(*[request(case, timeout) + more for case in group])))
    return [replies[case] for case in asked]


def name(case):
    family, protocol, number, ttl, port = case
    return dict(wrong=WRONG[number - 1][0], family=family, protocol=protocol,
                to='hop' if ttl else 'port %d' % port)


class Forged(unittest.TestCase):
    def test_wrong_answers_resolve_nothing(self):
        with packet_nets.simnet(description('')) as net, net.client() as client:
            asked = list(cases())
            replies = ask_by_protocol(client, asked, 0.5)
            counters = net.network.stop()
        answered = counters['hop-answers'] + counters['arrived'] - counters['unanswered']
        self.assertGreaterEqual(answered, len(asked), 'the network did not answer: %r' % counters)
        for case, reply in zip(asked, replies):
            with self.subTest(**name(case)):
                self.assertEqual(reply.word, 'no-reply', reply)

    def test_right_answers_after_them_do(self):
        with packet_nets.simnet(description('then-genuine 40ms')) as net, net.client() as client:
            asked = list(cases())
            replies = ask_by_protocol(client, asked, 3)
        for case, reply in zip(asked, replies):
            family, protocol, number, ttl, _ = case
            with self.subTest(**name(case)):
                wrong = WRONG[number - 1][0]
                if reply.word == 'no-reply' and (
                        # The broker checks no sum: the damaged answer is the only one it passes on.
                        wrong == 'corrupt checksum' and protocol in ('icmp', 'sctp') or
                        # The kernel repeats the SYN after a wrong acknowledgement.
                        wrong == 'forge sequence' and protocol == 'tcp' and not ttl):
                    continue
                self.assertEqual(reply.word, 'ttl-expired' if ttl else 'reply', reply)
                self.assertEqual(reply.address, HOP[family] % ttl if ttl else
                                 DESTINATION[family] % number)
                self.assertGreaterEqual(reply.ms, 39)

    def test_in_a_flow(self):
        """Where other fields tell the probes apart."""
        with packet_nets.simnet(description('')) as net, net.client() as client:
            asked = [case for case in cases() if case[3] and case[1] != 'tcp' and
                     'sequence' not in name(case)['wrong']]
            replies = ask_by_protocol(client, asked, 0.5, ' flow 3')
        for case, reply in zip(asked, replies):
            with self.subTest(**name(case)):
                self.assertEqual(reply.word, 'no-reply', reply)

    def test_broken_extensions(self):
        """A wrong checksum or length of the extension structure: the answer may count or not, but
        labels that are not certain are never shown."""
        text = '\n'.join('hop address %s,%s delay 100us mpls 77:0:1:1 corrupt %s' % (
            HOP[4] % i, HOP[6] % i, kind) for i, kind in enumerate(('extension', 'length'), 1))
        text += '\ndest 203.0.113.1\ndest 2001:db8:113::1'
        with packet_nets.simnet(text) as net, net.client() as client:
            for family in FAMILIES:
                for protocol in PROTOCOLS:
                    for ttl in 1, 2:
                        reply = client.one('send-probe ip-%d %s protocol %s ttl %d timeout 0.3' % (
                            family, DESTINATION[family] % 1, protocol, ttl))
                        self.assertIn(reply.word, ('ttl-expired', 'no-reply'))
                        # The kernel does not show ordinary sockets a length that it takes for
                        # wrong. The labels are nevertheless those that were sent, with the right
                        # checksum.
                        if ttl == 2 and protocol in ORDINARY and reply.get('mpls'):
                            self.assertEqual(reply['mpls'], '77,0,1,1')
                        else:
                            self.assertIsNone(reply.get('mpls'), reply)
                        if ttl == 1:
                            self.assertEqual(reply.word, 'ttl-expired')


LATE_NET = '''
hop address 198.18.1.1,2001:db8:1::1 delay 100us late 1s
dest 203.0.113.1 %(answers)s late 1s
dest 2001:db8:113::1 %(answers)s late 1s
dest 203.0.113.2 %(answers)s duplicate 5
dest 2001:db8:113::2 %(answers)s duplicate 5
dest 203.0.113.3 on any=silence
dest 2001:db8:113::3 on any=silence
''' % {'answers': ANSWERS}


class Late(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.net = packet_nets.simnet(LATE_NET)

    @classmethod
    def tearDownClass(cls):
        cls.net.close()

    def test_late_answers_resolve_nothing_else(self):
        """Probes time out; new ones to the same host, and to a silent one, are open when the
        answers of the first come. Nothing may take them, in any protocol."""
        with self.net.client() as client:
            first = ['send-probe ip-%d %s protocol %s port 80 timeout 0.4%s' % (
                f, DESTINATION[f] % 1, p, ttl) for f in FAMILIES for p in PROTOCOLS
                for ttl in ('', ' ttl 1') for _ in range(20)]
            first = [r.replace(' port 80', '') if 'icmp' in r else r for r in first]
            second = [r.replace('timeout 0.4', 'timeout 0.9') for r in first]
            second += [r.replace('113.1 ', '113.3 ').replace('113::1 ', '113::3 ')
                       for r in second if 'ttl' not in r]
            replies = client.ask(*first)
            self.assertEqual({r.word for r in replies}, {'no-reply'})
            replies = client.ask(*second)
            wrong = [(q, r) for q, r in zip(second, replies) if r.word != 'no-reply']
            self.assertEqual(wrong, [])

    def test_in_time_they_count(self):
        with self.net.client() as client:
            for family in FAMILIES:
                replies = client.ask(*['send-probe ip-%d %s protocol %s timeout 4' % (
                    family, DESTINATION[family] % 1, p) for p in PROTOCOLS])
                for protocol, reply in zip(PROTOCOLS, replies):
                    if protocol == 'tcp':  # after a second the kernel would repeat the SYN
                        self.assertEqual(reply.word, 'no-reply', reply)
                        continue
                    self.assertEqual(reply.word, 'reply', reply)
                    self.assertTrue(1000 <= reply.ms < 3000, reply)

    def test_duplicates_count_once(self):
        with self.net.client() as client:
            replies = client.ask(*['send-probe ip-%d %s protocol %s timeout 4' % (
                f, DESTINATION[f] % 2, p) for f in FAMILIES for p in PROTOCOLS] * 20)
            self.assertEqual({r.word for r in replies}, {'reply'})
            time.sleep(0.3)
            self.assertEqual(len(client.replies), len(replies))


CROWD_NET = '''
hop address 198.18.1.1,2001:db8:1::1 delay 100us
dest 203.0.113.0/24 delay 5ms jitter 20ms %(answers)s
dest 2001:db8:113::/64 delay 5ms jitter 20ms %(answers)s
''' % {'answers': ANSWERS}


class Crowd(unittest.TestCase):
    CLIENTS = 8
    PROBES = 600

    def probes(self, client_number):
        """To this client's addresses only, all protocols and families, ports shared by all."""
        for i in range(self.PROBES):
            family = FAMILIES[i % 2]
            protocol = PROTOCOLS[i // 2 % 4]
            host = 1 + client_number * 30 + i % 30
            port = '' if protocol == 'icmp' else ' port 80'
            yield DESTINATION[family] % host, 'send-probe ip-%d %s protocol %s%s timeout 8' % (
                family, DESTINATION[family] % host, protocol, port)

    def test_eight_clients_in_pid_namespaces(self):
        """Each is process 1 of a pid namespace of its own, so that pids tell nothing apart."""
        wrong = []

        def one(number, client):
            asked = list(self.probes(number))
            for at in range(0, len(asked), 100):
                replies = client.ask(*[q for _, q in asked[at:at + 100]])
                wrong.extend((number, q, r.line) for (address, q), r in zip(asked[at:], replies)
                             if r.word != 'reply' or r.address != address)

        with packet_nets.simnet(CROWD_NET) as net:
            clients = [Client(prefix=[*net.prefix, 'unshare', '--pid', '--fork', '--kill-child',
                                      '--mount-proc', 'sh', '-c',
                                      'test $$ = 1 && exec "$0"'], program=MTR_PACKET)
                       for _ in range(self.CLIENTS)]
            failures = []

            def in_thread(number, client):
                try:
                    one(number, client)
                except Exception as error:  # reported in the test's own thread
                    failures.append(error)

            threads = [threading.Thread(target=in_thread, args=pair) for pair in enumerate(clients)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            for client in clients:
                self.assertEqual(client.close(), 0, client.errors)
        self.assertEqual(failures, [])
        tap.note('%d probes, %d answered from elsewhere or not at all' % (
            self.CLIENTS * self.PROBES, len(wrong)))
        self.assertEqual(wrong, [])


class OneOpenPort(unittest.TestCase):
    def test_64_tcp_probes_over_50_ms(self):
        """To one port of one Linux host: each needs a source port of its own."""
        with packet_nets.wire_host(50) as net, net.listener('peer', 8080), \
                net.client() as client:
            for family, destination in ((4, net.network.destination4),
                                        (6, net.network.destination6)):
                for round_number in range(3):
                    replies = client.ask(*['send-probe ip-%d %s protocol tcp port 8080' % (
                        family, destination)] * 64)
                    self.assertEqual([r.line for r in replies if r.word != 'reply'], [])
                    self.assertGreaterEqual(min(r.ms for r in replies), 95)

    def test_closed_port_and_unreachable_protocol(self):
        with packet_nets.wire_host(5) as net, net.client() as client:
            for family, destination in ((4, net.network.destination4),
                                        (6, net.network.destination6)):
                for protocol in PROTOCOLS:
                    for reply in client.ask(*['send-probe ip-%d %s protocol %s' % (
                            family, destination, protocol)] * 20):
                        self.assertEqual(reply.word, 'reply')


if __name__ == '__main__':
    lab.enter()
    tap.main()
