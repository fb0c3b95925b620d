#!/usr/bin/env python3
"""The recipes of postern-fleet(7) that are marked as tested, as they stand in the page: from several
hosts of a private network into SQLite and into the text format of Prometheus.

time-limit: 60
"""
import json
import os
import re
import shutil
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import lab  # noqa: E402
import tap  # noqa: E402

try:
    from prometheus_client.parser import text_string_to_metric_families as metric_families
except ImportError:
    metric_families = None

DESTINATION = '203.0.113.1'
# Its hosts: names of network namespaces, and a last one that does not answer.
VANTAGE_POINTS = ('host', 'r1', 'r2', 'gone')
NEEDED = ('parallel', 'sqlite3', 'jq', 'nsenter')

# Stands in for ssh: enters the namespace of that name, as a host of that name.
SSH = '''#!/bin/sh
[ "$1 $2" = '-o BatchMode=yes' ] || exit 2
host=$3; shift 3
[ "$host" != gone ] || exit 255
exec nsenter --net=%s unshare --uts sh -c 'hostname "$0"; eval "$*"' "$host" "$@"
''' % lab.namespace_path('$host')


def recipes(title):
    """The literal blocks below a heading of the page, with the quoting of roff undone."""
    with open(os.path.join(lab.ROOT, 'man', 'postern-fleet.7'), encoding='utf-8') as file:
        text = file.read()
    body = re.search(r'^\.S[hs] %s\n(.*?)(?=^\.S[hs] |\Z)' % re.escape(title), text, re.M | re.S).group(1)
    blocks = re.findall(r'^\.Bd -literal.*?\n(.*?)^\.Ed', body, re.M | re.S)
    return [re.sub(r'^\\&', '', block.replace('\\e', '\\'), flags=re.M) for block in blocks]


class Fleet(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        missing = [tool for tool in NEEDED if not shutil.which(tool)]
        if missing:
            raise unittest.SkipTest('not installed: ' + ' '.join(missing))
        cls.folder = lab.scratch('fleet')
        os.makedirs(cls.folder, exist_ok=True)
        for name, text in (('ssh', SSH), ('trace-line', recipes('ONE LINE FOR EACH TRACE')[0]),
                           ('vantage-points', '\n'.join(VANTAGE_POINTS) + '\n')):
            with open(os.path.join(cls.folder, name), 'w', encoding='utf-8') as file:
                file.write(text)
            os.chmod(file.name, 0o755)
        # Link 3 lies behind the last of them, so all find the same path MTU.
        cls.net = lab.linux_chain(4, mtus={3: 1400})
        cls.addClassCleanup(cls.net.stop)
        # Ways back to r1 and r2, which the chain has for its host alone.
        for number, name in enumerate(cls.net.names):
            for link in range(1, number - 1):
                lab.run(['ip', 'route', 'replace', '198.18.%d.0/24' % link, 'via',
                         '198.18.%d.1' % (number - 1)], ns=name)
        cls.shell(recipes('GNU parallel over ssh')[0], status=1)
        with open(cls.folder + '/traces.jsonl', encoding='utf-8') as file:
            cls.traces = [json.loads(line) for line in file]

    @classmethod
    def shell(cls, text, status=0):
        path = ':'.join((cls.folder, os.path.dirname(lab.build('postern')), os.environ['PATH']))
        done = lab.run(['sh', '-c', text.replace(DESTINATION, cls.net.destination4)], cwd=cls.folder,
                       env={'PATH': path, 'HOME': cls.folder})
        assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
        return done.stdout

    def test_a_line_for_each_host(self):
        self.assertEqual([(t['vantage'], t['hop_count'], t['pmtu'])
                          for t in sorted(self.traces, key=lambda t: t['vantage'])],
                         [('host', 5, 1400), ('r1', 4, 1400), ('r2', 3, 1400)])

    def test_ansible(self):
        if not shutil.which('ansible-playbook'):
            self.skipTest('ansible-playbook is not installed')
        os.mkdir(self.folder + '/traces')
        with open(self.folder + '/play.yml', 'w', encoding='utf-8') as file:
            file.write(recipes('Ansible')[0].replace(DESTINATION, self.net.destination4))
        with open(self.folder + '/inventory', 'w', encoding='utf-8') as file:
            file.write('[vantage_points]\na\nb\n[all:vars]\nansible_connection=local\n')
        self.shell('ANSIBLE_REMOTE_TMP=$PWD/tmp ansible-playbook -i inventory play.yml')
        for host in 'a', 'b':
            with open('%s/traces/%s.jsonl' % (self.folder, host), encoding='utf-8') as file:
                lines = file.readlines()
            self.assertEqual([json.loads(line)['hop_count'] for line in lines], [5])

    def test_a_trace_that_cannot_begin(self):
        line = json.loads(self.shell(
            'RES_OPTIONS="timeout:1 attempts:1" sh trace-line no-such-host.invalid'))
        self.assertEqual((line['vantage'], line['stop_reason']), (os.uname().nodename, 'error'))
        line = json.loads(self.shell('VANTAGE=here sh trace-line 198.18.0.2'))
        self.assertEqual(line['vantage'], 'here')

    def test_sqlite(self):
        load, ends, shared = recipes('SQLite')
        self.shell(load)
        rows = [line.split() for line in self.shell(ends).splitlines()]
        self.assertEqual(rows[0], ['vantage', 'pmtu', 'hops', 'end'])
        self.assertEqual(rows[2:], [['host', '1400', '5', 'reached'], ['r1', '1400', '4', 'reached'],
                                    ['r2', '1400', '3', 'reached']])
        rows = [line.split() for line in self.shell(shared).splitlines()]
        seen = {address: vantages for address, vantages, _ in rows[2:]}
        self.assertEqual(seen[self.net.hops4[0]], '1')
        self.assertEqual(seen[self.net.hops4[1]], '2')
        self.assertEqual(seen[self.net.destination4], '3')

    def test_prometheus(self):
        if metric_families is None:
            self.skipTest('python3-prometheus-client is not installed')
        self.shell(recipes('Prometheus')[0])
        with open(self.folder + '/trace.prom', encoding='utf-8') as file:
            families = list(metric_families(file.read()))
        samples = {(s.name, s.labels['vantage'], s.labels.get('ttl')): s.value
                   for family in families for s in family.samples}
        self.assertEqual(len(samples), sum(len(family.samples) for family in families))
        self.assertEqual(samples['tracepath_path_mtu_bytes', 'r1', None], 1400)
        self.assertEqual(samples['tracepath_reached', 'r2', None], 1)
        self.assertEqual(samples['tracepath_hops', 'host', None], 5)
        self.assertLess(abs(samples['tracepath_rtt_seconds', 'host', '5']), 1)
        self.assertEqual({s.labels['destination'] for f in families for s in f.samples},
                         {self.net.destination4})


if __name__ == '__main__':
    lab.enter()
    tap.main()
