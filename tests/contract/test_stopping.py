"""Timeouts, cancellation, stops and shutdowns: how a run ends that somebody wants ended."""

import asyncio
import math
import time

import pytest

from supervisor import (
    Ask,
    EscalationPolicy,
    Inject,
    Supervisor,
    SupervisorClosed,
    WorkerStopped,
    WorkerTimeout,
)

from . import functions as f
from .test_calls import held

PATIENT = EscalationPolicy(Ask(f.LIMIT))
INJECTING = EscalationPolicy(Ask(0.02), Inject(f.LIMIT, every=f.LIMIT))
"""Once, so that what handles it is not struck by the next one, however long it takes on a busy machine."""


async def started(sup, board, fn, kind, *args, **options):
    """A worker that says that it has been entered."""
    worker = await sup.start(fn, board, *args, kind=kind, **options)
    await board.posted("entered")
    return worker


# ------------------------------------------------------------------------------------------------ timeouts


async def test_a_timeout_ends_in_worker_timeout_when_the_work_has_ended(kind, board, ladder_time):
    async with Supervisor(policy=PATIENT) as sup:
        task = await held(sup, board, kind, fn=f.obey_late, timeout=1)
        await ladder_time.advance(1)
        await board.posted("asked")
        assert sup.workers()[0].state == "stopping"
        assert not task.done()  # never left behind
        board.post("release")
        with pytest.raises(WorkerTimeout) as caught:
            await task
    outcome = caught.value.outcome
    assert (outcome.ended, outcome.value, outcome.step, outcome.kind) == ("stopped", "value", "ask", kind)
    assert outcome.stop_seconds < f.LIMIT
    assert isinstance(caught.value, TimeoutError)
    assert board.read("asked") == "timeout"


async def test_a_call_has_ended_within_its_time_ladder_included(kind, board, ladder_time):
    async with Supervisor(policy=EscalationPolicy(Ask(f.LIMIT), Inject(f.LIMIT))) as sup:
        began = ladder_time.now
        call = await held(sup, board, kind, fn=f.spinner, within=5)
        (worker,) = sup.workers()
        while worker.step != "inject" and not call.done():  # it may have ended within that move of the clock
            await ladder_time.advance(0.1)
        with pytest.raises(WorkerTimeout) as caught:
            await call
        assert ladder_time.now - began < 5
        assert await sup.run(int, "5", kind=kind, within=f.LIMIT) == 5
    assert caught.value.outcome.ended == "injected"
    assert board.read("unwound").split() == ["finally"]


async def test_an_error_after_the_timeout_is_the_cause(kind, board, ladder_time):
    async with Supervisor(policy=PATIENT) as sup:
        call = await held(sup, board, kind, fn=f.obey_and_fail, timeout=1)
        await ladder_time.advance(1)
        with pytest.raises(WorkerTimeout) as caught:
            await call
    assert isinstance(caught.value.__cause__, ValueError)
    assert str(caught.value.__cause__) == "timeout"
    assert caught.value.outcome.error is caught.value.__cause__
    assert caught.value.outcome.ended == "stopped"


async def test_a_timeout_counts_the_queue_and_a_queued_call_never_starts(kind, board):
    async with Supervisor(max_threads=1, max_processes=1) as sup:
        first = await held(sup, board, kind)
        with pytest.raises(WorkerTimeout) as caught:
            await sup.run(f.touch, board, kind=kind, timeout=0.02)
        assert (caught.value.outcome.ended, caught.value.outcome.step) == ("cancelled", None)
        board.post("release")
        assert await first == "value"
        await sup.run(int, kind=kind)
    assert not board.has("ran")


async def test_a_timeout_of_zero_never_starts_anything(kind, board):
    async with Supervisor() as sup:
        with pytest.raises(WorkerTimeout):
            await sup.run(f.touch, board, kind=kind, timeout=0)
        assert await sup.run(int, "5", kind=kind) == 5
    assert not board.has("ran")


async def test_a_timeout_that_is_not_reached_changes_nothing(kind):
    async with Supervisor() as sup:
        for timeout in (f.LIMIT, math.inf):
            assert await sup.run(int, "5", kind=kind, timeout=timeout) == 5


async def test_the_first_cause_wins(kind, board, ladder_time):
    async with Supervisor(policy=PATIENT) as sup:
        task = await held(sup, board, kind, fn=f.obey_late, timeout=1)
        await ladder_time.advance(1)
        await board.posted("asked")
        stopping = asyncio.create_task(sup.workers()[0].stop("second"))
        await asyncio.sleep(0)
        board.post("release")
        await stopping
        with pytest.raises(WorkerTimeout):
            await task
    assert board.read("asked") == "timeout"


# ------------------------------------------------------------------------------------------------ cancellation


async def test_a_cancellation_waits_for_the_end_of_the_work(kind, board):
    async with Supervisor(policy=PATIENT) as sup:
        task = await held(sup, board, kind, fn=f.obey_late)
        for _ in range(3):
            task.cancel("client left")
            await board.posted("asked")
            assert not task.done()
        assert sup.workers()[0].state == "stopping"
        board.post("release")
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
    assert caught.value.args == ("client left",)
    assert board.read("asked") == "cancelled"


async def test_a_cancelled_queued_call_never_starts(kind, board):
    async with Supervisor(max_threads=1, max_processes=1) as sup:
        first = await held(sup, board, kind)
        queued = asyncio.create_task(sup.run(f.touch, board, kind=kind))
        await asyncio.sleep(0)
        queued.cancel()
        with pytest.raises(asyncio.CancelledError):
            await queued
        assert len(sup.workers()) == 1
        board.post("release")
        await first
        await sup.run(int, kind=kind)
    assert not board.has("ran")


async def test_a_call_that_is_cancelled_before_anything_carries_it_out_never_starts(kind, board):
    async with Supervisor() as sup:
        task = asyncio.create_task(sup.run(f.touch, board, kind=kind, policy=PATIENT))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        if kind == "process":  # a thread may have been faster
            assert not board.has("ran")
        assert await sup.run(int, "5", kind=kind) == 5


# ------------------------------------------------------------------------------------------------ stops


async def test_under_stop_a_value_is_delivered(kind, board):
    async with Supervisor(policy=PATIENT) as sup:
        task = await held(sup, board, kind, fn=f.obey_and_return_reason)
        outcome = await sup.workers()[0].stop("because")
        assert (outcome.ended, outcome.step, outcome.value) == ("stopped", "ask", "because")
        assert await task == "because"


@pytest.mark.parametrize(("fn", "cause"), [(f.obey, type(None)), (f.obey_and_fail, ValueError)])
async def test_under_stop_any_other_end_is_worker_stopped(kind, board, fn, cause):
    async with Supervisor(policy=PATIENT) as sup:
        task = await held(sup, board, kind, fn=fn)
        outcome = await sup.workers()[0].stop("because")
        with pytest.raises(WorkerStopped) as caught:
            await task
    assert not isinstance(caught.value, WorkerTimeout)
    assert caught.value.outcome == outcome
    assert outcome.ended == "stopped"
    assert isinstance(caught.value.__cause__, cause)
    assert isinstance(outcome.error, cause)


async def test_stopping_a_queued_call_withdraws_it(kind, board):
    async with Supervisor(max_threads=1, max_processes=1) as sup:
        first = await held(sup, board, kind)
        queued = asyncio.create_task(sup.run(f.touch, board, kind=kind))
        await asyncio.sleep(0)
        outcome = await sup.workers()[1].stop()
        assert (outcome.ended, outcome.step) == ("cancelled", None)
        with pytest.raises(WorkerStopped, match="had not started"):
            await queued
        board.post("release")
        await first
    assert not board.has("ran")


# ------------------------------------------------------------------------------------------------ injection


@pytest.mark.parametrize("named", ["supervisor", "call"])
async def test_a_policy_that_the_user_names_is_followed_as_it_stands(kind, board, named):
    async with Supervisor(policy=INJECTING if named == "supervisor" else None) as sup:
        call = await held(sup, board, kind, fn=f.spinner, policy=INJECTING if named == "call" else None)
        outcome = await sup.workers()[0].stop()
        with pytest.raises(WorkerStopped):
            await call
    assert (outcome.ended, outcome.step, outcome.error, outcome.exit_code) == ("injected", "inject", None, None)
    assert "in spin" in outcome.stack or "does not answer" in outcome.stack  # a process that gets no time
    assert board.lines("unwound") == ["finally"]


async def test_an_injected_worker_unwinds(kind, board):
    async with Supervisor(policy=INJECTING) as sup:
        worker = await started(sup, board, f.spinner_worker, kind)
        outcome = await worker.stop()
    assert (outcome.ended, outcome.error) == ("injected", None)
    assert board.lines("unwound") == ["finally"]


async def test_what_is_swallowed_is_injected_again(kind, board, ladder_time):
    async with Supervisor(policy=EscalationPolicy(Ask(1), Inject(f.LIMIT, every=1))) as sup:
        task = await held(sup, board, kind, 2, fn=f.swallower)
        stopping = asyncio.create_task(sup.workers()[0].stop())
        for turn in (1, 2, 3):
            await board.posted("turns", lines=turn)  # what handles one is over before the next
            await ladder_time.advance(1)
        outcome = await stopping
        with pytest.raises(WorkerStopped):
            await task
    assert outcome.ended == "injected"
    assert len(board.lines("caught")) == 3


async def test_a_value_that_is_returned_when_injected_is_delivered(kind, board):
    async with Supervisor(policy=INJECTING) as sup:
        task = await held(sup, board, kind, fn=f.saver)
        outcome = await sup.workers()[0].stop()
        assert (outcome.ended, outcome.value) == ("injected", "saved")
        assert await task == "saved"


async def test_after_an_injection_the_next_call_is_untouched(kind, board):
    policy = EscalationPolicy(Ask(0.02), Inject(f.LIMIT, every=1))  # one may strike an import, of which it is lost
    async with Supervisor(policy=policy, max_threads=1, max_processes=1) as sup:
        for _ in range(3):
            assert await sup.run(sum, range(10_000), kind=kind) == 49_995_000
            with pytest.raises(WorkerTimeout):
                await sup.run(f.spinner, board, kind=kind, timeout=0.15)


# ------------------------------------------------------------------------------------------------ shutdown


async def test_queued_calls_end_with_the_shutdown_and_later_ones_are_refused(kind, board):
    sup = Supervisor(max_threads=1, max_processes=1, policy=PATIENT)
    first = await held(sup, board, kind, fn=f.obey_late)
    queued = [asyncio.create_task(sup.run(f.touch, board, kind=kind)) for _ in range(3)]
    await asyncio.sleep(0)
    closing = asyncio.create_task(sup.shutdown(reason="deploy"))
    assert await board.posted("asked") == "deploy"
    for method in (sup.run, sup.start):
        with pytest.raises(SupervisorClosed, match="is shutting down"):
            await method(f.wait_for_stop, kind=kind)
    for task in queued:
        with pytest.raises(WorkerStopped) as caught:
            await task
        assert caught.value.outcome.ended == "cancelled"
    board.post("release")
    assert await first == "value"
    report = await closing
    assert report.counts() == {"stopped": 1, "cancelled": 3}
    assert len(report.outcomes) == 1
    assert not board.has("ran")


async def test_the_report_has_one_outcome_for_each_worker_that_had_not_ended(kind, tmp_path):
    boards = {name: f.Board(tmp_path / name) for name in ("obeys", "spins", "call", "gone", "failed")}
    for board in boards.values():
        board.path.mkdir()
    sup = Supervisor(policy=PATIENT, shutdown_timeout=2 * f.LIMIT)
    gone = await started(sup, boards["gone"], f.obey_and_return_worker, kind, name="gone")
    await gone.stop()
    await started(sup, boards["obeys"], f.obey_and_return_worker, kind, name="obeys")
    await started(sup, boards["spins"], f.spinner_worker, kind, name="spins", policy=INJECTING)
    call = asyncio.create_task(sup.run(f.obey_and_return, boards["call"], kind=kind, name="call"))
    failing = asyncio.create_task(sup.run(f.obey_and_fail, boards["failed"], kind=kind, name="failed"))
    for name in ("call", "failed"):
        await boards[name].posted("entered")
    report = await sup.shutdown(reason="deploy")
    assert {outcome.worker: (outcome.kind, outcome.ended) for outcome in report.outcomes} == {
        "obeys": (kind, "stopped"),
        "spins": (kind, "injected"),
        "call": (kind, "stopped"),
        "failed": (kind, "stopped"),
    }
    assert not report.clean
    assert (report.reason, report.abandoned) == ("deploy", ())
    assert kind in str(report)
    assert report.to_dict()["counts"] == {"stopped": 3, "injected": 1}
    assert await call == "value"
    with pytest.raises(WorkerStopped):
        await failing


async def test_concurrent_shutdowns_share_one_report(kind, board):
    async with Supervisor() as sup:
        await started(sup, board, f.obey_and_return_worker, kind)
        reports = await asyncio.gather(*(sup.shutdown() for _ in range(20)))
    assert {id(report) for report in reports} == {id(sup.report)}
    assert reports[0].counts() == {"stopped": 1}


async def test_a_shutdown_cancelled_again_and_again_finishes_and_then_raises_the_first(kind, board):
    sup = Supervisor(policy=PATIENT)
    await started(sup, board, f.obey_late_worker, kind)
    closing = asyncio.create_task(sup.shutdown())
    await board.posted("asked")
    for number in range(5):
        closing.cancel(f"cancellation {number}")
        await asyncio.sleep(0)
    assert not closing.done()
    board.post("release")
    with pytest.raises(asyncio.CancelledError, match="cancellation 0"):
        await closing
    assert sup.report.counts() == {"stopped": 1}


async def test_a_shutdown_is_in_time_and_shrinks_what_would_be_too_long(kind, board):
    sup = Supervisor(policy=EscalationPolicy(Ask(math.inf), Inject(60, every=0.05)), shutdown_timeout=60)
    await started(sup, board, f.spinner_worker, kind)
    began = time.monotonic()
    report = await sup.shutdown(timeout=10)
    assert time.monotonic() - began < f.LIMIT
    assert report.counts() == {"injected": 1}


async def test_a_second_shutdown_shortens_the_first(kind, board):
    sup = Supervisor(policy=EscalationPolicy(Ask(60), Inject(60, every=0.05)), shutdown_timeout=120)
    await started(sup, board, f.spinner_worker, kind)
    first = asyncio.create_task(sup.shutdown(reason="first"))
    await asyncio.sleep(0)
    began = time.monotonic()
    report = await sup.shutdown(timeout=2, reason="second")
    assert time.monotonic() - began < 10
    assert await first is report
    assert report.reason == "first"


async def test_leaving_the_block_by_an_error_still_ends_the_workers(kind, board):
    with pytest.raises(ZeroDivisionError):
        async with Supervisor() as sup:
            worker = await started(sup, board, f.obey_and_return_worker, kind)
            _ = 1 / 0
    assert worker.outcome.ended == "stopped"
    assert sup.report.clean
