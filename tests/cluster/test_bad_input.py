"""What cannot be said of a cluster is refused at once, by name; where there is none, nothing hangs."""

import asyncio
import os
import time
from fractions import Fraction

import pytest

from supervisor import Supervisor, SupervisorClosed, WorkerTimeout

from .. import inside
from ..waiting import until
from . import functions as f

NOBODY = "tcp://127.0.0.1:1"


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (
            {"cluster": 5},
            TypeError,
            "cluster=5: must be a client or a cluster of Dask's, a scheduler's address",
        ),
        ({"cluster": True}, TypeError, "cluster=True"),
        ({"cluster": b"tcp://10.0.0.7:8786"}, TypeError, "cluster=b'tcp://10.0.0.7:8786'"),
        ({"cluster": ["tcp://10.0.0.7:8786"]}, TypeError, "cluster=['tcp://10.0.0.7:8786']"),
        ({"cluster": ""}, ValueError, "cluster='': must be the address of a scheduler, such as tcp://10.0.0.7:8786"),
        ({"cluster": "10.0.0.7:8786"}, ValueError, "cluster='10.0.0.7:8786'"),
        ({"cluster": "tcp://10.0.0.7"}, ValueError, "cluster='tcp://10.0.0.7'"),
        ({"cluster": "http://10.0.0.7:8787"}, ValueError, "cluster='http://10.0.0.7:8787'"),
        ({"cluster": "https://10.0.0.7:8787/status"}, ValueError, "cluster='https://10.0.0.7:8787/status'"),
        ({"cluster": "inproc://10.0.0.7/5/1"}, ValueError, "cluster='inproc://10.0.0.7/5/1'"),
        ({"cluster": "tcp://10.0.0.7:8786\n"}, ValueError, "cluster='tcp://10.0.0.7:8786\\n'"),
        ({"cluster_lease": 0}, ValueError, "cluster_lease=0: must be from 1 to 3600 seconds"),
        ({"cluster_lease": 0.5}, ValueError, "cluster_lease=0.5"),
        ({"cluster_lease": 3601}, ValueError, "cluster_lease=3601"),
        ({"cluster_lease": float("nan")}, ValueError, "cluster_lease=nan"),
        ({"cluster_lease": float("inf")}, ValueError, "cluster_lease=inf"),
        ({"cluster_lease": None}, TypeError, "cluster_lease=None"),
        ({"cluster_lease": "10"}, TypeError, "cluster_lease='10'"),
        ({"cluster_lease": True}, TypeError, "cluster_lease=True"),
    ],
)
def test_a_cluster_that_cannot_be(arguments, error, says):
    with pytest.raises(error) as caught:
        Supervisor(**arguments)
    assert says in str(caught.value)


PLACES = [
    ({"on": "moon"}, ValueError, "on='moon': must be \"cluster\", or None"),
    ({"on": True}, ValueError, "on=True"),
    ({"on": ["cluster"]}, ValueError, "on=['cluster']"),
    ({"resources": {"GPU": 1}}, ValueError, "on a cluster alone"),
    ({"nodes": "a"}, ValueError, "on a cluster alone"),
    ({"on": "cluster", "resources": "GPU"}, TypeError, "resources='GPU'"),
    ({"on": "cluster", "resources": [("GPU", 1)]}, TypeError, "resources="),
    ({"on": "cluster", "resources": {5: 1}}, TypeError, "5 must be a string"),
    ({"on": "cluster", "resources": {"GPU": 0}}, ValueError, "resources['GPU']=0"),
    ({"on": "cluster", "resources": {"GPU": -1}}, ValueError, "resources['GPU']=-1"),
    ({"on": "cluster", "resources": {"GPU": float("nan")}}, ValueError, "resources['GPU']=nan"),
    ({"on": "cluster", "resources": {"GPU": float("inf")}}, ValueError, "resources['GPU']=inf"),
    ({"on": "cluster", "resources": {"GPU": 10**400}}, ValueError, "must be more than 0, and finite"),
    ({"on": "cluster", "resources": {"": 1}}, ValueError, "a name must not be empty"),
    ({"on": "cluster", "resources": {"{x}": -1}}, ValueError, "resources['{x}']=-1: must be more than 0"),
    ({"on": "cluster", "resources": {"GPU": "1"}}, TypeError, "resources['GPU']='1': must be a number"),
    ({"on": "cluster", "resources": {"GPU": None}}, TypeError, "resources['GPU']=None"),
    ({"on": "cluster", "nodes": 5}, TypeError, "nodes=5"),
    ({"on": "cluster", "nodes": [5]}, TypeError, "nodes=[5]"),
    ({"on": "cluster", "nodes": ["a", ""]}, TypeError, "nodes=['a', '']"),
    ({"on": "cluster", "nodes": ""}, TypeError, "nodes=''"),
    ({"on": "cluster", "nodes": []}, ValueError, "nodes=[]: must name at least one"),
    ({"on": "cluster", "nodes": {"a"}}, TypeError, "nodes={'a'}"),
]


@pytest.mark.parametrize(("options", "error", "says"), PLACES)
async def test_a_place_that_cannot_be(options, error, says):
    async with Supervisor(cluster=NOBODY) as sup:
        for refused in (
            lambda: sup.run(int, **options),
            lambda: sup.start(int, **options),
            lambda: asyncio.to_thread(sup.pool, "lane", kind="thread", **options),
        ):
            with pytest.raises(error) as caught:
                await refused()
            assert says in str(caught.value)
        assert sup.workers() == ()
        assert set(sup.statistics().pools) == {"thread", "process", "cluster-thread", "cluster-process"}


async def test_where_there_is_no_cluster_nothing_is_on_it():
    async with Supervisor() as sup:
        for refused in (
            lambda: sup.run(int, on="cluster"),
            lambda: sup.start(int, on="cluster"),
            lambda: asyncio.to_thread(sup.pool, "lane", kind="thread", on="cluster"),
            lambda: sup.run(int, pool="cluster-thread"),
        ):
            with pytest.raises(ValueError, match=r"has no cluster|cluster-thread"):
                await refused()


async def test_a_pool_is_where_it_was_made():
    async with Supervisor(cluster=NOBODY) as sup:
        sup.pool("here", kind="thread")
        sup.pool("there", kind="thread", on="cluster")
        with pytest.raises(ValueError, match="'here' runs its calls here"):
            await sup.run(int, pool="here", on="cluster")
        with pytest.raises(ValueError, match="'there' is of the kind 'thread'"):
            await sup.run(int, pool="there", kind="process", on="cluster")
        with pytest.raises(ValueError, match="on a cluster alone"):
            await sup.run(int, pool="here", resources={"GPU": 1})
        with pytest.raises(ValueError, match="is on a cluster"):
            sup.iterate(iter, [1], pool="there")
        with pytest.raises(ValueError, match="which is always there"):
            sup.pool("thread", kind="thread", on="cluster")
        with pytest.raises(ValueError, match="which is always there"):
            sup.pool("cluster-thread", kind="thread")


def test_without_its_extra_the_error_names_it(monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(inside.checks, "find_spec", lambda name: None if name == "distributed" else find(name))
    with pytest.raises(ModuleNotFoundError, match=r"install the extra stopladder\[dask\]"):
        Supervisor(cluster=NOBODY)
    Supervisor()


# ------------------------------------------------------------------------------------------------ what is not there


async def test_a_client_that_was_not_awaited_is_refused_at_its_first_use():
    distributed = pytest.importorskip("distributed")
    client = distributed.Client(NOBODY, asynchronous=True)
    try:
        async with Supervisor(cluster=client) as sup:
            with pytest.raises(ValueError, match="has no scheduler: start it, or await it"):
                await sup.run(int, on="cluster")
            with pytest.raises(ValueError, match="has no scheduler"):
                await sup.start(f.tick, on="cluster")
            assert await sup.run(int, "5") == 5
            assert sup.workers() == ()
    finally:
        await client.close()


async def test_a_client_that_is_closed_is_refused_at_its_first_use_and_missed_by_nobody_after_it(three):
    from distributed import Client

    async with Client(three.address, asynchronous=True) as client:
        used = Supervisor(cluster=client)
        assert await used.run(int, "5", on="cluster") == 5
    async with used:
        assert await used.run(int, "6", on="cluster") == 6
    async with Supervisor(cluster=client) as late:
        with pytest.raises(ValueError, match="use it here before it is closed"):
            await late.run(int, on="cluster")


async def test_a_cluster_within_the_process_is_refused():
    distributed = pytest.importorskip("distributed")
    local = distributed.LocalCluster(
        n_workers=1, processes=False, asynchronous=True, dashboard_address=":0", silence_logs=50
    )
    async with local, Supervisor(cluster=local) as sup:
        with pytest.raises(ValueError, match="is within this process alone"):
            await sup.run(int, on="cluster")


@pytest.mark.parametrize("address", [NOBODY, pytest.param("tcp://nowhere.invalid:8786", marks=pytest.mark.slow)])
async def test_where_nobody_answers_calls_run_out_of_time_and_health_says_why(address):
    pytest.importorskip("distributed")
    sup = Supervisor(cluster=address)
    with pytest.raises(WorkerTimeout, match="had not started"):
        await sup.run(int, on="cluster", timeout=0.1)
    waits = asyncio.ensure_future(sup.run(int, on="cluster"))
    await until(lambda: any(f"the scheduler at {address} cannot be reached" in why for why in sup.health().reasons))
    assert await sup.run(int, "5") == 5
    began = time.monotonic()
    await sup.shutdown()
    assert time.monotonic() - began < 3
    await asyncio.wait([waits])


# ------------------------------------------------------------------------------------------------ unusual places


async def test_two_supervisors_share_a_cluster_and_end_alone(three):
    async with Supervisor("one", cluster=three.address) as one:
        async with Supervisor("two", cluster=three.address) as two:
            both = await asyncio.gather(*(sup.run(int, "5", on="cluster") for sup in (one, two) for _ in range(10)))
            assert both == [5] * 20
        with pytest.raises(SupervisorClosed):
            await two.run(int, on="cluster")
        assert await one.run(Fraction, 1, 2, on="cluster") == Fraction(1, 2)


def in_a_task(address):
    async def main():
        async with Supervisor(cluster=address) as sup:
            return await sup.run(os.getpid, on="cluster", nodes="b")

    return asyncio.run(main())


async def as_a_task(address):
    async with Supervisor(cluster=address) as sup:
        return await sup.run(os.getpid, on="cluster", nodes="c")


async def test_a_supervisor_in_a_task_of_dasks_uses_the_cluster_that_it_is_on(three):
    from distributed import Client

    async with Client(three.address, asynchronous=True) as client:
        assert await client.submit(in_a_task, three.address, workers=["a"]) == three.nodes["b"].pid
        assert await client.submit(as_a_task, three.address, workers=["a"]) == three.nodes["c"].pid


async def test_a_default_executor_stays_where_it_is(three):
    async with Supervisor(cluster=three.address) as sup:
        sup.install_as_default_executor()
        assert await asyncio.to_thread(os.getpid) == os.getpid()
        assert await sup.run(os.getpid, on="cluster") in {node.pid for node in three.nodes.values()}
        assert await asyncio.to_thread(int, "5") == 5


def test_it_runs_on_uvloop_and_with_a_client_that_is_not_asynchronous(three, kind):
    uvloop = pytest.importorskip("uvloop")
    from distributed import Client

    async def main():
        async with Supervisor(cluster=client) as sup:
            return await sup.run(f.pids, on="cluster", kind=kind)

    with Client(three.address) as client, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert three.name_of(runner.run(main())) in three.nodes
