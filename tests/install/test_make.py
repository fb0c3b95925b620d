#!/usr/bin/env python3
"""make install and make uninstall: a prefix with a space, what is left, and the refusal while
/usr/bin/mtr-packet leads to what would go.

time-limit: 60
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

INSIDE = 'POSTERN_TEST_MAKE'
THEIRS = '/usr/bin/mtr-packet'


class Make(unittest.TestCase):
    def setUp(self):
        self.scratch = tempfile.mkdtemp(prefix='postern make ', dir='/var/tmp')
        self.addCleanup(shutil.rmtree, self.scratch)
        self.prefix = os.path.join(self.scratch, 'a prefix')

    def make(self, target, *variables, status=0):
        # -o: what is built is not built anew for another prefix.
        done = subprocess.run(['make', '-C', ROOT, '-o', 'programs', target,
                               'BUILD=' + os.environ.get('BUILD', 'build'), 'PREFIX=' + self.prefix,
                               *variables], text=True, check=False, capture_output=True)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def found(self):
        return sorted(os.path.relpath(os.path.join(folder, name), self.prefix)
                      for folder, folders, files in os.walk(self.prefix) for name in folders + files)

    def test_all_goes(self):
        self.make('install')
        for path in ('bin/postern', 'bin/mtr-packet', 'bin/tracepath', 'libexec/postern/postern-broker',
                     'share/man/man7/postern-fleet.7', 'share/man/man8/tracepath.8',
                     'share/postern/tracepath.schema.json', 'share/zsh/site-functions/_postern',
                     'lib/systemd/system/postern-broker.socket'):
            self.assertIn(path, self.found())
        done = subprocess.run([self.prefix + '/bin/tracepath', '-V'], text=True, capture_output=True,
                              check=True)
        self.assertTrue(done.stdout + done.stderr)
        with open(self.prefix + '/lib/systemd/system/postern-broker@.service', encoding='utf-8') as file:
            self.assertIn('\nExecStart="%s/libexec/postern/postern-broker"\n' % self.prefix, file.read())
        self.make('uninstall')
        self.assertFalse(os.path.exists(self.prefix), self.found())
        self.make('uninstall')

    def test_what_is_not_ours_stays(self):
        self.make('install')
        others = ('bin/tracepath', 'share/man/man8/other.8', 'libexec/other')
        os.remove(os.path.join(self.prefix, others[0]))
        for path in others:
            with open(os.path.join(self.prefix, path), 'w', encoding='ascii'):
                pass
        self.make('uninstall')
        self.assertEqual([path for path in self.found()
                          if os.path.isfile(os.path.join(self.prefix, path))], sorted(others))

    def test_destdir(self):
        staging = os.path.join(self.scratch, 'stage')
        self.make('install', 'DESTDIR=' + staging)
        self.assertTrue(os.path.exists(staging + self.prefix + '/bin/postern'))
        self.assertFalse(os.path.exists(self.prefix))
        self.make('uninstall', 'DESTDIR=' + staging)
        self.assertFalse(os.path.exists(staging + self.prefix))

    def test_refuses_while_a_diverted_program_needs_it(self):
        if INSIDE not in os.environ:
            self.skipTest('only root can put another file at ' + THEIRS)
        self.make('install')
        script = os.path.join(self.scratch, 'script')
        with open(script, 'w', encoding='ascii') as file:
            file.write('#!/bin/sh\nexec %s/bin/mtr-packet "$@"\n' % self.prefix)
        for leads in script, self.prefix + '/bin/postern':
            subprocess.run(['mount', '--bind', leads, THEIRS], check=True)
            said = self.make('uninstall', status=2)
            self.assertIn('/usr/bin/mtr-packet leads to', said)
            self.assertIn('bin/postern', self.found())
            subprocess.run(['umount', THEIRS], check=True)
        self.make('uninstall')
        self.assertFalse(os.path.exists(self.prefix))


if __name__ == '__main__':
    if INSIDE not in os.environ and os.geteuid() == 0 and os.path.exists(THEIRS):
        os.environ[INSIDE] = '1'
        os.execvp('unshare', ['unshare', '-m', sys.executable] + sys.argv)
    tap.main()
