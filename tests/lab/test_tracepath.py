#!/usr/bin/env python3
"""tracepath on paths that iputils' cannot describe (black holes, labels), on slow, lossy and limited
ones, and with readers, resolvers and options of every kind. time-limit: 300"""
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import unittest

import jsonschema

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lab'))
import lab  # noqa: E402
import processes  # noqa: E402
import tap  # noqa: E402
import tracepath_lines  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
F_SETPIPE_SZ = 1031
TARGETS = '203.0.113.1', '2001:db8:ff::1'
# For networks without delays: a silent hop costs three of these in place of three seconds.
QUICK = '-W', '0.3'


def address(i):
    return '198.18.%d.2,2001:db8:%x::2' % (i, i) if i else '198.18.0.2,2001:db8::2'


def internet(hops, settings=None, every='', destination=''):
    """A description of `hops` routers; `settings` has more words for some, by number from 1."""
    lines = ['hop address %s %s %s' % (address(i - 1), every, (settings or {}).get(i, ''))
             for i in range(1, hops + 1)]
    lines += ['dest %s %s' % (target, destination) for target in TARGETS]
    return '\n'.join(lines) + '\n'


def trace(*options, timeout=60, **keywords):
    """Returns the process and the seconds it took."""
    began = time.monotonic()
    done = lab.run([lab.build('tracepath'), *options], timeout=timeout, **keywords)
    return done, time.monotonic() - began


def trace_both(*options):
    """Both families at once: [CompletedProcess, CompletedProcess], seconds."""
    began = time.monotonic()
    done = lab.run_all([[lab.build('tracepath'), '-n', *options, target] for target in TARGETS])
    return done, time.monotonic() - began


def addresses(output):
    """{ttl: address} of the lines that are hops; a line that repeats a TTL counts once."""
    return {int(m.group(1)): m.group(2)
            for m in re.finditer(r'^ *(\d+):  (\S+) +\d+\.\d{3}ms', output, re.M)}


class Paths(unittest.TestCase):
    maxDiff = None

    def test_a_black_hole_is_found_with_its_size(self):
        with lab.simnet(internet(14, {9: 'mtu 1400 black-hole'})):
            done, seconds = trace_both()
            for each in done:
                self.assertRegex(each.stdout,
                                 r'\n10\?: \S+ +pmtu 1400 \(black hole after hop 9\)\n10:  ')
                self.assertIn('Resume: pmtu 1400 hops 15 back 15 ', each.stdout)
                self.assertNotIn('no reply', each.stdout)
            self.assertLess(seconds, 7)  # the goal is 5
            tap.note('black hole found in %.1f s' % seconds)

    def test_a_black_hole_of_linux_routers(self):
        with lab.linux_chain(6, mtus={3: 1387}, silent=[3]) as net:
            done, seconds = trace('-n', net.destination4)
            self.assertRegex(done.stdout, r'pmtu 1387 \(black hole after hop [23]\)\n')
            self.assertIn('hops 7 back 7', done.stdout)
            tap.note('found in %.1f s' % seconds)

    def test_a_slow_path_takes_three_round_trips(self):
        """Twenty hops of 100 ms each: two seconds to the end."""
        with lab.simnet(internet(19, every='delay 100ms', destination='delay 100ms')):
            done, seconds = trace_both()
            for each in done:
                self.assertIn('hops 20 back 20', each.stdout)
                self.assertEqual(len(addresses(each.stdout)), 20)
            tap.note('%.1f s' % seconds)
            self.assertLess(seconds, 3 * 2 + 1)

    def test_a_slow_path_with_smaller_mtus_takes_one_more_for_each(self):
        with lab.simnet(internet(19, {8: 'mtu 1400', 15: 'mtu 1300'}, every='delay 30ms',
                                 destination='delay 30ms')):
            done, seconds = trace_both()
            for each in done:
                self.assertIn('Resume: pmtu 1300 hops 20 back 20', each.stdout)
            tap.note('%.1f s' % seconds)
            self.assertLess(seconds, 5 * 0.6 + 1)

    def test_a_trace_that_is_cut_short_claims_nothing(self):
        """In the middle of the search for the black hole."""
        with lab.simnet(internet(14, {9: 'mtu 1400 black-hole'})):
            done, _ = trace('-n', '-e', '-w', '1', TARGETS[0])
            self.assertEqual(sorted(addresses(done.stdout))[:9], list(range(1, 10)))
            self.assertTrue(done.stdout.endswith('     Cut short: deadline\n'), done.stdout)
            self.assertNotIn('reached', done.stdout)
            self.assertNotIn('Resume', done.stdout)
            self.assertEqual(done.returncode, 1)
            done, _ = trace('-n', '--json', '-w', '1', TARGETS[1])
            document = json.loads(done.stdout)
            self.assertEqual((document['pmtu'], document['hop_count'], document['stop_reason']),
                             (None, None, 'deadline'))
            self.assertNotIn('reached', [hop['outcome'] for hop in document['hops']])

    def test_first_ttl_behind_a_black_hole_or_the_destination(self):
        with lab.simnet(internet(6, {3: 'mtu 1400 black-hole'})):
            done, _ = trace('-n', '-f', '5', TARGETS[0])
            self.assertIn('pmtu 1400 (black hole before hop 5)\n', done.stdout)
            self.assertIn('Resume: pmtu 1400 hops 7 back 7 ', done.stdout)
        with lab.simnet(internet(6)):
            done, _ = trace('-n', '-f', '9', TARGETS[0])
            self.assertRegex(done.stdout, r'\n 9\?: 203\.0\.113\.1 +\d\.\d{3}ms reached\n')
            self.assertIn('     Resume: pmtu 1500 back 7 \n', done.stdout)

    def test_datagrams_of_the_destination_hide_no_hop(self):
        """With one flow they cannot be told apart, so one probe is in flight at a time."""
        with lab.simnet(internet(4, {2: 'silent'}, destination='on udp=data')):
            done, _ = trace('-n', *QUICK, '-q', '1', '--flow', '7', TARGETS[0])
        self.assertEqual(sorted(addresses(done.stdout)), [1, 3, 4])
        self.assertIn(' 2:  no reply\n', done.stdout)
        self.assertIn(' 5?: reply received 8)\n', done.stdout)

    def test_a_slow_first_link_does_not_show_in_the_times(self):
        """A full-size packet takes 12 ms at 1 Mbit/s: a queue of them would add up."""
        with lab.linux_chain(8) as net:
            lab.run(['tc', 'qdisc', 'add', 'dev', net.device, 'root', 'tbf', 'rate', '1mbit',
                     'burst', '1600', 'latency', '2s'])
            done, seconds = trace('-n', net.destination4)
        times = [float(t) for t in re.findall(r'(\d+\.\d{3})ms', done.stdout)]
        self.assertEqual(len(times), 9, done.stdout)
        self.assertLess(max(times), 26, done.stdout)
        tap.note('%.2f s' % seconds)

    def hops_like_iputils(self, description, target):
        """No hop that iputils shows is missing. One family a test: a router's bucket is for both."""
        with lab.simnet(description):
            theirs = lab.run(['tracepath', '-n', '-m', '12', target]).stdout
            # At once: theirs has just emptied the bucket.
            done, seconds = trace('-n', '-m', '12', target)
        ours = done.stdout
        self.assertLessEqual(addresses(theirs).items(), addresses(ours).items(), theirs + ours)
        self.assertIn(' reached', ours)
        tap.note('%.2f s' % seconds)
        return ours

    def test_routers_of_one_error_a_second(self):
        output = self.hops_like_iputils(internet(9, {3: 'mtu 1400'}, every='rate 1'), TARGETS[0])
        self.assertIn('pmtu 1400\n', output)
        self.assertEqual(len(addresses(output)), 10)

    def test_a_router_that_loses_30_percent_of_its_answers(self):
        self.hops_like_iputils('seed 3\n' + internet(9, {4: 'answer-loss 30%'}), TARGETS[1])

    def test_a_router_that_loses_30_percent_of_everything(self):
        output = self.hops_like_iputils('seed 5\n' + internet(8, {4: 'loss 30%'}), TARGETS[1])
        self.assertNotIn('black hole', output)

    def test_answers_that_come_twice_late_or_broken(self):
        with lab.simnet(internet(8, {2: 'duplicate 3', 3: 'late 120ms', 4: 'jitter 50ms',
                                     5: 'corrupt checksum', 6: 'forge ports',
                                     7: 'forge destination then-genuine 5ms'})):
            done, _ = trace('-n', TARGETS[0])
        found = addresses(done.stdout)
        self.assertEqual(found[2], '198.18.1.2')
        self.assertEqual(found[3], '198.18.2.2')
        self.assertIn(' 5:  no reply\n', done.stdout)
        self.assertIn(' 6:  no reply\n', done.stdout)
        self.assertEqual(found[7], '198.18.6.2')
        self.assertIn('hops 9 back 9', done.stdout)


class Options(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.net = lab.simnet(internet(6, {3: 'mtu 1400', 5: 'silent'},
                                      destination='on icmp=echo on tcp:443=syn-ack on tcp=rst'))

    @classmethod
    def tearDownClass(cls):
        lab.reset()

    def test_protocols(self):
        for options in ('-P', 'icmp'), ('-P', 'tcp'), ('-P', 'tcp', '-p', '443'), ('-P', 'udp'):
            both, _ = trace_both(*options)
            for target, done in zip(TARGETS, both):
                with self.subTest(target=target, options=options):
                    self.assertIn('Resume: hops 7 \n' if 'tcp' in options else
                                  'Resume: pmtu 1400 hops 7 back 7 \n', done.stdout)
                    self.assertEqual(sorted(addresses(done.stdout)), [1, 2, 3, 4, 6, 7])

    def test_first_ttl_and_max_hops(self):
        done, _ = trace('-n', '-f', '3', '-m', '4', TARGETS[0])
        self.assertEqual(sorted(addresses(done.stdout)), [3, 4])
        self.assertIn('     Too many hops: pmtu 1400\n     Resume: pmtu 1400 \n', done.stdout)

    def test_source_and_device(self):
        for source, target in zip((self.net.second4, self.net.second6), TARGETS):
            with lab.Capture(filter='udp') as capture:
                done, _ = trace('-n', *QUICK, '-s', source, '-I', self.net.device, target)
            self.assertIn('hops 7', done.stdout)
            key = 'ip.src' if '.' in target else 'ipv6.src'
            seen = capture.fields([key, 'udp.dstport'])
            self.assertEqual({packet[key] for packet in seen}, {source})

    def test_ports(self):
        for options, target, ports in (
                ((), TARGETS[0], range(44444, 44508)),
                (('-p', '5000'), TARGETS[0], range(5000, 5064)),
                ((), TARGETS[0] + '/7000', range(7000, 7064)),
                (('-p', '65530'), TARGETS[0], range(65530, 65536)),
                (('--flow', '7'), TARGETS[0], range(44444, 44445))):
            with lab.Capture(filter='udp') as capture:
                done, _ = trace('-n', *QUICK, *options, target)
            self.assertIn('hops 7', done.stdout)
            seen = {int(packet['udp.dstport']) for packet in capture.fields(['udp.dstport'])}
            self.assertLessEqual(seen, set(ports), options)

    def test_tries_are_not_exceeded(self):
        """Router 5 is silent."""
        with lab.Capture(filter='udp and ip[8] == 5') as capture:
            trace('-n', '-q', '2', TARGETS[0])
        self.assertEqual(len(capture.packets()), 2)

    def test_the_path_to_where_routers_balance_stays_one(self):
        with lab.Capture(filter='ip6 and udp') as capture:
            trace('-n', *QUICK, '--flow', '7', TARGETS[1])
        seen = capture.fields(['udp.srcport', 'udp.dstport', 'ipv6.flow'])
        self.assertGreater(len(seen), 6)
        self.assertEqual(len({tuple(packet.values()) for packet in seen}), 1)

    def test_a_deadline_and_a_short_wait(self):
        began = time.monotonic()
        done, _ = trace('-n', '-w', '0.4', '203.0.113.77')
        self.assertLess(time.monotonic() - began, 3)
        self.assertEqual(sorted(addresses(done.stdout)), [1, 2, 3, 4, 6])
        self.assertIn('     Cut short: deadline\n', done.stdout)
        self.assertNotIn('Resume', done.stdout)
        done, seconds = trace('-n', '-W', '0.2', '-q', '2', '203.0.113.77')
        self.assertEqual(len(re.findall('no reply', done.stdout)), 25)
        self.assertIn('Too many hops', done.stdout)
        self.assertLess(seconds, 3)

    def test_exit_status_of_e(self):
        self.assertEqual(trace('-n', *QUICK, '-e', TARGETS[0])[0].returncode, 0)
        self.assertEqual(trace('-n', '-e', '-m', '3', TARGETS[0])[0].returncode, 1)
        self.assertEqual(trace('-n', '-m', '3', TARGETS[0])[0].returncode, 0)

    def test_wrong_words(self):
        for status, *words in ((2, '-y', TARGETS[0]), (2,), (2, TARGETS[0], TARGETS[1]),
                               (2, '--nonsense', TARGETS[0]), (2, '-m'),
                               (1, '-m', '256', TARGETS[0]), (1, '-m', 'x', TARGETS[0]),
                               (1, '-m', '3x', TARGETS[0]), (1, '-l', '28', TARGETS[0]),
                               (1, '-p', '65536', TARGETS[0]), (1, '-q', '0', TARGETS[0]),
                               (1, '-W', '-1', TARGETS[0]), (1, '-w', 'nan', TARGETS[0]),
                               (1, '-f', '0', TARGETS[0]), (1, '-P', 'sctp', TARGETS[0]),
                               (1, '-f', '9', '-m', '5', TARGETS[0]),
                               (1, '--flow', '4294967296', TARGETS[0]),
                               (1, '-I', 'nowhere0', TARGETS[0]), (1, '-s', 'x', TARGETS[0]),
                               (1, '-s', '203.0.113.99', TARGETS[0]),
                               (2, '-4', '-6', TARGETS[0]), (1, '-l', '48', TARGETS[1]),
                               (1, '-6', TARGETS[0]), (1, '-4', TARGETS[1]),
                               (1, TARGETS[0] + '/99999'), (1, TARGETS[0] + '/x'),
                               (1, 'no-such-name.invalid'),
                               (2, '-P', 'icmp', TARGETS[0] + '/80'),
                               (2, '-P', 'icmp', '-p', '80', TARGETS[0]),
                               (1, '-P', 'icmp', '--broker', '/nowhere', TARGETS[0])):
            with self.subTest(words=words):
                done, _ = trace(*words)
                self.assertEqual(done.returncode, status, done)
                self.assertEqual(done.stdout, '')
                self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
                self.assertTrue(done.stderr.startswith('tracepath: '), done.stderr)

    def test_no_route(self):
        lab.run(['ip', 'route', 'add', 'unreachable', '203.0.113.200'])
        done, _ = trace('-n', '203.0.113.200')
        self.assertEqual(done.stdout, ' 1:  send failed\n     Resume: pmtu 65535 \n')
        self.assertEqual(done.stderr.count('\n'), 1)
        self.assertEqual(done.returncode, 1)

    def test_addresses_of_no_host(self):
        for target in '240.0.0.1', '224.0.0.1', '255.255.255.255', '::ffff:198.18.0.2', 'ff02::1':
            done, _ = trace('-n', target)
            self.assertRegex(done.stdout, r'^ 1:  send failed\n     Resume: pmtu \d+ \n$')
            self.assertEqual(done.stderr.count('\n'), 1)
            self.assertNotIn('broker', done.stderr)

    def test_the_names_decide_the_family(self):
        for name, target, status in (('tracepath4', TARGETS[0], 0), ('tracepath6', TARGETS[1], 0),
                                     ('tracepath4', TARGETS[1], 1), ('tracepath6', TARGETS[0], 1)):
            done = lab.run([lab.build(name), '-n', *QUICK, target])
            self.assertEqual(done.returncode, status)
        self.assertEqual(lab.run([lab.build('tracepath6'), '-4', TARGETS[1]]).returncode, 2)

    def test_help_and_version(self):
        done, _ = trace('-h')
        self.assertIn('tracepath [options] <destination>', done.stdout)
        self.assertEqual(done.stderr, '')
        self.assertEqual(done.returncode, 0)
        done, _ = trace('-V')
        self.assertIn('postern', done.stdout)


class Json(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with open(os.path.join(HERE, '..', '..', 'frontend', 'tracepath', 'tracepath.schema.json'), encoding='utf-8') as file:
            cls.schema = json.load(file)
        jsonschema.Draft7Validator.check_schema(cls.schema)

    def document(self, *options):
        done, _ = trace('--json', *options)
        document = json.loads(done.stdout)
        jsonschema.validate(document, self.schema)
        self.assertIn('hops', document)
        return document

    def test_everything_that_routers_tell(self):
        with lab.simnet(internet(5, {2: 'mpls 24001:1:0:1,16005:0:1:255',
                                     3: 'mtu 1400 interface incoming,index=7,name=ge-0/0/1,'
                                        'address=198.18.77.1,mtu=1500', 4: 'silent'},
                                 destination='back 3')):
            for target, family, code in zip(TARGETS, (4, 6), (11, 3)):
                document = self.document('-n', *QUICK, target)
                hops = document['hops']
                self.assertEqual([hop['ttl'] for hop in hops], [1, 2, 3, 4, 5, 6])
                self.assertEqual([hop['outcome'] for hop in hops],
                                 ['router'] * 3 + ['silent', 'router', 'reached'])
                self.assertEqual(hops[1]['mpls'], [
                    {'label': 24001, 'traffic_class': 1, 'bottom_of_stack': False, 'ttl': 1},
                    {'label': 16005, 'traffic_class': 0, 'bottom_of_stack': True, 'ttl': 255}])
                interface = hops[2]['interfaces'][0]
                self.assertEqual((interface['role'], interface['index'], interface['name'],
                                  interface['address'], interface['mtu']),
                                 ('incoming', 7, 'ge-0/0/1', '198.18.77.1', 1500))
                self.assertEqual(hops[0]['icmp'], {'type': code, 'code': 0})
                self.assertEqual(hops[0]['pmtu_events'][0]['mtu'], 1500)
                self.assertTrue(hops[0]['pmtu_events'][0]['local'])
                self.assertEqual(hops[3]['pmtu_events'][0]['mtu'], 1400)
                self.assertTrue(hops[5]['asymmetric'])
                self.assertEqual(hops[5]['back'], 3 + 1)
                self.assertEqual((document['pmtu'], document['hop_count'], document['family'],
                                  document['stop_reason'], document['destination']),
                                 (1400, 6, family, 'reached', target))

    def test_reasons_to_stop(self):
        with lab.simnet(internet(5, {4: 'refuse prohibited'})):
            document = self.document('-n', TARGETS[0])
            self.assertEqual(document['stop_reason'], 'unreachable')
            self.assertEqual(document['hops'][-1]['refusal'], 'prohibited')
            self.assertEqual(self.document('-n', '-m', '2', TARGETS[0])['stop_reason'], 'max-hops')
        with lab.simnet(internet(3, {2: 'mtu 1300'})):
            document = self.document('-n', '-w', '0.3', '203.0.113.9')
            self.assertEqual(document['stop_reason'], 'deadline')
            lab.run(['ip', 'route', 'add', 'unreachable', '203.0.113.200'])
            document = self.document('-n', '203.0.113.200')
            self.assertEqual(document['stop_reason'], 'error')
            self.assertIn('error', document)

    def test_no_trace_is_a_document_too(self):
        with lab.simnet(internet(1)):
            for options in (['no-such-name.invalid'], ['-P', 'icmp', '--broker', '/nowhere',
                                                       TARGETS[0]]):
                document = self.document('-n', *options)
                self.assertEqual((document['stop_reason'], document['pmtu']), ('error', None))
                self.assertGreater(len(document['error']), 5)

    def test_lines_say_the_same(self):
        with lab.simnet(internet(4, {2: 'mtu 1400'})):
            document = self.document('-n', TARGETS[1])
            done, _ = trace('--jsonl', '-n', TARGETS[1])
        events = [json.loads(line) for line in done.stdout.splitlines()]
        for event in events:
            jsonschema.validate(event, self.schema)
        self.assertEqual([event['event'] for event in events],
                         ['start', 'pmtu', 'hop', 'hop', 'pmtu', 'hop', 'hop', 'hop', 'end'])
        self.assertEqual([event['address'] for event in events if event['event'] == 'hop'],
                         [hop['address'] for hop in document['hops']])
        self.assertEqual(events[-1]['pmtu'], document['pmtu'])

    def test_a_destination_with_quotes_in_its_name(self):
        with lab.simnet(internet(2)) as net:
            with open('/etc/hosts', encoding='utf-8') as file:
                hosts = file.read()
            path = lab.scratch('hosts')
            with open(path, 'w', encoding='utf-8') as file:
                file.write(hosts + '\n%s a"b\\c\n' % TARGETS[0])
            if lab.run(['mount', '--bind', path, '/etc/hosts'], ns=None).returncode != 0:
                self.skipTest('no bind mounts here')
            try:
                document = self.document('-n', 'a"b\\c')
            finally:
                lab.run(['umount', '/etc/hosts'], ns=None)
            self.assertEqual(document['destination'], 'a"b\\c')
            del net


class Readers(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.net = lab.simnet(internet(12, every='delay 20ms', destination='delay 20ms'))

    @classmethod
    def tearDownClass(cls):
        lab.reset()

    def start(self, *options, **keywords):
        process = lab.popen([lab.build('tracepath'), *options], stdin=subprocess.DEVNULL,
                            stderr=subprocess.PIPE, **keywords)
        self.addCleanup(process.kill)
        return process

    def test_a_closed_stdout_ends_it_quietly(self):
        began = time.monotonic()
        for close_at_once in True, False:
            process = self.start('-n', '203.0.113.77', stdout=subprocess.PIPE)
            if not close_at_once:
                process.stdout.readline()
            process.stdout.close()
            _, errors = process.communicate(timeout=10)
            self.assertEqual(errors, b'')
            self.assertEqual(process.returncode, 1)
        # A silent destination takes more than three seconds each time: nobody waits for them.
        self.assertLess(time.monotonic() - began, 4)

    def test_no_stdout_at_all(self):
        done = lab.run(['sh', '-c', 'exec "$0" -n "$1" >&-', lab.build('tracepath'), TARGETS[0]])
        self.assertLessEqual(done.stderr.count('\n'), 1)

    def test_a_full_pipe_blocks_the_lines_alone(self):
        """The reader comes late; the round trips must not know."""
        reading, writing = os.pipe()
        fcntl.fcntl(writing, F_SETPIPE_SZ, 4096)
        os.set_blocking(writing, False)
        filler = os.write(writing, b'x' * 65536)
        os.set_blocking(writing, True)
        process = self.start('-n', '--jsonl', TARGETS[0], stdout=writing)
        os.close(writing)
        time.sleep(1.5)
        self.assertIsNone(process.poll())
        with os.fdopen(reading, 'rb') as file:
            output = file.read()[filler:]
        self.assertEqual(process.wait(10), 0)
        events = [json.loads(line) for line in output.splitlines()]
        self.assertEqual(events[-1]['stop_reason'], 'reached')
        slowest = max(rtt for event in events for rtt in event.get('rtt_ms', [])
                      if event['event'] == 'hop')
        self.assertLess(slowest, 1000)

    def test_an_interrupt_shows_what_is_known(self):
        for number in signal.SIGINT, signal.SIGTERM:
            process = self.start('-n', '203.0.113.77', stdout=subprocess.PIPE)
            time.sleep(1.2)
            process.send_signal(number)
            output, errors = process.communicate(timeout=5)
            self.assertEqual(errors, b'')
            self.assertEqual(process.returncode, 0)
            self.assertEqual(sorted(addresses(output.decode())), list(range(1, 13)))
            self.assertTrue(output.endswith(b'     Cut short: interrupted\n'), output)

    def test_lines_come_as_they_become_known(self):
        process = self.start('-n', '203.0.113.77', stdout=subprocess.PIPE)
        began = time.monotonic()
        lines = [process.stdout.readline() for _ in range(13)]
        self.assertIn(b'12:  198.18.11.2', lines[-1])
        self.assertLess(time.monotonic() - began, 2.5)  # of more than three seconds
        self.assertIsNone(process.poll())
        process.kill()
        process.communicate()

    def test_the_broker_and_the_helper_are_gone_afterwards(self):
        process = self.start('-n', TARGETS[0], stdout=subprocess.PIPE)
        process.communicate(timeout=20)
        time.sleep(0.2)
        for pid in filter(str.isdigit, os.listdir('/proc')):
            try:
                with open('/proc/%s/comm' % pid, encoding='utf-8') as file:
                    self.assertNotIn(file.read().strip(), ('postern-broker', 'tracepath', 'postern'))
            except FileNotFoundError:
                pass

    def test_tracepath_and_helper_are_confined(self):
        """With names wanted: the helper asks a server that does not exist. It is the only other
        process."""
        process = self.start('203.0.113.77', stdout=subprocess.PIPE)
        time.sleep(0.8)
        helpers = processes.children(process.pid)
        self.assertEqual(len(helpers), 1)
        for pid in process.pid, helpers[0]:
            status = processes.status(pid)
            self.assertEqual(status['NoNewPrivs'], '1')
            if not processes.sanitized(lab.build('postern')):
                self.assertEqual(status['Seccomp'], '2')
        # The helper has nothing of tracepath's but its end of the channel.
        self.assertLessEqual({0: '/dev/null', 1: '/dev/null', 2: '/dev/null', 3: 'socket:'}.items(),
                             processes.descriptors(helpers[0]).items())
        self.assertLessEqual(set(processes.descriptors(helpers[0]).values()),
                             {'/dev/null', 'socket:'})
        # It ends with tracepath, even where that cannot end it.
        process.kill()
        process.communicate()
        self.assertIsNotNone(processes.gone_within(helpers[0], 2))

    def test_a_broker_that_dies(self):
        process = self.start('-n', '-P', 'icmp', '203.0.113.77', stdout=subprocess.PIPE)
        time.sleep(0.8)
        os.kill(processes.broker_of(process.pid), signal.SIGKILL)
        output, errors = process.communicate(timeout=5)
        self.assertIn(b'     Cut short: ', output)
        self.assertNotIn(b'Resume', output)
        self.assertEqual(errors.count(b'\n'), 1, errors)
        self.assertEqual(process.returncode, 1)

    def test_a_full_disk(self):
        with open('/dev/full', 'w', encoding='utf-8') as full:
            process = self.start('-n', TARGETS[0], stdout=full)
        _, errors = process.communicate(timeout=10)
        self.assertEqual(process.returncode, 1)
        self.assertEqual(errors, b'tracepath: standard output: No space left on device\n')


class NameServer(threading.Thread):
    """Answers PTR questions in namespace `host` on 127.0.0.1, or reads them and sends nothing."""

    def __init__(self, answers=True):
        super().__init__(daemon=True)
        self.answers = answers
        self.asked = []
        self.socket = None
        self.process = None

    def __enter__(self):
        lab.run(['ip', 'link', 'set', 'lo', 'up'])
        program = ('import socket, struct, sys\n'
                   's = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n'
                   's.bind(("127.0.0.1", 53))\n'
                   'print("ready", flush=True)\n'
                   'while True:\n'
                   '    question, peer = s.recvfrom(512)\n'
                   '    labels, at = [], 12\n'
                   '    while question[at]:\n'
                   '        labels.append(question[at + 1:at + 1 + question[at]].decode())\n'
                   '        at += 1 + question[at]\n'
                   '    print(".".join(labels), flush=True)\n'
                   '    if sys.argv[1] == "silent":\n'
                   '        continue\n'
                   '    name = b"".join(bytes([len(l)]) + l for l in\n'
                   '                    (b"r" + "-".join(labels[:4]).encode(), b"example"))\n'
                   '    s.sendto(question[:2] + struct.pack(">HHHHH", 0x8180, 1, 1, 0, 0) +\n'
                   '             question[12:at + 5] + b"\\xc0\\x0c" +\n'
                   '             struct.pack(">HHIH", 12, 1, 60, len(name) + 1) + name + b"\\0",\n'
                   '             peer)\n')
        self.process = lab.popen([sys.executable, '-c', program,
                                  'answers' if self.answers else 'silent'],
                                 stdout=subprocess.PIPE, text=True)
        self.process.stdout.readline()
        self.start()
        path = lab.scratch('resolv.conf')
        with open(path, 'w', encoding='utf-8') as file:
            file.write('nameserver 127.0.0.1\n')
        done = lab.run(['mount', '--bind', path, '/etc/resolv.conf'], ns=None)
        if done.returncode != 0:
            self.end()
            raise unittest.SkipTest('no bind mounts here: ' + done.stderr.strip())
        return self

    def run(self):
        for line in self.process.stdout:
            self.asked.append(line.strip())

    def end(self):
        self.process.kill()
        self.process.wait()

    def __exit__(self, *_):
        lab.run(['umount', '/etc/resolv.conf'], ns=None)
        self.end()


class Names(unittest.TestCase):
    def test_names_are_shown_and_each_asked_once(self):
        with lab.linux_chain(5, mtus={2: 1400}) as net, NameServer() as server:
            theirs = lab.run_all([['tracepath', '-b', net.destination4],
                                  ['tracepath', net.destination6]])
            before = len(server.asked)
            done, seconds = trace('-b', net.destination4)
            self.assertEqual(tracepath_lines.difference(theirs[0].stdout, done.stdout), '')
            self.assertEqual(len(server.asked) - before, 6, server.asked[before:])
            self.assertLess(seconds, 1)
            done, _ = trace(net.destination6)
            self.assertEqual(tracepath_lines.difference(theirs[1].stdout, done.stdout), '')
            done, _ = trace('--json', net.destination4)
            document = json.loads(done.stdout)
            self.assertEqual(document['hops'][0]['name'], 'r2-0-18-198.example')

    def test_a_server_that_never_answers_delays_lines_by_a_second(self):
        with lab.linux_chain(12) as net, NameServer(answers=False) as server:
            done, seconds = trace('--jsonl', net.destination4)
            self.assertLess(seconds, 3)
            self.assertGreater(len(server.asked), 0)
            events = [json.loads(line) for line in done.stdout.splitlines()]
            self.assertEqual(events[-1]['hop_count'], 13)
            # The probes did not wait: their times are those of the wire.
            self.assertLess(max(max(e['rtt_ms']) for e in events if e['event'] == 'hop'), 200)
            before = len(server.asked)
            done, seconds = trace('-w', '0.2', net.destination4)
            self.assertLess(seconds, 0.8)
            self.assertIn('hops 13 back 13', done.stdout)
            before = len(server.asked)
            done, seconds = trace('-n', net.destination4)
            self.assertLess(seconds, 0.8)
            self.assertEqual(len(server.asked), before)

    def test_an_interrupt_while_only_names_are_awaited_shows_the_trace(self):
        with lab.linux_chain(3) as net, NameServer(answers=False):
            process = lab.popen([lab.build('tracepath'), net.destination4], stdout=subprocess.PIPE)
            time.sleep(0.4)
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=5)
            self.assertEqual(sorted(addresses(output.decode())), [1, 2, 3, 4])
            self.assertTrue(output.endswith(b'     Resume: pmtu 1500 hops 4 back 4 \n'), output)


if __name__ == '__main__':
    lab.enter()
    tap.main()
