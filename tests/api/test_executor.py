"""`executor()`: what the standard library promises of an Executor, and where this one differs."""

import asyncio
import concurrent.futures
import contextlib
import contextvars
import functools
import gc
import logging
import os
import subprocess
import sys
import threading
import weakref
from concurrent.futures import wait

import pytest

from supervisor import (
    Ask,
    EscalationPolicy,
    Supervisor,
    SupervisorClosed,
    WorkerDied,
    WorkerStopped,
    current_context,
)

from .. import inside
from .executors import LIMIT, PATIENT, Gatekeeper, aside, obedient

# ------------------------------------------------------------------------------------------------ submit


async def test_a_function_may_have_arguments_named_fn_and_self(ex):
    assert await aside(ex.submit(lambda **named: named, fn=1, self=2).result) == {"fn": 1, "self": 2}


async def test_a_future_is_running_from_the_moment_at_which_its_call_was_taken_until_it_ends(ex, gatekeeper):
    future = ex.submit(gatekeeper)
    await gatekeeper.wait_entered()
    assert future.running()
    assert not future.done()
    assert "state=running" in repr(future)
    blocked = [ex.submit(gatekeeper), ex.submit(int)]
    assert not blocked[1].running()
    assert "state=pending" in repr(blocked[1])
    gatekeeper.open.set()
    await aside(wait, [future, *blocked], LIMIT)
    assert not future.running()
    assert "state=finished" in repr(future)


async def test_a_future_has_all_that_one_of_the_standard_library_has(ex):
    future = ex.submit(int)
    await aside(future.result)
    assert vars(concurrent.futures.Future()).keys() <= vars(future).keys()


async def test_who_waits_with_a_timeout_gives_up_and_can_wait_again(ex, gatekeeper):
    future = ex.submit(gatekeeper, 5)
    with pytest.raises(TimeoutError):
        await aside(future.result, 0.01)
    with pytest.raises(TimeoutError):
        await aside(future.exception, 0)
    both = asyncio.gather(aside(future.result, LIMIT), aside(future.result, LIMIT))
    gatekeeper.open.set()
    assert await both == [5, 5]


@pytest.mark.parametrize("code", [None, 0])
async def test_sys_exit_without_an_error_is_a_return_of_none(ex, code):
    assert await aside(ex.submit(sys.exit, code).result) is None


async def coroutine_function():
    pass


@pytest.mark.parametrize("fn", [coroutine_function, functools.partial(coroutine_function), 3, None])
async def test_what_cannot_run_in_a_thread_is_refused_at_once(ex, fn):
    with pytest.raises(TypeError, match="submit"):
        ex.submit(fn)
    ex.shutdown()  # nothing of it is left that would have to be waited for


async def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="kind='coroutine'"):
        Supervisor().executor("coroutine")


async def test_context_variables_of_the_submitter_are_visible(ex):
    variable = contextvars.ContextVar("variable")
    variable.set("mine")
    assert await aside(ex.submit(variable.get).result) == "mine"


async def test_the_function_finds_its_context(ex):
    assert (await aside(ex.submit(lambda: current_context().name).result)).startswith("test_the_function")


async def test_calls_begin_in_the_order_of_their_submission():
    async with Supervisor(max_threads=1) as sup:
        order = []
        futures = [sup.executor().submit(order.append, number) for number in range(100)]
        await aside(wait, futures)
    assert order == list(range(100))


# ------------------------------------------------------------------------------------------------ from any thread


async def test_many_threads_submit_at_once_and_every_call_resolves(ex):
    def many():
        return [ex.submit(pow, number, 2) for number in range(300)]

    futures = [future for batch in await asyncio.gather(*(aside(many) for _ in range(4))) for future in batch]
    results = await aside(lambda: [future.result(LIMIT) for future in futures])
    assert sorted(results) == sorted(number**2 for number in range(300) for _ in range(4))


async def test_the_event_loops_own_thread_may_block_on_a_call_of_a_thread(ex):
    assert ex.submit(pow, 2, 3).result(LIMIT) == 8
    assert list(ex.map(abs, [-1, -2])) == [1, 2]


async def test_calls_of_other_threads_go_on_while_the_loop_is_blocked(ex):
    results = []
    other = threading.Thread(target=lambda: results.extend(ex.map(abs, [-1, -2, -3])))
    other.start()
    other.join(LIMIT)
    assert results == [1, 2, 3]


async def test_blocking_the_loop_on_a_call_that_it_must_end_is_refused(ex):
    future = ex.submit(obedient, entered := threading.Event())
    assert await aside(entered.wait, LIMIT)
    future.cancel()
    while future.run.climb is None:
        await asyncio.sleep(0)
    for method in (future.result, future.exception):
        with pytest.raises(RuntimeError, match="would block its event loop's own thread"):
            method(LIMIT)
    with pytest.raises(WorkerStopped):
        await aside(future.result)
    with pytest.raises(WorkerStopped):
        future.result()


# ------------------------------------------------------------------------------------------------ callbacks, waiting


async def test_done_callbacks_run_in_the_calls_thread(ex, gatekeeper):
    seen = []
    future = ex.submit(lambda: gatekeeper() or threading.get_ident())
    future.add_done_callback(lambda done: seen.append((done, threading.get_ident())))
    gatekeeper.open.set()
    ident = await aside(future.result)
    while not seen:
        await asyncio.sleep(0)
    assert seen == [(future, ident)]


async def test_sys_exit_in_a_callback_does_not_end_the_pools_thread(capsys):
    async with Supervisor(max_threads=1) as sup:
        keeper = Gatekeeper()
        future = sup.executor().submit(keeper)
        future.add_done_callback(lambda _: sys.exit(1))
        keeper.open.set()
        await aside(future.result)
        assert await aside(sup.executor().submit(int).result) == 0
        assert sup.statistics().threads == 1
        await asyncio.sleep(0)
    assert "worker.callback_failed" in capsys.readouterr().out


# ------------------------------------------------------------------------------------------------ cancel


async def test_whoever_waits_for_a_call_hears_at_once_that_it_was_withdrawn(ex, gatekeeper):
    futures = [ex.submit(gatekeeper), ex.submit(gatekeeper)]
    await gatekeeper.wait_entered(2)
    future = ex.submit(int)
    waiting = asyncio.ensure_future(aside(lambda: wait([future], LIMIT)))
    await aside(future.cancel)
    assert (await waiting).done == {future}
    gatekeeper.open.set()
    await aside(wait, futures)


async def test_a_withdrawn_call_is_no_longer_listed(ex, sup, gatekeeper):
    futures = [ex.submit(gatekeeper), ex.submit(gatekeeper), ex.submit(int)]
    await gatekeeper.wait_entered(2)
    assert sup.statistics().queued == 1
    futures[2].cancel()
    while sup.statistics().queued:
        await asyncio.sleep(0)
    assert len(sup.workers()) == 2


async def test_other_threads_may_cancel(ex):
    future = ex.submit(obedient, entered := threading.Event())
    assert await aside(entered.wait, LIMIT)
    assert not await aside(future.cancel)
    with pytest.raises(WorkerStopped):
        await aside(future.result)


async def test_cancelling_a_call_that_is_done_returns_false(ex):
    future = ex.submit(int)
    await aside(future.result)
    assert not future.cancel()
    assert future.result() == 0


# ------------------------------------------------------------------------------------------------ map


async def test_map_ends_with_the_shortest_iterable(ex):
    assert await aside(lambda: list(ex.map(pow, [1, 2, 3], [1, 1]))) == [1, 2]


async def test_map_of_nothing_is_empty(ex):
    assert list(ex.map(int, [])) == []
    assert list(ex.map(int, [], chunksize=5)) == []


async def test_a_chunk_is_one_call(ex):
    names = await aside(lambda: list(ex.map(lambda _: current_context().name, range(6), chunksize=3)))
    assert len(set(names)) == 2
    assert names[0].endswith("<lambda>-1")


@pytest.mark.parametrize("timeout", [None, float("inf"), 5])
async def test_map_in_time_raises_nothing(ex, timeout):
    assert await aside(lambda: list(ex.map(abs, [-1], timeout=timeout))) == [1]


@pytest.mark.parametrize("wrong", [{"chunksize": 0}, {"buffersize": 0}, {"timeout": -1}, {"timeout": float("nan")}])
async def test_map_refuses_what_cannot_be(ex, wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}="):
        ex.map(int, ["1"], **wrong)


@pytest.mark.parametrize("wrong", [{"chunksize": 1.5}, {"chunksize": True}, {"buffersize": "1"}, {"timeout": "1"}])
async def test_map_refuses_what_is_no_number(ex, wrong):
    with pytest.raises(TypeError, match=f"{next(iter(wrong))}="):
        ex.map(int, ["1"], **wrong)


@pytest.mark.parametrize("chunksize", [1, 2])
async def test_dropping_the_iterator_of_map_withdraws_what_waits(ex, gatekeeper, chunksize):
    results = ex.map(gatekeeper, range(20), chunksize=chunksize)
    await gatekeeper.wait_entered(2)
    gatekeeper.open.set()
    assert await aside(next, results) == 0
    results.close()
    while inside.under_way(ex):
        await asyncio.sleep(0.001)


# ------------------------------------------------------------------------------------------------ shutdown


async def test_after_its_shutdown_an_executor_refuses_calls(ex):
    ex.shutdown()
    ex.shutdown()
    with pytest.raises(RuntimeError, match="after its shutdown"):
        ex.submit(int)
    with pytest.raises(SupervisorClosed):
        ex.map(int, ["1"])


async def test_shutdown_without_waiting_leaves_the_calls_going(ex, gatekeeper):
    future = ex.submit(gatekeeper, "value")
    ex.shutdown(wait=False)
    gatekeeper.open.set()
    assert await aside(future.result) == "value"


async def test_leaving_the_block_waits(sup):
    def block():
        with sup.executor() as mine:
            return mine.submit(pow, 2, 5)

    assert (await aside(block)).done()


# ------------------------------------------------------------------------------------------------ with asyncio


async def test_ten_thousand_calls_through_run_in_executor(ex):
    loop = asyncio.get_running_loop()
    assert sum(await asyncio.gather(*(loop.run_in_executor(ex, int, 1) for _ in range(10_000)))) == 10_000


# ------------------------------------------------------------------------------------------------ with the supervisor


async def test_its_calls_are_workers_that_can_be_stopped_by_name(ex, sup):
    future = ex.submit(obedient, entered := threading.Event())
    assert await aside(entered.wait, LIMIT)
    (worker,) = sup.workers()
    assert worker.name.startswith("obedient-")
    assert (await worker.stop("enough")).ended == "stopped"
    with pytest.raises(WorkerStopped):
        await aside(future.result)


async def test_the_handle_of_a_call_hears_of_its_end(ex, sup, gatekeeper):
    future = ex.submit(gatekeeper, "value")
    await gatekeeper.wait_entered()
    (worker,) = sup.workers()
    gatekeeper.open.set()
    outcome = await asyncio.wait_for(worker.wait(), LIMIT)
    assert (outcome.ended, outcome.value) == ("returned", "value")
    assert await aside(future.result) == "value"
    assert sup.workers() == ()


async def test_a_shutdown_ends_its_calls_and_reports_them(leftovers):
    async with Supervisor(max_threads=2, policy=PATIENT) as sup:
        ex, deaf = sup.executor(), sup.pool("deaf", kind="thread", policy=EscalationPolicy(Ask(0))).executor()
        entered = [threading.Event() for _ in range(3)]

        def finishing():
            ctx = current_context()
            entered[0].set()
            ctx.stop.wait(LIMIT)
            return "finished"

        def stuck():
            entered[2].set()
            leftovers.block()

        futures = [ex.submit(finishing), ex.submit(obedient, entered[1]), deaf.submit(stuck), ex.submit(int)]
        for event in entered:
            assert await aside(event.wait, LIMIT)
    assert futures[0].result() == "finished"
    ended = []
    for future in futures[1:]:
        with pytest.raises(WorkerStopped) as caught:
            future.result()
        ended.append(caught.value.outcome.ended)
    assert ended == ["stopped", "abandoned", "cancelled"]
    assert sup.report.counts() == {"stopped": 2, "abandoned": 1, "cancelled": 1}


async def test_it_may_be_made_before_any_loop_runs_and_binds_at_its_first_call():
    sup = Supervisor()
    ex = await aside(sup.executor)
    with pytest.raises(RuntimeError, match="needs a running asyncio event loop"):
        await aside(ex.submit, int)
    assert await aside(ex.submit(int).result) == 0
    await sup.shutdown()


@pytest.mark.parametrize("kind", ["thread", "process"])
async def test_made_in_a_loop_it_is_bound_to_that_and_its_first_call_may_come_from_any_thread(kind):
    sup = Supervisor(max_threads=1, max_processes=1)
    ex = sup.executor(kind)
    assert await aside(ex.submit(abs, -1).result) == 1
    here = asyncio.get_running_loop()

    async def elsewhere():
        loop = asyncio.get_running_loop()
        assert loop is not here
        assert await loop.run_in_executor(sup.executor(kind), abs, -2) == 2
        with pytest.raises(RuntimeError, match="bound to another event loop"):
            await sup.run(abs, -3)

    await aside(asyncio.run, elsewhere())
    await sup.shutdown()


async def test_libraries_that_read_how_many_workers_it_has_find_the_number():
    async with Supervisor(max_threads=3, max_processes=2) as sup:
        sup.install_as_default_executor()
        executors = [
            sup.executor(),
            sup.executor("process"),
            sup.group("group").executor(),
            inside.default_executor(sup),
        ]
        assert [getattr(ex, "_max_workers") for ex in executors] == [3, 2, 3, 3]  # noqa: B009  # dask's, and others'


async def test_by_its_type_one_can_tell_whether_calls_share_the_memory_of_the_process():
    async with Supervisor() as sup:
        for threads in (sup.executor(), sup.pool("t", kind="thread").executor(), sup.group("g").executor()):
            assert isinstance(threads, concurrent.futures.ThreadPoolExecutor)  # Temporal and asyncio ask so
            assert "ThreadPoolExecutor" in str(type(threads))  # and Dask so
        for processes in (sup.executor("process"), sup.pool("p", kind="process").executor()):
            assert not isinstance(processes, concurrent.futures.ThreadPoolExecutor)
            assert "ThreadPoolExecutor" not in str(type(processes))


def test_one_that_is_made_the_loops_default_ends_with_its_supervisor():
    async def main():
        async with Supervisor("mine") as sup:
            asyncio.get_running_loop().set_default_executor(sup.executor())
            assert (await asyncio.to_thread(lambda: threading.current_thread().name)).startswith("mine/")
        with pytest.raises(SupervisorClosed):
            await asyncio.to_thread(abs, -1)

    asyncio.run(main())


async def test_a_call_that_runs_in_a_context_goes_by_the_function_that_it_calls():
    async with Supervisor() as sup:
        future = sup.executor().submit(contextvars.copy_context().run, lambda: current_context().name)
        assert (await asyncio.wrap_future(future)).startswith("test_a_call_that_runs_in_a_context")


async def test_who_repeats_calls_of_a_broken_pool_repeats_those_of_a_process_that_died():
    async with Supervisor(max_processes=1) as sup:
        future = sup.executor("process").submit(os._exit, 3)
        with pytest.raises(concurrent.futures.BrokenExecutor) as caught:
            await asyncio.wrap_future(future)
        assert isinstance(caught.value, WorkerDied)
        assert await asyncio.wrap_future(sup.executor("process").submit(abs, -1)) == 1


@pytest.mark.parametrize("own", [True, False], ids=["awaited", "from a thread"])
async def test_a_cancellation_is_heard_within_two_turns_of_the_loop(own):
    async with Supervisor(policy=EscalationPolicy(Ask(5))) as sup:
        entered, stops = threading.Event(), []

        def work():
            stops.append(current_context().stop)
            entered.set()
            stops[0].wait(LIMIT)

        future = sup.executor().submit(work)
        await aside(entered.wait)
        waiting = asyncio.ensure_future(asyncio.wrap_future(future))
        await asyncio.sleep(0)
        if own:
            waiting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await waiting
        else:
            thread = threading.Thread(target=future.cancel)
            thread.start()
            thread.join()
        for _ in range(2):
            await asyncio.sleep(0)
        assert stops[0].is_set()


def fails_as_something_was_cancelled():
    future = concurrent.futures.Future()
    future.cancel()
    future.result()


@pytest.mark.parametrize("way", ["to_thread", "thread", "process"])
async def test_a_cancellation_of_what_a_function_waits_for_is_not_one_of_its_caller(way):
    async with Supervisor(max_processes=1) as sup:
        sup.install_as_default_executor()

        async def call():
            if way == "to_thread":
                await asyncio.to_thread(fails_as_something_was_cancelled)
            else:
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(sup.executor(way), fails_as_something_was_cancelled)

        with pytest.raises(ExceptionGroup) as caught:  # where a TaskGroup would say nothing of a cancelled child
            async with asyncio.TaskGroup() as group:
                group.create_task(call())
        assert isinstance(caught.value.exceptions[0], concurrent.futures.CancelledError)


async def test_cancelling_a_call_of_a_closed_loop_is_no_error():
    sup, entered, leave = Supervisor(), threading.Event(), threading.Event()

    def elsewhere():
        async def main():
            return sup.executor().submit(lambda: entered.set() or leave.wait(LIMIT))

        future = asyncio.run(main())
        assert entered.wait(LIMIT)
        assert not future.cancel()
        leave.set()
        assert future.result(LIMIT)
        inside.retire_threads(sup)

    await aside(elsewhere)
    inside.forget(sup)


async def test_what_a_call_was_given_is_let_go_when_it_has_ended(ex):
    class Big:
        pass

    big = Big()
    alive = weakref.ref(big)
    future = ex.submit(lambda _: None, big)
    del big
    await aside(future.result)
    await aside(ex.submit(int).result)
    await asyncio.sleep(0)
    gc.collect()
    assert alive() is None


async def test_its_calls_are_logged_like_all_others(events):
    async with Supervisor() as sup:
        await aside(sup.executor().submit(int).result)
    seen = [event["event"] for event in events if event.get("worker") == "int-1"]
    assert seen == ["worker.queued", "worker.running", "worker.ended"]
    assert all(event["level"] == "debug" for event in events if event.get("worker"))


def test_the_interpreters_exit_waits_for_no_call():
    code = (
        "import asyncio, time\n"
        "from supervisor import Supervisor\n"
        "async def main():\n"
        "    entered = asyncio.Event()\n"
        "    loop = asyncio.get_running_loop()\n"
        "    def stuck():\n"
        "        loop.call_soon_threadsafe(entered.set)\n"
        "        time.sleep(3600)\n"
        "    Supervisor().executor().submit(stuck)\n"
        "    await entered.wait()\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], timeout=120, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_module_has_no_logger_of_its_own():
    assert "supervisor" not in logging.root.manager.loggerDict


async def test_a_done_callback_that_exits_keeps_no_other_from_being_called(ex, gatekeeper, quiet):
    future = ex.submit(gatekeeper)
    called = []
    for callback in (called.append, lambda _: sys.exit(3), lambda _: sys.exit(4), called.append):
        future.add_done_callback(callback)
    gatekeeper.open.set()
    while len(called) < 2:
        await asyncio.sleep(0)
    assert called == [future, future]


async def test_calls_end_where_no_thread_can_be_started_whoever_watches_them(ex, monkeypatch, quiet):
    def start(self):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        futures = [ex.submit(int) for _ in range(5)]
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*map(asyncio.wrap_future, futures), return_exceptions=True), LIMIT)
    assert [str(future.exception(0)) for future in futures] == ["can't start new thread"] * 5


# ------------------------------------------------------------------------------------------------ results for asyncio


async def test_results_for_the_loop_come_in_one_wake_up_and_not_by_a_call_of_the_loop_for_each(ex, monkeypatch):
    loop = asyncio.get_running_loop()
    called = []
    call = loop.call_soon_threadsafe
    monkeypatch.setattr(loop, "call_soon_threadsafe", lambda *what, **more: called.append(what) or call(*what, **more))
    results = asyncio.gather(*(loop.run_in_executor(ex, pow, number, 2) for number in range(50)))
    assert await asyncio.wait_for(results, LIMIT) == [number * number for number in range(50)]
    assert not [what for what in called if "_set_state" in repr(what)]


async def test_what_asyncio_registers_is_called_where_it_does_not_look_as_it_is_known(ex, monkeypatch):
    inside.know_no_callback_of_asyncio(monkeypatch)
    loop = asyncio.get_running_loop()
    assert await asyncio.wait_for(loop.run_in_executor(ex, pow, 3, 2), LIMIT) == 9
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(loop.run_in_executor(ex, divmod, 3, 0), LIMIT)


async def test_a_future_may_be_wrapped_several_times_before_and_after_its_end(ex, gatekeeper):
    future = ex.submit(gatekeeper)
    wrapped = [asyncio.wrap_future(future) for _ in range(3)]
    gatekeeper.open.set()
    before = await asyncio.wait_for(asyncio.gather(*wrapped), LIMIT)
    assert [*before, await asyncio.wrap_future(future)] == [await aside(future.result)] * 4


async def test_a_future_may_be_wrapped_in_another_loop(ex, gatekeeper):
    future = ex.submit(gatekeeper)

    async def elsewhere():
        return await asyncio.wait_for(asyncio.wrap_future(future), LIMIT)

    waiting = asyncio.create_task(asyncio.to_thread(asyncio.run, elsewhere()))
    await gatekeeper.wait_entered()
    gatekeeper.open.set()
    assert await waiting == await asyncio.wrap_future(future)


async def test_errors_reach_the_loop_as_they_were_raised(ex):
    loop = asyncio.get_running_loop()
    with pytest.raises(ZeroDivisionError):
        await loop.run_in_executor(ex, divmod, 3, 0)
    error = asyncio.InvalidStateError("once")

    def fail():
        raise error

    with pytest.raises(asyncio.InvalidStateError) as caught:
        await loop.run_in_executor(ex, fail)
    assert caught.value is error


async def test_a_result_that_comes_as_the_supervisor_ends_reaches_who_awaits_it(monkeypatch):
    with inside.deaf_inbox(monkeypatch):  # also while the supervisor is left
        async with Supervisor() as sup:
            early, late = inside.ended_future(sup), inside.ended_future(sup)
            awaited = asyncio.wrap_future(early[0]), asyncio.wrap_future(late[0])
            await aside(early[1])
            await sup.shutdown()
    await aside(late[1])
    assert await asyncio.wait_for(asyncio.gather(*awaited), LIMIT) == [1, 1]
