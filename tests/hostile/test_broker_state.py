#!/usr/bin/env python3
"""What the kernel says about a running broker, and about the front end that started it, in every way of
installing and starting them: identity, capabilities, filters, descriptors, and how soon it is gone.

As root all ways are tried; as an ordinary user, who can install nothing, only a user namespace's.

time-limit: 90
"""
import os
import shutil
import stat
import struct
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import brokers  # noqa: E402
from brokers import Broker, probe  # noqa: E402
import lab  # noqa: E402
import tap  # noqa: E402

USER, GROUP, NOBODY = 12345, 23456, 65534
NET_RAW = 1 << 13
PT_GNU_RELRO = 0x6474e552
AS_USER = {'user': USER, 'group': GROUP, 'extra_groups': [GROUP, 34567]}
IN_NAMESPACE = ['unshare', '--user', '--map-root-user', '--net']

IS_ROOT = False  # of the machine; set before the lab is entered
# Front ends with sanitizers enter no filter (policy/confine.h).
with open(brokers.FRONT_END, 'rb') as program:
    FRONT_END_FILTER = '0' if b'__asan_init' in program.read() else '2'
COPIES = {}      # way of installing -> path


def install():
    """Copies of the broker as each way of installing leaves it."""
    directory = lab.scratch('installed')
    if os.statvfs(lab.scratch('')).f_flag & os.ST_NOSUID:
        # Neither a file capability nor a setuid bit works there.
        directory = tempfile.mkdtemp(dir='/var/tmp')
    os.makedirs(directory, exist_ok=True)
    os.chmod(directory, 0o755)
    for way in ('plain', 'capability', 'setuid', 'mtr-packet'):
        COPIES[way] = os.path.join(directory, way)
        shutil.copy(brokers.FRONT_END if way == 'mtr-packet' else brokers.BROKER, COPIES[way])
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
    def expect_locked_down(self, pid, bounding=True):
        """What holds however it was started."""
        status = brokers.status_of(pid)
        self.assertIn(int(status['CapPrm'], 16), (0, NET_RAW))
        for name in ('CapInh', 'CapEff', 'CapAmb') + (('CapBnd',) if bounding else ()):
            self.assertEqual(int(status[name], 16), 0, name)
        self.assertEqual(status['NoNewPrivs'], '1')
        self.assertEqual(status['Seccomp'], '2')
        self.assertEqual(status['Threads'], '1')
        self.expect_descriptors(pid)
        self.expect_constants(pid)
        return status

    def expect_descriptors(self, pid):
        links = brokers.descriptors_of(pid)
        self.assertTrue(links.pop(1).endswith('/dev/null'))  # seen from outside a root directory
        links.pop(2)  # the caller's stderr
        for fd, link in links.items():
            self.assertTrue(link.startswith('socket:'), (fd, link))
        with open('/proc/%d/limits' % pid, encoding='ascii') as file:
            limits = {line[:26].strip(): line[26:].split()[:2] for line in file}
        self.assertEqual(limits['Max core file size'], ['0', '0'])
        self.assertEqual(limits['Max processes'], ['0', '0'])
        self.assertLess(int(limits['Max open files'][1]), max(links))

    def expect_constants(self, pid):
        """What the linker marked as constant after relocation (PT_GNU_RELRO) is read-only."""
        with open(f'/proc/{pid}/exe', 'rb') as program:
            elf = program.read(4096)
        start, size, count = struct.unpack_from('=32xQ14xHH', elf)
        headers = [struct.unpack_from('=II8xQ16xQ', elf, start + i * size) for i in range(count)]
        constant = [(at, at + bytes_) for kind, _, at, bytes_ in headers if kind == PT_GNU_RELRO]
        self.assertEqual(len(constant), 1)
        with open(f'/proc/{pid}/maps', encoding='utf-8') as maps:
            lines = [line.split() for line in maps if os.readlink(f'/proc/{pid}/exe') in line]
        base = int(lines[0][0].split('-')[0], 16)
        page = os.sysconf('SC_PAGESIZE')
        for at in range(constant[0][0] // page * page, constant[0][1] // page * page, page):
            for line in lines:
                first, end = (int(word, 16) for word in line[0].split('-'))
                if first <= base + at < end:
                    self.assertEqual(line[1], 'r--p')
                    break
            else:
                self.fail('constants are nowhere')

    def expect_identity(self, status, user, group, groups=()):
        self.assertEqual(status['Uid'].split(), [str(user)] * 4)
        self.assertEqual(status['Gid'].split(), [str(group)] * 4)
        self.assertEqual(sorted(status['Groups'].split()), sorted(map(str, groups)))

    def expect_not_dumpable(self, pid):
        """/proc says it by giving the directory to root."""
        self.assertEqual(os.stat('/proc/%d/environ' % pid).st_uid, 0)

    def serve(self, broker):
        """It works, so that what was looked at is a broker and not a wreck; and it ends in time."""
        broker.send(probe(cookie=1))
        event, = broker.events()
        self.assertEqual(event.what, brokers.REPLY)
        started = time.monotonic()
        broker.close()
        status, text = broker.wait()
        took = time.monotonic() - started
        self.assertEqual((status, text), (0, ''))
        tap.note('gone after %.1f ms' % (took * 1e3))
        self.assertLess(took, 1)  # 0.2 s is promised; a test must bear a busy machine

    def start(self, way, **popen):
        broker = Broker(COPIES[way], **popen)
        if not broker.hello():
            self.fail('no hello but %s' % (broker.wait(),))
        return broker


class Machine(State):
    """Started by root, or from a file that root installed."""

    def test_started_by_root(self):
        needs('plain')
        for way in ('plain', 'capability', 'setuid'):
            if way in COPIES:
                with self.subTest(way=way):
                    broker = self.start(way)
                    status = self.expect_locked_down(broker.process.pid)
                    self.expect_identity(status, NOBODY, NOBODY)
                    self.serve(broker)

    def test_file_capability(self):
        needs('capability')
        broker = self.start('capability', **AS_USER)
        # Who has no CAP_SETPCAP can clear neither the bounding set nor a group list.
        status = self.expect_locked_down(broker.process.pid, bounding=False)
        self.expect_identity(status, USER, GROUP, (GROUP, 34567))
        self.expect_not_dumpable(broker.process.pid)
        self.serve(broker)

    def test_setuid(self):
        needs('setuid')
        broker = self.start('setuid', **AS_USER)
        status = self.expect_locked_down(broker.process.pid)
        self.expect_identity(status, USER, GROUP)
        self.expect_not_dumpable(broker.process.pid)
        self.serve(broker)

    def test_setuid_in_group_0(self):
        needs('setuid')
        broker = self.start('setuid', user=USER, group=0, extra_groups=[0])
        self.expect_identity(self.expect_locked_down(broker.process.pid), USER, NOBODY)
        self.serve(broker)

    def test_setgid_changes_nothing(self):
        needs('setuid')
        os.chmod(COPIES['setuid'], 0o6755)
        try:
            broker = self.start('setuid', **AS_USER)
            self.expect_identity(self.expect_locked_down(broker.process.pid), USER, GROUP)
            self.serve(broker)
        finally:
            os.chmod(COPIES['setuid'], 0o4755)

    def test_inheritable_and_ambient_sets(self):
        """What the user's login gave goes, too."""
        needs('plain')
        broker = Broker('setpriv', arguments=[
            '--reuid', str(USER), '--regid', str(GROUP), '--clear-groups', '--inh-caps',
            '+net_raw,+net_admin', '--ambient-caps', '+net_raw,+net_admin', COPIES['plain']])
        self.assertTrue(broker.hello())
        self.expect_identity(self.expect_locked_down(broker.process.pid, bounding=False), USER,
                             GROUP)
        self.serve(broker)


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
        status = self.expect_locked_down(broker.process.pid)
        self.expect_identity(status, NOBODY, NOBODY)
        self.serve(broker)

    def test_it_needs_dev_null(self):
        needs('plain')
        status, text = self.in_root().wait()
        self.assertEqual(status, brokers.SYSTEM)
        self.assertIn('/dev/null', text)
        self.assertEqual(text.count('\n'), 1)


class Refused(State):
    """No privilege, and so nothing to serve: one line with the way out, exit status 77."""

    def refused(self, broker, status=brokers.NO_PERMISSION, word='cap_net_raw=p'):
        got, text = broker.wait()
        self.assertEqual(got, status, text)
        self.assertIn(word, text)
        self.assertEqual(text.count('\n'), 1)

    def test_not_installed(self):
        needs('plain')
        self.refused(Broker(COPIES['plain'], **AS_USER))

    def test_no_new_privs(self):
        needs('plain')
        for way in ('capability', 'setuid'):
            if way in COPIES:
                self.refused(Broker('setpriv', arguments=['--no-new-privs', COPIES[way]],
                                    **AS_USER))

    def test_missing_in_the_bounding_set(self):
        """A container without it: the file capability must not stop execve itself."""
        needs('capability')
        self.refused(Broker('setpriv', arguments=[
            '--reuid', str(USER), '--regid', str(GROUP), '--clear-groups', '--bounding-set',
            '-net_raw', COPIES['capability']]))

    def test_root_that_cannot_become_another(self):
        needs('plain')
        self.refused(Broker('setpriv', arguments=[
            '--bounding-set', '-setuid', COPIES['plain']]), brokers.SYSTEM, 'CAP_SETUID')

    def test_a_namespace_without_a_map(self):
        self.refused(Broker('unshare', arguments=['--user', COPIES['plain']]))


class Namespace(State):
    """As the only user of a namespace there is no other to become: the user stays who it is, which
    outside is whoever made the namespace, and everything else is given up as ever."""

    def in_namespace(self, way, **popen):
        broker = Broker('unshare', arguments=IN_NAMESPACE[1:] + [
            '/bin/sh', '-c', 'ip link set lo up; exec "$0"', COPIES[way]], **popen)
        if not broker.hello():
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
                    status = self.expect_locked_down(broker.process.pid)
                    self.assertEqual(status['Uid'].split(), [str(USER)] * 4)
                    self.assertEqual(status['Gid'].split(), [str(GROUP)] * 4)
                    self.serve(broker)

    def test_by_root_or_in_another_namespace(self):
        broker = self.in_namespace('plain')
        self.expect_locked_down(broker.process.pid)
        self.serve(broker)

    def test_of_many_users(self):
        """A container: there, root is somebody, and so is nobody."""
        needs('plain')
        broker = self.start('plain', preexec_fn=lambda: brokers.enter_container(100000, 200000))
        status = self.expect_locked_down(broker.process.pid)
        self.expect_identity(status, 100000 + NOBODY, 200000 + NOBODY)
        self.serve(broker)

    def test_of_few_users(self):
        """A container in which nobody is not mapped: any user but root will do."""
        needs('plain')
        broker = self.start('plain', preexec_fn=lambda: brokers.enter_container(
            100000, 200000, 1000))
        status = self.expect_locked_down(broker.process.pid)
        self.expect_identity(status, 100999, 200999)
        self.serve(broker)

    def test_first_process_of_a_pid_namespace(self):
        """Without a /proc of its own, /proc/1 is somebody else."""
        broker = Broker('unshare', arguments=IN_NAMESPACE[1:] + [
            '--pid', '--fork', '--kill-child', '/bin/sh', '-c',
            'ip link set lo up; exec "$0"', COPIES['plain']])
        if not broker.hello():
            self.skipTest('no such namespace: %s' % (broker.wait(),))
        with open('/proc/%d/task/%d/children' % ((broker.process.pid,) * 2),
                  encoding='ascii') as file:
            child = int(file.read())
        self.expect_locked_down(child)
        self.serve(broker)


class FrontEnd(State):
    """mtr-packet with its broker, as mtr starts it."""

    def children(self, pid):
        with open('/proc/%d/task/%d/children' % (pid, pid), encoding='ascii') as file:
            return [int(word) for word in file.read().split()]

    def run_front_end(self, way, bounding, **popen):
        front_end = subprocess.Popen(
            [COPIES['mtr-packet'], '--broker', COPIES[way]], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **popen)
        front_end.stdin.write(b'1 send-probe ip-4 127.0.0.1\n')
        front_end.stdin.flush()
        line = front_end.stdout.readline()
        self.assertTrue(line.startswith(b'1 reply ip-4 127.0.0.1 '), line)
        broker, = self.children(front_end.pid)
        self.expect_locked_down(broker, bounding)
        status = brokers.status_of(front_end.pid)
        self.assertEqual((status['NoNewPrivs'], status['Seccomp']), ('1', FRONT_END_FILTER))
        self.expect_constants(front_end.pid)
        for name in ('CapPrm', 'CapEff'):
            if 'user' in popen:
                self.assertEqual(int(status[name], 16), 0)
        return front_end, broker

    def expect_both_gone(self, front_end, broker):
        started = time.monotonic()
        while brokers.is_running(broker) and time.monotonic() - started < 5:
            time.sleep(0.001)
        took = time.monotonic() - started
        tap.note('broker gone after %.1f ms' % (took * 1e3))
        self.assertLess(took, 1)
        with front_end:
            front_end.communicate(timeout=10)

    def test_killed(self):
        for way, user in self.ways():
            with self.subTest(way=way):
                front_end, broker = self.run_front_end(way, way != 'capability', **user)
                front_end.kill()
                self.expect_both_gone(front_end, broker)

    def test_end_of_requests(self):
        for way, user in self.ways():
            with self.subTest(way=way):
                front_end, broker = self.run_front_end(way, way != 'capability', **user)
                front_end.stdin.close()
                self.assertEqual(front_end.wait(10), 0)
                front_end.stdin = None
                self.expect_both_gone(front_end, broker)

    @staticmethod
    def ways():
        if not IS_ROOT:
            return [('plain', {})]
        return [(way, user) for way, user in
                [('plain', {}), ('capability', AS_USER), ('setuid', AS_USER)] if way in COPIES]


if __name__ == '__main__':
    if 'POSTERN_LAB_INSIDE' not in os.environ:
        os.environ['POSTERN_HOSTILE_ROOT'] = str(int(os.geteuid() == 0))
    lab.enter()
    IS_ROOT = os.environ['POSTERN_HOSTILE_ROOT'] == '1'
    install()
    tap.main()
