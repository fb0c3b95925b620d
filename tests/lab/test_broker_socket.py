#!/usr/bin/env python3
"""A broker that a service manager starts for each connection to its socket: who uses it and when, from
sandboxes without privilege and without a network, what it does not allow, and what is said when it
cannot be had. And the units for systemd.

time-limit: 90
"""
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import lab  # noqa: E402
import packet_nets  # noqa: E402
import tap  # noqa: E402

SOCKET = '/run/postern/broker.sock'  # the lab has a /run of its own
SERVICE_USER = 54320
USER = 54321
AS_USER = ('setpriv', '--reuid', str(USER), '--regid', str(USER), '--clear-groups')
# Its own broker has no privilege, whatever is installed.
WITHOUT_PRIVILEGE = (*AS_USER, '--no-new-privs')
# A namespace of its own in which the user is root, and which has no network but a loopback that is
# down. A broker that is started there works, but reaches nothing.
SANDBOX = ('unshare', '--user', '--map-root-user', '--net', '--mount')


class Service:
    """What systemd does with Accept=yes and StandardInput=socket: a broker for each connection."""

    def __init__(self, command, mode=0o666):
        os.makedirs(os.path.dirname(SOCKET), exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(SOCKET)
        self.command = command
        self.connections = 0
        self.brokers = []
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(SOCKET)
        os.chmod(SOCKET, mode)
        self.listener.listen()
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            with connection:
                self.brokers.append(lab.popen(self.command, stdin=connection, stdout=connection,
                                              stderr=subprocess.DEVNULL))

    def close(self):
        """The socket stays, and refuses connections. Returns the brokers' exit statuses."""
        if self.thread.is_alive():
            self.listener.shutdown(socket.SHUT_RDWR)
            self.thread.join()
            self.listener.close()
        return [broker.wait(5) for broker in self.brokers]


class WithNet(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if lab.in_user_namespace():
            raise unittest.SkipTest('other users need the real root')
        cls.folder = lab.scratch('installed')
        os.makedirs(cls.folder)
        for program in 'postern', 'postern-broker':
            shutil.copy(lab.build(program), cls.folder)
        cls.broker = os.path.join(cls.folder, 'postern-broker')
        if subprocess.run(['setcap', 'cap_net_raw=p', cls.broker], check=False).returncode != 0:
            raise unittest.SkipTest('no file capabilities here')
        for link in 'mtr-packet', 'tracepath':
            os.symlink('postern', os.path.join(cls.folder, link))
        cls.net = packet_nets.chain(3)

    @classmethod
    def tearDownClass(cls):
        if hasattr(cls, 'net'):
            cls.net.close()
            shutil.rmtree(cls.folder)

    def serve(self, *prefix, mode=0o666):
        """As the units do: the file capability, and no other than it in the bounding set."""
        prefix = prefix or ('setpriv', '--reuid', str(SERVICE_USER), '--regid', str(SERVICE_USER),
                            '--clear-groups', '--bounding-set', '-all,+net_raw')
        service = Service([*prefix, self.broker], mode)
        self.addCleanup(service.close)
        return service

    def client(self, prefix=WITHOUT_PRIVILEGE, **how):
        return self.net.client(prefix, program=os.path.join(self.folder, 'mtr-packet'), **how)

    def destination(self, family=4):
        return 'ip-%d %s' % (family, getattr(self.net.network, 'destination%d' % family))


class Served(WithNet):
    def test_from_a_user_without_privilege(self):
        """Every hop and both protocols; no process is left beside the front end."""
        service = self.serve()
        with self.client() as client:
            for family in 4, 6:
                replies = client.ask(*('send-probe %s ttl %d' % (self.destination(family), ttl)
                                       for ttl in range(1, 5)))
                self.assertEqual([reply.word for reply in replies],
                                 ['ttl-expired'] * 3 + ['reply'])
                sctp = client.one('send-probe %s protocol sctp' % self.destination(family))
                self.assertEqual(sctp.word, 'reply')
            for feature in 'icmp', 'sctp', 'udp', 'tcp':
                self.assertEqual(client.supports(feature), 'ok')
            with open('/proc/{0}/task/{0}/children'.format(client.process.pid),
                      encoding='ascii') as children:
                self.assertEqual(children.read(), '')
        self.assertEqual(client.errors, [])
        self.assertEqual(service.connections, 1)
        self.assertEqual(service.close(), [0])

    def test_marks_are_not_for_clients(self):
        """Not even for root, whose own broker would allow them."""
        self.serve()
        with self.client(prefix=(), environment={'POSTERN_BROKER': SOCKET}) as client:
            replies = client.ask('send-probe %s mark 7' % self.destination(),
                                 'send-probe %s' % self.destination())
            self.assertEqual([reply.word for reply in replies], ['permission-denied', 'reply'])

    def test_from_a_sandbox_without_a_network(self):
        """By one mounted socket. The broker's network counts, not the client's."""
        mounted = lab.scratch('mounted.sock')
        with open(mounted, 'w', encoding='ascii'):
            pass
        self.serve()
        prefix = (*AS_USER, *SANDBOX, 'sh', '-c',
                  'mount --bind %s %s && exec "$@"' % (SOCKET, mounted), 'sh')
        requests = ['send-probe %s ttl 2' % self.destination(),
                    'send-probe %s protocol sctp' % self.destination(),
                    'send-probe %s protocol udp' % self.destination()]
        for environment, words in (
                ({'POSTERN_BROKER': mounted}, ['ttl-expired', 'reply', 'no-route']),
                ({}, ['no-route'] * 3)):
            with self.client(prefix, environment=environment) as client:
                self.assertEqual([reply.word for reply in client.ask(*requests)], words)

    def test_tracepath(self):
        self.serve()
        done = self.net.run(*WITHOUT_PRIVILEGE, os.path.join(self.folder, 'tracepath'), '-n', '-P',
                            'icmp', self.net.network.destination4)
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        self.assertIn('Resume: pmtu 1500 hops 4', done.stdout)

    def test_by_socket_activate(self):
        """The program that comes with systemd for trying a service."""
        activate = shutil.which('systemd-socket-activate')
        if activate is None:
            self.skipTest('no systemd-socket-activate')
        path = lab.scratch('activate.sock')
        server = lab.popen([activate, '--inetd', '-a', '--seqpacket', '-l', path, self.broker],
                           stderr=subprocess.DEVNULL)
        try:
            until = time.monotonic() + 5
            while not os.path.exists(path):
                self.assertLess(time.monotonic(), until)
                time.sleep(0.01)
            os.chmod(path, 0o666)
            for _ in range(2):
                with self.client(environment={'POSTERN_BROKER': path}) as client:
                    reply = client.one('send-probe ' + self.destination())
                    self.assertEqual(reply.word, 'reply')
        finally:
            server.terminate()
            server.wait(5)


class Chosen(WithNet):
    """Which broker a front end takes."""

    def connections(self, prefix=AS_USER, **how):
        service = self.serve()
        with self.client(prefix, **how) as client:
            self.assertEqual(client.one('send-probe ' + self.destination()).word, 'reply')
        return service.connections

    def test_its_own_if_that_works(self):
        self.assertEqual(self.connections(), 0)
        self.assertEqual(self.connections(environment={'POSTERN_BROKER': ''}), 0)

    def test_the_one_that_the_environment_names(self):
        self.assertEqual(self.connections(environment={'POSTERN_BROKER': SOCKET}), 1)

    def test_the_one_that_the_command_line_names(self):
        self.assertEqual(self.connections(arguments=['--broker', self.broker],
                                          environment={'POSTERN_BROKER': SOCKET}), 0)

    def test_where_there_is_no_program(self):
        self.serve()
        alone = os.path.join(self.folder, 'alone')
        os.makedirs(alone)
        program = shutil.copy(os.path.join(self.folder, 'postern'), alone + '/mtr-packet')
        with self.net.client(WITHOUT_PRIVILEGE, program=program) as client:
            self.assertEqual(client.one('send-probe ' + self.destination()).word, 'reply')


class Failed(WithNet):
    """ICMP and SCTP are refused, UDP goes on, one short line says why."""

    def expect(self, word, line, environment=None):
        with self.client(environment=environment) as client:
            replies = client.ask(*('send-probe %s protocol %s' % (self.destination(), protocol)
                                   for protocol in ('icmp', 'sctp', 'udp')))
            self.assertEqual([reply.word for reply in replies], [word, word, 'reply'])
            self.assertEqual(client.supports('icmp'), 'no')
        self.assertEqual(client.errors, ['mtr-packet: %s (see postern doctor)' % line])
        self.assertLess(len(client.errors[0]), 100)

    OWN = 'postern-broker: CAP_NET_RAW is not held'

    def test_socket_that_does_not_listen(self):
        Service(['false']).close()
        self.expect('permission-denied', self.OWN)
        self.expect('unexpected-error',
                    'POSTERN_BROKER: Connection refused: ' + SOCKET, {'POSTERN_BROKER': SOCKET})

    def test_user_is_not_in_the_group(self):
        service = self.serve(mode=0o660)
        self.expect('permission-denied', self.OWN)
        self.expect('permission-denied', 'POSTERN_BROKER: Permission denied: ' + SOCKET,
                    {'POSTERN_BROKER': SOCKET})
        self.assertEqual(service.connections, 0)

    def test_its_broker_has_no_privilege(self):
        self.serve('setpriv', '--reuid', str(SERVICE_USER), '--clear-groups', '--bounding-set',
                   '-all')
        self.expect('unexpected-error', SOCKET + ': closed its channel')

    def test_environment_names_none(self):
        """It is not replaced by the one that is there."""
        self.serve()
        self.expect('unexpected-error', 'POSTERN_BROKER: No such file or directory: /no/socket',
                    {'POSTERN_BROKER': '/no/socket'})

    def test_command_line_names_none(self):
        """It is not replaced either."""
        service = self.serve()
        with self.client(arguments=['--broker', '/bin/false']) as client:
            reply = client.one('send-probe ' + self.destination())
            self.assertEqual(reply.word, 'unexpected-error')
        self.assertEqual(service.connections, 0)

    def test_peer_ends_without_a_hello(self):
        self.serve('sh', '-c', 'sleep 0.2', '--')
        self.expect('unexpected-error', SOCKET + ': closed its channel')


class Units(unittest.TestCase):
    def test_many_connections_do_not_end_the_socket(self):
        """systemd before 255 gives a socket up that has more than 200 in two seconds."""
        with open(os.path.join(lab.ROOT, 'broker/postern-broker.socket'), encoding='utf-8') as unit:
            self.assertIn('\nTriggerLimitIntervalSec=0\n', unit.read())

    def test_systemd_accepts_them(self):
        analyze = shutil.which('systemd-analyze')
        if analyze is None:
            self.skipTest('no systemd-analyze')
        units = 'postern-broker.socket', 'postern-broker@.service'
        with tempfile.TemporaryDirectory() as folder:
            for unit in units:
                with open(os.path.join(lab.ROOT, 'broker', unit), encoding='utf-8') as file:
                    text = file.read()
                text = text.replace('/usr/local/libexec/postern', os.path.dirname(
                    lab.build('postern-broker')))
                with open(os.path.join(folder, unit), 'w', encoding='utf-8') as file:
                    file.write(text)
            for unit in units:
                done = subprocess.run([analyze, 'verify', '--man=no', os.path.join(folder, unit)],
                                      capture_output=True, text=True, timeout=30, check=False)
                self.assertEqual((done.returncode, done.stdout, done.stderr), (0, '', ''), unit)


if __name__ == '__main__':
    lab.enter()
    tap.main()
