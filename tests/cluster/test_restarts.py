"""Workers whose node dies: they are started on others, with their groups, in their order, and never twice at once."""

import asyncio

import pytest

from supervisor import Restart, Supervisor

from ..waiting import until
from . import functions as f

AGAIN = Restart("failure", backoff=0, within=1000)


def read(folder, name, attempt, what):
    path = folder / f"{name}-{attempt}.{what}"
    return [float(number) for number in path.read_text().split()] if path.exists() else None


def ran_alone(folder, name, attempts):
    """Whether each run of a worker had ended before the next one began."""
    for attempt in range(1, attempts):
        last, first = read(folder, name, attempt, "alive"), read(folder, name, attempt + 1, "began")
        assert not last or last[0] <= first[2], f"run {attempt} of {name} was there with the next one"
    return True


async def up(worker, attempt):
    await until(lambda: (worker.state, worker.attempt) == ("running", attempt))


async def node_of(nodes, folder, worker):
    name = worker.name.replace("/", "-")
    await until(lambda: len(read(folder, name, worker.attempt, "began") or ()) == 3)
    pid, parent, _ = read(folder, name, worker.attempt, "began")
    return nodes.name_of((int(pid), int(parent)))


async def test_a_worker_goes_on_on_another_node(nodes, kind, tmp_path):
    for name in "ab":
        nodes.add(name)
    async with Supervisor(cluster=nodes.address, cluster_lease=2) as sup:
        options = {"on": "cluster", "kind": kind, "restart": AGAIN, "ready_timeout": 20, "heartbeat": 20}
        worker = await sup.start(f.runs_alone, tmp_path, name="w", **options)
        first = await node_of(nodes, tmp_path, worker)
        nodes.nodes[first].kill()
        await up(worker, 2)
        assert (worker.last_outcome.ended, worker.last_outcome.node) == ("died", first)
        assert {first, await node_of(nodes, tmp_path, worker)} == {"a", "b"}
        assert ran_alone(tmp_path, "w", 2)


@pytest.mark.parametrize(
    ("strategy", "attempts"), [("one_for_one", (1, 2, 1)), ("one_for_all", (2, 2, 2)), ("rest_for_one", (1, 2, 2))]
)
async def test_a_group_restarts_across_nodes_by_its_strategy_and_in_its_order(nodes, tmp_path, strategy, attempts):
    for name in "abc":
        nodes.add(name)
    async with Supervisor(cluster=nodes.address, cluster_lease=2) as sup:
        group = sup.group("group", strategy=strategy)
        workers = []
        for number, name in enumerate("abc"):
            after = ("abc"[number - 1],) if number else ()
            worker = await group.start(
                f.runs_alone, tmp_path, on="cluster", name=name, after=after, restart=AGAIN, ready_timeout=20,
                nodes=[name, "spare"],
            )  # fmt: skip
            workers.append(worker)
        nodes.add("spare")
        nodes.nodes["b"].kill()
        for worker, attempt in zip(workers, attempts, strict=True):
            await up(worker, attempt)
        assert [await node_of(nodes, tmp_path, worker) for worker in workers] == ["a", "spare", "c"]
        began = [
            read(tmp_path, f"group-{name}", attempt, "began")[2] for name, attempt in zip("abc", attempts, strict=True)
        ]
        assert strategy != "one_for_all" or began == sorted(began)
        assert strategy == "one_for_one" or began[1] < began[2]
        for name, attempt in zip("abc", attempts, strict=True):
            assert ran_alone(tmp_path, f"group-{name}", attempt)
        report = await sup.shutdown()
    assert [outcome.worker for outcome in report.outcomes] == ["group/c", "group/b", "group/a"]


async def test_a_worker_without_a_restart_has_died(nodes, tmp_path):
    nodes.add("a")
    async with Supervisor(cluster=nodes.address) as sup:
        worker = await sup.start(f.runs_alone, tmp_path, on="cluster", name="w")
        nodes.nodes["a"].kill()
        outcome = await asyncio.wait_for(worker.wait(), 20)
    assert (outcome.ended, outcome.node) == ("died", "a")
