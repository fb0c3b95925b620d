#!/usr/bin/env python3
"""The broker started by hand with everything wrong that a process can inherit: it either says in one
clear line why it ends, or nothing is different. It never dies of a signal and never sends a packet.

time-limit: 90
"""
import fcntl
import os
import resource
import signal
import socket
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import brokers  # noqa: E402
from brokers import Broker  # noqa: E402
import lab  # noqa: E402
import tap  # noqa: E402


# Datagrams to nobody, and the errors that answer them, in both families.
FLOOD = '''
import socket
four = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
six = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
while True:
    four.sendto(b'', ('127.0.0.1', 9))
    six.sendto(b'', ('::1', 9))
'''


class Start(unittest.TestCase):
    def setUp(self):
        self.wire = brokers.Wire()

    def tearDown(self):
        self.assertEqual(self.wire.packets(), [], 'packets were sent')
        self.wire.close()

    def refuses(self, broker, status, *words):
        """It ends at once, with this status and one line that has these words."""
        got, text = broker.wait()
        self.assertEqual(got, status, text)
        self.assertEqual(text.count('\n'), 1, text)
        self.assertTrue(text.startswith('postern-broker: '), text)
        for word in words:
            self.assertIn(word, text)

    def serves(self, broker):
        """It says hello, stays, and ends with its front end, quietly."""
        hello = broker.hello()
        if not hello:
            self.fail('no hello but %s' % (broker.wait(),))
        self.assertEqual((len(hello), hello[0]), (32, brokers.HELLO))
        self.assertIsNone(broker.process.poll())
        self.assertEqual(broker.stop(), (0, ''))


class Channel(Start):
    def test_no_descriptor_0(self):
        broker = Broker(stdin=subprocess.DEVNULL, preexec_fn=lambda: os.close(0))
        self.refuses(broker, brokers.USAGE, 'descriptor 0')

    def test_dev_null(self):
        self.refuses(Broker(stdin=subprocess.DEVNULL), brokers.USAGE, 'descriptor 0')

    def test_a_pipe(self):
        broker = Broker(stdin=subprocess.PIPE)
        self.refuses(broker, brokers.USAGE, 'descriptor 0')
        broker.process.stdin.close()

    def test_a_file_and_a_directory(self):
        for path in (__file__, '/'):
            handle = os.open(path, os.O_RDONLY)
            self.refuses(Broker(stdin=handle), brokers.USAGE, 'descriptor 0')
            os.close(handle)

    def test_other_kinds_of_socket(self):
        for family, kind in ((socket.AF_UNIX, socket.SOCK_STREAM),
                             (socket.AF_UNIX, socket.SOCK_DGRAM)):
            ours, theirs = socket.socketpair(family, kind)
            with self.subTest(kind=kind), ours, theirs:
                self.refuses(Broker(stdin=theirs), brokers.USAGE, 'SEQPACKET')
        for family, kind in ((socket.AF_INET, socket.SOCK_STREAM),
                             (socket.AF_INET, socket.SOCK_DGRAM),
                             (socket.AF_INET6, socket.SOCK_DGRAM),
                             (socket.AF_NETLINK, socket.SOCK_RAW),
                             (socket.AF_PACKET, socket.SOCK_DGRAM)):
            with self.subTest(family=family, kind=kind), socket.socket(family, kind) as other:
                self.refuses(Broker(stdin=other), brokers.USAGE, 'SEQPACKET')

    def test_a_socket_that_is_not_connected(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as alone:
            status, text = Broker(stdin=alone).wait()
            self.assertIn(status, (0, brokers.USAGE, brokers.SYSTEM), text)

    def test_a_listening_socket(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind('')
            listener.listen()
            status, text = Broker(stdin=listener).wait()
            self.assertIn(status, (0, brokers.USAGE, brokers.SYSTEM), text)

    def test_a_peer_that_is_gone(self):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.close()
        with theirs:
            status, text = Broker(stdin=theirs).wait()
            self.assertEqual(status, 0, text)


class Ports(Start):
    """The 64 ports that nobody else in the namespace may have meanwhile."""
    SETTINGS = '/proc/sys/net/ipv4/'
    FIRST, LAST = 40000, 40299

    def setting(self, path, text):
        """Changes one until the test ends; the test is skipped where it may not."""
        def write(words):
            with open(path, 'w', encoding='ascii') as file:
                file.write(words)

        with open(path, encoding='ascii') as file:
            before = file.read()
        try:
            write(text)
        except PermissionError:
            self.skipTest(path + ' cannot be changed here')
        self.addCleanup(write, before)

    def setUp(self):
        super().setUp()
        self.setting(self.SETTINGS + 'ip_local_port_range', f'{self.FIRST} {self.LAST}')

    def taken(self, kind, family):
        """The ports of the range that somebody has."""
        found = set()
        for port in range(self.FIRST, self.LAST + 1):
            with socket.socket(family, kind) as mine:
                if family == socket.AF_INET6:
                    mine.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                try:
                    mine.bind(('', port))
                except OSError:
                    found.add(port)
        return found

    def expect_held(self):
        broker = Broker()
        self.assertIsNotNone(broker.hello())
        tcp, udp = (self.taken(kind, socket.AF_INET6)
                    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM))
        self.assertEqual((len(tcp), len(udp)), (64, 64))
        self.assertEqual(udp, tcp)
        self.assertEqual(self.taken(socket.SOCK_STREAM, socket.AF_INET), tcp)
        self.assertEqual(self.taken(socket.SOCK_DGRAM, socket.AF_INET), udp)
        self.assertEqual(broker.stop(), (0, ''))
        return sorted(tcp)

    def test_in_both_families(self):
        """In a row, unless the kernel's first choice lies too near the end of the range, as about
        every fifth does."""
        rows = []
        while len(rows) < 4 or not any(row[-1] - row[0] == 63 for row in rows):
            self.assertLess(len(rows), 16, rows)
            rows.append(self.expect_held())

    def test_in_both_families_where_that_is_not_the_default(self):
        self.setting('/proc/sys/net/ipv6/bindv6only', '1')
        self.expect_held()

    def test_reserved_ports_are_left_alone(self):
        self.setting(self.SETTINGS + 'ip_local_reserved_ports', ','.join(
            f'{port}-{port + 9}' for port in range(self.FIRST, self.LAST, 20)))
        for port in self.expect_held():
            self.assertGreaterEqual(port % 20, 10)

    def test_between_ports_of_others(self):
        others = []
        for port in range(self.FIRST, self.LAST, 7):
            kind = (socket.SOCK_STREAM, socket.SOCK_DGRAM)[port % 2]
            others.append(socket.socket(socket.AF_INET, kind))
            others[-1].bind(('', port))
        self.addCleanup(lambda: [other.close() for other in others])
        for _ in range(4):
            broker = Broker()
            self.assertIsNotNone(broker.hello())
            self.assertEqual(broker.stop(), (0, ''))

    def test_at_the_end_of_the_range(self):
        """Rows end there, and others begin elsewhere: none is held outside."""
        self.setting(self.SETTINGS + 'ip_local_port_range', f'{self.FIRST + 100} {self.FIRST + 179}')
        for _ in range(4):
            row = self.expect_held()
            self.assertGreaterEqual(row[0], self.FIRST + 100)
            self.assertLess(row[-1], self.FIRST + 180)


class Descriptors(Start):
    def test_all_three_closed(self):
        broker = Broker(stdin=subprocess.DEVNULL, preexec_fn=lambda: os.closerange(0, 3))
        self.assertEqual(broker.wait(), (brokers.USAGE, ''))

    def test_1_and_2_closed(self):
        for closed in ((1,), (2,), (1, 2)):
            with self.subTest(closed=closed):
                broker = Broker(preexec_fn=lambda c=closed: [os.close(fd) for fd in c])
                self.assertIsNotNone(broker.hello())
                links = brokers.descriptors_of(broker.process.pid)
                for fd in {1, *closed}:
                    self.assertEqual(links[fd], '/dev/null')
                self.assertEqual(broker.stop()[0], 0)

    def test_a_thousand_inherited(self):
        def inherit():
            for number in range(1000):
                fcntl.fcntl(2, fcntl.F_DUPFD, 3 + number)
        broker = Broker(close_fds=False, preexec_fn=inherit)
        self.assertIsNotNone(broker.hello())
        links = brokers.descriptors_of(broker.process.pid)
        self.assertLess(max(links), 300)
        for fd, link in links.items():
            if fd != 2:
                self.assertTrue(link.startswith('socket:') or link == '/dev/null', (fd, link))
        self.assertEqual(broker.stop(), (0, ''))

    def test_hard_limit_of_3(self):
        broker = Broker(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3)))
        self.refuses(broker, brokers.SYSTEM, 'descriptors', 'ulimit')

    def test_soft_limit_of_3(self):
        self.serves(Broker(
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (3, 1024))))

    def test_every_hard_limit_in_between(self):
        """Wherever descriptors run out, the step that needed one says so."""
        for hard in list(range(0, 16)) + list(range(16, 300, 8)):
            with self.subTest(hard=hard):
                broker = Broker(preexec_fn=lambda h=hard: resource.setrlimit(
                    resource.RLIMIT_NOFILE, (h, h)))
                if broker.hello():
                    self.assertEqual(broker.stop(), (0, ''))
                else:
                    self.refuses(broker, brokers.SYSTEM, '(')


class Inherited(Start):
    def test_signals(self):
        def arrange():
            signal.signal(signal.SIGPIPE, signal.SIG_IGN)
            for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
                signal.signal(number, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
        for arranged in arrange, None:
            broker = Broker(preexec_fn=arranged, restore_signals=False)
            self.assertIsNotNone(broker.hello())
            status = brokers.status_of(broker.process.pid)
            passing = [signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM]
            self.assertEqual(int(status['SigBlk'], 16),
                             (1 << 64) - 1 - sum(1 << (number - 1) for number in passing))
            self.assertEqual(int(status['SigCgt'], 16), 0)
            self.assertEqual(int(status['SigIgn'], 16) >> signal.SIGTERM - 1 & 1, 0)
            broker.process.send_signal(signal.SIGTERM)
            self.assertEqual(broker.wait(), (-signal.SIGTERM, ''))

    def test_secure_bits_that_are_locked(self):
        """Others than the broker's own cannot be cleared, and need not be."""
        restrict_file, locked = 1 << 8, 1 << 9
        libc = brokers._libc

        def arrange():
            libc.prctl(28, restrict_file | locked, 0, 0, 0)  # PR_SET_SECUREBITS
        broker = Broker(preexec_fn=arrange)
        self.assertIsNotNone(broker.hello())
        self.serves_still(broker)

    def test_an_interval_timer(self):
        broker = Broker(preexec_fn=lambda: signal.setitimer(signal.ITIMER_REAL, 0.25, 0.01))
        self.assertIsNotNone(broker.hello())
        time.sleep(0.4)
        self.serves_still(broker)

    def test_a_timer_that_is_pending(self):
        def arrange():
            signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
            signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
        self.serves(Broker(preexec_fn=arrange))

    def serves_still(self, broker):
        self.assertIsNone(broker.process.poll())
        self.assertEqual(broker.stop(), (0, ''))

    def test_no_arguments_at_all(self):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        child = subprocess.Popen(
            ['unused'], executable='/bin/true', stdin=theirs,
            preexec_fn=lambda: brokers.execute_without_arguments(brokers.BROKER))
        theirs.close()
        with ours:
            ours.settimeout(10)
            self.assertEqual(len(ours.recv(100)), 32)
        self.assertEqual(child.wait(10), 0)

    def test_arguments_change_nothing(self):
        self.serves(Broker(arguments=['--help', '-v', '%n%n%n', 'x' * 100000]))

    def test_environment_changes_nothing(self):
        nasty = {
            'LD_PRELOAD': '/nonexistent.so', 'LD_LIBRARY_PATH': '/tmp', 'LD_AUDIT': '/x.so',
            'LD_DEBUG': 'all', 'LD_SHOW_AUXV': '1', 'GCONV_PATH': '/tmp', 'LANG': '../../../tmp',
            'LC_ALL': '/', 'LOCPATH': '/tmp', 'NLSPATH': '/tmp/%N', 'MALLOC_TRACE': '/tmp/trace',
            'MALLOC_CHECK_': '3', 'RES_OPTIONS': 'debug', 'TZ': '/etc/shadow', 'IFS': '/',
            'GLIBC_TUNABLES': 'glibc.malloc.check=3:glibc.malloc.perturb=255', 'PATH': '',
            'TMPDIR': '/', 'LISTEN_FDS': '100', 'LISTEN_PID': '1', 'POSIXLY_CORRECT': '1',
            'X' * 1000: 'y' * 50000,
        }
        self.serves(Broker(env=nasty))
        self.serves(Broker(env={}))

    def test_limits(self):
        """What a user may set low: it serves, or ends with a line."""
        for name in ('CORE', 'FSIZE', 'MEMLOCK', 'NPROC', 'MSGQUEUE', 'SIGPENDING', 'NICE',
                     'RTPRIO', 'RTTIME'):
            number = getattr(resource, 'RLIMIT_' + name)
            with self.subTest(limit=name):
                self.serves(Broker(
                    preexec_fn=lambda n=number: resource.setrlimit(n, (0, 0))))

    def test_little_memory(self):
        """Below what the program's own tables need, the kernel ends it before its first
        instruction; above, it serves or says why not."""
        for megabytes in (64, 32):
            with self.subTest(megabytes=megabytes):
                limit = megabytes << 20
                broker = Broker(preexec_fn=lambda n=limit: resource.setrlimit(
                    resource.RLIMIT_DATA, (n, n)))
                if broker.hello():
                    self.assertEqual(broker.stop(), (0, ''))
                    continue
                self.refuses(broker, brokers.SYSTEM)

    def test_a_closed_pipe_as_stderr(self):
        reader, writer = os.pipe()
        os.close(reader)
        broker = Broker(stdin=subprocess.DEVNULL, stderr=writer)
        os.close(writer)
        self.assertEqual(broker.wait(), (brokers.USAGE, ''))

    def test_a_directory_that_is_gone(self):
        directory = lab.scratch('gone')
        os.mkdir(directory)

        def arrange():
            os.chdir(directory)
            os.rmdir(directory)
        self.serves(Broker(preexec_fn=arrange))

    def test_stopped_and_continued(self):
        broker = Broker()
        self.assertIsNotNone(broker.hello())
        for _ in range(3):
            broker.process.send_signal(signal.SIGSTOP)
            time.sleep(0.05)
            broker.process.send_signal(signal.SIGCONT)
            time.sleep(0.05)
        self.serves_still(broker)

    def test_signals_that_do_not_matter(self):
        """What a terminal sends is meant for the front end, which ends the broker by ending."""
        broker = Broker()
        self.assertIsNotNone(broker.hello())
        for number in set(range(1, 65)) - {signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM}:
            os.kill(broker.process.pid, number)
        time.sleep(0.1)
        self.assertNotEqual(brokers.status_of(broker.process.pid)['State'][0], 'T')
        self.serves_still(broker)


class Flooded(unittest.TestCase):
    def test_packets_that_come_before_the_filters(self):
        """None is left for the broker to read, of all that its raw sockets are there for."""
        flood = subprocess.Popen([sys.executable, '-c', FLOOD])
        self.addCleanup(flood.wait)
        self.addCleanup(flood.kill)
        time.sleep(0.2)
        for _ in range(20):
            broker = Broker()
            self.assertIsNotNone(broker.hello())
            for family in '', '6':
                with open('/proc/net/raw' + family, encoding='ascii') as file:
                    lines = [line.split() for line in file][1:]
                self.assertEqual(len(lines), 8 if family else 9)
                for line in lines:
                    self.assertEqual(line[4], '00000000:00000000', line)
            self.assertEqual(broker.stop(), (0, ''))


if __name__ == '__main__':
    lab.enter()
    tap.main()
