"""A client of the text protocol for tests: starts an mtr-packet, sends request lines, collects the
replies with the time at which they came."""
import os
import subprocess
import threading
import time

BUILD = os.path.abspath(os.environ.get('BUILD', 'build'))
MTR_PACKET = os.path.join(BUILD, 'mtr-packet')


class Reply:
    """One reply line: token, word, and its arguments as a dictionary of strings."""

    def __init__(self, line, when):
        self.line = line
        self.when = when
        fields = line.split()
        self.token = int(fields[0])
        self.word = fields[1]
        self.names = fields[2::2]
        self.arguments = dict(zip(self.names, fields[3::2]))
        self.paired = len(fields) % 2 == 0

    def __repr__(self):
        return '<%s>' % self.line

    def get(self, name, default=None):
        return self.arguments.get(name, default)

    def __getitem__(self, name):
        return self.arguments[name]

    @property
    def address(self):
        return self.get('ip-4') or self.get('ip-6')

    @property
    def ms(self):
        return int(self['round-trip-time']) / 1000


class Client:
    """An mtr-packet and its pipes. `prefix` is the command that takes it into a namespace or to
    another user. Usable as a context manager: leaving closes stdin, then waits for its end."""

    def __init__(self, prefix=(), arguments=(), environment=None, program=MTR_PACKET, read=True,
                 **more):
        self.process = subprocess.Popen(
            [*prefix, program, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env={**os.environ, **(environment or {})}, **more)
        self.replies = []
        self.errors = []
        self.changed = threading.Condition()
        self.ended = False
        self.next_token = 1
        self.threads = [threading.Thread(target=self._read_errors, daemon=True)]
        if read:
            self.threads.append(threading.Thread(target=self._read, daemon=True))
        for thread in self.threads:
            thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def read_now(self):
        """Begins to read what was left unread by read=False."""
        self.threads.append(threading.Thread(target=self._read, daemon=True))
        self.threads[-1].start()

    def _read(self):
        for line in self.process.stdout:
            reply = Reply(line.decode('ascii'), time.monotonic())
            with self.changed:
                self.replies.append(reply)
                self.changed.notify_all()
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def _read_errors(self):
        for line in self.process.stderr:
            self.errors.append(line.decode(errors='replace').rstrip('\n'))

    def write(self, text):
        self.process.stdin.write(text.encode() if isinstance(text, str) else text)
        self.process.stdin.flush()

    def wait_for(self, count, within):
        """Waits until `count` replies have come in all; returns them all, perhaps fewer."""
        until = time.monotonic() + within
        with self.changed:
            while len(self.replies) < count and not self.ended:
                if not self.changed.wait(until - time.monotonic()):
                    break
            return list(self.replies)

    def ask(self, *requests, within=15):
        """Sends requests (without tokens) at once; returns their replies in the requests' order.
        Each must be answered exactly once, which is checked here."""
        first = self.next_token
        self.next_token += len(requests)
        before = len(self.replies)
        self.write(''.join('%d %s\n' % (first + i, r) for i, r in enumerate(requests)))
        replies = self.wait_for(before + len(requests), within)[before:]
        by_token = {r.token: r for r in replies}
        missing = [r for i, r in enumerate(requests) if first + i not in by_token]
        assert not missing, 'no answer to %d requests, such as %r; got %r; stderr %r' % (
            len(missing), missing[0], replies[:3], self.errors[:3])
        assert len(by_token) == len(replies) == len(requests), 'answers twice: %r' % replies[:9]
        return [by_token[first + i] for i in range(len(requests))]

    def one(self, request, within=15):
        return self.ask(request, within=within)[0]

    def supports(self, feature):
        return self.one('check-support feature %s' % feature)['support']

    def close(self, within=20):
        """Ends it by end of input; returns its exit status."""
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        try:
            return self.process.wait(within)
        finally:
            self.process.kill()
            self.process.wait()
            for thread in self.threads:
                thread.join(5)
            self.process.stdout.close()
            self.process.stderr.close()
