"""A node on a machine of its own whose cable is pulled: both ends end alone, and find each other again."""

import asyncio
import time

import pytest

from supervisor import Ask, EscalationPolicy, Inject, Kill, Supervisor, WorkerDied

from ..waiting import until
from . import functions as f
from .fixtures import import_dask
from .namespaces import Elsewhere
from .nodes import Nodes, until_dead

LEASE = 1
FAST = EscalationPolicy(Ask(0.1), Inject(1, every=0.1))
HARD = EscalationPolicy(Ask(0.1), Kill())

CUTS = {
    "the cable is pulled": Elsewhere.pull,
    "nothing comes there": Elsewhere.lose_what_goes_there,
    "nothing comes from there": Elsewhere.lose_what_comes_from_there,
}


@pytest.fixture
def elsewhere():
    with Elsewhere() as elsewhere:
        yield elsewhere


@pytest.fixture
def nodes(elsewhere):
    """A node that is elsewhere, "far"."""
    import_dask()
    with Nodes(host=elsewhere.here) as nodes:
        nodes.add("far", nthreads=8, within=elsewhere.within, host=elsewhere.there)
        nodes.wait()
        yield nodes


def last_beat(folder):
    return max(path.stat().st_mtime for path in folder.glob("*.beat"))


@pytest.mark.parametrize("cut", CUTS)
async def test_what_is_there_ends_by_itself_and_is_said_to_have_died_once(elsewhere, nodes, tmp_path, cut):
    said = []
    async with Supervisor(cluster=nodes.address, cluster_lease=LEASE, shutdown_timeout=5) as sup:

        async def follow():
            async for change in sup.transitions():
                said.extend([(change.worker, change.ended)] * (change.new == "ended"))

        following = asyncio.ensure_future(follow())
        thread = sup.run(f.spin_at, tmp_path / "thread", on="cluster", policy=FAST)
        process = sup.run(f.spin_with_a_child, tmp_path / "process", on="cluster", kind="process", policy=HARD)
        tasks = [asyncio.ensure_future(call) for call in (thread, process)]
        for name in ("thread", "process"):
            await until((tmp_path / f"{name}.beat").exists)
        names = {worker.name for worker in sup.workers()}
        CUTS[cut](elsewhere)
        cut_at, cut_on_the_files_clock = time.monotonic(), time.time()
        for task in tasks:
            with pytest.raises(WorkerDied, match="with its node 'far'"):
                await asyncio.wait_for(task, 20)
        assert time.monotonic() - cut_at > LEASE  # never sooner than its lease has run out there
        over = last_beat(tmp_path)
        assert over - cut_on_the_files_clock < LEASE + 0.2 + 1.1 + 1
        for name in ("process", "process.child"):
            until_dead(int((tmp_path / name).read_text()), 0.2)
        waiting = asyncio.ensure_future(sup.run(f.give_back, "again", on="cluster"))
        await asyncio.sleep(LEASE)
        assert last_beat(tmp_path) == over
        assert not waiting.done()
        elsewhere.mend()
        assert await asyncio.wait_for(waiting, 60) == "again"
        assert sorted(end for end in said if end[0] in names) == sorted((name, "died") for name in names)
        following.cancel()
        await asyncio.wait([following])


async def test_a_cable_that_is_plugged_in_again_within_the_lease_costs_nothing(elsewhere, nodes, tmp_path):
    async with Supervisor(cluster=nodes.address, cluster_lease=5) as sup:
        for number, cut in enumerate(CUTS.values()):
            tasks = [
                asyncio.ensure_future(sup.run(f.wait_at, tmp_path / f"{number}-{n}", 0.3, on="cluster"))
                for n in range(16)
            ]
            await until((tmp_path / f"{number}-0").exists)
            cut(elsewhere)
            await asyncio.sleep(0.6)
            elsewhere.mend()
            names = await asyncio.wait_for(asyncio.gather(*tasks), 20)
            assert names == [f"{number}-{n}" for n in range(16)]


async def test_a_shutdown_is_bounded_while_the_cable_is_pulled(elsewhere, nodes, tmp_path):
    async with Supervisor(cluster=nodes.address, cluster_lease=LEASE, shutdown_timeout=1) as sup:
        task = asyncio.ensure_future(sup.run(f.spin_at, tmp_path / "run", on="cluster", policy=FAST))
        await until((tmp_path / "run.beat").exists)
        elsewhere.pull()
        began = time.monotonic()
        report = await sup.shutdown()
        assert time.monotonic() - began < 1 + 0.9
        assert report.counts() == {"abandoned": 1}
        await asyncio.wait([task])
        assert task.exception() is not None
    await asyncio.sleep(LEASE + 0.2 + 1.1 + 1)
    over = last_beat(tmp_path)
    await asyncio.sleep(0.2)
    assert last_beat(tmp_path) == over
