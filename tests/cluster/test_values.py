"""Values that travel: what user's code does as they are unpickled harms nobody else, and other Pythons are refused."""

import asyncio
import os
import sys

import pytest

from supervisor import RemoteError, Supervisor, WorkerTimeout

from ..inside_cluster import cluster_link
from ..waiting import until
from . import functions as f


async def test_a_lease_is_renewed_while_a_value_is_unpickled_for_longer_than_it(three):
    async with Supervisor(cluster=three.address, cluster_lease=1) as sup:
        other = asyncio.ensure_future(sup.run(f.wait_at_ease, 4, on="cluster", nodes="b"))
        await until(lambda: [worker.state for worker in sup.workers()] == ["running"])
        assert await sup.run(f.SlowToLoad, 2.5, on="cluster", nodes="a") == "slept"
        assert not other.done()
        assert await other is None  # nobody has asked it to stop


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError])
async def test_what_unpickling_raises_is_the_error_of_that_run_alone(three, error):
    async with Supervisor(cluster=three.address) as sup:
        with pytest.raises(RemoteError, match=f"cannot be unpickled: {error.__name__}"):
            await sup.run(f.Raising, error, on="cluster")
        assert await sup.run(int, "5", on="cluster") == 5


@pytest.mark.parametrize("kind", ["thread", "process"])
async def test_an_argument_that_its_node_cannot_unpickle_is_no_error_of_the_function(three, kind):
    async with Supervisor(cluster=three.address) as sup:
        for error in (ModuleNotFoundError, SystemExit):
            with pytest.raises(
                RemoteError, match=rf"^the call cannot be unpickled on its node: {error.__name__}"
            ) as caught:
                await sup.run(f.fail, f.Raising(error), on="cluster", kind=kind)
            assert "in fail_with" in str(caught.value.__cause__)


WITHOUT_US = """
import sys

class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "supervisor":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Nothing())
"""


async def test_a_dask_worker_without_the_library_goes_on_as_it_is_and_health_says_why(nodes, tmp_path):
    from distributed import Client

    (tmp_path / "sitecustomize.py").write_text(WITHOUT_US)
    nodes.add("bare", environment={"PYTHONPATH": str(tmp_path)})
    async with Supervisor(cluster=nodes.address) as sup:
        with pytest.raises(WorkerTimeout):
            await sup.run(int, on="cluster", timeout=0.1)
        await until(lambda: "it cannot be a node, which needs this library: Module" in "".join(sup.health().reasons))
        late = nodes.add("late", environment={"PYTHONPATH": str(tmp_path)})
        assert late.address
        async with Client(nodes.address, asynchronous=True) as client:
            assert {await client.submit(os.getpid, pure=False, workers=[name]) for name in ("bare", "late")} == {
                node.pid for node in nodes.nodes.values()
            }


async def test_a_node_of_another_python_is_refused_as_bytecode_would_crash_it(three, monkeypatch):
    monkeypatch.setattr(cluster_link, "VERSION", "1 on Python 3.99")
    here = ".".join(map(str, sys.version_info[:2]))
    async with Supervisor(cluster=three.address) as sup:
        with pytest.raises(WorkerTimeout):
            await sup.run(int, on="cluster", timeout=1)
        why = f"speaks version 1 on Python {here}, and its owner version 1 on Python 3.99"
        await until(lambda: [reason for reason in sup.health().reasons if why in reason])
        assert len(sup.health().reasons) == 1
