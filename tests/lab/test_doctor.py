#!/usr/bin/env python3
"""postern doctor: in each state that keeps something from working it finds the reason and gives a command
that mends it, which is tried where a test can.

time-limit: 120
"""
import contextlib
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import lab  # noqa: E402
import processes  # noqa: E402
import sandboxes  # noqa: E402
import tap  # noqa: E402

USER = sandboxes.as_user()
NOBODY = sandboxes.as_user(65534)  # one that the user database has
SOCKET = '/run/postern/broker.sock'
ENABLE = 'systemctl enable --now postern-broker.socket'


class Report:
    """What --json says."""

    def __init__(self, done):
        self.done = done
        self.json = json.loads(done.stdout)
        self.causes = {cause['id']: cause for cause in self.json['causes']}
        self.matter = [cause['id'] for cause in self.json['causes'] if cause['matters']]

    def reason(self, name):
        return self.causes[name]['reason']

    def command(self, name):
        return self.causes[name]['command'].partition('  #')[0]


class Doctor(unittest.TestCase):
    """Every test has a copy of the programs, whose broker has its file capability, and a network with
    default routes."""

    @classmethod
    def setUpClass(cls):
        if lab.in_user_namespace():
            raise unittest.SkipTest('other users need the real root')
        if processes.sanitized(lab.build('postern')):
            raise unittest.SkipTest('built with sanitizers')

    def setUp(self):
        self.net = lab.linux_chain(1)
        self.addCleanup(lab.reset)
        self.folder = lab.scratch('doctor')
        shutil.copytree(sandboxes.install('capability'), self.folder, symlinks=True)
        self.addCleanup(shutil.rmtree, self.folder)
        self.broker = os.path.join(self.folder, 'postern-broker')
        subprocess.run(['setcap', 'cap_net_raw=p', self.broker], check=True)

    def run_doctor(self, *options, prefix=USER, path=None, env=None, **how):
        environment = {'PATH': '%s:%s' % (path or self.folder, os.environ['PATH']), **(env or {})}
        program = how.pop('program', os.path.join(self.folder, 'postern'))
        return lab.run([*prefix, program, 'doctor', *options], env=environment, timeout=40, **how)

    def doctor(self, *options, **how):
        """The report; it agrees with the exit status."""
        done = self.run_doctor('--json', *options, **how)
        self.assertEqual(done.stderr, '')
        report = Report(done)
        self.assertEqual(done.returncode, 0 if report.json['works'] else 1)
        self.assertEqual(report.json['works'], not report.matter)
        return report

    def expect(self, cause, reason, command, *options, **how):
        """The one cause, beside ping sockets, which are another way for ICMP."""
        report = self.doctor(*options, **how)
        self.assertEqual([c for c in report.matter if c != 'ping-group-range'], [cause],
                         report.done.stdout)
        self.assertRegex(report.reason(cause), reason)
        if command is None:
            self.assertIsNone(report.causes[cause]['command'])
        else:
            self.assertEqual(report.command(cause), command)
        return report

    def expect_mended(self, command, *options, **how):
        done = lab.run(['sh', '-c', command])
        self.assertEqual(done.returncode, 0, done.stderr)
        report = self.doctor(*options, **how)
        self.assertEqual(report.matter, [], report.done.stdout)

    def sysctl(self, name, value):
        done = lab.run(['sysctl', '-q', '-w', '%s=%s' % (name, value)])
        self.assertEqual(done.returncode, 0, done.stderr)


class Fine(Doctor):
    def test_everything_works(self):
        report = self.doctor()
        self.assertEqual(report.matter, [])
        self.assertEqual(report.json['icmp'], 'broker')
        self.assertEqual(report.json['broker'], self.broker)
        self.assertEqual(report.json['file_privilege'], 'cap_net_raw=p')
        for protocol in 'icmp', 'udp', 'tcp', 'sctp':
            self.assertEqual(report.json['protocols'][protocol], {'ipv4': True, 'ipv6': True})
        self.assertIn('not needed here', report.reason('ping-group-range'))

    def test_text(self):
        done = self.run_doctor()
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        for protocol in 'icmp', 'udp', 'tcp', 'sctp':
            self.assertRegex(done.stdout, r'(?m)^%s +ok +ok$' % protocol)
        self.assertTrue(done.stdout.endswith('\nEverything works here.\n'), done.stdout)

    def test_setuid_root_and_root(self):
        subprocess.run(['setcap', '-r', self.broker], check=True)
        self.assertEqual(self.doctor(prefix=()).matter, [])
        os.chmod(self.broker, 0o4755)
        report = self.doctor()
        self.assertEqual((report.matter, report.json['file_privilege']), ([], 'setuid root'))

    def test_one_family(self):
        lab.run(['ip', '-6', 'route', 'del', 'default'])
        self.assertEqual(self.doctor('-4').matter, [])
        self.assertEqual(self.doctor('-6').matter, ['no-route'])

    def test_stdout_that_takes_nothing(self):
        with open('/dev/full', 'w', encoding='ascii') as full:
            for options in (), ('--json',), ('--help',), ('--version',):
                with lab.popen([os.path.join(self.folder, 'postern'), 'doctor', *options],
                               stdout=full, stderr=subprocess.PIPE, text=True) as process:
                    errors = process.communicate(timeout=30)[1]
                self.assertEqual((process.returncode, errors), (
                    1, 'postern doctor: standard output: No space left on device\n'))
        done = lab.run(['sh', '-c', 'exec "$0" doctor >&-', os.path.join(self.folder, 'postern')])
        self.assertEqual(done.returncode, 1)
        self.assertIn('standard output', done.stderr)

    def test_wrong_usage(self):
        for options in ('x',), ('--fly',), ('--broker',):
            done = self.run_doctor(*options)
            self.assertEqual((done.returncode, done.stdout), (2, ''))


class BrokerFile(Doctor):
    def test_none(self):
        os.unlink(self.broker)
        self.expect('no-broker', 'There is no broker at ', 'make install')
        self.expect('no-broker', '/nonexistent', 'make install', '--broker', '/nonexistent')

    def test_for_a_group(self):
        os.chown(self.broker, 0, 13)
        os.chmod(self.broker, 0o750)
        subprocess.run(['setcap', 'cap_net_raw=p', self.broker], check=True)
        how = {'prefix': NOBODY}
        self.expect('not-executable', 'for group proxy alone', 'usermod -aG proxy nobody', '--broker',
                    self.broker, **how)
        member = ('setpriv', '--reuid', '65534', '--regid', '65534', '--groups', '13')
        self.assertEqual(self.doctor('--broker', self.broker, prefix=member).matter, [])

    def test_for_its_owner(self):
        os.chmod(self.broker, 0o700)
        self.expect('not-executable', 'owner alone: ask', None, '--broker', self.broker)

    def test_in_a_closed_directory(self):
        folder = lab.scratch('closed')
        shutil.copytree(self.folder, folder, symlinks=True)
        self.addCleanup(shutil.rmtree, folder)
        os.chmod(folder, 0o700)
        self.expect('not-executable', folder + ' is for its owner alone', None, '--broker',
                    os.path.join(folder, 'postern-broker'))

    def test_without_privilege(self):
        subprocess.run(['setcap', '-r', self.broker], check=True)
        report = self.expect('no-file-privilege', 'no file capability, and it is not setuid root',
                             'setcap cap_net_raw=p ' + self.broker)
        self.expect_mended(report.command('no-file-privilege'))

    def test_name_that_a_shell_reads(self):
        strange = os.path.join(self.folder, "a b'c;$d")
        shutil.copyfile(self.broker, strange)
        os.chmod(strange, 0o755)
        options = '--broker', strange
        report = self.expect('no-file-privilege', '.', 'setcap cap_net_raw=p ' +
                             shlex.quote(strange).replace("'\"'\"'", "'\\''"), *options)
        self.expect_mended(report.command('no-file-privilege'), *options)

    def test_set_uid_stripped(self):
        subprocess.run(['setcap', '-r', self.broker], check=True)
        os.chmod(self.broker, 0o4755)
        os.chown(self.broker, 1, 1)  # set-id bits go with the owner
        self.expect('no-file-privilege', 'not setuid root', 'setcap cap_net_raw=p ' + self.broker)

    def test_effective_capability(self):
        subprocess.run(['setcap', 'cap_net_raw=ep', self.broker], check=True)
        report = self.doctor()
        self.assertEqual(report.matter, [])
        command = 'setcap cap_net_raw=p ' + self.broker
        self.assertEqual(report.command('effective-capability'), command)
        report = self.expect('bounding-set', 'bounding set', ENABLE,
                             prefix=('setpriv', '--bounding-set', '-net_raw', *USER[1:]))
        self.assertIn('effective-capability', report.causes)

    def test_nosuid_and_noexec(self):
        for option, cause in ('nosuid', 'nosuid'), ('noexec', 'noexec'):
            other = lab.scratch(option)
            shutil.copytree(self.folder, other, symlinks=True)
            self.addCleanup(shutil.rmtree, other)
            broker = os.path.join(other, 'postern-broker')
            subprocess.run(['setcap', 'cap_net_raw=p', broker], check=True)
            prefix = (*sandboxes.with_mounts('mount --bind %s %s' % (other, other),
                                             'mount -o remount,bind,%s %s' % (option, other)),
                      *USER)
            self.expect(cause, 'mounted ' + option, 'make install', '--broker', broker,
                        prefix=prefix)

    def test_that_is_not_posterns(self):
        """Nothing is said that would give it a privilege."""
        script = os.path.join(self.folder, 'script')
        with open(script, 'w', encoding='ascii') as file:
            file.write('#!/bin/sh\necho no privilege >&2; exit 77\n')
        os.chmod(script, 0o755)
        text = os.path.join(self.folder, 'text')
        with open(text, 'w', encoding='ascii') as file:
            file.write('text\n')
        os.chmod(text, 0o755)
        for other in '/bin/true', '/bin/cat', os.path.join(self.folder, 'postern'), script, text:
            report = self.expect('not-postern', 'is not Postern', 'postern doctor', '--broker',
                                 other)
            self.assertNotIn('setcap', report.done.stdout)

    def test_that_is_silent(self):
        path = os.path.join(self.folder, 'silent')
        with open(path, 'w', encoding='ascii') as file:
            file.write('#!/bin/sh\nexec sleep 6\n')
        os.chmod(path, 0o755)
        self.expect('not-postern', 'is not Postern', 'postern doctor', '--broker', path)


class Sandbox(Doctor):
    def test_no_new_privs(self):
        report = self.expect('no-new-privs', 'no_new_privs is set', ENABLE,
                             prefix=('setpriv', '--no-new-privs', *USER[1:]))
        self.assertIn('ping-group-range', report.matter)

    def test_bounding_set(self):
        self.expect('bounding-set', 'bounding set', ENABLE,
                    prefix=('setpriv', '--bounding-set', '-net_raw', *USER[1:]))
        self.expect('bounding-set', 'bounding set', ENABLE,
                    prefix=('setpriv', '--bounding-set', '-net_raw'))

    def test_user_namespace(self):
        self.expect('user-namespace', 'no network of its own', ENABLE,
                    prefix=(*USER, 'unshare', '--user', '--map-root-user'))
        report = self.doctor(prefix=(*USER, 'unshare', '--user', '--map-root-user', '--net', 'sh',
                                     '-c', 'ip link set lo up; exec "$@"', 'sh'))
        self.assertEqual(report.matter, ['no-route'])

    def test_ping_sockets(self):
        """Open, they serve ICMP; the broker is still missing for SCTP."""
        prefix = ('setpriv', '--no-new-privs', *USER[1:])
        report = self.doctor(prefix=prefix)
        done = lab.run(['sh', '-c', report.command('ping-group-range')])
        self.assertEqual(done.returncode, 0, done.stderr)
        report = self.expect('no-new-privs', 'no_new_privs is set', ENABLE, prefix=prefix)
        self.assertNotIn('ping-group-range', report.causes)
        self.assertEqual(report.json['icmp'], 'ping')
        self.assertEqual(report.json['protocols']['icmp'], {'ipv4': True, 'ipv6': True})

    def test_no_proc(self):
        """A remark where all works; the reason where a broker beside the program is not found."""
        hidden = 'mount -t tmpfs none /proc'
        report = self.doctor('--broker', self.broker,
                             prefix=(*sandboxes.with_mounts(hidden), *USER))
        self.assertEqual(report.matter, [])
        self.assertIn('proc-missing', report.causes)
        empty = 'mount -t tmpfs none /usr/local'
        self.expect('no-proc', '/proc is not mounted', 'mount -t proc proc /proc',
                    prefix=(*sandboxes.with_mounts(hidden, empty), *USER))
        self.assertEqual(self.doctor(prefix=(*sandboxes.with_mounts(
            hidden, 'mount -t proc proc /proc'), *USER)).matter, [])

    def test_no_null_device(self):
        for mounts in 'mount -t tmpfs none /dev', 'mount -t tmpfs none /dev; touch /dev/null':
            prefix = (*sandboxes.with_mounts(mounts), *USER)
            report = self.expect('no-dev-null', '/dev/null', 'rm -f /dev/null && '
                                 'mknod -m 666 /dev/null c 1 3', prefix=prefix)
            prefix = (*sandboxes.with_mounts(mounts, report.command('no-dev-null')), *USER)
            self.assertEqual(self.doctor(prefix=prefix).matter, [])

    def test_seccomp(self):
        for call, named in ('raw', r'socket\(AF_INET, SOCK_RAW\), socket\(AF_INET6, SOCK_RAW\)'), \
                ('recvmmsg', 'recvmmsg'), ('sendmmsg', 'sendmmsg'), ('socket', r'socket\(AF_INET, SOCK_DGRAM\), '):
            with self.subTest(call):
                report = self.doctor(prefix=(*sandboxes.denying(call), *USER))
                self.assertEqual(report.matter[0], 'seccomp', report.done.stdout)
                self.assertRegex(report.reason('seccomp'), 'filter denies ' + named)
                self.assertIn('seccomp=builtin', report.command('seccomp'))

    def test_seccomp_that_kills(self):
        """Neither the broker's end nor the front end's is the end of the report."""
        for call in 'raw', 'recvmmsg':
            killing = (sys.executable, '-c', 'import os, sys; sys.path.insert(0, sys.argv[1]); '
                       'import sandboxes; sandboxes._DENY = 0x80000000; '  # SECCOMP_RET_KILL_PROCESS
                       'sandboxes._deny([sys.argv[2]]); os.execvp(sys.argv[3], sys.argv[3:])',
                       os.path.dirname(sandboxes.__file__), call)
            report = self.doctor(prefix=(*killing, *USER))
            self.assertEqual(report.matter[0], 'seccomp', report.done.stdout)


class Environment(Doctor):
    def test_path(self):
        other = lab.scratch('other')
        os.makedirs(other)
        self.addCleanup(shutil.rmtree, other)
        for name in 'mtr-packet', 'tracepath':
            path = os.path.join(other, name)
            shutil.copyfile('/bin/true', path)
            os.chmod(path, 0o755)
            report = self.expect('other-program', 'PATH leads to %s for %s, which is not' %
                                 (path, name), 'export PATH=%s:"$PATH"' % self.folder, path=other +
                                 ':' + self.folder)
            done = lab.run(['sh', '-c', 'PATH=%s:$PATH; %s; %s %s/postern doctor --json' % (
                other, report.command('other-program'), ' '.join(USER), self.folder)])
            self.assertEqual(done.returncode, 0, done.stdout)
            os.unlink(path)

    def test_a_script_that_leads_to_posterns(self):
        other = lab.scratch('scripts')
        os.makedirs(other)
        self.addCleanup(shutil.rmtree, other)
        for name in 'mtr-packet', 'tracepath':
            path = os.path.join(other, name)
            with open(path, 'w', encoding='ascii') as file:
                file.write('#!/bin/sh\nexec %s/%s "$@"\n' % (self.folder, name))
            os.chmod(path, 0o755)
        self.assertEqual(self.doctor(path=other).matter, [])

    def test_mtr_packet_variable(self):
        self.expect('other-program', 'MTR_PACKET leads to /bin/true', 'unset MTR_PACKET',
                    env={'MTR_PACKET': '/bin/true'})
        self.expect('other-program', 'MTR_PACKET leads to no program', 'unset MTR_PACKET',
                    env={'MTR_PACKET': '/nonexistent'})
        self.assertEqual(self.doctor(
            env={'MTR_PACKET': os.path.join(self.folder, 'mtr-packet')}).matter, [])


class Socket(Doctor):
    """What systemd would do: a broker for each connection."""

    PREFIX = ('setpriv', '--no-new-privs', *USER[1:])

    @contextlib.contextmanager
    def serving(self, path=SOCKET, mode=0o666, group=0):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(path)
        os.chown(path, 0, group)
        os.chmod(path, mode)
        listener.listen()

        def accept():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        brokers.append(lab.popen([*USER, self.broker], stdin=connection,
                                                 stdout=subprocess.DEVNULL,
                                                 stderr=subprocess.DEVNULL))
        brokers = []
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            listener.close()
            for broker in brokers:
                broker.wait(5)

    def tearDown(self):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(SOCKET)

    def test_works(self):
        """What the advice for a sandbox leads to."""
        with self.serving():
            for prefix in self.PREFIX, (*USER, 'unshare', '--user', '--map-root-user'), \
                    ('setpriv', '--bounding-set', '-net_raw', *USER[1:]):
                report = self.doctor(prefix=prefix)
                self.assertEqual((report.matter, report.json['icmp']), ([], 'socket'))

    def test_refuses(self):
        with self.serving():
            pass
        self.expect('no-new-privs', 'no_new_privs', 'systemctl restart postern-broker.socket',
                    prefix=self.PREFIX)

    def test_for_a_group(self):
        with self.serving(mode=0o660, group=13):
            self.expect('socket-access', SOCKET + ' is for group proxy alone',
                        'usermod -aG proxy nobody',
                        prefix=('setpriv', '--no-new-privs', *NOBODY[1:]))
            member = ('setpriv', '--no-new-privs', '--reuid', '65534', '--regid', '65534',
                      '--groups', '13')
            self.assertEqual(self.doctor(prefix=member).matter, [])

    def test_named(self):
        path = lab.scratch('named.sock')
        with self.serving(path):
            report = self.doctor(env={'POSTERN_BROKER': path})
            self.assertEqual((report.matter, report.json['icmp']), ([], 'socket'))
        self.expect('broker-socket', 'POSTERN_BROKER is set, and no broker answers',
                    'unset POSTERN_BROKER', env={'POSTERN_BROKER': path})
        self.expect('broker-socket', 'POSTERN_BROKER is set, and no broker answers',
                    'unset POSTERN_BROKER', env={'POSTERN_BROKER': '/nonexistent'})


class Network(Doctor):
    def test_ipv6_off(self):
        for name in 'all', 'lo':
            switch = 'net.ipv6.conf.%s.disable_ipv6' % name
            self.sysctl(switch, 1)
            report = self.doctor()
            self.assertEqual(report.matter[0], 'ipv6-off', report.done.stdout)
            self.assertIn(switch, report.reason('ipv6-off'))
            self.assertEqual(report.command('ipv6-off'), 'sysctl -w %s=0' % switch)
            self.assertEqual(self.doctor('-4').matter, [])
            lab.run(['sh', '-c', report.command('ipv6-off')])
            report = self.doctor()
            self.assertNotIn('ipv6-off', report.causes)
            self.assertTrue(all(p['ipv6'] for p in report.json['protocols'].values()))

    def test_loopback_down(self):
        lab.run(['ip', 'link', 'set', 'lo', 'down'])
        report = self.expect('loopback-down', 'loopback interface is down', 'ip link set lo up')
        self.expect_mended(report.command('loopback-down'))

    def test_no_default_route(self):
        lab.run(['ip', 'route', 'del', 'default'])
        report = self.expect('no-route', 'no default route for IPv4:',
                             'ip route add default via GATEWAY')
        self.expect_mended(report.command('no-route').replace('GATEWAY', '198.18.0.2'))
        lab.run(['ip', '-6', 'route', 'del', 'default'])
        report = self.expect('no-route', 'no default route for IPv6:',
                             'ip -6 route add default via GATEWAY')
        self.expect_mended(report.command('no-route').replace('GATEWAY', '2001:db8::2'))


class Firewall(Doctor):
    RULES = {
        'ICMP over IPv4': 'ip protocol icmp icmp type echo-request drop',
        'ICMP over IPv6': 'icmpv6 type echo-request drop',
        'UDP over IPv4': 'ip protocol udp drop',
        'UDP over IPv6': 'meta nfproto ipv6 meta l4proto udp drop',
        'TCP over IPv4': 'ip protocol tcp drop',
        'SCTP over IPv4': 'ip protocol sctp drop',
    }

    def nft(self, *rules):
        """Returns whether there is a firewall to speak of."""
        done = lab.run(['nft', '-f', '-'], input='\n'.join(rules) + '\n')
        if done.returncode:
            self.skipTest('no nftables here: ' + done.stderr.partition('\n')[0])

    def test_that_drops_probes(self):
        for lost, rule in self.RULES.items():
            with self.subTest(lost):
                self.nft('table inet t {', 'chain c {', 'type filter hook output priority 0;',
                         rule, '}', '}')
                self.expect('firewall', 'A firewall drops %s: in a private network' % lost,
                            'nft list ruleset', prefix=USER)
                self.nft('delete table inet t')
        self.assertEqual(self.doctor().matter, [])

    def test_that_rejects_probes(self):
        self.nft('table inet t {', 'chain c {', 'type filter hook input priority 0;',
                 'ip protocol icmp icmp type echo-request reject with icmp type admin-prohibited',
                 '}', '}')
        self.expect('firewall', 'A firewall drops ICMP over IPv4: in', 'nft list ruleset')

    def changed_root(self):
        """There the kernel allows no user namespace."""
        root = lab.scratch('root')
        os.makedirs(root)
        return (*sandboxes.with_mounts('mount --rbind / ' + root), 'chroot', root)

    def test_where_there_is_no_other_network(self):
        self.nft('table inet t {', 'chain c {', 'type filter hook input priority 0;',
                 'ip protocol udp drop', '}', '}')
        self.expect('firewall', 'A firewall drops UDP over IPv4, probably', 'nft list ruleset',
                    prefix=(*self.changed_root(), *USER))


if __name__ == '__main__':
    lab.enter()
    tap.main()
