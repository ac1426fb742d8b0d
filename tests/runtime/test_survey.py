"""What a supervisor shows of itself to a shell, a screen or a browser."""

import asyncio
import json
import os
import threading
import time

import pytest

from supervisor import Ask, EscalationPolicy, Inject, Restart, Supervisor

from ..inside import integration_of
from ..waiting import until


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
        await until(lambda: "ctx.stop.wait()" in integration_of(sup).stack("waiter"))
        assert integration_of(sup).stack("nobody") is None


async def pause():
    for _ in range(5):
        await asyncio.sleep(0)


# ------------------------------------------------------------------------------------------------ groups


def states(sup):
    return {group.name: group.state for group in look(sup).groups}


async def test_a_group_runs_and_is_gone_once_it_has_ended():
    async with Supervisor("app") as sup:
        feeds = sup.group("feeds", strategy="one_for_all", restart=Restart("always", max_restarts=5))
        fast = feeds.group("fast")
        await feeds.start(wait)
        await fast.start(wait)
        release = threading.Event()
        call = asyncio.ensure_future(fast.run(release.wait))
        await until(lambda: len(fast.workers()) == 2)
        outer, inner = look(sup).groups
        assert (outer.name, outer.state, outer.strategy, outer.restarts) == ("feeds", "running", "one_for_all", 0)
        assert (outer.workers, outer.calls, outer.restarts_left) == (2, 1, 5)
        assert (inner.name, inner.workers, inner.calls) == ("feeds/fast", 1, 1)
        release.set()
        await call
        await feeds.shutdown()
        assert states(sup) == {}
        sup.group("empty").group("inner")
        sup.group("another")
        assert states(sup) == {"empty": "running", "empty/inner": "running", "another": "running"}
    assert states(sup) == {}
    assert (look(sup).workers, look(sup).unended, look(sup).state) == ((), 0, "shut_down")


async def test_a_group_is_stopping_while_what_is_in_it_ends(leftovers):
    async with Supervisor("app", policy=EscalationPolicy(Ask(60))) as sup:
        group = sup.group("feeds")
        group.group("fast")
        await group.start(leftovers.block)
        ending = asyncio.ensure_future(group.shutdown())
        await until(lambda: states(sup)["feeds"] == "stopping")
        assert states(sup).get("feeds/fast", "stopping") == "stopping"
        leftovers.release.set()
        await ending


async def test_all_groups_are_stopping_while_the_supervisor_shuts_down(leftovers):
    async with Supervisor("app", policy=EscalationPolicy(Ask(60))) as sup:
        await sup.group("feeds").group("fast").start(leftovers.block)
        ending = asyncio.ensure_future(sup.shutdown())
        await until(lambda: look(sup).state == "shutting_down")
        assert states(sup) == {"feeds": "stopping", "feeds/fast": "stopping"}
        leftovers.release.set()
        await ending


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
async def test_a_group_is_restarting_while_its_workers_go_down_and_up_together(strategy, leftovers):
    fail = threading.Event()

    def fails(ctx):
        while not ctx.stop.wait(0.001):
            if fail.is_set():
                fail.clear()
                raise ValueError

    async with Supervisor("app", policy=EscalationPolicy(Ask(60))) as sup:
        group = sup.group("feeds", strategy=strategy)
        await group.start(fails, restart=Restart("failure", backoff=0))
        await group.start(leftovers.block, restart=Restart("failure", backoff=0))
        assert states(sup) == {"feeds": "running"}
        fail.set()
        await until(lambda: states(sup) == {"feeds": "restarting"})
        leftovers.release.set()
        await until(lambda: states(sup) == {"feeds": "running"})


def test_a_group_that_has_failed_stops_backs_off_and_is_started_again(virtual, leftovers):
    fail = threading.Event()

    def fails(ctx):
        while not ctx.stop.wait(0.001):
            if fail.is_set():
                fail.clear()
                raise ValueError

    async def main(time):
        async with Supervisor("app", policy=EscalationPolicy(Ask(60))) as sup:
            restart = Restart("always", max_restarts=3, backoff=10, jitter=0)
            group = sup.group("feeds", restart=restart)
            inner = group.group("inner")
            await group.start(fails, restart=Restart("failure", max_restarts=0))
            await inner.start(leftovers.block)
            fail.set()
            await until(lambda: states(sup).get("feeds") == "stopping")
            assert states(sup)["feeds/inner"] == "stopping"
            leftovers.release.set()
            await until(lambda: states(sup) == {"feeds": "backing_off"})
            (row,) = look(sup).groups
            assert (row.workers, row.restarts_left) == (0, 2)
            await time.advance(10)
            await until(lambda: states(sup) == {"feeds": "running", "feeds/inner": "running"})
            assert [row.restarts for row in look(sup).groups if row.name == "feeds"] == [1]

    virtual(main)


# ------------------------------------------------------------------------------------------------ while much happens


async def test_many_workers_and_calls_are_surveyed_at_once():
    async with Supervisor("app", max_threads=20) as sup:
        for number in range(50):
            await sup.start(wait, name=f"w{number}")
        release = threading.Event()
        calls = [asyncio.ensure_future(sup.run(release.wait)) for _ in range(1950)]
        await asyncio.sleep(0)
        began = time.thread_time()
        seen = look(sup)
        took = time.thread_time() - began
        assert (seen.unended, seen.matching, len(seen.workers)) == (2000, 2000, 2000)
        assert took < 2
        json.dumps(seen.to_dict())
        release.set()
        await asyncio.gather(*calls)


async def test_surveys_of_other_threads_neither_raise_nor_lie_nor_block_while_thousands_begin_and_end():
    """Each row is of a worker or a call that was there: its name is its own, and its numbers are none below 0."""
    async with Supervisor("app", max_threads=8, incidents=50) as sup:
        over, wrong, longest = threading.Event(), [], [0.0]

        def surveys():
            while not over.is_set():
                began = time.perf_counter()
                try:
                    seen = look(sup)
                    check(seen)
                    sup.workers(), sup.incidents(), sup.stacks(), sup.health()
                except BaseException as error:
                    wrong.append(error)
                    return
                longest[0] = max(longest[0], time.perf_counter() - began)

        threads = [threading.Thread(target=surveys) for _ in range(3)]
        for thread in threads:
            thread.start()
        executor = sup.executor()
        for turn in range(12):
            feeds = sup.group("feeds")
            inner = feeds.group("inner")
            worker = await inner.start(wait, name="w", restart=Restart("always"))
            calls = [held.run(int) for held in (sup, feeds, inner) for _ in range(60)]
            calls += [sup.run(fails, name=f"fails{number}") for number in range(30)]
            calls += [asyncio.wrap_future(executor.submit(fails)) for _ in range(30)]
            calls += [sup.run(int, timeout=0.001), worker.restart()]
            await asyncio.gather(*calls, return_exceptions=True)
            sup.pool(f"pool{turn}", kind="thread", size=1)
            await sup.run(int, pool=f"pool{turn}")
            await feeds.shutdown()
        over.set()
        for thread in threads:
            thread.join()
        assert not wrong, wrong[0]
        assert longest[0] < 10


def check(seen):
    for row in seen.workers:
        assert row.name.rpartition("/")[2].rpartition("-")[0] in ("int", "fails", "") or row.name.startswith("fails")
        assert row.name.endswith("w") or row.role == "call"
        assert row.state != "ended"
        assert not row.name.startswith("let_go")
        for seconds in (row.queued_for, row.running_for, row.beat_ago):
            assert seconds is None or seconds >= 0
    for incident in seen.incidents:
        assert incident.error is None or "ValueError" in incident.error or "Restart" in incident.error
    json.dumps(seen.to_dict())


def wait(ctx):
    ctx.stop.wait()


def fails():
    raise ValueError


async def test_between_two_runs_a_worker_has_not_ended():
    """Whoever looks just when a run has concluded, and it is being decided what follows, sees it as it was."""
    seen = []

    class Looks(type):
        def __instancecheck__(cls, error):
            seen.append((sup.worker("w").state, [row.state for row in look(sup).workers]))
            return False

    class Never(Exception, metaclass=Looks):
        pass

    async with Supervisor("app") as sup:
        restart = Restart("failure", max_restarts=1, backoff=0, within=600, never_on=Never)
        worker = await sup.start(lambda ctx: fails(), name="w", restart=restart)
        await worker.wait()
    assert seen == [("running", ["running"])] * 2
