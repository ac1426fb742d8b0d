"""A KeyboardInterrupt in the owner's loop, at every line of what is there for its cluster, loses no end of a run."""

import asyncio
import sys

import pytest

from supervisor import Ask, EscalationPolicy, Inject, Supervisor, WorkerDied, WorkerStopped

from ..inside_cluster import (
    WHEN_A_NODE_IS_LOST,
    WHEN_RUNS_ON_NODES_ARE_STOPPED,
    WHEN_RUNS_ON_NODES_END,
    WHEN_WHAT_WAITS_IS_REFUSED,
    lose_nodes,
    refuse,
)
from ..runtime.striking import LIMIT, strike_everywhere
from . import functions as f

FAST = EscalationPolicy(Ask(0.05), Inject(5, every=0.1))


async def there(*paths):
    for path in paths:
        await f.until_there(path)


def calls_wait_begin_and_end(address, folder):
    async def scenario(striker):
        sup = Supervisor("struck", cluster=address)
        lane = sup.pool("lane", kind="thread", on="cluster", size=2, max_tasks=100)
        release, own = folder / f"release-{striker.strike_at}", folder / f"own-{striker.strike_at}"
        own.mkdir()
        calls = [asyncio.create_task(lane.run(f.hold, own, release)) for _ in range(5)]
        calls.append(asyncio.create_task(sup.run(f.fail, "meant", on="cluster", nodes=["a", "b"])))
        while len(list(own.iterdir())) < 2:
            await asyncio.sleep(0.001)
        sys.settrace(striker.trace)
        release.touch()
        done, pending = await asyncio.wait(calls, timeout=LIMIT)
        sys.settrace(None)
        assert not pending, f"struck in {striker.struck}: {len(pending)} never resolved"
        assert len(list(own.iterdir())) == 5, f"struck in {striker.struck}: not each was run once"
        assert [type(call.exception()) for call in calls] == [type(None)] * 5 + [ValueError], striker.struck
        report = await asyncio.wait_for(sup.shutdown(), LIMIT)
        assert report.counts() == {}, f"struck in {striker.struck}"
        return len(done)

    return scenario


def a_shutdown_stops_them(address, folder):
    async def scenario(striker):
        sup = Supervisor("struck", cluster=address, policy=FAST, shutdown_timeout=LIMIT)
        paths = [folder / f"{striker.strike_at}-{number}" for number in range(3)]
        calls = [asyncio.create_task(sup.run(f.until_stopped, path, on="cluster")) for path in paths[:2]]
        calls.append(asyncio.create_task(sup.run(f.spins, paths[2], on="cluster")))
        await there(*paths)
        sys.settrace(striker.trace)
        asyncio.get_running_loop().call_soon(sup.request_shutdown)
        done, pending = await asyncio.wait(calls, timeout=LIMIT)
        report = await asyncio.wait_for(sup.wait_closed(), LIMIT)
        sys.settrace(None)
        assert not pending, f"struck in {striker.struck}: {len(pending)} never resolved"
        assert report.counts() == {"stopped": 2, "injected": 1}, f"struck in {striker.struck}"
        assert [type(call.exception()) for call in calls] == [type(None)] * 2 + [WorkerStopped], striker.struck
        return len(done)

    return scenario


def all_nodes_are_lost(address, folder):
    async def scenario(striker):
        sup = Supervisor("struck", cluster=address, policy=FAST, shutdown_timeout=LIMIT)
        paths = [folder / f"{striker.strike_at}-{number}" for number in range(2)]
        calls = [asyncio.create_task(sup.run(f.until_stopped, path, on="cluster")) for path in paths]
        await there(*paths)
        sys.settrace(striker.trace)
        lose_nodes(sup)
        done, pending = await asyncio.wait(calls, timeout=LIMIT)
        sys.settrace(None)
        assert not pending, f"struck in {striker.struck}: {len(pending)} never resolved"
        assert [type(call.exception()) for call in calls] == [WorkerDied] * 2, striker.struck
        await asyncio.wait_for(sup.shutdown(), LIMIT)
        return len(done)

    return scenario


def all_nodes_are_lost_for_good(address, folder):
    async def scenario(striker):
        sup = Supervisor("struck", cluster=address, policy=FAST, shutdown_timeout=LIMIT)
        await sup.run(f.pid, on="cluster")
        calls = [asyncio.create_task(sup.run(f.pid, on="cluster", nodes=nodes)) for nodes in (["none"], ["no"], "none")]
        await asyncio.sleep(0)
        sys.settrace(striker.trace)
        refuse(sup)
        done, pending = await asyncio.wait(calls, timeout=LIMIT)
        sys.settrace(None)
        assert not pending, f"struck in {striker.struck}: {len(pending)} never resolved"
        assert [type(call.exception()) for call in calls] == [ConnectionError] * 3, striker.struck
        report = await asyncio.wait_for(sup.shutdown(), LIMIT)
        assert report.counts() == {}, f"struck in {striker.struck}"
        return len(done)

    return scenario


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(
    ("scenario", "where"),
    [
        (calls_wait_begin_and_end, WHEN_RUNS_ON_NODES_END),
        (a_shutdown_stops_them, WHEN_RUNS_ON_NODES_ARE_STOPPED),
        (all_nodes_are_lost, WHEN_A_NODE_IS_LOST),
        (all_nodes_are_lost_for_good, WHEN_WHAT_WAITS_IS_REFUSED),
    ],
)
def test_an_interrupt_at_any_line_loses_nothing(three, tmp_path, scenario, where):
    strike_everywhere(scenario(three.address, tmp_path), where, often=2)
