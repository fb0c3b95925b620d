"""Runs the unittest cases of a test script and prints a line of TAP for each, which tests/run
counts. note() prints what a test measured."""
import sys
import time
import traceback
import unittest


def note(text):
    for line in str(text).splitlines():
        print('# ' + line, flush=True)


class TapResult(unittest.TestResult):
    def __init__(self):
        super().__init__()
        self.number = 0
        self.wrong = False

    def startTest(self, test):
        super().startTest(test)
        self.started = time.monotonic()
        self.wrong = False

    def _line(self, test, good, more=''):
        self.number += 1
        name = getattr(test, '_testMethodName', str(test)).removeprefix('test_').replace('_', ' ')
        print('%sok %d - %s.%s%s' % ('' if good else 'not ', self.number,
                                    type(test).__name__, name, more), flush=True)

    def _explain(self, error):
        """Where in a test it happened, and what."""
        for frame in traceback.extract_tb(error[2]):
            if 'unittest' not in frame.filename:
                note('  %s:%d: %s' % (frame.filename.rpartition('/')[2], frame.lineno, frame.line))
        note('  ' + ''.join(traceback.format_exception_only(*error[:2])).strip()[:1000])

    def addSuccess(self, test):
        if not self.wrong:
            self._line(test, True)
            note('  %.2f s' % (time.monotonic() - self.started))

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self._line(test, False)
        self._explain(err)

    addError = addFailure

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self._line(test, True, ' # SKIP ' + reason)

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            if not self.wrong:
                self._line(test, False)
            self.wrong = True
            note(subtest.id().split('.', 2)[-1])
            self._explain(err)


def main():
    """With arguments: only tests whose name contains one of them."""
    words = sys.argv[1:]
    suite = unittest.TestSuite()
    loaded = unittest.defaultTestLoader.loadTestsFromModule(sys.modules['__main__'])
    for group in loaded:
        wanted = [t for t in group if not words or any(w in t.id() for w in words)]
        suite.addTest(unittest.TestSuite(wanted))
    result = TapResult()
    suite.run(result)
    print('1..%d' % result.number)
    sys.exit(not result.wasSuccessful())
