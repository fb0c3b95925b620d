#!/usr/bin/env python3
"""The AppArmor profiles: apparmor_parser accepts them, and they name what is installed.

time-limit: 30
"""
import glob
import os
import re
import shutil
import subprocess
import sys
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, 'tests', 'lab'))
import tap  # noqa: E402

PROFILES = sorted(glob.glob(os.path.join(ROOT, 'policy', 'apparmor', '*')))
PARSER = shutil.which('apparmor_parser', path='/usr/sbin:/sbin')


class AppArmor(unittest.TestCase):
    def parse(self, *options, text=None, path='-'):
        if PARSER is None:
            self.skipTest('apparmor_parser is not installed')
        # -Q: nothing is loaded. -K: no cache is read or written.
        return subprocess.run([PARSER, '-Q', '-K', *options, path], input=text, text=True,
                              capture_output=True, check=False)

    def test_accepted(self):
        self.assertEqual(len(PROFILES), 2)
        for path in PROFILES:
            done = self.parse(path=path)
            self.assertEqual(done.returncode, 0, done.stderr)
            with open(path, encoding='utf-8') as file:
                broken = file.read().replace('capability net_raw', 'capability no_such')
            self.assertNotEqual(self.parse(text=broken).returncode, 0)

    def test_programs(self):
        """Each profile is that of an installed program, and the one leads to the other."""
        names = [self.parse('-N', path=path).stdout.split() for path in PROFILES]
        self.assertEqual(names, [['postern', 'postern//version'], ['postern-broker']])
        attached = []
        for path in PROFILES:
            with open(path, encoding='utf-8') as file:
                attached += re.findall(r'^profile \S+ (\S+) \{', file.read(), re.M)
        self.assertEqual(attached, ['/usr/{,local/}bin/postern',
                                    '/usr/{,local/}libexec/postern/postern-broker'])


if __name__ == '__main__':
    tap.main()
