"""What /proc says about front ends and brokers."""
import os
import time


def _stat(pid):
    """Name, state and parent; None once it is gone."""
    try:
        with open('/proc/%d/stat' % pid, encoding='ascii', errors='replace') as file:
            text = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    rest = text[text.rindex(')') + 2:].split()
    return text[text.index('(') + 1:text.rindex(')')], rest[0], int(rest[1])


def children(pid):
    found = []
    for entry in os.listdir('/proc'):
        if entry.isdigit():
            stat = _stat(int(entry))
            if stat and stat[2] == pid and stat[1] not in 'ZX':
                found.append(int(entry))
    return found


def broker_of(front_end, within=5):
    """The pid of the broker that a front end (or what it was started by) has."""
    until = time.monotonic() + within
    while True:
        todo = children(front_end)
        while todo:
            pid = todo.pop()
            stat = _stat(pid)
            if stat and stat[0] == 'postern-broker'[:15]:
                return pid
            todo += children(pid)
        assert time.monotonic() < until, 'no broker below process %d' % front_end
        time.sleep(0.01)


def gone_within(pid, seconds):
    """Seconds until a process was gone (a zombie is), or None."""
    started = time.monotonic()
    while True:
        stat = _stat(pid)
        passed = time.monotonic() - started
        if stat is None or stat[1] in 'ZX':
            return max(passed, 1e-9)
        if passed > seconds:
            return None
        time.sleep(0.002)


def status(pid):
    """/proc/PID/status as a dictionary."""
    with open('/proc/%d/status' % pid, encoding='ascii', errors='replace') as file:
        return {name: value.strip() for name, _, value in
                (line.partition(':') for line in file)}


def descriptors(pid):
    """What each descriptor is: 'socket:', '/dev/null', …, without numbers."""
    folder = '/proc/%d/fd' % pid
    return {int(fd): os.readlink(os.path.join(folder, fd)).split('[')[0]
            for fd in os.listdir(folder)}


def resident_kb(pid):
    return int(status(pid)['VmRSS'].split()[0])


def sanitized(program):
    with open(program, 'rb') as file:
        return b'__asan_init' in file.read()
