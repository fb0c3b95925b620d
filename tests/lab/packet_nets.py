"""The lab's networks for tests of mtr-packet: each can start one in its host's namespace, change that
host, and open a socket there."""
import contextlib
import socket
import subprocess
import threading
import time

import lab
from packet_client import Client


class Net:
    """A built network; leaving it as a context manager takes it down."""

    def __init__(self, network):
        self.network = network
        self.device = network.device
        self.prefix = ['nsenter', '--net=' + lab.namespace_path(network.host)]
        self.meet_gateways()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        lab.reset()

    def client(self, prefix=(), **how):
        return Client(prefix=[*self.prefix, *prefix], **how)

    def meet_gateways(self, within=5):
        """Waits until the hardware addresses of the first hop are known: while they are not, the
        kernel keeps only some packets for it, and a burst would lose the others."""
        gateways = lab.GATEWAY4, lab.GATEWAY6

        def send_datagrams():
            for family, gateway in zip((socket.AF_INET, socket.AF_INET6), gateways):
                with socket.socket(family, socket.SOCK_DGRAM) as handle:
                    handle.sendto(b'', (gateway, 9))

        self.call(send_datagrams)
        until = time.monotonic() + within
        while not all('%s dev %s lladdr' % (gateway, self.device) in self.ip('neigh show')
                      for gateway in gateways):
            if time.monotonic() > until:
                raise lab.LabError('the gateways do not answer: ' + self.ip('neigh show'))
            time.sleep(0.01)

    def run(self, *argv, **how):
        return subprocess.run([*self.prefix, *argv], capture_output=True, text=True, **how)

    def ip(self, command):
        done = self.run('ip', *command.split())
        if done.returncode != 0:
            raise lab.LabError('ip %s: %s' % (command, done.stderr.strip()))
        return done.stdout

    def call(self, function, ns=lab.HOST):
        """Calls it in a thread that has entered a namespace: sockets made there belong to it."""
        results = []

        def enter():
            lab._set_namespace(lab.namespace_path(ns))
            results.append(function())

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        if not results:
            raise lab.LabError('%s failed in namespace %s' % (function.__name__, ns))
        return results[0]

    def chosen_source(self, destination):
        """The source address that the kernel chooses for a destination."""
        def connect():
            family = socket.AF_INET6 if ':' in destination else socket.AF_INET
            with socket.socket(family, socket.SOCK_DGRAM) as handle:
                handle.connect((destination, 9))
                return handle.getsockname()[0]
        return self.call(connect)

    def bound_udp_port(self, address, port):
        def bind():
            family = socket.AF_INET6 if ':' in address else socket.AF_INET
            handle = socket.socket(family, socket.SOCK_DGRAM)
            handle.bind((address, port))
            return handle
        return contextlib.closing(self.call(bind))

    def listener(self, ns, port, backlog=1024):
        """An open TCP port of both families in a namespace."""
        def listen():
            handle = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
            handle.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            handle.bind(('::', port))
            handle.listen(backlog)
            return handle
        return contextlib.closing(self.call(listen, ns))


def simnet(text, **how):
    return Net(lab.simnet(text.strip() + '\n', **how))


def chain(routers, **how):
    return Net(lab.linux_chain(routers, **how))


def wire_host(delay_ms, **how):
    return Net(lab.wire_host(delay_ms, **how))
