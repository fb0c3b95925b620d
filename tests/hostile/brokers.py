"""Runs the broker by hand, the way anybody could, and speaks the channel's records (common/record.h)
without help from the front end. For the tests in this directory, inside the lab."""
import ctypes
import ipaddress
import os
import select
import socket
import struct
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lab'))
import lab  # noqa: E402

BROKER = lab.build('postern-broker')
FRONT_END = lab.build('mtr-packet')

HELLO, PROBE, ANSWER, LONG_ANSWER, FAILURE = 1, 2, 3, 4, 5
DONT_FRAGMENT, WITH_MARK, WITH_NONCE = 1, 2, 4
ICMP, TCP, UDP, SCTP = 1, 6, 17, 132
FEATURE_ICMP, FEATURE_SCTP, FEATURE_MARK, FEATURE_IPV6_SHIFT = 1, 8, 1 << 16, 8

BATCH = 64       # records in a message at most (common/record.h)
PROBE_IDS = 16

START, CHANNEL, BAD_REQUEST, NO_PRIVILEGE = 1, 64, 65, 77  # exit statuses (broker/fatal.h)

_HELLO = struct.Struct('=B3xIIIII16H')
_PROBE = struct.Struct('=BBBBBBHIHHIIIIB7s8s16s16s')
_ANSWER = struct.Struct('=BBBxIqq16s16sIiII80s')
_SIZES = {ANSWER: _ANSWER.size, LONG_ANSWER: _ANSWER.size + 1240, FAILURE: _ANSWER.size}
_libc = ctypes.CDLL(None, use_errno=True)

def probe(kind=PROBE, family=4, protocol=ICMP, ttl=64, tos=0, payload_byte=0, flags=0, cookie=0,
          size=64, port=0, number=None, ifindex=0, mark=0, flow_label=0, probe_id=0,
          reserved=bytes(7), nonce=bytes(8), to='127.0.0.1', source=bytes(16)):
    """A request; addresses as text or as bytes."""
    if number is None:
        number = cookie & 0xffff if protocol == ICMP else cookie + 1
    return _PROBE.pack(kind, family, protocol, ttl, tos, payload_byte, flags, cookie, size, port,
                       number, ifindex, mark, flow_label, probe_id, reserved, nonce,
                       _address(to), _address(source))


def _address(address):
    if isinstance(address, str):
        return ipaddress.ip_address(address).packed
    return address


class Hello:
    def __init__(self, raw):
        self.size = len(raw)
        (self.kind, self.version, self.features, self.slots, self.batch, _,
         *self.probe_ids) = _HELLO.unpack(raw)


class Event:
    """What came back for a probe: an answer with its first bytes, or the errno of the send."""

    def __init__(self, raw):
        (self.kind, self.protocol, self.ttl, self.cookie, self.sent_ns, self.received_wall_ns,
         self.responder, self.local, self.ifindex, self.error, self.packet_bytes, data_bytes,
         data) = _ANSWER.unpack(raw[:_ANSWER.size])
        self.data = (raw[_ANSWER.size:] if self.kind == LONG_ANSWER else data)[:data_bytes]

    def __repr__(self):
        return 'Event(kind=%d cookie=%#x error=%d)' % (self.kind, self.cookie, self.error)


class Broker:
    """A running broker. Its stderr is collected; stop() returns (exit status or -signal, text)."""

    def __init__(self, program=None, stdin=None, stderr=None, arguments=(), stdout=None, **popen):
        self.channel = None
        theirs = None
        if stdin is None:
            self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            stdin = theirs
        self.errors, writer = os.pipe()
        self.process = subprocess.Popen(
            [program or BROKER, *arguments], stdin=stdin, stdout=stdout or subprocess.DEVNULL,
            stderr=writer if stderr is None else stderr, **popen)
        os.close(writer)
        if theirs is not None:
            theirs.close()

    def receive(self, timeout=5):
        """One message, or b'' at the end; None if nothing comes."""
        if not select.select([self.channel], [], [], timeout)[0]:
            return None
        try:
            return self.channel.recv(65536)
        except ConnectionResetError:
            return b''

    def hello(self, timeout=10):
        """The first message; None if there was none."""
        message = self.receive(timeout)
        return Hello(message) if message else None

    def events(self, count=1, timeout=5):
        found = []
        while len(found) < count:
            message = self.receive(timeout)
            if not message:
                break
            size = _SIZES[message[0]]
            found += [Event(message[at:at + size]) for at in range(0, len(message), size)]
        return found

    def send(self, data, descriptors=()):
        control = []
        if descriptors:
            packed = struct.pack('%di' % len(descriptors), *descriptors)
            control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, packed)]
        return self.channel.sendmsg([data], control)

    def close(self):
        if self.channel is not None:
            self.channel.close()
            self.channel = None

    def wait(self, timeout=10):
        """Exit status (negative: a signal) and what it wrote to stderr. Kills what hangs."""
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            status = None
        text = b''
        while select.select([self.errors], [], [], 0)[0]:
            piece = os.read(self.errors, 4096)
            if not piece:
                break
            text += piece
        os.close(self.errors)
        self.close()
        return status, text.decode(errors='replace')

    def stop(self, timeout=10):
        self.close()
        return self.wait(timeout)


def is_of_a_program(ethertype, packet):
    """Not ARP, not multicast listener reports (whose hop-by-hop header is an IPv6 packet's first), and
    not the host unreachable that follows three seconds after a neighbour was asked for in vain."""
    if ethertype == b'\x08\x00':
        return not (packet[0] == 0x45 and packet[9] == ICMP and packet[20:22] == b'\3\1')
    return ethertype == b'\x86\xdd' and packet[6] != 0


class Wire:
    """Every IP packet that crosses any interface of the namespace, from creation on."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self.socket.setblocking(False)

    def packets(self, settle_s=0.1):
        """What came since the last call, link-layer header removed, but for what the kernel says
        of its own accord."""
        time.sleep(settle_s)
        found = []
        while True:
            try:
                frame = self.socket.recv(65536)
            except BlockingIOError:
                return found
            if is_of_a_program(frame[12:14], frame[14:]):
                found.append(frame[14:])

    def close(self):
        self.socket.close()


def status_of(pid):
    """/proc/PID/status as a dictionary of texts."""
    with open('/proc/%d/status' % pid, encoding='ascii', errors='replace') as file:
        return {name: value.strip() for name, _, value in
                (line.partition(':') for line in file)}


def descriptors_of(pid):
    directory = '/proc/%d/fd' % pid
    return {int(name): os.readlink(os.path.join(directory, name))
            for name in os.listdir(directory)}


def execute_without_arguments(path):
    """execve(2) with argc 0, in the child of subprocess."""
    _libc.execve(path.encode(), (ctypes.c_char_p * 1)(None), (ctypes.c_char_p * 1)(None))
    os._exit(126)


def is_running(pid):
    """Not if it is only waiting to be reaped."""
    try:
        return status_of(pid)['State'][0] not in 'ZX'
    except (FileNotFoundError, ProcessLookupError):
        return False


def enter_container(first_user, first_group, count=65536):
    """User and network namespaces with a map of many users, as container managers make them; becomes
    root in there. For root, in the child of subprocess. Only the parent namespace may write the
    map, so that a process that stays there does it."""
    parent = os.getpid()
    reader, writer = os.pipe()
    writes = os.fork()
    if writes == 0:
        os.read(reader, 1)
        for name, first in ('uid_map', first_user), ('gid_map', first_group):
            with open('/proc/%d/%s' % (parent, name), 'w', encoding='ascii') as file:
                file.write('0 %d %d' % (first, count))
        os._exit(0)
    if _libc.unshare(0x10000000 | 0x40000000) != 0:  # CLONE_NEWUSER | CLONE_NEWNET
        os._exit(125)
    os.write(writer, b'.')
    if os.waitpid(writes, 0)[1] != 0:
        os._exit(124)
    os.setgroups([0, 10])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    subprocess.run(['ip', 'link', 'set', 'lo', 'up'], check=True)
