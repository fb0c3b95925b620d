#!/usr/bin/env python3
"""How mtr-packet starts, in every odd way: without arguments, names or descriptors,
without a broker, without privilege.

time-limit: 60
"""
import ctypes
import os
import re
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import lab  # noqa: E402
import processes  # noqa: E402
import tap  # noqa: E402
from packet_client import Client, MTR_PACKET  # noqa: E402

POSTERN = os.path.join(os.path.dirname(MTR_PACKET), 'postern')
BROKER = os.path.join(os.path.dirname(MTR_PACKET), 'postern-broker')
ECHO = 'send-probe ip-4 127.0.0.1 timeout 5'


class WithNet(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        lab.loopback()
        # Where an ordinary user may reach it. A copy has no privilege.
        cls.folder = lab.scratch('unprivileged')
        os.makedirs(cls.folder, exist_ok=True)
        for program in (POSTERN, BROKER):
            subprocess.run(['cp', program, cls.folder], check=True)
        subprocess.run(['ln', '-sf', 'postern', os.path.join(cls.folder, 'mtr-packet')],
                       check=True)

    @classmethod
    def tearDownClass(cls):
        lab.reset()

    def client(self, **how):
        prefix = ['nsenter', '--net=' + lab.namespace_path(lab.HOST)]
        return Client(prefix=[*prefix, *how.pop('prefix', ())], **how)

    def run_it(self, argv, **how):
        return lab.run(argv, timeout=15, **how)


class Options(WithNet):
    def test_names_and_subcommands(self):
        """One executable is many programs, by link name or by first argument."""
        line = '1 check-support feature version\n'
        for argv in ([MTR_PACKET], [POSTERN, 'packet']):
            done = self.run_it(argv, input=line)
            self.assertRegex(done.stdout, r'^1 feature-support support 0\.95-postern-')
            self.assertEqual(done.returncode, 0)

    def test_ipv6_switched_off(self):
        """check-support answers for this machine, not for its kernel."""
        line = '1 check-support feature ip-6\n'
        switch = '/proc/sys/net/ipv6/conf/all/disable_ipv6'
        self.assertEqual(self.run_it([MTR_PACKET], input=line).stdout,
                         '1 feature-support support ok\n')
        self.run_it(['sh', '-c', 'echo 1 >' + switch])
        try:
            self.assertEqual(self.run_it([MTR_PACKET], input=line).stdout,
                             '1 feature-support support no\n')
        finally:
            self.run_it(['sh', '-c', 'echo 0 >' + switch])

    def test_help_and_version(self):
        for argv in ([MTR_PACKET], [POSTERN], [POSTERN, 'packet'], [POSTERN, 'doctor']):
            for option in ('--help', '--version', '-h'):
                if argv == [POSTERN] and option == '-h':
                    continue
                done = self.run_it([*argv, option])
                self.assertEqual((done.returncode, done.stderr), (0, ''), argv)
                self.assertTrue(done.stdout)

    def test_wrong_usage(self):
        for argv in ([MTR_PACKET, 'x'], [MTR_PACKET, '--compat', '0.97'], [MTR_PACKET, '--broker'],
                     [POSTERN], [POSTERN, 'fly'], [POSTERN, 'doctor', 'x']):
            done = self.run_it(argv, input='')
            self.assertEqual(done.returncode, 2, argv)
            self.assertEqual(done.stdout, '')
            self.assertTrue(done.stderr)

    def test_wrong_options(self):
        for option, words in (
                ('--fly', "unrecognized option '--fly'"),
                ('--broker', "option '--broker' requires an argument"),
                ('--help=1', "option '--help' doesn't allow an argument"),
                ('-v', "invalid option -- 'v'")):
            done = self.run_it([MTR_PACKET, option], input='')
            self.assertEqual((done.returncode, done.stdout), (2, ''))
            self.assertIn(words, done.stderr.splitlines()[0])

    def test_dialect(self):
        ask = '1 check-support feature version\n2 send-probe ip-4 203.0.113.1\n'
        for argv, env, version, word in (
                ([], {}, '0.95', 'no-route'), (['--compat', '0.96'], {}, '0.96', 'no-route-network'),
                ([], {'POSTERN_COMPAT': '0.96'}, '0.96', 'no-route-network'),
                (['--compat', '0.95'], {'POSTERN_COMPAT': '0.96'}, '0.95', 'no-route'),
                ([], {'POSTERN_COMPAT': 'nonsense'}, '0.95', 'no-route')):
            done = self.run_it([MTR_PACKET, *argv], input=ask, env=env)
            self.assertRegex(done.stdout, r'^1 feature-support support %s-postern-' % version)
            self.assertTrue(done.stdout.endswith('\n2 %s\n' % word), done.stdout)


class Broker(WithNet):
    """A broker that cannot work: ICMP and SCTP are refused, UDP and TCP go on, one line says why."""

    ASK = ('1 check-support feature icmp\n2 %s\n3 %s protocol sctp\n4 %s protocol udp\n'
           '5 %s protocol tcp\n6 check-support feature udp\n' % ((ECHO,) * 4))
    ANY_ERROR = 'unexpected-error errno [1-9][0-9]*'

    def expect_refused(self, done, pattern):
        lines = sorted(done.stdout.splitlines())
        self.assertEqual(len(lines), 6, lines)
        self.assertEqual(lines[0], '1 feature-support support no')
        for line in lines[1:3]:
            self.assertRegex(line, '^[23] %s$' % pattern)
        for line in lines[3:5]:
            self.assertRegex(line, '^[45] reply ip-4 127.0.0.1 ')
        self.assertEqual(lines[5], '6 feature-support support ok')
        self.assertEqual(done.returncode, 0)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)

    def test_none_there(self):
        done = self.run_it([MTR_PACKET, '--broker', '/nonexistent'], input=self.ASK)
        self.expect_refused(done, 'unexpected-error errno 2')
        self.assertIn('/nonexistent', done.stderr)

    def test_that_is_none(self):
        for program in '/bin/true', '/bin/false':
            done = self.run_it([MTR_PACKET, '--broker', program], input=self.ASK)
            self.expect_refused(done, self.ANY_ERROR)

    def test_that_may_not_be_run(self):
        path = lab.scratch('not-executable')
        with open(path, 'w', encoding='ascii'):
            pass
        done = self.run_it([MTR_PACKET, '--broker', path], input=self.ASK)
        self.expect_refused(done, 'permission-denied')

    def test_without_its_privilege(self):
        """An ordinary user whose broker has neither file capability nor setuid bit."""
        if lab.in_user_namespace():
            self.skipTest('every user is root here')
        program = os.path.join(self.folder, 'mtr-packet')
        done = self.run_it(['setpriv', '--reuid', '65534', '--clear-groups', program],
                           input=self.ASK)
        self.expect_refused(done, 'permission-denied')
        self.assertIn('CAP_NET_RAW', done.stderr)

    def test_no_line_where_no_broker_is_needed(self):
        """`mtr -u` and `mtr -T` work without it, and say nothing about it."""
        ask = '1 %s protocol udp\n2 %s protocol tcp\n' % (ECHO, ECHO)
        done = self.run_it([MTR_PACKET, '--broker', '/nonexistent'], input=ask)
        self.assertEqual(sorted(line.split()[1] for line in done.stdout.splitlines()),
                         ['reply', 'reply'])
        self.assertEqual(done.stderr, '')

    def test_that_says_nothing(self):
        """A broker that hangs before its hello, or ends without one, delays nothing for long."""
        path = lab.scratch('silent')
        with open(path, 'w', encoding='ascii') as file:
            file.write('#!/bin/sh\nexec sleep 0.3\n')
        os.chmod(path, 0o755)
        done = self.run_it([MTR_PACKET, '--broker', path], input=self.ASK)
        self.expect_refused(done, self.ANY_ERROR)
        done = self.run_it([MTR_PACKET, '--broker', '/bin/cat'], input=self.ASK)
        self.expect_refused(done, self.ANY_ERROR)


class Waiting(WithNet):
    """Requests that are there before the broker is: it starts here half a second late."""

    def late(self):
        path = lab.scratch('late')
        with open(path, 'w', encoding='ascii') as file:
            file.write('#!/bin/sh\nsleep 0.5\nexec %s\n' % BROKER)
        os.chmod(path, 0o755)
        return self.client(arguments=['--broker', path])

    def test_timeouts_begin_when_a_probe_can_leave(self):
        with self.late() as client:
            replies = client.ask(ECHO.replace('5', '0.1'), 'send-probe ip-4 203.0.113.1 timeout 0.1',
                                 ECHO, ECHO.replace('5', '0'))
            self.assertEqual([r.word for r in replies[:3]], ['reply', 'no-route', 'reply'])
            self.assertIn(replies[3].word, ('reply', 'no-reply'))

    def test_are_answered_in_order_and_once(self):
        """Of those that are answered at once, none overtakes another."""
        with self.late() as client:
            client.write('1 check-support feature icmp\n2 fly\n3 %s ttl 0\n\n4 check-' % ECHO)
            time.sleep(0.1)
            client.write('support feature version\n5 %s\n' % ECHO)
            replies = client.wait_for(6, 5)
            self.assertEqual([(r.token, r.word) for r in replies],
                             [(1, 'feature-support'), (2, 'unknown-command'),
                              (3, 'invalid-argument'), (0, 'command-parse-error'),
                              (4, 'feature-support'), (5, 'reply')])
            self.assertEqual(replies[0]['support'], 'ok')
            self.assertEqual(client.close(5), 0)
            self.assertEqual(len(client.replies), 6)

    def test_and_the_end_of_input_waits_for_them(self):
        with self.late() as client:
            client.write(''.join('%d %s\n' % (i, ECHO) for i in range(3000)))
            self.assertEqual(client.close(10), 0)
            self.assertEqual(sorted(r.token for r in client.replies), list(range(3000)))
            self.assertEqual({r.word for r in client.replies}, {'reply'})


class Descriptors(WithNet):
    def test_none_at_all(self):
        """With 0, 1 and 2 closed there is nothing to do, and nothing must go wrong."""
        for closed in ('<&- >&- 2>&-', '<&-', '>&-', '2>&-', '<&- 2>&-'):
            done = self.run_it(['sh', '-c', 'exec "$0" %s' % closed, MTR_PACKET], input='')
            self.assertEqual(done.returncode, 0, closed)
            self.assertEqual(done.stderr, '')

    def test_only_stderr_closed(self):
        done = self.run_it(['sh', '-c', 'exec "$0" 2>&-', MTR_PACKET], input='1 %s\n' % ECHO)
        self.assertRegex(done.stdout, '^1 reply ip-4 127.0.0.1 ')

    def test_stdin_is_a_file_or_a_socket(self):
        path = lab.scratch('requests')
        with open(path, 'w', encoding='ascii') as file:
            file.write(''.join('%d %s\n' % (i, ECHO) for i in range(2000)))
        done = self.run_it(['sh', '-c', 'exec "$0" < %s' % path, MTR_PACKET])
        self.assertEqual(sorted(int(line.split()[0]) for line in done.stdout.splitlines()),
                         list(range(2000)))

    def test_nothing_else_is_inherited(self):
        read_end, write_end = os.pipe()
        os.set_inheritable(write_end, True)
        with self.client(pass_fds=[write_end]) as client:
            os.close(write_end)
            client.one(ECHO)
            broker = processes.broker_of(client.process.pid)
            kinds = processes.descriptors(broker).values()
            self.assertEqual(set(kinds), {'socket:', '/dev/null'})
            self.assertNotIn('pipe:', [kind for fd, kind in processes.descriptors(
                client.process.pid).items() if fd > 2])
        os.close(read_end)

    def test_flags_of_shared_descriptors_stay(self):
        """A program that shares a pipe with it does not find it non-blocking afterwards."""
        with self.client() as client:
            client.one(ECHO)
            for fd in client.process.stdin.fileno(), client.process.stdout.fileno():
                self.assertTrue(os.get_blocking(fd))
            for fd in 0, 1:
                with open('/proc/%d/fdinfo/%d' % (client.process.pid, fd),
                          encoding='ascii') as info:
                    flags = int(re.search(r'flags:\s+([0-7]+)', info.read()).group(1), 8)
                self.assertEqual(flags & os.O_NONBLOCK, 0)


class Running(WithNet):
    def test_sleeps_when_there_is_nothing_to_do(self):
        with self.client() as client:
            client.one(ECHO)
            pids = client.process.pid, processes.broker_of(client.process.pid)
            time.sleep(0.2)

            def wakeups():
                return [int(processes.status(pid)['voluntary_ctxt_switches']) for pid in pids]
            before = wakeups()
            time.sleep(1)
            self.assertEqual(wakeups(), before)

    def test_no_zombie_is_left(self):
        with self.client() as client:
            client.one(ECHO)
            broker = processes.broker_of(client.process.pid)
            os.kill(broker, 9)
            client.one(ECHO)
            self.assertFalse(os.path.exists('/proc/%d' % broker))

    def test_the_front_end_is_confined(self):
        if processes.sanitized(MTR_PACKET):
            self.skipTest('built with sanitizers')
        with self.client() as client:
            client.one(ECHO)
            status = processes.status(client.process.pid)
            self.assertEqual((status['NoNewPrivs'], status['Seccomp']), ('1', '2'))


class NoName(WithNet):
    def run_without_name(self, program):
        """The exit status of one that is given argc 0 and /dev/null to read."""
        libc = ctypes.CDLL(None)
        child = os.fork()
        if child == 0:
            null = os.open('/dev/null', os.O_RDWR)
            for fd in range(3):
                os.dup2(null, fd)
            empty = (ctypes.c_char_p * 1)(None)
            libc.execve(program.encode(), empty, empty)
            os._exit(99)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def test_started_without_even_its_name(self):
        """argc 0 (kernels since 5.18 make it an empty name): usage, no crash."""
        for program in POSTERN, MTR_PACKET:
            self.assertEqual(self.run_without_name(program), 2)


if __name__ == '__main__':
    lab.enter()
    tap.main()
