"""What Dask does with a node: it pauses one that has little memory, and retires one that is not needed any more."""

import asyncio
import sys

from supervisor import Ask, EscalationPolicy, Restart, Supervisor

from ..programs import run_program
from ..waiting import until
from . import functions as f

RETIRE = """
import sys
from distributed import Client
with Client(sys.argv[1]) as client:
    client.retire_workers([sys.argv[2]])
"""


def states(sup):
    return {node.name: node.state for node in sup.statistics().nodes}


async def test_a_node_that_is_paused_goes_on_with_what_it_has_and_takes_nothing_new(nodes, tmp_path):
    nodes.add("a")
    nodes.add("b", nthreads=1)
    async with Supervisor(cluster=nodes.address) as sup:
        calls, release = tmp_path / "calls", tmp_path / "release"
        calls.mkdir()
        paused = asyncio.ensure_future(sup.run(f.pauses_its_node, calls, release, on="cluster", nodes="a"))
        await until(lambda: states(sup) == {"a": "closing", "b": "up"})
        where = await asyncio.gather(*(sup.run(f.pids, on="cluster") for _ in range(4)))
        assert {nodes.name_of(pids) for pids in where} == {"b"}
        waiting = asyncio.ensure_future(sup.run(f.pids, on="cluster", nodes="a"))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        release.touch()
        assert await paused == "went on"
        assert nodes.name_of(await asyncio.wait_for(waiting, 20)) == "a"  # it takes runs again


async def test_a_node_that_is_retired_has_its_runs_stopped_and_its_workers_go_on_elsewhere(nodes, kind, tmp_path):
    nodes.add("a")
    nodes.wait()
    policy = EscalationPolicy(Ask(5))
    async with Supervisor(cluster=nodes.address, policy=policy) as sup:
        worker = await sup.start(
            f.runs_alone, tmp_path, on="cluster", kind=kind, name="w", restart=Restart("failure", backoff=0.01)
        )
        await f.until_there(tmp_path / "w-1.alive")
        nodes.add("b")
        nodes.wait()
        done = await asyncio.to_thread(
            run_program, sys.executable, "-W", "ignore", "-c", RETIRE, nodes.address, nodes.nodes["a"].address
        )
        assert done.returncode == 0, done.stderr
        await f.until_there(tmp_path / "w-2.alive")
        where = (tmp_path / "w-2.began").read_text().split()
        assert nodes.name_of([int(pid) for pid in where[:2]]) == "b"
        assert (worker.last_outcome.ended, worker.last_outcome.node) == ("died", "a")
        await until(lambda: states(sup) == {"b": "up"})
