#!/usr/bin/env python3
"""What the kernel says about a running broker in every way of installing and starting it: identity,
capabilities, filters, descriptors, files, to whom its sockets belong, and how soon it is gone.

As root all ways are tried; as an ordinary user, who can install nothing, only a user namespace's.

time-limit: 120
"""
import errno
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import brokers  # noqa: E402
from brokers import Broker, probe  # noqa: E402
import lab  # noqa: E402
import processes  # noqa: E402
import tap  # noqa: E402

USER, GROUP, NOBODY = 12345, 23456, 65534
NET_RAW = 1 << 13
AS_USER = {'user': USER, 'group': GROUP, 'extra_groups': [GROUP, 34567]}
IN_NAMESPACE = ['--user', '--map-root-user', '--net']
NET_RAW_ONLY = ['--bounding-set', '-all,+net_raw', '--inh-caps', '-all']
LANDLOCK_CREATE_RULESET = 444

IS_ROOT = False  # of the machine; set before the lab is entered
COPIES = {}      # way of installing -> path


def install():
    """Copies of the broker as each way of installing leaves it."""
    directory = lab.scratch('installed')
    if os.statvfs(lab.scratch('')).f_flag & os.ST_NOSUID:
        # Neither a file capability nor a setuid bit works there.
        directory = tempfile.mkdtemp(dir='/var/tmp')
    os.makedirs(directory, exist_ok=True)
    os.chmod(directory, 0o755)
    for way in ('plain', 'capability', 'setuid'):
        os.mkdir(os.path.join(directory, way), 0o755)
        COPIES[way] = os.path.join(directory, way, 'postern-broker')
        shutil.copy(brokers.BROKER, COPIES[way])
        os.chmod(COPIES[way], 0o755)
    if not IS_ROOT:
        return
    os.chmod(COPIES['setuid'], 0o4755)
    done = subprocess.run(['setcap', 'cap_net_raw=p', COPIES['capability']], check=False,
                          env={**os.environ, 'PATH': os.environ['PATH'] + ':/usr/sbin:/sbin'})
    if done.returncode != 0:
        del COPIES['capability']


def needs(way):
    if not IS_ROOT:
        raise unittest.SkipTest('only root can install a broker')
    if way not in COPIES:
        raise unittest.SkipTest('no file capabilities on this file system')


class State(unittest.TestCase):
    def expect_locked_down(self, pid, bounding=0, held=0):
        """What holds however it was started. `held`: CAP_NET_RAW where routing marks are allowed;
        `bounding`: None for a caller without CAP_SETPCAP, whose set stays."""
        status = brokers.status_of(pid)
        expected = {'CapPrm': held, 'CapEff': held, 'CapInh': 0, 'CapAmb': 0}
        if bounding is not None:
            expected['CapBnd'] = bounding
        self.assertEqual({name: int(status[name], 16) for name in expected}, expected)
        self.assertEqual(status['NoNewPrivs'], '1')
        self.assertEqual(status['Seccomp'], '2')
        self.assertEqual(status['Threads'], '1')
        self.expect_descriptors(pid)
        self.expect_not_dumpable(pid)
        return status

    def expect_descriptors(self, pid):
        links = brokers.descriptors_of(pid)
        self.assertEqual(sorted(links), list(range(27)))  # policy/descriptors.h
        self.assertTrue(links.pop(1).endswith('/dev/null'))  # seen from outside a root directory
        links.pop(2)  # the caller's stderr
        for fd, link in links.items():
            self.assertTrue(link.startswith('socket:'), (fd, link))
        with open('/proc/%d/limits' % pid, encoding='ascii') as file:
            limits = {line[:26].strip(): line[26:].split()[:2] for line in file}
        self.assertEqual(limits['Max core file size'], ['0', '0'])
        self.assertEqual(limits['Max processes'], ['0', '0'])
        self.assertEqual(limits['Max open files'], ['27', '27'])

    def expect_identity(self, status, user, group, groups=()):
        self.assertEqual(status['Uid'].split(), [str(user)] * 4)
        self.assertEqual(status['Gid'].split(), [str(group)] * 4)
        self.assertEqual(sorted(status['Groups'].split()), sorted(map(str, groups)))

    def expect_not_dumpable(self, pid):
        """/proc says it by giving the files to root; to which one, in another user namespace."""
        if os.readlink('/proc/%d/ns/user' % pid) == os.readlink('/proc/self/ns/user'):
            self.assertEqual(os.stat('/proc/%d/environ' % pid).st_uid, 0)

    def serve(self, broker):
        """It works, so that what was looked at was a broker; and it ends in time."""
        broker.send(probe(cookie=1))
        event, = broker.events()
        self.assertEqual(event.kind, brokers.ANSWER)
        started = time.monotonic()
        broker.close()
        status, text = broker.wait()
        took = time.monotonic() - started
        self.assertEqual((status, text), (0, ''))
        tap.note('gone after %.1f ms' % (took * 1e3))
        self.assertLess(took, 1)  # 0.2 s is promised; a test must bear a busy machine

    def start(self, way, **popen):
        return self.started(Broker(COPIES[way], **popen))

    def started(self, broker):
        hello = broker.hello()
        if not hello:
            self.fail('no hello but %s' % (broker.wait(),))
        broker.features = hello.features
        return broker

    def by_setpriv(self, way, *options, user=True):
        identity = ['--reuid', str(USER), '--regid', str(GROUP), '--clear-groups'] if user else []
        return self.started(Broker('setpriv', arguments=[*identity, *options, COPIES[way]]))


class Machine(State):
    """Started by root, or from a file that root installed."""

    def test_started_by_root(self):
        needs('plain')
        for way in ('plain', 'capability', 'setuid'):
            if way in COPIES:
                with self.subTest(way=way):
                    broker = self.start(way, extra_groups=[0, 34567])
                    status = self.expect_locked_down(broker.process.pid, held=NET_RAW)
                    self.expect_identity(status, NOBODY, NOBODY)
                    self.serve(broker)

    def test_started_by_root_with_net_raw_only(self):
        """A container: root that cannot become another stays, and holds no more than it was given."""
        needs('plain')
        for way in ('plain', 'capability', 'setuid'):
            if way in COPIES:
                with self.subTest(way=way):
                    broker = self.by_setpriv(way, *NET_RAW_ONLY, user=False)
                    status = self.expect_locked_down(broker.process.pid, NET_RAW, NET_RAW)
                    self.assertEqual(status['Uid'].split(), ['0'] * 4)
                    self.serve(broker)

    def test_file_capability(self):
        needs('capability')
        broker = self.start('capability', **AS_USER)
        status = self.expect_locked_down(broker.process.pid, bounding=None)
        self.expect_identity(status, USER, GROUP, (GROUP, 34567))
        self.serve(broker)

    def test_setuid(self):
        needs('setuid')
        broker = self.start('setuid', **AS_USER)
        status = self.expect_locked_down(broker.process.pid)
        self.expect_identity(status, USER, GROUP, (GROUP, 34567))
        self.serve(broker)

    def test_setuid_with_net_raw_only(self):
        needs('setuid')
        broker = self.by_setpriv('setuid', *NET_RAW_ONLY)
        self.expect_identity(self.expect_locked_down(broker.process.pid, NET_RAW), USER, GROUP)
        self.serve(broker)

    def test_setgid_changes_nothing(self):
        needs('setuid')
        os.chmod(COPIES['setuid'], 0o6755)
        try:
            broker = self.start('setuid', **AS_USER)
            self.expect_identity(self.expect_locked_down(broker.process.pid), USER, GROUP,
                                 (GROUP, 34567))
            self.serve(broker)
        finally:
            os.chmod(COPIES['setuid'], 0o4755)


class Marks(State):
    """CAP_NET_RAW stays only where the caller may set marks without the broker, too."""

    def try_mark(self, broker):
        broker.send(probe(cookie=1, flags=brokers.WITH_MARK, mark=7))
        event, = broker.events()
        return event.error if event.kind == brokers.FAILURE else 0

    def expect_marks(self, broker, allowed, bounding=None):
        self.expect_locked_down(broker.process.pid, bounding, NET_RAW if allowed else 0)
        self.assertEqual(bool(broker.features & brokers.FEATURE_MARK), allowed)
        self.assertEqual(self.try_mark(broker), 0 if allowed else errno.EPERM)
        self.serve(broker)

    def test_root(self):
        needs('plain')
        self.expect_marks(self.start('plain'), True)

    def test_ordinary_users(self):
        for way in ('capability', 'setuid'):
            needs(way)
            self.expect_marks(self.start(way, **AS_USER), False)

    def test_what_the_inheritable_set_says(self):
        needs('capability')
        for capability, allowed in (('net_raw', True), ('net_admin', True), ('net_bind_service',
                                                                             False)):
            for way in ('capability', 'setuid'):
                with self.subTest(way=way, capability=capability):
                    self.expect_marks(self.by_setpriv(way, '--inh-caps', '+' + capability), allowed)

    def test_the_ambient_set(self):
        """What a service manager gives: the ambient set is part of the inheritable one."""
        needs('plain')
        broker = self.by_setpriv('plain', '--inh-caps', '+net_raw,+net_admin',
                                 '--ambient-caps', '+net_raw,+net_admin')
        self.expect_marks(broker, True)


class Owner(State):
    """A socket belongs to the invoking user, so that firewalls and routing rules by user see it."""

    def ways(self):
        needs('plain')
        return [(way, popen, uid) for way, popen, uid in
                (('plain', {}, 0), ('setuid', {}, 0), ('capability', AS_USER, USER),
                 ('setuid', AS_USER, USER)) if way in COPIES]

    @staticmethod
    def owners():
        found = set()
        for name in ('raw', 'raw6', 'udp'):
            with open('/proc/net/' + name, encoding='ascii') as file:
                found |= {int(line.split()[7]) for line in file.readlines()[1:]}
        return found

    def test_what_the_kernel_lists(self):
        for way, popen, uid in self.ways():
            with self.subTest(way=way, uid=uid):
                broker = self.start(way, **popen)
                self.assertEqual(self.owners(), {uid})
                self.serve(broker)

    def test_routing_rule(self):
        for way, popen, uid in self.ways():
            with self.subTest(way=way, uid=uid):
                broker = self.start(way, **popen)
                rule = ['uidrange', '%d-%d' % (uid, uid), 'prohibit', 'pref', '1']
                subprocess.run(['ip', 'rule', 'del', 'pref', '0'], check=True)
                subprocess.run(['ip', 'rule', 'add', *rule], check=True)
                try:
                    broker.send(probe(cookie=1))
                    event, = broker.events()
                    self.assertEqual((event.kind, event.error), (brokers.FAILURE, errno.EACCES))
                finally:
                    subprocess.run(['ip', 'rule', 'del', *rule], check=True)
                    subprocess.run(['ip', 'rule', 'add', 'lookup', 'local', 'pref', '0'],
                                   check=True)
                self.serve(broker)

    def test_firewall(self):
        nft = shutil.which('nft', path=os.environ['PATH'] + ':/usr/sbin:/sbin')
        if not nft:
            self.skipTest('no nft')
        for way, popen, uid in self.ways():
            with self.subTest(way=way, uid=uid):
                rules = ('table ip t {\nchain c {\ntype filter hook output priority 0\n'
                         'icmp type echo-request meta skuid %d counter\n}\n}\n' % uid)
                done = subprocess.run([nft, '-f', '-'], input=rules, text=True, check=False,
                                      capture_output=True)
                if done.returncode != 0:
                    self.skipTest('no nftables here: ' + done.stderr.splitlines()[0])
                broker = self.start(way, **popen)
                self.serve(broker)
                listed = subprocess.run([nft, 'list', 'table', 'ip', 't'], capture_output=True,
                                        text=True, check=True).stdout
                subprocess.run([nft, 'delete', 'table', 'ip', 't'], check=True)
                self.assertRegex(listed, r'counter packets 1 ')


class Traced(State):
    """What it does on its way, as strace sees it."""

    def trace(self, calls, way='plain', **popen):
        needs(way)
        if not shutil.which('strace'):
            self.skipTest('no strace')
        path = lab.scratch('trace')
        broker = self.started(Broker('strace', arguments=[
            '-o', path, '-e', 'trace=' + calls, COPIES[way]], **popen))
        self.serve(broker)
        with open(path, encoding='utf-8') as file:
            return file.read()

    def test_files_are_those_of_the_manual(self):
        with open(os.path.join(lab.ROOT, 'man/postern-broker.8'), encoding='utf-8') as file:
            text = file.read()
        section = re.search(r'^\.Sh FILES\n(.*?)^\.Sh ', text, re.M | re.S).group(1)
        listed = set(re.findall(r'^\.It Pa (\S+)', section, re.M))
        text = self.trace('%file')
        opened = {re.sub(r'^/proc/\d+/', '/proc/PID/', path) for path in
                  re.findall(r'^open\w*\((?:AT_FDCWD, )?"([^"]+)"', text, re.M)}
        self.assertEqual(opened, listed)
        # execve, and the C library's look at its own name, which opens nothing.
        self.assertEqual(set(re.findall(r'^(\w+)\(', text, re.M)) - {'newfstatat'},
                         {'execve', 'openat', 'readlink'})

    def test_nothing_is_logged(self):
        """libcap-ng would talk to syslog if it were asked for what the process cannot do."""
        text = self.trace('socket,connect')
        self.assertNotIn('AF_UNIX', text)
        self.assertNotIn('connect(', text)

    def test_landlock(self):
        """Entered where the kernel has it."""
        version = brokers._libc.syscall(LANDLOCK_CREATE_RULESET, None, 0, 1)
        if version < 1:
            self.skipTest('this kernel has no Landlock')
        text = self.trace('landlock_restrict_self,seccomp')
        self.assertRegex(text, r'landlock_restrict_self\(\d+, 0\) += 0\nseccomp\(.*\) = 0\n')

    def test_not_dumpable_after_a_change_of_user(self):
        """The kernel resets it then, to what fs.suid_dumpable says."""
        text = self.trace('setresuid,prctl')
        changed = text.rindex('setresuid(65534, 65534, 65534)')
        self.assertIn('prctl(PR_SET_DUMPABLE, SUID_DUMP_DISABLE) = 0', text[changed:])

    def test_no_error_queue_and_no_own_headers(self):
        text = self.trace('setsockopt')
        self.assertIn('SO_LOCK_FILTER', text)
        for forbidden in ('RECVERR', 'HDRINCL'):
            self.assertNotIn(forbidden, text)


class Bare(State):
    """A root directory in which there is next to nothing, not even /proc."""

    def in_root(self, *files):
        root = tempfile.mkdtemp(dir=os.path.dirname(COPIES['plain']))
        os.mkdir(os.path.join(root, 'dev'))
        for name in files:
            os.mknod(os.path.join(root, name), stat.S_IFCHR | 0o666, os.makedev(1, 3))
        shutil.copy(COPIES['plain'], os.path.join(root, 'broker'))
        return Broker('/broker', preexec_fn=lambda: os.chroot(root))

    def test_it_needs_no_proc_and_no_library(self):
        needs('plain')
        broker = self.in_root('dev/null')
        self.assertTrue(broker.hello())
        status = self.expect_locked_down(broker.process.pid, held=NET_RAW)
        self.expect_identity(status, NOBODY, NOBODY)
        self.serve(broker)

    def test_it_needs_dev_null(self):
        needs('plain')
        status, text = self.in_root().wait()
        self.assertEqual(status, brokers.START)
        self.assertIn('/dev/null', text)
        self.assertEqual(text.count('\n'), 1)


class Refused(State):
    """No privilege, and so nothing to serve: one line with the reason, exit status 77."""

    def refused(self, broker, word):
        got, text = broker.wait()
        self.assertEqual(got, brokers.NO_PRIVILEGE, text)
        self.assertIn(word, text)
        self.assertEqual(text.count('\n'), 1)

    def test_not_installed(self):
        needs('plain')
        self.refused(Broker(COPIES['plain'], **AS_USER), 'setcap cap_net_raw=p')

    def test_no_new_privs(self):
        needs('plain')
        for way in ('capability', 'setuid'):
            if way in COPIES:
                self.refused(Broker('setpriv', arguments=['--no-new-privs', COPIES[way]],
                                    **AS_USER), 'no_new_privs')

    def test_missing_in_the_bounding_set(self):
        """A container without it: the file capability must not stop execve itself."""
        needs('capability')
        self.refused(Broker('setpriv', arguments=[
            '--reuid', str(USER), '--regid', str(GROUP), '--clear-groups', '--bounding-set',
            '-net_raw', COPIES['capability']]), 'bounding set')

    def test_a_namespace_without_a_map(self):
        self.refused(Broker('unshare', arguments=['--user', COPIES['plain']]), 'CAP_NET_RAW')


class Namespace(State):
    """The only user of a namespace has no other to become: it stays who it is, which outside is the
    user that made the namespace, and gives up everything else."""

    def in_namespace(self, way, **popen):
        broker = Broker('unshare', arguments=IN_NAMESPACE + [
            '/bin/sh', '-c', 'ip link set lo up; exec "$0"', COPIES[way]], **popen)
        hello = broker.hello()
        if not hello:
            status, text = broker.wait()
            if 'unshare' in text:
                self.skipTest('no user namespaces here: ' + text.strip())
            self.fail('no hello but status %s, %s' % (status, text))
        return broker

    def test_by_a_user(self):
        needs('plain')
        for way in ('plain', 'capability', 'setuid'):
            if way in COPIES:
                with self.subTest(way=way):
                    broker = self.in_namespace(way, **AS_USER)
                    status = self.expect_locked_down(broker.process.pid, held=NET_RAW)
                    self.assertEqual(status['Uid'].split(), [str(USER)] * 4)
                    self.assertEqual(status['Gid'].split(), [str(GROUP)] * 4)
                    self.serve(broker)

    def test_by_root_or_in_another_namespace(self):
        broker = self.in_namespace('plain')
        self.expect_locked_down(broker.process.pid, held=NET_RAW)
        self.serve(broker)

    def test_of_many_users(self):
        """A container that has a user 65534 of its own."""
        needs('plain')
        broker = self.start('plain', preexec_fn=lambda: brokers.enter_container(100000, 200000))
        status = self.expect_locked_down(broker.process.pid, held=NET_RAW)
        self.expect_identity(status, 100000 + NOBODY, 200000 + NOBODY)
        self.serve(broker)

    def test_of_few_users(self):
        """A container in which 65534 is not mapped: root stays."""
        needs('plain')
        broker = self.start('plain', preexec_fn=lambda: brokers.enter_container(
            100000, 200000, 1000))
        status = self.expect_locked_down(broker.process.pid, held=NET_RAW)
        self.expect_identity(status, 100000, 200000, (200000, 200010))
        self.serve(broker)

    def test_first_process_of_a_pid_namespace(self):
        """Without a /proc of its own, /proc/1 is another process."""
        broker = Broker('unshare', arguments=IN_NAMESPACE + [
            '--pid', '--fork', '--kill-child', '/bin/sh', '-c',
            'ip link set lo up; exec "$0"', COPIES['plain']])
        if not broker.hello():
            self.skipTest('no such namespace: %s' % (broker.wait(),))
        with open('/proc/%d/task/%d/children' % ((broker.process.pid,) * 2),
                  encoding='ascii') as file:
            child = int(file.read())
        self.expect_locked_down(child, held=NET_RAW)
        self.serve(broker)


class FrontEnd(State):
    """A broker that mtr-packet has started ends with it. What the front end itself may do is tested
    by test_frontend_confined.py."""

    def ways(self):
        if not IS_ROOT:
            return [('plain', {}, NET_RAW)]
        return [(way, user, held) for way, user, held in
                (('plain', {}, NET_RAW), ('capability', AS_USER, 0), ('setuid', AS_USER, 0))
                if way in COPIES]

    def run_front_end(self, way, user, held):
        front_end = subprocess.Popen([brokers.FRONT_END, '--broker', COPIES[way]],
                                     stdin=subprocess.PIPE, stdout=subprocess.PIPE, **user)
        front_end.stdin.write(b'1 send-probe ip-4 127.0.0.1\n')
        front_end.stdin.flush()
        line = front_end.stdout.readline()
        self.assertTrue(line.startswith(b'1 reply ip-4 127.0.0.1 '), line)
        broker = processes.broker_of(front_end.pid)
        self.expect_locked_down(broker, None if way == 'capability' else 0, held)
        return front_end, broker

    def test_killed(self):
        for way, user, held in self.ways():
            with self.subTest(way=way):
                front_end, broker = self.run_front_end(way, user, held)
                front_end.kill()
                self.assertIsNotNone(processes.gone_within(broker, 1))
                with front_end:
                    front_end.communicate(timeout=10)

    def test_end_of_requests(self):
        for way, user, held in self.ways():
            with self.subTest(way=way):
                front_end, broker = self.run_front_end(way, user, held)
                with front_end:
                    front_end.stdin.close()
                    self.assertEqual(front_end.wait(10), 0)
                self.assertIsNotNone(processes.gone_within(broker, 1))


if __name__ == '__main__':
    if 'POSTERN_LAB_INSIDE' not in os.environ:
        os.environ['POSTERN_HOSTILE_ROOT'] = str(int(os.geteuid() == 0))
    lab.enter()
    IS_ROOT = os.environ['POSTERN_HOSTILE_ROOT'] == '1'
    install()
    tap.main()
