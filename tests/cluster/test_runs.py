"""Calls and workers on a cluster: where they run, how they end, and what is said of it."""

import asyncio
import signal

import pytest

from supervisor import (
    Ask,
    EscalationPolicy,
    Inject,
    RemoteError,
    Supervisor,
    WorkerDied,
    WorkerStopped,
)

from ..waiting import until
from . import functions as f

FAST = EscalationPolicy(Ask(0.1), Inject(15, every=0.1))


async def test_a_call_runs_on_a_node(three, kind):
    async with Supervisor(cluster=three.address) as sup:
        pids = {node.pid for node in three.nodes.values()}
        found = await sup.run(f.pid, on="cluster", kind=kind)
        assert (found in pids) is (kind == "thread")
        assert await sup.run(lambda x: x + 1, 2, on="cluster", kind=kind) == 3


async def test_an_error_comes_as_it_is_with_the_traceback_of_the_node(three, kind):
    async with Supervisor(cluster=three.address) as sup:
        with pytest.raises(ValueError, match="no") as caught:
            await sup.run(f.fail, "no", on="cluster", kind=kind)
    assert isinstance(caught.value.__cause__, RemoteError)
    assert "in fail" in str(caught.value.__cause__)


async def test_what_cannot_be_sent_is_refused_at_once(three):
    import threading

    async with Supervisor(cluster=three.address) as sup:
        with pytest.raises(TypeError, match="cannot be sent to a node"):
            await sup.run(f.fail, threading.Lock(), on="cluster")
        with pytest.raises(TypeError, match="cannot be sent to its owner"):
            await sup.run(threading.Lock, on="cluster")


async def test_it_runs_where_its_resources_and_nodes_are(three, kind, tmp_path):
    async with Supervisor(cluster=three.address) as sup:
        for _ in range(3):
            assert three.name_of(await sup.run(f.pids, on="cluster", kind=kind, resources={"GPU": 1})) == "a"
            assert three.name_of(await sup.run(f.pids, on="cluster", kind=kind, nodes="b")) == "b"
            assert three.name_of(await sup.run(f.pids, on="cluster", kind=kind, nodes=["c", "nobody"])) == "c"
        tasks = [
            asyncio.ensure_future(
                sup.run(f.until_stopped, tmp_path / name, on="cluster", resources={"GPU": 1}, name=f"gpu-{name}")
            )
            for name in "ab"
        ]
        await until((tmp_path / "a").exists)
        await until(lambda: [w.state for w in sup.workers()] == ["running", "queued"])
        await sup.worker("gpu-a").stop("enough")
        await until(lambda: [w.state for w in sup.workers()] == ["running"])
        assert (await tasks[0]) == "enough"
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_spin_is_ended_by_its_ladder_on_the_node(three, kind, tmp_path):
    async with Supervisor(cluster=three.address) as sup:
        task = asyncio.ensure_future(
            sup.run(f.spin_from, tmp_path / "began", on="cluster", kind=kind, name="spin", policy=FAST)
        )
        await until((tmp_path / "began").exists)
        await sup.worker("spin").stop()
        with pytest.raises(WorkerStopped) as caught:
            await task
    outcome = caught.value.outcome
    assert (outcome.ended, outcome.step, outcome.kind) == ("injected", "inject", kind)
    assert outcome.node in three.nodes
    got_no_time = kind == "process" and "does not answer: state R" in outcome.stack  # which answers by itself
    assert "in spin" in outcome.stack or got_no_time


async def test_a_process_that_dies_there_is_said_to_have_died(three):
    async with Supervisor(cluster=three.address) as sup:
        with pytest.raises(WorkerDied, match="SIGKILL") as caught:
            await sup.run(f.killed_by, signal.SIGKILL, on="cluster", kind="process")
    assert caught.value.outcome.exit_code == -signal.SIGKILL


async def test_a_shutdown_stops_what_runs_there(three, kind, tmp_path):
    async with Supervisor(cluster=three.address) as sup:
        task = asyncio.ensure_future(sup.run(f.spin_from, tmp_path / "began", on="cluster", kind=kind, policy=FAST))
        await until((tmp_path / "began").exists)
        report = await sup.shutdown(timeout=5)
        with pytest.raises(WorkerStopped):
            await task
    assert [outcome.ended for outcome in report.outcomes] == ["injected"]


async def test_without_a_cluster_it_is_refused():
    async with Supervisor() as sup:
        with pytest.raises(ValueError, match="has no cluster"):
            await sup.run(f.pid, on="cluster")
        with pytest.raises(ValueError, match='must be "cluster"'):
            await sup.run(f.pid, on="moon")
        with pytest.raises(ValueError, match="on a cluster alone"):
            await sup.run(f.pid, resources={"GPU": 1})


async def test_a_node_that_dies_ends_its_runs(nodes, kind):
    nodes.add("only")
    async with Supervisor(cluster=nodes.address) as sup:
        task = asyncio.ensure_future(sup.run(f.spin, on="cluster", kind=kind))
        await until(lambda: [w.state for w in sup.workers()] == ["running"])
        nodes.nodes["only"].kill()
        with pytest.raises(WorkerDied, match="with its node 'only'"):
            await task
