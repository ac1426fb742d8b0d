"""Restarts: pauses, limits, what is seen of them; where time matters, on a clock that the tests move."""

import asyncio
import contextvars
import gc
import threading

import pytest

from supervisor import (
    Ask,
    EscalationPolicy,
    Restart,
    RestartLimitExceeded,
    Supervisor,
    WorkerFailed,
    WorkerStopped,
    current_context,
)

from .. import inside
from ..waiting import refused_elsewhere, until
from .restarting import (
    AT_ONCE,
    LIMIT,
    PATIENT,
    SLOWLY,
    OnCommand,
    backing_off,
    fail,
    fail_but_last,
    readies,
    runs,
    wait_for_stop,
)

pytestmark = pytest.mark.usefixtures("quiet")


def test_a_worker_that_fails_is_started_again_after_its_pause(virtual):
    async def main(loop):
        async with Supervisor() as sup:
            worker = await sup.start(fail_but_last(3), name="w", restart=SLOWLY)
            for attempt, pause in ((1, 10), (2, 20)):
                await until(backing_off(worker, attempt))
                assert worker.last_outcome.attempt == attempt
                assert str(worker.last_outcome.error) == f"run {attempt}"
                assert (worker.outcome, worker.restarts) == (None, attempt - 1)
                await loop.advance(pause - 1)
                assert worker.state == "backing_off"
                await loop.advance(1)
            await until(runs(worker, 3))
            assert worker.restarts == 2
        assert (worker.outcome.ended, worker.outcome.attempt) == ("stopped", 3)
        assert worker.last_outcome is worker.outcome

    virtual(main)


def test_the_pause_begins_anew_after_a_run_that_lasted(virtual):
    restart = Restart("failure", max_restarts=100, within=50, backoff=10, max_backoff=100, jitter=0)

    async def main(loop):
        work = OnCommand()
        async with Supervisor() as sup:
            worker = await sup.start(work, restart=restart)
            for attempt, lasts, pause in ((1, 0, 10), (2, 0, 20), (3, 50, 10)):
                await until(runs(worker, attempt))
                await loop.advance(lasts)
                work.end(ValueError())
                await until(backing_off(worker, attempt))
                await loop.advance(pause - 0.1)
                assert worker.state == "backing_off"
                await loop.advance(0.1)
            await until(runs(worker, 4))

    virtual(main)


@pytest.mark.parametrize("chance", [0.0, 0.25, 1.0])
def test_the_pause_is_spread_within_its_bounds(virtual, chance, monkeypatch):
    inside.patch_chance(monkeypatch, chance)
    pause = 10 * (0.5 + chance)

    async def main(loop):
        async with Supervisor() as sup:
            worker = await sup.start(fail, restart=Restart("failure", backoff=10, jitter=0.5))
            await until(backing_off(worker))
            await loop.advance(pause - 0.01)
            assert worker.state == "backing_off"
            await loop.advance(0.01)
            await until(backing_off(worker, 2))

    virtual(main)


def test_no_two_supervisors_throw_the_same_dice():
    async def throw():
        async with Supervisor() as sup:
            await sup.run(int)
            return inside.throw_dice(sup)

    chances = {asyncio.run(throw()) for _ in range(20)}
    assert len(chances) == 20
    assert all(0 <= chance <= 1 for chance in chances)


def test_failures_that_are_spaced_wider_than_the_window_never_exhaust(virtual):
    async def main(loop):
        work = OnCommand()
        restart = Restart("failure", max_restarts=1, within=10, backoff=0)
        async with Supervisor() as sup:
            worker = await sup.start(work, restart=restart)
            for attempt in range(1, 8):
                await until(runs(worker, attempt))
                await loop.advance(10)
                work.end(ValueError())
            await until(runs(worker, 8))
            work.end(ValueError("within the window"))
            outcome = await worker.wait()
        assert isinstance(outcome.error, RestartLimitExceeded)
        assert (outcome.ended, outcome.attempt, worker.restarts) == ("failed", 8, 7)
        assert str(outcome.error.__cause__) == "within the window"

    virtual(main)


async def test_one_failure_too_many_within_the_window_exhausts(events):
    async with Supervisor() as sup:
        worker = await sup.start(fail, name="w", restart=AT_ONCE)
        outcome = await worker.wait()
        assert sup.workers() == ()
        with pytest.raises(RestartLimitExceeded, match="'w' is given up after 3 restarts"):
            await worker.ready()
        with pytest.raises(RestartLimitExceeded):
            await worker.restart()
    assert (outcome.ended, outcome.attempt) == ("failed", 4)
    assert isinstance(outcome.error, RestartLimitExceeded)
    assert (outcome.error.worker, outcome.error.restarts, outcome.error.within) == ("w", 3, 1000)
    assert str(outcome.error.__cause__) == "run 4"
    (ended,) = (event for event in events if event["event"] == "worker.ended")
    assert (ended["level"], ended["exc_info"]) == ("error", outcome.error)


async def test_restarts_that_fail_to_start_exhaust_too(monkeypatch):
    def no_more(thread):
        raise RuntimeError("can't start new thread")

    release = threading.Event()

    def work(ctx):
        release.wait(LIMIT)
        raise ValueError

    async with Supervisor() as sup:
        worker = await sup.start(work, restart=AT_ONCE)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", no_more)
            release.set()
            outcome = await worker.wait()
    assert isinstance(outcome.error, RestartLimitExceeded)
    assert "new thread" in str(outcome.error.__cause__)
    assert worker.restarts == 3


@pytest.mark.parametrize(
    ("raised", "never_on"),
    [
        (ValueError("bad configuration"), ValueError),
        (UnicodeError("one of its kind"), ValueError),
        (SystemExit(3), SystemExit),
        (KeyboardInterrupt(), KeyboardInterrupt),
        (KeyboardInterrupt(), WorkerFailed),
    ],
)
async def test_after_what_never_on_names_there_is_no_restart(raised, never_on):
    def work(ctx):
        if ctx.attempt == 1:
            raise LookupError
        raise raised

    async with Supervisor() as sup:
        worker = await sup.start(work, restart=Restart("always", backoff=0, never_on=never_on))
        outcome = await worker.wait()
    assert (outcome.attempt, outcome.ended, worker.restarts) == (2, "failed", 1)
    assert not isinstance(outcome.error, RestartLimitExceeded)


async def test_the_context_variables_of_start_are_seen_in_each_run_anew():
    var = contextvars.ContextVar("var")
    seen = []

    def work(ctx):
        seen.append(var.get())
        var.set("what a run sets")
        raise ValueError

    var.set("of start")
    async with Supervisor() as sup:
        worker = await sup.start(work, restart=AT_ONCE)
        var.set("later")
        await worker.wait()
    assert seen == ["of start"] * 4


async def test_each_run_has_a_context_of_its_own():
    contexts = []

    def work(ctx):
        contexts.append((ctx, ctx.attempt, ctx.name, ctx.stop.is_set(), current_context() is ctx))
        raise ValueError

    async with Supervisor() as sup:
        await (await sup.start(work, name="w", restart=AT_ONCE)).wait()
    assert len({id(ctx) for ctx, *_ in contexts}) == 4
    assert [row[1:] for row in contexts] == [(attempt, "w", False, True) for attempt in (1, 2, 3, 4)]


def test_a_name_stays_taken_across_restarts_and_is_free_afterwards(virtual):
    async def main(loop):
        async with Supervisor() as sup:
            worker = await sup.start(fail, name="same", restart=SLOWLY)
            unnamed = await sup.start(fail, restart=SLOWLY)
            await until(lambda: {backing_off(worker)(), backing_off(unnamed)()} == {True})
            for name in ("same", unnamed.name):
                with pytest.raises(ValueError, match=f"name='{name}'"):
                    await sup.start(wait_for_stop, name=name)
            await worker.stop()
            await unnamed.stop()
            for name in ("same", unnamed.name):
                assert (await sup.start(wait_for_stop, name=name)).name == name

    virtual(main)


# ------------------------------------------------------------------------------------------------ what is told


def test_what_can_be_seen_of_a_worker_between_two_runs(virtual):
    async def main(loop):
        async with Supervisor() as sup:
            first = await sup.start(fail, name="first", restart=SLOWLY)
            second = await sup.start(wait_for_stop, name="second")
            await until(backing_off(first))
            assert sup.workers() == (first, second)
            assert (first.ident, first.pid, first.stack()) == (None, None, "")
            await until(lambda: list(sup.stacks()) == ["second"])  # it may not stand in its function yet
            assert sup.statistics().workers == {"backing_off": 1, "running": 1}
            assert repr(first) == "<Worker 'first' on a thread: backing_off>"
            assert "2 workers" in repr(sup)
            seen = []
            thread = threading.Thread(target=lambda: seen.append((sup.workers(), first.state)))
            thread.start()
            thread.join()
            assert seen == [((first, second), "backing_off")]
            assert sup.workers() == (first, second)

    virtual(main)


def test_the_transitions_and_events_of_a_restart(virtual, events):
    async def main(loop):
        async with Supervisor("app") as sup:
            seen = sup.transitions()
            worker = await sup.start(fail_but_last(2), name="w", restart=SLOWLY)
            await until(backing_off(worker))
            await loop.advance(10)
            await until(runs(worker, 2))
            await worker.stop("enough")
        return [transition async for transition in seen]

    transitions = virtual(main)
    assert [(t.attempt, t.old, t.new, t.ended, t.reason) for t in transitions] == [
        (1, "starting", "running", None, None),
        (1, "running", "backing_off", "failed", None),
        (2, "starting", "running", None, None),
        (2, "running", "stopping", None, "enough"),
        (2, "stopping", "ended", "stopped", "enough"),
    ]
    assert transitions[1].elapsed < 1  # of its own run
    told = [event for event in events if event.get("worker") == "w"]
    assert [event["event"] for event in told] == [transition.event for transition in transitions]
    assert [event["level"] for event in told] == ["info", "error", "info", "info", "info"]
    restarting = told[1]
    assert (restarting["event"], str(restarting["exc_info"])) == ("worker.restarting", "run 1")


def test_the_report_has_one_outcome_for_each_worker_with_its_last_run(virtual):
    async def main(loop):
        sup = Supervisor()
        again = await sup.start(fail_but_last(2), name="again", restart=SLOWLY)
        pausing = await sup.start(fail, name="pausing", restart=SLOWLY)
        over = await sup.start(fail, name="over", restart=Restart("failure", max_restarts=1, backoff=0))
        await over.wait()
        await until(backing_off(again))
        await again.restart()
        await until(backing_off(pausing))
        report = await sup.shutdown()
        assert {(outcome.worker, outcome.attempt, outcome.ended) for outcome in report.outcomes} == {
            ("again", 2, "stopped"),
            ("pausing", 1, "stopped"),
        }
        assert [outcome.worker for outcome in report.earlier] == ["over"]
        assert "again (run 2)" in str(report)

    virtual(main)


# ------------------------------------------------------------------------------------------------ stops


def test_a_stop_during_a_pause_ends_it_at_once(virtual, events):
    async def main(loop):
        async with Supervisor() as sup:
            worker = await sup.start(fail, name="w", restart=SLOWLY)
            await until(backing_off(worker))
            waiting = [asyncio.create_task(call()) for call in (worker.wait, worker.ready)]
            await asyncio.sleep(0)
            outcome = await worker.stop("enough")
            assert (outcome.ended, outcome.attempt, outcome.error, outcome.step) == ("stopped", 1, None, None)
            assert worker.last_outcome.ended == "failed"
            assert await waiting[0] is outcome
            with pytest.raises(WorkerStopped):
                await waiting[1]
            assert sup.workers() == ()
            await loop.advance(1000)
            assert worker.attempt == 1

    virtual(main)
    (ended,) = (event for event in events if event["event"] == "worker.ended")
    assert (ended["old"], ended["ended"], ended["level"]) == ("backing_off", "stopped", "info")
    assert ended["reason"] == "enough"


def test_a_shutdown_during_a_pause_ends_it_at_once(virtual):
    async def main(loop):
        sup = Supervisor()
        workers = [await sup.start(fail, restart=SLOWLY) for _ in range(5)]
        await until(lambda: all(backing_off(worker)() for worker in workers))
        report = await sup.shutdown()
        assert report.counts() == {"stopped": 5}
        assert report.seconds == 0.0

    virtual(main)


@pytest.mark.parametrize("how", ["stop", "shutdown", "request_shutdown"])
async def test_a_stop_beats_a_restart_at_every_moment(how, monkeypatch):
    """Each time the stop comes after one turn of the loop more: before the end of a run, at it, after it."""
    inside.patch(monkeypatch, TURN=0.0)  # or each turn would see many runs
    for turns in range(40):
        sup = Supervisor(policy=EscalationPolicy(Ask(LIMIT)))
        worker = await sup.start(fail, restart=Restart("failure", max_restarts=10**6, within=0.001, backoff=0))
        for _ in range(turns):
            await asyncio.sleep(0)
        if how == "stop":
            await worker.stop()
        elif how == "request_shutdown":
            sup.request_shutdown()
            await sup.wait_closed()
        attempt = worker.attempt
        report = await sup.shutdown()
        assert worker.state == "ended"
        assert worker.outcome.ended in ("stopped", "failed", "cancelled")
        assert not isinstance(worker.outcome.error, RestartLimitExceeded)
        assert how == "shutdown" or worker.attempt == attempt
        assert len(report.outcomes) == (0 if how == "stop" else 1)
        assert inside.nodes(sup) == []


async def test_a_stop_beats_a_restart_that_was_asked_for():
    release = threading.Event()

    def slow(ctx):
        ctx.stop.wait()
        release.wait(LIMIT)

    async with Supervisor(policy=PATIENT) as sup:
        worker = await sup.start(slow)
        restarting = asyncio.create_task(worker.restart())
        await until(lambda: worker.state == "stopping")
        stopping = asyncio.create_task(worker.stop())
        await asyncio.sleep(0)
        again = asyncio.create_task(worker.restart())
        await asyncio.sleep(0)
        release.set()
        assert (await stopping).attempt == 1
        for task in (restarting, again):
            with pytest.raises(WorkerStopped):
                await task


async def test_a_stop_while_the_next_run_is_being_launched(monkeypatch):
    """The thread of the second run is held back before it enters the function."""
    hold, held, ran = threading.Event(), threading.Event(), []
    original = threading.Thread.run

    def run(thread):
        if thread.name == "supervisor/w" and ran:
            held.set()
            hold.wait(LIMIT)
        original(thread)

    def work(ctx):
        ran.append(ctx.attempt)
        raise ValueError

    monkeypatch.setattr(threading.Thread, "run", run)
    async with Supervisor() as sup:
        worker = await sup.start(work, name="w", restart=Restart("failure", backoff=0))
        await until(held.is_set)
        assert (worker.state, worker.attempt) == ("starting", 2)
        outcome = await worker.stop()
        assert (outcome.ended, outcome.attempt) == ("stopped", 2)
        hold.set()
    assert ran == [1]


# ------------------------------------------------------------------------------------------------ Worker.restart()


async def test_a_restart_stops_the_run_and_begins_another_whatever_the_restart_says():
    reasons = []

    def work(ctx):
        ctx.stop.wait()
        reasons.append(ctx.reason)

    async with Supervisor() as sup:
        worker = await sup.start(work, restart=Restart("never", max_restarts=0))
        ident = worker.ident
        for restarts in range(1, 20):
            await worker.restart()
            assert (worker.state, worker.attempt, worker.restarts) == ("running", restarts + 1, restarts)
            assert (worker.last_outcome.ended, worker.last_outcome.attempt) == ("stopped", restarts)
        assert worker.outcome is None
        assert worker.ident is not None
        assert ident is not None
    assert reasons[:19] == ["restart"] * 19
    assert worker.outcome.attempt == 20


def test_a_restart_ends_a_pause_and_counts_for_nothing(virtual):
    async def main(loop):
        work = OnCommand()
        async with Supervisor() as sup:
            worker = await sup.start(
                work, restart=Restart("failure", max_restarts=1, within=1000, backoff=100, max_backoff=100)
            )
            for _ in range(3):
                await worker.restart()  # or these would exhaust it
            work.end(ValueError())
            await until(backing_off(worker, 4))
            await worker.restart()
            assert (worker.state, worker.attempt) == ("running", 5)
            await loop.advance(500)  # the alarm of the pause rings for nobody
            assert (worker.state, worker.attempt) == ("running", 5)
            work.end(ValueError())
            assert isinstance((await worker.wait()).error, RestartLimitExceeded)

    virtual(main)


async def test_many_restarts_at_once_are_one():
    async with Supervisor() as sup:
        worker = await sup.start(wait_for_stop)
        await asyncio.gather(*(worker.restart() for _ in range(10)))
        assert (worker.state, worker.attempt, worker.restarts) == ("running", 2, 1)


async def test_a_restart_of_a_run_that_has_to_be_abandoned_is_refused(leftovers, events):
    async with Supervisor(policy=EscalationPolicy(Ask(0.01))) as sup:
        worker = await sup.start(leftovers.block, name="w", restart=Restart("always"))
        await until(lambda: leftovers.entered)
        with pytest.raises(RestartLimitExceeded, match="'w'"):
            await worker.restart()
        assert (worker.outcome.ended, worker.attempt) == ("abandoned", 1)
        assert "in block" in worker.outcome.stack
        assert isinstance(worker.outcome.error, RestartLimitExceeded)
        leftovers.release.set()
        await until(lambda: sup.statistics().abandoned == 0)
        assert "worker.late_end" in [event["event"] for event in events]


async def test_cancelling_a_restart_stops_only_the_waiting():
    release = threading.Event()

    def slow(ctx):
        ctx.stop.wait()
        release.wait(LIMIT)

    async with Supervisor(policy=PATIENT) as sup:
        worker = await sup.start(slow)
        restarting = asyncio.create_task(worker.restart())
        await until(lambda: worker.state == "stopping")
        restarting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await restarting
        release.set()
        await until(runs(worker, 2))


async def test_a_restart_waits_for_readiness():
    ready = threading.Semaphore(1)

    def work(ctx):
        ready.acquire(timeout=LIMIT)
        return readies(ctx)

    async with Supervisor() as sup:
        worker = await sup.start(work, ready_timeout=LIMIT)
        restarting = asyncio.create_task(worker.restart())
        await until(runs(worker, 2))
        assert not restarting.done()
        ready.release()
        await restarting


async def test_a_call_can_neither_be_restarted_nor_become_ready():
    async with Supervisor() as sup:
        release = threading.Event()
        call = asyncio.create_task(sup.run(release.wait, LIMIT, name="call"))
        await asyncio.sleep(0)
        (worker,) = sup.workers()
        for method in (worker.restart, worker.ready):
            with pytest.raises(RuntimeError, match="'call' is a call"):
                await method()
        assert (worker.restarts, worker.attempt, worker.last_outcome) == (0, 1, None)
        release.set()
        await call
        assert worker.last_outcome is worker.outcome


async def test_restart_and_ready_belong_to_the_supervisors_loop():
    async with Supervisor() as sup:
        worker = await sup.start(wait_for_stop, name="w")
        errors = await refused_elsewhere(worker.restart, worker.ready)
        assert worker.attempt == 1
    assert len(errors) == 2
    assert all("'w' belongs to another event loop" in error for error in errors)


# ------------------------------------------------------------------------------------------------ many


async def test_many_restarts_leave_nothing_behind():
    async with Supervisor() as sup:
        worker = await sup.start(wait_for_stop, heartbeat=LIMIT)
        failing = await sup.start(
            fail_but_last(100), restart=Restart("failure", max_restarts=1000, within=1000, backoff=0), heartbeat=LIMIT
        )
        for _ in range(100):
            await worker.restart()
        await until(runs(failing, 100))
        gc.collect()
        await until(lambda: sup.statistics().threads == 2)  # others may be past their last lines
        assert len(inside.nodes(sup)) == 2
        assert not inside.names_taken(sup)
