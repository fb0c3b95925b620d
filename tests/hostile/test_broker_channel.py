#!/usr/bin/env python3
"""A hostile front end: what it sends that common/record.h does not allow ends the broker with one line;
what it asks for that nobody may have is refused; and none of it puts a packet on the wire. Forged
answers do not reach a front end.

time-limit: 120
"""
import os
import random
import select
import socket
import struct
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import brokers  # noqa: E402
from brokers import Broker, Wire, probe  # noqa: E402
import lab  # noqa: E402
import tap  # noqa: E402

MAPPED = bytes(10) + b'\xff\xff' + bytes([127, 0, 0, 1])
BROADCAST = '203.0.113.255'
LOCAL = '203.0.113.1'
BESIDE, SILENT = '198.18.0.1', '198.18.0.9'  # this host's on a wire, and one that never answers
NONCE = b'\x8d\x1e\x52\xa7\x33\xf0\x64\x9b'

# One field each that is out of the rules, in a probe that would otherwise be sent to ourselves.
FORBIDDEN = {
    'family 0': dict(family=0),
    'family 5': dict(family=5),
    'family AF_INET6': dict(family=10),
    'family 255': dict(family=255),
    'protocol 0': dict(protocol=0),
    'protocol UDP': dict(protocol=brokers.UDP, port=9),
    'protocol TCP': dict(protocol=brokers.TCP, port=80),
    'protocol ICMPv6 by its own number': dict(protocol=58, family=6, to='::1'),
    'protocol IGMP': dict(protocol=2),
    'protocol RAW': dict(protocol=255),
    'ttl 0': dict(ttl=0),
    'an unknown flag': dict(flags=8),
    'all flags': dict(flags=0xffff),
    'a mark without its flag': dict(mark=1),
    'a nonce without its flag': dict(nonce=NONCE),
    'a flow label of 21 bits': dict(family=6, to='::1', flow_label=1 << 20),
    'a flow label for IPv4': dict(flow_label=1),
    'a probe id that is not held': dict(probe_id=brokers.PROBE_IDS),
    'probe id 255': dict(probe_id=255),
    'reserved bytes': dict(reserved=bytes(6) + b'\1'),
    'a port for ICMP': dict(port=7),
    'a sequence of 17 bits': dict(number=1 << 16),
    'no port for SCTP': dict(protocol=brokers.SCTP),
    'no tag for SCTP': dict(protocol=brokers.SCTP, port=9, number=0),
    'a negative interface': dict(ifindex=1 << 31),
    'multicast': dict(to='224.0.0.1'),
    'reserved class E': dict(to='240.0.0.1'),
    'limited broadcast': dict(to='255.255.255.255'),
    'this network': dict(to='0.0.0.0'),
    'IPv6 multicast': dict(family=6, to='ff02::1'),
    'IPv6 unspecified': dict(family=6, to='::'),
    'IPv4 in IPv6': dict(family=6, to=MAPPED),
    'compatible IPv6': dict(family=6, to='::7f00:1'),
    'an IPv4 address with a tail': dict(to=bytes([127, 0, 0, 1]) + b'\1'),
    'an IPv4 source with a tail': dict(source=bytes([127, 0, 0, 1]) + bytes(11) + b'\1'),
    'kind HELLO': dict(kind=1),
    'kind ANSWER': dict(kind=3),
    'kind 0': dict(kind=0),
    'kind 255': dict(kind=255),
}

# Well-formed, but only the kernel knows that this host or this user may not.
IMPOSSIBLE = {
    'a source that is not ours': dict(source='198.51.100.7'),
    'a multicast source': dict(source='224.0.0.1'),
    'a broadcast source': dict(source='255.255.255.255'),
    'an IPv6 source that is not ours': dict(family=6, to='::1', source='2001:db8:ffff::7'),
    'an IPv6 multicast source': dict(family=6, to='::1', source='ff02::1'),
    'the subnet\'s broadcast address': dict(to=BROADCAST, source=LOCAL),
    'an interface that is not there': dict(ifindex=4711),
    'a destination without a route': dict(to='198.51.100.7', source=LOCAL),
}


class WithBroker(unittest.TestCase):
    def setUp(self):
        self.wire = Wire()
        self.broker = self.start()

    def start(self):
        broker = Broker()
        self.hello = broker.hello()
        self.assertTrue(self.hello, 'no hello')
        return broker

    def tearDown(self):
        if self.broker.channel is not None:
            self.broker.stop()
        self.wire.close()

    def ends(self, broker, *words):
        """With one line, and without anything having been sent."""
        self.assertEqual(broker.receive(), b'')
        status, text = broker.wait()
        self.assertEqual(status, brokers.BAD_REQUEST, text)
        self.assertEqual(text.count('\n'), 1, text)
        self.assertTrue(text.startswith('postern-broker: the front end sent '), text)
        for word in words:
            self.assertIn(word, text)
        self.assertEqual(self.wire.packets(0.01), [])


class Rules(WithBroker):
    def test_stderr_that_is_not_read(self):
        """A full pipe for stderr: it ends all the same."""
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        while select.select([], [writer], [], 0)[1]:
            os.write(writer, b' ' * 4096)
        broker = Broker(stderr=writer)
        self.assertIsNotNone(broker.hello())
        broker.send(b'nonsense')
        self.assertEqual(broker.wait()[0], brokers.BAD_REQUEST)
        os.close(reader)
        os.close(writer)

    def test_what_is_allowed_is_sent(self):
        """Without this, the other tests would prove nothing."""
        for family, to in ((4, '127.0.0.1'), (6, '::1')):
            self.broker.send(probe(cookie=0x12345, family=family, to=to, probe_id=15,
                                   flags=brokers.WITH_NONCE, nonce=NONCE))
            event, = self.broker.events()
            self.assertEqual((event.kind, event.cookie), (brokers.ANSWER, 0x12345))
            self.assertEqual(event.data[4:16],
                             struct.pack('!HH', self.hello.probe_ids[15], 0x2345) + NONCE)
            self.assertGreaterEqual(len(self.wire.packets()), 2)

    def test_forbidden_fields(self):
        for name, fields in FORBIDDEN.items():
            with self.subTest(field=name):
                broker = self.start()
                broker.send(probe(**fields))
                self.ends(broker)

    def test_one_bad_record_among_good_ones(self):
        """What stands before it may be sent; nothing from it on is."""
        for place in (0, 31, brokers.BATCH - 1):
            for bad in (probe(to='224.0.0.1'), probe(kind=3)):
                records = [probe(cookie=i, tos=1) for i in range(place)] + [bad]
                records += [probe(cookie=i, tos=2) for i in range(place + 1, brokers.BATCH)]
                with self.subTest(place=place):
                    broker = self.start()
                    broker.send(b''.join(records))
                    while broker.receive():
                        pass
                    self.assertEqual(broker.wait()[0], brokers.BAD_REQUEST)
                    self.assertEqual({p[1] for p in self.wire.packets(0.01)} - {1}, set())

    def test_lengths(self):
        good = probe()
        for name, message in {
                'one byte': b'\2', 'a byte short': good[:-1], 'a byte long': good + b'\0',
                'one and a half': good + probe(cookie=1)[:40],
                'a record too many': b''.join(probe(cookie=i) for i in range(brokers.BATCH + 1)),
                'far too long': bytes([2]) * 60000, 'zeros': bytes(80),
        }.items():
            with self.subTest(message=name):
                broker = self.start()
                broker.send(message)
                self.ends(broker)

    def test_an_empty_message(self):
        """On SOCK_SEQPACKET it cannot be told from the end, and so it is the end."""
        self.broker.send(b'')
        self.assertEqual(self.broker.wait(), (0, ''))

    def test_a_slot_that_is_in_use(self):
        """The later probe takes it."""
        silent = probe(cookie=7, to=SILENT, source=BESIDE)
        for name, messages in {
                'two messages': [silent, probe(cookie=0x10007)],
                'one message': [silent + probe(cookie=0x10007)],
        }.items():
            with self.subTest(name=name):
                broker = self.start()
                for message in messages:
                    broker.send(message)
                self.assertEqual([e.cookie for e in broker.events()], [0x10007])
                self.assertIsNone(broker.receive(0.1))
                self.assertEqual(broker.stop(), (0, ''))

    def test_descriptors(self):
        """Passed ones are never taken; the message that carries them is the last."""
        for data in (probe(), b'x'):
            broker = self.start()
            reader, writer = os.pipe()
            with self.subTest(data=data[:1]):
                broker.send(data, [writer] * 10)
                os.close(writer)
                self.ends(broker, 'ancillary')
                # The pipe's last writer was in the message: it went with the broker.
                self.assertEqual(os.read(reader, 1), b'')
            os.close(reader)

    def test_credentials(self):
        ours = self.broker.channel
        data = struct.pack('3i', os.getpid(), os.getuid(), os.getgid())
        ours.sendmsg([probe(cookie=3)], [(socket.SOL_SOCKET, 2, data)])
        self.assertEqual([e.cookie for e in self.broker.events()], [3])

    def test_garbage(self):
        """Random messages of random lengths, from a fixed seed."""
        chance = random.Random(20261121)
        for _ in range(60):
            broker = self.start()
            try:
                for _ in range(100):
                    broker.send(chance.randbytes(chance.choice([1, 8, 79, 80, 81, 160, 4096])))
            except (BrokenPipeError, ConnectionResetError):
                pass
            status, text = broker.wait()
            self.assertEqual(status, brokers.BAD_REQUEST, text)
            self.assertEqual(text.count('\n'), 1)
        self.assertEqual(self.wire.packets(), [])

    def test_almost_right_records(self):
        """A valid probe with one random byte: each is sent as asked, refused by the kernel, or ends
        the broker. Never a packet to or from an address that is not this host's."""
        chance = random.Random(4711)
        good = probe(cookie=1, source=LOCAL, to=LOCAL)
        for _ in range(150):
            record = bytearray(good)
            place = chance.randrange(len(record))
            record[place] = chance.randrange(256)
            broker = self.start()
            broker.send(bytes(record))
            broker.events(timeout=0.05)
            status, text = broker.stop()
            self.assertIn(status, (0, brokers.BAD_REQUEST), text)
        for packet in self.wire.packets():
            if packet[0] >> 4 == 4:
                self.assertIn(packet[12:16], (bytes([203, 0, 113, 1]), bytes([127, 0, 0, 1])))
                self.assertLess(packet[16], 224)


class Kernel(WithBroker):
    def test_what_the_kernel_refuses(self):
        for number, (name, fields) in enumerate(IMPOSSIBLE.items()):
            for protocol, port in ((brokers.ICMP, 0), (brokers.SCTP, 80)):
                with self.subTest(what=name, protocol=protocol):
                    self.wire.packets(0)
                    cookie = number << 8 | protocol
                    self.broker.send(probe(cookie=cookie, protocol=protocol, port=port,
                                           **fields))
                    events = self.broker.events()
                    self.assertEqual([(e.kind, e.cookie) for e in events],
                                     [(brokers.FAILURE, cookie)], events)
                    self.assertGreater(events[0].error, 0)
                    self.assertEqual(self.wire.packets(0.01), [])

    def test_the_rest_of_a_message_is_sent(self):
        records = [probe(cookie=i, source='198.51.100.7' if i % 3 == 0 else bytes(16))
                   for i in range(64)]
        self.broker.send(b''.join(records))
        kinds = {e.cookie: e.kind for e in self.broker.events(64)}
        self.assertEqual(kinds, {i: brokers.FAILURE if i % 3 == 0 else brokers.ANSWER
                                 for i in range(64)})

    def test_sources_of_this_host(self):
        for source in ('127.0.0.1', '127.0.0.5', LOCAL):
            self.wire.packets(0.01)
            self.broker.send(probe(source=source, tos=4, flags=brokers.DONT_FRAGMENT))
            event, = self.broker.events()
            self.assertEqual(event.kind, brokers.ANSWER)
            asked = {p for p in self.wire.packets(0.05) if p[9] == brokers.ICMP and p[20] == 8}
            self.assertEqual({(socket.inet_ntoa(p[12:16]), p[1], p[6] & 0x40) for p in asked},
                             {(source, 4, 0x40)})


def receiving(protocol):
    """Whether a raw socket of this namespace receives packets of the protocol to any address."""
    for path in ('/proc/net/raw', '/proc/net/raw6'):
        with open(path, encoding='ascii') as file:
            for line in file.readlines()[1:]:
                address, port = line.split()[1].split(':')
                if not int(address, 16) and int(port, 16) == protocol:
                    return True
    return False


def raw_protocols():
    found = set()
    for path in ('/proc/net/raw', '/proc/net/raw6'):
        with open(path, encoding='ascii') as file:
            found |= {int(line.split()[1].split(':')[1], 16) for line in file.readlines()[1:]}
    return found


class Receivers(WithBroker):
    """What the kernel copies for a broker, and what a broker changes for others."""

    def test_no_raw_socket_of_tcp_or_udp(self):
        self.assertEqual(raw_protocols(), {brokers.ICMP, 58, brokers.SCTP})

    def unreachable(self):
        """The code by which this host refuses SCTP from another address of its own, or None."""
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, brokers.SCTP) as sends, \
                socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as receiver:
            sends.bind(('127.0.0.4', 0))
            receiver.bind(('127.0.0.4', 0))
            receiver.settimeout(0.3)
            sends.sendto(bytes(12), ('127.0.0.6', 0))
            try:
                return receiver.recv(100)[21]
            except TimeoutError:
                return None

    def test_sctp_from_the_first_probe_on(self):
        """Until then the kernel answers others' SCTP as without a broker."""
        before = self.unreachable()
        self.assertEqual(before, 2, 'protocol unreachable')
        self.assertFalse(receiving(brokers.SCTP))
        self.broker.send(probe(protocol=brokers.SCTP, port=9))
        deadline = time.monotonic() + 5
        while not receiving(brokers.SCTP) and time.monotonic() < deadline:
            time.sleep(0.005)
        self.assertTrue(receiving(brokers.SCTP))


class Forged(WithBroker):
    """Echo replies of other programs, at an open probe to a host that never answers."""

    def setUp(self):
        super().setUp()
        self.raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        self.addCleanup(self.raw.close)

    def reply(self, probe_id, sequence, nonce, source=SILENT, to=BESIDE):
        message = struct.pack('!BBHHH', 0, 0, 0, probe_id, sequence) + nonce + bytes(28)
        header = struct.pack('!BBHHHBBH4s4s', 0x45, 0, 20 + len(message), 0, 0, 64, brokers.ICMP,
                             0, socket.inet_aton(source), socket.inet_aton(to))
        self.raw.sendto(header + message, (to, 0))

    def test_each_number_must_agree(self):
        ours, other = self.hello.probe_ids[:2]
        self.broker.send(probe(cookie=7, number=0x4321, to=SILENT, source=BESIDE,
                               flags=brokers.WITH_NONCE, nonce=NONCE))
        time.sleep(0.05)
        self.reply(other, 0x4321, NONCE)
        self.reply(ours, 0x4322, NONCE)
        self.reply(ours, 0x4321, NONCE[:7] + b'\0')
        self.reply(ours, 0x4321, bytes(8))
        self.reply(ours, 0x4321, NONCE, source='198.18.0.7')
        self.reply(ours, 0x4321, NONCE, to=LOCAL)
        self.assertIsNone(self.broker.receive(0.2))
        self.reply(ours, 0x4321, NONCE)
        event, = self.broker.events()
        self.assertEqual((event.cookie, event.data[:2]), (7, b'\0\0'))
        # The probe is closed: the same packet again is no answer.
        self.reply(ours, 0x4321, NONCE)
        self.assertIsNone(self.broker.receive(0.1))


class Peer(WithBroker):
    def test_closed_midway(self):
        """Whether what was asked for is under way, answered or not even read."""
        for count in (0, 1, 64, 4096):
            broker = self.start()
            broker.channel.setblocking(False)
            try:
                for first in range(0, count, 64):
                    last = min(first + 64, count)
                    broker.send(b''.join(probe(cookie=i) for i in range(first, last)))
            except BlockingIOError:
                pass
            started = time.monotonic()
            broker.close()
            self.assertEqual(broker.wait(), (0, ''), count)
            self.assertLess(time.monotonic() - started, 1)

    def test_half_closed(self):
        """A front end that will send no more wants its answers no more, either."""
        self.broker.channel.shutdown(socket.SHUT_WR)
        self.assertEqual(self.broker.wait(), (0, ''))

    def test_one_that_never_reads(self):
        """It stops only itself: the broker does not grow, uses no time, and sends no more for it."""
        channel = self.broker.channel
        channel.setblocking(False)
        memory = brokers.status_of(self.broker.process.pid)['VmRSS']
        sent = 0
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and sent < 65536:
            try:
                channel.send(b''.join(probe(cookie=i) for i in range(sent, sent + 64)))
                sent += 64
            except BlockingIOError:
                time.sleep(0.05)
                if not self.wire.packets(0.2):
                    break
        else:
            self.fail('everything was taken, or it never settled: %d' % sent)
        pid = self.broker.process.pid
        used = self.processor_ticks(pid)
        time.sleep(0.5)
        self.assertLess(self.processor_ticks(pid) - used, 5)
        now = brokers.status_of(pid)['VmRSS']
        self.assertLess(int(now.split()[0]) - int(memory.split()[0]), 16384)
        self.assertEqual(self.wire.packets(), [])
        # It reads again: everything that was accepted is answered, once each.
        events = self.broker.events(sent)
        self.assertEqual(len({e.cookie for e in events}), sent)
        self.assertEqual(self.broker.stop(), (0, ''))

    @staticmethod
    def processor_ticks(pid):
        with open('/proc/%d/stat' % pid, encoding='ascii') as file:
            fields = file.read().rpartition(')')[2].split()
        return int(fields[11]) + int(fields[12])

    def test_one_that_dies(self):
        """The kernel closes the channel; a front end need not say goodbye. 0.2 s is promised; the
        test allows a busy machine more."""
        holder = subprocess.Popen(['sleep', '60'], pass_fds=[self.broker.channel.fileno()])
        self.broker.close()
        self.assertIsNone(self.broker.process.poll())
        started = time.monotonic()
        holder.kill()
        holder.wait()
        self.assertEqual(self.broker.wait(), (0, ''))
        self.assertLess(time.monotonic() - started, 1)


def addresses():
    for command in (['link', 'add', 'near', 'type', 'veth', 'peer', 'name', 'far'],
                    ['link', 'set', 'near', 'addrgenmode', 'none'],
                    ['link', 'set', 'far', 'addrgenmode', 'none'],
                    ['link', 'set', 'near', 'up'], ['link', 'set', 'far', 'up'],
                    ['addr', 'add', BESIDE + '/24', 'dev', 'near'],
                    ['addr', 'add', LOCAL + '/24', 'brd', BROADCAST, 'dev', 'near'],
                    ['neigh', 'add', SILENT, 'lladdr', '02:00:00:00:00:09', 'dev', 'near']):
        subprocess.run(['ip', *command], check=True)


if __name__ == '__main__':
    lab.enter()
    addresses()
    tap.main()
