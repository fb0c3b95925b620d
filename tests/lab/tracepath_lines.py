"""iputils' tracepath and ours on the same network: runs them, and takes from their output what may
differ (times, and lines that iputils repeats after the MTU changed)."""
import difflib
import random
import re
import time

import lab

IPUTILS = 'tracepath'
TIME = re.compile(r' *\d+\.\d{3}ms')


def merged(output):
    """The lines without times, repeated ones once."""
    lines = [TIME.sub(' TIME', line) for line in output.splitlines()]
    return [line for i, line in enumerate(lines) if i == 0 or line != lines[i - 1]]


def both(net, *options, targets=None):
    """Returns [(target, iputils' output, seconds, our output, seconds)], IPv4 first. iputils goes
    first, both families at once: what it learns about the path MTU the kernel keeps and would tell
    it the next time, and it is slow."""
    targets = targets or (net.destination4, net.destination6)
    began = time.monotonic()
    theirs = lab.run_all([[IPUTILS, '-n', *options, target] for target in targets], timeout=170)
    took = time.monotonic() - began
    results = []
    for target, done in zip(targets, theirs):
        began = time.monotonic()
        ours = lab.run([lab.build('tracepath'), '-n', *options, target], timeout=60)
        results.append((target, done.stdout, took, ours.stdout, time.monotonic() - began))
    return results


def difference(theirs, ours):
    """Empty if they are the same."""
    return '\n'.join(difflib.unified_diff(merged(theirs), merged(ours), 'iputils', 'ours',
                                          lineterm='', n=100))


def random_chain(seed, most_routers=9):
    """Arguments for lab.linux_chain and options for tracepath: a path as they come, but short enough
    for iputils, which takes three seconds for a silent hop."""
    dice = random.Random(seed)
    n = dice.randint(1, most_routers)
    routers = range(1, n + 1)
    chain = {'n_routers': n, 'mtus': {}, 'unreachable': {}, 'detours': {}}
    chain['silent'] = dice.sample(routers, min(n, dice.choice((0, 0, 0, 1, 1, 2))))
    mtu = 1500
    for link in range(0, n + 1):
        # A smaller MTU behind a silent router is a black hole: tested elsewhere, iputils finds none.
        if dice.random() < 0.3 and link not in chain['silent']:
            mtu = dice.randint(1280, mtu)
        chain['mtus'][link] = mtu
    if dice.random() < 0.3:
        # One that refuses and is silent is silence for iputils and for us.
        at = dice.choice(routers)
        chain['unreachable'][at] = dice.choice(('unreachable', 'prohibit'))
    if dice.random() < 0.3 and n > 1:
        chain['detours'][dice.randint(2, n)] = dice.randint(1, 3)
    chain['silent_destination'] = dice.random() < 0.15
    options = []
    if chain['silent_destination'] or set(chain['unreachable']) & set(chain['silent']):
        options = ['-m', str(n + 2)]
    elif dice.random() < 0.2:
        options = ['-m', str(dice.randint(1, n + 1))]
    if dice.random() < 0.2:
        options += ['-l', str(dice.randint(1280, 2000))]
    return chain, options
