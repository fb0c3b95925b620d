#!/usr/bin/env python3
"""Every way to start Postern in every sandbox: tracepath, mtr with ICMP, UDP and TCP over five routers and
both families find every hop where the kernel allows it. Where it does not, one line and postern doctor
say what is missing. tracepath's lines are those of iputils' in each.

time-limit: 150
"""
import concurrent.futures
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import typing
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import lab  # noqa: E402
import packet_nets  # noqa: E402
import processes  # noqa: E402
import sandboxes  # noqa: E402
import tap  # noqa: E402
import tracepath_lines  # noqa: E402
from packet_client import Client  # noqa: E402
from sandboxes import as_user, denying, setpriv  # noqa: E402
from test_broker_socket import Service, SERVICE_USER, SOCKET  # noqa: E402
from test_packet_mtr import expected, mtr  # noqa: E402

ROUTERS = 5
# Most of the time of a cell is waiting.
PARALLEL = 48
LONGEST_LINE = 100
DIRECT = 'udp', 'tcp'
PROTOCOLS = 'icmp', 'sctp', *DIRECT


class State(typing.NamedTuple):
    """What is taken away: by commands that run before or after the user is chosen, and by mounts."""
    prefix: tuple = ()
    mounts: tuple = ()


class Way(typing.NamedTuple):
    """How Postern is installed and who starts it."""
    kind: str                   # of installation: sandboxes.install()
    prefix: tuple               # becomes who starts it
    lacks: str = ''             # why its own broker never works
    withheld_by: tuple = ()     # states in which its own broker does not work
    mounts_follow: bool = False # the user is root of a namespace: mounts are made there


FILE_STATES = 'no_new_privs', 'bounding set', 'nosuid', 'seccomp'
ROOT_STATES = 'bounding set', 'seccomp'
WAYS = {
    'file capability': Way('capability', as_user(), withheld_by=FILE_STATES),
    'setuid': Way('setuid', as_user(), withheld_by=FILE_STATES),
    'root': Way('none', (), withheld_by=ROOT_STATES),
    'root with NET_RAW only': Way('none', setpriv('--bounding-set', '-all,+net_raw',
                                                  '--inh-caps', '-all'), withheld_by=ROOT_STATES),
    'root of a user namespace': Way('none', (*as_user(), 'unshare', '--user', '--map-root-user'),
                                    lacks='user namespace', mounts_follow=True),
    'nothing': Way('none', as_user(), lacks='file capability'),
}
SOCKET_WAY = {'mounted socket': WAYS['nothing']}

STATES = {
    'plain': State(),
    'no_new_privs': State(setpriv('--no-new-privs')),
    'bounding set': State(setpriv('--bounding-set', '-net_raw')),
    'seccomp': State(denying('raw')),
    'read-only root': State(mounts=('mount -o remount,bind,ro /', 'mount -o remount,bind,ro /run')),
    'nosuid': State(mounts=('mount --bind {folder} {folder}',
                            'mount -o remount,bind,nosuid {folder}')),
    # A program cannot tell where it lies without /proc: the broker is where `make install` puts it.
    'no /proc': State(mounts=('mount -t tmpfs none /usr/local',
                              'mkdir -p /usr/local/libexec/postern',
                              'mount --bind {folder} /usr/local/libexec/postern',
                              'mount -t tmpfs none /proc')),
}

# The cause that postern doctor names first.
CAUSES = {
    'no_new_privs': 'no-new-privs',
    'bounding set': 'bounding-set',
    'nosuid': 'nosuid',
    'seccomp': 'seccomp',
    'file capability': 'no-file-privilege',
    'user namespace': 'user-namespace',
}


class Cell(typing.NamedTuple):
    way: str
    state: str
    served: bool = False     # there is a broker behind /run/postern/broker.sock
    ping_open: bool = False
    families: tuple = (4, 6)

    def folder(self):
        return sandboxes.install(self._way().kind)

    def _way(self):
        return WAYS.get(self.way) or SOCKET_WAY[self.way]

    def prefix(self):
        state, way = STATES[self.state], self._way()
        mounts = sandboxes.with_mounts(*(m.format(folder=self.folder()) for m in state.mounts)) \
            if state.mounts else ()
        late = (*way.prefix, *mounts) if way.mounts_follow else (*mounts, *way.prefix)
        return (*state.prefix, *late)

    def reason(self):
        """The name of what keeps its own broker from working, or None."""
        way = self._way()
        if way.lacks == 'user namespace':
            return way.lacks
        return self.state if self.state in FILE_STATES and (way.lacks or self.state in way.withheld_by) \
            else way.lacks or None

    def works(self, protocol):
        if protocol in DIRECT or self.served or self.reason() is None:
            return True
        return protocol == 'icmp' and self.ping_open


@contextlib.contextmanager
def running_service():
    """A broker for each connection to /run/postern/broker.sock, as the units for systemd have it."""
    service = Service([*setpriv('--bounding-set', '-all,+net_raw'), *as_user(SERVICE_USER)[1:],
                       os.path.join(sandboxes.install('capability'), 'postern-broker')])
    try:
        yield
    finally:
        service.close()
        os.unlink(SOCKET)


class Checks:
    """What is checked in a cell; each returns a text that says what is wrong, or an empty one."""

    def __init__(self, net):
        self.net = net

    def run(self, cell, program, *arguments):
        return self.net.run(*cell.prefix(), program, *arguments, timeout=30)

    def destination(self, family):
        return getattr(self.net.network, 'destination%d' % family)

    def mtr(self, cell, family, options=''):
        protocol = {'-u': 'udp', '-T': 'tcp', '-S': 'sctp'}.get(options, 'icmp')
        found = mtr(self.net, family, options, more=('-i', '1', '-G', '1'), cycles=1,
                    prefix=cell.prefix(), program=os.path.join(cell.folder(), 'mtr-packet'))
        if cell.works(protocol) and family in cell.families:
            return '' if found == expected(self.net, family, 1) else str(found)
        if not cell.works(protocol):
            # mtr adds a line of its own.
            return self.one_line(found.partition(', ')[2].splitlines()[:1], 'mtr-packet')
        return '' if isinstance(found, str) else 'hops without IPv6: %s' % found

    def one_line(self, lines, program, cause='CAP_NET_RAW|raw socket'):
        good = len(lines) == 1 and len(lines[0]) < LONGEST_LINE and \
            re.fullmatch(r'%s: .*(%s).* \(see postern doctor\)' % (program, cause), lines[0])
        return '' if good else 'not one true line: %s' % lines

    def same_as_iputils(self, cell, family):
        outputs = []
        for program in tracepath_lines.IPUTILS, os.path.join(cell.folder(), 'tracepath'):
            done = self.run(cell, program, '-n', self.destination(family))
            outputs.append(done.stdout)
            if family in cell.families and (done.returncode or done.stderr):
                return '%s: status %d, %s' % (program, done.returncode, done.stderr)
        if ('Resume: pmtu 1500 hops 6 back 6' in outputs[1]) != (family in cell.families):
            return outputs[1]
        return tracepath_lines.difference(*outputs)

    def tracepath_icmp(self, cell, family):
        done = self.run(cell, os.path.join(cell.folder(), 'tracepath'), '-n', '-P', 'icmp',
                        self.destination(family))
        if cell.works('icmp') and family in cell.families:
            good = done.returncode == 0 and not done.stderr and 'hops 6 back 6' in done.stdout
            return '' if good else 'status %d, %s%s' % (done.returncode, done.stderr, done.stdout)
        if done.returncode == 0 or done.stdout:
            return 'status %d, %s' % (done.returncode, done.stdout)
        return self.one_line(done.stderr.splitlines(), 'tracepath',
                             'IPv6' if cell.works('icmp') else 'CAP_NET_RAW|raw socket')

    def truth(self, cell):
        """check-support says what a probe then does, permission-denied where nothing else works."""
        with self.net.client(cell.prefix(), program=os.path.join(cell.folder(), 'mtr-packet')) as client:
            wrong = []
            for protocol in PROTOCOLS:
                works = cell.works(protocol)
                if client.supports(protocol) != ('ok' if works else 'no'):
                    wrong.append('check-support %s' % protocol)
                for family in 4, 6:
                    reply = client.one('send-probe ip-%d %s protocol %s timeout 3' % (
                        family, self.destination(family), protocol))
                    want = 'permission-denied' if not works else \
                        'reply' if family in cell.families else 'invalid-argument'
                    if reply.word != want:
                        wrong.append('%s IPv%d: %r' % (protocol, family, reply))
            for family in 4, 6:
                if client.supports('ip-%d' % family) != ('ok' if family in cell.families else 'no'):
                    wrong.append('check-support ip-%d' % family)
        lines = client.errors
        if all(map(cell.works, PROTOCOLS)):
            wrong += ['said: %s' % line for line in lines]
        else:
            wrong += filter(None, [self.one_line(lines, 'mtr-packet')])
        return '; '.join(wrong)

    def doctor(self, cell):
        done = self.run(cell, 'env', 'PATH=%s:%s' % (cell.folder(), os.environ['PATH']),
                        os.path.join(cell.folder(), 'postern'), 'doctor', '--json')
        report = json.loads(done.stdout)
        works = {protocol: {'ipv%d' % family: cell.works(protocol) and family in cell.families
                            for family in (4, 6)} for protocol in PROTOCOLS}
        causes = [cause['id'] for cause in report['causes'] if cause['matters']]
        expected_causes = [] if all(map(cell.works, PROTOCOLS)) else [CAUSES[cell.reason()]]
        if 6 not in cell.families:
            expected_causes.append('ipv6-off')
        good = report['protocols'] == works and (done.returncode == 0) == (not expected_causes) \
            and bool(causes) == bool(expected_causes) and set(expected_causes) <= set(causes)
        return '' if good else 'status %d, %s' % (done.returncode, done.stdout)

    def all(self, cell):
        for family in 4, 6:
            for options in '', '-u', '-T':
                yield 'mtr -%d %s' % (family, options), self.mtr, (cell, family, options)
            yield 'tracepath -%d' % family, self.same_as_iputils, (cell, family)
            yield 'tracepath -%d -P icmp' % family, self.tracepath_icmp, (cell, family)
        yield 'mtr-packet', self.truth, (cell,)
        yield 'doctor', self.doctor, (cell,)


class Matrix(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if lab.in_user_namespace():
            raise unittest.SkipTest('other users and set-id programs need the real root')
        try:
            sandboxes.install('capability')
        except subprocess.CalledProcessError as error:
            raise unittest.SkipTest('no file capabilities here: %s' % error)
        for kind in 'setuid', 'none':
            sandboxes.install(kind)

    def setUp(self):
        self.net = packet_nets.chain(ROUTERS)
        self.addCleanup(self.net.close)

    def check(self, cells):
        checks = Checks(self.net)
        with concurrent.futures.ThreadPoolExecutor(PARALLEL) as pool:
            running = [(cell, name, pool.submit(function, *arguments)) for cell in cells
                       for name, function, arguments in checks.all(cell)]
        for cell, name, future in running:
            with self.subTest(way=cell.way, state=cell.state, check=name):
                self.assertEqual(future.result(), '')
        tap.note('%d cells, %d checks' % (len(cells), len(running)))

    def test_ping_sockets_closed(self):
        lab.inside(lab.HOST, lab.allow_ping, False)
        self.check([Cell(way, state) for way in WAYS for state in STATES])

    def test_ping_sockets_open(self):
        lab.inside(lab.HOST, lab.allow_ping, True)
        self.check([Cell(way, state, ping_open=True) for way in WAYS for state in STATES])

    def test_mounted_socket(self):
        lab.inside(lab.HOST, lab.allow_ping, False)
        with running_service():
            self.check([Cell(way, state, served=True) for way in SOCKET_WAY for state in STATES])

    def test_ipv6_disabled(self):
        lab.inside(lab.HOST, lab.allow_ping, False)
        lab.inside(lab.HOST, lab.write_sysctls, {'net/ipv6/conf/all/disable_ipv6': 1})
        self.check([Cell(way, 'plain', families=(4,)) for way in WAYS])


class Truth(unittest.TestCase):
    """What is said while a trace runs, and what is started for it."""

    def run_tracepath(self, net, *arguments, prefix=()):
        return net.run(*prefix, os.path.join(sandboxes.install('capability'), 'tracepath'),
                       *arguments, net.network.destination4, timeout=30)

    def test_tracepath_starts_no_process_but_its_name_helper(self):
        with packet_nets.chain(ROUTERS) as net:
            for options, processes_started in (['-n'], 0), ([], 1):
                log = lab.scratch('strace')
                done = self.run_tracepath(net, *options, prefix=(
                    'strace', '-f', '-o', log, '-e', 'trace=execve,execveat,fork,vfork,clone,clone3'))
                self.assertIn('hops 6 back 6', done.stdout, done.stderr)
                with open(log, encoding='ascii', errors='replace') as file:
                    lines = [line for line in file if 'CLONE_THREAD' not in line]
                calls = re.findall(r'^\d+ +(\w+)\(.* = \d+$', ''.join(lines), re.M)
                self.assertEqual(calls.pop(0), 'execve')
                self.assertEqual(len(calls), processes_started, calls)
                self.assertNotIn('execve', calls)

    def test_json_names_the_transport(self):
        with packet_nets.chain(1) as net:
            for protocol, privileged, ping_open, transport in (
                    ('udp', True, True, 'direct'), ('tcp', True, True, 'direct'),
                    ('icmp', True, True, 'broker'), ('icmp', False, True, 'direct'),
                    ('icmp', True, False, 'broker')):
                lab.inside(lab.HOST, lab.allow_ping, ping_open)
                withheld = () if privileged else setpriv('--bounding-set', '-net_raw')
                done = self.run_tracepath(net, '-n', '--json', '-P', protocol, prefix=withheld)
                trace = json.loads(done.stdout)
                with self.subTest(protocol=protocol, privileged=privileged, ping_open=ping_open):
                    self.assertEqual((trace['transport'], trace['stop_reason']),
                                     (transport, 'reached'))

    def test_a_broker_that_dies_in_mid_trace(self):
        """It is named. Where ping sockets are open they take over."""
        with packet_nets.chain(2, silent=[2]) as net:
            for ping_open in False, True:
                lab.inside(lab.HOST, lab.allow_ping, ping_open)
                process = lab.popen(
                    [os.path.join(sandboxes.install('capability'), 'tracepath'), '-n', '-P', 'icmp',
                     net.network.destination4], text=True, stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE)
                broker = processes.broker_of(process.pid)
                # Its first answer has come: it is in the middle.
                line = process.stdout.readline()
                os.kill(broker, signal.SIGKILL)
                out, errors = process.communicate(timeout=20)
                with self.subTest(ping_open=ping_open):
                    self.assertIn('LOCALHOST', line)
                    if ping_open:
                        self.assertEqual((process.returncode, errors), (0, ''))
                        self.assertIn('hops 3 back 3', out)
                    else:
                        self.assertEqual(process.returncode, 1)
                        self.assertEqual(errors, 'tracepath: postern-broker: ended by signal 9 '
                                         '(see postern doctor)\n')
                        self.assertNotIn('Resume', out)

    def test_denied_system_calls_are_named(self):
        """By a filter that returns EPERM, as those of container engines do."""
        with packet_nets.chain(1) as net:
            lab.inside(lab.HOST, lab.allow_ping, False)
            for denied, protocol, cause in (
                    ('raw', 'icmp', 'open a raw socket: Operation not permitted'),
                    ('dgram', 'udp', 'a system call filter denies UDP sockets'),
                    ('recvmmsg', 'udp', 'a system call filter denies UDP sockets'),
                    ('sendmmsg', 'udp', 'a system call filter denies UDP sockets'),
                    ('stream', 'tcp', 'a system call filter denies TCP sockets')):
                done = self.run_tracepath(net, '-n', '-P', protocol, prefix=denying(denied))
                with self.subTest(denied=denied, program='tracepath'):
                    self.assertEqual((done.returncode, done.stdout), (1, ''))
                    self.assertEqual(Checks(net).one_line(done.stderr.splitlines(), 'tracepath',
                                                          cause), '')
                with self.subTest(denied=denied, program='mtr-packet'), \
                        net.client(denying(denied)) as client:
                    self.assertEqual(client.supports(protocol), 'no')
                    reply = client.one('send-probe ip-4 %s protocol %s' % (
                        net.network.destination4, protocol))
                    self.assertEqual(reply.word, 'permission-denied')
                    client.close()
                    self.assertEqual(Checks(net).one_line(client.errors, 'mtr-packet', cause), '')


# What the bounding set of a container has by default.
DOCKER = ('-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap,'
          '+net_bind_service,+net_raw,+sys_chroot,+mknod,+audit_write,+setfcap')
NET_RAW_ONLY = '-all,+net_raw'
ALL_GROUPS, ROOT_GROUP, NO_GROUP = '0 2147483647', '0 0', '1 0'


class Container(typing.NamedTuple):
    """The nearest equivalent of a container that namespaces allow: its bounding set, its user and
    further options of setpriv, what net.ipv4.ping_group_range is, and whether the host's socket is
    there."""
    bounding: str
    user: int = 0
    more: tuple = ()
    ping_groups: str = NO_GROUP
    served: bool = False
    working: tuple = PROTOCOLS
    families: tuple = (4, 6)

    def folder(self):
        return sandboxes.install('capability')

    def prefix(self):
        user = as_user(self.user)[1:] if self.user else ()
        return setpriv('--bounding-set', self.bounding, '--inh-caps', '-all', *self.more, *user)

    def works(self, protocol):
        return protocol in self.working


PING = ('icmp', *DIRECT)
# By what a line of README begins with; lines with more than one user have more than one equivalent.
CONTAINERS = {
    'docker run IMAGE': (Container(DOCKER, ping_groups=ALL_GROUPS),
                         Container(DOCKER, 1000, ping_groups=ALL_GROUPS)),
    'docker run --cap-drop ALL --security-opt no-new-privileges IMAGE': (
        Container('-all', 0, ('--no-new-privs',), ALL_GROUPS, working=PING),
        Container('-all', 1000, ('--no-new-privs',), ALL_GROUPS, working=PING)),
    'docker run --cap-drop ALL --network host -v /run/postern:/run/postern:ro IMAGE': (
        Container('-all', served=True),),
    'podman run --cap-add NET_RAW IMAGE': (
        Container(DOCKER, ping_groups=ROOT_GROUP), Container(DOCKER, 1000, ping_groups=ROOT_GROUP),
        Container(DOCKER.replace('+net_raw,', ''), ping_groups=ROOT_GROUP, working=PING)),
    'securityContext: {capabilities: {add: [NET_RAW]}}': (
        Container(NET_RAW_ONLY), Container(NET_RAW_ONLY, 1000)),
    'securityContext: {sysctls: [{name: net.ipv4.ping_group_range, value: "0 2147483647"}]}': (
        Container('-all', 1000, ('--no-new-privs',), ALL_GROUPS, working=PING),),
    'volumeMounts: [{name: postern, mountPath: /run/postern, readOnly: true}]': (
        Container('-all', 1000, ('--no-new-privs',), served=True),),
    '- run: sudo make install': (Container('+all', 1001),),
    'sudo systemctl enable --now postern-broker.socket': (
        Container('-all', 1001, ('--no-new-privs',), served=True),),
}


class Readme(unittest.TestCase):
    """The section "In containers and CI"."""

    def lines(self):
        with open(os.path.join(lab.ROOT, 'README.md'), encoding='utf-8') as file:
            section = file.read().partition('\n## In containers and CI\n')[2].partition('\n## ')[0]
        return [line.strip() for line in section.splitlines() if line.startswith('    ')]

    def test_each_line_has_an_equivalent(self):
        for line in self.lines():
            self.assertTrue([key for key in CONTAINERS if line.startswith(key)], line)
        for key in CONTAINERS:
            self.assertTrue([line for line in self.lines() if line.startswith(key)], key)

    def test_equivalents(self):
        if lab.in_user_namespace():
            self.skipTest('other users need the real root')
        with packet_nets.chain(ROUTERS) as net:
            equivalents = [(line, container) for line, containers in CONTAINERS.items()
                           for container in containers]
            for ping_groups, served in sorted({(c.ping_groups, c.served) for _, c in equivalents}):
                lab.inside(lab.HOST, lab.write_sysctls, {'net/ipv4/ping_group_range': ping_groups})
                with running_service() if served else contextlib.nullcontext():
                    self.check(net, [(line, c) for line, c in equivalents
                                     if (c.ping_groups, c.served) == (ping_groups, served)])

    def check(self, net, equivalents):
        checks = Checks(net)
        with concurrent.futures.ThreadPoolExecutor(PARALLEL) as pool:
            running = [(line, pool.submit(check, container, *arguments))
                       for line, container in equivalents
                       for check, *arguments in ((checks.truth,), (checks.mtr, 4), (checks.mtr, 6, '-S'),
                                                 (checks.same_as_iputils, 6))]
        for line, future in running:
            with self.subTest(line=line):
                self.assertEqual(future.result(), '')

    def test_rootless_container(self):
        """Root of a user namespace that has a network of its own, as rootless Podman makes it: the
        broker needs no privilege of the host. To itself it sends no SCTP answers."""
        if lab.in_user_namespace():
            self.skipTest('other users need the real root')
        lab.loopback()
        self.addCleanup(lab.reset)
        prefix = (*as_user(), 'unshare', '--user', '--map-root-user', '--net', 'sh', '-c',
                  'ip link set lo up && exec "$@"', 'sh')
        with Client(prefix=prefix, program=os.path.join(sandboxes.install('none'),
                                                        'mtr-packet')) as client:
            self.assertEqual({client.supports(protocol) for protocol in PROTOCOLS}, {'ok'})
            for destination in 'ip-4 127.0.0.1', 'ip-6 ::1':
                for protocol in 'icmp', *DIRECT:
                    reply = client.one('send-probe %s protocol %s' % (destination, protocol))
                    self.assertEqual(reply.word, 'reply', (protocol, client.errors))


if __name__ == '__main__':
    lab.enter()
    tap.main()
