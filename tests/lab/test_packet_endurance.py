#!/usr/bin/env python3
"""mtr-packet under clients that misbehave and a broker that dies: every request keeps its one reply,
memory stays bounded, and the end comes when it should.

time-limit: 90
"""
import asyncio
import collections
import os
import signal
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import lab  # noqa: E402
import packet_nets  # noqa: E402
import processes  # noqa: E402
import tap  # noqa: E402
from packet_client import MTR_PACKET  # noqa: E402

NET = '''
hop address 198.18.1.1,2001:db8:1::1 delay 1ms
dest 203.0.113.1 on icmp=echo
dest 203.0.113.2 on any=silence
dest 203.0.113.3 delay 100ms on icmp=echo
dest 203.0.113.4 on udp:53=port-unreachable on udp=data:40 on tcp=syn-ack on sctp=init-ack
dest 2001:db8:113::1 on icmp=echo
dest 2001:db8:113::4 on udp:53=port-unreachable on udp=data:40 on tcp=syn-ack on sctp=init-ack
'''
ECHO = 'send-probe ip-4 203.0.113.1'
SILENT = 'send-probe ip-4 203.0.113.2'
# For a busy machine; what is expected without it stands in the tests.
SLACK_S = 1.5
# Resident, of both programs together; a sanitizer needs more.
MEMORY_KB = 32 * 1024


class WithNet(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.net = packet_nets.simnet(NET)

    @classmethod
    def tearDownClass(cls):
        cls.net.close()


class BrokerDies(WithNet):
    PROBES = 1000

    def test_with_1000_probes_open(self):
        """Each token is answered once within a second, later requests too. UDP and TCP go on. One
        line on stderr says why."""
        with self.net.client() as client:
            self.assertEqual(client.one(ECHO).word, 'reply')
            client.write(''.join('%d %s timeout 60\n' % (i, SILENT)
                                 for i in range(1000, 1000 + self.PROBES)))
            client.one('check-support feature icmp')  # all lines before it have been read
            time.sleep(0.3)
            before = len(client.replies)
            broker = processes.broker_of(client.process.pid)
            killed = time.monotonic()
            os.kill(broker, signal.SIGKILL)
            replies = client.wait_for(before + self.PROBES, 10)[before:]
            took = max(r.when for r in replies) - killed
            tap.note('%d answers, the last after %.0f ms' % (len(replies), took * 1e3))
            self.assertEqual(sorted(r.token for r in replies),
                             list(range(1000, 1000 + self.PROBES)))
            for reply in replies:
                self.assertRegex(reply.line, r'^\d+ unexpected-error errno [1-9]\d*\n$')
            self.assertLess(took, 1 + SLACK_S)
            for reply in client.ask(ECHO, SILENT, ECHO + ' protocol sctp', within=5):
                self.assertRegex(reply.line, r'^\d+ unexpected-error errno [1-9]\d*\n$')
            for reply in client.ask(ECHO + ' protocol udp', ECHO + ' protocol tcp', within=5):
                self.assertEqual(reply.word, 'reply', reply)
            self.assertEqual(client.one('fly', within=5).word, 'unknown-command')
            self.assertEqual([client.supports(p) for p in ('icmp', 'udp', 'tcp', 'sctp')],
                             ['no', 'ok', 'ok', 'no'])
            self.assertEqual(client.close(5), 0)
            self.assertEqual(len(client.errors), 1, client.errors)

    def test_before_the_first_probe(self):
        with self.net.client() as client:
            client.one('check-support feature icmp')
            os.kill(processes.broker_of(client.process.pid), signal.SIGKILL)
            time.sleep(0.1)
            self.assertEqual(client.one(ECHO, within=5).word, 'unexpected-error')
            self.assertEqual(client.close(5), 0)
            self.assertEqual(len(client.errors), 1, client.errors)

    def test_broker_stopped_then_continued(self):
        """A broker that is stopped delays replies, and loses none."""
        with self.net.client() as client:
            self.assertEqual(client.one(ECHO).word, 'reply')
            broker = processes.broker_of(client.process.pid)
            os.kill(broker, signal.SIGSTOP)
            client.write(''.join('%d %s timeout 30\n' % (i, ECHO) for i in range(5000, 8000)))
            time.sleep(0.5)
            os.kill(broker, signal.SIGCONT)
            replies = client.wait_for(3001, 10)
            self.assertEqual(collections.Counter(r.word for r in replies), {'reply': 3001})


class Clients(WithNet):
    def test_one_that_does_not_read(self):
        """200,000 lines into a client that reads nothing: memory bounded. Then it reads, and has
        every reply once."""
        lines = 200000
        with self.net.client(read=False) as client:
            writer = threading.Thread(target=client.write, args=(
                ''.join('%d check-support feature icmp\n' % i for i in range(lines)),))
            writer.start()
            time.sleep(1)
            used = processes.resident_kb(client.process.pid)
            self.assertTrue(writer.is_alive(), 'read on and kept 7 MB of replies')
            client.read_now()
            writer.join(20)
            replies = client.wait_for(lines, 20)
            self.assertEqual([r.token for r in replies], list(range(lines)))
            tap.note('resident while the client did not read: %d kB' % used)
            if not processes.sanitized(MTR_PACKET):
                self.assertLess(used, MEMORY_KB)

    def test_full_stdout_does_not_change_times(self):
        """Probes sent while replies cannot be written: their round-trip time is the wire's."""
        with self.net.client(read=False) as client:
            # more replies than the pipe takes, then probes that are on their way meanwhile
            text = ''.join('%d %s\n' % (i, ECHO) for i in range(2000))
            writer = threading.Thread(target=client.write, args=(text,))
            writer.start()
            time.sleep(1.5)
            client.read_now()
            writer.join(20)
            replies = client.wait_for(2000, 20)
            self.assertEqual(collections.Counter(r.word for r in replies), {'reply': 2000})
            worst = max(r.ms for r in replies)
            tap.note('worst round-trip time: %.1f ms' % worst)
            self.assertLess(worst, 1000)

    def test_one_that_closes_stdout(self):
        client = self.net.client(read=False)
        client.write('1 %s\n' % ECHO)
        client.process.stdout.readline()
        client.process.stdout.close()
        client.write(''.join('%d %s\n' % (i, ECHO) for i in range(100)))
        status = client.process.wait(5)
        client.threads[0].join(5)
        self.assertGreaterEqual(status, 0, 'killed by a signal')
        self.assertEqual(client.errors, [])
        client.process.stderr.close()

    def test_end_of_input_waits_for_open_probes(self):
        client = self.net.client()
        started = time.monotonic()
        client.write('1 send-probe ip-4 203.0.113.3 timeout 5\n2 %s timeout 0.7\n3 %s\n'
                     '4 check-support feature icmp' % (SILENT, ECHO))
        status = client.close()
        took = time.monotonic() - started
        words = {r.token: r.word for r in client.replies}
        self.assertEqual(status, 0)
        self.assertTrue(0.7 <= took < 0.7 + SLACK_S, took)
        words.pop(4, None)  # a last line without its newline may count or not
        self.assertEqual(words, {1: 'reply', 2: 'no-reply', 3: 'reply'})
        self.assertEqual(client.errors, [])

    def test_end_of_input_at_once(self):
        for text in '', '1 fly\n':
            client = self.net.client()
            client.write(text)
            self.assertEqual(client.close(3), 0)
            self.assertEqual(len(client.replies), bool(text))

    def test_signals_end_it_at_once(self):
        for number in signal.SIGTERM, signal.SIGINT:
            with self.net.client() as client:
                client.write('1 %s timeout 30\n' % SILENT)
                client.one('check-support feature icmp')
                broker = processes.broker_of(client.process.pid)
                client.process.send_signal(number)
                client.process.wait(SLACK_S)
                self.assertTrue(processes.gone_within(broker, SLACK_S))
                self.assertEqual(client.errors, [])

    def test_asynchronous_client(self):
        """As Python's mtrpacket does it: many coroutines, one process, tokens tell them apart."""
        results = asyncio.run(self.asynchronous())
        self.assertEqual(collections.Counter(results), {
            ('reply', '203.0.113.1'): 100, ('reply', '2001:db8:113::1'): 100,
            ('ttl-expired', '198.18.1.1'): 100, ('no-reply', None): 100})

    async def asynchronous(self):
        process = await asyncio.create_subprocess_exec(
            *self.net.prefix, MTR_PACKET, stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE)
        waiting = {}

        async def read():
            while line := await process.stdout.readline():
                token, word, *rest = line.decode().split()
                waiting.pop(int(token)).set_result((word, rest[1] if rest else None))

        async def probe(token, arguments):
            waiting[token] = asyncio.get_running_loop().create_future()
            future = waiting[token]
            process.stdin.write(('%d send-probe %s\n' % (token, arguments)).encode())
            await process.stdin.drain()
            return await future

        reader = asyncio.create_task(read())
        kinds = ('ip-4 203.0.113.1', 'ip-6 2001:db8:113::1', 'ip-4 203.0.113.1 ttl 1',
                 'ip-4 203.0.113.2 timeout 0.5')
        results = await asyncio.wait_for(asyncio.gather(*[
            probe(i, kinds[i % 4]) for i in range(400)]), 20)
        process.stdin.close()
        await process.wait()
        await reader
        return results


class Many(WithNet):
    OPEN = 65536
    TIMEOUT_S = 4

    def test_65536_in_flight_to_a_silent_host(self):
        """Each is answered by no-reply, none before its time, all soon after."""
        with self.net.client() as client:
            self.assertEqual(client.one(ECHO).word, 'reply')
            text = ''.join('%d %s timeout %d\n' % (i, SILENT, self.TIMEOUT_S)
                           for i in range(self.OPEN))
            first = time.monotonic()
            client.write(text)
            last = time.monotonic()
            time.sleep(0.5)
            used = {name: processes.resident_kb(pid) for name, pid in (
                ('front end', client.process.pid),
                ('broker', processes.broker_of(client.process.pid)))}
            replies = client.wait_for(self.OPEN + 1, self.TIMEOUT_S + 20)[1:]
            self.assertEqual(collections.Counter(r.word for r in replies),
                             {'no-reply': self.OPEN})
            self.assertEqual(len({r.token for r in replies}), self.OPEN)
            tap.note('written in %.2f s; answered from %.2f s to %.2f s after that; %r kB' % (
                last - first, min(r.when for r in replies) - last,
                max(r.when for r in replies) - last, used))
            self.assertGreaterEqual(min(r.when for r in replies), first + self.TIMEOUT_S)
            self.assertLess(max(r.when for r in replies), last + self.TIMEOUT_S + 2 * SLACK_S)
            if not processes.sanitized(MTR_PACKET):
                self.assertLess(sum(used.values()), MEMORY_KB)
            self.assertEqual(client.one(ECHO).word, 'reply', 'usable afterwards')

    def test_more_than_fit_wait_their_turn(self):
        """Beyond what may be open at once, requests wait, and get no other reply for it."""
        count = 100000
        with self.net.client() as client:
            text = ''.join('%d %s timeout 1\n' % (i, SILENT) for i in range(count))
            writer = threading.Thread(target=client.write, args=(text,))
            writer.start()
            replies = client.wait_for(count, 40)
            writer.join(5)
            self.assertEqual(collections.Counter(r.word for r in replies), {'no-reply': count})

    def in_rounds(self, request, word, rounds, most=1000):
        """Asks the same many times at once, in several rounds; all must be answered by `word`. The
        broker's receive buffer must be able to hold a round's answers while it does not run (1 kB
        each, and the kernel grants twice net.core.rmem_max)."""
        with open('/proc/sys/net/core/rmem_max', encoding='ascii') as file:
            at_once = min(most, int(file.read()) * 2 // 1024)
        replies = []
        with self.net.client() as client:
            started = time.monotonic()
            for _ in range(rounds):
                replies += client.ask(*[request] * at_once, within=30)
            took = time.monotonic() - started
        tap.note('%s: %d, %.0f a second' % (request, at_once * rounds, at_once * rounds / took))
        self.assertEqual([r for r in replies if r.word != word], [])

    def test_every_probe_is_answered(self):
        self.in_rounds(ECHO, 'reply', 30)

    def test_each_protocol(self):
        """To one host, also to one port, where each probe needs a number of its own."""
        for destination in 'ip-4 203.0.113.4', 'ip-6 2001:db8:113::4':
            for protocol, word in (
                    ('udp', 'reply'), ('udp port 53', 'reply'), ('udp port 54', 'reply'),
                    ('tcp port 443', 'reply'), ('sctp port 80', 'reply'),
                    ('udp local-port 5001', 'reply'), ('udp port 53 flow 4', 'reply'),
                    ('udp port 53 local-port 5001', 'reply'), ('icmp flow 9 ttl 1', 'ttl-expired'),
                    ('udp local-port 5001 ttl 1', 'ttl-expired'), ('tcp ttl 1', 'ttl-expired'),
                    ('icmp dont-fragment 1 ttl 1', 'ttl-expired')):
                with self.subTest(destination=destination, protocol=protocol):
                    self.in_rounds('send-probe %s protocol %s' % (destination, protocol), word, 5)

    def test_10000_udp_probes_at_once(self):
        """Whatever a socket's receive buffer holds: what does not fit waits."""
        for destination in 'ip-4 203.0.113.4', 'ip-6 2001:db8:113::4':
            for more in '', ' ttl 1':
                with self.subTest(destination=destination, more=more), \
                        self.net.client() as client:
                    replies = client.ask(*['send-probe %s protocol udp%s' % (destination, more)]
                                         * 10000, within=30)
                    self.assertEqual({r.word for r in replies},
                                     {'ttl-expired' if more else 'reply'})


if __name__ == '__main__':
    lab.enter()
    tap.main()
