#!/usr/bin/env python3
"""Who may probe and what the two processes hold meanwhile: started by an ordinary user with the broker
installed by file capability and by setuid, started by root, and by a root without most of its
privilege. Checked from /proc, with mtr over real routers, by a firewall and a routing rule by user.

time-limit: 90
"""
import concurrent.futures
import os
import re
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
from sandboxes import as_user, install, USER  # noqa: E402
from test_packet_mtr import expected, mtr  # noqa: E402

CAP_NET_RAW = 1 << 13
CYCLES = 2
PROTOCOLS = 'icmp', 'udp', 'tcp', 'sctp'
# Counts what a user's sockets send, each kind of probe in a rule of its own.
OWNER_RULES = '''
define user = %d
table inet owner {
  chain output {
    type filter hook output priority 0;
    meta skuid $user meta nfproto ipv4 meta l4proto icmp counter comment "icmp4"
    meta skuid $user meta nfproto ipv4 meta l4proto udp counter comment "udp4"
    meta skuid $user meta nfproto ipv4 meta l4proto tcp counter comment "tcp4"
    meta skuid $user meta nfproto ipv4 meta l4proto sctp counter comment "sctp4"
    meta skuid $user meta nfproto ipv6 meta l4proto icmpv6 icmpv6 type echo-request counter comment "icmp6"
    meta skuid $user meta nfproto ipv6 meta l4proto udp counter comment "udp6"
    meta skuid $user meta nfproto ipv6 meta l4proto tcp counter comment "tcp6"
    meta skuid $user meta nfproto ipv6 meta l4proto sctp counter comment "sctp6"
  }
}
'''
SLACK_S = 1.5
PROMISED_GONE_S = 0.2


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
        """Every hop without loss, also from a chosen address and device, and with a mark where that
        is allowed."""
        runs = [(family, options) for family in (4, 6)
                for options in ('', '-u', '-T -P 443', '-a SECOND', '-I eth0')]
        if self.user == 0:
            runs += [(4, '-M 7'), (6, '-M 7'), (4, '-u -M 7'), (6, '-T -M 7')]
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
                for protocol in PROTOCOLS:
                    with self.subTest(family=family, protocol=protocol):
                        request = 'send-probe %s protocol %s tos 8' % (family, protocol)
                        self.assertEqual(client.one(request).word, 'reply')
                        self.assertEqual(client.one(request + ' mark 9').word, 'permission-denied'
                                         if self.user else 'reply')
            for feature in *PROTOCOLS, 'local-device':
                self.assertEqual(client.supports(feature), 'ok')
            self.assertEqual(client.supports('mark'), 'no' if self.user else 'ok')

    def test_sockets_belong_to_the_user(self):
        """A firewall and a routing rule by user see the one who started it, whatever the protocol
        and however the broker got its privilege."""
        requests = ['send-probe %s protocol %s' % (destination, protocol) for protocol in PROTOCOLS
                    for destination in ('ip-4 ' + self.net.network.destination4,
                                        'ip-6 ' + self.net.network.destination6)]
        client, _ = self.start()
        with client:
            done = self.net.run('nft', '-f', '-', input=OWNER_RULES % self.user)
            if done.returncode != 0:
                self.skipTest('no nftables here: ' + done.stderr.strip())
            for request, reply in zip(requests, client.ask(*requests)):
                self.assertEqual(reply.word, 'reply', request)
            listing = self.net.run('nft', 'list', 'ruleset').stdout
            counters = re.findall(r'packets (\d+) .*comment "(\w+)"', listing)
            self.assertEqual(len(counters), len(requests))
            for packets, kind in counters:
                self.assertGreater(int(packets), 0, kind)
            self.net.run('nft', 'delete', 'table', 'inet', 'owner')
            for family in '-4', '-6':
                self.net.ip('%s rule add pref 10 uidrange %d-%d prohibit' % (
                    family, self.user, self.user))
            replies = client.ask(*requests)
            for family in '-4', '-6':
                self.net.ip('%s rule del pref 10' % family)
            for request, reply in zip(requests, replies):
                with self.subTest(request=request):
                    self.assertEqual(reply.word, 'permission-denied', reply)

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
            for name in 'CapPrm', 'CapEff':  # root may set marks, which takes one on each send
                self.assertEqual(int(status[name], 16), 0 if self.user else CAP_NET_RAW, name)
            for name in 'CapInh', 'CapAmb':
                self.assertEqual(int(status[name], 16), 0, name)
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
            for name in 'CapPrm', 'CapEff', 'CapInh', 'CapAmb':  # root's marks, as above
                self.assertIn(int(status[name], 16), (0,) if self.user or name in (
                    'CapInh', 'CapAmb') else (0, CAP_NET_RAW), name)

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


AS_USER = as_user()


class LittleRoot(unittest.TestCase):
    def test_net_raw_and_nothing_else(self):
        """Root in a container with NET_RAW added, which cannot become another user."""
        if lab.in_user_namespace():
            self.skipTest('needs the real root')
        little = 'setpriv', '--bounding-set', '-all,+net_raw', '--inh-caps', '-all'
        program = os.path.join(install('plain'), 'mtr-packet')
        with packet_nets.chain(1) as net, net.client(prefix=little, program=program) as client:
            for protocol in PROTOCOLS:
                for destination in ('ip-4 ' + net.network.destination4,
                                    'ip-6 ' + net.network.destination6):
                    reply = client.one('send-probe %s protocol %s' % (destination, protocol))
                    self.assertEqual(reply.word, 'reply', reply)
            status = processes.status(processes.broker_of(client.process.pid))
            self.assertIn(int(status['CapPrm'], 16), (0, CAP_NET_RAW))
            self.assertEqual(client.close(5), 0)
            self.assertEqual(client.errors, [])


class NoPrivilege(unittest.TestCase):
    """Where the broker cannot get CAP_NET_RAW, as in many containers: UDP and TCP work as anywhere.
    ICMP and SCTP are refused, check-support says no, one line says why, and no request is lost."""

    def check(self, kind, prefix):
        if lab.in_user_namespace():
            self.skipTest('needs the real root')
        folder = install(kind)
        with packet_nets.chain(1) as net:
            lab.inside(lab.HOST, lab.allow_ping, False)
            with net.client(prefix=prefix, program=os.path.join(folder, 'mtr-packet')) as client:
                for protocol in PROTOCOLS:
                    direct = protocol in ('udp', 'tcp')
                    self.assertEqual(client.supports(protocol), 'ok' if direct else 'no')
                    for destination in ('ip-4 ' + net.network.destination4,
                                        'ip-6 ' + net.network.destination6):
                        reply = client.one('send-probe %s timeout 2 protocol %s' % (
                            destination, protocol), within=5)
                        self.assertEqual(reply.word, 'reply' if direct else 'permission-denied')
                self.assertEqual(client.close(5), 0)
                self.assertEqual(len(client.errors), 1, client.errors)
                self.assertIn('CAP_NET_RAW', client.errors[0])
                tap.note(client.errors[0])

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
