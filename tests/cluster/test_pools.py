"""Pools on a cluster, and which node takes what."""

import asyncio
import functools
from collections import Counter

import pytest

from supervisor import (
    Ask,
    EscalationPolicy,
    Kill,
    Limits,
    Supervisor,
    SupervisorBusy,
    SupervisorClosed,
    SupervisorError,
    WorkerOverLimit,
    WorkerTimeout,
)
from supervisor.config import load

from ..waiting import until
from . import functions as f


def there(path):
    return len(list(path.iterdir()))


async def test_its_size_holds_over_all_nodes_and_can_be_changed(three, kind, tmp_path):
    async with Supervisor(cluster=three.address) as sup:
        pool = sup.pool("lane", kind=kind, on="cluster", size=2, max_queued=4)
        calls, release = tmp_path / "calls", tmp_path / "release"
        calls.mkdir()
        tasks = [asyncio.ensure_future(pool.run(f.hold, calls, release)) for _ in range(6)]
        await until(lambda: there(calls) == 2)
        with pytest.raises(SupervisorBusy, match="'lane'"):
            await pool.run(f.pid)
        await asyncio.sleep(0.2)
        assert there(calls) == 2
        now = pool.statistics()
        assert (now.size, now.running, now.queued) == (2, 2, 4)
        pool.resize(5)
        await until(lambda: there(calls) == 5)
        release.touch()
        await asyncio.gather(*tasks)


async def test_the_initializer_runs_on_the_nodes(three, kind):
    async with Supervisor(cluster=three.address) as sup:
        pool = sup.pool("model", kind=kind, on="cluster", initializer=f.initialize)
        await asyncio.wait_for(pool.ready(), 20)
        assert await asyncio.gather(*(pool.run(f.initialized) for _ in range(6))) == [True] * 6


async def test_it_is_ready_once_each_node_is_past_its_initializer(three, kind, tmp_path):
    async with Supervisor(cluster=three.address) as sup:
        initializer = functools.partial(f.initialize_at, tmp_path, 0.5)
        pool = sup.pool("model", kind=kind, on="cluster", initializer=initializer, warm=2)
        await asyncio.wait_for(pool.ready(), 30)
        assert there(tmp_path) == 6  # two on each of three nodes
        assert pool.statistics().ready
        assert await pool.run(int, "5") == 5
        await asyncio.wait_for(pool.ready(), 30)


async def test_what_an_initializer_takes_there_counts_towards_no_timeout(three, kind, tmp_path):
    async with Supervisor(cluster=three.address) as sup:
        pool = sup.pool("model", kind=kind, on="cluster", initializer=functools.partial(f.initialize_at, tmp_path, 4))
        await sup.run(int, "5", on="cluster", kind=kind)  # so that the nodes are reached
        assert await pool.run(int, "5", timeout=2) == 5
        with pytest.raises(WorkerTimeout):
            await pool.run(f.sleeps, tmp_path / "sleeps", timeout=0.5, policy=EscalationPolicy(Ask(0.1)))


async def test_it_is_not_ready_where_an_initializer_fails_and_says_why(three, kind):
    async with Supervisor(cluster=three.address) as sup:
        await sup.run(int, "5", on="cluster", kind=kind)  # so that the nodes are reached, and nothing is heard of them
        pool = sup.pool("broken", kind=kind, on="cluster", initializer=f.refuse_to_initialize, warm=1)
        with pytest.raises(SupervisorError, match="no model"):
            await asyncio.wait_for(pool.ready(), 30)
        assert not pool.statistics().ready
        assert "no model" in pool.statistics().reason


async def test_whoever_waits_for_a_pool_hears_that_it_ends(nodes):
    async with Supervisor(cluster=nodes.address) as sup:
        pool = sup.pool("model", kind="thread", on="cluster", warm=1)
        waiting = asyncio.ensure_future(pool.ready())
        await asyncio.sleep(0.1)
        assert not waiting.done()
        await pool.shutdown()
        with pytest.raises(SupervisorClosed):
            await asyncio.wait_for(waiting, 20)


async def test_a_node_that_comes_later_keeps_some_warm_too(nodes, tmp_path):
    nodes.add("first")
    async with Supervisor(cluster=nodes.address) as sup:
        initializer = functools.partial(f.initialize_at, tmp_path, 0)
        pool = sup.pool("model", kind="process", on="cluster", initializer=initializer, warm=1)
        await asyncio.wait_for(pool.ready(), 30)
        assert there(tmp_path) == 1
        nodes.add("second")
        await until(lambda: there(tmp_path) == 2)


async def test_an_initializer_that_fails_fails_the_calls(three, kind):
    async with Supervisor(cluster=three.address) as sup:
        pool = sup.pool("broken", kind=kind, on="cluster", initializer=f.refuse_to_initialize)
        with pytest.raises(SupervisorError, match="broken"):
            await asyncio.wait_for(pool.run(f.pid), 20)


async def test_a_pool_is_shut_down_alone(three, kind, tmp_path):
    async with Supervisor(cluster=three.address) as sup:
        pool = sup.pool("lane", kind=kind, on="cluster", size=1)
        tasks = [asyncio.ensure_future(pool.run(f.until_stopped, tmp_path / name)) for name in "ab"]
        await f.until_there(tmp_path / "a")
        report = await pool.shutdown(reason="enough")
        assert report.counts() == {"stopped": 1, "cancelled": 1}
        assert (await tasks[0]) == "enough"
        assert await sup.run(int, "5", on="cluster", kind=kind) == 5
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_map_as_the_first_use_waits_for_the_nodes(three, kind):
    async with Supervisor(cluster=three.address) as sup:
        assert [result async for result in sup.map(abs, (), kind=kind, pool=f"cluster-{kind}")] == []
        assert [result async for result in sup.map(abs, range(-9, 0), kind=kind, pool=f"cluster-{kind}", limit=3)]


async def test_its_threads_and_processes_are_replaced_after_their_calls(three, kind):
    async with Supervisor(cluster=three.address) as sup:
        pool = sup.pool("short", kind=kind, on="cluster", max_tasks=1)
        who = [await pool.run(f.thread_or_process, kind) for _ in range(4)]
        assert len(set(who)) == 4


async def test_limits_hold_on_nodes(three):
    limited = {"kind": "process", "on": "cluster", "policy": EscalationPolicy(Ask(0.1), Kill())}
    async with Supervisor(cluster=three.address) as sup:
        pool = sup.pool("limited", **limited, limits=Limits(cpu_seconds=0.3))
        with pytest.raises(WorkerOverLimit) as caught:
            await pool.run(f.burn, 20)
        assert (caught.value.limit, caught.value.outcome.node in three.nodes) == ("cpu_seconds", True)
        with pytest.raises(WorkerOverLimit) as caught:
            await sup.run(f.fill, 300, **limited, limits=Limits(rss=200 << 20))
        assert caught.value.limit == "rss"
        assert await pool.run(int, "5") == 5


async def test_the_configuration_sets_a_pool_there_too(three, kind, tmp_path):
    said = {"size": 1, "max_queued": 1, "policy": {"ask": 0.1, "inject": 5}, "slow_after": 60}
    config = load({"pools": {"lane": said}}, environ={})
    async with Supervisor(cluster=three.address, config=config) as sup:
        pool = sup.pool("lane", kind=kind, size=5, on="cluster")
        assert pool.size == 1
        calls, release = tmp_path / "calls", tmp_path / "release"
        calls.mkdir()
        tasks = [asyncio.ensure_future(pool.run(f.hold, calls, release)) for _ in range(2)]
        await until(lambda: there(calls) == 1)
        with pytest.raises(SupervisorBusy, match="'lane'"):
            await pool.run(f.pid)
        release.touch()
        await asyncio.gather(*tasks)
        with pytest.raises(WorkerTimeout) as caught:
            await pool.run(f.spins, tmp_path / "spin", timeout=0.5)
        assert caught.value.outcome.ended == "injected"


@pytest.mark.parametrize("whose", ["supervisor", "pool"])
async def test_a_drain_lets_what_runs_and_what_waits_go_on(three, kind, tmp_path, whose):
    async with Supervisor(cluster=three.address) as sup:
        pool = sup.pool("lane", kind=kind, on="cluster", size=1)
        calls, release = tmp_path / "calls", tmp_path / "release"
        calls.mkdir()
        tasks = [asyncio.ensure_future(pool.run(f.hold, calls, release)) for _ in range(3)]
        await until(lambda: there(calls) == 1)
        closing = asyncio.ensure_future((pool if whose == "pool" else sup).shutdown(timeout=30, drain=20))
        await asyncio.sleep(0.1)
        with pytest.raises(SupervisorClosed):
            await pool.run(f.pid)
        release.touch()
        report = await closing
        assert len(await asyncio.gather(*tasks)) == 3
        assert report.clean


async def test_an_executor_and_a_map_of_it(three, kind):
    async with Supervisor(cluster=three.address) as sup:
        pool = sup.pool("lane", kind=kind, on="cluster")
        assert await asyncio.to_thread(lambda: list(pool.executor().map(abs, range(-20, 0)))) == list(range(20, 0, -1))
        assert [result async for result in pool.map(abs, range(-20, 0))] == list(range(20, 0, -1))
        with pytest.raises(ValueError, match="sends results, not items"):
            pool.iterate(range, 5)


# ------------------------------------------------------------------------------------------------ which node


async def test_calls_are_spread_over_the_nodes_evenly(three, kind, tmp_path):
    async with Supervisor(cluster=three.address) as sup:
        tasks = [
            asyncio.ensure_future(sup.run(f.hold, tmp_path, tmp_path / "release", on="cluster", kind=kind))
            for _ in range(6)
        ]
        await until(lambda: there(tmp_path) == 6)
        (tmp_path / "release").touch()
        where = Counter(three.name_of(pids) for pids in await asyncio.gather(*tasks))
    assert where == {"a": 2, "b": 2, "c": 2}


async def test_what_only_one_node_may_take_holds_up_nobody_else(three, tmp_path):
    async with Supervisor(cluster=three.address) as sup:
        release = tmp_path / "release"
        gpu = {"on": "cluster", "resources": {"GPU": 1}}
        held = [asyncio.ensure_future(sup.run(f.hold, tmp_path, release, **gpu)) for _ in range(3)]
        nobody = asyncio.ensure_future(sup.run(f.pid, on="cluster", nodes="nobody", name="nobody"))
        await until(lambda: there(tmp_path) == 1)
        assert await asyncio.gather(*(sup.run(int, "5", on="cluster") for _ in range(20))) == [5] * 20
        with pytest.raises(WorkerTimeout):
            await sup.run(f.pid, **gpu, timeout=0.1)
        assert sup.worker("nobody").state == "queued"
        nobody.cancel()
        with pytest.raises(asyncio.CancelledError):
            await nobody
        assert there(tmp_path) == 1
        release.touch()
        assert {three.name_of(pids) for pids in await asyncio.gather(*held)} == {"a"}


async def test_a_resource_is_counted_over_several_owners(three, tmp_path):
    async with Supervisor("one", cluster=three.address) as one, Supervisor("two", cluster=three.address) as two:
        release = tmp_path / "release"
        gpu = {"on": "cluster", "resources": {"GPU": 1}}
        assert await two.run(int, "5", on="cluster") == 5
        first = asyncio.ensure_future(one.run(f.hold, tmp_path, release, **gpu))
        await until(lambda: there(tmp_path) == 1)
        second = asyncio.ensure_future(two.run(f.hold, tmp_path, release, **gpu))
        await asyncio.sleep(0.3)
        assert there(tmp_path) == 1
        release.touch()
        await asyncio.gather(first, second)


async def test_a_node_that_comes_later_takes_what_waits(nodes):
    async with Supervisor(cluster=nodes.address) as sup:
        waiting = [asyncio.ensure_future(sup.run(f.pids, on="cluster")) for _ in range(3)]
        await asyncio.sleep(0.3)
        nodes.add("late")
        assert {nodes.name_of(pids) for pids in await asyncio.gather(*waiting)} == {"late"}
