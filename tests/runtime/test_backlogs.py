"""What grows with a backlog is linear, and is taken in short turns."""

import asyncio
import gc
import itertools
import sys
import threading
import time

import pytest
import structlog

from supervisor import Ask, EscalationPolicy, Inject, Restart, Supervisor, WorkerStopped, current_context

from .. import inside
from ..inside import Alarms
from ..waiting import LIMIT, until
from .work import LINEAR, counted, each

SILENT = structlog.wrap_logger(structlog.ReturnLogger(), wrapper_class=structlog.make_filtering_bound_logger(50))


def wait(ctx):
    ctx.stop.wait()


def wait_in_a_call():
    current_context().stop.wait()


async def queued(of, number):
    """Has all threads of a supervisor wait, and so many calls in the queue behind them."""
    entered = threading.Semaphore(0)

    def busy():
        entered.release()
        wait_in_a_call()

    calls = [asyncio.ensure_future(of.run(busy)) for _ in range(2)]
    for _ in calls:
        await until(lambda: entered.acquire(blocking=False))
    calls += [asyncio.ensure_future(of.run(int)) for _ in range(number)]
    while of.statistics().queued < number:
        await asyncio.sleep(0)
    return calls


@pytest.mark.parametrize("which", ["group", "supervisor"])
@pytest.mark.parametrize("where", ["group", "supervisor", "deep in groups"])
async def test_each_of_many_queued_calls_costs_as_much_at_a_shutdown(where, which):
    async def cost(number):
        async with Supervisor(max_threads=2) as sup:
            of = sup if where == "supervisor" else sup.group("group")
            inner = of.group("inner").group("innermost") if where == "deep in groups" else of
            calls = await queued(inner, number)
            with counted() as work:
                report = await (sup if which == "supervisor" else of).shutdown()
            assert report.never_started == number
            await asyncio.gather(*calls, return_exceptions=True)
        return work

    assert await each(cost) < LINEAR


async def test_each_call_that_ends_in_a_group_that_goes_down_costs_as_much():
    async def cost(number):
        async with Supervisor(max_threads=number) as sup:
            group = sup.group("group")
            calls = [asyncio.ensure_future(group.run(wait_in_a_call)) for _ in range(number)]
            while sup.statistics().workers.get("running") != number:
                await asyncio.sleep(0)
            with counted() as work:
                await sup.shutdown()
            await asyncio.gather(*calls, return_exceptions=True)
        return work

    assert await each(cost, few=10) < LINEAR


@pytest.mark.parametrize("which", ["each of them", "supervisor"])
async def test_each_of_many_groups_costs_as_much_at_a_shutdown(which):
    async def cost(number):
        async with Supervisor() as sup:
            groups = [sup.group(f"group{n}") for n in range(number)]
            for group in groups[::2]:
                group.group("inner")
            await groups[-1].start(wait)
            with counted() as work:
                if which == "each of them":
                    await asyncio.gather(*(group.shutdown() for group in groups))
                else:
                    await sup.shutdown()
            assert all(group.report is not None for group in groups)
        return work

    assert await each(cost) < LINEAR


class Turns:
    """Counts the work in each turn of the loop."""

    def __init__(self, work):
        self._task = asyncio.ensure_future(self._count(work))

    async def _count(self, work):
        while True:
            work.turn()
            await asyncio.sleep(0)

    def end(self):
        self._task.cancel()


async def longest_turn(work_of):
    with counted() as work:
        turns = Turns(work)
        await work_of()
        turns.end()
    return work.longest


@pytest.mark.parametrize("where", ["group", "supervisor"])
async def test_the_loop_goes_on_while_many_queued_calls_are_stopped(where, monkeypatch):
    inside.patch(monkeypatch, TURN=0)  # one thing in each turn: what is done for all at once shows

    async def longest(number):
        async with Supervisor(max_threads=2) as sup:
            of = sup if where == "supervisor" else sup.group("group")
            calls = await queued(of, number)
            lines = await longest_turn(sup.shutdown)
            assert sup.report.never_started == number
            await asyncio.gather(*calls, return_exceptions=True)
        return lines

    few, many = await longest(100), await longest(1000)
    assert many < few + 20 * 900, "for each of them, some lines at most go by in one turn; its end takes 275"


async def test_the_loop_goes_on_while_many_are_ended_at_the_last_resort(monkeypatch):
    inside.patch(monkeypatch, TURN=0, LAST_RESORT_SLACK=0)

    async def longest(number):
        async with Supervisor(max_threads=2) as sup:
            calls = await queued(sup, number)
            lines = await longest_turn(lambda: sup.shutdown(timeout=0))
            assert sup.report.never_started == number
            await asyncio.gather(*calls, return_exceptions=True)
        return lines

    few, many = await longest(100), await longest(1000)
    assert many < few + 20 * 900, "for each of them, some lines at most go by in one turn; its end takes 275"


async def test_a_queued_call_that_is_stopped_leaves_little_for_the_collector_to_look_at():
    """How often it looks at all there is, and stands still for that, depends on how much is new."""
    number = 1000
    async with Supervisor(max_threads=2, logger=SILENT) as sup:
        executor = sup.executor()
        [executor.submit(wait_in_a_call) for _ in range(2)]
        futures = [executor.submit(int) for _ in range(number)]
        while sup.statistics().queued < number:
            await asyncio.sleep(0)
        gc.collect()
        before = len(gc.get_objects())
        await sup.shutdown()
        gc.collect()
        after = len(gc.get_objects())
    assert all(isinstance(future.exception(), WorkerStopped) for future in futures)
    assert (after - before) / number < 4, "the error, with the outcome that it holds"


async def test_a_shutdown_looks_through_its_calls_once(monkeypatch):
    """With 100,000 of them, each look blocks the loop for 20 ms and more."""
    looks, go = inside.looks_through_calls(monkeypatch), threading.Event()
    async with Supervisor(max_threads=1) as sup:
        calls = [asyncio.ensure_future(sup.run(go.wait)) for _ in range(20)]
        await until(lambda: sup.statistics().queued == 19)
        shutting = asyncio.create_task(sup.shutdown())
        await until(lambda: sup.statistics().stopping)
        go.set()
        await shutting
        await asyncio.gather(*calls, return_exceptions=True)
        assert len(looks) == 1
    assert sup.report.never_started == 19


async def test_alarms_of_the_same_moment_ring_in_turns_that_are_short(monkeypatch):
    inside.patch(monkeypatch, TURN=0)
    rang, loop = [], asyncio.get_running_loop()

    class Target:
        over = False

    alarms = Alarms(loop, loop.time, rang.append)
    at = loop.time() + 0.01
    for _ in range(10):
        alarms.set(at, Target())
    time.sleep(0.02)
    while len(rang) < 10:
        before = len(rang)
        await asyncio.sleep(0)
        assert len(rang) <= before + 1
    alarms.close()


async def test_a_shutdown_is_in_time_however_much_has_come_in_that_is_still_to_be_logged():
    """Executor calls of another thread, each of which has three events, from a logger that is slow."""
    logged = []
    slow = structlog.wrap_logger(
        structlog.ReturnLogger(), processors=[lambda *_: logged.append(1) or time.sleep(0.001) or {}]
    )
    sup = Supervisor(max_threads=2, logger=slow)
    await sup.run(int)
    executor = sup.executor()
    await asyncio.to_thread(lambda: [executor.submit(int) for _ in range(2000)])
    logged.clear()
    await sup.shutdown(timeout=0.5)
    assert len(logged) < 3000, "it takes as many ms, at least; there are 6000 of them in all"


async def test_what_has_ended_is_not_stopped_however_much_has_come_in_before_it(monkeypatch):
    inside.patch(monkeypatch, TURN=0)
    release = threading.Event()

    def work(ctx):
        release.wait()

    async with Supervisor() as sup:
        worker = await sup.start(work, name="work")
        inside.post(sup, *[lambda: None] * 1000)
        release.set()
        while not inside.is_ending(worker):
            time.sleep(0.001)
        outcome = await worker.stop()
        assert outcome.ended == "returned"


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
async def test_each_of_many_members_that_fail_at_once_costs_as_much(strategy):
    async def cost(number):
        go = threading.Event()

        def work(ctx):
            if ctx.attempt == 1:
                with ctx.on_stop(go.set):
                    go.wait()
                raise ValueError
            ctx.stop.wait()

        async with Supervisor(strategy=strategy, logger=SILENT) as sup:
            restart = Restart("always", max_restarts=number, backoff=0)
            workers = [await sup.start(work, restart=restart) for _ in range(number)]
            with counted() as work_done:
                go.set()
                while not all(worker.attempt >= 2 and worker.state == "running" for worker in workers[::-1]):
                    await asyncio.sleep(0.001)
            await sup.shutdown()
        return work_done

    assert await each(cost, few=20) < 1.6, "quadratic, it is 10; how many turns there are is chance"


async def test_of_a_flood_of_failing_callbacks_it_is_logged_how_many_there_were():
    events = []
    logger = structlog.wrap_logger(
        structlog.ReturnLogger(), processors=[lambda _, __, event: events.append(event) or {}]
    )

    def fail():
        raise ValueError

    def flood(ctx):
        ctx.stop.wait()
        for _ in range(5000):
            ctx.on_stop(fail)

    async with Supervisor(logger=logger) as sup:
        await sup.start(flood)
    failures = [event for event in events if event["event"] == "worker.callback_failed"]
    assert len(failures) < 5000
    assert len(failures) + sum(event.get("left_out", 0) for event in failures) == 5000


async def test_each_of_many_failures_that_take_long_to_log_has_a_turn_of_the_loop():
    turns, logged, enough = itertools.count(), [], threading.Event()

    def slow(_, __, event):
        if event["event"] == "worker.callback_failed":
            time.sleep(0.01)
            logged.append(turn)
            if len(logged) == 20:
                enough.set()
        return {}

    def flood(ctx):
        ctx.stop.wait()
        for _ in range(20):
            ctx.on_stop(divmod)
        enough.wait(LIMIT)

    turn = next(turns)
    logger = structlog.wrap_logger(structlog.ReturnLogger(), processors=[slow])
    async with Supervisor(logger=logger, policy=EscalationPolicy(Ask(LIMIT))) as sup:
        stopping = asyncio.create_task((await sup.start(flood)).stop())
        while not stopping.done():
            turn = next(turns)
            await asyncio.sleep(0)
    assert len(logged) == 20
    assert len(set(logged)) == 20


async def test_failures_that_a_shutdown_leaves_no_time_to_log_are_counted_before_it_has_ended():
    events, flooded = [], threading.Event()

    def slow(_, __, event):
        if event["event"] == "worker.callback_failed":
            flooded.wait(LIMIT)
            time.sleep(0.01)
        events.append(event)
        return {}

    def flood(ctx):
        ctx.stop.wait()
        for _ in range(500):
            ctx.on_stop(divmod)
        flooded.set()

    async with Supervisor(logger=structlog.wrap_logger(structlog.ReturnLogger(), processors=[slow])) as sup:
        await sup.start(flood)
    failures = [event for event in events if event["event"] == "worker.callback_failed"]
    assert sum(1 + event.get("left_out", 0) for event in failures) == 500
    assert len(failures) < 500, "each would have its turn, five seconds long in all"
    assert events[-1]["event"] == "supervisor.stopped"


async def test_all_threads_are_looked_at_once_for_many_that_are_stuck(monkeypatch, leftovers):
    looks, frames, release = [], sys._current_frames, leftovers.release
    policy = EscalationPolicy(Ask(0.05), Inject(0.05))
    async with Supervisor(policy=policy, logger=SILENT) as sup:
        for _ in range(50):
            await sup.start(lambda _: release.wait())
        await until(lambda: sum("release.wait()" in stack for stack in sup.stacks().values()) == 50)
        monkeypatch.setattr(sys, "_current_frames", lambda: looks.append(None) or time.sleep(0.002) or frames())
        report = await sup.shutdown()
        release.set()
    assert len(report.abandoned) == 50
    assert all("release.wait()" in outcome.stack for outcome in report.abandoned)
    assert len(looks) < 25, "not one for each"
