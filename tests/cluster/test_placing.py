"""What waits for a node, whose nodes are fakes: who is refused, and who goes on waiting."""

import asyncio
from concurrent.futures import Future

import pytest

from supervisor import Supervisor

from ..inside_cluster import link_of, link_with, shorten_patience
from ..waiting import turns, until
from . import functions as f
from .fake_link import FakeLink


@pytest.fixture
async def linked(monkeypatch):
    """A supervisor that has used its cluster, and its link, which has no node any more."""
    link_with(monkeypatch, FakeLink)
    async with Supervisor(cluster="tcp://fake:1") as sup:
        await sup.run(f.pid, on="cluster")
        link = link_of(sup)
        link.nodes = ()
        link.begun.clear()
        yield sup, link


async def test_what_is_submitted_as_another_is_refused_waits_and_nothing_that_was_refused_begins(linked):
    sup, link = linked
    executor, again = sup.executor(pool="cluster-thread"), []

    def submit_again(future: Future):
        if not link.nodes:
            link.add("c")
        again.append(executor.submit(int))

    refused = [executor.submit(int) for _ in range(3)]
    for future in refused:
        future.add_done_callback(submit_again)
    link.lost("nobody is there")
    await until(lambda: len(again) == 3)
    await asyncio.wait_for(asyncio.gather(*map(asyncio.wrap_future, again)), 20)
    assert [type(future.exception()) for future in refused] == [ConnectionError] * 3
    assert len(link.begun) == 3


async def test_nothing_is_refused_where_a_node_has_come_since_that_was_said(linked):
    sup, link = linked
    call = asyncio.ensure_future(sup.run(f.pid, on="cluster"))
    await until(lambda: sup.workers())
    link.lost("nobody is there")
    link.add("c")
    await asyncio.wait_for(call, 20)
    assert len(link.begun) == 1


async def test_it_is_said_once_of_a_run_that_no_node_may_take(linked, monkeypatch, events):
    def unplaced():
        return [event for event in events if event["event"] == "worker.unplaced"]

    shorten_patience(monkeypatch, 0)  # it looks in each turn of the loop
    sup, link = linked
    calls = [asyncio.ensure_future(sup.run(f.pid, on="cluster", nodes="c", name=f"call-{n}")) for n in range(12)]
    await until(lambda: len(sup.workers()) == 12)
    await turns(50)
    assert not unplaced()  # there is no node at all, which is said of the cluster
    link.add("a")
    await until(unplaced)
    await turns(50)
    assert [event["worker"] for event in unplaced()] == [f"call-{n}" for n in range(10)]
    assert [event.get("left_out") for event in unplaced()] == [None] * 9 + [2]
    assert unplaced()[0] == {
        "event": "worker.unplaced",
        "level": "warning",
        "supervisor": "supervisor",
        "worker": "call-0",
        "kind": "thread",
        "pool": "cluster-thread",
        "reason": "no node may take it: nodes=['c']",
    }
    worker = asyncio.ensure_future(sup.start(f.silent, on="cluster", resources={"GPU": 2}, name="w"))
    await until(lambda: len(unplaced()) == 11)
    assert unplaced()[-1]["reason"] == "no node may take it: resources={'GPU': 2.0}"
    worker.cancel()
    link.add("c")
    await asyncio.wait_for(asyncio.gather(*calls), 20)


async def test_a_pool_whose_calls_no_node_may_take_is_not_ready(linked):
    sup, link = linked
    link.add("a")
    lane = sup.pool("lane", kind="thread", on="cluster", nodes="c")
    call = asyncio.ensure_future(lane.run(f.pid))
    await until(lambda: sup.workers())
    assert "pool 'lane': no node may take it: nodes=['c']" in sup.health().reasons
    link.add("c")
    await asyncio.wait_for(call, 20)
    assert sup.health().ready
