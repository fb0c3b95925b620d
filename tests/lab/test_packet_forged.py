#!/usr/bin/env python3
"""Forged answers: from a host that sees each probe and answers it almost right, and from another user
whose ping uses our identifiers. None of them counts, in either family. The same answers without
their fault do.

time-limit: 60
"""
import os
import socket
import struct
import sys
import threading
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import lab  # noqa: E402
import packet_nets  # noqa: E402
import tap  # noqa: E402
import wire  # noqa: E402

FAMILIES = 4, 6
INIT_ACK, ABORT, T_BIT = 2, 6, 1


def sum_of(probe, protocol, payload):
    """The checksum of a packet back to where the probe came from; its own field is 0."""
    pseudo = b''
    if protocol != wire.ICMP:
        pseudo = pseudo_header(probe, protocol, len(payload))
    return wire.internet_checksum(pseudo + payload)


def pseudo_header(probe, protocol, length):
    addresses = probe.destination.packed + probe.source.packed
    if probe.family == 4:
        return addresses + struct.pack('!BBH', 0, protocol, length)
    return addresses + struct.pack('!IHBB', length, 0, 0, protocol)


def packet(probe, protocol, payload):
    """An IP packet from the probe's destination."""
    if probe.family == 6:
        return struct.pack('!IHBB', 6 << 28, len(payload), protocol, 64) + \
            probe.destination.packed + probe.source.packed + payload
    head = struct.pack('!BBHHHBBH', 0x45, 0, 20 + len(payload), 1, 0, 64, protocol, 0) + \
        probe.destination.packed + probe.source.packed
    return head[:10] + struct.pack('!H', wire.internet_checksum(head)) + head[12:] + payload


def icmp(probe, kind, code, rest):
    protocol = {4: wire.ICMP, 6: wire.ICMP6}[probe.family]
    found = sum_of(probe, protocol, struct.pack('!BBH', kind, code, 0) + rest)
    return packet(probe, protocol, struct.pack('!BBH', kind, code, found) + rest)


def echo(probe, data):
    kind = {4: 0, 6: 129}[probe.family]
    return icmp(probe, kind, 0, struct.pack('!HH', probe.identifier, probe.sequence) + data)


def error(probe, quote):
    """Port unreachable."""
    kind, code = {4: (3, 3), 6: (1, 4)}[probe.family]
    return icmp(probe, kind, code, bytes(4) + quote)


def without_nonce(probe):
    """The probe as quoted by a host that knows its headers only."""
    length = probe.header_bytes + 8
    return probe.raw[:length] + bytes(len(probe.raw) - length)


def datagram(probe, found=None):
    head = struct.pack('!HHHH', probe.port, probe.source_port, 12, 0)
    if found is None:
        found = sum_of(probe, wire.UDP, head + b'data') or 0xffff
    return packet(probe, wire.UDP, head[:6] + struct.pack('!H', found) + b'data')


def pseudo_sum_only(probe):
    """As the kernel hands it to a network card that computes checksums."""
    return datagram(probe, 0xffff ^ wire.internet_checksum(pseudo_header(probe, wire.UDP, 12)))


def sctp(probe, chunk, flags=0, tag=None, crc=None):
    if tag is None:
        tag = probe.data[4:8]  # the initiate tag of the INIT
    body = struct.pack('!BBH', chunk, flags, 20) + struct.pack('!IIHHI', 7, 65535, 1, 1, 7)
    if chunk == ABORT:
        body = struct.pack('!BBH', chunk, flags, 4)
    head = struct.pack('!HH', probe.port, probe.source_port) + tag
    if crc is None:
        crc = wire.crc32c(head + bytes(4) + body)
    return packet(probe, wire.SCTP, head + struct.pack('<I', crc) + body)


# Protocol, what is wrong, what is made of a probe, and whether that is a true answer.
ANSWERS = (
    ('icmp', 'nothing', lambda p: echo(p, p.data), True),
    ('icmp', 'another nonce', lambda p: echo(p, bytes(len(p.data))), False),
    ('icmp', 'no payload', lambda p: echo(p, b''), False),
    ('icmp', 'half of the nonce', lambda p: echo(p, p.data[:4]), False),
    ('icmp', 'one byte of the nonce', lambda p: echo(p, b'\0' + p.data[1:]), False),
    ('icmp', 'error that quotes all', lambda p: error(p, p.raw), True),
    ('icmp', 'error with another nonce', lambda p: error(p, without_nonce(p)), False),
    ('udp', 'nothing', datagram, True),
    ('udp', 'checksum of the pseudo header', pseudo_sum_only, False),
    ('udp', 'wrong checksum', lambda p: datagram(p, 1), False),
    ('udp', 'error that quotes all', lambda p: error(p, p.raw), True),
    ('udp', 'error with another nonce', lambda p: error(p, without_nonce(p)), False),
    ('sctp', 'nothing', lambda p: sctp(p, INIT_ACK), True),
    ('sctp', 'nothing, ABORT', lambda p: sctp(p, ABORT), True),
    ('sctp', 'no CRC', lambda p: sctp(p, INIT_ACK, crc=0), False),
    ('sctp', 'wrong CRC', lambda p: sctp(p, INIT_ACK, crc=1), False),
    ('sctp', 'tag 0', lambda p: sctp(p, INIT_ACK, tag=bytes(4)), False),
    ('sctp', 'another tag', lambda p: sctp(p, INIT_ACK, tag=b'\1\2\3\4'), False),
    ('sctp', 'tag 0, ABORT', lambda p: sctp(p, ABORT, tag=bytes(4)), False),
    ('sctp', 'tag 0, ABORT with T bit', lambda p: sctp(p, ABORT, T_BIT, bytes(4)), False),
)


class Forger:
    """Runs in the destination's place: answers each probe that arrives by `forge(probe)`."""

    def __init__(self, net):
        def open_socket():
            made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            made.bind(('left', 0))
            return made
        self.socket = net.call(open_socket, 'dest')
        self.targets = net.network.destination4, net.network.destination6
        self.forge = None
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                frame = self.socket.recv(2048)
            except OSError:  # the network is gone
                return
            if frame[12:14] not in (b'\x08\x00', b'\x86\xdd'):
                continue
            probe = wire.Packet(frame[14:], 0)
            is_probe = str(probe.destination) in self.targets and (
                probe.type in (8, 128) or probe.protocol in (wire.UDP, wire.SCTP))
            if is_probe and self.forge:
                self.socket.send(frame[6:12] + frame[:6] + frame[12:14] + self.forge(probe))


class Forged(unittest.TestCase):
    protocols = 'icmp', 'udp', 'sctp'

    @classmethod
    def setUpClass(cls):
        if lab.in_user_namespace():
            raise unittest.SkipTest('needs another namespace\'s device')
        cls.net = packet_nets.chain(0)
        network = cls.net.network
        cls.targets = {4: network.destination4, 6: network.destination6}
        # The destination itself says nothing.
        for family, protocol in ('-4', 'icmp'), ('-6', 'ipv6-icmp'):
            lab.run(['ip', family, 'rule', 'add', 'pref', '5', 'iif', 'lo', 'ipproto', protocol,
                     'blackhole'], ns='dest')
        cls.forger = Forger(cls.net)
        cls.client = cls.net.client()

    @classmethod
    def tearDownClass(cls):
        cls.client.close()
        cls.net.close()

    def probe(self, family, protocol):
        return 'send-probe ip-%d %s protocol %s timeout 0.3' % (
            family, self.targets[family], protocol)

    def test_almost_right_answers(self):
        for family in FAMILIES:
            for protocol, fault, forge, is_true in ANSWERS:
                if protocol not in self.protocols:
                    continue
                self.forger.forge = forge
                reply = self.client.one(self.probe(family, protocol))
                with self.subTest(family=family, protocol=protocol, fault=fault):
                    self.assertEqual(reply.word, 'reply' if is_true else 'no-reply', reply)

    def test_nonce_of_an_earlier_probe(self):
        """A host that has seen one probe knows nothing of the next."""
        for family in FAMILIES:
            seen = []

            def forge(probe):
                seen.append(probe.data)
                return echo(probe, seen[0])

            self.forger.forge = forge
            words = [self.client.one(self.probe(family, 'icmp')).word for _ in range(3)]
            with self.subTest(family=family):
                self.assertEqual(words, ['reply', 'no-reply', 'no-reply'])


class Ping(unittest.TestCase):
    def test_another_ping_with_our_identifiers(self):
        """Some of its replies have the sequence number of a probe that is open: without the nonce a
        round-trip time would be shorter than 2 x 150 ms."""
        with packet_nets.wire_host(150) as net, net.client() as client:
            for family, destination in ((4, net.network.destination4),
                                        (6, net.network.destination6)):
                with lab.Capture(filter='icmp or icmp6') as capture:
                    client.ask(*['send-probe ip-%d %s' % (family, destination)] * 200)
                ids = {p.identifier for p in wire.read_pcap(capture.path) if p.type in (8, 128)}
                tap.note('IPv%d: %d identifiers' % (family, len(ids)))
                pings = [lab.popen(['ping', '-e', str(number), '-q', '-i', '0.001', '-w', '9',
                                    destination], stdout=-3, stderr=-3) for number in list(ids)[:4]]
                try:
                    for _ in range(10):
                        replies = client.ask(*['send-probe ip-%d %s' % (family, destination)]
                                             * 500)
                        self.assertEqual({r.word for r in replies}, {'reply'})
                        self.assertGreaterEqual(min(r.ms for r in replies), 290)
                finally:
                    for ping in pings:
                        self.assertIsNone(ping.poll(), 'ping ended early')
                        ping.kill()
                        ping.wait()


if __name__ == '__main__':
    lab.enter()
    tap.main()
