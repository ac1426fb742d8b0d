"""What does not obey, on a node: its ladder is climbed there, and it has ended soon after the ladder's time."""

import asyncio
import time

import pytest

from supervisor import Ask, EscalationPolicy, Inject, Kill, Supervisor, Terminate, WorkerStopped, WorkerTimeout

from . import functions as f

LADDER = EscalationPolicy(Ask(0.2), Inject(0.2, every=0.1), Terminate(0.2), Kill(0.3))
SLOW = EscalationPolicy(Ask(20), Inject(20), Terminate(20), Kill(20))
SLACK = 4
"""Seconds that a ladder may take beyond its own on a busy machine; the note has what it takes on a quiet one."""

STUBBORN = [
    ("thread", f.spins, "injected"),
    ("thread", f.sleeps, "abandoned"),
    ("process", f.spins, "injected"),
    ("process", f.sleeps_and_refuses, "terminated"),
    ("process", f.holds_the_gil, "terminated"),
]


async def begun(sup, tmp_path, fn, kind, **options):
    path = tmp_path / "begun"
    task = asyncio.ensure_future(sup.run(fn, path, kind=kind, on="cluster", policy=LADDER, **options))
    await f.until_there(path)
    return task


@pytest.mark.parametrize(("kind", "fn", "ended"), STUBBORN)
async def test_it_has_ended_soon_after_its_ladder(three, tmp_path, kind, fn, ended):
    async with Supervisor(cluster=three.address) as sup:
        task = await begun(sup, tmp_path, fn, kind)
        (worker,) = sup.workers()
        began = time.monotonic()
        outcome = await worker.stop("enough")
        took = time.monotonic() - began
        with pytest.raises(WorkerStopped):
            await task
    assert outcome.ended in ((ended, "injected") if fn is f.sleeps else (ended,))  # from 3.15 on, sleeps end
    assert outcome.node in three.nodes
    assert fn.__name__ in outcome.stack or "does not answer" in outcome.stack
    assert took < sum(step.grace for step in LADDER.for_kind(kind)) + SLACK


@pytest.mark.parametrize(("kind", "fn", "ended"), STUBBORN)
async def test_a_shutdown_with_less_time_than_the_ladder_shortens_it(three, tmp_path, kind, fn, ended):
    async with Supervisor(cluster=three.address, policy=SLOW, shutdown_timeout=100) as sup:
        path = tmp_path / "begun"
        task = asyncio.ensure_future(sup.run(fn, path, kind=kind, on="cluster"))
        await f.until_there(path)
        began = time.monotonic()
        report = await sup.shutdown(timeout=2.5)
        assert time.monotonic() - began < 2.5 + SLACK
        with pytest.raises(WorkerStopped):
            await task
    (outcome,) = report.outcomes
    assert outcome.ended in ((ended, "injected") if fn is f.sleeps else (ended,))


async def test_a_shutdown_of_a_group_shortens_what_is_being_stopped_there(three, tmp_path):
    """Its node hears that there is less time: the worker is injected there, and not given up here."""
    async with Supervisor(cluster=three.address, shutdown_timeout=100) as sup:
        group = sup.group("group")
        worker = await group.start(f.spins_as_worker, tmp_path / "begun", on="cluster", policy=SLOW)
        stopping = asyncio.ensure_future(worker.stop())
        await asyncio.sleep(0.2)
        report = await group.shutdown(timeout=2)
        assert (await stopping).ended == "injected"
    assert report.counts() == {"injected": 1}


async def test_within_counts_the_ladder_there(three, tmp_path, kind):
    async with Supervisor(cluster=three.address) as sup:
        began = time.monotonic()
        with pytest.raises(WorkerTimeout) as caught:
            await sup.run(f.spins, tmp_path / "begun", kind=kind, on="cluster", within=5, policy=SLOW)
        assert time.monotonic() - began < 5 + SLACK
    assert caught.value.outcome.ended == "injected"
