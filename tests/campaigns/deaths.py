"""Random deaths on a real cluster under load: of nodes, schedulers, owners and workers.

A module of its own, to be run for as many deaths as one likes: `python -m tests.campaigns.deaths FIRST LAST`, of which
each number is a round of ten. It prints one line of JSON.
"""

import asyncio
import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from ..cluster.nodes import Nodes, is_alive
from ..programs import ROOT

LEASE = 1.0
LADDER = 1.2
DEATHS = 10
SETTLED = 2 * LEASE + LADDER
"""Seconds after which nothing is left of who has died."""

OWNER = """
import asyncio, sys
from pathlib import Path
from tests.campaigns.deaths import load
asyncio.run(load(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
"""


async def load(address, folder, name):
    """What an owner does, in a process of its own: 24 calls at a time, until its input ends, and a line for each."""
    from supervisor import Ask, EscalationPolicy, Inject, Kill, Supervisor  # noqa: PLC0415

    from ..cluster import functions as f  # noqa: PLC0415

    policy = EscalationPolicy(Ask(0.1), Inject(1, every=0.1), Kill(grace=0.1))
    dice = random.Random(name)
    numbers = itertools.count()
    ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

    async def caller(sup):
        while not ended.done():
            call = f"{name}-{next(numbers)}"
            print("\nasked", call, flush=True)
            do, kind = dice.choice((f.wait_once, f.spin_once)), dice.choice(("thread", "process"))
            try:
                await sup.run(do, folder / call, dice.uniform(0, 0.4), on="cluster", kind=kind, policy=policy)
                how = "returned"
            except Exception as error:
                how = type(error).__name__
                await asyncio.sleep(0.05)
            print("\nended", call, how, flush=True)

    async with Supervisor(cluster=address, cluster_lease=LEASE, shutdown_timeout=5) as sup:
        await asyncio.gather(*(caller(sup) for _ in range(24)))
    print("left", flush=True)


class Owner:
    """An owner's process, and what it has said."""

    def __init__(self, address, folder, name):
        self.said = (folder / f"{name}.said.txt").open("w+")
        self.errors = (folder / f"{name}.errors").open("w+")
        self.killed = False
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", OWNER, address, str(folder / "runs"), name],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=self.said,
            stderr=self.errors,
        )

    def lines(self):
        self.said.seek(0)
        return [line.split() for line in self.said.read().splitlines()]

    def kill(self):
        self.killed = True
        self.process.kill()
        self.process.wait()

    def leave(self, seconds=60):
        """Ends it; returns whether it has ended by itself."""
        self.process.stdin.close()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return False
        return True


class Round:
    """Ten deaths, one after the other, on a cluster of three nodes with two owners."""

    def __init__(self, seed):
        self.dice = random.Random(seed)
        self.deaths, self.hows = Counter(), Counter()
        self.wrong = []
        self.names = itertools.count()
        self.entered = 0
        self.settled = 0.0

    def run(self):
        with tempfile.TemporaryDirectory(prefix="sl-deaths-") as folder, Nodes() as nodes:
            self.folder, self.nodes = Path(folder), nodes
            (self.folder / "runs").mkdir()
            for _ in range(3):
                self.add_node()
            nodes.wait()
            owners = [self.new_owner(), self.new_owner()]
            self.owners = list(owners)
            for _ in range(DEATHS):
                self.wait_for_runs()
                time.sleep(self.dice.uniform(0, 0.5))
                death = self.dice.choice(("node", "node", "worker", "worker", "worker", "owner", "owner", "scheduler"))
                if getattr(self, f"kill_{death}")():
                    self.deaths[death] += 1
            self.wait_for_runs()
            for owner in self.owners:
                if not owner.killed and not owner.leave():
                    owner.errors.seek(0)
                    self.wrong.append(f"an owner hangs: {owner.errors.read()[-2000:]}")
            self.settle()
            self.judge()

    def wait_for_runs(self):
        """Waits until there is load again."""
        before, began = self.begun(), time.monotonic()
        while self.begun() < before + 20:
            if time.monotonic() - began > 60:
                self.wrong.append("nothing runs any more")
                return
            time.sleep(0.02)

    def begun(self):
        return sum(1 for _ in (self.folder / "runs").iterdir())

    def add_node(self):
        self.nodes.add(f"n{next(self.names)}", nthreads=4)

    def new_owner(self):
        return Owner(self.nodes.address, self.folder, f"o{next(self.names)}")

    def kill_node(self):
        name = self.dice.choice(sorted(self.nodes.nodes))
        self.nodes.nodes.pop(name).abandon()
        self.add_node()
        return True

    def kill_worker(self):
        nodes = self.node_pids()
        pids = {pid for pid in self.pids() if pid not in nodes and is_alive(pid)}
        for pid in self.dice.sample(sorted(pids), min(1, len(pids))):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return bool(pids)

    def kill_owner(self):
        owner = self.dice.choice([owner for owner in self.owners if not owner.killed])
        owner.kill()
        self.owners.append(self.new_owner())
        return True

    def kill_scheduler(self):
        self.nodes.replace_scheduler()
        for _ in range(3):
            self.add_node()
        return True

    def node_pids(self):
        return {node.pid for node in (*self.nodes.nodes.values(), *self.nodes.left_behind)}

    def pids(self):
        """Returns the processes of all runs, of threads their nodes'."""
        found = set()
        for path in (self.folder / "runs").iterdir():
            text = path.read_text()
            if text.isdigit():
                found.add(int(text))
        return found

    def settle(self):
        """Waits until no process is left but the nodes."""
        left = self.pids() - self.node_pids()
        began = time.monotonic()
        while left := {pid for pid in left if is_alive(pid)}:
            if time.monotonic() - began > 20:
                self.wrong.append(f"left: {left}")
                break
            time.sleep(0.02)
        self.settled = time.monotonic() - began
        if self.settled > SETTLED:
            self.wrong.append(f"it took {self.settled:.1f} s until nothing was left")

    def judge(self):
        paths = list((self.folder / "runs").iterdir())
        self.entered = sum(path.suffix == "" for path in paths)
        self.wrong += [f"run twice: {path.name}" for path in paths if path.suffix == ".twice"]
        for owner in self.owners:
            lines = owner.lines()
            asked = {line[1] for line in lines if line[:1] == ["asked"]}
            ended = {line[1]: line[2] for line in lines if line[:1] == ["ended"]}
            self.hows.update(ended.values())
            if not owner.killed and asked - set(ended):
                self.wrong.append(f"unresolved: {sorted(asked - set(ended))}")


def campaign(first, last):
    """Returns the figures of so many rounds."""
    deaths, hows, wrong, entered, settled = Counter(), Counter(), {}, 0, 0.0
    for seed in range(first, last):
        one = Round(seed)
        one.run()
        deaths.update(one.deaths)
        hows.update(one.hows)
        entered += one.entered
        settled = max(settled, one.settled)
        if one.wrong:
            wrong[seed] = one.wrong
        print(seed, dict(one.deaths), dict(one.hows), one.wrong, file=sys.stderr, flush=True)
    return {
        "deaths": sum(deaths.values()),
        "of": dict(deaths),
        "runs": entered,
        "calls": dict(hows),
        "settled": round(settled, 2),
        "wrong": wrong,
    }


if __name__ == "__main__":
    print(json.dumps(campaign(int(sys.argv[1]), int(sys.argv[2]))))
