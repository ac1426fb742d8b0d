"""`map`: one call for each item, and their results as an async iterator."""

import asyncio
import functools
import gc
import weakref

import pytest

from supervisor import Supervisor, SupervisorBusy, SupervisorClosed, WorkerStopped, WorkerTimeout

from ..waiting import turns, until
from . import functions as f
from . import generator_functions as g


class Source:
    """An iterable that counts what was read of it."""

    def __init__(self, stop):
        self.stop = stop
        self.read = 0

    def __iter__(self):
        for number in range(self.stop):
            self.read += 1
            yield number

    async def arriving(self):
        for number in self:
            await asyncio.sleep(0)
            yield number


@pytest.fixture(params=["iterable", "async iterable"])
def items_of(request):
    """Makes of a Source what `map` is given."""
    return iter if request.param == "iterable" else Source.arriving


async def gone(sup):
    await until(lambda: not sup.workers())


# ------------------------------------------------------------------------------------------------ what comes


async def test_the_results_come_in_the_order_of_the_items(kind, items_of):
    async with Supervisor() as sup:
        results = sup.map(g.first_is_slow, items_of(Source(20)), kind=kind, limit=5)
        assert [result async for result in results] == list(range(20))


async def test_unordered_they_come_as_they_are_there(kind, board, items_of):
    async with Supervisor(max_threads=4, max_processes=2) as sup:
        fn = functools.partial(g.first_waits_for_another, board)
        results = [result async for result in sup.map(fn, items_of(Source(20)), kind=kind, ordered=False)]
    assert sorted(results) == list(range(20))


@pytest.mark.parametrize("ordered", [True, False])
async def test_no_items_are_an_end_at_once(kind, items_of, ordered):
    async with Supervisor() as sup:
        assert [result async for result in sup.map(g.double, items_of(Source(0)), kind=kind, ordered=ordered)] == []


@pytest.mark.parametrize("ordered", [True, False])
async def test_no_more_items_are_read_than_may_be_under_way(kind, items_of, ordered):
    source = Source(1000)
    async with Supervisor() as sup:
        async with sup.map(g.double, items_of(source), kind=kind, limit=3, ordered=ordered) as results:
            for taken in range(1, 20):
                await anext(results)
                await turns()
                assert source.read <= taken + 3
            await gone(sup)
            assert source.read >= 21


async def test_without_a_limit_it_is_what_the_pool_runs_at_once(kind, board, items_of):
    source = Source(1000)
    async with Supervisor(max_threads=2, max_processes=2) as sup:
        async with sup.map(functools.partial(g.stay, board), items_of(source), kind=kind):
            await board.posted("begun", lines=2)
            await turns()
            assert len(sup.workers()) == 2
            assert source.read == 2


async def test_a_long_list_is_submitted_without_holding_up_the_loop():
    async with Supervisor() as sup:
        total = 0
        async for result in sup.map(g.double, range(5000), limit=5000):
            total += result
    assert total == sum(range(5000)) * 2


async def test_a_pool_maps_on_its_own(kind):
    async with Supervisor() as sup:
        pool = sup.pool("lane", kind=kind, size=2)
        assert [result async for result in pool.map(g.double, range(5))] == [0, 2, 4, 6, 8]
        assert [result async for result in sup.map(g.double, range(5), pool=pool)] == [0, 2, 4, 6, 8]


# ------------------------------------------------------------------------------------------------ errors


async def test_an_error_comes_at_its_place(kind, items_of):
    async with Supervisor() as sup:
        results = sup.map(g.refuse_three, items_of(Source(10)), kind=kind)
        assert [await anext(results) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(f.Refusal):
            await anext(results)
        with pytest.raises(StopAsyncIteration):
            await anext(results)
        assert not sup.workers()


@pytest.mark.parametrize("ordered", [True, False])
async def test_an_error_stops_the_others(kind, board, items_of, ordered):
    async with Supervisor(max_threads=3, max_processes=3) as sup:
        fn = functools.partial(g.refuse_or_stay, board)
        with pytest.raises(f.Refusal):
            await anext(sup.map(fn, items_of(Source(3)), kind=kind, ordered=ordered))
        assert not sup.workers()
        assert sorted(board.lines("ended")) == ["1", "2"]


async def test_an_error_of_the_items_comes_behind_what_came_before(kind):
    def breaking():
        yield 1
        yield 2
        raise f.Refusal(5)

    async def breaking_later():
        for item in breaking():
            yield item

    async with Supervisor() as sup:
        for items in (breaking(), breaking_later()):
            results = sup.map(g.double, items, kind=kind)
            assert [await anext(results), await anext(results)] == [2, 4]
            with pytest.raises(f.Refusal):
                await anext(results)


@pytest.mark.parametrize("ordered", [True, False])
async def test_an_error_that_would_end_an_iteration_does_not_pass_for_its_end(kind, ordered):
    async with Supervisor() as sup:
        with pytest.raises(RuntimeError, match=r"^ends_an_iteration\(\) raised StopAsyncIteration$") as caught:
            await anext(sup.map(g.ends_an_iteration, [1], kind=kind, ordered=ordered))
        assert isinstance(caught.value.__cause__, StopAsyncIteration)


@pytest.mark.parametrize("limit", [1, 5])
async def test_of_its_items_it_does_not_either(limit):
    async with Supervisor() as sup:
        results = sup.map(g.double, g.ends_iterations_after(2), limit=limit)
        assert [await anext(results), await anext(results)] == [0, 2]
        with pytest.raises(RuntimeError, match=r"^map\(\): its items raised StopAsyncIteration$"):
            await anext(results)


async def test_an_item_that_cannot_be_sent_comes_at_its_place():
    async with Supervisor() as sup:
        results = sup.map(g.double, [1, g.Unpicklable()], kind="process")
        assert await anext(results) == 2
        with pytest.raises(TypeError, match="argument 1"):
            await anext(results)


async def test_what_is_wrong_is_refused_where_it_is_given(kind):
    async with Supervisor() as sup:
        with pytest.raises(TypeError, match=r"map\(fn=count\): is a generator function"):
            sup.map(g.count, [1], kind=kind)
        with pytest.raises(TypeError, match="items=5"):
            sup.map(g.double, 5, kind=kind)
        with pytest.raises(ValueError, match="limit=0"):
            sup.map(g.double, [1], kind=kind, limit=0)
        with pytest.raises(TypeError, match="ordered"):
            sup.map(g.double, [1], kind=kind, ordered=1)
        with pytest.raises(TypeError, match="has no option chunksize"):
            sup.map(g.double, [1], kind=kind, chunksize=3)
        with pytest.raises(TypeError, match=r"map\(fn=note\): was called as note\(item\), but misses number"):
            await anext(sup.map(g.note, [1], kind=kind))


async def test_more_than_may_wait_is_refused_at_its_place(kind, board):
    async with Supervisor(max_threads=1, max_processes=1, max_queued=0) as sup:
        results = sup.map(functools.partial(g.double_once_told, board), range(5), kind=kind, limit=3)
        first = asyncio.ensure_future(anext(results))
        await board.posted("begun")  # until it is told, nothing else can begin
        board.post("go")
        assert await first == 0
        with pytest.raises(SupervisorBusy):
            while True:
                await anext(results)


async def test_a_timeout_is_that_of_each_call(kind, board):
    async with Supervisor() as sup:
        results = sup.map(functools.partial(g.stay, board), [1, 2], kind=kind, timeout=0.3)
        with pytest.raises(WorkerTimeout):
            await anext(results)
        assert not sup.workers()


# ------------------------------------------------------------------------------------------------ leaving it


async def test_a_break_stops_what_is_under_way(kind, board, items_of):
    async with Supervisor(max_threads=3, max_processes=3) as sup:
        fn = functools.partial(g.stay, board)
        results = sup.map(fn, items_of(Source(100)), kind=kind)
        waiting = asyncio.create_task(anext(results))
        await board.posted("begun", lines=3)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert not sup.workers()
        assert len(board.lines("ended")) == 3
        with pytest.raises(StopAsyncIteration):
            await anext(results)


async def test_one_that_is_dropped_stops_what_is_under_way(kind, items_of):
    async with Supervisor() as sup:
        async for _ in sup.map(g.double, items_of(Source(10**9)), kind=kind, limit=4):
            break
        await gone(sup)
        gc.collect()
        await until(lambda: not [task for task in asyncio.all_tasks() if task.get_name().startswith("map(")])


async def test_leaving_the_block_waits_for_the_end(kind, board, items_of):
    async with Supervisor(max_threads=3, max_processes=3) as sup:
        async with sup.map(functools.partial(g.stay, board), items_of(Source(100)), kind=kind):
            await board.posted("begun", lines=3)
        assert not sup.workers()
        assert len(board.lines("ended")) == 3
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("map(")]


async def test_a_shutdown_ends_it_and_whoever_waits(kind, board, items_of):
    async with Supervisor(max_threads=2, max_processes=2) as sup:
        results = sup.map(functools.partial(g.stay, board), items_of(Source(100)), kind=kind, limit=5)
        waiting = asyncio.create_task(anext(results))
        await board.posted("begun", lines=2)
        await sup.shutdown()
        with pytest.raises((WorkerStopped, SupervisorClosed)):
            assert await waiting == 0  # what it still returns in its grace is delivered
            while True:
                await anext(results)


@pytest.mark.parametrize("limit", [1, 3])
async def test_items_that_swallow_a_cancellation_are_not_read_on(board, limit):
    async def deaf():
        for number in range(100):
            try:
                await asyncio.sleep(0 if number == 0 else 60)
            except asyncio.CancelledError:
                pass
            yield number

    async with Supervisor() as sup:
        async with asyncio.timeout(10), sup.map(functools.partial(g.note, board), deaf(), limit=limit) as results:
            assert await anext(results) == 0
            await turns(3)  # the second one is waited for
        assert board.lines("noted") == ["0"]


async def test_what_is_submitted_after_it_was_dropped_is_stopped_too(kind, board):
    dropped = []

    def items():
        yield from (0, 1)
        dropped.clear()  # as a collection of garbage does, at any line and in any thread
        yield from (2, 3, 4)

    async with Supervisor(max_threads=5, max_processes=5) as sup:
        dropped.append(sup.map(functools.partial(g.stay, board), items(), kind=kind, limit=5))
        await dropped[0].__aenter__()
        await until(lambda: not dropped)
        await gone(sup)


async def test_after_a_break_nobody_holds_the_items():
    class Items:
        read = 0

        def __aiter__(self):
            return self

        async def __anext__(self):
            if self.read == 2:
                await asyncio.Event().wait()
            self.read += 1
            return self.read

    async with Supervisor() as sup:
        items = Items()
        held = weakref.ref(items)
        gc.disable()  # it may not come for long
        try:
            async for result in sup.map(g.double, items, limit=3):
                if result == 4:
                    break
            del items
            await until(lambda: held() is None)
        finally:
            gc.enable()


def test_one_that_is_dropped_after_the_end_of_its_loop_says_nothing(caplog):
    kept = []

    async def main():
        async with Supervisor(max_threads=1) as sup:
            kept.append(sup.map(g.until_asked, [1, 2, 3], limit=3))
            await kept[0].__aenter__()
            await until(lambda: len(sup.workers()) == 3)

    asyncio.run(main())
    kept.clear()
    gc.collect()
    assert not caplog.records
