"""Whatever fails inside the supervisor, or in the application's code that it reaches: a shutdown ends, and says so."""

import asyncio
import sys
import time

import pytest

from supervisor import Ask, EscalationPolicy, Inject, Restart, Supervisor, SupervisorError, WorkerStopped

from .. import inside
from ..waiting import LIMIT, turns, until

QUICK = EscalationPolicy(Ask(0.1), Inject(0.1))


def listen(ctx):
    ctx.stop.wait()


def fail(ctx):
    raise ValueError("on purpose")


class Failing:
    """Stands in for a function of the library, and raises once, or each time; it is out of order from `begin` on."""

    def __init__(self, monkeypatch, owner, name, often):
        self.real = getattr(owner, name)
        self.left = often
        self.failed = 0
        self.begun = False

        def stand_in(*args, **kwargs):
            if self.begun and self.left > 0:
                self.left -= 1
                self.failed += 1
                raise MemoryError("on purpose")
            return self.real(*args, **kwargs)

        monkeypatch.setattr(owner, name, stand_in)


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "often", [pytest.param(1, marks=SLOW), pytest.param(2, marks=SLOW), sys.maxsize], ids=["once", "twice", "always"]
)
@pytest.mark.parametrize("part", inside.PARTS_OF_A_STOP, ids=lambda part: f"{part[0].__name__}.{part[1]}")
async def test_whatever_part_of_a_stop_fails_the_shutdown_ends_in_time_and_names_everybody(
    monkeypatch, quiet, leftovers, part, often
):
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    failing = Failing(monkeypatch, *part, often)

    def obey(ctx):  # or else until the end of the test, as nobody may ask it
        while not (ctx.stop.wait(0.02) or leftovers.release.is_set()):
            pass

    sup = Supervisor("s", policy=QUICK, max_threads=2)
    group = sup.group("g", strategy="one_for_all")
    await sup.start(obey, name="listens")
    await group.start(obey, name="in a group")
    await sup.start(leftovers.block, name="is deaf")
    await sup.start(fail, name="comes again", restart=Restart("always", max_restarts=1000, backoff=0.01))
    calls = [asyncio.ensure_future(sup.run(leftovers.block)) for _ in range(3)]
    calls.append(asyncio.ensure_future(group.run(leftovers.block)))
    future = sup.executor().submit(leftovers.block)
    await until(lambda: len(leftovers.entered) == 3)
    failing.begun = True
    closing = asyncio.ensure_future(sup.shutdown(timeout=0.2))
    began = time.monotonic()
    await asyncio.wait((closing,), timeout=LIMIT)
    took = time.monotonic() - began
    failing.begun = False
    assert closing.done(), "the shutdown does not end"
    report = closing.result()
    assert took < LIMIT / 2, "it has 0.45 s, on a machine that is not busy"
    names = {outcome.worker for outcome in report.outcomes}
    assert {"listens", "g/in a group", "is deaf", "comes again"} <= names
    assert sup.workers() == ()
    await asyncio.wait([*calls, asyncio.wrap_future(future)], timeout=LIMIT)
    leftovers.release.set()
    assert all(isinstance(call.exception(), WorkerStopped) for call in calls)
    assert isinstance(future.exception(0), WorkerStopped)


async def test_a_worker_that_waits_is_woken_although_memory_is_short_for_a_moment(monkeypatch, quiet):
    failing = Failing(monkeypatch, *inside.PUTS_A_WAITER_INTO_THE_CHAIN, 1)
    async with Supervisor(policy=EscalationPolicy(Ask(LIMIT))) as sup:
        worker = await sup.start(listen)
        await until(lambda: inside.waits_for_stop(worker))
        failing.begun = True
        assert (await worker.stop()).ended == "stopped"
    assert failing.failed == 1


async def test_an_idle_thread_ends_although_memory_is_short_when_it_is_told(quiet):
    sup = Supervisor(max_threads=1)
    await sup.run(int)
    inside.fail_to_dismiss_once(sup, MemoryError("on purpose"))
    await sup.shutdown(timeout=5)
    assert sup.statistics().threads == 0


async def test_without_a_file_to_wake_the_loop_it_is_woken_otherwise(monkeypatch):
    def failing(*args):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("os.eventfd", failing)
    async with Supervisor() as sup:
        assert await sup.run(abs, -1) == 1
        assert await asyncio.wrap_future(sup.executor().submit(abs, -1)) == 1


@pytest.mark.parametrize("error", [RuntimeError, SystemExit, MemoryError])
async def test_a_class_in_never_on_whose_check_raises_bars_nothing_and_holds_nothing_up(events, error):
    class Meta(type):
        def __instancecheck__(cls, instance):
            raise error("on purpose")

    class Weird(Exception, metaclass=Meta):
        pass

    sup = Supervisor()
    worker = await sup.start(fail, restart=Restart("always", max_restarts=1000, backoff=0.01, never_on=(Weird,)))
    await until(lambda: worker.restarts >= 2)
    report = await sup.shutdown(timeout=1)
    assert len(report.outcomes) == 1
    failed = [event for event in events if event["event"] == "worker.callback_failed"]
    assert {event["callback"] for event in failed} == {"never_on"}
    assert isinstance(failed[0]["exc_info"], error)
    del failed
    events.clear()  # their tracebacks hold the supervisor


class Hostile(ValueError):
    """An error of which nothing can be asked."""

    def __bool__(self):
        raise RuntimeError("on purpose")

    def __str__(self):
        raise SystemExit(3)

    def __repr__(self):
        raise RuntimeError("on purpose")

    def __eq__(self, other):
        raise RuntimeError("on purpose")

    __hash__ = None

    def __getattribute__(self, name):
        if name == "__class__":
            raise RuntimeError("on purpose")
        return super().__getattribute__(name)


async def test_an_error_of_which_nothing_can_be_asked_is_an_error_of_its_worker_alone(events):
    def fail_badly(*_):
        raise Hostile

    sup = Supervisor(policy=QUICK)
    worker = await sup.start(fail_badly, restart=Restart("failure", max_restarts=2, backoff=0))
    outcome = await asyncio.wait_for(worker.wait(), 5)
    assert outcome.ended == "failed"
    results = await asyncio.wait_for(
        asyncio.gather(
            sup.run(fail_badly), *map(asyncio.wrap_future, [sup.executor().submit(fail_badly)]), return_exceptions=True
        ),
        5,
    )
    assert all(type(result) in (Hostile, RuntimeError) for result in results)
    report = await sup.shutdown(timeout=1)
    assert str(report)
    assert report.to_dict()["earlier"][0]["ended"] == "failed"


async def test_a_ladder_that_cannot_be_read_is_replaced_by_the_usual_one(events):
    class Broken(EscalationPolicy):
        def for_kind(self, kind):
            raise RuntimeError("on purpose")

    sup = Supervisor(policy=Broken(Ask(1)))
    worker = await sup.start(listen)
    assert (await worker.stop()).ended == "stopped"
    assert await sup.run(abs, -1) == 1
    await sup.start(listen)
    report = await sup.shutdown(timeout=1)
    assert report.counts() == {"stopped": 1}
    assert "supervisor.fault" in {event["event"] for event in events}


async def test_a_shutdown_whose_workers_were_all_lost_still_ends_and_lets_its_cancellation_through(
    monkeypatch, events, leftovers
):
    sup = Supervisor("s", policy=QUICK)
    await sup.start(leftovers.block, name="lost")
    with inside.deaf_machine(monkeypatch):
        closing = asyncio.ensure_future(sup.shutdown(timeout=0.1))
        await turns()
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(asyncio.shield(closing), LIMIT)
    assert sup.report is not None
    assert [outcome.worker for outcome in sup.report.outcomes] == ["lost"]
    assert [event["left"] for event in events if event["event"] == "supervisor.overdue"] == [["lost"]]


async def test_who_has_ended_unheard_is_reported_as_what_it_came_to(monkeypatch, quiet):
    sup = Supervisor("s", policy=EscalationPolicy(Ask(20)))
    group = sup.group("g")
    workers = await sup.start(listen, name="obeys"), await group.start(listen, name="obeys too")
    with inside.deaf_inbox(monkeypatch):
        closing = asyncio.ensure_future(sup.shutdown(timeout=600))
        await until(lambda: all(inside.is_ending(worker) for worker in workers))
        report = await asyncio.wait_for(sup.shutdown(timeout=0.1), LIMIT)
        await closing
    assert sorted((outcome.worker, outcome.ended) for outcome in report.outcomes) == [
        ("g/obeys too", "stopped"),
        ("obeys", "stopped"),
    ]


async def test_the_shutdown_of_a_group_has_a_last_resort_too(monkeypatch, events, leftovers):
    sup = Supervisor("s", policy=QUICK)
    group = sup.group("g")
    inner = group.group("inner")
    await inner.start(leftovers.block, name="lost")
    with inside.deaf_machine(monkeypatch):
        report = await asyncio.wait_for(group.shutdown(timeout=0.1), LIMIT)
    assert [outcome.worker for outcome in report.outcomes] == ["g/inner/lost"]
    assert inner.report is not None
    assert [(event["group"], event["left"]) for event in events if event["event"] == "supervisor.overdue"] == [
        ("g", ["g/inner/lost"])
    ]
    assert (await sup.shutdown(timeout=1)).outcomes == ()


async def test_a_restart_that_cannot_be_begun_is_a_failed_run(monkeypatch, quiet):
    sup = Supervisor(policy=QUICK)
    worker = await sup.start(listen, restart=Restart("always", max_restarts=2, backoff=0))
    with inside.no_further_runs(monkeypatch, sup):
        with pytest.raises(SupervisorError):
            await asyncio.wait_for(worker.restart(), 5)
    assert worker.outcome is not None
    assert worker.outcome.ended == "failed"
    await sup.shutdown(timeout=1)
