"""Restarts, readiness, heartbeats and the order of stops."""

import asyncio
import math
import sys

import pytest

from supervisor import (
    Ask,
    EscalationPolicy,
    Inject,
    Restart,
    RestartLimitExceeded,
    Supervisor,
    SupervisorError,
    WorkerDied,
    WorkerExit,
    WorkerStopped,
    WorkerTimeout,
)

from .. import inside
from ..waiting import until
from . import functions as f
from .clustered import ON_CLUSTER
from .test_stopping import INJECTING, PATIENT, started

HOWS = ["return", "exit", "error", "death"]


def at_once(when="failure", **options):
    return Restart(when, **{"backoff": 0, "within": 1000, **options})


async def running(worker, attempt):
    while (worker.state, worker.attempt) != ("running", attempt):
        assert worker.outcome is None
        await asyncio.sleep(f.TICK)


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("when", ["never", "failure", "always"])
async def test_which_ends_are_followed_by_another_run(kind, board, when, how):
    if kind == "thread" and how == "death":
        pytest.skip("a thread does not die by itself")
    restarted = when == "always" or (when == "failure" and how != "return")
    async with Supervisor() as sup:
        worker = await sup.start(f.ends, board, how, 2, kind=kind, restart=at_once(when))
        if restarted:
            await board.posted("last")
            await running(worker, 2)
        else:
            await worker.wait()
    assert board.lines("runs") == (["1", "2"] if restarted else ["1"])
    assert worker.restarts == restarted
    assert worker.outcome.ended == (
        "stopped" if restarted else {"return": "returned", "death": "died"}.get(how, "failed")
    )


async def test_a_limit_that_is_exceeded_ends_the_worker_with_its_last_error(kind, board):
    async with Supervisor() as sup:
        worker = await sup.start(f.always_fails, board, kind=kind, name="w", restart=at_once(max_restarts=2))
        outcome = await worker.wait()
        assert sup.workers() == ()
    assert (outcome.ended, outcome.attempt, worker.restarts) == ("failed", 3, 2)
    assert isinstance(outcome.error, RestartLimitExceeded)
    assert str(outcome.error) == "worker 'w' is given up after 2 restarts (its limit counts those within 1000 s)"
    assert str(outcome.error.__cause__) == "run 3"
    assert board.lines("runs") == ["1", "2", "3"]


@pytest.mark.parametrize("how", ["exit", "error"])
async def test_after_what_never_on_names_there_is_no_restart(kind, board, how):
    async with Supervisor() as sup:
        never = at_once("always", never_on=(ValueError, WorkerExit))
        worker = await sup.start(f.ends, board, how, 2, kind=kind, restart=never)
        assert (await worker.wait()).ended == "failed"
    assert board.lines("runs") == ["1"]


async def test_each_restart_has_a_thread_or_process_of_its_own(kind, board):
    async with Supervisor() as sup:
        worker = await sup.start(f.wait_for_stop, kind=kind, name="w")
        seen = {worker.pid or id(inside.run_of(worker))}
        for attempt in (2, 3, 4):
            await worker.restart()
            assert (worker.state, worker.attempt, worker.restarts) == ("running", attempt, attempt - 1)
            seen.add(worker.pid or id(inside.run_of(worker)))
        assert len(seen) == 4
        assert worker.last_outcome.attempt == 3
    assert worker.outcome.attempt == 4


async def test_a_worker_and_its_supervisor_stop_at_once_while_a_restart_loop_fails(kind, board):
    looping = Restart("failure", max_restarts=10**6, within=0.001, backoff=0)
    async with Supervisor(policy=PATIENT) as sup:
        one = await sup.start(f.always_fails, board, kind=kind, restart=looping)
        other = await sup.start(f.always_fails, board, kind=kind, restart=looping)
        while min(one.restarts, other.restarts) < {"thread": 20, "process": 2}[kind]:
            await asyncio.sleep(f.TICK)
        await one.stop()
        report = await sup.shutdown()
        ran = board.lines("runs")
    assert report.seconds < f.LIMIT / 4
    assert [outcome.worker for outcome in report.outcomes] == [other.name]
    assert board.lines("runs") == ran


async def test_a_stop_during_a_pause_ends_it_at_once(kind, board):
    async with Supervisor(policy=PATIENT) as sup:
        worker = await sup.start(
            f.always_fails, board, kind=kind, restart=Restart("failure", backoff=1000, max_backoff=1000)
        )
        while worker.state != "backing_off":
            await asyncio.sleep(f.TICK)
        assert (worker.ident, worker.pid, worker.stack()) == (None, None, "")
        assert sup.statistics().workers == {"backing_off": 1}
        outcome = await worker.stop()
    assert (outcome.ended, outcome.kind, outcome.attempt, outcome.error) == ("stopped", kind, 1, None)


@pytest.mark.parametrize("how", ["stop", "shutdown"])
async def test_a_stop_beats_a_restart_that_is_being_launched(kind, board, how):
    for turns in range(0, 60, 5):
        sup = Supervisor(policy=PATIENT)
        worker = await sup.start(f.ends, board, "error", 2, kind=kind, restart=at_once())
        while worker.attempt == 1:
            await asyncio.sleep(0)
        for _ in range(turns):
            await asyncio.sleep(0)
        if how == "stop":
            await worker.stop()
        await sup.shutdown()
        assert (worker.state, worker.attempt) == ("ended", 2)
        assert worker.outcome.ended in ("stopped", "cancelled")


# ------------------------------------------------------------------------------------------------ readiness


async def test_start_returns_when_the_worker_says_that_it_is_ready(kind, board):
    async with Supervisor() as sup:
        starting = asyncio.create_task(sup.start(f.readies_late, board, kind=kind, ready_timeout=f.LIMIT))
        await board.posted("entered")
        await asyncio.sleep(0)
        assert not starting.done()
        (worker,) = sup.workers()
        waiting = asyncio.create_task(worker.ready())
        await asyncio.sleep(0)
        assert not waiting.done()
        board.post("ready")
        assert await starting is worker
        await waiting
        await worker.ready()
        assert worker.state == "running"


async def test_a_worker_that_is_not_ready_in_time_is_stopped_and_start_raises(kind, board, ladder_time):
    async with Supervisor(policy=PATIENT) as sup:
        starting = asyncio.create_task(
            sup.start(f.wait_for_stop, board, kind=kind, restart=at_once("always"), ready_timeout=1)
        )
        await board.posted("entered")
        await ladder_time.advance(1)
        with pytest.raises(WorkerTimeout) as caught:
            await starting
        assert sup.workers() == ()
    assert (caught.value.outcome.ended, caught.value.outcome.attempt) == ("stopped", 1)


async def test_a_restart_that_is_not_ready_in_time_is_a_failure(kind, board, ladder_time):
    async with Supervisor(policy=PATIENT) as sup:
        worker = await sup.start(
            f.readies_in_first_run, board, kind=kind, restart=at_once(max_restarts=1), ready_timeout=1
        )
        restarting = asyncio.create_task(worker.restart())
        for attempt in (2, 3):
            await board.posted(f"entered {attempt}")
            await ladder_time.advance(1)
        with pytest.raises(RestartLimitExceeded):
            await restarting
    assert (worker.outcome.attempt, worker.outcome.ended, worker.last_outcome.ended) == (3, "failed", "stopped")


@pytest.mark.parametrize(
    ("how", "raised"),
    [("return", SupervisorError), ("exit", WorkerExit), ("error", ValueError), ("death", WorkerDied)],
)
async def test_a_first_start_that_fails_is_not_tried_again(kind, board, how, raised):
    if kind == "thread" and how == "death":
        pytest.skip("a thread does not die by itself")
    async with Supervisor() as sup:
        with pytest.raises(raised):
            await sup.start(
                f.ends, board, how, 2, kind=kind, name="w", restart=at_once("always"), ready_timeout=f.LIMIT
            )
        assert sup.workers() == ()
        await sup.start(f.wait_for_stop, kind=kind, name="w")
    assert board.lines("runs") == ["1"]


async def test_cancelling_start_before_readiness_stops_the_worker(kind, board):
    async with Supervisor() as sup:
        starting = asyncio.create_task(
            sup.start(f.wait_for_stop, board, kind=kind, ready_timeout=f.LIMIT, restart=at_once("always"))
        )
        await board.posted("entered")
        (worker,) = sup.workers()
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
    assert (worker.outcome.ended, worker.attempt) == ("stopped", 1)


# ------------------------------------------------------------------------------------------------ heartbeats


@pytest.mark.parametrize("how", ["obeys", "spins", "sleeps"])
async def test_a_silent_worker_is_stopped_by_its_ladder_and_restarted(kind, where, board, events, how, ladder_time):
    deaf = kind == "thread" and how == "sleeps" and sys.version_info < (3, 15)  # from there on, sleeps end
    policy = PATIENT if how == "obeys" else EscalationPolicy(Ask(0.1), Inject(0.2 if deaf else f.LIMIT))
    async with Supervisor() as sup:
        worker = await sup.start(
            f.silent, board, how, kind=kind, name="w", policy=policy, restart=at_once(max_restarts=100), heartbeat=0.5
        )
        if where not in ON_CLUSTER:  # where nodes climb their ladders by themselves
            await board.posted("runs", lines=1)
            await ladder_time.advance(0.5)
            if how != "obeys":
                await until(lambda: worker.step == "ask")
                await ladder_time.advance(0.1)
            if deaf:
                await until(lambda: worker.step == "inject")
                await ladder_time.advance(0.2)
        if deaf:
            outcome = await worker.wait()
            assert (outcome.ended, outcome.attempt) == ("abandoned", 1)
            assert isinstance(outcome.error, RestartLimitExceeded)
            assert board.lines("runs") == ["1"]
        else:
            await board.posted("runs", lines=2)
            restarting = next(event for event in events if event["event"] == "worker.restarting")
            assert (restarting["attempt"], restarting["ended"]) == (1, "stopped" if how == "obeys" else "injected")
    stuck = next(event for event in events if event["event"] == "worker.stuck")
    assert (stuck["worker"], stuck["kind"], stuck["reason"]) == ("w", kind, "no heartbeat for 0.5 s")
    assert "in silent" in stuck["stack"] or "does not answer" in stuck["stack"]  # a process that gets no time


async def test_a_worker_that_beats_goes_on(kind, board, ladder_time):
    async with Supervisor() as sup:
        worker = await sup.start(f.beats, board, kind=kind, heartbeat=1)
        for _ in range(3):  # longer than it may be silent
            before = ladder_time.now
            await until(lambda before=before: (worker.beat_at or 0) >= before)
            await ladder_time.advance(0.9)
        board.post("enough")
        assert (await worker.wait()).value == "enough"
    assert worker.attempt == 1


# ------------------------------------------------------------------------------------------------ order


async def test_a_shutdown_stops_a_worker_before_those_that_it_comes_after(kind, board, events):
    async with Supervisor() as sup:
        for name, after in (("disk", ()), ("db", ("disk",)), ("web", ("db",))):
            await sup.start(f.notes_its_stop, board, kind=kind, name=name, after=after)
        report = await sup.shutdown()
    assert board.lines("asked") == ["web", "db", "disk"]
    assert [outcome.worker for outcome in report.outcomes] == ["web", "db", "disk"]
    stops = [event for event in events if event["event"] in ("worker.stopping", "worker.ended")]
    assert [event["worker"] for event in stops] == ["web", "web", "db", "db", "disk", "disk"]


async def test_a_start_waits_for_the_readiness_of_what_it_comes_after(kind, board):
    async with Supervisor() as sup:
        first = asyncio.create_task(sup.start(f.readies_late, board, kind=kind, name="db", ready_timeout=f.LIMIT))
        await board.posted("entered")
        second = asyncio.create_task(sup.start(f.wait_for_stop, kind=kind, after=("db",)))
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(sup.workers()) == 1
        board.post("ready")
        await asyncio.gather(first, second)
        assert len(sup.workers()) == 2


async def test_the_third_of_three_ordered_starts_fails_and_the_others_go_on(kind, board):
    async with Supervisor() as sup:
        await sup.start(f.notes_its_stop, board, kind=kind, name="first")
        await sup.start(f.notes_its_stop, board, kind=kind, name="second", after=("first",))
        with pytest.raises(ValueError, match="run 1"):
            await sup.start(
                f.always_fails, board, kind=kind, name="third", after=("second",), ready_timeout=f.LIMIT,
                restart=at_once("always"),
            )  # fmt: skip
        assert [(worker.name, worker.state) for worker in sup.workers()] == [
            ("first", "running"),
            ("second", "running"),
        ]
    assert board.lines("asked") == ["second", "first"]


# ------------------------------------------------------------------------------------------------ graces


async def test_a_grace_of_nothing_goes_on_at_once(kind, board):
    async with Supervisor() as sup:
        worker = await started(
            sup, board, f.spinner_worker, kind, policy=EscalationPolicy(Ask(0), Inject(f.LIMIT, every=0.05))
        )
        outcome = await worker.stop()
    assert outcome.ended == "injected"
    assert outcome.stop_seconds < f.LIMIT / 4


async def test_an_infinite_grace_waits_but_not_beyond_the_deadline(kind, board, leftovers, monkeypatch):
    inside.patch(monkeypatch, DYING_TIME=f.LIMIT)
    sup = Supervisor(policy=EscalationPolicy(Ask(math.inf)))
    worker = await started(sup, board, f.obey_late_worker, kind, name="hung", restart=at_once("always"))
    stopping = asyncio.create_task(worker.stop())
    await board.posted("asked")
    await asyncio.sleep(0)
    assert not stopping.done()
    report = await sup.shutdown(timeout=0.5)
    outcome = await stopping
    board.post("release")
    assert report.seconds < 5
    assert [(outcome.worker, outcome.attempt) for outcome in report.outcomes] == [("hung", 1)]
    assert outcome.ended == ("abandoned" if kind == "thread" else "killed")
    assert bool(report.abandoned) == (kind == "thread")
    while sup.statistics().abandoned:
        await asyncio.sleep(f.TICK)


async def test_a_restart_of_a_run_that_must_be_injected(kind, board):
    async with Supervisor(policy=INJECTING) as sup:
        worker = await started(sup, board, f.spinner_worker, kind)
        await worker.restart()
        assert (worker.attempt, worker.last_outcome.ended) == (2, "injected")


async def test_restart_and_ready_after_the_end(kind):
    async with Supervisor() as sup:
        worker = await sup.start(f.wait_for_stop, kind=kind)
        outcome = await worker.stop()
        for call in (worker.restart, worker.ready):
            with pytest.raises(WorkerStopped) as caught:
                await call()
            assert caught.value.outcome is outcome
        assert worker.attempt == 1


async def test_a_hundred_restarts_leave_nothing_behind(kind):
    number = {"thread": 100, "process": 20}[kind]
    async with Supervisor() as sup:
        worker = await sup.start(f.wait_for_stop, kind=kind, name="w", heartbeat=f.LIMIT, ready_timeout=None)
        for _ in range(number):
            await worker.restart()
        assert worker.restarts == number
        await until(lambda: sup.statistics().threads <= 1)  # others may be past their last lines
        await until(lambda: sup.statistics().processes <= 2)
        assert sup.statistics().workers == {"running": 1}
