#!/usr/bin/env python3
"""How the packet personality and the doctor start, in every odd way that somebody may start them:
without arguments, names or descriptors, without a broker, without privilege.

time-limit: 60
"""
import array
import ctypes
import fcntl
import os
import re
import subprocess
import sys
import termios
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
        # the build as an ordinary user may reach it; a copy has no privilege
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
        """check-support tells the truth about this machine, not about its kernel."""
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
        """The words are those of glibc's getopt_long, whichever C library the program has."""
        for option, words in (
                ('--fly', "unrecognized option '--fly'"), ('--fly=1', "unrecognized option '--fly=1'"),
                ('--broker', "option '--broker' requires an argument"),
                ('--comp', "option '--compat' requires an argument"),
                ('--help=1', "option '--help' doesn't allow an argument"),
                ('--version=1', "option '--version' doesn't allow an argument"),
                ('-v', "invalid option -- 'v'"), ('-xh', "invalid option -- 'x'")):
            done = self.run_it([MTR_PACKET, option], input='')
            self.assertEqual((done.returncode, done.stdout), (2, ''))
            self.assertEqual(done.stderr.splitlines()[0], f'{MTR_PACKET}: {words}')

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
    def expect_all_refused(self, done, word):
        lines = sorted(done.stdout.splitlines())
        self.assertEqual(lines, ['1 feature-support support no', '2 ' + word, '3 ' + word,
                                 '4 unknown-command'])
        self.assertEqual(done.returncode, 0)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)

    ASK = '1 check-support feature icmp\n2 %s\n3 %s protocol udp\n4 fly\n' % (ECHO, ECHO)

    def test_none_there(self):
        done = self.run_it([MTR_PACKET, '--broker', '/nonexistent'], input=self.ASK)
        self.expect_all_refused(done, 'unexpected-error errno 2')
        self.assertIn('/nonexistent', done.stderr)

    def test_that_is_none(self):
        for program in '/bin/true', '/bin/false':
            done = self.run_it([MTR_PACKET, '--broker', program], input=self.ASK)
            self.expect_all_refused(done, 'unexpected-error errno 104')

    def test_that_may_not_be_run(self):
        path = lab.scratch('not-executable')
        with open(path, 'w', encoding='ascii'):
            pass
        done = self.run_it([MTR_PACKET, '--broker', path], input=self.ASK)
        self.expect_all_refused(done, 'permission-denied')

    def test_without_its_privilege(self):
        """An ordinary user whose broker has neither file capability nor setuid bit."""
        if lab.in_user_namespace():
            self.skipTest('every user is root here')
        program = os.path.join(self.folder, 'mtr-packet')
        done = self.run_it(['setpriv', '--reuid', '65534', '--clear-groups', program],
                           input=self.ASK)
        self.expect_all_refused(done, 'permission-denied')
        self.assertIn('CAP_NET_RAW', done.stderr)

    def test_that_says_nothing(self):
        """A broker that hangs before its hello, or ends without one, holds nothing up for long."""
        path = lab.scratch('silent')
        with open(path, 'w', encoding='ascii') as file:
            file.write('#!/bin/sh\nexec sleep 0.3\n')
        os.chmod(path, 0o755)
        done = self.run_it([MTR_PACKET, '--broker', path], input=self.ASK)
        self.expect_all_refused(done, 'unexpected-error errno 104')
        done = self.run_it([MTR_PACKET, '--broker', '/bin/cat'], input=self.ASK)
        self.expect_all_refused(done, 'unexpected-error errno 110')


class Waiting(WithNet):
    """Requests that are there before the broker is: it starts here half a second late."""

    def late(self):
        path = lab.scratch('late')
        with open(path, 'w', encoding='ascii') as file:
            file.write('#!/bin/sh\nsleep 0.5\nexec %s\n' % BROKER)
        os.chmod(path, 0o755)
        return self.client(arguments=['--broker', path])

    def test_are_read_meanwhile(self):
        with self.late() as client:
            client.write('1 %s\n' % ECHO)
            for _ in range(40):
                waiting = array.array('i', [0])
                fcntl.ioctl(client.process.stdin, termios.FIONREAD, waiting)
                if not waiting[0]:
                    break
                time.sleep(0.01)
            self.assertEqual((waiting[0], client.replies), (0, []))
            self.assertEqual([r.word for r in client.wait_for(1, 5)], ['reply'])

    def test_timeouts_begin_when_a_probe_can_leave(self):
        with self.late() as client:
            replies = client.ask(ECHO.replace('5', '0.1'), 'send-probe ip-4 203.0.113.1 timeout 0.1',
                                 ECHO, ECHO.replace('5', '0'))
            self.assertEqual([r.word for r in replies[:3]], ['reply', 'no-route', 'reply'])
            self.assertIn(replies[3].word, ('reply', 'no-reply'))

    def test_are_answered_in_order_and_once(self):
        """Of those that are answered at once, none overtakes another that has to wait."""
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

    def test_changes_of_routes_are_heard(self):
        """What was asked for ahead is not used once it is no longer true."""
        add, remove = (['ip', 'addr', what, '203.0.113.7/32', 'dev', 'lo'] for what in ('add', 'del'))
        with self.late() as client:
            client.write('1 send-probe ip-4 203.0.113.7\n')
            time.sleep(0.2)
            self.run_it(add)
            try:
                self.assertEqual([r.word for r in client.wait_for(1, 5)], ['reply'])
            finally:
                self.run_it(remove)


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
        """Whoever shares a pipe with it does not find it non-blocking afterwards."""
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


    def test_a_change_of_routes_is_heard_before_the_next_request(self):
        """However soon after it the request comes."""
        def change(what):
            self.run_it(['ip', 'addr', what, '203.0.113.9/32', 'dev', 'lo'])
        request = 'send-probe ip-4 203.0.113.9'
        with self.client() as client:
            for _ in range(20):
                self.assertEqual(client.one(request).word, 'no-route')
                change('add')
                self.assertEqual(client.one(request).word, 'reply')
                change('del')

    def test_changes_of_routes_do_not_wake_the_idle(self):
        with self.client() as client:
            client.one(ECHO)
            time.sleep(0.1)

            def wakeups():
                return int(processes.status(client.process.pid)['voluntary_ctxt_switches'])
            before = wakeups()
            for _ in range(5):
                self.run_it(['ip', 'addr', 'add', '203.0.113.9/32', 'dev', 'lo'])
                self.run_it(['ip', 'addr', 'del', '203.0.113.9/32', 'dev', 'lo'])
            self.assertLessEqual(wakeups(), before + 1)


class Doctor(WithNet):
    def test_all_is_well(self):
        done = self.run_it([POSTERN, 'doctor'])
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertIn(BROKER, done.stdout)
        for protocol in 'icmp', 'udp', 'tcp':
            self.assertRegex(done.stdout, r'(?m)^%s +ok +ok$' % protocol)

    def test_no_broker(self):
        done = self.run_it([POSTERN, 'doctor', '--broker', '/nonexistent'])
        self.assertEqual(done.returncode, 1)
        self.assertIn('make install', done.stdout)

    def test_no_privilege(self):
        if lab.in_user_namespace():
            self.skipTest('every user is root here')
        program = os.path.join(self.folder, 'postern')
        done = self.run_it(['setpriv', '--reuid', '65534', '--clear-groups', program, 'doctor'])
        self.assertEqual(done.returncode, 1)
        self.assertIn('setcap cap_net_raw=p', done.stdout)

    def test_no_new_privileges(self):
        if lab.in_user_namespace():
            self.skipTest('every user is root here')
        program = os.path.join(self.folder, 'postern')
        done = self.run_it(['setpriv', '--reuid', '65534', '--clear-groups', '--no-new-privs',
                            program, 'doctor'])
        self.assertEqual(done.returncode, 1)
        self.assertIn('no_new_privs is set here', done.stdout)


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
        """argc 0 (kernels since 5.18 make it an empty name): usage, no crash; mtr-packet, if it is
        a program of its own, can be nothing else, and finds no request."""
        self.assertEqual(self.run_without_name(POSTERN), 2)
        self.assertEqual(self.run_without_name(MTR_PACKET), 2 if os.path.islink(MTR_PACKET) else 0)


if __name__ == '__main__':
    lab.enter()
    tap.main()
