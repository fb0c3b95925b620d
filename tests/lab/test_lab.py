#!/usr/bin/env python3
"""The lab held against tools that were not written here: ping, traceroute, tracepath, mtr and tshark
must find in it exactly what was asked for. Started by root, what depends on privilege runs a second
time as an ordinary user. With arguments: only tests whose name contains one of them.

time-limit: 300
"""
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import lab
import tap

DEST4, DEST6 = "203.0.113.1", "2001:db8:ff::1"
NOBODY = 65534
TOOLS = ("ping", "traceroute", "tracepath", "mtr", "tcpdump", "tshark", "dumpcap")
AS_ORDINARY_USER = ("leads_outside", "test_ping", "test_traceroute", "test_mtr", "thirty_routers",
                    "mtu_and_detour", "far_away", "right_answers", "test_simnet_ends", "killed_lab")
SECOND_RUN = "POSTERN_LAB_SECOND_RUN"

# Three hops in both families, a way to fill in the second one, and destinations behind them.
SMALL = """
seed 3
hop address 198.18.0.2,2001:db8::2
hop address 198.18.1.2,2001:db8:1::2 {hop}
hop address 198.18.2.2,2001:db8:2::2
dest 203.0.113.1 {dest}
dest 2001:db8:ff::1 {dest}
"""


def small(hop="", dest=""):
    return SMALL.format(hop=hop, dest=dest)


def captured(description):
    """Builds a simnet and captures what its host sends and gets."""
    lab.simnet(description)
    return lab.Capture()


def ping(target, *options, timeout=20):
    return lab.run(["ping", "-n", *options, target], timeout=timeout).stdout


# Goes on until all answers are there. Otherwise ping waits for the last one no longer than an
# interval, which a busy machine can need for itself.
PATIENT = ("-w", "10")


def received(output):
    return int(re.search(r"(\d+) received", output).group(1))


def traceroute_command(target, *options, size=()):
    return ["traceroute", "-n", "-q", "1", "-w", "1", "-N", "16", "-m", "20", *options, target,
            *map(str, size)]


def hop_lines(output):
    """{ttl: rest of the line} of traceroute's output"""
    return {int(ttl): rest.strip()
            for ttl, rest in re.findall(r"^ *(\d+)  (.*)$", output, re.MULTILINE)}


def traceroute(target, *options, size=()):
    return hop_lines(lab.run(traceroute_command(target, *options, size=size), timeout=30).stdout)


class Tools(unittest.TestCase):
    def tearDown(self):
        lab.reset()

    def test_nothing_leads_outside(self):
        lab.simnet(small())
        for ns, allowed in (("host", {"lo", "eth0"}), ("sim", {"lo", "eth0"}), (None, {"lo"})):
            links = lab.run(["ip", "-o", "link"], ns=ns).stdout
            names = set(re.findall(r"^\d+: ([^:@]+)", links, re.MULTILINE))
            # the kernel may put tunnel devices that are down into every namespace
            up = {name for name in names if re.search(rf": {name}[:@].*[<,]UP[,>]", links)}
            self.assertLessEqual(up, allowed)
        for target in ("192.0.2.1", "2001:4860::1"):
            done = lab.run(["ip", "route", "get", target])
            self.assertNotEqual(done.returncode, 0, done.stdout)

    def test_ping(self):
        lab.simnet(os.path.join(lab.HERE, "nets", "dozen.net"))
        for target in (DEST4, DEST6):
            output = ping(target, "-c", "3", "-i", "0.05", *PATIENT)
            self.assertEqual(received(output), 3, output)
            self.assertIn("ttl=52", output)
            times = [float(t) for t in re.findall(r"time=([\d.]+)", output)]
            self.assertGreater(min(times), 15.9, "the delays of the hops add up")

    def test_ping_of_every_size(self):
        """The whole payload comes back: ping compares it."""
        lab.simnet(small())
        for target, sizes in ((DEST4, (0, 1472, 1473, 3000, 65507)),
                              (DEST6, (0, 1452, 1453, 3000, 65527))):
            for size in sizes:
                with self.subTest(target=target, size=size):
                    output = ping(target, "-c", "2", "-i", "0.02", "-s", str(size), "-p", "5a",
                                  *PATIENT)
                    self.assertEqual(received(output), 2, output)
                    self.assertIn(f"{size + 8} bytes from", output)
                    self.assertNotIn("wrong data", output)

    def test_traceroute(self):
        lab.simnet(os.path.join(lab.HERE, "nets", "dozen.net"))
        methods = (["-I"], ["-U"], ["-T"], [])
        for target, prefix in ((DEST4, "198.18.{}.2"), (DEST6, "2001:db8:{:x}::2")):
            results = lab.run_all([traceroute_command(target, "-e", *method)
                                   for method in methods], timeout=30)
            for method, result in zip(methods, results):
                with self.subTest(target=target, method=method):
                    lines = hop_lines(result.stdout)
                    self.assertEqual(max(lines), 13)
                    for ttl in (1, 2, 3, 4, 5, 7, 8, 11, 12):
                        hop = prefix.format(ttl - 1).replace(":0::", "::")
                        self.assertTrue(lines[ttl].startswith(hop + " "), lines[ttl])
                    self.assertEqual(lines[6], "*")
                    self.assertTrue(lines[13].startswith(target), lines[13])
                    self.assertIn("MPLS:L=24001,E=0,S=0,T=1/L=16005,E=0,S=1,T=1", lines[3])
                    self.assertNotIn("MPLS", lines[2])

    def test_mtr(self):
        lab.simnet(os.path.join(lab.HERE, "nets", "dozen.net"))
        commands = [["mtr", "-n", "-r", "-w", "-c", "2", "-i", "0.2", "-G", "1", target]
                    for target in (DEST4, DEST6)]
        for command, result in zip(commands, lab.run_all(commands, timeout=30)):
            lines = dict(re.findall(r"^ *(\d+)\.\|-- (\S+ +[\d.]+)", result.stdout,
                                    re.MULTILINE))
            self.assertEqual(len(lines), 13, result.stdout)
            self.assertRegex(lines["13"], re.escape(command[-1]) + r" +0\.0")
            self.assertRegex(lines["6"], r"\?\?\? +100\.0")

    def test_mtr_over_tcp_and_udp(self):
        lab.simnet(small(dest="on tcp:443=syn-ack"))
        commands = [["mtr", "-n", "-r", "-w", "-c", "2", "-i", "0.2", "-G", "1", *method, target]
                    for target in (DEST4, DEST6)
                    for method in (["-u"], ["-T", "-P", "443"], ["-T", "-P", "99"])]
        for command, result in zip(commands, lab.run_all(commands, timeout=30)):
            self.assertRegex(result.stdout, r"4\.\|-- " + re.escape(command[-1]) + r" +0\.0")

    def test_tracepath(self):
        lab.simnet(small("mtu 1400 back 4"))
        for target, hop in ((DEST4, "198.18.1.2"), (DEST6, "2001:db8:1::2")):
            output = lab.run(["tracepath", "-n", target], timeout=30).stdout
            self.assertRegex(output, rf"2:  {hop} .*asymm  5", output)
            self.assertRegex(output, rf"3:  {hop} .*pmtu 1400")
            self.assertIn("reached", output)
            self.assertIn("Resume: pmtu 1400 hops 4 back 4", output)

    def test_black_hole(self):
        net = lab.simnet(small("mtu 1400 black-hole"))
        self.assertEqual(received(ping(DEST4, "-c1", "-M", "do", "-s", "1372")), 1)
        self.assertEqual(received(ping(DEST4, "-c1", "-W", "0.3", "-M", "do", "-s", "1373")), 0)
        self.assertEqual(received(ping(DEST4, "-c1", "-M", "dont", "-s", "1373")), 1)
        self.assertEqual(net.stop()["swallowed"], 1)

    def test_refusals(self):
        letters = {"net-unreachable": "!N", "host-unreachable": "!H", "prohibited": "!X",
                   "protocol-unreachable": "!P"}
        for kind, letter in letters.items():
            lab.simnet(small(f"refuse {kind}"))
            for target in (DEST4, DEST6):
                if target == DEST6 and letter == "!P":
                    continue  # a parameter problem there, which has no letter
                lines = traceroute(target, "-I")
                self.assertIn(letter, lines[3], f"{kind} {target}: {lines}")
                self.assertEqual(max(lines), 3)
            lab.reset()

    def test_rate_limit(self):
        net = lab.simnet(small("rate 0.1 burst 3"))
        for target in (DEST4, DEST6):
            output = ping(target, "-c", "9", "-i", "0.02", "-W", "0.2", "-t", "2")
            wanted = 3 if target == DEST4 else 0  # both families draw from one bucket
            self.assertEqual(len(re.findall("exceeded", output.split("---")[0])), wanted, output)
        self.assertEqual(net.stop()["rate-limited"], 15)

    def test_loss_is_the_same_each_time(self):
        seen = []
        for _ in range(2):
            lab.simnet(small("loss 30%"))
            output = ping(DEST4, "-c", "60", "-i", "0.005", "-W", "0.2")
            sequences = map(int, re.findall(r"icmp_seq=(\d+)", output))
            # ping hardly waits for the last one, so that a busy machine may lose some itself
            seen.append([number for number in sequences if number <= 45])
            lab.reset()
        self.assertEqual(seen[0], seen[1])
        self.assertTrue(20 < len(seen[0]) < 43, seen[0])

    def test_answers_that_are_wrong(self):
        """ping takes none of these for its own."""
        wrong = ("forge id", "forge destination", "forge protocol", "corrupt checksum",
                 "corrupt cut", "truncate 4", "silent")
        for setting in wrong:
            lab.simnet(small(dest=setting))
            # a raw socket gets ICMP before the kernel has looked at its checksum, and ping does
            # not look either
            lab.inside("host", lab.allow_ping)
            for target in (DEST4, DEST6):
                with self.subTest(setting=setting, target=target):
                    output = ping(target, "-c", "2", "-i", "0.02", "-W", "0.2")
                    # forge destination: ping shows it, marked as coming from elsewhere
                    self.assertFalse(re.search(rf"from {target}:.*time=", output), output)
            lab.reset()
        lab.simnet(small(dest="duplicate 2"))
        self.assertEqual(ping(DEST4, "-c1", "-W", "0.3", "-i", "0.3").count("DUP!"), 0)
        self.assertEqual(ping(DEST4, "-c2", "-i", "0.3").count("DUP!"), 2)
        lab.reset()
        lab.simnet(small(dest="late 150ms forge id then-genuine 50ms"))
        output = ping(DEST4, "-c", "1", "-W", "1")
        self.assertGreaterEqual(float(re.search(r"time=([\d.]+)", output).group(1)), 50)

    def test_examples_are_understood(self):
        directory = os.path.join(lab.HERE, "nets")
        for name in os.listdir(directory):
            done = lab.run([lab.build("simnet"), "--check", os.path.join(directory, name)], ns=None)
            self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_mistakes_are_named(self):
        with self.assertRaisesRegex(lab.LabError, r":2: unknown setting 'colour'"):
            lab.simnet("hop\nhop colour red\n")


CHECKS = ["-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE",
          "-o", "tcp.check_checksum:TRUE", "-o", "sctp.checksum:CRC 32c",
          "-o", "icmp.favor_icmp_mpls:TRUE",  # look behind 128 bytes, too
          "--disable-protocol", "dns"]  # traceroute's payload is no question
STATUS = ["ip.checksum.status", "icmp.checksum.status", "icmpv6.checksum.status",
          "udp.checksum.status", "tcp.checksum.status", "sctp.checksum.status",
          "icmp.ext.checksum.status"]


def raw_send(family, protocol, target, *packets):
    """Sends transport packets as they are; the kernel makes the IP header."""
    with socket.socket(family, socket.SOCK_RAW, protocol) as handle:
        for packet in packets:
            handle.sendto(packet, (target, 0))
    return True


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return struct.pack("<I", ~crc & 0xffffffff)


def sctp_init(port, good=True):
    head = struct.pack("!HHI", 40000, port, 0)
    chunk = struct.pack("!BBHIIHHI", 1, 0, 20, 0xabcd1234, 65536, 10, 10, 77)
    crc = crc32c(head + bytes(4) + chunk)
    return head + (crc if good else b"\0\1\2\3") + chunk


def send_sctp(target, port, good):
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    # as hexadecimal: what goes to inside() need not be JSON, but what comes back must
    return raw_send(family, 132, target, sctp_init(port, good))


def send_udp_badly(target):
    packet = struct.pack("!HHHH", 40000, 53, 12, 0x1234) + b"oops"
    return raw_send(socket.AF_INET, 17, target, packet)


def ask_udp(target, port, size):
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as handle:
        handle.settimeout(5)
        handle.sendto(bytes(size), (target, port))
        return len(handle.recvfrom(70000)[0])


def try_tcp(target, port):
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as handle:
        handle.settimeout(5)
        try:
            handle.connect((target, port))
        except ConnectionRefusedError:
            return "refused"
        return "open"


class Wire(unittest.TestCase):
    """Every packet that simnet sends, as tshark dissects it."""

    def tearDown(self):
        lab.reset()

    def statuses(self, capture, display_filter=""):
        """All checksum states: "0" bad, "1" good, "2" not verified."""
        found = []
        for row in capture.fields(STATUS, display_filter, CHECKS):
            found += [(name, status) for name, value in row.items()
                      for status in value.split(",") if value]
        return found

    def probe_everything(self):
        for target in (DEST4, DEST6):
            ping(target, "-c", "1", "-W", "0.3")
            ping(target, "-c", "1", "-W", "0.3", "-s", "3000")
            for method in ("-I", "-U", "-T"):
                traceroute(target, method, "-e")
            lab.inside("host", send_sctp, target, 80, True)
            lab.inside("host", send_sctp, target, 81, True)
            self.assertEqual(lab.inside("host", ask_udp, target, 53, 100), 40)
            self.assertEqual(lab.inside("host", try_tcp, target, 443), "open")
            self.assertEqual(lab.inside("host", try_tcp, target, 444), "refused")

    def test_right_answers(self):
        rules = "on udp:53=data:40 on tcp:443=syn-ack on sctp:80=init-ack on sctp:81=abort"
        extension = ("mpls 24001:5:0:1,16005 interface incoming,index=7,name=ge-0/0/1,"
                     "address=198.18.1.2,mtu=1500 interface outgoing,address=2001:db8:9::9")
        with captured(small(extension, rules)) as capture:
            self.probe_everything()
            time.sleep(0.1)
        states = self.statuses(capture, "eth.src[5] != eth.dst[5]")
        self.assertEqual([v for v in states if v[1] == "0"], [])
        names = {name for name, status in states if status == "1"}
        self.assertLessEqual({"ip.checksum.status", "icmp.checksum.status",
                              "icmpv6.checksum.status", "udp.checksum.status",
                              "tcp.checksum.status", "sctp.checksum.status",
                              "icmp.ext.checksum.status"}, names)
        self.assertEqual(capture.fields(["frame.number", "_ws.expert.message"], "_ws.malformed",
                                        CHECKS), [])
        self.check_extension(capture)
        # Without the errors of a host that has no SCTP.
        rows = capture.fields(["sctp.chunk_type"], "sctp && !icmp && !icmpv6")
        chunks = [row["sctp.chunk_type"] for row in rows]
        for chunk in ("1", "2", "6"):
            self.assertEqual(chunks.count(chunk), 4 if chunk == "1" else 2, chunks)

    def check_extension(self, capture):
        fields = ["icmp.mpls.label", "icmp.mpls.exp", "icmp.mpls.s", "icmp.mpls.ttl",
                  "icmp.int_info.index", "icmp.int_info.ipv4", "icmp.int_info.ipv6",
                  "icmp.int_info.name"]
        rows = capture.fields(fields, "icmp.type == 11 && ip.src == 198.18.1.2", CHECKS)
        rows += capture.fields(fields, "icmpv6.type == 3 && ipv6.src == 2001:db8:1::2", CHECKS)
        self.assertGreaterEqual(len(rows), 6)
        for row in rows:
            self.assertEqual(row["icmp.mpls.label"], "24001,16005")
            self.assertEqual(row["icmp.mpls.exp"], "5,0")
            self.assertIn(row["icmp.mpls.s"], ("0,1", "False,True"))
            self.assertEqual(row["icmp.int_info.index"], "7")
            self.assertEqual(row["icmp.int_info.ipv4"], "198.18.1.2")
            self.assertEqual(row["icmp.int_info.ipv6"], "2001:db8:9::9")
            self.assertIn("ge-0/0/1", row["icmp.int_info.name"])

    def test_the_two_places_of_an_extension(self):
        for style in ("length", "compat"):
            with captured(small(f"mpls 24001 rfc4884 {style}")) as capture:
                for target in (DEST4, DEST6):
                    self.assertIn("MPLS:L=24001", traceroute(target, "-I", "-e")[2], style)
            rows = capture.fields(["icmp.length", "icmpv6.length", "icmp.mpls.label", "ip.src"],
                                  "icmp.type == 11 && ip.src == 198.18.1.2 || "
                                  "icmpv6.type == 3 && ipv6.src == 2001:db8:1::2", CHECKS)
            self.assertEqual(len(rows), 2)
            for row in rows:
                stated = int(row["icmp.length"] or row["icmpv6.length"] or 0)
                self.assertEqual(stated != 0, style == "length", row)
                if stated or row["ip.src"]:  # tshark does not look for the old way in IPv6
                    self.assertEqual(row["icmp.mpls.label"], "24001", style)
            lab.reset()

    def test_an_extension_behind_a_long_quote(self):
        """Neither traceroute nor tshark looks for it there, so by hand: it begins with version 2,
        and the label follows eight bytes later."""
        with captured(small("mpls 24001")) as capture:
            for target in (DEST4, DEST6):
                traceroute(target, "-I", size=[200])
        found = 0
        for _, frame in capture.packets():
            for ethertype, header, icmp_type, length_at, unit in (
                    (0x0800, 20, 11, 5, 4), (0x86dd, 40, 3, 4, 8)):
                icmp = frame[14 + header:]
                if struct.unpack("!H", frame[12:14])[0] == ethertype and icmp[0] == icmp_type \
                        and icmp[length_at]:
                    self.assertEqual(icmp[length_at] * unit, 200)
                    extension = icmp[8 + 200:]
                    self.assertEqual(extension[0], 0x20)
                    self.assertEqual(struct.unpack("!I", extension[8:12])[0] >> 12, 24001)
                    found += 1
        self.assertEqual(found, 2)

    def test_headers_of_answers(self):
        with captured(small("ip-options 8 ip6-headers hop-by-hop,destination ttl 70 "
                                  "back 3 tos 184 quote 8")) as capture:
            self.assertIn("198.18.1.2", traceroute(DEST4, "-I")[2])
            self.assertIn("2001:db8:1::2", traceroute(DEST6, "-I")[2])
        rows = capture.fields(["ip.hdr_len", "ip.ttl", "ip.dsfield", "ip.len"],
                              "icmp.type == 11 && ip.src == 198.18.1.2")
        self.assertEqual(rows[0]["ip.hdr_len"].split(",")[0], "28")
        self.assertEqual(rows[0]["ip.ttl"], "67,1")
        self.assertEqual(rows[0]["ip.dsfield"].split(",")[1], "0xb8")
        self.assertEqual(rows[0]["ip.len"].split(",")[0], str(28 + 8 + 28))
        rows = capture.fields(["ipv6.nxt", "ipv6.hlim", "ipv6.plen"],
                              "icmpv6.type == 3 && ipv6.src == 2001:db8:1::2")
        self.assertEqual(rows[0]["ipv6.nxt"].split(",")[0], "0")
        self.assertEqual(rows[0]["ipv6.hlim"], "67,1")
        self.assertEqual(rows[0]["ipv6.plen"].split(",")[0], str(16 + 8 + 48))

    def test_corrupt_answers_are_corrupt(self):
        wrong = {"198.18.0.2": ("corrupt checksum", "icmp.checksum.status"),
                 "198.18.1.2": ("corrupt ip-checksum", "ip.checksum.status"),
                 "198.18.2.2": ("mpls 5 corrupt extension", "icmp.ext.checksum.status")}
        with captured("".join(f"hop address {hop} {setting}\n"
                              for hop, (setting, _) in wrong.items())) as capture:
            traceroute(DEST4, "-I", "-m", "3")
        rows = capture.fields(["ip.src", *STATUS], "icmp.type == 11", CHECKS)
        self.assertEqual([row.pop("ip.src").split(",")[0] for row in rows], list(wrong))
        for row, (setting, name) in zip(rows, wrong.values()):
            bad = {field for field, value in row.items() if "0" in value.split(",")}
            self.assertEqual(bad, {name}, setting)

    def test_wrong_checksums_get_no_answer(self):
        net = lab.simnet(small(dest="on udp=data"))
        lab.inside("host", send_udp_badly, DEST4)
        lab.inside("host", send_sctp, DEST4, 80, False)
        lab.inside("host", send_sctp, DEST6, 80, False)
        lab.inside("host", send_sctp, DEST6, 80, True)
        time.sleep(0.1)
        counters = net.stop()
        self.assertEqual(counters["bad-checksum"], 3)
        # the good one, and perhaps the host's complaint about the answer to it
        self.assertIn(counters["arrived"], (1, 2))


class Chain(unittest.TestCase):
    """Real Linux routers."""

    def tearDown(self):
        lab.reset()

    def test_thirty_routers(self):
        started = time.monotonic()
        net = lab.linux_chain(30, silent=[4, 17])
        tap.note(f"30 routers built in {time.monotonic() - started:.2f} s")
        for target, hops in ((net.destination4, net.hops4), (net.destination6, net.hops6)):
            lines = traceroute(target, "-I", "-m", "40")
            self.assertEqual(max(lines), 31)
            for ttl, line in lines.items():
                self.assertEqual(line.split()[0], "*" if ttl in (4, 17) else hops[ttl - 1])

    def test_mtu_and_detour(self):
        net = lab.linux_chain(5, mtus={2: 1400, 4: 1300}, detours={4: 2})
        for target in (net.destination4, net.destination6):
            output = lab.run(["tracepath", "-n", target], timeout=30).stdout
            self.assertIn("pmtu 1400", output)
            self.assertIn("pmtu 1300", output)
            self.assertRegex(output, r"5: .*asymm  7", output)
            self.assertIn("Resume: pmtu 1300 hops 6 back 8", output)

    def test_unreachable(self):
        for kind, letters in (("unreachable", ("!N", "!N")), ("prohibit", ("!X", "!X"))):
            net = lab.linux_chain(3, unreachable={3: kind})
            for target, letter in zip((net.destination4, net.destination6), letters):
                lines = traceroute(target, "-U")
                self.assertIn(letter, lines[max(lines)], f"{kind} {lines}")
            lab.reset()

    def test_rate_limited_router(self):
        net = lab.linux_chain(2, rate_limited=[1])
        for target in (net.destination4, net.destination6):
            output = ping(target, "-c", "30", "-i", "0.005", "-W", "1", "-t", "1")
            self.assertLess(output.split("---")[0].count("exceeded"), 15, output)
            output = ping(target, "-c", "30", "-i", "0.005", "-W", "1", "-t", "2")
            self.assertEqual(output.split("---")[0].count("exceeded"), 30, output)

    def test_source_addresses(self):
        net = lab.linux_chain(1)
        for source, target in ((net.source4, net.destination4), (net.source6, net.destination6)):
            route = lab.run(["ip", "route", "get", target]).stdout
            self.assertIn(f"src {source} ", route)
        for source, target in ((net.second4, net.destination4), (net.second6, net.destination6)):
            self.assertEqual(received(ping(target, "-c1", "-I", source)), 1)
            self.assertEqual(received(ping(target, "-c1", "-I", net.device)), 1)


class Users(unittest.TestCase):
    def tearDown(self):
        lab.reset()

    @unittest.skipIf(os.path.exists("/proc/self/uid_map") and lab.in_user_namespace(),
                     "there is no other user in here")
    def test_another_user_in_the_namespace(self):
        lab.linux_chain(1)
        done = lab.run(["sh", "-c", "id -u; id -G; ip -o addr show eth0; cat /proc/self/status"],
                       user=NOBODY)
        self.assertTrue(done.stdout.startswith(f"{NOBODY}\n{NOBODY}\n"), done.stdout)
        self.assertIn("198.18.0.1/24", done.stdout)
        self.assertIn("CapEff:\t0000000000000000", done.stdout)


class LongWire(unittest.TestCase):
    def tearDown(self):
        lab.reset()

    def test_a_real_host_far_away(self):
        net = lab.wire_host(25)
        for target in (net.destination4, net.destination6):
            output = ping(target, "-c", "3", "-i", "0.02", *PATIENT)
            times = [float(t) for t in re.findall(r"time=([\d.]+)", output)]
            self.assertGreaterEqual(len(times), 3, output)
            self.assertGreaterEqual(min(times), 50)
            self.assertEqual(lab.inside("host", try_tcp, target, 443), "refused")

    def test_a_wire_that_loses(self):
        net = lab.wire_host(1, loss_percent=30, seed=4)
        # 51 % of the pings survive both ways; lost ARP requests cost some more
        count = received(ping(net.destination4, "-c", "100", "-i", "0.01", "-W", "0.3",
                              timeout=30))
        self.assertTrue(20 < count < 80, count)


class End(unittest.TestCase):
    """Nothing outlives its test."""

    def tearDown(self):
        lab.reset()

    def setUp(self):
        self.description = lab.scratch("end.net")
        with open(self.description, "w", encoding="ascii") as file:
            file.write("hop address 198.18.0.2\n")
        lab.loopback()

    def start(self, *options):
        process = lab.popen([lab.build("simnet"), *options, self.description, "lo"], text=True,
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.assertEqual(process.stdout.readline(), "ready\n")
        return process

    def test_simnet_ends(self):
        process = self.start("--stats")
        out, _ = process.communicate(timeout=5)  # closes its stdin
        self.assertEqual(process.returncode, 0)
        self.assertIn("packets 0\n", out)
        process = self.start()
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(timeout=5), 0)
        process.stdin.close()
        process.stdout.close()
        process = self.start("--for", "0.2")
        self.assertEqual(process.wait(timeout=5), 0)
        process.stdin.close()
        process.stdout.close()

    def test_a_killed_lab_leaves_nothing(self):
        script = ("import sys; sys.path.insert(0, sys.argv[1]); import lab; lab.enter();"
                  "lab.simnet('hop address 198.18.0.2\\n'); print('up', flush=True);"
                  "sys.stdin.read()")
        with subprocess.Popen([sys.executable, "-c", script, lab.HERE], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True) as process:
            self.assertEqual(process.stdout.readline(), "up\n")
            self.assertEqual(simnets(), 1)
            process.kill()
        deadline = time.monotonic() + 5
        while simnets() and time.monotonic() < deadline:
            time.sleep(0.02)
        self.assertEqual(simnets(), 0)


def simnets():
    """How many simnet processes there are in this process-id namespace."""
    count = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/comm", encoding="ascii") as file:
                count += file.read() == "simnet\n"
        except OSError:
            pass
    return count


def run_as_ordinary_user():
    """Once more as nobody, in a user namespace. Returns the exit status."""
    # the interpreter that runs this one may stand in root's home
    python = shutil.which("python3", path="/usr/bin:/bin") or sys.executable
    environment = dict(os.environ, **{SECOND_RUN: "1", "PYTHONDONTWRITEBYTECODE": "1"})
    who = {"user": NOBODY, "group": NOBODY, "extra_groups": [], "cwd": "/"}
    try:
        possible = subprocess.run(["unshare", "-Urn", python, os.path.abspath(__file__), "-h"],
                                  stdin=subprocess.DEVNULL, capture_output=True, check=False,
                                  **who).returncode == 0
    except OSError:
        possible = False
    if not possible:
        print("ok - as an ordinary user # SKIP no user namespaces, or they cannot read this tree")
        return 0
    words = sys.argv[1:] or AS_ORDINARY_USER
    with subprocess.Popen([python, os.path.abspath(__file__), *words], text=True, env=environment,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          **who) as process:
        for line in process.stdout:
            if not re.match(r"1\.\.\d", line):
                print(re.sub(r"^((?:not )?ok) \d+ - ", r"\1 - as an ordinary user: ", line),
                      end="", flush=True)
    return process.returncode


def main():
    if sys.argv[1:] == ["-h"]:
        print(__doc__)
        return
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    if missing:
        print(f"these are not installed: {' '.join(missing)}")
        sys.exit(77)
    os.environ["BUILD"] = os.path.abspath(os.environ.get("BUILD", "build"))
    first = os.geteuid() == 0 and SECOND_RUN not in os.environ
    if first:
        status = subprocess.run([sys.executable, os.path.abspath(__file__), *sys.argv[1:]],
                                env={**os.environ, SECOND_RUN: "0"}, check=False).returncode
        sys.exit(run_as_ordinary_user() or status)
    lab.enter()
    tap.main()


if __name__ == "__main__":
    main()
