#!/usr/bin/env python3
"""A hostile front end: whatever it sends that common/record.h does not allow ends the broker with one
line; what it asks for that nobody may have is refused; and none of it puts a packet on the wire.

time-limit: 90
"""
import os
import random
import select
import signal
import socket
import struct
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import brokers  # noqa: E402
from brokers import Broker, Wire, cancel, probe  # noqa: E402
import lab  # noqa: E402
import tap  # noqa: E402

MAPPED = bytes(10) + b'\xff\xff' + bytes([127, 0, 0, 1])
BROADCAST = '203.0.113.255'
LOCAL = '203.0.113.1'
OTHER6 = '2001:db8::7'
OTHER_HOST = '198.18.0.2'
SILENT6 = '2001:db8::99'
BESIDE, SILENT = '198.18.0.1', '198.18.0.9'  # this host's on a wire, and one that never answers

# One field each that is out of the rules, in a probe that would otherwise be sent to ourselves.
FORBIDDEN = {
    'family 0': dict(family=0),
    'family 5': dict(family=5),
    'family AF_INET6': dict(family=10),
    'family 255': dict(family=255),
    'protocol 0': dict(protocol=0),
    'protocol ICMPv6 by its own number': dict(protocol=58, family=6, to='::1', source='::1'),
    'protocol IGMP': dict(protocol=2),
    'protocol RAW': dict(protocol=255),
    'ttl 0': dict(ttl=0),
    'an unknown flag': dict(flags=8),
    'all flags': dict(flags=0xffff),
    'a mark without its flag': dict(mark=1),
    'a flow without its flag': dict(flow=1),
    'reserved bytes': dict(reserved=1),
    'a port for ICMP': dict(port=7),
    'no port for TCP': dict(protocol=brokers.TCP),
    'no port for SCTP': dict(protocol=brokers.SCTP),
    'a source port for ICMP': dict(source_port=5000),
    'a source port for TCP': dict(protocol=brokers.TCP, port=80, source_port=5000),
    'a source port of the system': dict(protocol=brokers.UDP, port=9, source_port=53),
    'multicast': dict(to='224.0.0.1'),
    'reserved class E': dict(to='240.0.0.1'),
    'limited broadcast': dict(to='255.255.255.255'),
    'this network': dict(to='0.0.0.0'),
    'IPv6 multicast': dict(family=6, to='ff02::1', source='::1'),
    'IPv6 unspecified': dict(family=6, to='::', source='::1'),
    'IPv4 in IPv6': dict(family=6, to=MAPPED, source='::1'),
    'compatible IPv6': dict(family=6, to='::7f00:1', source='::1'),
    'an IPv4 address with a tail': dict(to=bytes([127, 0, 0, 1]) + b'\1'),
    'an IPv4 source with a tail': dict(source=bytes([127, 0, 0, 1]) + bytes(11) + b'\1'),
    'no source': dict(source='0.0.0.0'),
    'no IPv6 source': dict(family=6, to='::1', source='::'),
    'kind HELLO': dict(kind=1),
    'kind EVENT': dict(kind=4),
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
        hello = broker.hello()
        self.assertTrue(hello, 'no hello')
        return broker

    def tearDown(self):
        if self.broker.channel is not None:
            self.broker.stop()
        self.wire.close()

    def ends(self, broker, *words):
        """With one line, and without anything having been sent."""
        self.assertEqual(broker.receive(), b'')
        status, text = broker.wait()
        self.assertEqual(status, brokers.VIOLATION, text)
        self.assertEqual(text.count('\n'), 1, text)
        self.assertTrue(text.startswith('postern-broker: the front end sent '), text)
        for word in words:
            self.assertIn(word, text)
        self.assertEqual(self.wire.packets(0.01), [])


class Rules(WithBroker):
    def test_nobody_reads_what_it_says(self):
        """A full pipe for stderr: it ends all the same."""
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        while select.select([], [writer], [], 0)[1]:
            os.write(writer, b' ' * 4096)
        os.set_blocking(writer, True)
        broker = Broker(stderr=writer)
        self.assertIsNotNone(broker.hello())
        broker.send(b'nonsense')
        self.assertEqual(broker.wait()[0], brokers.VIOLATION)
        os.close(reader)
        os.close(writer)

    def test_what_is_allowed_is_sent(self):
        """Without this, the other tests would prove nothing."""
        self.broker.send(probe(cookie=0x12345))
        event, = self.broker.events()
        self.assertEqual((event.what, event.cookie, event.responder[:4]),
                         (brokers.REPLY, 0x12345, bytes([127, 0, 0, 1])))
        self.assertGreaterEqual(len(self.wire.packets()), 2)

    def test_forbidden_fields(self):
        for name, fields in FORBIDDEN.items():
            with self.subTest(field=name):
                broker = self.start()
                broker.send(probe(**fields))
                self.ends(broker)

    def test_one_bad_record_among_good_ones(self):
        """All of a message is looked at before any of it is sent."""
        for place in (0, 31, brokers.BATCH - 1):
            records = [probe(cookie=i) for i in range(brokers.BATCH)]
            records[place] = probe(cookie=place, to='224.0.0.1')
            with self.subTest(place=place):
                broker = self.start()
                broker.send(b''.join(records))
                self.ends(broker)

    def test_lengths(self):
        good = probe()
        for name, message in {
                'one byte': b'\2', 'a byte short': good[:-1], 'a byte long': good + b'\0',
                'one and a half': good + probe(cookie=1)[:32],
                'a record too many': b''.join(probe(cookie=i) for i in range(brokers.BATCH + 1)),
                'far too long': bytes([2]) * 60000, 'zeros': bytes(64),
                'half a cancellation': cancel(1)[:4],
                'a cancellation too many': b''.join(cancel(i) for i in range(brokers.BATCH + 1)),
                'two kinds': good + b''.join(cancel(i) for i in range(8)),
                'probes, the last of another kind': good + b'\3' + good[1:],
        }.items():
            with self.subTest(message=name):
                broker = self.start()
                broker.send(message)
                self.ends(broker)

    def test_an_empty_message(self):
        """On SOCK_SEQPACKET it cannot be told from the end, and so it is the end."""
        self.broker.send(b'')
        self.assertEqual(self.broker.wait(), (0, ''))

    def test_cancellations(self):
        self.broker.send(b''.join(cancel(i) for i in range(brokers.BATCH)))
        self.broker.send(probe(cookie=5))
        self.assertEqual([e.cookie for e in self.broker.events()], [5])
        self.broker.send(cancel(5, reserved=b'\0\1\0'))
        self.assertEqual(self.broker.receive(), b'')
        self.assertEqual(self.broker.wait()[0], brokers.VIOLATION)

    def test_a_slot_that_is_in_use(self):
        open_one = probe(cookie=7, to=SILENT, source=BESIDE)
        for name, messages in {
                'two messages': [open_one, probe(cookie=7)],
                'one message': [open_one + open_one],
                'another cookie, the same slot': [open_one, probe(cookie=0x10007)],
        }.items():
            with self.subTest(name=name):
                broker = self.start()
                for message in messages:
                    broker.send(message)
                    if len(messages) == 2:
                        self.assertTrue(self.wire.packets(0.05) or message != open_one)
                self.ends(broker, 'slot')

    def test_a_slot_twice_in_a_message_that_is_served_in_halves(self):
        ask_for_all(self.broker)
        ask_for_all(self.broker)
        self.wire.packets(0.05)
        cookies = list(range(40)) + [0] + list(range(41, 64))
        self.broker.send(b''.join(probe(cookie=i) for i in cookies))
        self.ends(self.broker, 'slot')

    def test_a_slot_that_was_cancelled(self):
        self.broker.send(probe(cookie=7, to=SILENT, source=BESIDE))
        self.broker.send(cancel(7))
        self.broker.send(probe(cookie=0x10007))
        self.assertEqual([e.cookie for e in self.broker.events()], [0x10007])

    def test_descriptors(self):
        """Passed ones are never taken; the message that carries them is the last."""
        for data in (probe(), b'', b'x', cancel(1)):
            broker = self.start()
            before = len(brokers.descriptors_of(broker.process.pid))
            reader, writer = os.pipe()
            with self.subTest(data=data[:1]):
                broker.send(data or b'\0', [writer] * 10)
                os.close(writer)
                self.ends(broker, 'ancillary')
                # The pipe's last writer was in the message: it went with the broker.
                self.assertEqual(os.read(reader, 1), b'')
            os.close(reader)
            self.assertGreater(before, 0)

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
                    broker.send(chance.randbytes(chance.choice([1, 8, 63, 64, 65, 128, 4096])))
            except (BrokenPipeError, ConnectionResetError):
                pass
            status, text = broker.wait()
            self.assertEqual(status, brokers.VIOLATION, text)
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
            self.assertIn(status, (0, brokers.VIOLATION), text)
        for packet in self.wire.packets():
            if packet[0] >> 4 == 4:
                self.assertIn(packet[12:16], (bytes([203, 0, 113, 1]), bytes([127, 0, 0, 1])))
                self.assertLess(packet[16], 224)


class Kernel(WithBroker):
    def test_what_the_kernel_refuses(self):
        for number, (name, fields) in enumerate(IMPOSSIBLE.items()):
            for protocol, port in ((brokers.ICMP, 0), (brokers.UDP, 9), (brokers.TCP, 80),
                                   (brokers.SCTP, 80)):
                with self.subTest(what=name, protocol=protocol):
                    self.wire.packets(0)
                    cookie = number << 8 | protocol
                    self.broker.send(probe(cookie=cookie, protocol=protocol, port=port,
                                           **fields))
                    events = self.broker.events()
                    self.assertEqual([(e.what, e.cookie) for e in events],
                                     [(brokers.FAILED, cookie)], events)
                    self.assertGreater(events[0].error, 0)
                    self.assertEqual(self.wire.packets(0.01), [])

    def ask_from(self, *sources, **fields):
        """One message with an echo request from each source; what became of them, and the packets
        that went to the target."""
        self.wire.packets(0.01)
        self.broker.send(b''.join(probe(cookie=i, source=source, **fields)
                                  for i, source in enumerate(sources)))
        events = self.broker.events(len(sources))
        self.assertEqual(sorted(e.cookie for e in events), list(range(len(sources))))
        asked = {p for p in self.wire.packets(0.05) if p[9] == brokers.ICMP and p[20] == 8}
        return sorted(events, key=lambda e: e.cookie), asked

    def test_a_message_of_echo_requests_from_each_address(self):
        """They leave by a socket that is bound to the address, when there are many of one."""
        for source in ('127.0.0.1', '127.0.0.5', LOCAL, '127.0.0.5'):
            events, asked = self.ask_from(*[source] * 64, tos=4)
            self.assertEqual({e.what for e in events}, {brokers.REPLY})
            self.assertEqual({socket.inet_ntoa(p[12:16]) for p in asked}, {source})
            self.assertEqual({p[6] & 0x40 for p in asked}, {0}, 'may be fragmented')
            self.assertEqual({(p[8], p[1]) for p in asked}, {(64, 4)})
            self.assertEqual(len(asked), 64)

    def test_a_message_of_echo_requests_from_several_addresses(self):
        sources = ['127.0.0.5'] * 20 + ['127.0.0.6', '127.0.0.5', '127.0.0.7'] * 10
        events, asked = self.ask_from(*sources)
        self.assertEqual({e.what for e in events}, {brokers.REPLY})
        self.assertEqual(sorted(socket.inet_ntoa(p[12:16]) for p in asked), sorted(sources))
        events, asked = self.ask_from(*['127.0.0.5'] * 64, flags=brokers.DONT_FRAGMENT)
        self.assertEqual({p[6] & 0x40 for p in asked}, {0x40})

    def test_echo_requests_beside_others(self):
        """Only what is like the first leaves by the bound socket."""
        others = [dict(protocol=brokers.UDP, port=9), dict(flags=brokers.DONT_FRAGMENT),
                  dict(family=6, to='::1', source='::1'), dict(ifindex=9999), {}] * 8
        self.wire.packets(0.01)
        self.broker.send(b''.join(probe(cookie=i, **fields)
                                  for i, fields in enumerate([{}] * 20 + others)))
        events = {e.cookie: e.what for e in self.broker.events(60)}
        self.assertEqual([events[i] for i in range(60)],
                         [brokers.REPLY] * 20 + [brokers.ICMP_ERROR, brokers.REPLY, brokers.REPLY,
                                                 brokers.FAILED, brokers.REPLY] * 8)
        packets = set(self.wire.packets(0.05))
        asked = [p for p in packets if p[0] == 0x45 and p[9] == brokers.ICMP and p[20] == 8]
        self.assertEqual([p[6] & 0x40 for p in asked].count(0x40), 8)
        self.assertEqual(len(asked), 36)
        self.assertEqual(len([p for p in packets if p[0] == 0x45 and p[9] == brokers.UDP]), 8)

    def test_a_message_of_echo_requests_from_elsewhere(self):
        """The kernel refuses them one by one, and again when it has known the address before."""
        for source in ('127.0.0.5', OTHER_HOST, '127.0.0.5', OTHER_HOST, '224.0.0.1',
                       '255.255.255.255'):
            events, asked = self.ask_from(*[source] * 64)
            local = source == '127.0.0.5'
            self.assertEqual({e.what for e in events},
                             {brokers.REPLY if local else brokers.FAILED})
            self.assertEqual({socket.inet_ntoa(p[12:16]) for p in asked},
                             {source} if local else set())

    def test_a_message_of_echo_requests_from_an_address_that_went(self):
        fields = dict(to=LOCAL)
        address = '203.0.113.77'
        for _ in range(2):
            subprocess.run(['ip', 'addr', 'add', address, 'dev', 'lo'], check=True)
            events, asked = self.ask_from(*[address] * 64, **fields)
            self.assertEqual({e.what for e in events}, {brokers.REPLY})
            subprocess.run(['ip', 'addr', 'del', address + '/32', 'dev', 'lo'], check=True)
            events, asked = self.ask_from(*[address] * 64, **fields)
            self.assertEqual({e.what for e in events}, {brokers.FAILED})
            self.assertEqual(asked, set())

    def test_a_chosen_port_that_another_has(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(('127.0.0.1', 0))
            port = other.getsockname()[1]
            self.broker.send(probe(protocol=brokers.UDP, port=9, source_port=port))
            event, = self.broker.events()
            self.assertEqual(event.what, brokers.FAILED)
            self.assertEqual(self.wire.packets(), [])

    def test_a_datagram_to_another_of_our_addresses(self):
        """Even at a chosen port an answer comes to the address that the probe was sent from."""
        for family, to, source, other in ((4, '127.0.0.9', '127.0.0.2', '127.0.0.3'),
                                          (6, '::1', '::1', OTHER6)):
            domain = socket.AF_INET if family == 4 else socket.AF_INET6
            port = 20000 + family
            with self.subTest(family=family), \
                    socket.socket(domain, socket.SOCK_DGRAM) as target:
                target.bind((to, 7777))
                target.settimeout(5)
                self.broker.send(probe(family=family, cookie=family, protocol=brokers.UDP,
                                       port=7777, source_port=port, to=to, source=source))
                self.assertEqual(target.recvfrom(100)[1][:2], (source, port))
                target.sendto(b'not this', (other, port))
                self.assertEqual(self.broker.events(1, timeout=0.2), [])
                target.sendto(b'this', (source, port))
                event, = self.broker.events()
                self.assertEqual((event.what, event.cookie), (brokers.REPLY, family))

    def test_more_chosen_ports_than_there_are_sockets(self):
        for cookie in range(100):
            self.broker.send(probe(cookie=cookie, protocol=brokers.UDP, port=9,
                                   source_port=20000 + cookie))
        events = self.broker.events(100)
        self.assertEqual(len(events), 100)
        sent = [e for e in events if e.what in (brokers.REPLY, brokers.ICMP_ERROR)]
        self.assertGreaterEqual(len(sent), 8)
        self.assertLess(len(sent), 100)
        self.assertIsNone(self.broker.process.poll())


def hearing():
    """The raw sockets of this namespace that hear packets to any address: (family, protocol)."""
    found = set()
    for family, path in ((4, '/proc/net/raw'), (6, '/proc/net/raw6')):
        with open(path, encoding='ascii') as file:
            for line in file.readlines()[1:]:
                address, port = line.split()[1].split(':')
                if not int(address, 16):
                    found.add((family, int(port, 16)))
    return found


class Ears(WithBroker):
    """What a broker does not wait for, the kernel does not even copy for it."""

    def expect(self, *wanted):
        deadline = time.monotonic() + 5
        while hearing() != set(wanted) and time.monotonic() < deadline:
            time.sleep(0.005)
        self.assertEqual(hearing(), set(wanted))

    def test_none_while_nothing_is_open(self):
        self.expect()
        for i, (family, protocol) in enumerate((f, p) for f in (4, 6) for p in (1, 17, 6)):
            to = '127.0.0.1' if family == 4 else '::1'
            self.broker.send(probe(cookie=i, family=family, protocol=protocol, to=to, source=to,
                                   port=0 if protocol == 1 else 9))
            event, = self.broker.events()
            self.assertIn(event.what, (brokers.REPLY, brokers.ICMP_ERROR))
        self.expect()

    def test_those_that_answers_may_come_to(self):
        fields = dict(to=SILENT, source=BESIDE)
        self.broker.send(probe(cookie=1, protocol=brokers.TCP, port=80, **fields))
        self.expect((4, 1), (4, 6))
        self.broker.send(probe(cookie=2, protocol=brokers.UDP, port=80, **fields) +
                         probe(cookie=3, **fields) +
                         probe(cookie=4, family=6, protocol=brokers.SCTP, port=7, to=SILENT6,
                               source=OTHER6))
        self.expect((4, 1), (4, 6), (4, 17), (6, 58), (6, 132))
        for cookie, wanted in ((1, [(4, 1), (4, 17), (6, 58), (6, 132)]),
                               (3, [(4, 1), (4, 17), (6, 58), (6, 132)]),
                               (2, [(6, 58), (6, 132)]), (4, [])):
            self.broker.send(cancel(cookie))
            self.expect(*wanted)

    def test_an_answer_that_comes_later(self):
        """Having been deaf before, and again after."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as target:
            target.bind(('127.0.0.1', 7777))
            target.settimeout(5)
            for cookie in range(3):
                self.broker.send(probe(cookie=cookie, protocol=brokers.UDP, port=7777))
                whom = target.recvfrom(100)[1]
                time.sleep(0.01)
                target.sendto(b'', whom)
                event, = self.broker.events()
                self.assertEqual((event.what, event.cookie), (brokers.REPLY, cookie))
                self.expect()


def ask_for_all(broker):
    """Many probes in a message, and the number of events in each message that answers it."""
    broker.send(b''.join(probe(cookie=i) for i in range(64)))
    lengths = []
    while sum(lengths) < 64:
        message = broker.receive()
        if not message:
            break
        lengths.append(len(message) // 64)
    return lengths


class Peer(WithBroker):
    def test_one_that_waits_for_all_answers(self):
        """It hears of half of the answers while the other probes are being sent. That answers are
        there at once is the kernel's part, and a busy one may be late."""
        self.assertEqual(sum(ask_for_all(self.broker)), 64)
        deadline = time.monotonic() + 10
        lengths = []
        while lengths != [32, 32] and time.monotonic() < deadline:
            lengths = ask_for_all(self.broker)
            self.assertEqual(sum(lengths), 64)
            time.sleep(0.001)
        self.assertEqual(lengths, [32, 32])

    def test_one_in_a_hurry(self):
        """Who sends more before it has heard of the first gets the answers to a message together."""
        ask_for_all(self.broker)
        pid = self.broker.process.pid
        os.kill(pid, signal.SIGSTOP)
        for first in range(0, 512, 64):
            self.broker.send(b''.join(probe(cookie=i) for i in range(first, first + 64)))
        os.kill(pid, signal.SIGCONT)
        lengths = []
        while sum(lengths) < 512:
            message = self.broker.receive()
            self.assertTrue(message, lengths)
            lengths.append(len(message) // 64)
        self.assertGreaterEqual(lengths.count(64), 7, lengths)

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
        """It stops itself: the broker neither grows, nor spins, nor goes on sending for it."""
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
        # It comes to itself: everything that was accepted is answered, once each.
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
                    ['addr', 'add', OTHER6 + '/128', 'dev', 'lo', 'nodad'],
                    ['route', 'add', SILENT6 + '/128', 'dev', 'near'],
                    ['neigh', 'add', SILENT6, 'lladdr', '02:00:00:00:00:09', 'dev', 'near'],
                    ['neigh', 'add', SILENT, 'lladdr', '02:00:00:00:00:09', 'dev', 'near']):
        subprocess.run(['ip', *command], check=True)


if __name__ == '__main__':
    lab.enter()
    addresses()
    tap.main()
