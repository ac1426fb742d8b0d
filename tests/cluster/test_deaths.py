"""What dies, or stands still, beside a run: its owner, its node, the scheduler. Nothing hangs, and the rest goes on."""

import asyncio
import os
import signal
import subprocess
import sys
import time

import pytest

from supervisor import Ask, EscalationPolicy, Inject, Kill, Supervisor, WorkerDied

from ..programs import ROOT
from ..waiting import until
from . import functions as f
from .nodes import NURSED, is_alive, until_dead

LEASE = 1
FAST = EscalationPolicy(Ask(0.1), Inject(1, every=0.1))
HARD = EscalationPolicy(Ask(0.1), Kill())

OVER = LEASE + 0.2 + 1.1 + 1
"""Seconds after which nothing is left: the lease, the moment for which it is asked for again, the ladder, and slack."""

OTHER_OWNER = """
import asyncio, sys
from pathlib import Path
from tests.cluster import functions as f
from tests.cluster.test_deaths import FAST, HARD, LEASE
from supervisor import Supervisor

async def main(address, folder):
    async with Supervisor("other", cluster=address, cluster_lease=LEASE) as sup:
        thread = sup.run(f.spin_at, folder / "other-thread", on="cluster", policy=FAST)
        process = sup.run(f.spin_at, folder / "other-process", on="cluster", kind="process", policy=HARD)
        await asyncio.gather(thread, process)

asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
"""

FORKING_OWNER = """
import asyncio, os, sys, time, warnings
from pathlib import Path
from tests.cluster import functions as f
from tests.cluster.test_deaths import FAST, LEASE
from supervisor import Supervisor

async def main(address, folder):
    async with Supervisor("forking", cluster=address, cluster_lease=LEASE) as sup:
        beside = asyncio.ensure_future(sup.run(f.wait_at, folder / "beside", 3 * LEASE, on="cluster"))
        spins = asyncio.ensure_future(sup.run(f.spin_at, folder / "spins", on="cluster", policy=FAST))
        while not (folder / "spins.beat").exists():
            await asyncio.sleep(0.01)
        for end in ("returns", "stays"):
            if os.fork() == 0:
                try:
                    sup.run(f.pid, on="cluster").send(None)
                except BaseException as error:
                    (folder / f"child-{end}").write_text(f"{os.getpid()} {type(error).__name__}")
                else:
                    (folder / f"child-{end}").write_text(f"{os.getpid()} nothing")
                if end == "stays":
                    time.sleep(600)
                sys.exit()  # with all that an interpreter does at its end
            while not (folder / f"child-{end}").exists():
                await asyncio.sleep(0.01)
        print(await beside, flush=True)
        print(await sup.run(f.give_back, "again", on="cluster"), flush=True)
        await spins

asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
"""


def start_owner(code, address, folder):
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code, address, str(folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def beat(path):
    return path.with_suffix(".beat").stat().st_mtime_ns


async def until_silent(path, seconds):
    """Waits until a run says no more that it goes on."""
    began, last = time.monotonic(), beat(path)
    changed = began
    while time.monotonic() - changed < 0.3:
        await asyncio.sleep(0.02)
        if (now := beat(path)) != last:
            last, changed = now, time.monotonic()
        assert time.monotonic() - began < seconds, "it goes on"
    return changed - began


async def spinning(sup, path, kind="thread", **options):
    policy = FAST if kind == "thread" else HARD
    task = asyncio.ensure_future(sup.run(f.spin_at, path, on="cluster", kind=kind, policy=policy, **options))
    await until(path.with_suffix(".beat").exists)
    return task


async def again(sup, **options):
    """What a call returns, once a node takes it."""
    while True:
        try:
            return await sup.run(f.give_back, "again", on="cluster", **options)
        except (ConnectionError, WorkerDied):
            await asyncio.sleep(0.1)


# ------------------------------------------------------------------------------------------------ owners


async def test_of_two_owners_one_dies_and_the_other_goes_on(three, tmp_path):
    async with Supervisor(cluster=three.address, cluster_lease=LEASE) as sup:
        mine = await spinning(sup, tmp_path / "mine")
        with start_owner(OTHER_OWNER, three.address, tmp_path) as owner:
            for name in ("other-thread", "other-process"):
                await until((tmp_path / f"{name}.beat").exists)
            owner.kill()
        for name in ("other-thread", "other-process"):
            await until_silent(tmp_path / name, OVER + 1)
        until_dead(int((tmp_path / "other-process").read_text()), 1)
        before = beat(tmp_path / "mine")
        await until(lambda: beat(tmp_path / "mine") != before)
        assert not mine.done()
        assert await sup.run(f.give_back, "again", on="cluster") == "again"
        mine.cancel()
        await asyncio.wait([mine])


async def test_an_owner_that_forks_goes_on_and_its_copies_keep_nothing_alive(three, tmp_path):
    with start_owner(FORKING_OWNER, three.address, tmp_path) as owner:
        try:
            line = await asyncio.to_thread(owner.stdout.readline)
            assert line == "beside\n", owner.stderr.read()
            assert await asyncio.to_thread(owner.stdout.readline) == "again\n"
            returned, stays = ((tmp_path / f"child-{end}").read_text().split() for end in ("returns", "stays"))
            assert returned[1] == stays[1] == "SupervisorMisused"
            assert is_alive(int(stays[0]))
            owner.kill()
            await until_silent(tmp_path / "spins", OVER + 1)
        finally:
            owner.kill()
            if (tmp_path / "child-stays").exists():  # it has the owner's pipes
                os.kill(int((tmp_path / "child-stays").read_text().split()[0]), signal.SIGKILL)


# ------------------------------------------------------------------------------------------------ nodes


async def test_a_node_that_stood_still_for_longer_than_its_lease_ends_what_it_had_and_is_used_again(nodes, tmp_path):
    nodes.add("a")
    async with Supervisor(cluster=nodes.address, cluster_lease=LEASE) as sup:
        task = await spinning(sup, tmp_path / "run")
        nodes.nodes["a"].kill(signal.SIGSTOP)
        with pytest.raises(WorkerDied, match="with its node 'a'"):
            await asyncio.wait_for(task, 20)
        waiting = asyncio.ensure_future(sup.run(f.give_back, "again", on="cluster"))
        await asyncio.sleep(LEASE)
        nodes.nodes["a"].kill(signal.SIGCONT)
        await until_silent(tmp_path / "run", OVER)
        assert await asyncio.wait_for(waiting, 30) == "again"


async def test_processes_of_a_node_that_stands_still_end_before_they_count_as_ended(nodes, tmp_path):
    """Nobody there can end them: they end by themselves, with what they have started."""
    nodes.add("a")
    async with Supervisor(cluster=nodes.address, cluster_lease=LEASE) as sup:
        task = asyncio.ensure_future(
            sup.run(f.spin_with_a_child, tmp_path / "run", on="cluster", kind="process", policy=HARD)
        )
        await until((tmp_path / "run.beat").exists)
        await asyncio.sleep(2 * LEASE)
        assert not task.done()
        pids = [int((tmp_path / name).read_text()) for name in ("run", "run.child")]
        nodes.nodes["a"].kill(signal.SIGSTOP)
        with pytest.raises(WorkerDied, match="with its node 'a'"):
            await asyncio.wait_for(task, 20)
        assert [pid for pid in pids if is_alive(pid)] == []
        nodes.nodes["a"].kill(signal.SIGCONT)
        assert await asyncio.wait_for(again(sup, kind="process"), 30) == "again"


async def test_a_process_of_a_node_that_stood_still_for_less_than_its_lease_goes_on(nodes, tmp_path):
    nodes.add("a")
    async with Supervisor(cluster=nodes.address, cluster_lease=4) as sup:
        task = asyncio.ensure_future(sup.run(f.wait_at, tmp_path / "run", 7, on="cluster", kind="process"))
        await until((tmp_path / "run").exists)
        nodes.nodes["a"].kill(signal.SIGSTOP)
        await asyncio.sleep(2)
        nodes.nodes["a"].kill(signal.SIGCONT)
        assert await asyncio.wait_for(task, 20) == "run"


async def test_a_node_that_is_started_again_by_its_nanny_is_used_again(nodes, kind, tmp_path):
    nodes.add("a", code=NURSED)
    async with Supervisor(cluster=nodes.address, cluster_lease=LEASE) as sup:
        pid, parent = await sup.run(f.pids, on="cluster", kind=kind)
        node = pid if kind == "thread" else parent
        task = await spinning(sup, tmp_path / "run", kind)
        os.kill(node, signal.SIGKILL)
        with pytest.raises(WorkerDied, match="with its node 'a'"):
            await asyncio.wait_for(task, 20)
        until_dead(int((tmp_path / "run").read_text()), 1)
        assert await asyncio.wait_for(again(sup), 60) == "again"
        assert node not in await sup.run(f.pids, on="cluster", kind=kind)


# ------------------------------------------------------------------------------------------------ schedulers


async def test_a_scheduler_that_is_started_again_at_its_address_is_found(nodes, kind, tmp_path):
    nodes.add("a")
    async with Supervisor(cluster=nodes.address, cluster_lease=LEASE) as sup:
        task = await spinning(sup, tmp_path / "run", kind)
        await asyncio.to_thread(nodes.replace_scheduler)
        nodes.add("b")
        with pytest.raises(WorkerDied) as died:  # its node ends, and with that all that it has, by its ladder
            await asyncio.wait_for(task, 60)
        assert died.value.outcome.node == "a"
        assert await asyncio.wait_for(again(sup, nodes="b"), 60) == "again"
        await until_silent(tmp_path / "run", 1)


async def test_a_scheduler_that_is_gone_for_good_hangs_nobody(nodes, kind, tmp_path):
    nodes.add("a")
    async with Supervisor(cluster=nodes.address, cluster_lease=LEASE, shutdown_timeout=5) as sup:
        task = await spinning(sup, tmp_path / "run", kind)
        nodes.scheduler.kill()
        with pytest.raises(WorkerDied) as died:  # its node ends, and with that all that it has, by its ladder
            await asyncio.wait_for(task, 60)
        assert died.value.outcome.node == "a"
        with pytest.raises(ConnectionError, match=r"scheduler at .* cannot be reached"):
            await asyncio.wait_for(sup.run(f.pid, on="cluster"), 20)
        await until_silent(tmp_path / "run", 1)
        began = time.monotonic()
        await sup.shutdown()
        assert time.monotonic() - began < 2
