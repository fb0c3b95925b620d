#!/usr/bin/env python3
"""The text protocol of mtr-packet against simulated internets: every argument, every reply, both
families. Runs build/mtr-packet with its broker; what the network answers is in the descriptions.

time-limit: 90
"""
import itertools
import os
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import lab  # noqa: E402
import packet_nets  # noqa: E402
import tap  # noqa: E402

NET = '''
hop address 198.18.1.1,2001:db8:1::1 delay 2ms
hop address 198.18.2.1,2001:db8:2::1 delay 2ms mpls 24001:3:0:7,16005:0:1:255
hop address 198.18.3.1,2001:db8:3::1 delay 2ms interface incoming,index=258,name=ge-0/0/1,mtu=9000,address=198.18.3.9
dest 203.0.113.1 on icmp=echo on udp=port-unreachable on tcp:80=syn-ack on tcp=rst on sctp:80=init-ack on sctp=abort
dest 203.0.113.2 on icmp=host-unreachable on udp=data:100 on tcp=prohibited on sctp=protocol-unreachable
dest 203.0.113.3 on any=silence
dest 203.0.113.4 on any=net-unreachable
dest 2001:db8:113::1 on icmp=echo on udp=port-unreachable on tcp:80=syn-ack on tcp=rst on sctp:80=init-ack on sctp=abort
dest 2001:db8:113::2 on icmp=host-unreachable on udp=data:100 on tcp=prohibited on sctp=protocol-unreachable
dest 2001:db8:113::3 on any=silence
dest 2001:db8:113::4 on any=net-unreachable
'''

PROTOCOLS = 'icmp', 'udp', 'tcp', 'sctp'
PREFIX = {4: '203.0.113.', 6: '2001:db8:113::'}
HOP = {4: '198.18.%d.1', 6: '2001:db8:%d::1'}
FAMILIES = 4, 6


def probe(family, host=1, *arguments):
    return ' '.join(['send-probe ip-%d %s%s' % (family, PREFIX[family], host), *arguments])


class WithNet(unittest.TestCase):
    text = NET
    arguments = ()
    environment = {}

    @classmethod
    def setUpClass(cls):
        cls.net = packet_nets.simnet(cls.text)
        cls.client = cls.net.client(arguments=cls.arguments, environment=cls.environment)

    @classmethod
    def tearDownClass(cls):
        status = cls.client.close()
        cls.net.close()
        assert status == 0, 'exit status %d' % status
        assert not cls.client.errors, cls.client.errors

    def expect(self, reply, word, address=None, names=None):
        self.assertEqual(reply.word, word, reply)
        if address is not None:
            self.assertEqual(reply.address, address, reply)
        if names is not None:
            self.assertEqual(reply.names, names, reply)


class Replies(WithNet):
    def test_destinations_that_answer(self):
        """Every protocol's own answer, and any unreachable from the destination, is `reply`."""
        asked = [(f, host, p, port) for f in FAMILIES for p in PROTOCOLS for host, port in
                 [(1, 80), (1, 81), (2, 80), (4, 80)] if not (p == 'icmp' and port == 81)]
        replies = self.client.ask(*[
            probe(f, host, 'protocol', p, *(() if p == 'icmp' else ('port', str(port))))
            for f, host, p, port in asked])
        for (family, host, protocol, port), reply in zip(asked, replies):
            with self.subTest(family=family, host=host, protocol=protocol, port=port):
                name = 'ip-%d' % family
                self.expect(reply, 'reply', PREFIX[family] + str(host),
                            [name, 'round-trip-time'])
                self.assertGreaterEqual(reply.ms, 5.9)
                self.assertLess(reply.ms, 2000)

    def test_hops(self):
        asked = [(f, p, ttl) for f in FAMILIES for p in PROTOCOLS for ttl in (1, 2, 3, 4)]
        replies = self.client.ask(*[
            probe(f, 1, 'protocol', p, 'ttl', str(ttl)) for f, p, ttl in asked])
        for (family, protocol, ttl), reply in zip(asked, replies):
            with self.subTest(family=family, protocol=protocol, ttl=ttl):
                if ttl == 4:
                    self.expect(reply, 'reply', PREFIX[family] + '1')
                    continue
                names = ['ip-%d' % family, 'round-trip-time']
                if ttl == 2:
                    names.append('mpls')
                    self.assertEqual(reply.get('mpls'), '24001,3,0,7,16005,0,1,255')
                self.expect(reply, 'ttl-expired', HOP[family] % ttl, names)
                self.assertGreaterEqual(reply.ms, ttl * 2 - 0.1)

    def test_silence_and_timeouts(self):
        """no-reply comes at the time that was asked for, not before and not much later. A TCP probe
        is lost when the kernel would repeat its SYN after a second."""
        asked = [(f, p, t) for f in FAMILIES for p in PROTOCOLS for t in ('0.3', '.7', '1')]
        started = time.monotonic()
        replies = self.client.ask(*[
            probe(f, 3, 'protocol', p, 'timeout', t) for f, p, t in asked])
        for (family, protocol, timeout), reply in zip(asked, replies):
            with self.subTest(family=family, protocol=protocol, timeout=timeout):
                self.expect(reply, 'no-reply', names=[])
                least = 0.8 if (protocol, timeout) == ('tcp', '1') else float(timeout) - 0.001
                self.assertGreaterEqual(reply.when - started, least)
                self.assertLess(reply.when - started, float(timeout) + 1)

    def test_timeout_zero(self):
        """What has arrived when the probe has left counts: loopback answers within the call that
        sends. Nothing else does, and the reply comes at once."""
        started = time.monotonic()
        for family in FAMILIES:
            for protocol in PROTOCOLS:
                reply = self.client.one(probe(family, 3, 'timeout 0 protocol', protocol))
                self.expect(reply, 'no-reply', names=[])
        self.assertLess(time.monotonic() - started, 1)
        for destination in 'ip-4 127.0.0.1', 'ip-6 ::1':
            replies = self.client.ask(*['send-probe %s timeout 0 protocol udp' % destination] * 20)
            self.assertEqual({r.word for r in replies}, {'reply'})

    def test_default_port_of_udp_changes(self):
        """All of them are answered: the quoted ports are matched whatever they are."""
        replies = self.client.ask(*[probe(f, 1, 'protocol udp') for f in FAMILIES] * 20)
        self.assertEqual({r.word for r in replies}, {'reply'})

    def test_all_arguments_at_once(self):
        """As mtr sends them, with everything that no other test of this file uses."""
        source = {4: 'local-ip-4 198.18.0.11', 6: 'local-ip-6 2001:db8::11'}
        asked = [(f, p) for f in FAMILIES for p in PROTOCOLS]
        replies = self.client.ask(*[
            probe(f, 1, 'protocol', p, 'timeout 5 ttl 64 size 200 bit-pattern -7 tos 184 port 80',
                  source[f], 'local-device', self.net.device, 'details 1')
            for f, p in asked])
        for (family, protocol), reply in zip(asked, replies):
            with self.subTest(family=family, protocol=protocol):
                if reply.get('reason') == 'source-with-device':  # a limit of raw IPv6 sockets
                    self.assertEqual(family, 6)
                    self.assertIn(protocol, ('icmp', 'sctp'))
                    continue
                self.expect(reply, 'reply', PREFIX[family] + '1')

    def test_local_port(self):
        asked = [(f, port) for f in FAMILIES for port in (1024, 5001, 65535)]
        replies = self.client.ask(*[
            probe(f, 1, 'protocol udp local-port', str(port)) for f, port in asked])
        for case, reply in zip(asked, replies):
            with self.subTest(case=case):
                self.expect(reply, 'reply')

    def test_sizes(self):
        """From less than the headers to the largest packet there is, in fragments."""
        sizes = 0, 1, 28, 64, 65, 1400, 1500, 1501, 5000, 65535
        asked = [(f, p, s) for f in FAMILIES for p in PROTOCOLS for s in sizes]
        replies = self.client.ask(*[
            probe(f, 1, 'protocol', p, 'size', str(s)) for f, p, s in asked])
        for case, reply in zip(asked, replies):
            with self.subTest(case=case):
                self.expect(reply, 'reply', PREFIX[case[0]] + '1')

    def test_last_of_an_argument_counts(self):
        reply = self.client.one('send-probe ttl 1 ip-4 203.0.113.1 ttl 2')
        self.expect(reply, 'ttl-expired', '198.18.2.1')
        reply = self.client.one('send-probe ip-6 2001:db8:113::3 ttl 9 ip-6 2001:db8:113::1')
        self.expect(reply, 'reply', '2001:db8:113::1')

    def test_addresses_come_in_their_shortest_form(self):
        reply = self.client.one('send-probe ip-6 2001:0DB8:0113:0:0:0:0:1')
        self.expect(reply, 'reply', '2001:db8:113::1')

    def test_local_destination(self):
        """Probes to addresses of this host itself."""
        for destination in ('ip-4 127.0.0.1', 'ip-4 198.18.0.1', 'ip-6 ::1', 'ip-6 2001:db8::1'):
            for protocol in ('icmp', 'udp', 'tcp'):
                with self.subTest(destination=destination, protocol=protocol):
                    reply = self.client.one('send-probe %s protocol %s port 9 timeout 3' % (
                        destination, protocol))
                    self.expect(reply, 'reply', destination.split()[1])


class Details(WithNet):
    def test_details_of_each_answer(self):
        """Error: type, code, TTLs and TOS; answer in the probe's protocol: no quoted packet."""
        for family in FAMILIES:
            with self.subTest(family=family):
                exceeded, udp, echo = self.client.ask(
                    probe(family, 1, 'ttl 2 tos 72 details 1'),
                    probe(family, 1, 'protocol udp tos 72 details 1'),
                    probe(family, 1, 'tos 72 details 1'))
                self.assertEqual(exceeded['icmp-type'], {4: '11', 6: '3'}[family])
                self.assertEqual(exceeded['icmp-code'], '0')
                self.assertEqual(exceeded['quoted-tos'], '72')
                self.assertIn(exceeded['quoted-ttl'], ('0', '1'))
                self.assertEqual(exceeded['mpls'], '24001,3,0,7,16005,0,1,255')
                self.assertEqual(udp['icmp-type'], {4: '3', 6: '1'}[family])
                self.assertEqual(udp['icmp-code'], {4: '3', 6: '4'}[family])
                for reply in (exceeded, udp, echo):
                    self.assertTrue(1 <= int(reply['reply-ttl']) <= 255, reply)
                    self.assertTrue(reply.paired, reply)
                    self.assertLessEqual(len(reply.names), 16, reply)
                self.assertIsNone(echo.get('quoted-ttl'))
                self.assertIsNone(echo.get('quoted-tos'))
                self.assertIn(echo.get('icmp-type'), (None, {4: '0', 6: '129'}[family]))

    def test_interface_information(self):
        for family in FAMILIES:
            reply = self.client.one(probe(family, 1, 'ttl 3 details 1'))
            self.assertEqual(reply.get('interface'), 'ge-0/0/1', reply)
            self.assertEqual(reply.get('interface-index'), '258', reply)
            self.assertEqual(reply.get('interface-ip'), '198.18.3.9', reply)

    def test_off_unless_asked_for(self):
        for more in ('', ' details 0'):
            reply = self.client.one('send-probe ip-4 203.0.113.1 ttl 3' + more)
            self.assertEqual(reply.names, ['ip-4', 'round-trip-time'])


class Requests(WithNet):
    def test_invalid_arguments(self):
        """Each is answered by invalid-argument with a reason, and nothing is sent."""
        destination = 'ip-4 203.0.113.1'
        for wrong in (
                '', 'ip-4 203.0.113.1 ip-6 2001:db8:113::1', 'ip-4 2001:db8:113::1',
                'ip-6 203.0.113.1', 'ip-4 localhost', 'ip-4 203.0.113', 'ip-4 203.0.113.1.',
                'ip-4 203.0.113.256', 'ip-6 2001:db8::%', 'ip-6 fe80::1%nosuchdevice',
                *(destination + ' ' + more for more in (
                    'protocol gre', 'protocol ICMP', 'protocol 1', 'port 0', 'port 65536',
                    'port -1', 'port x', 'port 80x', 'ttl 0', 'ttl 256', 'ttl -1',
                    'ttl 99999999999999999999', 'ttl', 'ttl 1.5', 'tos 256', 'tos -1',
                    'size 65536', 'size -1', 'size 1e3', 'bit-pattern 256', 'bit-pattern -512',
                    'mark 4294967296', 'mark -1', 'timeout -1', 'timeout x', 'timeout 1x',
                    'timeout nan', 'timeout inf', 'local-port 1023', 'local-port 65536',
                    'local-ip-4 x', 'local-ip-6 2001:db8::1', 'local-device nosuchdevice',
                    'local-device a-name-that-is-too-long-for-any-device', 'details x',
                    'dont-fragment x', 'flow x', 'protocol tcp flow 1'))):
            with self.subTest(wrong=wrong):
                if len(wrong.split()) % 2:
                    continue  # a name without a value: see the parse errors
                reply = self.client.one('send-probe ' + wrong, within=5)
                self.assertEqual(reply.word, 'invalid-argument', reply)
                self.assertEqual(reply.names, ['reason'], reply)

    def test_reasons_name_the_fault(self):
        for wrong, reason in (('ttl 300', 'ttl-out-of-range'),
                              ('protocol tcp flow 1', 'flow-with-tcp')):
            reply = self.client.one('send-probe ip-4 203.0.113.1 ' + wrong)
            self.assertEqual(reply['reason'], reason)

    def test_unknown_arguments(self):
        """Are ignored with their values, and named once on stderr."""
        with self.net.client() as client:
            for family in FAMILIES * 3:
                reply = client.one(probe(family, 1, 'speed 9 TTL 1 colour ttl'))
                self.assertEqual(reply.word, 'reply', reply)
            reply = client.one(probe(4, 1, 'colour red ttl 1'))
            self.assertEqual(reply.word, 'ttl-expired', reply)
            self.assertEqual(client.close(5), 0)
        self.assertEqual(len(client.errors), 3, client.errors)
        for name in 'speed', 'TTL', 'colour':
            self.assertEqual(sum(name in line for line in client.errors), 1, client.errors)

    def test_foreign_and_impossible_addresses(self):
        refused = {'invalid-argument', 'permission-denied'}
        for request, words in (
                (probe(4, 1, 'local-ip-4 198.18.0.77'), {'address-not-available'}),
                (probe(6, 1, 'local-ip-6 2001:db8::77'), {'address-not-available'}),
                ('send-probe ip-4 224.0.0.1', refused),
                ('send-probe ip-4 255.255.255.255', refused),
                ('send-probe ip-4 198.18.0.255', refused | {'no-route'}),  # so connect(2) over TCP
                ('send-probe ip-6 ff02::1', refused)):
            for protocol in PROTOCOLS:
                with self.subTest(request=request, protocol=protocol):
                    reply = self.client.one('%s protocol %s' % (request, protocol), within=5)
                    self.assertIn(reply.word, words, reply)

    def test_addresses_that_are_special(self):
        """Whatever they are answered with, they are answered, once, and the next probe works."""
        for address in ('ip-4 0.0.0.0', 'ip-4 0.0.0.1', 'ip-4 127.255.255.255', 'ip-4 240.0.0.1',
                        'ip-4 198.18.0.0', 'ip-6 ::', 'ip-6 ::ffff:203.0.113.1',
                        'ip-6 ::ffff:127.0.0.1', 'ip-6 ::203.0.113.1', 'ip-6 fe80::1',
                        'ip-6 ::1%lo', 'ip-6 ff02::1%eth0', 'ip-6 64:ff9b::203.0.113.1'):
            for protocol in PROTOCOLS:
                with self.subTest(address=address, protocol=protocol):
                    reply = self.client.one('send-probe %s protocol %s timeout 0.2' % (
                        address, protocol), within=5)
                    self.assertNotIn(reply.word, ('unexpected-error', 'probes-exhausted'), reply)
        self.expect(self.client.one(probe(4)), 'reply', '203.0.113.1')
        self.expect(self.client.one(probe(6)), 'reply', '2001:db8:113::1')

    def test_sources_that_are_special(self):
        for more in ('local-ip-4 0.0.0.0', 'local-ip-4 127.0.0.1', 'local-ip-4 255.255.255.255',
                     'local-ip-4 224.0.0.1'):
            with self.subTest(more=more):
                reply = self.client.one(probe(4, 1, more, 'timeout 0.2'), within=5)
                self.assertNotIn(reply.word, ('unexpected-error', 'probes-exhausted'), reply)
        for more in ('local-ip-6 ::', 'local-ip-6 ::1', 'local-ip-6 ff02::1',
                     'local-ip-6 ::ffff:198.18.0.1'):
            with self.subTest(more=more):
                reply = self.client.one(probe(6, 1, more, 'timeout 0.2'), within=5)
                self.assertNotIn(reply.word, ('unexpected-error', 'probes-exhausted'), reply)
        self.expect(self.client.one(probe(4)), 'reply', '203.0.113.1')

    def test_check_support(self):
        for feature in ('send-probe', 'ip-4', 'ip-6', 'icmp', 'udp', 'tcp', 'sctp', 'mark',
                        'local-device', 'details', 'dont-fragment', 'flow'):
            with self.subTest(feature=feature):
                reply = self.client.one('check-support feature ' + feature)
                self.assertEqual(reply.line.split(None, 1)[1].strip(),
                                 'feature-support support ok')
        self.assertEqual(self.client.supports('teleport'), 'no')
        self.assertRegex(self.client.supports('version'), r'^0\.95-postern-\d+\.\d+\.\d+$')
        for request in ('check-support', 'check-support colour red'):
            self.assertEqual(self.client.one(request).word, 'invalid-argument')

    def raw(self, text, count):
        before = len(self.client.replies)
        self.client.write(text)
        replies = self.client.wait_for(before + count, 5)[before:]
        time.sleep(0.05)
        self.assertEqual(len(self.client.replies) - before, count)
        return [r.line.rstrip('\n') for r in replies]

    def test_parse_errors(self):
        for line in (b'', b' ', b'\t \t', b'7', b'x check-support', b'7x send-probe',
                     b'7.5 send-probe', b'2147483648 send-probe', b'-2147483649 check-support',
                     b'99999999999999999999 check-support', b'8 send-probe ttl',
                     b'8 send-probe ip-4 203.0.113.1 ttl', b'\0 send-probe', b'\xff\xfe \x80',
                     b'5 send-probe' + b' ttl 3' * 17):
            with self.subTest(line=line):
                self.assertEqual(self.raw(line + b'\n', 1), ['0 command-parse-error'])

    def test_tokens_come_back_as_they_came(self):
        for token in ('0', '-1', '2147483647', '-2147483648', '33000'):
            self.assertEqual(self.raw(token + ' fly\n', 1), [token + ' unknown-command'])
        self.assertEqual(self.raw('5 fly\n5 fly\n', 2), ['5 unknown-command'] * 2)

    def test_blanks_and_line_ends(self):
        for line in ('\t 9   check-support\tfeature \t icmp  \n', '9 check-support feature icmp\r\n'):
            self.assertEqual(self.raw(line, 1), ['9 feature-support support ok'])

    def test_odd_bytes_are_ordinary_bytes(self):
        self.assertEqual(self.raw(b'9 check-support feature ic\0mp\n', 1),
                         ['9 feature-support support no'])
        self.assertEqual(self.raw(b'9 \xc3\xa9t\xc3\xa9\n', 1), ['9 unknown-command'])

    def test_lines_that_are_too_long(self):
        longest = '9 check-support feature icmp'.ljust(4095) + '\n'
        self.assertEqual(self.raw(longest, 1), ['9 feature-support support ok'])
        for length in (4096, 4097, 8192, 100000):
            with self.subTest(length=length):
                text = '9 check-support feature icmp'.ljust(length) + '\n9 fly\n'
                self.assertEqual(self.raw(text, 2),
                                 ['0 command-buffer-overflow', '9 unknown-command'])

    def test_a_line_in_pieces(self):
        for piece in ('1', '1 check-su', 'pport feature i', 'cmp'):
            self.client.write(piece)
            time.sleep(0.02)
        self.assertEqual(self.raw('\n', 1), ['11 feature-support support ok'])

    def test_sixteen_arguments_are_not_too_many(self):
        reply = self.client.one(probe(4, 1, *['ttl 3'] * 14, 'ttl 1'))
        self.assertEqual(reply.word, 'ttl-expired')


class Invocation(unittest.TestCase):
    """The ways to start it, and what goes wrong with them."""

    def test_subcommand(self):
        with packet_nets.simnet(NET) as net:
            with net.client(program=lab.build('postern'), arguments=('packet',)) as client:
                self.assertEqual(client.one(probe(4)).word, 'reply')
            with net.client(program=lab.build('postern'), arguments=(
                    'packet', '--broker', lab.build('postern-broker'))) as client:
                self.assertEqual(client.one(probe(6)).word, 'reply')

    def test_broker_that_is_not_there(self):
        """UDP and TCP work without it. ICMP and SCTP are refused, and one line says why."""
        with packet_nets.simnet(NET) as net:
            for wrong in '/nonexistent/postern-broker', '/bin/true', '/dev/null', '/':
                with self.subTest(broker=wrong):
                    client = net.client(arguments=('--broker', wrong))
                    replies = client.ask(*[probe(f, 1, 'protocol', p) for f in FAMILIES
                                           for p in ('udp', 'tcp')], within=5)
                    self.assertEqual({r.word for r in replies}, {'reply'})
                    self.assertEqual(client.errors, [], 'nothing was missed so far')
                    for reply in client.ask(*[probe(f, 1, 'protocol', p) for f in FAMILIES
                                              for p in ('icmp', 'sctp')], within=5):
                        self.assertIn(reply.word, ('permission-denied', 'unexpected-error'))
                    for protocol in PROTOCOLS:
                        self.assertEqual(client.supports(protocol),
                                         'ok' if protocol in ('udp', 'tcp') else 'no')
                    self.assertEqual(client.close(5), 0)
                    self.assertEqual(len(client.errors), 1, client.errors)

    def test_wrong_options(self):
        for arguments in (('--nonsense',), ('--compat',), ('--compat', '0.97'), ('--broker',)):
            with self.subTest(arguments=arguments), packet_nets.simnet(NET) as net:
                done = net.run(lab.build('mtr-packet'), *arguments, timeout=5, input='')
                self.assertNotEqual(done.returncode, 0)
                self.assertEqual(done.stdout, '')
                self.assertNotEqual(done.stderr, '')


UNREACHABLES = 'net-unreachable', 'host-unreachable', 'protocol-unreachable', 'prohibited'


class Unreachable(unittest.TestCase):
    """An ICMP unreachable from a router on the way."""

    def refusal(self, kind):
        return '''
hop address 198.18.1.1,2001:db8:1::1 delay 1ms
hop address 198.18.2.1,2001:db8:2::1 delay 1ms refuse %s
dest 203.0.113.1 hops 2 on any=silence
dest 2001:db8:113::1 hops 2 on any=silence
''' % kind

    def check(self, kind, words, **how):
        with packet_nets.simnet(self.refusal(kind)) as net, net.client(**how) as client:
            asked = [(f, p) for f in FAMILIES for p in PROTOCOLS]
            replies = client.ask(*[probe(f, 1, 'protocol', p, 'timeout 3') for f, p in asked])
            for (family, protocol), reply in zip(asked, replies):
                with self.subTest(kind=kind, family=family, protocol=protocol):
                    self.assertIn(reply.word, words, reply)
                    self.assertEqual(reply.address, HOP[family] % 2)
                    self.assertGreater(reply.ms, 1)

    def test_each_kind_is_no_route(self):
        for kind in UNREACHABLES:
            self.check(kind, {'no-route'})

    def test_names_of_0_96(self):
        new = {'no-route-host', 'no-route-network', 'host-down'}
        self.check('host-unreachable', {'no-route-host'}, arguments=('--compat', '0.96'))
        self.check('net-unreachable', new, environment={'POSTERN_COMPAT': '0.96'})


class Sending(WithNet):
    """What this host itself answers to a probe."""

    def test_routes_that_refuse(self):
        for command in ('route add unreachable 198.19.1.0/24', 'route add prohibit 198.19.2.0/24',
                        '-6 route add unreachable 2001:db8:a1::/48',
                        '-6 route add prohibit 2001:db8:a2::/48'):
            self.net.ip(command)
        for request, word in (('ip-4 198.19.1.1', 'no-route'),
                              ('ip-4 198.19.2.1', 'permission-denied'),
                              ('ip-6 2001:db8:a1::1', 'no-route'),
                              ('ip-6 2001:db8:a2::1', 'permission-denied')):
            for protocol in PROTOCOLS:
                with self.subTest(request=request, protocol=protocol):
                    reply = self.client.one('send-probe %s protocol %s' % (request, protocol))
                    self.expect(reply, word, names=[])

    def test_a_new_route_is_noticed(self):
        for protocol in PROTOCOLS:
            with self.subTest(protocol=protocol):
                request = probe(4, 1, 'protocol', protocol)
                self.net.ip('route add unreachable 203.0.113.1/32')
                self.expect(self.client.one(request), 'no-route', names=[])
                self.net.ip('route del unreachable 203.0.113.1/32')
                self.expect(self.client.one(request), 'reply', '203.0.113.1')

    def test_no_route_in_0_96(self):
        self.net.ip('route add unreachable 198.19.3.0/24')
        self.net.ip('route add throw 198.19.4.0/24')
        with self.net.client(arguments=('--compat', '0.96')) as client:
            self.assertEqual(client.one('send-probe ip-4 198.19.3.1').word, 'no-route-host')
            self.assertEqual(client.one('send-probe ip-4 203.0.113.1 ttl 1').word, 'ttl-expired')

    def test_interface_that_is_down(self):
        self.net.ip('link add idle type veth peer name idle2')
        self.net.ip('addr add 198.18.99.1/24 dev idle')
        self.net.ip('-6 addr add 2001:db8:99::1/64 dev idle')
        for destination in ('ip-4 198.18.99.2', 'ip-6 2001:db8:99::2'):
            for protocol in PROTOCOLS:
                with self.subTest(destination=destination, protocol=protocol):
                    reply = self.client.one('send-probe %s local-device idle protocol %s' % (
                        destination, protocol))
                    self.assertIn(reply.word, ('network-down', 'no-route'), reply)
                    self.assertEqual(reply.names, [])

    def test_local_port_of_another_program(self):
        for family, address in ((4, '198.18.0.1'), (6, '2001:db8::1')):
            with self.net.bound_udp_port(address, 5999):
                reply = self.client.one(probe(family, 1, 'protocol udp local-port 5999'))
                self.assertEqual(reply.word, 'address-in-use', reply)
            reply = self.client.one(probe(family, 1, 'protocol udp local-port 5998'))
            self.assertEqual(reply.word, 'reply', reply)

    def test_many_local_ports(self):
        """As many as a client likes, one after the other."""
        for family in FAMILIES:
            replies = self.client.ask(*[probe(family, 1, 'protocol udp local-port', str(port))
                                        for port in range(6000, 6100)])
            self.assertEqual({r.word for r in replies}, {'reply'})

    def test_marks_reach_the_routing(self):
        self.net.ip('rule add fwmark 7 prohibit')
        self.net.ip('-6 rule add fwmark 7 prohibit')
        for family in FAMILIES:
            for protocol in PROTOCOLS:
                with self.subTest(family=family, protocol=protocol):
                    refused, sent, big = self.client.ask(
                        probe(family, 1, 'protocol', protocol, 'mark 7'),
                        probe(family, 1, 'protocol', protocol, 'mark 8'),
                        probe(family, 1, 'protocol', protocol, 'mark 4294967295'))
                    self.expect(refused, 'permission-denied')
                    self.expect(sent, 'reply')
                    self.expect(big, 'reply')


class LinkDown(WithNet):
    def test_link_goes_down_and_comes_back(self):
        """In the middle of a session: said as it is, and over when it is over."""
        routes = [line for line in self.net.ip('route show').splitlines() if ' via ' in line]
        self.expect(self.client.one(probe(4)), 'reply')
        self.net.ip('link set eth0 down')
        for protocol in PROTOCOLS:
            reply = self.client.one(probe(4, 1, 'protocol', protocol, 'timeout 1'))
            self.assertIn(reply.word, ('no-route', 'network-down'), reply)
        self.net.ip('link set eth0 up')
        for route in routes:
            self.net.ip('route replace ' + route.replace(' linkdown', ''))
        for _ in range(20):  # the first may still wait for the neighbour
            reply = self.client.one(probe(4, 1, 'timeout 1'))
            if reply.word == 'reply':
                break
        self.expect(reply, 'reply')


class LinkLocal(unittest.TestCase):
    def test_link_local_destination(self):
        """With its scope in the address, and with local-device."""
        with packet_nets.chain(1) as net, net.client() as client:
            shown = net.run('ip', '-n', 'r1', '-br', '-6', 'addr', 'show', 'dev', 'left').stdout
            router = [a.split('/')[0] for a in shown.split() if a.startswith('fe80:')][0]
            for request in ('ip-6 %s%%%s' % (router, net.device),
                            'ip-6 %s local-device %s' % (router, net.device)):
                for protocol in PROTOCOLS[:3]:
                    with self.subTest(request=request, protocol=protocol):
                        reply = client.one('send-probe %s timeout 3 protocol %s' % (
                            request, protocol))
                        self.assertEqual(reply.word, 'reply', reply)
                        self.assertEqual(reply.address.split('%')[0], router)


class DontFragment(WithNet):
    """Not over TCP, whose SYN is as long as the kernel makes it."""

    protocols = 'icmp', 'udp', 'sctp'
    text = '''
hop address 198.18.1.1,2001:db8:1::1 delay 1ms
hop address 198.18.2.1,2001:db8:2::1 delay 1ms mtu 1400
dest 203.0.113.1 on icmp=echo on udp=port-unreachable on tcp=rst on sctp=abort
dest 2001:db8:113::1 on icmp=echo on udp=port-unreachable on tcp=rst on sctp=abort
'''

    def test_router_says_too_big(self):
        for family in FAMILIES:
            for protocol in self.protocols:
                with self.subTest(family=family, protocol=protocol):
                    at_limit, above = self.client.ask(
                        probe(family, 1, 'protocol', protocol, 'dont-fragment 1 size 1400'),
                        probe(family, 1, 'protocol', protocol, 'dont-fragment 1 size 1404'))
                    self.expect(at_limit, 'reply')
                    self.expect(above, 'packet-too-big', HOP[family] % 2)
                    self.assertEqual(above['mtu'], '1400')
                    self.assertEqual(above.names, ['ip-%d' % family, 'round-trip-time', 'mtu'])

    def test_again_and_again(self):
        """What the kernel learns from such an answer changes nothing about the next probe."""
        for family in FAMILIES:
            for protocol in self.protocols * 3:
                with self.subTest(family=family, protocol=protocol):
                    reply = self.client.one(
                        probe(family, 1, 'protocol', protocol, 'dont-fragment 1 size 1500'))
                    self.expect(reply, 'packet-too-big', HOP[family] % 2)

    def test_larger_than_the_local_link(self):
        for family in FAMILIES:
            for protocol in self.protocols:
                with self.subTest(family=family, protocol=protocol):
                    reply = self.client.one(
                        probe(family, 1, 'protocol', protocol, 'dont-fragment 1 size 2000'))
                    self.expect(reply, 'packet-too-big', names=['mtu'])
                    self.assertEqual(reply['mtu'], '1500')

    def test_fragments_pass_without_it(self):
        for family in FAMILIES:
            for protocol in ('icmp', 'udp'):
                with self.subTest(family=family, protocol=protocol):
                    reply = self.client.one(probe(family, 1, 'protocol', protocol, 'size 2000'))
                    self.expect(reply, 'reply')


class Flows(WithNet):
    """Past a router that spreads flows over eight paths by what real routers hash."""

    text = '''
hop address %s
dest 203.0.113.1 on any=silence
dest 2001:db8:113::1 on any=silence
''' % ','.join('198.18.1.%d,2001:db8:1::%d' % (i, i) for i in range(1, 9))
    protocols = 'icmp', 'udp', 'sctp'

    def seen(self, family, protocol, flows, *more):
        replies = self.client.ask(*[probe(
            family, 1, 'protocol', protocol, 'ttl 1', *more,
            *(() if flow is None else ('flow', str(flow)))) for flow in flows])
        self.assertEqual({r.word for r in replies}, {'ttl-expired'})
        return {r.address for r in replies}

    def test_one_flow_takes_one_path(self):
        for family in FAMILIES:
            for protocol in self.protocols:
                with self.subTest(family=family, protocol=protocol):
                    for flow in 0, 5, 4294967295:
                        self.assertEqual(len(self.seen(family, protocol, [flow] * 40)), 1)

    def test_flows_spread(self):
        """40 flows take more than four of the eight paths: the chance of fewer is below 10^-9."""
        for family in FAMILIES:
            for protocol in self.protocols:
                with self.subTest(family=family, protocol=protocol):
                    self.assertGreater(len(self.seen(family, protocol, range(40))), 4)

    def test_size_and_pattern_do_not_matter(self):
        """One probe at a time: over UDP an answer to a probe without a nonce is credited only if no
        other probe is open on the same ports."""
        for family in FAMILIES:
            for protocol in self.protocols:
                with self.subTest(family=family, protocol=protocol):
                    paths = set()
                    for more in 'size 0', 'size 64', 'size 1000', 'bit-pattern 77', 'tos 8':
                        for _ in range(5):
                            paths |= self.seen(family, protocol, [9], more)
                    self.assertEqual(len(paths), 1)


class OddAnswers(unittest.TestCase):
    """Answers of routers that quote little or much, with IP options or extension headers, with old
    and new places for the extension structure."""

    def test_quotes_and_headers(self):
        kinds = ('quote 8', 'quote 28', 'quote 128', 'quote all', 'ip-options 4', 'ip-options 40',
                 'ip6-headers hop-by-hop', 'ip6-headers hop-by-hop,destination', 'ttl 30',
                 'tos 9', 'mpls 5:1:1:9 rfc4884 compat', 'mpls 5:1:1:9 rfc4884 length',
                 'mpls 5:1:1:9 quote all', 'duplicate 3', 'ip-options 8 mpls 5:1:1:9 quote 200')
        text = '\n'.join('hop address 198.18.%d.1,2001:db8:%x::1 delay 100us %s' % (i, i, kind)
                         for i, kind in enumerate(kinds, 1))
        text += '\ndest 203.0.113.1 on any=silence\ndest 2001:db8:113::1 on any=silence\n'
        with packet_nets.simnet(text) as net, net.client() as client:
            for family, protocol, size in itertools.product(FAMILIES, PROTOCOLS, (64, 1200)):
                # At most 16 at once, the number of source ports: a quote of eight bytes shows no
                # more of an SCTP probe.
                replies = client.ask(*[
                    probe(family, 1, 'protocol', protocol, 'ttl', str(ttl), 'size', str(size),
                          'timeout 2') for ttl in range(1, len(kinds) + 1)])
                for ttl, (kind, reply) in enumerate(zip(kinds, replies), 1):
                    with self.subTest(kind=kind, family=family, protocol=protocol, size=size):
                        self.assertEqual(reply.word, 'ttl-expired', reply)
                        self.assertEqual(reply.address, ('198.18.%d.1' if family == 4 else
                                                         '2001:db8:%x::1') % ttl)
                        self.assertEqual(reply.get('mpls'), '5,1,1,9' if 'mpls' in kind else None)


if __name__ == '__main__':
    lab.enter()
    tap.main()
