"""The manual pages and README files agree with the programs, which are run for it: options, arguments and
reasons of the protocol, exit statuses, JSON, paths, targets, numbers; and the broker is as small as they
say. Sends nothing."""
import glob
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import lab  # noqa: E402
import tap  # noqa: E402


def read(path):
    with open(os.path.join(lab.ROOT, path), encoding="utf-8") as file:
        return file.read()


def page(name):
    """A manual page's source, with the quoting of roff undone."""
    return read(f"man/{name}").replace("\\-", "-").replace("\\e", "\\")


def section(text, title):
    found = re.search(rf"^\.Sh {title}\n(.*?)(?=^\.Sh |\Z)", text, re.M | re.S)
    assert found, f"no section {title}"
    return found.group(1)


def run(*argv, text=None, status=0):
    """What a built program prints, on both streams."""
    done = subprocess.run([lab.build(argv[0]), *argv[1:]], text=True, input=text, check=False,
                          stdin=subprocess.DEVNULL if text is None else None,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=20)
    assert done.returncode == status, (argv, done.returncode, done.stdout)
    return done.stdout


def options_of_page(text):
    """{-x or --long: the argument as the page names it}, from `.It Fl h , Fl Fl help` and `.It Fl P
    Cm icmp | udp | tcp`."""
    found = {}
    for line in re.findall(r"^\.It (Fl .*)$", text, re.M):
        for part in re.findall(r"(?:^|, )Fl (Fl \S+|\S+)", line):
            name = "--" + part[3:] if part.startswith("Fl ") else "-" + part
            argument = re.search(r" (?:Ar|Cm) (\S+)", line)
            found[name] = argument and argument.group(1)
    return found


def compile_or_fail(test, lines):
    """Whether the compiler accepts the lines: static assertions about the headers they include."""
    compiler = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc")
    if compiler is None:
        test.skipTest("no C compiler")
    done = subprocess.run([compiler, "-std=gnu11", "-fsyntax-only", "-I", lab.ROOT, "-x", "c", "-"],
                          input="\n".join(lines) + "\n", text=True, check=False,
                          capture_output=True, timeout=30)
    test.assertEqual(done.returncode, 0, done.stderr)


class Options(unittest.TestCase):
    # Arguments that are accepted.
    VALUES = {"path": "/", "device": "lo", "address": "127.0.0.1", "length": "100", "tries": "3"}

    def compare(self, command, text):
        known = options_of_page(text)
        usage = run(*command, "--help")
        listed = {option for line in re.findall(r"^  (-.*)$", usage, re.M)
                  for option in re.findall(r"(?:^|, )(--?\w[\w-]*)", line.split("  ")[0])}
        # A long name of a short option need not be repeated there.
        self.assertEqual(set(known) - listed - {"--help", "--version"}, set(), "not in the usage")
        self.assertEqual(listed - set(known), set(), "not in the page")
        for option, argument in known.items():
            if option in ("-h", "--help", "-V", "--version"):
                run(*command, option)
            elif argument:
                value = self.VALUES.get(argument, argument if not argument.isalpha() or
                                        argument in ("icmp",) else "9")
                self.assertEqual(run(*command, option, value, "--help"), usage, option)
                self.assertNotEqual(self.status(*command, option), 0, option)
            else:
                self.assertEqual(run(*command, option, "--help"), usage, option)
        self.assertNotEqual(self.status(*command, "--no-such-option"), 0)

    @staticmethod
    def status(*argv):
        return subprocess.run([lab.build(argv[0]), *argv[1:]], stdin=subprocess.DEVNULL, check=False,
                              capture_output=True, timeout=20).returncode

    def test_packet(self):
        self.compare(["postern", "packet"], section(page("mtr-packet.8"), "DESCRIPTION"))

    def test_doctor(self):
        self.compare(["postern", "doctor"], section(page("postern.1"), "DESCRIPTION"))

    def test_tracepath(self):
        self.compare(["postern", "tracepath"], section(page("tracepath.8"), "DESCRIPTION"))

    def test_subcommands(self):
        text = section(page("postern.1"), "DESCRIPTION")
        names = re.findall(r"^(?:usage:)? +postern (\w+)", run("postern", "--help"), re.M)
        self.assertEqual(set(names), set(re.findall(r"^\.It Cm (\w+)", text, re.M)))
        run("postern", "no-such-command", status=2)


class Protocol(unittest.TestCase):
    text = page("mtr-packet.8")

    # Requests that are invalid for each reason of the page; none sends a packet.
    INVALID = (
        "ttl x", "ttl 256", "ip-4 x", "local-ip-4 224.0.0.1", "protocol x", "ttl 1",
        "ip-4 127.0.0.1 ip-6 ::1", "ip-4 224.0.0.1", "ip-6 ::1 local-ip-4 127.0.0.1",
        "ip-4 127.0.0.1 local-ip-6 ::1", "ip-4 127.0.0.1 local-device no-such",
        "ip-6 fe80::1%1 local-device no-such", "ip-6 fe80::1%no-such", "size 65536",
        "ip-4 127.0.0.1 protocol tcp flow 1",
    )
    # Those that a machine must be made for: the other tests of the protocol do.
    ELSEWHERE = {"source-with-device", "ip-version-not-supported", "protocol-not-supported",
                 "probe-refused", "local-device-of-other-interface"}

    def replies(self, *requests):
        """The lines on stdout, and those on stderr about arguments."""
        said = run("mtr-packet", text="".join(f"{i} {r}\n" for i, r in enumerate(requests)))
        return [line for line in said.splitlines() if line[0].isdigit() or "unknown argument" in line]

    def arguments(self):
        """{name: its entry in the page}"""
        parts = re.split(r"^\.It Cm ", section(self.text, "REQUESTS"), flags=re.M)[1:]
        found = {}
        for part in reversed(parts):
            name = part.split()[0]
            # Of two names with one text, the text follows the second.
            found[name] = part if "\n" in part.strip() else list(found.values())[-1]
        return found

    def test_arguments(self):
        known = self.arguments()
        self.assertGreater(len(known), 14)
        # An unknown argument would be named on standard error.
        said = self.replies(*(f"send-probe {name} x" for name in known))
        self.assertEqual([line for line in said if "unknown argument" in line], [])
        self.assertIn("unknown argument", " ".join(self.replies("send-probe no-such 1")))

    def test_numbers(self):
        """The ends of each range of the page, and what lies beyond."""
        count = 0
        for name, entry in self.arguments().items():
            ends = [int(n) for pair in re.findall(r"(-?\d+) to (-?\d+)", entry) for n in pair]
            ends = ends or [int(n) for pair in re.findall(r"Cm (\d) \| (\d)$", entry, re.M) for n in pair]
            if not ends:
                continue
            count += 1
            least, most = min(ends), max(ends)
            values = (least - 1, least, most, most + 1)
            said = self.replies(*(f"send-probe {name} {value}" for value in values))
            reasons = [line.split()[-1] for line in sorted(said)]
            beyond = f"{name}-out-of-range"
            self.assertEqual(reasons, [beyond, "destination-missing", "destination-missing", beyond])
        self.assertGreater(count, 8)

    def test_reasons(self):
        listed = {line.replace("Ar argument Ns Cm ", "") for line in
                  re.findall(r"^\.It (?:Cm )?(.*)$", section(self.text, "REASONS"), re.M)}
        # UDP, which needs no broker.
        said = self.replies(*(f"send-probe protocol udp {request}" for request in self.INVALID),
                            "check-support")
        found = set()
        for line in said:
            reason = re.fullmatch(r"\d+ invalid-argument reason (\S+)", line).group(1)
            general = re.sub(r"^(ttl|ip-4|local-ip-4)(-(?:not-|out-))", r"\2", reason)
            found.add(reason if reason in listed else general)
        self.assertEqual(found - listed, set())
        self.assertEqual(listed - found, self.ELSEWHERE & listed)

    def test_features(self):
        text = self.text[self.text.index("Features are"):self.text.index(".Sh REPLIES")]
        names = re.findall(r"(?<![\w-])[a-z][\w-]*(?= ,| \.)", re.sub(r"^\.Cm ", "", text, flags=re.M))
        self.assertGreater(len(names), 10)
        said = dict(line.split()[::3] for line in self.replies(
            *(f"check-support feature {name}" for name in names), "check-support feature no-such"))
        works = {name for number, name in enumerate(names) if said[str(number)] == "ok"}
        self.assertGreater(works, {"send-probe", "ip-4", "udp", "tcp", "details", "dont-fragment", "flow"})
        self.assertEqual(said[str(len(names))], "no")

    def test_version(self):
        version = re.match(r"\S+ \((\S+)\)", read("debian/changelog")).group(1)
        self.assertIn(version, run("postern", "--version").split())
        said = self.replies("check-support feature version")
        self.assertEqual(said, [f"0 feature-support support 0.95-postern-{version}"])
        self.assertIn("0.95-postern-", self.text)
        for name in glob.glob(os.path.join(lab.ROOT, "man", "*")):
            self.assertIn("\n.Os Postern\n", read(name), name)


class Broker(unittest.TestCase):
    text = page("postern-broker.8")

    def status(self, stdin, prefix=()):
        done = subprocess.run([*prefix, lab.build("postern-broker")], stdin=stdin, text=True, check=False,
                              stderr=subprocess.PIPE, timeout=20)
        # In all cases but 0 a line says why.
        self.assertEqual(bool(done.stderr), done.returncode != 0)
        return done.returncode

    def with_channel(self, sent, prefix=()):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs:
            if sent:
                ours.send(sent)
            ours.shutdown(socket.SHUT_WR)
            return self.status(theirs, prefix)

    def test_exit_statuses(self):
        if os.geteuid() != 0:
            self.skipTest("only root's broker, as built, can open its sockets")
        listed = re.findall(r"^\.It (\d+)$", section(self.text, "EXIT STATUS"), re.M)
        found = [self.with_channel(b""),
                 self.with_channel(b"", ("prlimit", "--nofile=8")),
                 self.status(subprocess.DEVNULL),
                 self.with_channel(b"no request"),
                 self.with_channel(b"", ("setpriv", "--bounding-set=-all", "--inh-caps=-all"))]
        self.assertEqual([str(status) for status in found], listed)


class Tracepath(unittest.TestCase):
    def test_json(self):
        """All that the schema allows is in the page. The tests of tracepath compare its output with
        the schema."""
        words = set()

        def walk(node, name=None):
            if isinstance(node, dict):
                words.update(node if name == "properties" else ())
                for key, value in node.items():
                    walk(value, key)
            elif isinstance(node, list):
                words.update(word for word in node if name == "enum" and isinstance(word, str))
                for value in node:
                    walk(value)
            elif name == "const" and isinstance(node, str):
                words.add(node)

        (schema,) = glob.glob(os.path.join(lab.ROOT, "*", "*", "tracepath.schema.json"))
        walk(json.loads(read(schema)))
        self.assertGreater(len(words), 30)
        text = section(page("tracepath.8"), "JSON")
        for word in words:
            self.assertRegex(text, rf"(?<![\w-]){word}(?![\w-])")


class Readme(unittest.TestCase):
    text = read("README.md")
    pages = ("README.md", "broker/README.md", "frontend/README.md", "tests/lab/README.md",
             "tests/bench/NOTES.md", ".github/CONTRIBUTING.md", ".github/SECURITY.md")

    def test_paths_exist(self):
        folders = "broker|policy|common|frontend|tests|man"
        count = 0
        for name in self.pages:
            text = read(name)
            paths = set(re.findall(rf"(?<![\w/.-])((?:{folders})/[\w./*-]*\w)", text))
            paths |= {path.removeprefix("../") for path in re.findall(r"\]\(([^)]+)\)", text)}
            if name.startswith("frontend"):
                paths |= {"frontend/" + path for path in re.findall(
                    r"`((?:mtr_packet|tracepath|transport|process)/[\w./*-]*)`", text)}
            for path in paths:
                with self.subTest(page=name):
                    self.assertTrue(glob.glob(os.path.join(lab.ROOT, path)), path)
            count += len(paths)
        self.assertGreater(count, 40)

    def test_length(self):
        self.assertLess(len(self.text.splitlines()), 141)

    def test_numbers(self):
        calls = set(re.findall(r"ALLOW\((\w+)", read("policy/filter/table_broker.c")))
        self.assertEqual(len(calls), 8, calls)
        text = " ".join(self.text.split())
        self.assertIn("eight system calls", text)
        descriptors = re.search(r"(\d+) descriptors", text).group(1)
        compile_or_fail(self, ['#include "policy/descriptors.h"',
                               f'_Static_assert(DESC_COUNT == {descriptors}, "README");'])

    def test_lines(self):
        """What `make lines` counts is within its limits and what README quotes. The programs are
        not built anew for it."""
        build = os.environ.get("BUILD", "build")
        done = subprocess.run(["make", "-s", "-C", lab.ROOT, "lines", f"BUILD={build}",
                               "-o", f"{build}/postern-broker"], text=True, capture_output=True,
                              timeout=60, check=True)
        line = done.stdout.splitlines()[-1]
        total, serving = map(int, re.fullmatch(
            r"privileged lines: (\d+), of which after lock-down: (\d+)", line).groups())
        self.assertLess(500, serving)
        self.assertLessEqual(total, 1800)
        self.assertLessEqual(serving, 900)
        self.assertIn("    " + line + "\n", self.text)

    def test_targets_exist(self):
        makefile = read("Makefile")
        for target in re.findall(r"(?:`|^    (?:sudo )?)make ((?:[A-Z_]+=[^\s`]+ )*[a-z]+)", self.text,
                                 re.M):
            self.assertRegex(makefile, rf"(?m)^{target.split()[-1]}:")

    def test_ci_runs_what_is_named(self):
        commands = [line for line in read(".ci/run").splitlines() if line and line[0] != "#"]
        named = re.findall(r"\bmake [a-z]+", " ".join(commands))
        self.assertEqual(named, ["make check"])
        self.assertIn("make check", self.text)

    def test_pages_exist(self):
        for page_name in self.pages:
            for name, number in re.findall(
                    r"\b(mtr-packet|tracepath|postern(?:-broker|-fleet)?)\((\d)\)", read(page_name)):
                self.assertTrue(os.path.exists(f"{lab.ROOT}/man/{name}.{number}"), name)


class Pages(unittest.TestCase):
    # What mandoc does not find in the data base of the pages installed here.
    ELSEWHERE = re.compile(r"referenced manual not found|outdated mandoc\.db")

    def test_lint(self):
        """The pages are clean mdoc(7), in style as well."""
        if not shutil.which("mandoc"):
            self.skipTest("mandoc is not installed")
        for name in sorted(glob.glob(os.path.join(lab.ROOT, "man", "*"))):
            done = subprocess.run(["mandoc", "-T", "lint", "-W", "style", name], text=True, check=False,
                                  capture_output=True, timeout=30)
            said = [line for line in (done.stdout + done.stderr).splitlines()
                    if not self.ELSEWHERE.search(line)]
            self.assertEqual(said, [], name)


if __name__ == "__main__":
    tap.main()
