#!/usr/bin/env python3
"""The Debian packages: lintian, and a life with installation, upgrade, reconfiguration, removal and
purge beside mtr-tiny and iputils-tracepath, in an overlay over / that ends with the test.

time-limit: 180
"""
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, 'tests', 'lab'))
import tap  # noqa: E402

INSIDE = 'POSTERN_TEST_DEB'
ENVIRONMENT = {'PATH': '/usr/sbin:/usr/bin:/sbin:/bin', 'DEBIAN_FRONTEND': 'noninteractive',
               'LC_ALL': 'C.UTF-8', 'HOME': '/'}
BROKER = '/usr/libexec/postern/postern-broker'
DIVERTED = '/usr/libexec/postern/diverted/mtr-packet'
NEWER = '+newer'
NOBODY = 65534
GROUP = 50  # staff, a group of Debian's own
TOOLS = ('dpkg-buildpackage', 'dh', 'dh_apparmor', 'lintian', 'mtr', 'setcap', 'unshare')


def command(*argv, status=0, **keywords):
    done = subprocess.run(argv, text=True, check=False, env=ENVIRONMENT, timeout=120,
                          stdin=subprocess.DEVNULL if 'input' not in keywords else None,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **keywords)
    if status is not None and done.returncode != status:
        raise AssertionError('%s: status %d\n%s' % (argv, done.returncode, done.stdout[-2000:]))
    return done.stdout


def repack(name, directory):
    """The package as it is installed on this host, as an archive again."""
    tree = os.path.join(directory, name)
    control = os.path.join(tree, 'DEBIAN')
    os.makedirs(control)
    for path in command('dpkg', '-L', name).splitlines():
        if os.path.isfile(path):
            os.makedirs(os.path.dirname(tree + path), exist_ok=True)
            shutil.copy(path, tree + path)
    for script in 'preinst', 'postinst', 'prerm', 'postrm':
        path = '/var/lib/dpkg/info/%s.%s' % (name, script)
        if os.path.exists(path):
            shutil.copy(path, os.path.join(control, script))
    fields = command('dpkg-query', '-s', name).splitlines()
    with open(os.path.join(control, 'control'), 'w', encoding='utf-8') as file:
        file.write('\n'.join(f for f in fields if not f.startswith('Status:')) + '\n')
    return pack(tree, directory, name)


def pack(tree, directory, name):
    archive = os.path.join(directory, name + '.deb')
    command('dpkg-deb', '--root-owner-group', '-b', tree, archive)
    return archive


def renumber(archive, directory):
    """The same package with a higher version."""
    name, version = os.path.basename(archive).split('_')[:2]
    tree = os.path.join(directory, name)
    command('dpkg-deb', '-R', archive, tree)
    control = os.path.join(tree, 'DEBIAN', 'control')
    with open(control, encoding='utf-8') as file:
        text = file.read()
    with open(control, 'w', encoding='utf-8') as file:
        file.write(text.replace(version, version + NEWER))
    return pack(tree, directory, name)


class Host:
    """A copy of this host's root that can be changed: an overlay in memory."""

    def __init__(self, scratch):
        self.layers = tempfile.mkdtemp(dir=scratch)
        command('mount', '-t', 'tmpfs', 'tmpfs', self.layers)
        self.upper, self.root = self.layers + '/upper', self.layers + '/root'
        for name in 'upper', 'work', 'root':
            os.mkdir(os.path.join(self.layers, name))
        command('mount', '-t', 'overlay', 'overlay', '-o', 'lowerdir=/,upperdir=%s,workdir=%s/work'
                % (self.upper, self.layers), self.root)
        for name in 'proc', 'dev', 'sys':
            command('mount', '--rbind', '/' + name, self.root + '/' + name)

    def close(self):
        command('umount', '-l', self.root)
        command('umount', '-l', self.layers)

    def run(self, *argv, user=0, group=None, **keywords):
        group = user if group is None else group
        return command('chroot', '--userspec=%d:%d' % (user, group), '--groups=', self.root, *argv,
                       **keywords)

    def dpkg(self, action, *names, **keywords):
        """Archives become names below the overlay."""
        names = [os.path.join('/packages', os.path.basename(self.put(n))) if '/' in n else n
                 for n in names]
        return self.run('dpkg', '--no-triggers', action, *names, **keywords)

    def put(self, archive):
        os.makedirs(self.root + '/packages', exist_ok=True)
        return shutil.copy(archive, self.root + '/packages')

    def version(self):
        """Which mtr-packet answers, started as mtr starts it."""
        return self.run('mtr-packet', user=NOBODY,
                        input='1 check-support feature version\n').split()[-1]

    def mode(self, path=BROKER):
        found = os.stat(self.root + path)
        return '%o' % (found.st_mode & 0o7777), found.st_gid

    def capability(self, path=BROKER):
        return self.run('getcap', path).strip().rpartition(' ')[2]


class Packages(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.mkdtemp(prefix='postern-deb-', dir='/var/tmp')
        cls.addClassCleanup(shutil.rmtree, cls.scratch)
        command('make', '-C', ROOT, 'deb', 'BUILD=' + cls.scratch + '/build')
        built = cls.scratch + '/build/deb/'
        cls.changes = built + [n for n in os.listdir(built) if n.endswith('.changes')][0]
        cls.ours = [built + n for n in sorted(os.listdir(built))
                    if n.endswith('.deb') and 'dbgsym' not in n]
        for folder in 'newer', 'theirs':
            os.mkdir(os.path.join(cls.scratch, folder))
        cls.newer = [renumber(a, cls.scratch + '/newer') for a in cls.ours]
        cls.theirs = [repack(n, cls.scratch + '/theirs') for n in ('mtr-tiny', 'iputils-tracepath')]

    def setUp(self):
        self.host = Host(self.scratch)
        self.addCleanup(self.host.close)
        if self.host.capability('/usr/bin/mtr-packet') != 'cap_net_raw=ep':
            self.host.dpkg('-i', *self.theirs)

    def works(self, whose):
        """mtr and tracepath, for a user without privilege."""
        host = self.host
        self.assertEqual('postern' in host.version(), whose == 'ours')
        report = host.run('mtr', '-n', '-r', '-c', '1', '-G', '1', '127.0.0.1', user=NOBODY)
        self.assertRegex(report, r'127\.0\.0\.1 +0\.0%')
        self.assertIn('reached', host.run('tracepath', '-n', '127.0.0.1', user=NOBODY))
        json = host.run('tracepath', '--json', '127.0.0.1', user=NOBODY, status=None)
        self.assertEqual('"hop_count":1' in json, whose == 'ours')
        page = host.run('man', '-w', 'tracepath')
        text = host.run('zcat', page.strip())
        self.assertEqual('jsonl' in text, whose == 'ours')

    def test_lintian(self):
        said = command('lintian', '--allow-root', '-EI', '--pedantic', '--fail-on', 'none', self.changes)
        self.assertEqual(said, '')

    def test_life(self):
        host = self.host
        self.works('theirs')
        host.dpkg('-i', *self.ours)
        self.works('ours')
        self.assertEqual((host.mode(), host.capability()), (('755', 0), 'cap_net_raw=p'))
        said = host.run('postern', 'doctor', user=NOBODY, status=None)
        self.assertIn('icmp         ok    ok', said)
        self.assertNotIn("not Postern's", said)
        for name in 'postern', 'postern-broker':
            self.assertTrue(os.path.exists(host.root + '/etc/apparmor.d/' + name))
        self.assertIn('reached', host.run('tracepath.iputils', '-n', '127.0.0.1', user=NOBODY))
        host.run(DIVERTED, user=NOBODY, status=126)

        host.dpkg('-i', *self.newer)
        self.assertIn(NEWER, host.run('dpkg-query', '-W', 'postern'))
        self.works('ours')
        self.assertEqual((host.mode(), host.capability()), (('755', 0), 'cap_net_raw=p'))

        # Their upgrade gives the privilege to our script, where it has no effect.
        host.dpkg('-i', *self.theirs)
        self.works('ours')
        self.assertEqual(host.capability('/usr/bin/mtr-packet'), 'cap_net_raw=ep')
        held = host.run('sh', '-c', 'sleep 1 | mtr-packet & sleep 0.3; cat /proc/$!/status', user=NOBODY)
        self.assertRegex(held, r'Name:\s+postern\n')
        self.assertRegex(held, r'CapPrm:\s+0{16}\n')

        host.dpkg('-r', 'postern', 'postern-broker')
        self.works('theirs')
        self.assertEqual(host.capability('/usr/bin/mtr-packet'), 'cap_net_raw=ep')
        host.dpkg('-P', 'postern', 'postern-broker')
        self.works('theirs')
        left = [os.path.join(folder, name)[len(host.upper):]
                for folder, folders, files in os.walk(host.upper) for name in folders + files
                if 'postern' in os.path.join(folder, name)[len(host.upper):]]
        # A name that the overlay has deleted is a device 0:0; the host has none of ours.
        left = [path for path in left if os.path.lexists(host.root + path)
                and not path.startswith(('/packages', '/var/tmp', '/tmp'))]
        self.assertEqual(left, [])
        self.assertNotIn('postern', host.run('dpkg-divert', '--list'))

    def test_upgrade_of_mtr_after_us(self):
        """Removed first, the diverted program has never had a privilege of its own."""
        self.host.dpkg('-r', 'mtr-tiny', 'iputils-tracepath')
        self.host.dpkg('-i', *self.ours)
        self.host.dpkg('-i', *self.theirs)
        self.works('ours')
        self.host.dpkg('-i', *self.newer)
        self.host.dpkg('-r', 'postern')
        self.works('theirs')

    def test_decisions_stay(self):
        host = self.host
        host.dpkg('-i', *self.ours)
        host.run('dpkg-statoverride', '--update', '--add', 'root', 'staff', '0750', BROKER)
        host.run('dpkg-reconfigure', 'postern-broker')
        self.assertEqual((host.mode(), host.capability()), (('750', GROUP), 'cap_net_raw=p'))
        host.dpkg('-i', *self.newer)
        self.assertEqual((host.mode(), host.capability()), (('750', GROUP), 'cap_net_raw=p'))
        host.run('tracepath', '-P', 'icmp', '-n', '127.0.0.1', user=NOBODY, status=1)
        host.run('tracepath', '-P', 'icmp', '-n', '127.0.0.1', user=NOBODY, group=GROUP)

        host.run('dpkg-statoverride', '--remove', BROKER)
        host.run('dpkg-statoverride', '--update', '--add', 'root', 'root', '4755', BROKER)
        host.dpkg('-i', *self.ours)
        self.assertEqual((host.mode(), host.capability()), (('4755', 0), ''))
        host.run('tracepath', '-P', 'icmp', '-n', '127.0.0.1', user=NOBODY)

        host.run('dpkg-statoverride', '--remove', BROKER)
        host.dpkg('-i', *self.newer)
        self.assertEqual((host.mode(), host.capability()), (('755', 0), 'cap_net_raw=p'))

    def test_socket_waits_for_the_administrator(self):
        host = self.host
        if not os.path.exists(host.root + '/usr/bin/systemd-sysusers'):
            self.skipTest('systemd-sysusers is not installed')
        host.dpkg('-i', *self.ours)
        self.assertFalse(os.path.lexists(
            host.root + '/etc/systemd/system/sockets.target.wants/postern-broker.socket'))
        host.run('getent', 'group', 'postern', status=2)
        host.run('systemd-sysusers', 'postern.conf')
        self.assertIn('postern:', host.run('getent', 'group', 'postern'))

    def test_never_setuid_by_itself(self):
        host = self.host
        setcap = host.root + host.run('which', 'setcap').strip()
        with open(setcap, 'w', encoding='ascii') as file:
            file.write('#!/bin/sh\necho "no capabilities here" >&2\nexit 1\n')
        said = host.dpkg('-i', *self.ours)
        self.assertIn('installed without privilege: no capabilities here', said)
        self.assertEqual((host.mode(), host.capability()), (('755', 0), ''))
        self.assertIn('reached', host.run('tracepath', '-n', '127.0.0.1', user=NOBODY))

    def test_diversion_of_the_administrator(self):
        """That of postern(1): the installation says so, and changes nothing."""
        host = self.host
        host.run('dpkg-divert', '--add', '--rename', '--divert', '/usr/bin/mtr-packet.debian',
                 '/usr/bin/mtr-packet')
        before = host.run('dpkg-divert', '--list')
        said = host.dpkg('-i', *self.ours, status=1)
        self.assertIn("clashes with 'local diversion of /usr/bin/mtr-packet", said)
        self.assertEqual(host.run('dpkg-divert', '--list'), before)
        self.assertTrue(os.path.exists(host.root + '/usr/bin/tracepath'))


def unable():
    """Why the packages cannot be tested here, or None."""
    if os.geteuid() != 0:
        return 'only root can mount an overlay over / with its capabilities'
    missing = [tool for tool in TOOLS if not shutil.which(tool, path=ENVIRONMENT['PATH'])]
    if missing:
        return 'not installed: ' + ' '.join(missing)
    with tempfile.TemporaryDirectory(dir='/var/tmp') as scratch:
        try:
            Host(scratch).close()
        except AssertionError as error:
            return str(error).splitlines()[-1]
    return None


if __name__ == '__main__':
    if os.environ.pop(INSIDE, None) is None and os.geteuid() == 0 and shutil.which('unshare'):
        # Mounts and network of its own: probes go to its loopback.
        os.environ[INSIDE] = '1'
        os.execvp('unshare', ['unshare', '-m', '-n', sys.executable] + sys.argv)
    if unable():
        print('ok - packages # SKIP ' + unable())
        sys.exit(0)
    command('ip', 'link', 'set', 'lo', 'up')
    tap.main()
