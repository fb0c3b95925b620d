#!/usr/bin/env python3
"""Our tracepath and iputils' on the same paths, both families: the same hops, path MTU events and
summary, in a fraction of the time. time-limit: 300

RANDOM_PATHS=N asks for N random paths instead of a few, FIRST_SEED=N for others."""
import os
import re
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lab'))
import lab  # noqa: E402
import tap  # noqa: E402
import tracepath_lines  # noqa: E402

RANDOM_PATHS = int(os.environ.get('RANDOM_PATHS', '4'))
FIRST_SEED = int(os.environ.get('FIRST_SEED', '1'))


class Same(unittest.TestCase):
    maxDiff = None

    def check(self, net, *options, targets=None):
        results = tracepath_lines.both(net, *options, targets=targets)
        for target, theirs, _, ours, _ in results:
            with self.subTest(target=target):
                self.assertEqual(tracepath_lines.difference(theirs, ours), '')
        return results

    def test_thirty_hops_with_silent_routers_and_two_smaller_mtus(self):
        """Numbered as links, the tenth lies behind router 9, the twentieth behind router 19."""
        with lab.linux_chain(29, mtus={9: 1400, 19: 1300}, silent=[5, 6, 7, 12, 20]) as net:
            for target, _, slow, ours, fast in self.check(net):
                tap.note('%s: iputils %.1f s, ours %.3f s' % (target, slow, fast))
                self.assertIn('Resume: pmtu 1300 hops 30 back 30 ', ours)
                self.assertEqual(ours.count('no reply'), 5)
                # The goal is 0.3 s on a machine with nothing else to do.
                self.assertLess(fast, 1.5)

    def test_random_paths(self):
        for seed in range(FIRST_SEED, FIRST_SEED + RANDOM_PATHS):
            chain, options = tracepath_lines.random_chain(seed)
            with lab.linux_chain(**chain) as net:
                results = tracepath_lines.both(net, *options)
            for target, theirs, slow, ours, fast in results:
                with self.subTest(seed=seed, target=target, chain=chain, options=options):
                    self.assertEqual(tracepath_lines.difference(theirs, ours), '')
            tap.note('path %d: iputils %.1f s, ours %.3f and %.3f s' %
                     (seed, results[0][2], results[0][4], results[1][4]))

    def test_own_addresses_and_loopback(self):
        with lab.linux_chain(1) as net:
            self.check(net, targets=[net.source4, '127.0.0.1'])
            self.check(net, targets=[net.source6, '::1'])
            self.check(net, targets=['0.0.0.0', '::'])
            self.check(net, '-m', '0', targets=[net.destination4, net.destination6])

    def test_a_link_local_destination(self):
        with lab.linux_chain(1) as net:
            shown = lab.run(['ip', '-6', 'addr', 'show', 'dev', 'left'], ns='r1').stdout
            target = re.search(r'inet6 (fe80\S+)/', shown).group(1) + '%' + net.device
            self.check(net, targets=[target])

    def test_a_destination_that_sends_data(self):
        with lab.simnet('hop address 198.18.0.2,2001:db8::2\n'
                        'dest 203.0.113.1 on udp=data\ndest 2001:db8:ff::1 on udp=data\n') as net:
            self.check(net, targets=['203.0.113.1', '2001:db8:ff::1'])

    def test_every_refusal(self):
        for kind in ('net-unreachable', 'host-unreachable', 'port-unreachable', 'prohibited'):
            with lab.simnet('hop address 198.18.0.2,2001:db8::2\n'
                            'hop address 198.18.1.2,2001:db8:1::2\n'
                            'hop address 198.18.2.2,2001:db8:2::2 refuse %s\n'
                            'dest 203.0.113.1\ndest 2001:db8:ff::1\n' % kind) as net:
                self.check(net, targets=['203.0.113.1', '2001:db8:ff::1'])

    def test_answers_from_far_away_systems(self):
        """Every initial TTL, and ways back of another length."""
        with lab.simnet('hop address 198.18.0.2,2001:db8::2 ttl 64\n'
                        'hop address 198.18.1.2,2001:db8:1::2 ttl 128 back 4\n'
                        'hop address 198.18.2.2,2001:db8:2::2 ttl 255 back 9\n'
                        'hop address 198.18.3.2,2001:db8:3::2 ttl 60\n'
                        'dest 203.0.113.1 ttl 128 back 2\n'
                        'dest 2001:db8:ff::1 ttl 255\n') as net:
            self.check(net, targets=['203.0.113.1', '2001:db8:ff::1'])


if __name__ == '__main__':
    lab.enter()
    tap.main()
