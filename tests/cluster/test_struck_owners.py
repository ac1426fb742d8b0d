"""A KeyboardInterrupt at each line of what the owner's loop has of a cluster, whose nodes are fakes: no run is lost."""

import asyncio
import sys

import pytest

from supervisor import Supervisor, WorkerDied, WorkerStopped

from ..inside_cluster import (
    WHEN_A_NODE_IS_LOST,
    WHEN_RUNS_ON_NODES_ARE_GIVEN_UP,
    WHEN_RUNS_ON_NODES_ARE_STOPPED,
    WHEN_RUNS_ON_NODES_END,
    WHEN_WHAT_WAITS_IS_REFUSED,
    link_of,
    link_with,
)
from ..runtime.striking import LIMIT, strike_everywhere
from . import functions as f
from .fake_link import FakeLink


async def linked(**options):
    """Returns a supervisor that has used its cluster, and its link."""
    sup = Supervisor(cluster="tcp://fake:1", **{"shutdown_timeout": LIMIT, **options})
    await sup.run(f.pid, on="cluster")
    link = link_of(sup)
    link.begun.clear()
    return sup, link


async def turns(condition):
    while not condition():
        await asyncio.sleep(0)


async def calls_wait_begin_and_end(striker):
    sup, link = await linked()
    link.holds = True
    lane = sup.pool("lane", kind="thread", on="cluster", max_tasks=100)
    calls = [asyncio.ensure_future(lane.run(f.pid)) for _ in range(4)]
    calls.append(asyncio.ensure_future(sup.run(f.fail, "meant", on="cluster", nodes=["b"])))
    await turns(lambda: len(link.begun) == 2)
    sys.settrace(striker.trace)
    asyncio.get_running_loop().call_soon(link.let_go)
    done, pending = await asyncio.wait(calls, timeout=LIMIT)
    sys.settrace(None)
    assert not pending, f"struck in {striker.struck}: {len(pending)} never resolved"
    assert len(link.begun) == len(set(link.begun)) == 5, f"struck in {striker.struck}: not each was run once"
    assert [type(call.exception()) for call in calls] == [type(None)] * 4 + [ValueError], striker.struck
    report = await asyncio.wait_for(sup.shutdown(), LIMIT)
    assert report.counts() == {}, f"struck in {striker.struck}"
    assert link.closed
    return len(done)


async def shut_down(sup, link, calls, striker):
    """Returns those that were resolved, which are all, and the report."""
    await turns(lambda: len(link.begun) == 2)
    await asyncio.sleep(0)
    sys.settrace(striker.trace)
    asyncio.get_running_loop().call_soon(sup.request_shutdown)
    done, pending = await asyncio.wait(calls, timeout=LIMIT)
    report = await asyncio.wait_for(sup.wait_closed(), LIMIT)
    sys.settrace(None)
    assert not pending, f"struck in {striker.struck}: {len(pending)} never resolved"
    return done, report


async def a_shutdown_stops_them(striker):
    sup, link = await linked()
    link.holds = link.stubborn = True
    calls = [asyncio.ensure_future(sup.run(f.pid, on="cluster")) for _ in range(3)]
    done, report = await shut_down(sup, link, calls, striker)
    assert len(link.begun) == 2
    assert report.counts() == {"injected": 2, "cancelled": 1}, f"struck in {striker.struck}"
    assert [type(call.exception()) for call in calls] == [WorkerStopped] * 3, striker.struck
    assert link.closed, f"struck in {striker.struck}"
    return len(done)


async def what_says_nothing_is_given_up(striker):
    sup, link = await linked(shutdown_timeout=0.1)
    link.holds = link.silent = True
    calls = [asyncio.ensure_future(sup.run(f.pid, on="cluster")) for _ in range(2)]
    done, report = await shut_down(sup, link, calls, striker)
    assert report.counts() == {"abandoned": 2}, f"struck in {striker.struck}"
    assert link.closed, f"struck in {striker.struck}"
    return len(done)


async def nodes_are_lost_and_others_come(striker):
    sup, link = await linked()
    link.holds = True
    calls = [asyncio.ensure_future(sup.run(f.pid, on="cluster")) for _ in range(3)]
    await turns(lambda: len(link.begun) == 2)

    def lose():
        link.lose()
        link.holds = False
        link.add("c")

    sys.settrace(striker.trace)
    asyncio.get_running_loop().call_soon(lose)
    done, pending = await asyncio.wait(calls, timeout=LIMIT)
    sys.settrace(None)
    assert not pending, f"struck in {striker.struck}: {len(pending)} never resolved"
    assert len(link.begun) == len(set(link.begun)) == 3, f"struck in {striker.struck}: not each was run once"
    assert [type(call.exception()) for call in calls] == [WorkerDied] * 2 + [type(None)], striker.struck
    await asyncio.wait_for(sup.shutdown(), LIMIT)
    return len(done)


async def what_waits_is_refused(striker):
    sup, link = await linked()
    calls = [asyncio.ensure_future(sup.run(f.pid, on="cluster", nodes="none")) for _ in range(2)]
    link.nodes = ()
    calls += [asyncio.ensure_future(sup.run(f.pid, on="cluster")) for _ in range(2)]
    await asyncio.sleep(0)
    sys.settrace(striker.trace)
    asyncio.get_running_loop().call_soon(link.lost, "nobody is there")
    done, pending = await asyncio.wait(calls, timeout=LIMIT)
    sys.settrace(None)
    assert not pending, f"struck in {striker.struck}: {len(pending)} never resolved"
    assert [type(call.exception()) for call in calls] == [ConnectionError] * 4, striker.struck
    report = await asyncio.wait_for(sup.shutdown(), LIMIT)
    assert report.counts() == {}, f"struck in {striker.struck}"
    return len(done)


@pytest.mark.timeout(240)
@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(
    ("scenario", "where"),
    [
        (calls_wait_begin_and_end, WHEN_RUNS_ON_NODES_END),
        (a_shutdown_stops_them, WHEN_RUNS_ON_NODES_ARE_STOPPED),
        (what_says_nothing_is_given_up, WHEN_RUNS_ON_NODES_ARE_GIVEN_UP),
        (nodes_are_lost_and_others_come, WHEN_A_NODE_IS_LOST),
        (what_waits_is_refused, WHEN_WHAT_WAITS_IS_REFUSED),
    ],
)
def test_an_interrupt_at_any_line_loses_nothing(monkeypatch, scenario, where):
    link_with(monkeypatch, FakeLink)
    strike_everywhere(scenario, where, often=2, least=9)
