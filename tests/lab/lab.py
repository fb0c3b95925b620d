"""The lab: private networks for Postern's tests and demo.

enter() runs the calling program again inside namespaces of its own (network, mount, process ids; as
an ordinary user also a user namespace), where nothing but a loopback exists, so that nothing it
sends can leave. There, linux_chain(), simnet() and wire_host() build networks out of network
namespaces; run() and Capture work inside them. Everything is gone when the program ends, however it
ends. README.md beside this file shows how to use it.

Standard library only; needs iproute2, util-linux and, for Capture, tcpdump.
"""

import atexit
import ctypes
import fcntl
import json
import os
import pwd
import signal
import socket
import struct
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HERE = os.path.dirname(os.path.abspath(__file__))

HOST = "host"
DEVICE = "eth0"
SOURCE4 = "198.18.0.1"
SOURCE6 = "2001:db8::1"
SECOND4 = "198.18.0.11"
SECOND6 = "2001:db8::11"
GATEWAY4 = "198.18.0.2"
GATEWAY6 = "2001:db8::2"

_MARK = "POSTERN_LAB_INSIDE"
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class LabError(Exception):
    """The lab could not be built; the message says which step failed."""


def build(program):
    """Path of a built program: in $BUILD if set, otherwise in build/ of the tree."""
    directory = os.environ.get("BUILD", "build")
    return os.path.join(ROOT, directory, program) if not os.path.isabs(directory) \
        else os.path.join(directory, program)


# ---- entering -----------------------------------------------------------------------------------


def enter(unable_status=77):
    """Returns inside the lab. Outside, replaces this program by itself run in there; where that is
    not allowed, ends it with a line that says so (77: the test counts as skipped)."""
    if os.environ.pop(_MARK, None) is None:
        _reexecute(unable_status)
    _become_init()
    _check_private()
    _hold_namespaces()
    _temporary_directory()


_UNSHARE = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
_UNSHARE_USER = _UNSHARE + ["--user", "--map-root-user"]


def _reexecute(unable_status):
    # root in a container may lack CAP_SYS_ADMIN, but be allowed a user namespace
    ways = [_UNSHARE, _UNSHARE_USER] if os.geteuid() == 0 else [_UNSHARE_USER]
    complaint = ""
    for command in ways:
        try:
            tried = subprocess.run(command + ["true"], capture_output=True, text=True, check=False)
        except FileNotFoundError:
            sys.exit("lab: there is no unshare: install the package util-linux")
        if tried.returncode == 0:
            os.environ[_MARK] = "1"
            sys.stdout.flush()
            # In the background of a script they are ignored, and all that is started inherits that.
            for number in signal.SIGINT, signal.SIGQUIT:
                signal.signal(number, signal.SIG_DFL)
            os.execvp(command[0], command + [sys.executable] + _own_arguments())
        complaint = tried.stderr.strip()
    print(f"lab: cannot make namespaces here ({complaint}); run it as root, or allow user "
          "namespaces (sysctl kernel.unprivileged_userns_clone, user.max_user_namespaces)",
          file=sys.stderr)
    sys.exit(unable_status)


def _own_arguments():
    """The interpreter's options and the program, as this process was started."""
    arguments = list(sys.orig_argv[1:])
    return arguments


def _become_init():
    """Process 1 does nothing but reap, and end with the program's status."""
    child = os.fork()
    if child == 0:
        return
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: os.kill(child, received))
    while True:
        ended, status = os.wait()
        if ended == child:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)


def _check_private():
    """Nothing can leave: there is no interface but loopback."""
    with open("/proc/net/dev", encoding="ascii") as table:
        devices = [line.split(":")[0].strip() for line in table if ":" in line]
    if devices != ["lo"]:
        raise LabError(f"not a private network namespace: it has {devices}")


def _hold_namespaces():
    """`ip netns` keeps its names in /run/netns, which an ordinary user cannot make otherwise."""
    _command(["mount", "-t", "tmpfs", "-o", "mode=755", "lab", "/run"])
    os.makedirs("/run/netns", mode=0o755)
    _command(["ip", "link", "set", "lo", "up"])


_scratch = None
_owner = None


def _temporary_directory():
    global _scratch, _owner
    _scratch = "/run/lab"  # in our own mount namespace: it goes with us even if we are killed
    os.makedirs(_scratch, mode=0o755)
    _owner = os.getpid()
    atexit.register(_clean_up)


def _clean_up():
    if os.getpid() == _owner:
        reset()


def in_user_namespace():
    """True when an ordinary user started the lab: then there is no user but root in it."""
    with open("/proc/self/uid_map", encoding="ascii") as file:
        return file.read().split() != ["0", "0", "4294967295"]


def scratch(name):
    """A path in the lab's temporary directory, which goes away with the lab."""
    return os.path.join(_scratch, name)


# ---- running things -----------------------------------------------------------------------------


def _command(argv, text=None):
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LabError(f"{' '.join(argv)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def _set_namespace(path):
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"setns {path}")
    finally:
        os.close(descriptor)


def namespace_path(name):
    return f"/run/netns/{name}"


def popen(argv, ns=HOST, user=None, **keywords):
    """subprocess.Popen in a network namespace; ns=None: where the lab itself lives. `user` is a
    name or a number; its group and no other is taken along. (Popen's own `user` would give up the
    right to enter the namespace before entering it.)"""
    if ns is None and user is None:
        return subprocess.Popen(argv, **keywords)
    path = namespace_path(ns) if ns is not None else None
    identity = _identity(user) if user is not None else None

    def prepare():
        if path:
            _set_namespace(path)
        if identity:
            os.setgroups([])
            os.setgid(identity[1])
            os.setuid(identity[0])

    return subprocess.Popen(argv, preexec_fn=prepare, **keywords)


def _identity(user):
    try:
        entry = pwd.getpwuid(user) if isinstance(user, int) else pwd.getpwnam(user)
    except KeyError:
        if isinstance(user, int):
            return user, user
        raise LabError(f"there is no user {user}") from None
    return entry.pw_uid, entry.pw_gid


def run(argv, ns=HOST, timeout=60, input=None, env=None, **keywords):
    """Runs a program in a namespace and returns a CompletedProcess with text output. A program
    that outlives its timeout (seconds) is killed and raises subprocess.TimeoutExpired. `user` goes
    to popen(), `cwd` and so on to subprocess.Popen."""
    environment = None if env is None else {**os.environ, **env}
    with popen(argv, ns, text=True, env=environment,
               stdin=subprocess.PIPE if input is not None else subprocess.DEVNULL,
               stdout=subprocess.PIPE, stderr=subprocess.PIPE, **keywords) as process:
        try:
            out, err = process.communicate(input, timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
    return subprocess.CompletedProcess(argv, process.returncode, out, err)


def run_all(commands, ns=HOST, timeout=60, env=None):
    """Runs several programs at once; returns their CompletedProcesses in order."""
    environment = None if env is None else {**os.environ, **env}
    started = [popen(argv, ns, text=True, env=environment, stdin=subprocess.DEVNULL,
                     stdout=subprocess.PIPE, stderr=subprocess.PIPE) for argv in commands]
    try:
        outputs = [process.communicate(timeout=timeout) for process in started]
    finally:
        for process in started:
            if process.poll() is None:
                process.kill()
    return [subprocess.CompletedProcess(process.args, process.returncode, *output)
            for process, output in zip(started, outputs)]


def inside(ns, function, *arguments):
    """Calls a function in a namespace, in a forked child, and returns its (JSON-able) result."""
    return inside_all([(ns, function, arguments)])[0]


def inside_all(calls):
    """The same for many [(ns, function, arguments)] in one child: that is much faster."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            result = []
            for ns, function, arguments in calls:
                _set_namespace(namespace_path(ns))
                result.append(function(*arguments))
            answer = {"result": result}
        except BaseException as error:  # pylint: disable=broad-except
            answer = {"error": f"{type(error).__name__}: {error}"}
        with os.fdopen(writer, "w") as stream:
            json.dump(answer, stream)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        text = stream.read()
    os.waitpid(child, 0)
    answer = json.loads(text or '{"error": "child died"}')
    if "error" in answer:
        raise LabError(answer["error"])
    return answer["result"]


def _write(path, value):
    with open(path, "w", encoding="ascii") as file:
        file.write(str(value))


def allow_ping(allowed=True):
    """Lets every user of the namespace open ICMP datagram sockets, as most distributions do, or
    none. For inside()."""
    if not allowed:
        _write("/proc/sys/net/ipv4/ping_group_range", "1 0")
        return
    try:
        _write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647")
    except OSError:  # in a user namespace there are only the groups that are mapped
        _write("/proc/sys/net/ipv4/ping_group_range", "0 0")


def write_sysctls(values):
    for name, value in values.items():
        try:
            _write("/proc/sys/" + name, value)
        except FileNotFoundError:
            pass  # a kernel without it has no such behaviour to switch off
        except PermissionError:
            # net.ipv4.icmp_msgs_per_sec and the like belong to the initial user namespace in
            # older kernels
            if not name.startswith("net/ipv4/icmp_msgs"):
                raise


def _ethtool(device, command, value):
    """One ETHTOOL_S* command with an integer: switches an offload."""
    data = ctypes.create_string_buffer(struct.pack("II", command, value))
    request = struct.pack("16sP", device.encode(), ctypes.addressof(data)) + bytes(16)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        fcntl.ioctl(handle, 0x8946, request)


def real_checksums(device):
    """Lets the kernel make and check all checksums and segments itself, so that captures and
    simnet see what a real wire would carry, and a wrong checksum is found."""
    # receive checksum (a veth declares what it gets right, unseen), transmit checksum, TSO, GSO, GRO
    for command in (0x15, 0x17, 0x1f, 0x24, 0x2c):
        try:
            _ethtool(device, command, 0)
        except OSError:
            pass


# ---- namespaces ---------------------------------------------------------------------------------

_networks = []
_namespaces = []

_NO_CHATTER = {
    "net/ipv6/conf/default/accept_dad": 0,
    "net/ipv6/conf/all/accept_dad": 0,
    "net/ipv6/conf/default/accept_ra": 0,
    "net/ipv6/conf/default/router_solicitations": 0,
    "net/ipv4/conf/all/rp_filter": 0,
    "net/ipv4/conf/default/rp_filter": 0,
}
_FORWARD = {
    "net/ipv4/ip_forward": 1,
    "net/ipv6/conf/all/forwarding": 1,
    "net/ipv6/conf/default/forwarding": 1,
}
_UNLIMITED = {
    "net/ipv4/icmp_ratelimit": 0,
    "net/ipv4/icmp_msgs_per_sec": 10000000,
    "net/ipv4/icmp_msgs_burst": 1000000,
    "net/ipv6/icmp/ratelimit": 0,
}


def _add_namespaces(names):
    _command(["ip", "-batch", "-"], "".join(f"netns add {name}\n" for name in names))
    _namespaces.extend(names)


def _ip_batches(batches, options=()):
    """Runs one `ip -batch` for each namespace, a few at a time."""
    pending = list(batches.items())
    running = []
    while pending or running:
        while pending and len(running) < 4:
            name, lines = pending.pop(0)
            process = subprocess.Popen(["ip", *options, "-n", name, "-batch", "-"], text=True,
                                       stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                       stderr=subprocess.PIPE)
            process.stdin.write("\n".join(lines) + "\n")
            process.stdin.close()
            process.stdin = None
            running.append((name, process))
        name, process = running.pop(0)
        _, errors = process.communicate()
        if process.returncode != 0:
            raise LabError(f"ip -n {name}: {errors.strip()} in: {batches[name]}")


def reset():
    """Takes down every network that was built, so that another can be."""
    while _networks:
        _networks.pop().stop()
    if _namespaces:
        subprocess.run(["ip", "-batch", "-"], text=True, check=False, capture_output=True,
                       input="".join(f"netns del {name}\n" for name in _namespaces))
        _namespaces.clear()


class Network:
    """What was built, and how to use it from the host's namespace."""

    host = HOST
    device = DEVICE
    source4 = SOURCE4
    source6 = SOURCE6
    second4 = SECOND4  # a second address, for `-a ADDRESS`; never chosen by itself
    second6 = SECOND6

    def stop(self):
        """Ends the processes that play this network."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        reset()


# ---- real Linux routers in a chain --------------------------------------------------------------


class Chain(Network):
    """host - r1 - r2 ... - dest; link k is 198.18.k.0/24 and 2001:db8:k::/64, the near end .1, the
    far end .2, so hop i is 198.18.(i-1).2."""

    def __init__(self, routers):
        self.routers = [f"r{i}" for i in range(1, routers + 1)]
        self.names = [HOST] + self.routers + ["dest"]
        self.hops4 = [f"198.18.{i}.2" for i in range(routers + 1)]
        self.hops6 = [f"2001:db8:{i:x}::2" if i else "2001:db8::2" for i in range(routers + 1)]
        self.destination4 = self.hops4[-1]
        self.destination6 = self.hops6[-1]


def linux_chain(n_routers, mtus=None, silent=(), rate_limited=(), unreachable=None, detours=None,
                silent_destination=False):
    """Builds host, n_routers Linux routers and a destination, IPv4 and IPv6.

    mtus          {link: mtu}; link 0 is the host's, link i the one behind router i
    silent        routers (1...) that send no ICMP at all, errors about the MTU included, so that
                  a smaller MTU behind one of them is a black hole
    rate_limited  routers that answer one ICMP error a second; the others have no limit
    unreachable   {router: "unreachable" | "prohibit" | "blackhole"} instead of a way on
    detours       {router: extra hops} on the way back from it, and from everything behind it
    """
    chain = Chain(n_routers)
    detours = detours or {}
    side = {router: [f"d{router}-{i}" for i in range(1, extra + 1)]
            for router, extra in detours.items() if extra}
    names = chain.names + [name for group in side.values() for name in group]
    _add_namespaces(names)
    _chain_sysctls(chain, names, rate_limited)
    lines = {name: ["link set lo up"] for name in names}
    _chain_links(chain, mtus or {}, lines)
    _chain_routes(chain, side, lines)
    _ip_batches(lines)
    _chain_rules(chain, list(silent) + [n_routers + 1] * silent_destination, unreachable or {})
    inside(HOST, real_checksums, DEVICE)
    inside("dest", real_checksums, "left")
    _networks.append(chain)
    return chain


def _chain_sysctls(chain, names, rate_limited):
    calls = []
    limited = {chain.names[number] for number in rate_limited}
    for name in names:
        values = dict(_NO_CHATTER)
        if name not in (HOST, "dest"):
            values.update(_FORWARD)
        if name not in limited:
            values.update(_UNLIMITED)
        calls.append((name, write_sysctls, (values,)))
    inside_all(calls)


def _chain_links(chain, mtus, lines):
    """Veth pairs between neighbours: `left` towards the host, `right` away from it."""
    batch = []
    for k, (near, far) in enumerate(zip(chain.names, chain.names[1:])):
        name = DEVICE if k == 0 else "right"
        mtu = mtus.get(k, 1500)
        batch.append(f"link add {name} netns {near} mtu {mtu} type veth "
                     f"peer name left netns {far} mtu {mtu}")
        six = f"2001:db8:{k:x}::" if k else "2001:db8::"
        for node, device, last in ((near, name, 1), (far, "left", 2)):
            lines[node] += [f"addr add 198.18.{k}.{last}/24 dev {device}",
                            f"link set {device} up",
                            f"addr add {six}{last}/64 dev {device} nodad"]
    lines[HOST] += [f"addr add {SECOND4}/24 dev {DEVICE}",
                    f"addr add {SECOND6}/64 dev {DEVICE} nodad preferred_lft 0"]
    _command(["ip", "-batch", "-"], "\n".join(batch) + "\n")


def _chain_routes(chain, side, lines):
    last = len(chain.names) - 1
    for i, name in enumerate(chain.names):
        onward6 = f"2001:db8:{i:x}::2" if i else "2001:db8::2"
        back6 = f"2001:db8:{i - 1:x}::1" if i > 1 else "2001:db8::1"
        if i < last:
            lines[name] += [f"route add default via 198.18.{i}.2",
                            f"route add ::/0 via {onward6}"]
        if i == last:
            lines[name] += [f"route add default via 198.18.{i - 1}.1",
                            f"route add ::/0 via {back6}"]
        elif i > 1 and i not in side:
            lines[name] += [f"route add 198.18.0.0/24 via 198.18.{i - 1}.1",
                            f"route add 2001:db8::/64 via {back6}"]
    for number, group in side.items():
        _add_detour(chain, number, group, lines)


def _add_detour(chain, number, group, lines):
    """From router `number` back to the one before it, through further routers."""
    way = [chain.names[number]] + group + [chain.names[number - 1]]
    batch = []
    for step, (start, end) in enumerate(zip(way, way[1:])):
        out, into = f"out{number}", f"in{number}"
        four = f"198.19.{number}.{4 * step}"
        base, low = four.rsplit(".", 1)
        six = f"2001:db8:d{number:03x}:{step:x}::"
        batch.append(f"link add {out} netns {start} type veth peer name {into} netns {end}")
        lines[start] += [f"addr add {base}.{int(low) + 1}/30 dev {out}",
                         f"addr add {six}1/64 dev {out} nodad", f"link set {out} up"]
        lines[end] += [f"addr add {base}.{int(low) + 2}/30 dev {into}",
                       f"addr add {six}2/64 dev {into} nodad", f"link set {into} up"]
    _command(["ip", "-batch", "-"], "\n".join(batch) + "\n")
    for step, start in enumerate(way[:-1]):
        target = "route add 2001:db8::/64 via 2001:db8:d{:03x}:{:x}::2".format(number, step)
        lines[start] += [f"route add 198.18.0.0/24 via 198.19.{number}.{4 * step + 2}", target]


def _chain_rules(chain, silent, unreachable):
    """Routing rules: a silent node's own ICMP finds no route (no netfilter: that is not everywhere),
    and what an unreachable router got from the host's side is refused, even for the network right
    behind it."""
    for option, icmp in (("-4", "icmp"), ("-6", "ipv6-icmp")):
        lines = {}
        for number in silent:
            lines.setdefault(chain.names[number], []).append(
                f"rule add pref 5 iif lo ipproto {icmp} blackhole")
        for number, kind in unreachable.items():
            lines.setdefault(chain.names[number], []).append(f"rule add pref 6 iif left {kind}")
        _ip_batches(lines, [option])


# ---- the internet that simnet plays -------------------------------------------------------------


class Simnet(Network):
    """A simnet process behind the host's only interface."""

    def __init__(self, process):
        self.process = process
        self.counters = None
        self.gateway4 = GATEWAY4
        self.gateway6 = GATEWAY6

    def stop(self):
        """Ends simnet and returns its counters."""
        if self.counters is None:
            out, errors = self.process.communicate(timeout=10)
            self.counters = {}
            if self.process.returncode != 0:
                raise LabError(f"simnet ended with {self.process.returncode}: {errors.strip()}")
            pairs = [line.split() for line in (out or "").splitlines()]
            self.counters = {name: int(value) for name, value in pairs}
        return self.counters


def _start_simnet(arguments, ns):
    program = build("simnet")
    if not os.access(program, os.X_OK):
        raise LabError(f"{program} is not built: run make")
    process = popen([program, "--stats"] + arguments, ns, text=True, stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if process.stdout.readline() != "ready\n":
        _, errors = process.communicate()
        raise LabError(errors.strip() or "simnet ended")
    return process


def _wire_up(near, far, far_device="eth0", mtu=1500, address=None):
    """The batch line for a veth between eth0 in `near` and far_device in `far`."""
    own = f"address {address} " if address else ""
    return (f"link add {DEVICE} netns {near} {own}mtu {mtu} type veth "
            f"peer name {far_device} netns {far} mtu {mtu}\n")


def _host_addresses():
    return ["link set lo up", f"link set {DEVICE} up",
            f"addr add {SOURCE4}/24 dev {DEVICE}", f"addr add {SECOND4}/24 dev {DEVICE}",
            f"addr add {SOURCE6}/64 dev {DEVICE} nodad",
            f"addr add {SECOND6}/64 dev {DEVICE} nodad preferred_lft 0"]


def simnet(description, mtu=1500):
    """Plays the internet of a description (README.md explains the format; a path works too) behind
    the host's eth0. 198.18.0.0/15, 203.0.113.0/24 and 2001:db8::/32 lead there."""
    path = description
    if "\n" in description or not os.path.exists(description):
        path = scratch(f"net-{len(os.listdir(_scratch))}.net")
        with open(path, "w", encoding="utf-8") as file:
            file.write(description)
    _add_namespaces([HOST, "sim"])
    inside_all([(HOST, write_sysctls, ({**_NO_CHATTER, **_UNLIMITED},)),
                ("sim", write_sysctls, ({"net/ipv6/conf/default/disable_ipv6": 1,
                                          "net/ipv6/conf/all/disable_ipv6": 1},))])
    _command(["ip", "-batch", "-"], _wire_up(HOST, "sim", mtu=mtu))
    _ip_batches({"sim": ["link set eth0 up"],
                 HOST: _host_addresses() + [
                     f"route add 198.18.0.0/15 via {GATEWAY4}",
                     f"route add 203.0.113.0/24 via {GATEWAY4}",
                     f"route add 2001:db8::/32 via {GATEWAY6}"]})
    inside(HOST, real_checksums, DEVICE)
    network = Simnet(_start_simnet([path, "eth0"], "sim"))
    _networks.append(network)
    return network


class WireHost(Simnet):
    """One real Linux host at the end of a long wire."""

    def __init__(self, process):
        super().__init__(process)
        self.peer = "peer"
        self.destination4 = "198.18.0.2"
        self.destination6 = "2001:db8::2"


def wire_host(delay_ms, loss_percent=0, seed=1):
    """Builds host - wire with a delay each way - namespace `peer`, a Linux host."""
    _add_namespaces([HOST, "wire", "peer"])
    quiet = {"net/ipv6/conf/default/disable_ipv6": 1, "net/ipv6/conf/all/disable_ipv6": 1}
    inside_all([(HOST, write_sysctls, ({**_NO_CHATTER, **_UNLIMITED},)),
                ("peer", write_sysctls, ({**_NO_CHATTER, **_UNLIMITED},)),
                ("wire", write_sysctls, (quiet,))])
    near, far = "02:00:00:00:00:01", "02:00:00:00:00:02"
    _command(["ip", "-batch", "-"],
             _wire_up(HOST, "wire", far_device="near", address=near) +
             _wire_up("peer", "wire", far_device="far", address=far))
    # known neighbours: the first probe takes no longer than the others, and survives a loss of ARP
    host_knows = [f"neigh add {gateway} lladdr {far} nud permanent dev {DEVICE}"
                  for gateway in (GATEWAY4, GATEWAY6)]
    peer_knows = [f"neigh add {source} lladdr {near} nud permanent dev {DEVICE}"
                  for source in (SOURCE4, SOURCE6, SECOND4, SECOND6)]
    _ip_batches({"wire": ["link set near up", "link set far up"],
                 HOST: _host_addresses() + host_knows,
                 "peer": ["link set lo up", f"link set {DEVICE} up",
                          f"addr add {GATEWAY4}/24 dev {DEVICE}",
                          f"addr add {GATEWAY6}/64 dev {DEVICE} nodad"] + peer_knows})
    inside_all([(HOST, real_checksums, (DEVICE,)), ("peer", real_checksums, (DEVICE,))])
    network = WireHost(_start_simnet(["--wire", "near", "far", "--delay", f"{delay_ms}ms",
                                      "--loss", str(loss_percent), "--seed", str(seed)], "wire"))
    _networks.append(network)
    return network


class Diamond(Simnet):
    """host - r1 - m1 ... mN - r2 - dest."""

    def __init__(self, process, width):
        super().__init__(process)
        self.destination4, self.destination6 = "198.18.1.2", "2001:db8:1::2"
        self.middles4 = [f"198.18.{10 + k}.2" for k in range(1, width + 1)]
        self.middles6 = [f"2001:db8:{10 + k}::2" for k in range(1, width + 1)]


def linux_diamond(width):
    """Builds host - r1 - m1 ... m`width` - r2 - dest: r1 balances over the routers between it and
    r2 by a hash of addresses, protocol and ports. mK is 198.18.(10+K).2, r2 198.18.41.2, the
    destination 198.18.1.2; the same with 2001:db8:1K:: and so on.

    A wire is between host and r1: over a veth the router would get the random hash that Linux
    gives each TCP socket, and balance by that."""
    middles = [f"m{k}" for k in range(1, width + 1)]
    names = [HOST, "wire", "r1", *middles, "r2", "dest"]
    _add_namespaces(names)
    hashed = {"net/ipv4/fib_multipath_hash_policy": 1, "net/ipv6/fib_multipath_hash_policy": 1}
    inside_all([(name, write_sysctls,
                 ({**_NO_CHATTER, **_UNLIMITED, **(_FORWARD if name in ("r1", "r2", *middles) else {}),
                   **(hashed if name == "r1" else {})},)) for name in names if name != "wire"])
    inside("wire", write_sysctls, {"net/ipv6/conf/default/disable_ipv6": 1})
    lines = {name: ["link set lo up"] for name in names}
    lines["wire"] += ["link set to0 up", "link set from0 up"]
    links = [(HOST, "r1", 0)] + [("r1", m, 10 + k) for k, m in enumerate(middles, 1)]
    links += [(m, "r2", 40 + k) for k, m in enumerate(middles, 1)] + [("r2", "dest", 1)]
    _diamond_links(links, lines)
    _diamond_routes(middles, lines)
    _ip_batches(lines)
    inside_all([(HOST, real_checksums, (DEVICE,)), ("r1", real_checksums, ("from0",))])
    diamond = Diamond(_start_simnet(["--wire", "from0", "to0"], "wire"), width)
    _networks.append(diamond)
    return diamond


def _diamond_links(links, lines):
    """Link N is 198.18.N.0/24, the near end .1 on device N (eth0 on the host), the far end .2."""
    batch = []
    for near, far, n in links:
        device = DEVICE if near == HOST else f"to{n}"
        six = f"2001:db8:{n}::" if n else "2001:db8::"
        if near == HOST:
            batch += [f"link add {device} netns {near} type veth peer name from0 netns wire",
                      f"link add to0 netns wire type veth peer name from0 netns {far}"]
        else:
            batch.append(f"link add {device} netns {near} type veth "
                         f"peer name from{n} netns {far}")
        for node, name, last in ((near, device, 1), (far, f"from{n}", 2)):
            lines[node] += [f"addr add 198.18.{n}.{last}/24 dev {name}", f"link set {name} up",
                            f"addr add {six}{last}/64 dev {name} nodad"]
    _command(["ip", "-batch", "-"], "\n".join(batch) + "\n")


def _diamond_routes(middles, lines):
    for prefix, four in (("198.18.{}.", True), ("2001:db8:{}::", False)):
        default = "default" if four else "::/0"
        home = "198.18.0.0/24" if four else "2001:db8::/64"
        first = "198.18.0.2" if four else "2001:db8::2"
        lines[HOST].append(f"route add {default} via {first}")
        lines["r1"].append(f"route add {default} " + " ".join(
            f"nexthop via {prefix.format(10 + k)}2" for k in range(1, len(middles) + 1)))
        for k, name in enumerate(middles, 1):
            lines[name] += [f"route add {default} via {prefix.format(40 + k)}2",
                            f"route add {home} via {prefix.format(10 + k)}1"]
        lines["r2"].append(f"route add {home} via {prefix.format(41)}1")
        lines["dest"].append(f"route add {default} via {prefix.format(1)}1")


def loopback():
    """Only a host with its loopback, up."""
    _add_namespaces([HOST])
    inside(HOST, write_sysctls, {**_NO_CHATTER, **_UNLIMITED})
    _ip_batches({HOST: ["link set lo up"]})
    network = Network()
    network.device = "lo"
    network.source4, network.source6 = "127.0.0.1", "::1"
    _networks.append(network)
    return network


# ---- looking at the wire ------------------------------------------------------------------------


class Capture:
    """with Capture(filter="icmp") as capture: ... ; capture.path is a pcap file afterwards."""

    _next = 0

    # tcpdump's ring has room for 16 MiB / snaplen packets: with a longer one bursts are lost.
    def __init__(self, ns=HOST, device=DEVICE, filter="", snaplen=2048):
        Capture._next += 1
        self.path = scratch(f"capture-{Capture._next}.pcap")
        if in_user_namespace():
            # tcpdump insists on becoming another user, which does not exist in here
            argv = ["dumpcap", "-q", "-P", "-i", device, "-p", "-B", "16"]
            ready = "File:"
            self.lag_seconds = 0.4  # it hands over what it has every quarter of a second
        else:
            argv = ["tcpdump", "-i", device, "-n", "-p", "--immediate-mode", "-U", "-B", "16384",
                    "-Z", "root"]
            ready = "listening on"
            self.lag_seconds = 0.05
        argv += ["-s", str(snaplen), "-w", self.path]
        if filter:
            argv += ["-f", filter] if argv[0] == "dumpcap" else [filter]
        self.process = popen(argv, ns, text=True, stdin=subprocess.DEVNULL,
                             stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        output = []
        for line in self.process.stderr:
            output.append(line.strip())
            if ready in line:
                return
        self.process.wait()
        raise LabError("; ".join(output) or f"{argv[0]} ended")

    def stop(self):
        """Ends the capture once nothing more is written; returns the file's path."""
        if self.process.poll() is None:
            size = -1
            while size != os.path.getsize(self.path):
                size = os.path.getsize(self.path)
                time.sleep(self.lag_seconds)
            self.process.send_signal(signal.SIGINT)
            self.process.communicate(timeout=10)
        return self.path

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def packets(self):
        """The captured frames: [(time in seconds, bytes)]."""
        with open(self.stop(), "rb") as file:
            data = file.read()
        frames = []
        at = 24
        nano = data[:4] == b"\x4d\x3c\xb2\xa1"
        while at + 16 <= len(data):
            seconds, fraction, kept, _ = struct.unpack("<IIII", data[at:at + 16])
            frames.append((seconds + fraction / (1e9 if nano else 1e6),
                           data[at + 16:at + 16 + kept]))
            at += 16 + kept
        return frames

    def fields(self, names, display_filter="", options=()):
        """tshark's reading of the fields, one dictionary of strings for each packet."""
        argv = ["tshark", "-n", "-r", self.stop(), "-T", "fields", "-E", "occurrence=a",
                *options]
        for name in names:
            argv += ["-e", name]
        if display_filter:
            argv += ["-Y", display_filter]
        # A home of its own: no user's preferences change its output.
        done = run(argv, ns=None, timeout=120, env={"HOME": _scratch, "XDG_CONFIG_HOME": _scratch})
        if done.returncode != 0:
            raise LabError(f"tshark: {done.stderr.strip()}")
        return [dict(zip(names, line.split("\t"))) for line in done.stdout.splitlines()]
