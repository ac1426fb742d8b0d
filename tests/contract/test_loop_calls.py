"""`ctx.call`: a worker has the event loop call something, and gets what came of it."""

import asyncio
import concurrent.futures
import functools
import os
import threading

import pytest

from supervisor import (
    Ask,
    EscalationPolicy,
    Inject,
    Supervisor,
    WorkerFailed,
    WorkerTimeout,
)

from .. import inside
from ..waiting import until
from . import functions as f
from . import loop_functions as e
from .test_stopping import PATIENT, started


@pytest.fixture(autouse=True)
async def _prepared():
    e.prepare()
    yield
    e.loop.release.set()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    assert not [task for task in others if "/" in task.get_name()], "a task of a call was left behind"


async def in_call(sup, board, kind, fn, *args, worker=e.worker, **options):
    """A worker whose call of a coroutine function has begun."""
    handle = await sup.start(worker, board, fn, *args, kind=kind, **options)
    await asyncio.wait_for(e.loop.begun.wait(), f.LIMIT)
    return handle


async def asked(handle):
    """Begins to stop a worker; returns what waits for its end."""
    stopping = asyncio.create_task(handle.stop())
    await until(lambda: handle.step == "ask")
    return stopping


# ------------------------------------------------------------------------------------------------ what comes back


async def test_a_call_gets_the_result_of_a_coroutine_function(kind):
    async with Supervisor() as sup:
        assert await sup.run(e.call_raw, e.double, 21, kind=kind) == 42
    assert e.loop.log == [21]


async def test_a_worker_of_start_calls_by_its_context(kind, board):
    async with Supervisor() as sup:
        handle = await sup.start(e.worker, board, e.double, 21, kind=kind)
        assert (await handle.wait()).value == 42


async def test_a_call_of_an_executor_calls_too(kind):
    async with Supervisor() as sup:
        assert await asyncio.wrap_future(sup.executor(kind).submit(e.call_raw, e.double, 4)) == 8


async def test_keyword_arguments_go_through_partial(kind):
    async with Supervisor() as sup:
        assert await sup.run(e.call_partial, kind=kind) == (1, 2)


async def test_a_plain_function_runs_in_the_loops_thread(kind):
    async with Supervisor() as sup:
        assert await sup.run(e.call_raw, e.where, kind=kind) == (os.getpid(), threading.get_ident())


async def test_what_a_function_returns_is_awaited_if_it_can_be(kind):
    async with Supervisor() as sup:
        assert await sup.run(e.call_raw, e.promise, "kept", kind=kind) == "kept"


async def test_an_error_is_raised_in_the_worker_as_it_is(kind):
    async with Supervisor() as sup:
        error = await sup.run(e.call, e.refuse, 7, "a note", kind=kind)
    assert isinstance(error, f.Refusal)
    assert (error.code, error.__notes__) == (7, ["a note"])


async def test_a_base_exception_of_the_coroutine_is_raised_in_the_worker(kind):
    async with Supervisor() as sup:
        with pytest.raises(WorkerFailed) as caught:
            await sup.run(e.call_raw, e.no_exception, kind=kind)
    assert isinstance(caught.value.error, f.Stop)


async def test_a_coroutine_that_was_cancelled_by_somebody_else_is_an_error_of_its_own(kind):
    async with Supervisor() as sup:
        error = await sup.run(e.call, e.cancels_itself, kind=kind)
        assert isinstance(error, concurrent.futures.CancelledError)
        assert "its call of cancels_itself() was cancelled" in str(error)
        task = asyncio.create_task(sup.run(e.call, e.waits, kind=kind, name="w"))
        await e.loop.begun.wait()
        (called,) = (task for task in asyncio.all_tasks() if task.get_name() == "w/waits")
        called.cancel()
        assert isinstance(await task, concurrent.futures.CancelledError)


@pytest.mark.parametrize(
    ("fn", "text"),
    [(5, r"call\(fn=5\): must be callable"), (e.numbers, r"call\(fn=numbers\): is an async generator function")],
)
async def test_what_cannot_be_called_is_refused_by_name(kind, fn, text):
    async with Supervisor() as sup:
        with pytest.raises(TypeError, match=text):
            await sup.run(e.call_raw, fn, kind=kind)


async def test_a_worker_is_not_the_loops_own_worker(kind):
    async with Supervisor() as sup:
        with pytest.raises(LookupError):
            await sup.run(e.call_raw, e.current, kind=kind)


async def test_many_workers_call_at_once_and_each_gets_its_own(kind):
    workers, each = {"thread": (100, 20), "process": (2, 200)}[kind]
    async with Supervisor(max_threads=workers, max_processes=workers) as sup:
        lists = [list(range(n * each, (n + 1) * each)) for n in range(workers)]
        results = await asyncio.gather(*(sup.run(e.call_many, numbers, kind=kind) for numbers in lists))
    assert results == [[number * 2 for number in numbers] for numbers in lists]
    assert sorted(e.loop.log) == list(range(workers * each))


async def test_threads_of_a_worker_call_at_once_and_each_gets_its_own(kind):
    async with Supervisor() as sup:
        assert await sup.run(e.call_from_helpers, list(range(50)), kind=kind) == list(range(0, 100, 2))


async def test_context_variables(kind, where):
    """In a thread here those of the caller; elsewhere those of whoever submitted the worker."""
    e.variable.set("submitter's")
    async with Supervisor() as sup:
        seen, left = await sup.run(e.call_with_context, "worker's", kind=kind)
    assert seen == ("worker's" if where == "thread" else "submitter's")
    assert left == "worker's"
    assert e.variable.get() == "submitter's"


# ------------------------------------------------------------------------------------------------ a stop


@pytest.mark.parametrize("how", ["stop", "shutdown"])
async def test_a_stop_cancels_the_coroutine_and_raises_when_that_has_ended(kind, board, how):
    async with Supervisor(policy=PATIENT) as sup:
        handle = await in_call(sup, board, kind, e.waits)
        if how == "stop":
            outcome = await handle.stop()
        else:
            report = await sup.shutdown()
            (outcome,) = report.outcomes
            assert report.clean
    assert (outcome.ended, outcome.error) == ("stopped", None)
    assert outcome.stop_seconds < 5
    assert e.loop.log == ["coroutine unwound"]
    assert board.read("raised") == "StopRequested"


async def test_a_timeout_cancels_the_coroutine(kind, ladder_time):
    async with Supervisor() as sup:
        call = asyncio.create_task(sup.run(e.call_raw, e.waits, kind=kind, timeout=1))
        await e.loop.begun.wait()
        await ladder_time.advance(1)
        with pytest.raises(WorkerTimeout) as caught:
            await call
    assert caught.value.outcome.ended == "stopped"
    assert e.loop.log == ["coroutine unwound"]


async def test_a_cancelled_run_cancels_the_coroutine(kind):
    async with Supervisor() as sup:
        task = asyncio.create_task(sup.run(e.call_raw, e.waits, kind=kind))
        await e.loop.begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert e.loop.log == ["coroutine unwound"]


async def test_a_value_that_the_coroutine_returns_all_the_same_is_not_lost(kind, board):
    async with Supervisor(policy=PATIENT) as sup:
        handle = await in_call(sup, board, kind, e.finishes_anyhow)
        assert (await handle.stop()).value == "finished"


async def test_an_error_of_the_coroutine_on_its_cancellation_is_not_lost(kind, board):
    async with Supervisor(policy=PATIENT) as sup:
        handle = await in_call(sup, board, kind, e.fails_on_cancellation)
        assert str((await handle.stop()).error) == "cleaning up failed"


async def test_once_a_stop_is_asked_only_clean_up_is_called(kind, board):
    async with Supervisor(policy=PATIENT) as sup:
        handle = await started(sup, board, e.cleans_up, kind, e.double, e.double)
        assert (await handle.stop()).value == [42, 42]
    assert board.has("refused")
    assert e.loop.log == [21, 21]


async def test_a_clean_up_that_does_not_end_has_half_of_the_grace(kind, board, ladder_time):
    async with Supervisor(policy=EscalationPolicy(Ask(2))) as sup:
        handle = await sup.start(e.cleans_up_without_end, board, kind=kind)
        await e.loop.begun.wait()
        stopping = await asked(handle)
        await ladder_time.advance(0.9)
        assert e.loop.log == []
        await ladder_time.advance(0.1)
        outcome = await stopping
    assert outcome.ended == "stopped"
    assert 0.99 < outcome.stop_seconds < 2
    if kind == "thread":  # a process sees how much is left on its own clock
        assert 0 < outcome.value <= 1
    assert e.loop.log == ["coroutine unwound"]


async def test_a_coroutine_that_refuses_its_cancellation_is_left_and_told_of(kind, board, events, ladder_time):
    async with Supervisor(policy=EscalationPolicy(Ask(6))) as sup:
        handle = await in_call(sup, board, kind, e.stubborn, name="w")
        stopping = await asked(handle)
        await ladder_time.advance(3)
        outcome = await stopping
        assert outcome.ended == "stopped"
        assert outcome.stop_seconds > 2.99
        assert e.loop.log == ["refused"]
        closing = asyncio.create_task(sup.shutdown())
        await ladder_time.advance(1)
        report = await closing
        assert 0.99 < report.seconds < 5  # it waits for a second for the task
    (left,) = (event for event in events if event["event"] == "worker.call_left")
    assert (left["level"], left["worker"], left["function"]) == ("warning", "w", "stubborn")
    assert "in stubborn" in left["stack"]
    assert "in wait" in left["stack"]  # what it waits for, too
    e.loop.release.set()
    await until(lambda: not [task for task in asyncio.all_tasks() if task.get_name() == "w/stubborn"])


async def test_a_clean_up_that_refuses_its_cancellation_leaves_time_for_another(kind, board, events, ladder_time):
    async with Supervisor(policy=EscalationPolicy(Ask(4))) as sup:
        handle = await started(sup, board, e.cleans_up, kind, e.stubborn, e.double, name="w")
        stopping = await asked(handle)
        await e.loop.begun.wait()
        await ladder_time.advance(3)
        outcome = await stopping
        assert (outcome.ended, outcome.value) == ("stopped", ["StopRequested", 42])
        assert outcome.stop_seconds > 2.99
        closing = asyncio.create_task(sup.shutdown(timeout=0.1))
        await ladder_time.advance(0.5)
        await closing
        assert [event["function"] for event in events if event["event"] == "worker.call_left"] == ["stubborn"]
        e.loop.release.set()
        await until(lambda: not [task for task in asyncio.all_tasks() if task.get_name() == "w/stubborn"])


async def test_a_shutdown_without_time_does_not_wait_for_a_coroutine_that_refuses(kind, board, events):
    async with Supervisor(policy=PATIENT) as sup:
        await in_call(sup, board, kind, e.stubborn, name="w")
        report = await sup.shutdown(timeout=0.5)
        assert report.seconds < 5
        assert [event["function"] for event in events if event["event"] == "worker.call_left"] == ["stubborn"]
        e.loop.release.set()
        await until(lambda: not [task for task in asyncio.all_tasks() if task.get_name() == "w/stubborn"])


async def test_an_error_that_nobody_hears_goes_to_the_loops_exception_handler(kind, board, ladder_time):
    heard = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context))
    async with Supervisor(policy=EscalationPolicy(Ask(4))) as sup:
        handle = await in_call(sup, board, kind, e.fails_late, name="w")
        stopping = await asked(handle)
        await ladder_time.advance(2)
        assert (await stopping).ended == "stopped"
        e.loop.release.set()
    assert [str(context["exception"]) for context in heard] == ["nobody hears this"]
    assert heard[0]["message"] == "worker 'w': its call of fails_late() failed when nobody waited for it"


async def test_a_call_that_waits_for_its_own_pool_is_bounded_by_a_stop(kind, ladder_time):
    async with Supervisor(max_threads=1, max_processes=1, policy=EscalationPolicy(Ask(4))) as sup:
        e.loop.sup = sup
        call = asyncio.create_task(sup.run(e.call_raw, e.runs_a_call, kind, kind=kind, timeout=1))
        await e.loop.begun.wait()
        await ladder_time.advance(1)
        with pytest.raises(WorkerTimeout) as caught:
            await call
        assert caught.value.outcome.ended == "stopped"
        assert caught.value.outcome.stop_seconds < 2
        assert await sup.run(int, "6", kind=kind) == 6


async def test_a_call_that_shuts_its_own_supervisor_down_is_bounded_by_the_ladder(kind, board, ladder_time):
    async with Supervisor(policy=EscalationPolicy(Ask(4))) as sup:
        e.loop.sup = sup
        handle = await sup.start(e.worker, board, e.shuts_down, kind=kind)
        await until(lambda: handle.step == "ask")
        await ladder_time.advance(2)
        await ladder_time.advance(1)  # for which it waits for the task
        report = await asyncio.wait_for(sup.wait_closed(), f.LIMIT)
    assert report.counts() == {"stopped": 1}  # in half of its grace
    assert report.seconds > 1.99


async def test_a_shutdown_while_many_calls_are_under_way_leaves_no_task(kind, board):
    workers, each = {"thread": (50, 1), "process": (2, 25)}[kind]
    async with Supervisor(max_threads=workers, max_processes=workers, policy=PATIENT) as sup:
        for _ in range(workers):
            await sup.start(e.calls_from_helpers, board, e.waits, each, kind=kind)
        await until(lambda: e.loop.begun_times == 50)
        report = await sup.shutdown()
        assert report.clean, str(report)
        assert report.seconds < 5
        assert e.loop.log == ["coroutine unwound"] * 50
        assert len(asyncio.all_tasks()) == 1
    assert not inside.calls_open(sup)


async def test_a_worker_that_ends_takes_its_calls_with_it(kind, board):
    """A thread of its own is in one: it hears of it, and cannot call any more."""
    async with Supervisor() as sup:
        handle = await sup.start(e.leaves_a_helper, board, kind=kind, name="w")
        await e.loop.begun.wait()
        board.post("begun")
        assert (await handle.wait()).ended == "returned"
        if kind == "thread":  # the process of a worker ends with it
            assert await board.posted("helper") == "CancelledError"
            assert (await board.posted("late")).startswith("SupervisorMisused: worker 'w' has ended")
    assert e.loop.log == ["coroutine unwound"]


# ------------------------------------------------------------------------------------------------ injection


async def test_a_call_in_a_storm_of_injections_gets_its_own_result_or_none(kind, board):
    """Each value belongs to its call, nothing hangs, and nothing is left."""
    policy = EscalationPolicy(Ask(0), Inject(f.LIMIT, every=0.002))
    async with Supervisor(policy=policy) as sup:
        handle = await sup.start(e.storm, board, kind=kind)
        await until(lambda: len(e.loop.log) > 20)
        outcome = await handle.stop()
        assert (outcome.ended, outcome.error) == ("injected", None)
        assert outcome.value in ([], None)  # the last one may strike anywhere
    assert len(set(e.loop.log)) == len(e.loop.log), "a function was called twice"
    assert not inside.calls_open(sup)


async def test_a_shield_around_a_call_keeps_its_result(kind, board):
    policy = EscalationPolicy(Ask(0), Inject(f.LIMIT, every=f.LIMIT))
    async with Supervisor(policy=policy) as sup:
        handle = await in_call(sup, board, kind, e.held, "kept", worker=e.shielded_call)
        seen = sup.transitions()
        stopping = asyncio.create_task(handle.stop())
        async for transition in seen:
            if transition.step == "inject":
                break
        await asyncio.sleep(0.05)
        e.loop.release.set()
        outcome = await stopping
    assert outcome.value == ["kept", "StopInjected"]


async def test_functools_partial_objects_are_named_for_their_function(kind, board, events):
    async with Supervisor(policy=EscalationPolicy(Ask(1))) as sup:
        await in_call(sup, board, kind, functools.partial(e.stubborn), name="w")
        await sup.shutdown(timeout=0.3)
        e.loop.release.set()
        await until(lambda: not [task for task in asyncio.all_tasks() if task.get_name().startswith("w/")])
    assert [event["function"] for event in events if event["event"] == "worker.call_left"] == ["stubborn"]
