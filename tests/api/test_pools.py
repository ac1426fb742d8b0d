"""Pools with names: lanes of their own, by `run`, `executor` and their handles."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import threading

import pytest

from supervisor import (
    Ask,
    EscalationPolicy,
    Limits,
    Pool,
    Supervisor,
    SupervisorBusy,
    SupervisorClosed,
    SupervisorError,
    WorkerStopped,
)
from supervisor.config import load
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


# ------------------------------------------------------------------------------------------------ what is its own


MILD, HARD, OTHER = EscalationPolicy(Ask(1)), EscalationPolicy(Ask(2)), EscalationPolicy(Ask(3))


async def seconds_of_ladder(home, fakes, time, **options):
    """Returns how long a call's ladder takes."""
    call = asyncio.create_task(home.run(here, **options))
    await fakes.next_run()
    [worker] = home.workers()
    call.cancel()
    await time.advance(20)
    await asyncio.wait([call])
    return round(worker.outcome.stop_seconds)


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_the_ladder_of_a_pool_goes_before_that_of_the_group_and_after_those_of_call_and_file(kind, virtual):
    config = load({"workers": {"named": {"policy": {"ask": 5}}}}, environ={})
    killing = 2 if kind == "process" else 0

    async def main(time):
        with FakeWorkers() as fakes:
            fakes.script(here, obeys=None)
            async with Supervisor(policy=OTHER, config=config) as sup:
                group = sup.group("feeds", policy=HARD)
                group.pool("lane", kind=kind, policy=MILD)
                sup.pool("plain", kind=kind)
                return [
                    await seconds_of_ladder(group, fakes, time, pool="lane", policy=OTHER) - killing,
                    await seconds_of_ladder(sup, fakes, time, pool="lane", name="named") - killing,
                    await seconds_of_ladder(group, fakes, time, pool="lane") - killing,
                    await seconds_of_ladder(group, fakes, time, pool="plain") - killing,
                    await seconds_of_ladder(sup, fakes, time, pool="plain") - killing,
                ]

    assert virtual(main) == [3, 5, 1, 2, 3]


async def test_workers_have_the_ladder_of_their_group_whatever_the_pool_of_the_same_kind_has():
    async with Supervisor(policy=EscalationPolicy(Ask(5))) as sup:
        sup.pool("thread", kind="thread", policy=EscalationPolicy(Ask(0)))
        worker = await sup.start(lambda ctx: ctx.stop.wait())
        assert (await worker.stop()).ended == "stopped"


async def test_threads_are_named_by_their_pool():
    async with Supervisor("app") as sup:
        lane = sup.pool("mail", kind="thread")
        assert await lane.run(here) == "app/mail-1"
        assert await sup.run(here) == "app/thread-1"


async def test_a_call_that_waits_for_one_of_another_lane_takes_none_of_its_threads():
    """Were they counted together, the last thread of a lane would be refused to wait for a call that can run."""
    async with Supervisor(max_threads=2) as sup:
        lane = sup.pool("lane", kind="thread", size=2)
        gate = threading.Event()

        def wait_for_one(executor):
            futures = [executor.submit(gate.wait) for _ in range(2)]
            return futures[-1].result()

        calls = [asyncio.create_task(sup.run(wait_for_one, sup.executor()))]
        calls += [asyncio.create_task(lane.run(wait_for_one, lane.executor()))]
        await until(lambda: sup.statistics().queued == 2)
        gate.set()
        assert await asyncio.gather(*calls) == [True, True]


async def test_threads_that_are_in_callbacks_of_another_lane_make_no_lane_grow():
    begin, busy, gate = threading.Event(), threading.Semaphore(0), threading.Event()
    async with Supervisor() as sup:
        slow, fast = sup.pool("slow", kind="thread", size=3), sup.pool("fast", kind="thread", size=3)
        try:
            for _ in range(2):
                slow.executor().submit(begin.wait).add_done_callback(lambda _: busy.release() or gate.wait())
            begin.set()
            await asyncio.to_thread(lambda: [busy.acquire() for _ in range(2)])
            for _ in range(5):
                await fast.run(abs, -1)
            names = {thread.name.partition("/")[2] for thread in threading.enumerate()}
        finally:
            gate.set()
    assert "fast-1" in names
    assert "fast-2" not in names


# ------------------------------------------------------------------------------------------------ how it stands


async def test_statistics_have_each_pool_by_its_name():
    sup = Supervisor("app", max_threads=2, max_processes=3)
    sup.pool("mail", kind="thread", size=1, max_queued=5)
    before = sup.statistics().pools
    assert list(before) == ["thread", "process", "mail"]
    assert {name: (pool.name, pool.kind, pool.size, pool.alive) for name, pool in before.items()} == {
        "thread": ("thread", "thread", 2, 0),
        "process": ("process", "process", 3, 0),
        "mail": ("mail", "thread", 1, 0),
    }
    gate = threading.Event()
    async with sup:
        mail = sup.group("feeds").pool("feed", kind="thread", size=1)
        calls = [asyncio.create_task(sup.run(gate.wait, pool=name)) for name in ("mail", "mail", "thread")]
        calls.append(asyncio.create_task(mail.run(gate.wait)))
        await until(lambda: sup.statistics().workers.get("running") == 3)
        now = sup.statistics()
        found = {name: (pool.running, pool.queued, pool.alive, pool.ready) for name, pool in now.pools.items()}
        assert found == {
            "thread": (1, 0, 1, True),
            "process": (0, 0, 0, True),
            "mail": (1, 1, 1, True),
            "feed": (1, 0, 1, True),
        }
        assert now.threads == 3
        assert mail.statistics() == now.pools["feed"]
        assert (now.pools["mail"].max_queued, now.pools["thread"].max_queued) == (5, None)
        with pytest.raises(dataclasses.FrozenInstanceError):
            mail.statistics().queued = 3
        gate.set()
        await asyncio.gather(*calls)
    assert sup.statistics().pools["mail"].alive == 0


async def test_what_was_abandoned_is_counted_for_its_pool_which_says_when_nobody_is_left(leftovers):
    async with Supervisor(policy=EscalationPolicy(Ask(0))) as sup:
        lane = sup.pool("lane", kind="thread", size=1)
        for number in range(1, 3):
            call = asyncio.ensure_future(lane.run(leftovers.block))
            await until(lambda number=number: len(leftovers.entered) == number)
            await sup.workers()[0].stop()
            with pytest.raises(WorkerStopped):
                await call
            await until(lambda number=number: lane.statistics().abandoned == number)
        stuck = lane.statistics()
        assert (stuck.size, stuck.capacity, stuck.ready) == (1, 0, False)
        assert "abandoned" in stuck.reason
        health = sup.health()
        assert (health.ready, health.live) == (False, True)
        assert "pool 'lane': all that it may have were abandoned" in health.reasons[0]
        assert sup.statistics().pools["thread"].abandoned == 0
        leftovers.release.set()
        await until(lambda: sup.health().ready)


async def test_a_pool_that_cannot_come_up_is_in_statistics_and_health_with_the_reason():
    with FakeWorkers():
        async with Supervisor() as sup:
            lane = sup.pool("gpu", kind="process")
            group = sup.group("feeds")
            inside.fail_pool(sup, "gpu", SupervisorError("no\ncard"))
            assert (lane.statistics().ready, lane.statistics().reason) == (False, r"no\ncard")
            assert (sup.health().ready, sup.health().live) == (False, True)
            assert sup.health().reasons == (r"pool 'gpu': no\ncard",)
            assert group.health().ready
            with pytest.raises(SupervisorError, match="no"):
                await lane.ready()


async def test_a_pool_is_ready_once_those_that_it_keeps_warm_are():
    with FakeWorkers():
        async with Supervisor() as sup:
            lane = sup.pool("gpu", kind="process")
            inside.await_warm(sup, "gpu", 2)
            assert sup.health().reasons == ("pool 'gpu': none of the 2 that are kept warm is up",)
            ready = asyncio.create_task(lane.ready())
            await asyncio.sleep(0)
            inside.note_up(sup, "gpu", 1)
            assert sup.health().ready
            await asyncio.sleep(0)
            assert not ready.done()
            inside.note_up(sup, "gpu", 2)
            await ready


async def test_what_is_published_of_a_call_has_its_pool(events):
    seen = set()

    async def read(transitions):
        async for transition in transitions:
            seen.add((transition.worker, transition.new, transition.pool))

    async with Supervisor() as sup:
        reader = asyncio.create_task(read(sup.transitions()))
        await asyncio.sleep(0)
        lane = sup.pool("mail", kind="thread", size=1)
        gate = threading.Event()
        calls = [asyncio.create_task(lane.run(gate.wait, name="letter"))]
        calls += [asyncio.create_task(sup.run(gate.wait, name="plain"))]
        await sup.start(lambda ctx: ctx.stop.wait(), name="poller")
        await until(lambda: len(sup.workers()) == 3)
        pools = {worker.name: worker.pool for worker in sup.workers()}
        assert pools == {"letter": "mail", "plain": "thread", "poller": None}
        gate.set()
        await asyncio.gather(*calls)
    await reader
    assert {("letter", "queued", "mail"), ("letter", "ended", "mail"), ("plain", "queued", "thread")} <= seen
    assert ("poller", "running", None) in seen
    logged = {(event["worker"], event.get("pool")) for event in events if event["event"] == "worker.queued"}
    assert logged == {("letter", "mail"), ("plain", None)}


async def test_late_calls_of_the_default_executor_have_pools_of_their_own():
    sup = Supervisor("app")
    sup.pool("mail", kind="thread", size=1)
    async with sup:
        sup.pool("thread", kind="thread", size=1)
        sup.install_as_default_executor()
        assert await asyncio.to_thread(here) == "app/thread-1"
    assert await asyncio.to_thread(here) == "app-late/thread-1"


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # raised from 3.15 on
def test_pools_made_before_a_fork_are_there_in_the_child_and_those_in_use_are_refused():
    sup = Supervisor("app")
    sup.pool("mail", kind="thread", size=1)

    async def main(expected):
        async with sup:
            return await sup.run(here, pool="mail") == expected

    child = os.fork()
    if child == 0:
        os._exit(0 if asyncio.run(main("app/mail-1")) else 1)
    assert os.waitpid(child, 0)[1] == 0

    async def fork_within():
        async with sup:
            lane = sup.pool("late", kind="thread")
            await lane.run(abs, -1)
            child = os.fork()
            if child == 0:
                refused = 0
                for use in (lambda: sup.pool("x", kind="thread"), lambda: lane.resize(3)):
                    try:
                        use()
                    except RuntimeError as error:
                        refused += "before the fork" in str(error)
                os._exit(0 if refused == 2 else 1)
            return os.waitpid(child, 0)[1]

    assert asyncio.run(fork_within()) == 0
