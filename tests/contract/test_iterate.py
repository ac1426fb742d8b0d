"""`iterate`: what a function yields in a thread or process, as an async iterator."""

import asyncio
import functools
import gc
import os
import threading

import anyio
import pytest

from supervisor import (
    Ask,
    EscalationPolicy,
    Inject,
    Iteration,
    Kill,
    RemoteError,
    Supervisor,
    SupervisorBusy,
    SupervisorClosed,
    WorkerDied,
    WorkerExit,
    WorkerStopped,
    WorkerTimeout,
)

from ..waiting import turns, until
from . import functions as f
from . import generator_functions as g

INJECTING = EscalationPolicy(Ask(1), Inject(f.LIMIT, every=f.LIMIT), Kill(10))


async def take(items, number):
    """Takes so many items, and leaves the iteration open."""
    return [await anext(items) for _ in range(number)]


async def gone(sup):
    """Waits until there is no worker any more."""
    await until(lambda: not sup.workers())


# ------------------------------------------------------------------------------------------------ what comes


async def test_all_items_come_in_order(kind):
    async with Supervisor() as sup:
        assert [item async for item in sup.iterate(g.count, 10_000, kind=kind)] == list(range(10_000))
        assert not sup.workers()


@pytest.mark.parametrize("buffer", [1, 2, 3, 7])
async def test_all_items_come_in_order_however_small_the_buffer(kind, buffer):
    async with Supervisor() as sup:
        assert [item async for item in sup.iterate(g.count, 50, kind=kind, buffer=buffer)] == list(range(50))


async def test_no_items_are_an_end_at_once(kind):
    async with Supervisor() as sup:
        assert [item async for item in sup.iterate(g.count, 0, kind=kind)] == []


async def test_a_function_may_return_any_iterable(kind):
    async with Supervisor() as sup:
        assert [item async for item in sup.iterate(g.as_list, 5, kind=kind)] == [0, 1, 2, 3, 4]
        assert [item async for item in sup.iterate(range, 3, kind=kind)] == [0, 1, 2]


async def test_a_function_that_returns_no_iterable_is_refused_by_name(kind):
    async with Supervisor() as sup:
        with pytest.raises(TypeError, match=r"iterate\(fn=nothing\): returned NoneType"):
            await anext(sup.iterate(g.nothing, kind=kind))


async def test_it_runs_in_one_thread_of_its_own(kind):
    async with Supervisor() as sup:
        first, second = [item async for item in sup.iterate(g.where, kind=kind)]
    assert first == second
    assert (first.split()[0] == str(os.getpid())) == (kind == "thread")
    assert first.split()[1] != str(threading.get_ident()) or kind == "process"


async def test_large_items_come_as_they_are(kind):
    async with Supervisor() as sup:
        sizes = [(len(item), item[0], item[-1]) async for item in sup.iterate(g.large, 5, 1_000_000, kind=kind)]
    assert sizes == [(1_000_000, each, each) for each in range(5)]


async def test_an_item_comes_while_the_next_one_is_being_made(kind, board):
    async with Supervisor() as sup, sup.iterate(g.slow, board, f.LIMIT, kind=kind) as items:
        assert await asyncio.wait_for(anext(items), f.LIMIT / 2) == "first"


async def test_what_was_made_before_a_pause_does_not_wait_for_its_end(kind, board):
    async with Supervisor() as sup, sup.iterate(g.burst_then_slow, board, 100, kind=kind, buffer=1000) as items:
        assert await asyncio.wait_for(take(items, 100), f.LIMIT / 2) == list(range(100))


async def test_nothing_begins_before_the_first_item_is_asked_for(kind, board):
    async with Supervisor() as sup:
        items = sup.iterate(g.endless, board, kind=kind)
        await turns()
        assert not sup.workers()
        assert await anext(items) == 0
        assert len(sup.workers()) == 1
        await items.aclose()


async def test_entering_the_block_begins(kind, board):
    async with Supervisor() as sup, sup.iterate(g.endless, board, kind=kind) as items:
        await board.posted("made")
        assert await anext(items) == 0


@pytest.mark.parametrize("buffer", [1, 4, 10])
async def test_the_function_is_at_most_so_many_items_ahead(kind, board, buffer):
    async with Supervisor() as sup, sup.iterate(g.endless, board, kind=kind, buffer=buffer) as items:
        for taken in range(1, 25):
            assert await anext(items) == taken - 1
            await turns()
            assert int(board.read("made")) <= taken + buffer
        await until(lambda: int(board.read("made")) > 20 + buffer // 2)


# ------------------------------------------------------------------------------------------------ errors


async def test_an_error_comes_at_its_place_and_then_nothing_more(kind):
    async with Supervisor() as sup:
        items = sup.iterate(g.fails_after, 1000, kind=kind)
        assert await take(items, 1000) == list(range(1000))
        with pytest.raises(f.Refusal) as caught:
            await anext(items)
        assert caught.value.code == 1000
        with pytest.raises(StopAsyncIteration):
            await anext(items)


async def test_an_error_that_would_end_an_iteration_does_not_pass_for_its_end(kind):
    async with Supervisor() as sup:
        items = sup.iterate(g.ends_iterations_after, 3, kind=kind)
        assert await take(items, 3) == [0, 1, 2]
        with pytest.raises(RuntimeError, match=r"^ends_iterations_after\(\) raised StopAsyncIteration$") as caught:
            await anext(items)
        assert isinstance(caught.value.__cause__, StopAsyncIteration)


async def test_an_exit_comes_at_its_place(kind):
    async with Supervisor() as sup:
        assert [item async for item in sup.iterate(g.exits_after, 3, 0, kind=kind)] == [0, 1, 2]
        items = sup.iterate(g.exits_after, 3, 4, kind=kind)
        assert await take(items, 3) == [0, 1, 2]
        with pytest.raises(WorkerExit):
            await anext(items)


async def test_the_traceback_of_an_error_begins_in_the_users_function():
    async with Supervisor() as sup:
        with pytest.raises(f.Refusal) as caught:
            await anext(sup.iterate(g.fails_after, 0))
    names = [entry.name for entry in caught.traceback]
    assert names[-1] == "fails_after"
    assert "_pass_on" not in names


async def test_an_item_that_cannot_be_pickled_is_named_at_its_place():
    async with Supervisor() as sup:
        items = sup.iterate(g.makes_unpicklable, kind="process")
        assert await take(items, 2) == [0, 1]
        with pytest.raises(RemoteError, match=r"item 2 of makes_unpicklable\(\), which is of type .*on purpose"):
            await anext(items)
        assert await sup.run(len, "abc", kind="process") == 3


async def test_an_item_that_cannot_be_unpickled_is_named_and_ends_it():
    async with Supervisor() as sup:
        items = sup.iterate(g.makes_unloadable, kind="process")
        assert await anext(items) == 0
        with pytest.raises(RemoteError, match=r"item 1 of makes_unloadable\(\) cannot be unpickled: .*not here"):
            await anext(items)
        with pytest.raises(StopAsyncIteration):
            await anext(items)
        await gone(sup)


async def test_an_argument_that_cannot_be_sent_is_named():
    async with Supervisor() as sup:
        with pytest.raises(TypeError, match=r"fn=count: cannot be sent to a process: argument 1, which"):
            await anext(sup.iterate(g.count, g.Unpicklable(), kind="process"))
        with pytest.raises(TypeError, match=r"fn=count: cannot be sent to a process: argument 1 of the partial"):
            await anext(sup.iterate(functools.partial(g.count, g.Unpicklable()), kind="process"))


async def test_the_death_of_its_process_comes_behind_the_items():
    async with Supervisor() as sup:
        items = sup.iterate(g.dies, kind="process")
        assert await anext(items) == 1
        with pytest.raises(WorkerDied):
            await anext(items)


async def test_what_is_wrong_is_refused_where_it_is_given(kind):
    async def coroutine():
        """Is awaited."""

    async def generator():
        yield 1

    async with Supervisor() as sup:
        for wrong in (coroutine, generator, 5, g.count(3)):
            with pytest.raises(TypeError, match=r"iterate\(fn="):
                sup.iterate(wrong, kind=kind)
        for buffer, error in (
            (0, ValueError),
            (-1, ValueError),
            (1.5, TypeError),
            (None, TypeError),
            (True, TypeError),
        ):
            with pytest.raises(error, match="buffer"):
                sup.iterate(g.count, 3, kind=kind, buffer=buffer)
        with pytest.raises(ValueError, match="kind"):
            sup.iterate(g.count, 3, kind="fibre")
        with pytest.raises(ValueError, match="name"):
            sup.iterate(g.count, 3, kind=kind, name="a/b")
        with pytest.raises(TypeError, match="has no option start; keyword arguments of the function go through"):
            sup.iterate(g.count, 3, kind=kind, start=1)
        with pytest.raises(TypeError, match=r"iterate\(fn=count\): was called as count\(\), but misses stop"):
            await anext(sup.iterate(g.count, kind=kind))


async def test_a_supervisor_that_shuts_down_takes_none(kind):
    async with Supervisor() as sup:
        await sup.run(len, "")
    with pytest.raises(SupervisorClosed):
        await anext(sup.iterate(g.count, 3, kind=kind))


async def test_it_counts_as_a_call_of_the_pool(kind):
    async with Supervisor(max_threads=1, max_processes=1, max_queued=0) as sup, sup.iterate(g.endless, kind=kind):
        with pytest.raises(SupervisorBusy):
            await anext(sup.iterate(g.count, 3, kind=kind))


# ------------------------------------------------------------------------------------------------ supervision


async def test_it_is_a_worker_with_a_name_and_a_stack(kind, board):
    async with Supervisor() as sup, sup.iterate(g.slow, board, f.LIMIT, kind=kind, name="rows") as items:
        assert await anext(items) == "first"
        await board.posted("between")
        (worker,) = sup.workers()
        assert (worker.name, worker.kind, worker.state) == ("rows", kind, "running")
        stacks = []
        await until(lambda: stacks.append(worker.stack()) or "in slow" in stacks[-1])  # a busy process may not answer
        assert "_pass_on" not in stacks[-1]


async def test_it_has_the_functions_name_where_it_is_given_none(kind):
    async with Supervisor() as sup:
        assert await anext(sup.iterate(g.name_and_items, 3, kind=kind)) == "name_and_items-1"


async def test_its_end_is_published(kind, events):
    async with Supervisor() as sup:
        items = sup.iterate(g.count, 3, kind=kind, name="rows")
        assert [item async for item in items] == [0, 1, 2]
    (ended,) = [event for event in events if event["event"] == "worker.ended"]
    assert (ended["worker"], ended["ended"]) == ("rows", "returned")


async def test_its_stop_is_one_by_ask(kind, events, board):
    async with Supervisor() as sup:
        async with sup.iterate(g.endless, board, kind=kind, name="rows") as items:
            await anext(items)
    (ended,) = [event for event in events if event["event"] == "worker.ended"]
    assert (ended["worker"], ended["ended"]) == ("rows", "stopped")


async def test_of_a_group_it_has_the_groups_name_and_ends_with_it(kind):
    async with Supervisor() as sup:
        group = sup.group("feeds")
        items = group.iterate(g.endless, kind=kind, name="rows")
        await anext(items)
        assert [worker.name for worker in group.workers()] == ["feeds/rows"]
        report = await group.shutdown()
        assert report.counts() == {"stopped": 1}
        with pytest.raises(WorkerStopped):
            while True:
                await anext(items)


async def test_a_pool_has_its_own_threads_or_processes_for_it(kind):
    async with Supervisor(max_threads=1, max_processes=1) as sup:
        pool = sup.pool("lane", kind=kind, size=1)
        async with pool.iterate(g.endless) as items:
            await anext(items)
            assert await sup.run(len, "abc", kind=kind) == 3
            assert not sup.statistics().queued
        assert [item async for item in sup.iterate(g.count, 3, pool="lane")] == [0, 1, 2]
        with pytest.raises(ValueError, match="pool='lame'"):
            sup.iterate(g.count, 3, pool="lame")


# ------------------------------------------------------------------------------------------------ leaving it


async def test_a_break_begins_the_stop_and_leaves_nobody_behind(kind, board):
    async with Supervisor() as sup:
        async for item in sup.iterate(g.endless, board, kind=kind):
            if item == 10:
                break
        await board.posted("closed")
        await gone(sup)


async def test_leaving_the_block_waits_for_the_end(kind, board):
    async with Supervisor() as sup:
        async with sup.iterate(g.identified, board, kind=kind) as items:
            where = await anext(items)
            await take(items, 10)
        assert not sup.workers()
        assert board.read("closed") == where, "it was closed elsewhere than it ran"


async def test_closing_waits_for_the_end_and_can_be_done_again(kind, board):
    async with Supervisor() as sup:
        items = sup.iterate(g.endless, board, kind=kind)
        await take(items, 10)
        await items.aclose()
        assert board.has("closed")
        assert not sup.workers()
        await items.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(items)


async def test_one_that_has_not_begun_is_closed_without_beginning(kind):
    async with Supervisor() as sup:
        items = sup.iterate(g.endless, kind=kind)
        await items.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(items)
        async with items:
            pass
        assert not sup.workers()


async def test_one_that_is_dropped_in_a_circle_is_stopped_by_the_collector(kind, board):
    async with Supervisor() as sup:
        circle = [sup.iterate(g.endless, board, kind=kind)]
        circle.append(circle)
        await anext(circle[0])
        del circle
        gc.collect()
        await board.posted("closed")
        await gone(sup)


async def test_one_that_is_dropped_with_an_error_that_nobody_took_says_nothing(kind, caplog):
    async with Supervisor() as sup:
        items = sup.iterate(g.fails_after, 3, kind=kind)
        assert await anext(items) == 0
        await gone(sup)
        del items
        gc.collect()
        await turns()
    assert not caplog.records


async def test_cancelling_whoever_waits_stops_it_and_comes_out(kind, board):
    async with Supervisor() as sup:
        items = sup.iterate(g.slow, board, f.LIMIT, kind=kind)
        assert await anext(items) == "first"
        waiting = asyncio.create_task(anext(items))
        await turns()
        await board.posted("between")
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert not sup.workers()
        with pytest.raises(StopAsyncIteration):
            await anext(items)


async def test_a_timeout_around_the_loop_ends_it(kind, board):
    async with Supervisor() as sup:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                async for _ in sup.iterate(g.endless, board, kind=kind):
                    pass
        await gone(sup)


async def test_closing_ends_a_task_that_waits(kind, board):
    async with Supervisor() as sup:
        items = sup.iterate(g.slow, board, f.LIMIT, kind=kind)
        assert await anext(items) == "first"
        waiting = asyncio.create_task(anext(items))
        await turns()
        await board.posted("between")
        with pytest.raises(RuntimeError, match="another task waits"):
            await anext(items)
        await items.aclose()
        with pytest.raises(StopAsyncIteration):
            await waiting


async def test_a_cancelled_close_climbs_the_ladder_to_its_end(kind, board, ladder_time):
    async with Supervisor() as sup:
        items = sup.iterate(g.swallows, board, kind=kind, policy=INJECTING)
        await anext(items)
        closing = asyncio.create_task(items.aclose())
        await board.posted("asked")
        closing.cancel()
        await ladder_time.advance(1)
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert not sup.workers()


async def test_any_iterator_that_can_be_closed_is(kind, board):
    async with Supervisor() as sup, sup.iterate(g.Closing, board, kind=kind) as items:
        assert await take(items, 3) == [7, 7, 7]
    assert board.has("closed")


async def test_it_can_be_left_while_it_is_queued(kind):
    async with Supervisor(max_threads=1, max_processes=1) as sup, sup.iterate(g.endless, kind=kind) as first:
        await anext(first)
        async with sup.iterate(g.endless, kind=kind):
            await turns()
        assert len(sup.workers()) == 1


# ------------------------------------------------------------------------------------------------ being stopped


@pytest.mark.parametrize("full", [True, False], ids=["with a full buffer", "while it works"])
async def test_a_shutdown_ends_it_and_whoever_waits(kind, board, full):
    async with Supervisor() as sup:
        fn, args = (g.endless, (board,)) if full else (g.slow, (board, f.LIMIT))
        items = sup.iterate(fn, *args, kind=kind, buffer=3)
        await anext(items)
        waiting = None
        if full:
            await until(lambda: int(board.read("made")) >= 3)
        else:
            waiting = asyncio.create_task(anext(items))
            await turns()
            await board.posted("between")
        report = await asyncio.wait_for(sup.shutdown(), f.LIMIT / 2)
        assert report.clean, report
        assert report.seconds < 4  # of the 5 of Ask
        with pytest.raises(WorkerStopped):
            if waiting is not None and await waiting == "second":
                waiting = None
            while True:
                await anext(items)


async def test_a_timeout_comes_out_behind_what_was_made(kind, ladder_time):
    async with Supervisor() as sup:
        items = sup.iterate(g.endless, kind=kind, timeout=2, buffer=10)
        await anext(items)
        await ladder_time.advance(2)
        await gone(sup)
        with pytest.raises(WorkerTimeout):
            while True:
                await anext(items)


async def test_a_stop_of_the_worker_comes_out(kind):
    async with Supervisor() as sup:
        items = sup.iterate(g.endless, kind=kind)
        await anext(items)
        (worker,) = sup.workers()
        outcome = await worker.stop("enough")
        assert outcome.ended == "stopped"
        with pytest.raises(WorkerStopped):
            while True:
                await anext(items)


async def test_one_that_is_deaf_is_injected(kind, board, ladder_time):
    async with Supervisor() as sup:
        items = sup.iterate(g.spins, board, kind=kind, policy=INJECTING)
        await anext(items)
        await board.posted("spinning")
        (worker,) = sup.workers()
        closing = asyncio.create_task(items.aclose())
        await until(lambda: worker.step == "ask")
        await ladder_time.advance(1)
        await closing
        assert worker.outcome.ended == "injected"
        assert board.has("unwound")


async def test_its_place_in_the_pool_is_free_again(kind):
    async with Supervisor(max_threads=1, max_processes=1) as sup:
        for _ in range(20):
            async with sup.iterate(g.endless, kind=kind, buffer=2) as items:
                await take(items, 5)
            assert await sup.run(len, "abc", kind=kind) == 3


async def test_in_a_drain_its_items_still_come(kind):
    async with Supervisor(drain=f.LIMIT, shutdown_timeout=2 * f.LIMIT) as sup:
        items = sup.iterate(g.count, 1000, kind=kind, buffer=3)
        assert await anext(items) == 0
        shutting = asyncio.create_task(sup.shutdown())
        await turns()
        assert [item async for item in items] == list(range(1, 1000))
        report = await shutting
    assert report.counts() == {"returned": 1}


@pytest.mark.parametrize("level", [1, 2])
async def test_a_cancel_scope_of_anyio_ends_it(kind, board, level):
    async with Supervisor() as sup:
        with anyio.move_on_after(0.2) as scope:
            async with anyio.create_task_group() as group:
                for _ in range(level):
                    group.start_soon(take, sup.iterate(g.endless, kind=kind), 10**9)
        assert scope.cancelled_caught
        assert not sup.workers()


# ------------------------------------------------------------------------------------------------ the loop


async def test_the_loops_other_users_have_their_turns(kind):
    async def ticks():
        nonlocal ticked
        while True:
            await asyncio.sleep(0)
            ticked += 1

    ticked = 0
    async with Supervisor() as sup:
        ticking = asyncio.create_task(ticks())
        async with sup.iterate(g.endless, kind=kind, buffer=100_000) as items:
            async for item in items:
                if (item == 300_000 and kind == "thread") or (item == 30_000 and kind == "process"):
                    break
        ticking.cancel()
    assert ticked > 10


async def test_another_loop_is_refused(kind):
    async with Supervisor() as sup:
        items = sup.iterate(g.count, 3, kind=kind)
        await anext(items)

        async def elsewhere():
            await anext(items)

        def in_thread():
            with pytest.raises(RuntimeError, match="another event loop"):
                asyncio.run(elsewhere())
            with pytest.raises(RuntimeError, match="another event loop"):
                asyncio.run(items.aclose())

        await asyncio.to_thread(in_thread)
        assert isinstance(items, Iteration)
        assert await take(items, 2) == [1, 2]


async def test_many_at_once(kind):
    async def total(sup, number):
        return sum([item async for item in sup.iterate(g.count, number, kind=kind, buffer=5)])

    async with Supervisor(max_threads=4, max_processes=2) as sup:
        totals = await asyncio.gather(*(total(sup, number) for number in range(100, 120)))
    assert totals == [sum(range(number)) for number in range(100, 120)]
