#!/usr/bin/env python3
"""The completion of bash, zsh and fish, in real shells on a terminal, as make install installs it.

time-limit: 120
"""
import fcntl
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, 'tests', 'lab'))
import tap  # noqa: E402

BASH_COMPLETION = '/usr/share/bash-completion/bash_completion'
READY = 'shell-is-ready'
# What the shell does before READY.
SHELLS = {
    'bash': (['bash', '--noprofile', '--norc', '-i'],
             '. %s; bind "set show-all-if-ambiguous on"' % BASH_COMPLETION),
    'zsh': (['zsh', '-f', '-i'], 'fpath=("$PREFIX/share/zsh/site-functions" $fpath); LISTMAX=999; '
            'autoload -U compinit; compinit -u -D; unsetopt list_ambiguous'),
}
# A line, and what completing it shows.
CASES = (
    ('postern ', ('packet', 'tracepath', 'doctor', '--version')),
    ('postern doc', ('doctor',)),
    ('postern doctor --', ('--broker', '--help')),
    ('tracepath -P ', ('icmp', 'udp', 'tcp')),
    ('tracepath -n -P u', ('udp',)),
    ('tracepath -I l', ('lo',)),
    ('tracepath --jso', ('--json', '--jsonl')),
    ('tracepath6 --fl', ('--flow',)),
    ('postern tracepath --fl', ('--flow',)),
    ('mtr-packet --compat ', ('0.95', '0.96')),
    ('mtr-packet --br', ('--broker',)),
    ('tracepath --broker PREFIX/libexec/postern/', ('postern-broker',)),
)


class Completion(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.prefix = tempfile.mkdtemp(prefix='postern-completion-', dir='/var/tmp')
        cls.addClassCleanup(shutil.rmtree, cls.prefix)
        subprocess.run(['make', '-s', '-C', ROOT, '-o', 'programs', 'install', 'PREFIX=' + cls.prefix,
                        'BUILD=' + os.environ.get('BUILD', 'build')], check=True, capture_output=True)
        share = cls.prefix + '/share'
        cls.environment = {'PATH': cls.prefix + '/bin:/usr/bin:/bin', 'PREFIX': cls.prefix, 'TERM': 'xterm',
                           'HOME': cls.prefix, 'XDG_DATA_DIRS': share + ':/usr/share', 'LC_ALL': 'C.UTF-8',
                           'PS1': ''}
        help_text = subprocess.run([cls.prefix + '/bin/tracepath', '--help'], text=True, check=False,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout
        cls.options = re.findall(r'^  (-[\w-]+)', help_text, re.M)
        assert len(cls.options) > 15

    def shown(self, shell, line):
        """What appears on the terminal while the line is completed."""
        argv, setup = SHELLS[shell]
        pid, terminal = pty.fork()
        if pid == 0:
            os.execvpe(argv[0], argv, self.environment)
        try:
            fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack('HHHH', 100, 200, 0, 0))
            os.write(terminal, ("%s; echo shell-'is'-ready\r" % setup).encode())
            self.read(terminal, READY)
            os.write(terminal, (line + '\t').encode())
            return self.read(terminal, None)
        finally:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
            os.close(terminal)

    def read(self, terminal, end):
        """Until a text, or until nothing more comes for a while."""
        text = ''
        limit = time.monotonic() + 10
        while time.monotonic() < limit:
            if not select.select([terminal], [], [], 0.6 if end is None else 10)[0]:
                break
            try:
                text += os.read(terminal, 65536).decode(errors='replace')
            except OSError:
                break
            if end and end in text:
                break
        return re.sub(r'\x1b\[[\d;?]*[A-Za-z]', '', text)

    def check(self, shell):
        cases = CASES + (('tracepath -', self.options),)
        for line, expected in cases:
            with self.subTest(shell=shell, line=line):
                shown = self.shown(shell, line.replace('PREFIX', self.prefix))
                words = set(re.split(r'[\s"]+', shown.replace('/', ' ')))
                self.assertEqual([w for w in expected if w not in words], [], repr(shown))

    def test_bash(self):
        if not shutil.which('bash') or not os.path.exists(BASH_COMPLETION):
            self.skipTest('no bash, or no bash-completion')
        self.check('bash')

    def test_zsh(self):
        if not shutil.which('zsh'):
            self.skipTest('no zsh')
        self.check('zsh')

    def test_fish(self):
        if not shutil.which('fish'):
            self.skipTest('no fish')
        for line, expected in CASES + (('tracepath -', self.options),):
            with self.subTest(line=line):
                line = line.replace('PREFIX', self.prefix)
                done = subprocess.run(['fish', '-c', 'complete -C "$argv"', line], text=True,
                                      env=self.environment, capture_output=True, check=True, timeout=20)
                words = {w.split('\t')[0].rpartition('/')[2] for w in done.stdout.splitlines()}
                self.assertEqual([w for w in expected if w not in words], [], done.stdout + done.stderr)

    def test_argument_without_words(self):
        """After an option with another argument nothing is offered."""
        for shell in 'bash', 'zsh':
            if shutil.which(shell) and os.path.exists(BASH_COMPLETION):
                self.assertNotIn('localhost', self.shown(shell, 'tracepath -m '), shell)
                self.assertIn('localhost', self.shown(shell, 'tracepath -n localh'), shell)


if __name__ == '__main__':
    tap.main()
