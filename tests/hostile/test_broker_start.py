#!/usr/bin/env python3
"""The broker started by hand with everything wrong that a process can inherit: it either says in one
clear line why it ends, or nothing is different. It never dies of a signal and never sends a packet.

time-limit: 90
"""
import fcntl
import os
import resource
import shutil
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


# Datagrams to closed ports, and the errors that answer them, in both families.
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
        self.assertEqual((hello.size, hello.kind, hello.version, hello.slots, hello.batch),
                         (56, brokers.HELLO, 2, 65536, brokers.BATCH))
        self.assertIsNone(broker.process.poll())
        self.assertEqual(broker.stop(), (0, ''))


class Channel(Start):
    def test_no_descriptor_0(self):
        broker = Broker(stdin=subprocess.DEVNULL, preexec_fn=lambda: os.close(0))
        self.refuses(broker, brokers.CHANNEL, 'descriptor 0')

    def test_dev_null(self):
        self.refuses(Broker(stdin=subprocess.DEVNULL), brokers.CHANNEL, 'descriptor 0')

    def test_a_pipe(self):
        broker = Broker(stdin=subprocess.PIPE)
        self.refuses(broker, brokers.CHANNEL, 'descriptor 0')
        broker.process.stdin.close()

    def test_a_file_and_a_directory(self):
        for path in (__file__, '/'):
            handle = os.open(path, os.O_RDONLY)
            self.refuses(Broker(stdin=handle), brokers.CHANNEL, 'descriptor 0')
            os.close(handle)

    def test_other_kinds_of_socket(self):
        for family, kind in ((socket.AF_UNIX, socket.SOCK_STREAM),
                             (socket.AF_UNIX, socket.SOCK_DGRAM)):
            ours, theirs = socket.socketpair(family, kind)
            with self.subTest(kind=kind), ours, theirs:
                self.refuses(Broker(stdin=theirs), brokers.CHANNEL, 'SEQPACKET')
        for family, kind in ((socket.AF_INET, socket.SOCK_STREAM),
                             (socket.AF_INET, socket.SOCK_DGRAM),
                             (socket.AF_INET6, socket.SOCK_DGRAM),
                             (socket.AF_NETLINK, socket.SOCK_RAW),
                             (socket.AF_PACKET, socket.SOCK_DGRAM)):
            with self.subTest(family=family, kind=kind), socket.socket(family, kind) as other:
                self.refuses(Broker(stdin=other), brokers.CHANNEL, 'SEQPACKET')

    def test_a_socket_that_is_not_connected(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as alone:
            self.refuses(Broker(stdin=alone), brokers.CHANNEL, 'connected')

    def test_a_listening_socket(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind('')
            listener.listen()
            self.refuses(Broker(stdin=listener), brokers.CHANNEL, 'connected')

    def test_a_peer_that_is_gone(self):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.close()
        with theirs:
            self.refuses(Broker(stdin=theirs), brokers.CHANNEL, 'hello')


class Ports(Start):
    """The UDP ports that no other broker, user or container of the namespace may have meanwhile."""
    RANGE = '/proc/sys/net/ipv4/ip_local_port_range'

    def test_brokers_share_none(self):
        started = [Broker() for _ in range(8)]
        hellos = [broker.hello() for broker in started]
        ids = [number for hello in hellos for number in hello.probe_ids]
        self.assertEqual(len(set(ids)), 8 * brokers.PROBE_IDS)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            with self.assertRaises(OSError):
                other.bind(('', ids[0]))
        for broker in started:
            self.assertEqual(broker.stop(), (0, ''))

    def test_none_left(self):
        with open(self.RANGE, encoding='ascii') as file:
            before = file.read()
        try:
            with open(self.RANGE, 'w', encoding='ascii') as file:
                file.write('40000 40014')
        except PermissionError:
            self.skipTest(self.RANGE + ' cannot be changed here')
        try:
            self.refuses(Broker(), brokers.START, 'UDP port', 'ip_local_port_range')
        finally:
            with open(self.RANGE, 'w', encoding='ascii') as file:
                file.write(before)


class Descriptors(Start):
    def test_all_three_closed(self):
        broker = Broker(stdin=subprocess.DEVNULL, preexec_fn=lambda: os.closerange(0, 3))
        self.assertEqual(broker.wait(), (brokers.CHANNEL, ''))

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
        self.assertEqual(sorted(links), list(range(27)))  # policy/descriptors.h
        for fd, link in links.items():
            if fd != 2:
                self.assertTrue(link.startswith('socket:') or link == '/dev/null', (fd, link))
        self.assertEqual(broker.stop(), (0, ''))

    def test_hard_limit_of_3(self):
        broker = Broker(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3)))
        self.refuses(broker, brokers.START, 'Too many open files')

    def test_soft_limit_of_3(self):
        self.serves(Broker(
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (3, 1024))))

    def test_every_hard_limit_in_between(self):
        """Wherever descriptors run out, the step that needed one says so."""
        for hard in range(0, 32):
            with self.subTest(hard=hard):
                broker = Broker(preexec_fn=lambda h=hard: resource.setrlimit(
                    resource.RLIMIT_NOFILE, (h, h)))
                if broker.hello():
                    self.assertEqual(broker.stop(), (0, ''))
                else:
                    self.refuses(broker, brokers.START, 'Too many open files')


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
            # 32 and 33 are the C library's own.
            passing = [signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM, 32, 33]
            self.assertEqual(int(status['SigBlk'], 16) | sum(1 << n - 1 for n in passing),
                             (1 << 64) - 1)
            self.assertEqual(int(status['SigBlk'], 16) >> signal.SIGTERM - 1 & 1, 0)
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
            self.assertEqual(len(ours.recv(100)), 56)
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
                self.refuses(broker, brokers.START)

    def test_a_closed_pipe_as_stderr(self):
        reader, writer = os.pipe()
        os.close(reader)
        broker = Broker(stdin=subprocess.DEVNULL, stderr=writer)
        os.close(writer)
        self.assertEqual(broker.wait(), (brokers.CHANNEL, ''))

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
        for number in set(range(1, 65)) - {signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM, 32, 33}:
            os.kill(broker.process.pid, number)
        time.sleep(0.1)
        self.assertNotEqual(brokers.status_of(broker.process.pid)['State'][0], 'T')
        self.serves_still(broker)


class Flooded(unittest.TestCase):
    def test_packets_that_come_before_the_filters(self):
        """None of them is left for the broker to read, even if many come before each filter."""
        if not shutil.which('strace'):
            self.skipTest('no strace')
        flood = subprocess.Popen([sys.executable, '-c', FLOOD])
        self.addCleanup(flood.wait)
        self.addCleanup(flood.kill)
        time.sleep(0.2)
        broker = Broker('strace', arguments=['-o', '/dev/null', '-e', 'trace=socket', '-e',
                                             'inject=socket:delay_exit=10000', brokers.BROKER])
        self.assertIsNotNone(broker.hello())
        for family in '', '6':
            with open('/proc/net/raw' + family, encoding='ascii') as file:
                lines = [line.split() for line in file][1:]
            self.assertEqual(len(lines), 4)
            for line in lines:
                self.assertEqual(line[4], '00000000:00000000', line)
        self.assertEqual(broker.stop(), (0, ''))


if __name__ == '__main__':
    lab.enter()
    tap.main()
