#!/usr/bin/env python3
"""Who may probe and what the two processes hold while they do: started by an ordinary user with the
broker installed by file capability and by setuid, and started by root. Checked from /proc, with mtr
over real routers, and at the end of the front end.

time-limit: 90
"""
import concurrent.futures
import os
import shutil
import signal
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import lab  # noqa: E402
import packet_nets  # noqa: E402
import processes  # noqa: E402
import tap  # noqa: E402
from test_packet_mtr import expected, mtr  # noqa: E402

# An ordinary user without name, home or group of consequence.
USER = 54321
CAP_NET_RAW = 1 << 13
CYCLES = 2
SLACK_S = 1.5
PROMISED_GONE_S = 0.2


def install(kind):
    """The programs in a folder of their own, the broker privileged by `kind`; returns that."""
    folder = lab.scratch('installed-' + kind)
    os.makedirs(folder, exist_ok=True)
    if os.path.exists(os.path.join(folder, 'mtr-packet')):
        return folder
    for program in 'mtr-packet', 'postern-broker':
        shutil.copyfile(lab.build(program), os.path.join(folder, program))
        os.chmod(os.path.join(folder, program), 0o755)
    broker = os.path.join(folder, 'postern-broker')
    if kind == 'capability':
        subprocess.run(['setcap', 'cap_net_raw=p', broker], check=True)
    elif kind == 'setuid':
        os.chmod(broker, 0o4755)
    return folder


class Way:
    """The tests of one way to start; each way is a subclass."""
    kind = None
    user = USER

    @classmethod
    def setUpClass(cls):
        if lab.in_user_namespace():
            raise unittest.SkipTest('other users and set-id programs need the real root')
        try:
            folder = install(cls.kind)
        except subprocess.CalledProcessError as error:
            raise unittest.SkipTest('no file capabilities here: %s' % error)
        cls.program = os.path.join(folder, 'mtr-packet')
        cls.prefix = () if cls.user == 0 else (
            'setpriv', '--reuid', str(cls.user), '--regid', str(cls.user), '--clear-groups')
        cls.net = packet_nets.chain(5)

    @classmethod
    def tearDownClass(cls):
        if hasattr(cls, 'net'):
            cls.net.close()

    def start(self):
        client = self.net.client(prefix=self.prefix, program=self.program)
        reply = client.one('send-probe ip-4 ' + self.net.network.destination4)
        self.assertEqual(reply.word, 'reply', (reply, client.errors))
        return client, processes.broker_of(client.process.pid)

    def test_mtr(self):
        """Every hop without loss, also with what needs more than sending: marks, devices."""
        runs = [(family, options) for family in (4, 6)
                for options in ('', '-u', '-T -P 443', '-M 7', '-a SECOND', '-I eth0')]
        with concurrent.futures.ThreadPoolExecutor(len(runs)) as pool:
            # mtr allows only root an interval below one second
            found = list(pool.map(lambda run: mtr(
                self.net, *run, more=('-i', '1', '-G', '0.5'), cycles=CYCLES, prefix=self.prefix,
                program=self.program), runs))
        for (family, options), hubs in zip(runs, found):
            with self.subTest(family=family, options=options):
                self.assertEqual(hubs, expected(self.net, family, CYCLES))

    def test_every_protocol(self):
        client, _ = self.start()
        with client:
            for family in 'ip-4 ' + self.net.network.destination4, \
                    'ip-6 ' + self.net.network.destination6:
                for protocol in 'icmp', 'udp', 'tcp', 'sctp':
                    with self.subTest(family=family, protocol=protocol):
                        reply = client.one('send-probe %s protocol %s mark 9 tos 8' % (
                            family, protocol))
                        self.assertEqual(reply.word, 'reply', reply)
            for feature in 'icmp', 'udp', 'tcp', 'sctp', 'mark', 'local-device':
                self.assertEqual(client.supports(feature), 'ok')

    def test_broker_state(self):
        client, broker = self.start()
        with client:
            status = processes.status(broker)
            tap.note({name: status[name] for name in status if name[:3] in ('Uid', 'Gid', 'Cap',
                                                                            'Gro', 'NoN', 'Sec')})
            for ids in status['Uid'], status['Gid']:
                self.assertNotIn('0', ids.split())
                self.assertEqual(len(set(ids.split())), 1, 'real, effective, saved, file system')
            if self.user:
                self.assertEqual(set(status['Uid'].split()), {str(self.user)})
                self.assertEqual(set(status['Gid'].split()), {str(self.user)})
            self.assertNotIn('0', status['Groups'].split())
            self.assertIn(int(status['CapPrm'], 16), (0, CAP_NET_RAW))
            for empty in 'CapEff', 'CapInh', 'CapAmb':
                self.assertEqual(int(status[empty], 16), 0, empty)
            if self.kind != 'capability':  # which has no CAP_SETPCAP to clear it with
                self.assertEqual(int(status['CapBnd'], 16), 0)
            self.assertEqual(status['NoNewPrivs'], '1')
            self.assertEqual(status['Seccomp'], '2')

    def test_broker_descriptors(self):
        client, broker = self.start()
        with client:
            held = processes.descriptors(broker)
            self.assertEqual(held[0], 'socket:', 'the channel')
            tap.note('%d descriptors' % len(held))
            others = {fd: what for fd, what in held.items() if what not in ('socket:', '/dev/null')}
            self.assertEqual(others, {})

    def test_broker_cannot_be_looked_into(self):
        """Not dumpable: /proc/PID belongs to root, so the user cannot attach or read memory."""
        client, broker = self.start()
        with client:
            self.assertEqual(os.stat('/proc/%d/mem' % broker).st_uid, 0)

    def test_front_end_state(self):
        client, _ = self.start()
        with client:
            status = processes.status(client.process.pid)
            self.assertEqual(status['NoNewPrivs'], '1')
            if not processes.sanitized(self.program):  # which needs system calls of its own
                self.assertEqual(status['Seccomp'], '2')
            self.assertEqual(set(status['Uid'].split()), {str(self.user)})
            if self.user:
                self.assertEqual(int(status['CapPrm'], 16), 0)
                self.assertEqual(int(status['CapEff'], 16), 0)

    def test_broker_goes_with_its_front_end(self):
        """However that ends. Promised are 0.2 s; a busy machine gets more."""
        took = {}
        for name, end in (('SIGKILL', lambda c: c.process.send_signal(signal.SIGKILL)),
                          ('SIGTERM', lambda c: c.process.send_signal(signal.SIGTERM)),
                          ('end of input', lambda c: c.process.stdin.close())):
            client, broker = self.start()
            client.write('77 send-probe ip-4 203.0.113.77 timeout 0.1\n')
            time.sleep(0.3)
            end(client)
            took[name] = processes.gone_within(broker, PROMISED_GONE_S + SLACK_S)
            client.process.wait(5)
            client.close()
        tap.note('broker gone after: %s' % ', '.join(
            '%s %s' % (name, 'never' if s is None else '%.1f ms' % (s * 1e3))
            for name, s in took.items()))
        self.assertNotIn(None, took.values())

    def test_nothing_stays_behind(self):
        """Twenty sessions one after the other leave no process."""
        before = set(os.listdir('/proc'))
        for _ in range(20):
            client, broker = self.start()
            client.close()
            processes.gone_within(broker, SLACK_S)
        left = [p for p in set(os.listdir('/proc')) - before if p.isdigit() and
                processes.status(int(p))['Name'] in ('postern-broker', 'mtr-packet', 'postern')
                and processes.status(int(p))['State'][0] not in 'ZX']
        self.assertEqual(left, [])


class FileCapability(Way, unittest.TestCase):
    kind = 'capability'


class Setuid(Way, unittest.TestCase):
    kind = 'setuid'


class Root(Way, unittest.TestCase):
    kind = 'plain'
    user = 0


AS_USER = 'setpriv', '--reuid', str(USER), '--regid', str(USER), '--clear-groups'


class NoPrivilege(unittest.TestCase):
    """Where the broker cannot get CAP_NET_RAW, as in many containers: one line says why and what to
    do, check-support says no, and no request is lost."""

    def check(self, kind, prefix):
        if lab.in_user_namespace():
            self.skipTest('needs the real root')
        folder = install(kind)
        with packet_nets.chain(1) as net:
            lab.inside(lab.HOST, lab.allow_ping, False)
            with net.client(prefix=prefix, program=os.path.join(folder, 'mtr-packet')) as client:
                for feature in 'icmp', 'sctp', 'mark':
                    self.assertEqual(client.supports(feature), 'no')
                replies = client.ask(*['send-probe ip-4 %s timeout 2 protocol %s' % (
                    net.network.destination4, p) for p in ('icmp', 'sctp')], within=5)
                for reply in replies:
                    self.assertNotIn(reply.word, ('reply', 'no-reply', 'ttl-expired'))
                self.assertEqual(client.close(5), 0)
                self.assertEqual(len(client.errors), 1, client.errors)
                self.assertIn('CAP_NET_RAW', client.errors[0])
                tap.note(replies[0].line + client.errors[0])

    def test_broker_not_installed_with_privilege(self):
        self.check('none', AS_USER)

    def test_no_new_privileges(self):
        self.check('capability', (*AS_USER, '--no-new-privs'))

    def test_no_new_privileges_and_setuid(self):
        self.check('setuid', (*AS_USER, '--no-new-privs'))

    def test_not_in_the_bounding_set(self):
        self.check('capability', (*AS_USER, '--bounding-set', '-net_raw'))

    def test_root_without_it(self):
        self.check('none', ('setpriv', '--bounding-set', '-net_raw', '--inh-caps', '-net_raw'))


if __name__ == '__main__':
    lab.enter()
    tap.main()
