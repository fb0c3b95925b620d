#!/usr/bin/env python3
"""broker/install, by which `make install` installs the broker: capability, group, setuid, package
directory, and what it says.

time-limit: 60
"""
import grp
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, 'tests', 'lab'))
import tap  # noqa: E402

INSTALL = os.path.join(ROOT, 'broker', 'install')
SBIN = os.environ['PATH'] + ':/usr/sbin:/sbin'
NAME = "postern-broker"
GROUPS = [entry for entry in grp.getgrall() if entry.gr_gid not in (0, 65534)]


def without_setcap(directory):
    """A PATH in which setcap fails, as where it is missing or the file system keeps none."""
    path = os.path.join(directory, 'setcap')
    with open(path, 'w', encoding='ascii') as file:
        file.write('#!/bin/sh\necho "setcap: no capabilities here" >&2\nexit 1\n')
    os.chmod(path, 0o755)
    return directory + ':' + SBIN


class Install(unittest.TestCase):
    def setUp(self):
        # Not in /tmp, which may be mounted nosuid or keep no capabilities; with a blank in the name.
        self.scratch = tempfile.mkdtemp(prefix='postern install ', dir='/var/tmp')
        self.addCleanup(shutil.rmtree, self.scratch)
        self.source = os.path.join(self.scratch, 'built')
        shutil.copy('/bin/true', self.source)
        self.target = os.path.join(self.scratch, 'lib exec', 'postern', NAME)

    def install(self, status=0, target=None, path=SBIN, **variables):
        done = subprocess.run([INSTALL, self.source, target or self.target], text=True, check=False,
                              capture_output=True, env={'PATH': path, **variables})
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        for line in (done.stdout + done.stderr).splitlines():
            self.assertTrue(line.startswith('postern: '), line)
        return done.stdout + done.stderr

    def capability(self, target=None):
        return subprocess.run(['getcap', target or self.target], text=True, capture_output=True,
                              check=True, env={'PATH': SBIN}).stdout.strip().rpartition(' ')[2]

    def expect(self, mode, capability, group=0):
        found = os.stat(self.target)
        self.assertEqual((oct(stat.S_IMODE(found.st_mode)), found.st_gid), (oct(mode), group))
        self.assertEqual(self.capability(), capability)
        self.assertEqual(os.listdir(os.path.dirname(self.target)), [NAME])

    def needs_capability(self):
        if os.geteuid() != 0:
            self.skipTest('only root can give a capability')
        probe = os.path.join(self.scratch, 'probe')
        shutil.copy('/bin/true', probe)
        if subprocess.run(['setcap', 'cap_net_raw=p', probe], capture_output=True, check=False,
                          env={'PATH': SBIN}).returncode != 0:
            self.skipTest('no file capabilities on this file system')

    def test_capability(self):
        self.needs_capability()
        for _ in range(2):
            self.assertIn('cap_net_raw=p', self.install())
            self.expect(0o755, 'cap_net_raw=p')

    def test_group_stays(self):
        self.needs_capability()
        group = GROUPS[0]
        self.assertNotIn('stays', self.install(GROUP=group.gr_name))
        self.expect(0o750, 'cap_net_raw=p', group.gr_gid)
        text = self.install()
        self.assertIn('stays for group %s' % group.gr_name, text)
        self.expect(0o750, 'cap_net_raw=p', group.gr_gid)
        other = GROUPS[1]
        self.install(GROUP=other.gr_name)
        self.expect(0o750, 'cap_net_raw=p', other.gr_gid)

    def test_restriction_by_mode_stays(self):
        self.needs_capability()
        group = GROUPS[0]
        # Others may not execute these; what they may read does not matter.
        for mode in 0o750, 0o754, 0o744, 0o710, 0o700:
            with self.subTest(oct(mode)):
                self.install(GROUP=group.gr_name)
                os.chmod(self.target, mode)
                self.assertIn('stays for group', self.install())
                self.expect(mode, 'cap_net_raw=p', group.gr_gid)

    def test_unknown_group(self):
        self.install()
        before = os.stat(self.target).st_ino
        self.assertIn('no-such-group', self.install(status=1, GROUP='no-such-group'))
        self.assertEqual(os.stat(self.target).st_ino, before)
        self.assertEqual(os.listdir(os.path.dirname(self.target)), [NAME])

    def test_setuid_only_if_asked(self):
        self.needs_capability()
        self.assertIn('setuid root', self.install(SETUID='1'))
        self.expect(0o4755, '')
        self.install(SETUID='1', GROUP=GROUPS[0].gr_name)
        self.expect(0o4750, '', GROUPS[0].gr_gid)
        self.install()
        self.expect(0o750, 'cap_net_raw=p', GROUPS[0].gr_gid)

    def test_no_setcap(self):
        text = self.install(path=without_setcap(self.scratch))
        for words in ('without privilege', 'no capabilities here', 'UDP and TCP probes work',
                      'SETUID=1', self.target):
            self.assertIn(words, text)
        self.expect(0o755, '', os.getegid())

    def test_package(self):
        self.needs_capability()
        inside = '/usr/libexec/postern/' + NAME
        text = self.install(target=self.scratch + inside, DESTDIR=self.scratch)
        self.assertIn('setcap cap_net_raw=p ' + inside, text)
        self.assertEqual(self.capability(self.scratch + inside), 'cap_net_raw=p')
        self.install(status=1, target=self.scratch + inside, DESTDIR=self.scratch, SETUID='1')
        self.assertFalse(os.stat(self.scratch + inside).st_mode & stat.S_ISUID)

    def test_package_without_setcap(self):
        inside = '/usr/libexec/postern/' + NAME
        text = self.install(target=self.scratch + inside, DESTDIR=self.scratch,
                            path=without_setcap(self.scratch))
        self.assertIn('the package must run setcap cap_net_raw=p ' + inside, text)
        self.assertEqual(self.capability(self.scratch + inside), '')


if __name__ == '__main__':
    tap.main()
