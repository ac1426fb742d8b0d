"""Networks that are cut, break and come back: nothing is lost, nothing is done twice, and nothing hangs."""

import asyncio
import os
import socket
import time

import pytest

from supervisor import Ask, EscalationPolicy, Inject, Restart, Supervisor, WorkerDied, WorkerStopped

from ..waiting import until
from . import functions as f
from .proxy import Network

FAST = EscalationPolicy(Ask(0.1), Inject(1, every=0.1))


@pytest.fixture
async def far(nodes):
    """A node that is reached through a network of the test's."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    async with Network(port) as network:
        await asyncio.to_thread(lambda: nodes.address)
        nodes.add("far", nthreads=8, port=port, contact_address=network.address)
        await asyncio.to_thread(nodes.wait)
        yield network


def entered(folder):
    return sorted(path.name for path in folder.iterdir())


async def test_a_network_that_is_cut_for_less_than_the_lease_costs_nothing(far, nodes, tmp_path):
    async with Supervisor(cluster=nodes.address, cluster_lease=3) as sup:
        for number, break_it in enumerate((far.cut, lambda: far.cut("up"), lambda: far.cut("down"), far.reset)):
            tasks = [
                asyncio.ensure_future(sup.run(f.wait_at, tmp_path / f"{number}-{n}", 0.3, on="cluster"))
                for n in range(16)
            ]
            await until((tmp_path / f"{number}-0").exists)
            break_it()
            await asyncio.sleep(0.6)
            far.mend()
            names = await asyncio.wait_for(asyncio.gather(*tasks), 20)
            assert names == [f"{number}-{n}" for n in range(16)]
    assert len(entered(tmp_path)) == 4 * 16


async def test_what_a_network_takes_away_for_longer_is_said_once_it_is_over(far, nodes, tmp_path):
    async with Supervisor(cluster=nodes.address, cluster_lease=1, shutdown_timeout=2) as sup:
        task = asyncio.ensure_future(sup.run(f.spin_at, tmp_path / "run", on="cluster", policy=FAST))
        await until((tmp_path / "run.beat").exists)
        far.cut()
        with pytest.raises(WorkerDied, match="with its node 'far'"):
            await asyncio.wait_for(task, 20)
        before = (tmp_path / "run.beat").stat().st_mtime_ns
        await asyncio.sleep(0.2)
        assert (tmp_path / "run.beat").stat().st_mtime_ns == before  # never sooner
        far.mend()
        assert await asyncio.wait_for(sup.run(f.give_back, "again", on="cluster"), 20) == "again"


async def test_a_shutdown_is_bounded_while_the_network_is_cut(far, nodes, tmp_path):
    async with Supervisor(cluster=nodes.address, cluster_lease=60, shutdown_timeout=1) as sup:
        task = asyncio.ensure_future(sup.run(f.wait_at, tmp_path / "run", 600, on="cluster", policy=FAST))
        await until((tmp_path / "run").exists)
        far.cut()
        began = time.monotonic()
        report = await sup.shutdown()
        assert time.monotonic() - began < 1 + 0.9  # its stack is not waited for as well, which would take a second
        (outcome,) = report.outcomes
        assert outcome.ended == "abandoned"
        assert "which does not answer" in outcome.stack
        with pytest.raises(WorkerStopped):
            await task


async def test_a_slow_network_of_which_connections_break_again_and_again_loses_nothing(far, nodes, tmp_path):
    async with Supervisor(cluster=nodes.address, cluster_lease=5) as sup:
        far.delay = 0.02
        tasks = [asyncio.ensure_future(sup.run(f.wait_at, tmp_path / str(n), 0.01, on="cluster")) for n in range(300)]
        data = asyncio.ensure_future(sup.run(f.give_back, os.urandom(1 << 22), on="cluster"))
        while not all(task.done() for task in (*tasks, data)):
            await asyncio.sleep(0.5)
            far.reset()
        assert sorted(int(name) for name in await asyncio.gather(*tasks)) == list(range(300))
        assert len(await data) == 1 << 22


async def test_a_worker_is_not_started_elsewhere_before_it_is_over(far, nodes, tmp_path):
    """Both are on one machine, and share a lock."""
    restart = Restart("always", max_restarts=10, within=100, backoff=0)
    async with Supervisor(cluster=nodes.address, cluster_lease=1, shutdown_timeout=3) as sup:
        worker = await sup.start(f.alone, tmp_path, on="cluster", policy=FAST, restart=restart)
        await until((tmp_path / "alone").exists)
        nodes.add("near")
        await asyncio.to_thread(nodes.wait)
        far.cut()
        await until(lambda: worker.node == "near", 60)
        assert not (tmp_path / "twice").exists()
