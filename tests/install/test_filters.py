#!/usr/bin/env python3
"""mkfilter makes the broker's filter for the machine that is built for, not for the one that builds.

time-limit: 30
"""
import os
import re
import subprocess
import sys
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, 'tests', 'lab'))
import lab  # noqa: E402
import tap  # noqa: E402

MKFILTER = lab.build('gen/mkfilter')
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
NUMBER, MACHINE = 0, 4  # offsets in struct seccomp_data
KILL_PROCESS = 0x80000000

# Of <linux/audit.h>, and the machine's own numbers of sendmmsg, sendto and ppoll.
MACHINES = {
    'x86_64': (0xc000003e, {307, 44, 271}),
    'aarch64': (0xc00000b7, {269, 206, 73}),
    'riscv64': (0xc00000f3, {269, 206, 73}),
    # ppoll and ppoll_time64
    'armv7l': (0x40000028, {374, 290, 336, 414}),
}


def make(*arguments):
    return subprocess.run([MKFILTER, *arguments], text=True, capture_output=True, check=False)


def program_of(text):
    return [tuple(int(word, 0) for word in line) for line in
            re.findall(r'\{(\w+), (\w+), (\w+), (\w+)\}', text)]


class Filters(unittest.TestCase):
    def test_machines(self):
        for name, (machine, numbers) in MACHINES.items():
            with self.subTest(machine=name):
                done = make('broker', name)
                self.assertEqual((done.returncode, done.stderr), (0, ''))
                program = program_of(done.stdout)
                # Another machine's call ends the process, whatever its number is.
                self.assertEqual(program[0], (LOAD, 0, 0, MACHINE))
                self.assertEqual((program[1][0], program[1][3]), (JUMP_IF_EQUAL, machine))
                other = 2 + program[1][2]
                self.assertEqual(program[other][::3], (RETURN, KILL_PROCESS))
                compared = {k for code, _, _, k in program if code == JUMP_IF_EQUAL}
                self.assertEqual(numbers - compared, set())

    def test_machines_without_a_filter(self):
        """socketcall(2) takes its arguments in memory, where no filter can see them."""
        for name in 'i686', 's390x', 'powerpc64le', 'no-such-machine':
            done = make('broker', name)
            self.assertNotEqual(done.returncode, 0, name)
            self.assertNotIn('{', done.stdout)
            self.assertTrue(done.stderr, name)


if __name__ == '__main__':
    tap.main()
