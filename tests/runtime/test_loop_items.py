"""`ctx.iterate`: a worker's iterator over what an async one yields in the loop."""

import asyncio
import contextlib
import gc
import threading

import pytest

from supervisor import Ask, EscalationPolicy, StopRequested, Supervisor, WorkerStopped, WorkerTimeout, current_context

from ..waiting import turns, until

LIMIT = 20
PATIENT = EscalationPolicy(Ask(60))


class Numbers:
    """Counts in the loop; says where, how far it has come, and when it was closed."""

    def __init__(self):
        self.made = 0
        self.closed = None
        self.task = None

    async def count(self, stop, pause=None):
        self.task = asyncio.current_task()
        try:
            for number in range(stop):
                self.made += 1
                yield number
                if pause is not None:
                    await asyncio.sleep(pause)
        finally:
            assert asyncio.current_task() is self.task, "it was closed in another task than it ran in"
            self.closed = threading.get_ident()

    async def then_wait(self, number):
        try:
            for each in range(number):
                yield each
            await asyncio.Event().wait()
        finally:
            self.closed = threading.get_ident()


@pytest.fixture(autouse=True)
async def _no_task_is_left():
    yield
    others = asyncio.all_tasks() - {asyncio.current_task()}
    assert not [task for task in others if "iterate(" in task.get_name()]


@pytest.fixture
def numbers():
    return Numbers()


def collect(items, **options):
    return list(current_context().iterate(items, **options))


def take(items, number, board, **options):
    """Takes so many, and says so; then goes on taking."""
    for item in current_context().iterate(items, **options):
        board.append(item)
        if len(board) == number:
            current_context().stop.wait(LIMIT)


async def test_all_items_come_in_order(numbers):
    async with Supervisor() as sup:
        assert await sup.run(collect, numbers.count(10_000)) == list(range(10_000))
    assert numbers.closed == threading.get_ident()


@pytest.mark.parametrize("buffer", [1, 2, 7])
async def test_all_items_come_in_order_however_small_the_buffer(numbers, buffer):
    def collected():
        return collect(numbers.count(50), buffer=buffer)

    async with Supervisor() as sup:
        assert await sup.run(collected) == list(range(50))


async def test_items_that_come_one_by_one(numbers):
    async with Supervisor() as sup:
        assert await sup.run(collect, numbers.count(20, 0.001)) == list(range(20))


async def test_it_is_at_most_so_many_items_ahead(numbers):
    taken = []
    async with Supervisor() as sup:

        def slowly():
            with current_context().iterate(numbers.count(1000), buffer=4) as items:
                for item in items:
                    taken.append(item)
                    assert numbers.made <= len(taken) + 4
                    if len(taken) == 30:
                        return

        await sup.run(slowly)
    assert numbers.closed


async def test_an_error_comes_at_its_place():
    async def failing():
        yield 1
        yield 2
        raise ValueError("on purpose")

    def until_it_fails():
        items = current_context().iterate(failing())
        seen = [next(items), next(items)]
        with pytest.raises(ValueError, match="on purpose"):
            next(items)
        with pytest.raises(StopIteration):
            next(items)
        return seen

    async with Supervisor() as sup:
        assert await sup.run(until_it_fails) == [1, 2]


async def test_leaving_the_block_closes_it_first(numbers):
    def leave():
        with current_context().iterate(numbers.then_wait(5)) as items:
            assert next(items) == 0
        closed = numbers.closed
        items.close()
        with pytest.raises(StopIteration):
            next(items)
        return closed

    async with Supervisor() as sup:
        assert await sup.run(leave) == threading.get_ident()


async def test_items_that_swallow_the_cancellation_are_not_read_on():
    async def deaf():
        for number in range(100):
            try:
                if number:
                    await asyncio.Event().wait()
            except asyncio.CancelledError:
                pass
            yield number

    def leave():
        with current_context().iterate(deaf()) as items:
            return next(items)

    async with Supervisor() as sup:
        assert await sup.run(leave, timeout=LIMIT) == 0


async def test_an_error_of_the_closing_comes_out():
    async def stubborn():
        try:
            yield 1
            yield 2
            await asyncio.Event().wait()
        finally:
            raise ValueError("of the closing")

    def leave():
        items = current_context().iterate(stubborn())
        next(items)
        with pytest.raises(ValueError, match="of the closing"):
            items.close()

    async with Supervisor() as sup:
        await sup.run(leave)


async def test_a_break_closes_it(numbers):
    closed = threading.Event()

    def leave():
        for item in current_context().iterate(numbers.then_wait(5)):
            if item == 3:
                break
        gc.collect()
        closed.wait(LIMIT)

    async with Supervisor() as sup:
        running = asyncio.create_task(sup.run(leave))
        await until(lambda: numbers.closed)
        closed.set()
        await running


async def test_the_end_of_the_worker_closes_it(numbers):
    kept = []

    def keep():
        kept.append(current_context().iterate(numbers.then_wait(5)))
        return next(kept[0])

    async with Supervisor() as sup:
        assert await sup.run(keep) == 0
        await until(lambda: numbers.closed)


@pytest.mark.parametrize("waits", [True, False], ids=["while it waits", "between two items"])
async def test_a_stop_ends_it(numbers, waits):
    board = []
    async with Supervisor(policy=PATIENT) as sup:
        worker = await sup.start(lambda ctx: take(numbers.then_wait(5), 0 if waits else 3, board))
        await until(lambda: len(board) == (5 if waits else 3))
        outcome = await worker.stop()
        assert outcome.ended == "stopped"
        assert outcome.stop_seconds < LIMIT
        await until(lambda: numbers.closed)


async def test_a_shutdown_ends_it(numbers):
    board = []
    async with Supervisor(policy=PATIENT) as sup:
        running = asyncio.create_task(sup.run(take, numbers.then_wait(5), 0, board))
        await until(lambda: len(board) == 5)
        report = await sup.shutdown()
        assert report.clean
        with pytest.raises(WorkerStopped):
            await running


def test_a_timeout_ends_it(virtual, numbers):
    async def main(time):
        board = []
        async with Supervisor() as sup:
            running = asyncio.create_task(sup.run(take, numbers.then_wait(5), 0, board, timeout=5))
            await until(lambda: len(board) == 5)
            await time.advance(5)
            with pytest.raises(WorkerTimeout):
                await running
            await until(lambda: numbers.closed)

    virtual(main)


async def test_after_a_stop_there_is_none(numbers):
    async with Supervisor() as sup:

        def late(ctx):
            ctx.stop.wait(LIMIT)
            with pytest.raises(StopRequested):
                ctx.iterate(numbers.count(3))
            return "refused"

        worker = await sup.start(late)
        assert (await worker.stop()).value == "refused"


async def test_what_is_wrong_is_refused(numbers):
    def wrong():
        ctx = current_context()
        with pytest.raises(TypeError, match="async iterable"):
            ctx.iterate([1])
        with pytest.raises(ValueError, match="buffer"):
            ctx.iterate(numbers.count(1), buffer=0)

    async with Supervisor() as sup:
        await sup.run(wrong)


def in_a_process():
    class Endless:
        def __aiter__(self):
            return self

    with pytest.raises(RuntimeError, match="needs a worker in a thread"):
        current_context().iterate(Endless())
    return "refused"


async def test_a_process_is_told_what_to_do():
    async with Supervisor() as sup:
        assert await sup.run(in_a_process, kind="process") == "refused"


async def test_the_loops_own_thread_is_refused(numbers):
    contexts = []
    async with Supervisor() as sup:

        def keep(ctx):
            contexts.append(ctx)
            ctx.stop.wait(LIMIT)

        await sup.start(keep)
        await until(lambda: contexts)
        items = numbers.count(3)
        with pytest.raises(RuntimeError, match="wait for itself"):
            contexts[0].iterate(items)
        await items.aclose()


async def test_a_context_manager_of_one_task_may_be_open_across_items():
    """As those of anyio are."""

    async def timed():
        async with asyncio.timeout(LIMIT):
            for number in range(1000):
                yield number
                await asyncio.sleep(0)

    async with Supervisor() as sup:
        assert await sup.run(collect, timed()) == list(range(1000))


async def test_an_iteration_goes_on_to_another_worker():
    async with Supervisor() as sup:
        async with contextlib.aclosing(sup.iterate(range, 100)) as numbers:
            assert await sup.run(collect, numbers) == list(range(100))
        await turns()
