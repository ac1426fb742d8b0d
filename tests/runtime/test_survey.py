"""What a supervisor shows of itself to a shell, a screen or a browser."""

import asyncio
import json
import os
import threading

from supervisor import Ask, EscalationPolicy, Inject, Restart, Supervisor

from ..inside import integration_of


def look(sup, **options):
    return integration_of(sup).survey(**options)


def rows(sup, **options):
    return {row.name: row for row in look(sup, **options).workers}


async def test_a_supervisor_that_nobody_has_used_shows_its_pools_and_its_health():
    seen = look(Supervisor("app", max_threads=3))
    assert (seen.supervisor, seen.state, seen.pid, seen.workers) == ("app", "unused", os.getpid(), ())
    assert {pool.name: pool.size for pool in seen.pools}["thread"] == 3
    assert seen.health.ready


async def test_workers_and_calls_show_where_they_stand_and_since_when():
    async with Supervisor("app", max_threads=1) as sup:
        group = sup.group("feeds")
        worker = await group.start(lambda ctx: ctx.stop.wait(), name="reader", restart=Restart("failure"))
        running, release = threading.Event(), threading.Event()
        call = asyncio.ensure_future(sup.run(lambda: (running.set(), release.wait()), name="first"))
        while not running.is_set():
            await pause()
        queued = asyncio.ensure_future(sup.run(int, name="waits"))
        await pause()
        there = rows(sup)
        assert list(there) == ["feeds/reader", "first", "waits"]
        reader, first, waits = there.values()
        assert (reader.role, reader.group, reader.state, reader.ready) == ("worker", "feeds", "running", True)
        assert (reader.pool, reader.ident) == (None, worker.ident)
        assert (first.role, first.pool, first.state, first.queued_for) == ("call", "thread", "running", None)
        assert first.running_for is not None
        assert first.running_for >= 0
        assert (waits.state, waits.running_for, waits.ident) == ("queued", None, None)
        assert waits.queued_for is not None
        assert [group.name for group in look(sup).groups] == ["feeds"]
        json.dumps(look(sup).to_dict())
        release.set()
        await call
        await queued


async def test_a_survey_can_be_narrowed_by_name_and_state_and_cut():
    async with Supervisor("app") as sup:
        for number in range(4):
            await sup.start(lambda ctx: ctx.stop.wait(), name=f"w{number}")
        assert list(rows(sup, matching="w[12]")) == ["w1", "w2"]
        assert list(rows(sup, states=["queued"])) == []
        seen = look(sup, first=1, limit=2)
        assert [row.name for row in seen.workers] == ["w1", "w2"]
        assert (seen.matching, seen.unended) == (4, 4)


async def test_who_is_stopped_shows_its_step_and_when_the_next_one_comes(virtual, leftovers):
    async with Supervisor("app", policy=EscalationPolicy(Ask(5), Inject(2))) as sup:
        worker = await sup.start(leftovers.block, name="deaf")
        stop = asyncio.ensure_future(worker.stop("enough"))
        await pause()
        row = rows(sup)["deaf"]
        assert (row.state, row.reason, row.step, row.next_step) == ("stopping", "enough", "ask", "inject")
        assert row.step_ends_in is not None
        assert 0 < row.step_ends_in <= 5
        leftovers.release.set()
        await stop
    assert look(sup).state == "shut_down"
    assert look(sup).report is sup.report


async def test_the_stack_of_one_is_found_by_its_name():
    async with Supervisor("app") as sup:
        await sup.start(lambda ctx: ctx.stop.wait(), name="waiter")
        assert "ctx.stop.wait()" in integration_of(sup).stack("waiter")
        assert integration_of(sup).stack("nobody") is None


async def pause():
    for _ in range(5):
        await asyncio.sleep(0)
