#!/usr/bin/env python3
"""Colour: on a terminal only, and not where NO_COLOR is set or the terminal is dumb.

time-limit: 60
"""
import os
import pty
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import lab  # noqa: E402
import tap  # noqa: E402

ESCAPE = b'\033['
# Each prints something green: what works, the destination that was reached.
PROGRAMS = ('postern', 'doctor'), ('tracepath', '-n', '198.18.1.2')


def on_terminal(command, **variables):
    """What the command writes to a terminal of its own."""
    reader, writer = pty.openpty()
    environment = {**os.environ, 'TERM': 'xterm', 'NO_COLOR': '', **variables}
    process = lab.popen(command, stdin=subprocess.DEVNULL, stdout=writer,
                        stderr=subprocess.DEVNULL, env=environment)
    os.close(writer)
    text = b''
    while True:
        try:
            piece = os.read(reader, 4096)
        except OSError:  # EIO: the program has ended
            break
        if not piece:
            break
        text += piece
    os.close(reader)
    process.wait(30)
    return text


class Colour(unittest.TestCase):
    def setUp(self):
        lab.linux_chain(1)
        self.addCleanup(lab.reset)

    def each(self, check):
        for program, *arguments in PROGRAMS:
            with self.subTest(program):
                check([lab.build(program), *arguments])

    def test_on_a_terminal(self):
        self.each(lambda command: self.assertIn(ESCAPE + b'32m', on_terminal(command)))

    def test_not_where_it_is_not_wanted(self):
        def check(command):
            for variables in {'NO_COLOR': '1'}, {'TERM': 'dumb'}:
                text = on_terminal(command, **variables)
                self.assertNotEqual(text, b'')
                self.assertNotIn(ESCAPE, text)

        self.each(check)

    def test_not_in_a_pipe(self):
        def check(command):
            done = lab.run(command, env={'TERM': 'xterm', 'NO_COLOR': ''})
            self.assertNotEqual(done.stdout, '')
            self.assertNotIn(ESCAPE.decode(), done.stdout)

        self.each(check)


if __name__ == '__main__':
    lab.enter()
    tap.main()
