"""`await sup.start(fn)`: workers of their own, and the handle."""

import asyncio
import math
import os

import pytest

from supervisor import Ask, EscalationPolicy, Supervisor, WorkerFailed, WorkerStopped

from .. import inside
from ..waiting import refused_elsewhere, until
from . import functions as f
from .test_calls import held
from .test_stopping import INJECTING, PATIENT, started


async def test_start_returns_when_the_function_has_been_entered(kind, board):
    async with Supervisor() as sup:
        worker = await sup.start(f.wait_for_stop, board, kind=kind, name="w")
        assert (worker.name, worker.kind, worker.state, worker.attempt) == ("w", kind, "running", 1)
        assert worker.outcome is None
        assert sup.workers() == (worker,)
        assert (worker.ident is None, worker.pid is None) == ((False, True) if kind == "thread" else (True, False))
        assert worker.pid != os.getpid()
        await board.posted("entered")
    assert (worker.state, worker.ident, worker.pid) == ("ended", None, None)
    assert (worker.outcome.ended, worker.outcome.value) == ("stopped", True)


async def test_workers_do_not_count_as_calls(kind, tmp_path):
    async with Supervisor(max_threads=1, max_processes=1) as sup:
        for _ in range(3):
            await sup.start(f.wait_for_stop, kind=kind)
        assert await sup.run(int, "5", kind=kind) == 5


async def test_a_worker_that_ends_at_once_is_still_returned(kind):
    async with Supervisor() as sup:
        worker = await sup.start(f.work, 2, 3, kind=kind)
        outcome = await worker.wait()
        assert await worker.wait() is outcome is worker.outcome
    assert (outcome.ended, outcome.value, outcome.step, outcome.stop_seconds) == ("returned", 5, None, 0.0)
    assert (outcome.kind, outcome.exit_code, outcome.stack) == (kind, None, None)


@pytest.mark.parametrize(
    ("error", "kept"), [(ValueError("x"), ValueError), (KeyboardInterrupt(), WorkerFailed), (SystemExit(0), type(None))]
)
async def test_an_error_is_in_the_outcome_and_touches_nobody_else(kind, error, kept):
    async with Supervisor() as sup:
        other = await sup.start(f.wait_for_stop, kind=kind)
        worker = await sup.start(f.fails, error, kind=kind)
        outcome = await worker.wait()
        assert isinstance(outcome.error, kept)
        assert outcome.ended == ("failed" if outcome.error else "returned")
        assert other.state == "running"


async def test_cancelling_wait_stops_only_the_waiting(kind):
    async with Supervisor() as sup:
        worker = await sup.start(f.wait_for_stop, kind=kind)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(worker.wait(), 0.01)
        assert worker.state == "running"
        waiting = [asyncio.create_task(worker.wait()) for _ in range(3)]
        await asyncio.sleep(0)
        await worker.stop()
        assert len({id(await task) for task in waiting}) == 1


async def test_stop_can_be_called_by_many_and_again(kind):
    async with Supervisor() as sup:
        worker = await sup.start(f.wait_for_stop, kind=kind)
        outcomes = await asyncio.gather(*(worker.stop(f"caller {n}") for n in range(20)))
        assert len({id(outcome) for outcome in outcomes}) == 1
        assert await worker.stop() is worker.outcome is outcomes[0]


async def test_a_cancelled_stop_goes_on_to_the_end(kind, board):
    async with Supervisor(policy=PATIENT) as sup:
        worker = await started(sup, board, f.obey_late_worker, kind)
        stopping = asyncio.create_task(worker.stop())
        await board.posted("asked")
        for _ in range(5):
            stopping.cancel()
            await asyncio.sleep(0)
        assert not stopping.done()
        board.post("release")
        with pytest.raises(asyncio.CancelledError):
            await stopping
        assert worker.state == "ended"


async def test_the_first_reason_stays(kind, board):
    async with Supervisor(policy=PATIENT) as sup:
        worker = await started(sup, board, f.obey_late_worker, kind)
        first = asyncio.create_task(worker.stop("first"))
        await board.posted("asked")
        second = asyncio.create_task(worker.stop("second"))
        await asyncio.sleep(0)
        board.post("release")
        await asyncio.gather(first, second)
    assert board.read("asked") == "first"


async def test_cancelling_start_ends_the_worker(kind, board):
    async with Supervisor() as sup:
        starting = asyncio.create_task(sup.start(f.wait_for_stop, board, kind=kind, name="slow"))
        await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert sup.workers() == ()
        if kind == "process":  # a thread may have been faster
            assert not board.has("entered")
        assert (await (await sup.start(f.wait_for_stop, kind=kind, name="slow")).stop()).ended == "stopped"


@pytest.mark.parametrize("kind", ["process"])  # a thread is faster; another test holds one back
async def test_a_worker_that_is_stopped_before_it_was_entered_makes_start_raise(kind):
    async with Supervisor() as sup:
        starting = asyncio.create_task(sup.start(f.wait_for_stop, kind=kind, name="slow"))
        await asyncio.sleep(0)
        (worker,) = sup.workers()
        assert worker.state == "starting"
        assert (await worker.stop()).ended == "cancelled"
        with pytest.raises(WorkerStopped, match="had not started"):
            await starting


async def test_a_live_name_is_free_again_after_the_end(kind):
    async with Supervisor() as sup:
        worker = await sup.start(f.wait_for_stop, kind=kind, name="same")
        with pytest.raises(ValueError, match="name='same'"):
            await sup.start(f.wait_for_stop, kind=kind, name="same")
        assert sup.workers() == (worker,)
        await worker.stop()
        again = await sup.start(f.wait_for_stop, kind=kind, name="same")
        assert again is not worker


async def test_where_it_stands_can_be_seen_from_any_thread(kind, board):
    async with Supervisor() as sup:
        worker = await started(sup, board, f.stands_here, kind, name="w")
        await until(lambda: "in stands_here" in worker.stack())  # a process answers once it has got the processor
        stacks = await asyncio.to_thread(sup.stacks)
        while "in stands_here" not in stacks["w"]:
            stacks = await asyncio.to_thread(sup.stacks)
        assert list(stacks) == ["w"]
        for ours in (inside.GATE_FILE, inside.CHILD_FOLDER, "<string>"):
            assert ours not in stacks["w"]
        while "in stands_here" not in await asyncio.to_thread(worker.stack):
            pass
        assert await asyncio.to_thread(sup.workers) == (worker,)
    assert worker.stack() == ""
    assert sup.stacks() == {}


async def test_where_a_call_stands_can_be_seen(kind, board, monkeypatch):
    inside.patch(monkeypatch, ASKING_TIME=math.inf)  # a process answers once it has got the processor
    async with Supervisor() as sup:
        call = await held(sup, board, kind, name="w")
        await until(lambda: "in hold" in sup.stacks()["w"])
        board.post("release")
        await call


async def test_workers_are_listed_the_oldest_first_calls_included(kind, board):
    async with Supervisor() as sup:
        first = await sup.start(f.wait_for_stop, kind=kind, name="first")
        call = await held(sup, board, kind, name="second")
        third = await sup.start(f.wait_for_stop, kind=kind, name="third")
        workers = sup.workers()
        assert [worker.name for worker in workers] == ["first", "second", "third"]
        assert (workers[0], workers[2]) == (first, third)
        assert sup.workers() == workers  # the same handles
        board.post("release")
        await call
        assert workers[1].outcome.value == "value"
        assert [worker.name for worker in sup.workers()] == ["first", "third"]


async def test_a_handle_belongs_to_its_supervisors_loop(kind):
    async with Supervisor() as sup:
        worker = await sup.start(f.wait_for_stop, kind=kind, name="w")
        errors = await refused_elsewhere(worker.wait, worker.stop)
        assert worker.state == "running"
    assert len(errors) == 2
    assert all("'w' belongs to another event loop" in error for error in errors)


async def test_many_workers_stop_side_by_side(kind):
    number = {"thread": 200, "process": 6}[kind]
    async with Supervisor() as sup:
        await asyncio.gather(*(sup.start(f.wait_for_stop, kind=kind) for _ in range(number)))
        assert len(sup.workers()) == number
        report = await sup.shutdown()
    assert report.counts() == {"stopped": number}


async def test_a_generator_function_is_refused(kind):
    async with Supervisor() as sup:
        with pytest.raises(TypeError, match=r"generator\): is a generator function"):
            await sup.start(f.generator, kind=kind)


async def test_a_policy_of_its_own(kind, board):
    async with Supervisor(policy=PATIENT) as sup:
        worker = await started(sup, board, f.spinner_worker, kind, policy=INJECTING)
        assert (await worker.stop()).ended == "injected"


async def test_a_policy_without_a_step_for_the_kind_still_asks(kind, board):
    async with Supervisor(policy=EscalationPolicy(Ask(f.LIMIT))) as sup:
        worker = await started(sup, board, f.obey_and_return_worker, kind)
        outcome = await worker.stop()
    assert (outcome.ended, outcome.step, outcome.value) == ("stopped", "ask", "value")
    assert 0 < outcome.stop_seconds < f.LIMIT
    assert outcome.seconds > 0


async def test_a_worker_that_returns_right_after_it_was_ready_has_been_ready(kind):
    async with Supervisor() as sup:
        for _ in range(25):
            worker = await sup.start(f.is_ready_and_returns, kind=kind, ready_timeout=60)
            assert (await worker.wait()).ended == "returned"
