"""Restarts, readiness, heartbeats and the order of stops; where time matters, on a clock that the tests move."""

import asyncio
import contextvars
import gc
import math
import threading
import time

import pytest

from supervisor import (
    Ask,
    EscalationPolicy,
    Inject,
    Restart,
    RestartLimitExceeded,
    Supervisor,
    SupervisorClosed,
    SupervisorError,
    WorkerFailed,
    WorkerStopped,
    WorkerTimeout,
    current_context,
)

from .. import inside
from ..waiting import refused_elsewhere, until

LIMIT = 20  # seconds after which whoever waits gives up
PATIENT = EscalationPolicy(Ask(math.inf))
SLOWLY = Restart("failure", max_restarts=100, within=1000, backoff=10, max_backoff=100, jitter=0)
AT_ONCE = Restart("failure", max_restarts=3, within=1000, backoff=0)


pytestmark = pytest.mark.usefixtures("quiet")


def backing_off(worker, attempt=1):
    return lambda: (worker.state, worker.attempt) == ("backing_off", attempt)


def runs(worker, attempt):
    return lambda: (worker.state, worker.attempt) == ("running", attempt)


def wait_for_stop(ctx):
    return ctx.stop.wait()


def readies(ctx):
    ctx.ready()
    return ctx.stop.wait()


def fail(ctx):
    raise ValueError(f"run {ctx.attempt}")


def fail_but_last(last):
    """A worker that fails until its run of this number."""

    def work(ctx):
        if ctx.attempt < last:
            raise ValueError(f"run {ctx.attempt}")
        return ctx.stop.wait()

    return work


def spin():
    while True:
        pass


class OnCommand:
    """A worker whose runs end when the test says how."""

    def __init__(self):
        self.command = None
        self.given = threading.Semaphore(0)

    def __call__(self, ctx):
        with ctx.on_stop(self.given.release):
            self.given.acquire()
        if self.command is not None:
            raise self.command

    def end(self, error=None):
        self.command = error
        self.given.release()


# ------------------------------------------------------------------------------------------------ restarts


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
        assert report.clean
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
async def test_a_stop_beats_a_restart_at_every_moment(how):
    """Each time the stop comes after one turn of the loop more: before the end of a run, at it, after it."""
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


# ------------------------------------------------------------------------------------------------ readiness


def test_a_worker_that_is_not_ready_in_time_is_stopped_and_start_raises(virtual, events):
    async def main(loop):
        reasons = []

        def work(ctx):
            ctx.stop.wait()
            reasons.append(ctx.reason)

        async with Supervisor() as sup:
            starting = asyncio.create_task(sup.start(work, name="w", restart=AT_ONCE, ready_timeout=5))
            await until(lambda: "in work" in sup.stacks().get("w", ""))
            (worker,) = sup.workers()
            await loop.advance(4.9)
            assert worker.state == "running"
            await loop.advance(0.1)
            with pytest.raises(WorkerTimeout) as caught:
                await starting
        assert caught.value.outcome is worker.outcome
        assert (worker.outcome.ended, worker.attempt) == ("stopped", 1)
        assert reasons == ["not ready within 5 s"]

    virtual(main)
    (stuck,) = (event for event in events if event["event"] == "worker.stuck")
    assert (stuck["worker"], stuck["reason"], stuck["level"]) == ("w", "not ready within 5 s", "warning")
    assert "in work" in stuck["stack"]


def test_a_worker_that_is_ready_only_once_it_is_being_stopped_has_missed_its_time(virtual):
    async def main(loop):
        release = threading.Event()

        def work(ctx):
            ctx.stop.wait()
            ctx.ready()
            release.wait(LIMIT)

        async with Supervisor(policy=PATIENT) as sup:
            starting = asyncio.create_task(sup.start(work, restart=AT_ONCE, ready_timeout=5))
            await until(lambda: [worker.state for worker in sup.workers()] == ["running"])
            (worker,) = sup.workers()
            await loop.advance(5)
            await until(lambda: "release.wait" in worker.stack())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            release.set()
            with pytest.raises(WorkerTimeout):
                await starting
            assert worker.attempt == 1

    virtual(main)


def test_a_restart_that_is_not_ready_in_time_is_a_failure(virtual):
    async def main(loop):
        def work(ctx):
            if ctx.attempt in (1, 4):
                ctx.ready()
            return ctx.stop.wait()

        async with Supervisor() as sup:
            worker = await sup.start(
                work, restart=Restart("failure", max_restarts=9, within=1000, backoff=0), ready_timeout=5
            )
            restarting = asyncio.create_task(worker.restart())
            for attempt in (2, 3):
                await until(runs(worker, attempt))
                await loop.advance(5)
            await restarting
            assert (worker.attempt, worker.last_outcome.ended) == (4, "stopped")
            await loop.advance(1000)  # once it is ready, nobody waits for a sign of it
            assert worker.state == "running"

    virtual(main)


async def test_a_worker_that_returns_before_it_is_ready_makes_start_raise():
    async with Supervisor() as sup:
        with pytest.raises(SupervisorError, match="'w' returned before it was ready"):
            await sup.start(lambda ctx: 5, name="w", ready_timeout=LIMIT, restart=Restart("always", backoff=0))
        assert sup.workers() == ()


async def test_a_worker_that_is_stopped_before_it_is_ready_makes_start_raise():
    async with Supervisor() as sup:
        starting = asyncio.create_task(sup.start(wait_for_stop, ready_timeout=LIMIT))
        await until(lambda: [worker.state for worker in sup.workers()] == ["running"])
        await sup.workers()[0].stop()
        with pytest.raises(WorkerStopped):
            await starting


def test_ready_waits_for_the_next_run(virtual):
    async def main(loop):
        async with Supervisor() as sup:
            worker = await sup.start(fail_but_last(2), restart=SLOWLY)
            await until(backing_off(worker))
            waiting = asyncio.create_task(worker.ready())
            impatient = asyncio.create_task(worker.ready())
            await asyncio.sleep(0)
            impatient.cancel()
            assert not waiting.done()
            await loop.advance(10)
            await waiting
            assert (worker.state, worker.attempt) == ("running", 2)

    virtual(main)


async def test_a_worker_that_is_being_stopped_is_not_ready():
    release = threading.Event()

    def slow(ctx):
        ctx.stop.wait()
        release.wait(LIMIT)

    async with Supervisor(policy=PATIENT) as sup:
        worker = await sup.start(slow, name="db")
        stopping = asyncio.create_task(worker.stop())
        await until(lambda: worker.state == "stopping")
        waiting = asyncio.create_task(worker.ready())
        starting = asyncio.create_task(sup.start(wait_for_stop, after=("db",)))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not waiting.done()
        assert sup.workers() == (worker,)
        release.set()
        await stopping
        for task in (waiting, starting):
            with pytest.raises(WorkerStopped):
                await task


# ------------------------------------------------------------------------------------------------ heartbeats


def beating(beat, then):
    """A worker that gives a heartbeat whenever `beat` is released, and ends its life as `then` does."""

    def work(ctx):
        ctx.ready()
        while not silent.is_set() and beat.acquire(timeout=LIMIT):
            ctx.heartbeat()
            beaten.release()
        then(ctx)

    silent, beaten = threading.Event(), threading.Semaphore(0)
    return work, silent, beaten


def test_a_heartbeat_in_time_keeps_a_worker_alive(virtual, events):
    async def main(loop):
        beat = threading.Semaphore(0)
        work, silent, beaten = beating(beat, lambda ctx: ctx.stop.wait())
        async with Supervisor() as sup:
            worker = await sup.start(work, heartbeat=10, restart=AT_ONCE, ready_timeout=5)
            for _ in range(5):
                await loop.advance(9.9)
                beat.release()
                await until(lambda: beaten.acquire(blocking=False))
            assert (worker.state, worker.attempt) == ("running", 1)
            silent.set()
            beat.release()
            await until(lambda: beaten.acquire(blocking=False))
            await loop.advance(9.9)
            assert worker.state == "running"
            await loop.advance(0.2)
            await until(lambda: worker.attempt == 2)
            assert worker.last_outcome.ended == "stopped"

    virtual(main)
    stuck = [event["reason"] for event in events if event["event"] == "worker.stuck"]
    assert stuck == ["no heartbeat for 10 s"]


def test_a_heartbeat_is_due_from_readiness_on(virtual):
    async def main(loop):
        go_on = threading.Event()

        def work(ctx):
            go_on.wait(LIMIT)
            return readies(ctx)

        async with Supervisor() as sup:
            starting = asyncio.create_task(sup.start(work, heartbeat=1, ready_timeout=100))
            await until(lambda: [worker.state for worker in sup.workers()] == ["running"])
            await loop.advance(99)
            go_on.set()
            worker = await starting
            await loop.advance(0.9)
            assert worker.state == "running"
            await loop.advance(0.1)
            assert (await worker.wait()).ended == "stopped"

    virtual(main)


def test_the_stop_event_does_not_beat_for_a_worker(virtual):
    async def main(loop):
        def work(ctx):
            while not ctx.stop.wait(0.001):
                ctx.remaining()

        async with Supervisor() as sup:
            worker = await sup.start(work, heartbeat=10)
            await loop.advance(10)
            outcome = await worker.wait()
            assert (outcome.ended, worker.restarts) == ("stopped", 0)  # nobody has asked for a restart

    virtual(main)


def stuck_story(virtual, fn, policy, **options):
    """A worker with a heartbeat of 10 s that is silent; returns it, and the supervisor's report."""

    async def main(loop):
        sup = Supervisor(policy=policy)
        worker = await sup.start(fn, name="w", heartbeat=10, **options)
        await until(lambda: "in " in worker.stack() and worker.state == "running")
        await loop.advance(10)
        for _ in range(10):
            await loop.advance(0.1)
        await until(lambda: worker.attempt == 2 or worker.outcome is not None)
        state = worker.state
        report = await sup.shutdown(timeout=0)
        return worker, state, report

    return virtual(main)


def first_then_obey(fn):
    def work(ctx):
        if ctx.attempt == 1:
            fn()
        return ctx.stop.wait()

    return work


def test_a_silent_worker_that_obeys_is_stopped_and_restarted(virtual, events):
    worker, _, report = stuck_story(virtual, wait_for_stop, PATIENT, restart=AT_ONCE)
    assert (worker.last_outcome.attempt, worker.restarts) == (2, 1)
    assert [outcome.attempt for outcome in report.outcomes] == [2]
    told = [(event["event"], event.get("reason")) for event in events if event.get("worker") == "w"]
    why = "no heartbeat for 10 s"
    assert told[1:4] == [("worker.stuck", why), ("worker.stopping", why), ("worker.restarting", why)]
    assert "in wait_for_stop" in next(event for event in events if event["event"] == "worker.stuck")["stack"]


def test_a_silent_loop_is_injected_and_restarted(virtual, events):
    policy = EscalationPolicy(Ask(0.1), Inject(math.inf))
    worker, _, _ = stuck_story(virtual, first_then_obey(spin), policy, restart=AT_ONCE)
    assert (worker.attempt, worker.restarts) == (2, 1)
    (restarting,) = (event for event in events if event["event"] == "worker.restarting")
    assert (restarting["ended"], restarting["step"]) == ("injected", "inject")
    escalated = next(event for event in events if event["event"] == "worker.escalated")
    assert "in spin" in escalated["stack"]


def test_a_silent_c_call_is_abandoned_and_nothing_runs_beside_it(virtual, events, leftovers):
    policy = EscalationPolicy(Ask(0.1), Inject(0.1))
    worker, state, report = stuck_story(virtual, first_then_obey(leftovers.block), policy, restart=AT_ONCE)
    assert (state, worker.attempt, worker.restarts) == ("ended", 1, 0)
    assert worker.outcome.ended == "abandoned"
    assert isinstance(worker.outcome.error, RestartLimitExceeded)
    assert report.outcomes == ()
    (ended,) = (event for event in events if event["event"] == "worker.ended")
    assert (ended["level"], ended["ended"], ended["exc_info"]) == ("error", "abandoned", worker.outcome.error)


def test_a_worker_that_is_stopped_is_not_asked_for_heartbeats(virtual, events):
    async def main(loop):
        release = threading.Event()

        def work(ctx):
            ctx.stop.wait()
            release.wait(LIMIT)

        async with Supervisor(policy=PATIENT) as sup:
            worker = await sup.start(work, heartbeat=10, restart=AT_ONCE)
            stopping = asyncio.create_task(worker.stop("mine"))
            await until(lambda: worker.state == "stopping")
            await loop.advance(100)
            release.set()
            await stopping

    virtual(main)
    assert "worker.stuck" not in [event["event"] for event in events]


def test_stopping_a_worker_that_is_found_stuck_ends_it(virtual):
    async def main(loop):
        release = threading.Event()

        def work(ctx):
            ctx.stop.wait()
            release.wait(LIMIT)

        async with Supervisor(policy=PATIENT) as sup:
            worker = await sup.start(work, heartbeat=10, restart=AT_ONCE)
            await loop.advance(10)
            assert worker.state == "stopping"
            stopping = asyncio.create_task(worker.stop())
            await asyncio.sleep(0)
            release.set()
            assert (await stopping).attempt == 1

    virtual(main)


# ------------------------------------------------------------------------------------------------ order


def order_of_ends(events):
    return [event["worker"] for event in events if event["event"] == "worker.ended"]


async def test_a_shutdown_stops_a_worker_before_those_that_it_comes_after(events):
    asked = []

    def work(ctx):
        ctx.stop.wait()
        asked.append(ctx.name)
        time.sleep(0.02)

    async with Supervisor() as sup:
        await sup.start(work, name="disk")
        await sup.start(work, name="db", after=["disk"])
        await sup.start(work, name="cache", after=("disk",))
        await sup.start(work, name="web", after=("db", "cache", "db"))
    assert order_of_ends(events)[0] == "web"
    assert set(order_of_ends(events)[1:3]) == {"db", "cache"}
    assert order_of_ends(events)[3] == "disk"
    assert [name for name in asked if name in ("web", "disk")] == ["web", "disk"]
    assert asked.index("web") == 0
    assert asked.index("disk") == 3


async def test_workers_that_do_not_depend_on_each_other_stop_at_the_same_time():
    meeting = threading.Barrier(5, timeout=LIMIT)

    def work(ctx):
        ctx.stop.wait()
        meeting.wait()

    async with Supervisor(policy=PATIENT) as sup:
        await sup.start(wait_for_stop, name="db")
        for _ in range(5):
            await sup.start(work, after=("db",))
        report = await sup.shutdown()
    assert [outcome.ended for outcome in report.outcomes] == ["stopped"] * 6
    assert all(outcome.error is None for outcome in report.outcomes)


async def test_abandoned_dependents_do_not_hold_the_others_up(events, leftovers):
    sup = Supervisor(policy=EscalationPolicy(Ask(0.05)))
    await sup.start(wait_for_stop, name="db")
    await sup.start(leftovers.block, name="web", after=("db",))
    report = await sup.shutdown(timeout=LIMIT)
    assert [(outcome.worker, outcome.ended) for outcome in report.outcomes] == [("web", "abandoned"), ("db", "stopped")]
    assert report.seconds < 2


async def test_what_a_later_layer_needs_is_reserved(leftovers):
    """The dependent gets what the ladder of the other leaves it, though its own grace knows no end."""

    def slow(ctx):
        ctx.stop.wait()
        time.sleep(0.2)

    sup = Supervisor()
    await sup.start(slow, name="db", policy=EscalationPolicy(Ask(1)))
    await sup.start(leftovers.block, name="web", after=("db",), policy=PATIENT)
    report = await sup.shutdown(timeout=1)
    assert [(outcome.worker, outcome.ended) for outcome in report.outcomes] == [("web", "abandoned"), ("db", "stopped")]
    assert 0.4 < report.outcomes[0].stop_seconds < 0.8
    assert report.seconds < 1.25


async def test_dependents_that_have_ended_by_themselves_hold_nobody_up():
    async with Supervisor(policy=PATIENT) as sup:
        await sup.start(wait_for_stop, name="db")
        await (await sup.start(lambda ctx: None, after=("db",))).wait()
        await (await sup.start(wait_for_stop, after=("db",))).stop()
        with pytest.raises(ValueError, match="mine"):
            await sup.start(lambda ctx: int("mine"), after=("db",), ready_timeout=LIMIT)
        report = await sup.shutdown()
    assert [outcome.worker for outcome in report.outcomes] == ["db"]


def test_a_dependent_between_two_runs_holds_nobody_up(virtual):
    async def main(loop):
        sup = Supervisor(policy=PATIENT)
        db = await sup.start(fail, name="db", restart=SLOWLY)
        await until(backing_off(db))
        await loop.advance(10)
        await until(backing_off(db, 2))
        (report,) = await asyncio.gather(sup.shutdown())
        assert report.clean

        sup = Supervisor(policy=PATIENT)
        await sup.start(wait_for_stop, name="db")
        web = await sup.start(fail, name="web", after=("db",), restart=SLOWLY)
        await until(backing_off(web))
        report = await sup.shutdown()
        assert [outcome.worker for outcome in report.outcomes] == ["web", "db"]

    virtual(main)


async def both_down(sup, db_work, web_work):
    """Starts a worker, and one that comes after it, and has both fail: the latter waits, though it has no pause."""
    db = await sup.start(db_work, name="db", restart=SLOWLY)
    web = await sup.start(web_work, name="web", after=("db",), restart=AT_ONCE)
    db_work.end(ValueError())
    await until(backing_off(db))
    web_work.end(ValueError())
    await until(backing_off(web))
    return db, web


def test_a_restart_waits_for_the_readiness_of_what_it_comes_after(virtual):
    async def main(loop):
        web_work = OnCommand()
        db_work = OnCommand()
        async with Supervisor() as sup:
            db, web = await both_down(sup, db_work, web_work)
            assert web.restarts == 0
            await loop.advance(9)
            assert backing_off(web)()
            await loop.advance(1)
            await until(runs(web, 2))
            assert runs(db, 2)()

    virtual(main)


def test_asking_a_worker_that_waits_for_others_to_restart_asks_for_no_second_run(virtual):
    async def main(loop):
        work, db_work = OnCommand(), OnCommand()
        async with Supervisor() as sup:
            _, web = await both_down(sup, db_work, work)
            restarting = asyncio.create_task(web.restart())
            await asyncio.sleep(0)
            await loop.advance(10)
            await restarting
            assert (web.attempt, web.restarts) == (2, 1)
            work.end()
            assert (await web.wait()).attempt == 2

    virtual(main)


@pytest.mark.parametrize("how", ["stop", "shutdown"])
def test_a_stop_of_a_worker_that_waits_for_others_ends_it_at_once(virtual, how):
    async def main(loop):
        work, db_work = OnCommand(), OnCommand()
        sup = Supervisor()
        db, web = await both_down(sup, db_work, work)
        if how == "stop":
            assert (await web.stop()).ended == "stopped"
            await db.restart()
        await sup.shutdown()
        assert (web.outcome.ended, web.attempt, db.outcome.ended) == ("stopped", 1, "stopped")
        return sup.report

    virtual(main)


def test_a_worker_that_waits_goes_on_where_what_it_comes_after_has_ended_for_good(virtual):
    async def main(loop):
        work, db_work = OnCommand(), OnCommand()
        async with Supervisor() as sup:
            db, web = await both_down(sup, db_work, work)
            await db.stop()
            await until(runs(web, 2))

    virtual(main)


async def test_a_start_after_a_worker_that_ends_meanwhile_is_refused():
    async with Supervisor() as sup:
        first = asyncio.create_task(sup.start(wait_for_stop, name="db", ready_timeout=LIMIT))
        await until(lambda: [worker.state for worker in sup.workers()] == ["running"])
        second = asyncio.create_task(sup.start(wait_for_stop, name="web", after=("db",)))
        await asyncio.sleep(0)
        await sup.workers()[0].stop()
        for task in (first, second):
            with pytest.raises(WorkerStopped):
                await task
        assert sup.workers() == ()


async def test_a_shutdown_while_a_start_waits_for_others():
    sup = Supervisor()
    first = asyncio.create_task(sup.start(wait_for_stop, name="db", ready_timeout=LIMIT))
    await until(lambda: [worker.state for worker in sup.workers()] == ["running"])
    second = asyncio.create_task(sup.start(wait_for_stop, name="web", after=("db",)))
    await asyncio.sleep(0)
    report = await sup.shutdown()
    assert [outcome.worker for outcome in report.outcomes] == ["db"]
    for task in (first, second):
        with pytest.raises((WorkerStopped, SupervisorClosed)):
            await task


# ------------------------------------------------------------------------------------------------ bad arguments


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"restart": "failure"}, TypeError, "restart='failure'"),
        ({"restart": Restart}, TypeError, "restart="),
        ({"heartbeat": 0}, ValueError, "heartbeat=0"),
        ({"heartbeat": -1}, ValueError, "heartbeat=-1"),
        ({"heartbeat": "10"}, TypeError, "heartbeat='10'"),
        ({"heartbeat": True}, TypeError, "heartbeat=True"),
        ({"heartbeat": math.nan}, ValueError, "heartbeat=nan"),
        ({"ready_timeout": 0}, ValueError, "ready_timeout=0"),
        ({"ready_timeout": -1}, ValueError, "ready_timeout=-1"),
        ({"ready_timeout": "1"}, TypeError, "ready_timeout='1'"),
        ({"after": "db"}, TypeError, "after='db'"),
        ({"after": None}, TypeError, "after=None"),
        ({"after": {"db"}}, TypeError, "after={'db'}"),
        ({"after": (5,)}, TypeError, "5"),
        ({"after": ("nobody",)}, ValueError, "after='nobody'"),
        ({"after": ("itself",), "name": "itself"}, ValueError, "after='itself'"),
        ({"after": ("a/b",)}, ValueError, "a/b"),
        ({"after": ("call",)}, ValueError, "after='call'"),
    ],
)
async def test_what_cannot_be_is_refused_before_anything_starts(options, error, says):
    release, ran = threading.Event(), []
    async with Supervisor() as sup:
        call = asyncio.create_task(sup.run(release.wait, LIMIT, name="call"))
        await asyncio.sleep(0)
        with pytest.raises(error) as caught:
            await sup.start(ran.append, **options)
        assert says in str(caught.value)
        release.set()
        await call
        assert sup.workers() == ()
    assert ran == []


async def test_an_infinite_heartbeat_or_ready_timeout_is_none():
    async with Supervisor() as sup:
        worker = await sup.start(readies, heartbeat=math.inf)
        assert worker.state == "running"


# ------------------------------------------------------------------------------------------------ shutdown, in numbers


async def test_a_hung_worker_is_listed_and_a_double_failure_still_completes(leftovers):
    sup = Supervisor(policy=EscalationPolicy(Ask(0.05)))
    entered = threading.Event()

    def fails_twice(ctx):
        def callback():
            raise ValueError("first")

        ctx.on_stop(callback)
        entered.set()
        ctx.stop.wait()
        raise ValueError("second")

    await sup.start(leftovers.block, name="hung", restart=Restart("always"))
    failing = await sup.start(fails_twice, name="fails", restart=Restart("always"), after=("hung",))
    await until(entered.is_set)
    report = await sup.shutdown(timeout=1)
    assert report.seconds < 1.25
    assert [outcome.worker for outcome in report.abandoned] == ["hung"]
    assert str(failing.outcome.error) == "second"
    assert failing.attempt == 1


async def many(number, fn):
    async with Supervisor() as sup:
        began = time.process_time()
        workers = [await sup.start(fn) for _ in range(number)]
        for worker in workers:
            if fn is not wait_for_stop:
                await worker.wait()
        report = await sup.shutdown()
        took = time.process_time() - began
    assert len(report.outcomes) == (number if fn is wait_for_stop else 0)
    assert all(worker.outcome is not None for worker in workers)
    return took


@pytest.mark.parametrize("fn", [wait_for_stop, lambda ctx: None], ids=["live", "ended"])
async def test_many_workers_cost_in_proportion_to_their_number(fn):
    await many(50, fn)
    few = min([await many(100, fn) for _ in range(3)])
    assert min([await many(400, fn) for _ in range(3)]) < 10 * few


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("fn", "number"), [(wait_for_stop, 2000), (lambda ctx: None, 10_000)], ids=["live", "ended"])
async def test_very_many_workers_cost_in_proportion_to_their_number(fn, number):
    few = min([await many(number // 10, fn) for _ in range(3)])
    assert await many(number, fn) < 20 * few


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
        assert sup.statistics().threads <= 3  # one may be past its last line
        assert len(inside.nodes(sup)) == 2
        assert not inside.names_taken(sup)


# ------------------------------------------------------------------------------------------------ chains


async def test_a_long_chain_of_workers_that_end_at_the_same_time():
    """Each comes after the one before; all end while the loop is busy, so that it hears of all of them at once."""
    enough, done, number = threading.Event(), threading.Semaphore(0), 150
    loop, errors = asyncio.get_running_loop(), []

    def work(ctx):
        enough.wait(LIMIT)
        done.release()

    def last(ctx):
        ctx.stop.wait()
        loop.call_soon_threadsafe(busy)

    def busy():
        enough.set()
        for _ in range(number):
            assert done.acquire(timeout=LIMIT)
        while (
            sup.statistics().threads > 1
        ):  # each tells of its end before it goes; the last one may still be on its way
            time.sleep(0.001)

    loop.set_exception_handler(lambda loop, context: errors.append(context))
    sup = Supervisor(policy=PATIENT)
    before = await sup.start(work)
    for _ in range(number - 1):
        before = await sup.start(work, after=(before.name,))
    await sup.start(last, after=(before.name,))
    report = await sup.shutdown(timeout=LIMIT / 2)
    assert errors == []
    assert report.counts()["returned"] == number
    assert report.seconds < LIMIT / 4
