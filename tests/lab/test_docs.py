"""The manual pages and README say what the programs do: options, words of the protocol, reasons, the
broker's last lines, records, JSON keys, paths, targets. Compares text with text; sends nothing."""
import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile
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


def joined(text):
    """C source with adjacent string literals made one."""
    return re.sub(r'"\s*\n\s*"', "", text)


def section(text, title):
    found = re.search(rf"^\.Sh {title}\n(.*?)(?=^\.Sh |\Z)", text, re.M | re.S)
    assert found, f"no section {title}"
    return found.group(1)


def items(text, macro):
    """The arguments of `.It MACRO ...` lines."""
    return re.findall(rf"^\.It {macro} (.*)$", text, re.M)


def options_of_page(text):
    """-x and --long, from lines as `.It Fl h , Fl Fl help` and `.It Fl P Cm icmp`."""
    found = set()
    for line in re.findall(r"^\.It (Fl .*)$", text, re.M):
        for part in re.findall(r"(?:^|, )Fl (Fl \S+|\S+)", line):
            found.add("--" + part[3:] if part.startswith("Fl ") else "-" + part)
    return found


def options_of_usage(arguments):
    done = subprocess.run([lab.build("postern")] + arguments + ["--help"], text=True,
                          capture_output=True, timeout=10, check=True)
    listed = re.findall(r"^  (-.*)$", done.stdout + done.stderr, re.M)
    return {option for line in listed for option in re.findall(r"(?:^|, )(--?\w[\w-]*)", line)}


def options_of_source(text):
    found = {"--" + name for name in re.findall(r'\{"([\w-]+)",\s*(?:no|required)_argument', text)}
    letters = re.search(r'getopt_long\(argc, argv,\s*"([^"]*)"', text).group(1)
    return found | {"-" + letter for letter in letters.replace(":", "")}


class Options(unittest.TestCase):
    def compare(self, source, text, arguments):
        known = options_of_source(read(source))
        self.assertEqual(known, options_of_page(text), f"{source} and its manual page")
        # A long name of a short option need not be repeated there.
        usage = options_of_usage(arguments)
        self.assertEqual(known - usage - {"--help", "--version"}, set(), "not in the usage")
        self.assertEqual(usage - known, set(), "only in the usage")

    def test_packet(self):
        self.compare("frontend/packet.c", section(page("mtr-packet.8"), "DESCRIPTION"), ["packet"])

    def test_doctor(self):
        self.compare("frontend/doctor.c", section(page("postern.1"), "DESCRIPTION"), ["doctor"])

    def test_tracepath(self):
        self.compare("frontend/tracepath_options.c", section(page("tracepath.8"), "DESCRIPTION"),
                     ["tracepath"])

    def test_subcommands_are_in_the_page(self):
        text = section(page("postern.1"), "DESCRIPTION")
        for name in re.findall(r'\{(?:"[\w-]+"|NULL), "(\w+)", \w+_main\}', read("frontend/main.c")):
            self.assertRegex(text, rf"\.It Cm .*\b{name}\b")


class Protocol(unittest.TestCase):
    text = page("mtr-packet.8")

    def test_arguments(self):
        known = re.findall(r'\{NAME\("([\w-]+)"\)', read("frontend/packet_request.c"))
        self.assertGreater(len(known), 10)
        requests = section(self.text, "REQUESTS")
        self.assertEqual(set(known), {line.split()[0] for line in items(requests, "Cm")})

    def test_numbers(self):
        """Each range of the table stands in the page."""
        table = re.findall(r'\{NAME\("([\w-]+)"\), read_number, (-?\w+), (\w+),',
                           read("frontend/packet_request.c"))
        self.assertGreater(len(table), 8)
        for name, least, most in table:
            most = "4294967295" if most == "UINT32_MAX" else most
            entry = re.search(rf"^\.It Cm {name} (.*?)^\.(?:It|El)", self.text, re.M | re.S)
            self.assertIn(most, entry.group(1), name)
            self.assertIn(least, entry.group(1), name)

    def test_replies(self):
        words = re.findall(r'\[VERDICT_\w+\] = "([\w-]+)"', read("frontend/packet_verdict.c"))
        self.assertGreater(len(words), 10)
        words += re.findall(r'(?:say_word\(session, [^,]+, |put_argument\(at, )"([\w-]+)"',
                            read("frontend/packet_session.c") + read("frontend/packet_reply.c"))
        for word in words:
            self.assertRegex(self.text, rf"(?<![\w-]){word}(?![\w-])")

    def test_reasons(self):
        text = section(self.text, "REASONS")
        pages = {line.replace("Ar argument Ns Cm ", "") for line in
                 re.findall(r"^\.It (?:Cm )?(.*)$", text, re.M)}
        request = read("frontend/packet_request.c")
        session = read("frontend/packet_session.c")
        known = set()
        for source in (request, session):
            for start, end in re.findall(r'\(struct fault\)\{"?([\w-]+)"?, "([\w-]+)"\}', source):
                known.add(end if start == "NULL" else f"{start}-{end}")
        known |= {"local-ip-4-of-other-family", "local-ip-6-of-other-family"}  # chosen by ?:
        for word in re.findall(r'(?:return|\? NULL :|\?) "([a-z-]+)"', request):
            known.add("-" + word if word.startswith(("not-", "out-")) else word)
        known |= {"protocol-unknown"} if "unknown" in known else set()
        known -= {"unknown", "local-ip-6", "local-ip-4"}
        self.assertIn("unknown-argument", known)
        self.assertIn("-out-of-range", known)
        self.assertEqual(known, pages)

    def test_features(self):
        table = re.search(r"struct feature features\[\] = \{(.*?)\n\};",
                          read("frontend/packet_session.c"), re.S).group(1)
        text = self.text[self.text.index(".Ss check-support"):self.text.index(".Sh REPLIES")]
        for name in re.findall(r'\{"([\w-]+)"', table):
            self.assertRegex(text, rf"(?<![\w-]){name}(?![\w-])")

    def test_version(self):
        version = re.search(r"^VERSION\s*:= (\S+)", read("Makefile"), re.M).group(1)
        self.assertIn(f"0.95-postern-{version}", self.text)
        for name in glob.glob(os.path.join(lab.ROOT, "man", "*")):
            text = read(name)
            self.assertTrue(text.startswith(".so ") or f"\n.Os Postern {version}\n" in text, name)


class Broker(unittest.TestCase):
    text = page("postern-broker.8")

    def test_last_lines(self):
        sources = "".join(joined(read(name)) for folder in ("broker", "policy")
                          for name in sorted(glob.glob(f"{lab.ROOT}/{folder}/*.c")))
        known = set(re.findall(r'step_failed\(\s*failure,\s*"([^"]+)"', sources))
        known |= set(re.findall(r'\.step = "([^"]+)"', sources))
        known |= set(re.findall(r'channel_violation\(\s*"([^"]+)"\)', sources))
        known |= set(re.findall(r'return "([^"]+)"', joined(read("broker/sockets.c")) +
                                joined(read("policy/admission.c"))))
        self.assertGreater(len(known), 60)
        listed = re.findall(r"^\.It (.*)$", section(self.text, "DIAGNOSTICS"), re.M)
        self.assertEqual(len(listed), len(set(listed)))
        self.assertEqual(known, set(listed))

    def test_exit_statuses(self):
        known = set(re.findall(r"STEP_\w+ = (\d+)", read("policy/step.h")))
        known |= set(re.findall(r"EXIT_VIOLATION = (\d+)", read("broker/channel.c")))
        known |= set(re.findall(r"_exit\((\d+)\)", read("broker/serve.c") +
                                read("broker/channel.c")))
        listed = re.findall(r"^\.It (\d+)$", section(self.text, "EXIT STATUS"), re.M)
        self.assertEqual(known, set(listed))

    def test_records(self):
        """The compiler is asked whether the page's sizes and offsets are those of record.h."""
        compiler = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc")
        if compiler is None:
            self.skipTest("no C compiler")
        structs = {"hello": "hello", "probe": "probe", "cancel": "cancel", "event": "event",
                   "extended event": "event_ext"}
        lines = ['#include "common/record.h"']
        header = read("common/record.h")
        for title, size, body in re.findall(
                r"^\.It Em ([a-z ]+) No \((\d+) bytes.*?\n(.*?)(?=^\.(?:It|El))",
                section(self.text, "THE CHANNEL"), re.M | re.S):
            struct = "struct record_" + structs.pop(title)
            lines.append(f'_Static_assert(sizeof({struct}) == {size}, "{title}");')
            fields = dict(re.findall(r"^\.Va (\w+)\n\[(\d+)\]", body, re.M))
            members = re.search(rf"^{struct} \{{(.*?)^\}};", header, re.M | re.S).group(1)
            members = re.findall(r"(\w+)(?:\[\w+\])?;", re.sub(r"/\*.*?\*/", "", members, flags=re.S))
            self.assertEqual(set(fields), {m for m in members if not m.startswith("reserved")})
            for name, offset in fields.items():
                lines.append(f'_Static_assert(offsetof({struct}, {name}) == {offset}, "{name}");')
        self.assertEqual(structs, {})
        done = subprocess.run([compiler, "-std=gnu11", "-fsyntax-only", "-I", lab.ROOT, "-x", "c",
                               "-"], input="\n".join(lines) + "\n", text=True, check=False,
                              capture_output=True, timeout=30)
        self.assertEqual(done.returncode, 0, done.stderr)


class Tracepath(unittest.TestCase):
    def test_json(self):
        source = read("frontend/trace_json.c")
        text = page("tracepath.8")
        keys = set(re.findall(r'\\"([a-z_]+)\\":', source))
        keys |= set(re.findall(r'\\"event\\":\\"(\w+)\\"', source))
        keys |= set(re.findall(r'\[(?:TRACE|EXTENSION)_\w+\] = "([\w-]+)"', source))
        self.assertGreater(len(keys), 30)
        for key in keys:
            self.assertRegex(section(text, "JSON"), rf"(?<![\w-]){key}(?![\w-])")


class Readme(unittest.TestCase):
    text = read("README.md")

    def test_paths_exist(self):
        folders = "broker|policy|common|frontend|tests|man|build"
        words = set(re.findall(rf"(?<![\w/.-])((?:{folders})/[\w./*-]*\w)", self.text))
        words |= set(re.findall(r"\]\(([^)]+)\)", self.text))
        self.assertGreater(len(words), 25)
        for word in words:
            if not word.startswith("build/"):
                self.assertTrue(glob.glob(os.path.join(lab.ROOT, word)), word)

    def test_bounds(self):
        """Numbers that people are told, against the code that decides them."""
        descriptors = read("broker/descriptors.h")
        local, held = (int(re.search(rf"{name} = (\d+)", descriptors).group(1))
                       for name in ("LOCAL_PORTS", "HELD_PORTS"))
        flows = int(re.search(r"FLOW_HOLDERS = (\d+)", read("broker/identity.c")).group(1))
        text = " ".join(self.text.split())
        for words in (f"{local} different ones", f"{held} TCP probes", f"can take {held} ports",
                      f"source ports ({held - flows})", f"more than {held - flows} UDP probes",
                      f"one of {held - flows} port numbers"):
            self.assertIn(words, text)
        for name, words in (("postern-broker.8", f"concerns its {held} ports"),
                            ("postern-broker.8", f"takes {held} ports of it, in UDP and in TCP"),
                            ("postern-broker.8", f"holds {held} ports of the range"),
                            ("mtr-packet.8", f"At most {local} different ones")):
            self.assertIn(words, " ".join(page(name).split()))
        calls = set(re.findall(r"ALLOW\((\w+)", read("policy/filter/table_broker.c")))
        self.assertEqual(len(calls), 11)  # "eleven system calls", in two lines of the picture
        self.assertIn(" eleven system ", text)

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
        for name, number in re.findall(r"\b(mtr-packet|tracepath|postern(?:-broker)?)\((\d)\)",
                                       self.text):
            self.assertTrue(os.path.exists(f"{lab.ROOT}/man/{name}.{number}"), name)


class Pages(unittest.TestCase):
    def test_lint(self):
        """The pages are clean mdoc(7)."""
        lint = shutil.which("mandoc")
        command = [lint, "-T", "lint", "-W", "warning"] if lint else \
            ["groff", "-mdoc", "-ww", "-z"]
        if not lint and not shutil.which("groff"):
            self.skipTest("neither mandoc nor groff")
        for name in sorted(glob.glob(os.path.join(lab.ROOT, "man", "*"))):
            if read(name).startswith(".so "):
                continue
            with tempfile.TemporaryDirectory() as empty:
                done = subprocess.run(command + [name], cwd=empty, text=True, check=False,
                                      capture_output=True, timeout=30)
            self.assertEqual(done.stdout + done.stderr, "", name)


if __name__ == "__main__":
    tap.main()
