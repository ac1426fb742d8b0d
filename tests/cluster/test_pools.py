"""Pools on a cluster, and which node takes what."""

import asyncio
from collections import Counter

import pytest

from supervisor import Supervisor, SupervisorBusy, SupervisorError, WorkerTimeout

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


@pytest.mark.parametrize(
    ("kind", "fn"), [("thread", f.calls_the_loop), ("process", f.calls_the_loop), ("thread", f.iterates_in_the_loop)]
)
async def test_a_worker_there_cannot_call_the_loop_and_is_told_so(three, kind, fn):
    """That of the node is Dask's, and nobody's else."""
    async with Supervisor(cluster=three.address) as sup:
        with pytest.raises(RuntimeError, match="on a node of a cluster"):
            await sup.run(fn, on="cluster", kind=kind, timeout=20)
