"""Pools with names: lanes of their own, by `run`, `executor` and their handles."""

from __future__ import annotations

import asyncio
import threading

import pytest

from supervisor import Limits, Pool, Supervisor, SupervisorBusy, SupervisorClosed
from supervisor.testing import FakeWorkers

from .. import inside
from ..waiting import until


def here():
    return threading.current_thread().name


@pytest.mark.parametrize("kind", ["thread", "process"])
async def test_a_pool_runs_calls_by_its_name_by_itself_and_through_its_handle(kind):
    async with Supervisor() as sup:
        lane = sup.pool("lane", kind=kind, size=1)
        assert isinstance(lane, Pool)
        assert (lane.name, lane.kind, lane.size) == ("lane", kind, 1)
        assert await sup.run(pow, 2, 3, pool="lane") == 8
        assert await sup.run(pow, 2, 3, pool=lane, kind=kind) == 8
        assert await lane.run(pow, 2, 3, timeout=30, name="power") == 8


async def test_a_lane_that_is_full_holds_up_no_other():
    gate = threading.Event()
    async with Supervisor(max_threads=1) as sup:
        slow, fast = sup.pool("slow", kind="thread", size=2), sup.pool("fast", kind="thread", size=1)
        stuck = [asyncio.create_task(slow.run(gate.wait)) for _ in range(5)]
        await until(lambda: sup.statistics().workers.get("running") == 2)
        assert await fast.run(str.upper, "a") == "A"
        assert await sup.run(str.upper, "b") == "B"
        gate.set()
        await asyncio.gather(*stuck)


@pytest.mark.parametrize("kind", ["thread", "process"])
async def test_a_lane_is_for_calls_through_an_executor_too(kind):
    async with Supervisor() as sup:
        lane = sup.pool("lane", kind=kind, size=1)
        loop = asyncio.get_running_loop()
        assert await loop.run_in_executor(lane.executor(), pow, 2, 3) == 8
        assert await loop.run_in_executor(sup.executor(pool="lane"), pow, 2, 3) == 8
        assert await loop.run_in_executor(sup.executor(kind, pool=lane), pow, 2, 3) == 8


async def test_pools_may_be_made_before_any_loop_runs_and_by_groups():
    sup = await asyncio.to_thread(Supervisor)
    lane = await asyncio.to_thread(sup.pool, "lane", kind="thread", size=1)
    async with sup:
        assert await lane.run(abs, -1) == 1
        group = sup.group("feeds")
        inner = group.pool("inner", kind="thread", size=1)
        gate = threading.Event()
        call = asyncio.create_task(inner.run(gate.wait))
        await until(lambda: len(group.workers()) == 1)
        assert await sup.run(abs, -1, pool="lane", name="x") == 1
        gate.set()
        await call
        assert await sup.run(abs, -2, pool="inner") == 2


async def test_what_does_not_fit_is_refused_by_name():
    async with Supervisor("app") as sup:
        other = Supervisor("other").pool("x", kind="thread")
        sup.pool("gpu", kind="thread", size=1)
        with pytest.raises(ValueError, match="'thread', 'process', 'gpu'"):
            await sup.run(abs, -1, pool="cpu")
        with pytest.raises(ValueError, match="no pool of this name"):
            sup.executor(pool="cpu")
        with pytest.raises(ValueError, match="'gpu' is of the kind 'thread'"):
            await sup.run(abs, -1, pool="gpu", kind="process")
        with pytest.raises(ValueError, match="is not one of supervisor 'app'"):
            await sup.run(abs, -1, pool=other)
        with pytest.raises(TypeError, match="pool=3"):
            await sup.run(abs, -1, pool=3)
        with pytest.raises(ValueError, match="name='gpu'"):
            sup.pool("gpu", kind="thread")


@pytest.mark.parametrize(
    ("options", "error", "field"),
    [
        ({"kind": "fork"}, ValueError, "kind"),
        ({"size": 0}, ValueError, "size"),
        ({"max_queued": -1}, ValueError, "max_queued"),
        ({"max_tasks": 0}, ValueError, "max_tasks"),
        ({"max_lifetime": 0}, ValueError, "max_lifetime"),
        ({"max_rss": 1 << 30}, ValueError, "max_rss"),
        ({"kind": "process", "max_rss": 0}, ValueError, "max_rss"),
        ({"limits": Limits(cpu_seconds=1)}, ValueError, "limits"),
        ({"kind": "process", "limits": 3}, TypeError, "limits"),
        ({"idle_timeout": "1"}, TypeError, "idle_timeout"),
        ({"initializer": 3}, TypeError, "initializer"),
        ({"initializer": asyncio.sleep}, TypeError, "initializer"),
        ({"warm": -1}, ValueError, "warm"),
        ({"warm": 3, "size": 2}, ValueError, "warm"),
        ({"policy": 3}, TypeError, "policy"),
        ({"name": "a/b"}, ValueError, "name"),
        ({"name": ["a"]}, TypeError, "name"),
    ],
)
def test_wrong_settings_are_refused_at_once_by_their_field(options, error, field):
    with pytest.raises(error, match=field):
        Supervisor().pool(**{"name": "lane", "kind": "thread"} | options)


async def test_the_pools_that_are_always_there_are_set_before_their_first_use():
    async with Supervisor(max_threads=5, max_queued=0) as sup:
        threads = sup.pool("thread", kind="thread", max_tasks=7)
        assert threads.size == 5
        assert await sup.run(abs, -1) == 1
        assert await threads.run(abs, -1) == 1
        with pytest.raises(ValueError, match="used this pool already"):
            sup.pool("thread", kind="thread", size=2)
        with pytest.raises(ValueError, match="is of the kind 'process'"):
            sup.pool("process", kind="thread")
        sup.pool("process", kind="process", size=1)
        with pytest.raises(ValueError, match="has a pool of this name"):
            sup.pool("process", kind="process", size=1)
        assert inside.settings(sup).pools["process"].size == 1


async def test_the_pool_of_threads_that_was_set_again_takes_all_calls_and_workers():
    async with Supervisor() as sup:
        sup.pool("thread", kind="thread", size=1)
        gate = threading.Event()
        calls = [asyncio.create_task(sup.run(gate.wait)) for _ in range(3)]
        calls += [asyncio.create_task(sup.run(gate.wait, name="named"))]
        await until(lambda: sup.statistics().queued == 3)
        worker = await sup.start(lambda ctx: ctx.stop.wait())
        assert sup.statistics().threads == 2
        gate.set()
        await asyncio.gather(*calls)
        await worker.stop()


async def test_no_pool_is_made_once_the_supervisor_shuts_down():
    sup = Supervisor()
    async with sup:
        pass
    with pytest.raises(SupervisorClosed):
        sup.pool("late", kind="thread")


async def test_a_pool_has_a_bound_of_its_own():
    gate = threading.Event()
    async with Supervisor("app") as sup:
        lane = sup.pool("lane", kind="thread", size=1, max_queued=1)
        calls = [asyncio.create_task(lane.run(gate.wait)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(SupervisorBusy, match="pool 'lane'"):
            await lane.run(abs, -1)
        with pytest.raises(SupervisorBusy, match="pool 'lane'"):
            lane.executor().submit(abs, -1)
        assert await sup.run(abs, -1) == 1
        gate.set()
        await asyncio.gather(*calls)


async def test_a_pool_can_be_resized_before_its_first_use():
    sup = Supervisor()
    lane = sup.pool("lane", kind="thread", size=1)
    lane.resize(3)
    assert lane.size == 3
    gate = threading.Event()
    calls = [asyncio.create_task(lane.run(gate.wait)) for _ in range(4)]
    await until(lambda: sup.statistics().workers.get("running") == 3)
    gate.set()
    await asyncio.gather(*calls)
    with pytest.raises(ValueError, match="size=0"):
        lane.resize(0)
    await sup.shutdown()


async def test_fakes_stand_for_the_workers_of_named_pools_too():
    def render():
        raise AssertionError

    with FakeWorkers() as fakes:
        fakes.script(render, after=0, returns=7)
        async with Supervisor() as sup:
            lane = sup.pool("lane", kind="process", size=1)
            assert await lane.run(render) == 7
            assert fakes.runs[0].kind == "process"
            await lane.ready()


async def test_a_pool_without_warm_ones_is_ready():
    async with Supervisor() as sup:
        await sup.pool("lane", kind="process").ready()
