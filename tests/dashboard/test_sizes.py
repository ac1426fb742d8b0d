"""What stays small, and quick, however much there is."""

import asyncio
import re
import time

import pytest

from supervisor import Ask, EscalationPolicy, Health, Inject, PoolStatistics, Supervisor, Transition, dashboard
from supervisor.dashboard.record import MOST, Record
from supervisor.dashboard.texts import link

from .. import inside_shown
from ..inside_shown import GroupRow, Incident, Integration, ShutdownProgress, StateChanged, Survey, WorkerRow
from .visiting import At, visitor

QUICK = EscalationPolicy(Ask(0.2), Inject(0.2))
A_POLL = 50_000
LONG = "ש<&" * 2_000


def crowd(number, name, *, stopping=False):
    """A survey of many, each of whom has all that a row can have."""
    step = "inject" if stopping else None
    rows = tuple(
        WorkerRow(
            name=f"{name}-{of}",
            kind="process",
            role="worker",
            state="stopping" if stopping else "running",
            group="feeds",
            restarts=12,
            running_for=12345.6,
            step=step,
            step_ends_in=4.5,
            next_step="kill",
        )
        for of in range(number)
    )
    incidents = tuple(
        Incident(worker=row.name, kind="thread", role="worker", ended="failed", error="x" * 2_000, at=time.time())
        for row in rows[:100]
    )
    return Survey(
        supervisor="shop",
        pid=1,
        version="1",
        python="3",
        at=time.time(),
        state="shutting_down" if stopping else "running",
        health=Health("shop", ready=False, live=True, reasons=(name,) * 50, failed=(name,) * 5),
        pools=(PoolStatistics("thread", "thread", 4, 4), PoolStatistics("process", "process", 4, 4)),
        groups=(GroupRow(name="feeds", state="running", strategy="one_for_one"),),
        workers=rows,
        matching=number,
        unended=number,
        incidents=incidents,
        shutdown=ShutdownProgress(reason=name, begun_ago=1.0, deadline_in=9.0, draining=False, ended=False)
        if stopping
        else None,
    )


async def size(monkeypatch, survey):
    monkeypatch.setattr(Integration, "survey", lambda self: survey)
    async with visitor(At(dashboard.app(Supervisor("shop")))) as client:
        return len((await client.get("?live=1")).content)


@pytest.mark.parametrize("stopping", [False, True])
async def test_a_look_at_two_thousand_workers_is_small(monkeypatch, stopping):
    assert await size(monkeypatch, crowd(2_000, "feeds/reader", stopping=stopping)) < A_POLL


async def test_long_names_and_texts_make_it_no_longer_than_that(monkeypatch):
    assert await size(monkeypatch, crowd(2_000, LONG, stopping=True)) < 4 * A_POLL


async def test_a_worker_with_a_long_name_has_a_page():
    name = "ש/<&".replace("/", "") * 500
    assert len(link(name)) < 200
    async with Supervisor(policy=QUICK) as sup, visitor(At(dashboard.app(sup))) as client:
        worker = await sup.start(lambda ctx: ctx.stop.wait(), name=name)
        while "ctx.stop.wait()" not in worker.stack():
            await asyncio.sleep(0.01)
        page = (await client.get("")).text
        found = re.search(r'href="(worker\?key=[0-9a-f]+)"', page)[1]
        assert "ctx.stop.wait()" in (await client.get(found)).text
        assert (await client.get("worker?key=0")).status_code == 404


def test_what_is_kept_is_bounded():
    record = Record()
    for number in range(MOST + 10):
        record.receive(StateChanged(None, Transition("shop", f"w-{number}", "thread")))
    assert len(record.changes()) == MOST
    assert record.changes()[0].transition.worker == "w-10"


async def test_no_call_is_watched_for_it():
    async with Supervisor(policy=QUICK) as sup:
        app = dashboard.app(sup)
        async with visitor(At(app)) as client:
            await sup.run(sum, [1], name="summing")
            page = (await client.get("")).text
    assert "summing" not in page


async def test_pages_that_are_open_together_share_a_look(monkeypatch):
    looked = []
    survey = crowd(10, "w")
    inside_shown.time_looks_by(monkeypatch, lambda: float(len(looked)))  # only a look takes time
    monkeypatch.setattr(Integration, "survey", lambda self: looked.append(1) or survey)
    async with visitor(At(dashboard.app(Supervisor("shop")))) as client:
        await asyncio.gather(*(client.get("?live=1") for _ in range(10)))
    assert len(looked) <= 2


async def test_a_copy_of_the_process_shows_nothing(monkeypatch):
    monkeypatch.setattr(Integration, "lost", True)
    async with visitor(At(dashboard.app(Supervisor("shop")))) as client:
        assert (await client.get("")).status_code == 503
