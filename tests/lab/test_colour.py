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
PROGRAMS = {
    'doctor': ['postern', 'doctor'],
    'tracepath': ['tracepath', '-n', '198.18.0.2'],
}


def on_terminal(command, **variables):
    """What the command writes to a terminal of its own."""
    reader, writer = pty.openpty()
    environment = {**os.environ, 'TERM': 'xterm', 'NO_COLOR': '', **variables}
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=writer,
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

    def each(self):
        for name, (program, *arguments) in PROGRAMS.items():
            with self.subTest(name):
                yield [lab.build(program), *arguments]

    def test_on_a_terminal(self):
        for command in self.each():
            self.assertIn(ESCAPE, on_terminal(command))

    def test_not_where_it_is_not_wanted(self):
        for command in self.each():
            for variables in {'NO_COLOR': '1'}, {'TERM': 'dumb'}:
                text = on_terminal(command, **variables)
                self.assertNotIn(ESCAPE + b'3', text)  # colours; tracepath erases a line by others
                self.assertNotEqual(text, b'')

    def test_not_in_a_pipe(self):
        for command in self.each():
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                  env={**os.environ, 'TERM': 'xterm'}, timeout=30, check=False)
            self.assertNotIn(ESCAPE, done.stdout)


if __name__ == '__main__':
    lab.enter()
    tap.main()
