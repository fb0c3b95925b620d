"""Sandboxes for tests, as commands that run another: ways to install and start Postern, and states that
take something away from it. And a filter that denies system calls.

Run as a program it applies such a filter to itself and becomes the command that follows:
    python3 sandboxes.py DENIED... -- COMMAND...     where DENIED is the name of a call, or
    `raw`, `dgram` or `stream` for sockets of that type
"""
import ctypes
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading

import lab

# An ordinary user without name and home.
USER = 54321

_installing = threading.Lock()


def install(kind):
    """The programs in a folder of their own, the broker privileged by `kind` ('capability', 'setuid'
    or 'none'); returns that folder."""
    folder = lab.scratch('installed-' + kind)
    with _installing:
        if not os.path.exists(folder):
            _install(kind, folder)
    return folder


def _install(kind, folder):
    os.makedirs(folder)
    broker = os.path.join(folder, 'postern-broker')
    for program in 'postern', 'postern-broker':
        shutil.copyfile(lab.build(program), os.path.join(folder, program))
        os.chmod(os.path.join(folder, program), 0o755)
    for link in 'mtr-packet', 'tracepath':
        os.symlink('postern', os.path.join(folder, link))
    if kind == 'capability':
        subprocess.run(['setcap', 'cap_net_raw=p', broker], check=True)
    elif kind == 'setuid':
        os.chmod(broker, 0o4755)


def setpriv(*options):
    return ('setpriv', *options)


def as_user(user=USER):
    return setpriv('--reuid', str(user), '--regid', str(user), '--clear-groups')


def with_mounts(*commands):
    """In a mount namespace of its own, after these shell commands."""
    script = 'set -e; ' + '; '.join(commands) + '; exec "$@"'
    return ('unshare', '--mount', 'sh', '-c', script, 'sh')


def denying(*calls):
    return (sys.executable, os.path.abspath(__file__), *calls, '--')


# ---- a filter that denies -----------------------------------------------------------------------

# <linux/audit.h> and the tables of system calls.
_MACHINES = {
    'x86_64': (0xc000003e, {'socket': 41, 'recvmmsg': 299, 'sendmmsg': 307}),
    'aarch64': (0xc00000b7, {'socket': 198, 'recvmmsg': 243, 'sendmmsg': 269}),
}
_SOCKET_TYPES = {'stream': 1, 'dgram': 2, 'raw': 3}
_LOAD, _JUMP_IF_EQUAL, _AND, _RETURN = 0x20, 0x15, 0x54, 0x06
_ALLOW, _DENY = 0x7fff0000, 0x00050000 | 1  # SECCOMP_RET_ERRNO with EPERM, as container engines do


def _rules(denied, numbers):
    """Instructions that return _DENY for what is denied; the number of the call is loaded first."""
    for name in denied:
        if name in _SOCKET_TYPES:  # socket(2) whose second argument, less its flags, is that
            yield from ((_LOAD, 0, 0, 0), (_JUMP_IF_EQUAL, 0, 4, numbers['socket']),
                        (_LOAD, 0, 0, 24), (_AND, 0, 0, 0xf),
                        (_JUMP_IF_EQUAL, 0, 1, _SOCKET_TYPES[name]), (_RETURN, 0, 0, _DENY))
        else:
            yield from ((_LOAD, 0, 0, 0), (_JUMP_IF_EQUAL, 0, 1, numbers[name]),
                        (_RETURN, 0, 0, _DENY))


def _deny(denied):
    machine, numbers = _MACHINES[os.uname().machine]
    program = [(_LOAD, 0, 0, 4), (_JUMP_IF_EQUAL, 1, 0, machine), (_RETURN, 0, 0, _ALLOW),
               *_rules(denied, numbers), (_RETURN, 0, 0, _ALLOW)]
    code = b''.join(struct.pack('HBBI', *instruction) for instruction in program)
    memory = ctypes.create_string_buffer(code)
    filter_ = struct.pack('HxxxxxxP', len(program), ctypes.addressof(memory))
    libc = ctypes.CDLL(None, use_errno=True)
    # PR_SET_SECCOMP with SECCOMP_MODE_FILTER: as root, so that no_new_privs is not needed.
    if libc.prctl(22, 2, filter_, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), 'prctl(PR_SET_SECCOMP)')


if __name__ == '__main__':
    end = sys.argv.index('--')
    _deny(sys.argv[1:end])
    os.execvp(sys.argv[end + 1], sys.argv[end + 1:])
