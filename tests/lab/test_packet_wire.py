#!/usr/bin/env python3
"""The packets that mtr-packet's probes are, field by field: a capture is taken apart by wire.py from
the RFCs' layouts, then given to tshark, which must find nothing wrong with it. Each probe goes to an
address of its own, by which its packet is found.

time-limit: 90
"""
import collections
import ipaddress
import itertools
import json
import os
import re
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import lab  # noqa: E402
import packet_nets  # noqa: E402
import tap  # noqa: E402
import wire  # noqa: E402

NET = '''
hop address 198.18.1.1,2001:db8:1::1 silent
dest 203.0.113.201 on icmp=echo on tcp=syn-ack
dest 203.0.113.0/24 on any=silence
dest 2001:db8:114::1 on icmp=echo on tcp=syn-ack
dest 2001:db8:113::/64 on any=silence
'''

SILENT = {4: '203.0.113.%d', 6: '2001:db8:113::%x'}
NUMBERS = {'icmp': {4: wire.ICMP, 6: wire.ICMP6}}
for name, number in ('udp', wire.UDP), ('tcp', wire.TCP), ('sctp', wire.SCTP):
    NUMBERS[name] = {4: number, 6: number}
PROTOCOLS = tuple(NUMBERS)
FAMILIES = 4, 6
HEADERS = {'icmp': 8, 'udp': 8, 'sctp': 12 + 20}
IP_HEADER = {4: 20, 6: 40}
# The SYN of a TCP probe is the kernel's: its size cannot be chosen, and it always has DF.
NOT_TCP = 'icmp', 'udp', 'sctp'
NONCE_BYTES = 8

# What is asked for beside family and protocol, in the protocol's own words.
VARIATIONS = (
    {}, {'ttl': 7}, {'tos': 0xb8}, {'tos': 0xff, 'ttl': 1}, {'size': 0}, {'size': 100},
    {'size': 1400, 'bit-pattern': 170}, {'size': 1500, 'bit-pattern': 255},
    {'size': 101, 'bit-pattern': -1}, {'size': 300, 'bit-pattern': -511}, {'port': 9},
    {'port': 65535}, {'source': 1}, {'source': 2}, {'dont-fragment': 1}, {'local-device': 'eth0'},
    {'mark': 77}, {'size': 200, 'bit-pattern': 7, 'dont-fragment': 1, 'ttl': 255, 'tos': 4},
)


def checked(packets, test):
    """All checksums right; returns those that are probes, by destination."""
    found = collections.defaultdict(list)
    for packet in packets:
        if packet.destination in ipaddress.ip_network('203.0.113.0/24') or \
                packet.destination in ipaddress.ip_network('2001:db8:113::/64'):
            if not packet.fragment:
                test.assertTrue(packet.transport_right(), packet)
            test.assertTrue(packet.header_right, packet)
            found[str(packet.destination)].append(packet)
    return found


def tshark_finds_nothing_wrong(test, net, path, count):
    """Reads what this host sent with every checksum verified. UDP payload is data: what tshark takes
    for DNS or the like would be at fault for random payload."""
    options = ['-d', 'udp.port==1-65535,data']
    for preference in ('ip.check_checksum:TRUE', 'udp.check_checksum:TRUE',
                       'tcp.check_checksum:TRUE', 'sctp.checksum:crc-32c'):
        options += ['-o', preference]
    own = 'eth.src == ' + json.loads(net.ip('-j link show ' + net.device))[0]['address']
    wrong = ('_ws.malformed || ip.checksum.status == "Bad" || udp.checksum.status == "Bad" || '
             'tcp.checksum.status == "Bad" || icmp.checksum.status == "Bad" || '
             'icmpv6.checksum.status == "Bad" || sctp.checksum.status == "Bad" || '
             '_ws.expert.severity == "Error"')
    done = subprocess.run(['tshark', '-n', '-r', path, *options, '-T', 'fields', '-e',
                           'frame.number', '-e', '_ws.col.Protocol', '-e', '_ws.col.Info',
                           '-Y', '(%s) && (%s)' % (own, wrong)],
                          capture_output=True, text=True, check=True)
    test.assertEqual(done.stdout, '')
    done = subprocess.run(['tshark', '-n', '-r', path, *options, '-T', 'fields', '-e',
                           'ip.checksum.status', '-e', 'udp.checksum.status', '-e',
                           'tcp.checksum.status', '-e', 'icmp.checksum.status', '-e',
                           'icmpv6.checksum.status', '-e', 'sctp.checksum.status', '-Y', own],
                          capture_output=True, text=True, check=True)
    verified = sum('Good' in line or '1' in re.findall(r'\d', line)
                   for line in done.stdout.splitlines())
    test.assertGreaterEqual(verified, count)


class OnTheWire(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.net = packet_nets.simnet(NET)
        cls.client = cls.net.client()
        network = cls.net.network
        cls.echoes = {4: '203.0.113.201', 6: '2001:db8:114::1'}
        cls.sources = {  # the kernel's choice, then the two there are
            4: (cls.net.chosen_source(SILENT[4] % 1), network.source4, network.second4),
            6: (cls.net.chosen_source(SILENT[6] % 1), network.source6, network.second6)}

    @classmethod
    def tearDownClass(cls):
        cls.client.close()
        cls.net.close()

    def request(self, family, host, protocol, asked):
        fields = ['send-probe ip-%d' % family, SILENT[family] % host, 'protocol', protocol,
                  'timeout 0.2']
        for name, value in asked.items():
            if name == 'source':
                name = 'local-ip-%d' % family
                value = self.sources[family][value]
            fields += [name, str(value)]
        return ' '.join(fields)

    def send(self, requests, display=''):
        with lab.Capture(filter=display) as capture:
            replies = self.client.ask(*requests)
        for request, reply in zip(requests, replies):
            self.assertEqual(reply.word, 'no-reply', request)
        packets = wire.read_pcap(capture.path)
        return capture, packets, checked(packets, self)

    def check_ip(self, packet, family, protocol, asked):
        self.assertEqual(packet.family, family)
        self.assertEqual(packet.protocol, NUMBERS[protocol][family])
        self.assertEqual(packet.header_bytes, IP_HEADER[family], 'no options')
        self.assertEqual(packet.ttl, asked.get('ttl', 255))
        tos = asked.get('tos', 0)
        self.assertEqual(packet.tos, tos & 0xfc if protocol == 'tcp' else tos)  # ECN is TCP's own
        self.assertEqual(str(packet.source), self.sources[family][asked.get('source', 0)])
        if protocol == 'tcp':
            return
        if family == 4:
            self.assertEqual(packet.dont_fragment, asked.get('dont-fragment', 0) == 1)
        least = IP_HEADER[family] + HEADERS[protocol]
        size = max(asked.get('size', 64), least)
        if protocol == 'sctp':  # chunks end at a multiple of four bytes (RFC 9260, 3.2)
            size = (size + 3) // 4 * 4
        self.assertEqual(packet.size, size)
        self.assertEqual(len(packet.raw), size, 'padding behind the packet')

    def check_payload(self, data, asked):
        """With pattern 0 and with "random" ones the first eight bytes may be a nonce."""
        pattern = asked.get('bit-pattern', 0)
        skip = NONCE_BYTES if pattern <= 0 and len(data) >= NONCE_BYTES else 0
        self.assertEqual(data[skip:], bytes([pattern & 0xff]) * (len(data) - skip))

    def check_transport(self, packet, protocol, asked):
        if protocol == 'icmp':
            self.assertEqual((packet.type, packet.code),
                             {4: (8, 0), 6: (128, 0)}[packet.family])
            self.check_payload(packet.data, asked)
            return
        default = 33434 <= packet.port if protocol == 'udp' else packet.port == 80
        self.assertTrue(packet.port == asked['port'] if 'port' in asked else default, packet.port)
        self.assertGreaterEqual(packet.source_port, 1024)
        if protocol == 'udp':
            self.assertEqual(packet.length, len(packet.payload))
            self.check_payload(packet.data, asked)
        elif protocol == 'tcp':
            self.assertEqual(packet.flags, 0x02, 'SYN and nothing else')
        else:
            self.check_init(packet, bytes([asked.get('bit-pattern', 0) & 0xff]))

    def check_init(self, packet, filler):
        """RFC 9260, 3.3.2: a verification tag of 0, one INIT chunk that fills the packet."""
        self.assertEqual(packet.tag, 0)
        chunk = packet.data
        self.assertEqual(chunk[:2], b'\x01\x00')
        length = int.from_bytes(chunk[2:4], 'big')
        self.assertTrue(length >= 20 and (length + 3) // 4 * 4 == len(chunk), length)
        self.assertNotEqual(chunk[4:8], bytes(4), 'initiate tag')
        self.assertGreaterEqual(int.from_bytes(chunk[8:12], 'big'), 1500, 'receiver window')
        self.assertNotEqual(chunk[12:14], bytes(2), 'streams')
        self.assertNotEqual(chunk[14:16], bytes(2), 'streams')
        rest = chunk[20:]
        while rest:  # parameters, RFC 9260, 3.2.1
            length = int.from_bytes(rest[2:4], 'big')
            self.assertTrue(4 <= length <= len(rest), rest)
            if rest[:2] == b'\x80\x05':  # padding, RFC 4820
                self.assertEqual(rest[4:length], filler * (length - 4))
            rest = rest[(length + 3) // 4 * 4:]

    def test_every_field(self):
        cases = [(f, p, v) for f in FAMILIES for p in PROTOCOLS for v in VARIATIONS]
        hosts = {f: itertools.count(1) for f in FAMILIES}
        cases = [(next(hosts[f]), f, p, v) for f, p, v in cases]
        capture, _, found = self.send([self.request(f, host, p, v) for host, f, p, v in cases])
        for host, family, protocol, asked in cases:
            with self.subTest(family=family, protocol=protocol, **asked):
                packets = found[SILENT[family] % host]
                self.assertEqual(len(packets), 1, 'one probe, one packet')
                self.check_ip(packets[0], family, protocol, asked)
                self.check_transport(packets[0], protocol, asked)
        tshark_finds_nothing_wrong(self, self.net, capture.path, len(cases))

    def test_nothing_else_leaves(self):
        """Beside probes only neighbour discovery and ARP."""
        _, packets, _ = self.send([self.request(f, 1, p, {}) for f in FAMILIES
                                   for p in PROTOCOLS])
        own = self.sources[4] + self.sources[6]
        sent = [p for p in packets if str(p.source) in own and
                not (p.protocol == wire.ICMP6 and p.type in range(133, 138))]
        self.assertEqual(len(sent), 8, sent)

    def test_local_port(self):
        ports = {1: 1024, 2: 5001, 3: 65535}
        for family in FAMILIES:
            _, _, found = self.send([self.request(family, host, 'udp', {'local-port': port})
                                     for host, port in ports.items()])
            for host, port in ports.items():
                self.assertEqual([p.source_port for p in found[SILENT[family] % host]], [port])

    def captured_us(self, packets):
        """The times between a probe and its answer. Probes go one at a time, so that the answer is
        the first packet from there: an echo reply, a port unreachable, a SYN/ACK."""
        times, left = [], None
        for packet in packets:
            if packet.type in (8, 128) or packet.protocol == wire.UDP or \
                    packet.protocol == wire.TCP and packet.flags == 2:
                left = packet.when
            elif left is not None and packet.type not in range(133, 138):
                times.append((packet.when - left) * 1e6)
                left = None
        return times

    def test_times(self):
        """The round-trip time that is reported is that of the capture, whatever else the machine
        does meanwhile."""
        for protocol, limit_us in ('icmp', 20), ('udp', 20), ('tcp', 50):
            for family in FAMILIES:
                with lab.Capture() as capture:
                    replies = [self.client.one('send-probe ip-%d %s protocol %s' % (
                        family, self.echoes[family], protocol)) for _ in range(50)]
                self.assertEqual({r.word for r in replies}, {'reply'})
                captured = self.captured_us(wire.read_pcap(capture.path))
                self.assertEqual(len(captured), len(replies))
                more = sorted(int(r['round-trip-time']) - us
                              for r, us in zip(replies, captured))
                tap.note('%s, IPv%d, reported minus captured: median %.0f us, least %.0f us, most '
                         '%.0f us' % (protocol, family, more[len(more) // 2], more[0], more[-1]))
                with self.subTest(protocol=protocol, family=family):
                    self.assertLess(abs(more[len(more) // 2]), limit_us)

    def test_fragments(self):
        """A packet larger than the link leaves in fragments that make up the size asked for."""
        for family, protocol in itertools.product(FAMILIES, ('icmp', 'udp')):
            with self.subTest(family=family, protocol=protocol):
                _, _, found = self.send([self.request(family, 9, protocol, {
                    'size': 5000, 'bit-pattern': 90})])
                packets = found[SILENT[family] % 9]
                self.assertGreater(len(packets), 3)
                head = {4: 0, 6: 8}[family]
                whole = b''.join(p.payload[head:] for p in packets)
                self.assertEqual(len(whole) + IP_HEADER[family], 5000)
                self.assertEqual(whole[8:], bytes([90]) * len(whole[8:]))

    def test_numbers_differ(self):
        """Of probes in flight at once, also to one destination and port; and between clients."""
        for family in FAMILIES:
            with self.net.client() as other:
                with lab.Capture() as capture:
                    for client in self.client, other:
                        client.ask(*[self.request(family, 1, p, {'port': 80})
                                     for p in PROTOCOLS] * 20)
                packets = checked(wire.read_pcap(capture.path), self)[SILENT[family] % 1]
            self.assertEqual(len(packets), 160)
            echo = [p for p in packets if p.type is not None]
            self.assertEqual(len({(p.identifier, p.sequence) for p in echo}), 40)
            self.assertFalse({p.identifier for p in echo[:20]} & {p.identifier for p in echo[20:]},
                             'two clients, one identifier')
            udp = [p for p in packets if p.protocol == wire.UDP]
            syn = [p for p in packets if p.protocol == wire.TCP]
            self.assertEqual(len({p.source_port for p in udp}), 40)
            self.assertEqual(len({p.source_port for p in syn}), 40)
            init = [p for p in packets if p.protocol == wire.SCTP]
            self.assertEqual(len({(p.source_port, p.data[4:8]) for p in init}), 40)

    def test_numbers_cannot_be_predicted(self):
        """Neither numbers nor nonces count up, or repeat, or share a difference."""
        for family in FAMILIES:
            _, _, found = self.send([self.request(family, 1, p, {}) for p in NOT_TCP] * 40)
            packets = found[SILENT[family] % 1]
            by_field = {
                'sequence': [p.sequence for p in packets if p.type is not None],
                'nonce of echo': [int.from_bytes(p.data[:NONCE_BYTES], 'big') for p in packets
                                  if p.type is not None],
                'nonce of UDP': [int.from_bytes(p.data[:NONCE_BYTES], 'big') for p in packets
                                 if p.protocol == wire.UDP],
                'tag': [int.from_bytes(p.data[4:8], 'big') for p in packets
                        if p.protocol == wire.SCTP]}
            for field, values in by_field.items():
                with self.subTest(family=family, field=field):
                    self.assertEqual(len(values), 40)
                    steps = collections.Counter(b - a for a, b in zip(values, values[1:]))
                    self.assertLess(max(steps.values()), 4, steps)

    def flows(self, flows, ports=(443,)):
        """Sends 20 probes with several TTLs in each of the flows, of every family and protocol;
        returns for each of these what routers hash: the first four transport bytes (ports, or
        ICMP type, code and checksum) and the IPv6 flow label."""
        requests = [self.request(family, flow, protocol, {
            'flow': flow, 'ttl': ttl, 'size': 80, **({} if protocol == 'icmp' else {'port': port})})
            for ttl in range(1, 21) for flow in flows for port in ports for family in FAMILIES
            for protocol in NOT_TCP]
        _, _, found = self.send(requests)
        seen = {}
        for flow, family, protocol in itertools.product(flows, FAMILIES, NOT_TCP):
            mine = [p for p in found[SILENT[family] % flow]
                    if p.protocol == NUMBERS[protocol][family]]
            self.assertEqual(len(mine), 20 * len(ports), (flow, family, protocol))
            if protocol == 'icmp':
                self.assertEqual(len({(p.identifier, p.sequence, p.data) for p in mine}),
                                 len(mine))
            seen[flow, family, protocol] = {(p.payload[:4], p.flow_label) for p in mine}
        return seen

    def test_flows(self):
        """Within a flow nothing that routers hash changes, also not after other probes; between
        flows it does."""
        first = self.flows((1, 2, 3))
        self.flows((4,))
        again = self.flows((1, 2, 3))
        for flow, family, protocol in first:
            with self.subTest(family=family, protocol=protocol, flow=flow):
                seen = first[flow, family, protocol]
                self.assertEqual(len(seen), 1, seen)
                self.assertEqual(again[flow, family, protocol], seen)
                others = [first[other, family, protocol] for other in (1, 2, 3) if other != flow]
                self.assertNotIn(seen, others, 'two flows look alike')

    def test_flow_with_everything(self):
        """A flow changes nothing about the other arguments."""
        cases = [(host, family, protocol, {'flow': 7, 'tos': 0xb9, 'ttl': 200, 'size': 300,
                                           'source': 2})
                 for family in FAMILIES for host, protocol in enumerate(NOT_TCP, 1)]
        _, _, found = self.send([self.request(f, host, p, v) for host, f, p, v in cases])
        for host, family, protocol, asked in cases:
            with self.subTest(family=family, protocol=protocol):
                packets = found[SILENT[family] % host]
                self.assertEqual(len(packets), 1)
                self.check_ip(packets[0], family, protocol, asked)
                if family == 6:
                    self.assertNotEqual(packets[0].flow_label, 0)

    def test_flow_without_port(self):
        """The default port of UDP does not change within a flow."""
        for family in FAMILIES:
            _, _, found = self.send([self.request(family, 1, 'udp', {'flow': 5})] * 20)
            seen = {(p.payload[:4], p.flow_label) for p in found[SILENT[family] % 1]}
            self.assertEqual(len(seen), 1)

    def test_marks_are_on_the_packets(self):
        """A rule sends marked packets out of another device: only the mark of the packet itself
        brings them there."""
        self.net.ip('link add aside type veth peer name aside2')
        self.net.ip('addr add 198.18.50.1/24 dev aside')
        self.net.ip('-6 addr add 2001:db8:50::1/64 dev aside nodad')
        self.net.ip('link set aside up')
        self.net.ip('link set aside2 up')
        address = json.loads(self.net.ip('-j link show aside2'))[0]['address']
        self.net.ip('neigh add 198.18.50.2 lladdr %s dev aside' % address)
        self.net.ip('-6 neigh add 2001:db8:50::2 lladdr %s dev aside' % address)
        for option, gateway in ('-4', '198.18.50.2'), ('-6', '2001:db8:50::2'):
            self.net.ip('%s route add default via %s table 50' % (option, gateway))
            self.net.ip('%s rule add fwmark 50 table 50' % option)
        lab.inside(lab.HOST, lab.real_checksums, 'aside')
        requests = [self.request(f, 3, p, {'mark': mark}) for f in FAMILIES for p in PROTOCOLS
                    for mark in (50, 51)]
        with lab.Capture(device='aside') as capture:
            self.client.ask(*requests)
        packets = checked(wire.read_pcap(capture.path), self)
        for family in FAMILIES:
            self.assertEqual(sorted(p.protocol for p in packets[SILENT[family] % 3]),
                             sorted(NUMBERS[p][family] for p in PROTOCOLS))


if __name__ == '__main__':
    lab.enter()
    tap.main()
