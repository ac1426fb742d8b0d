"""`await sup.run(fn)`: how a call ends, one promise at a time."""

import asyncio
import contextvars
import functools
import threading

import pytest

from supervisor import (
    Ask,
    EscalationPolicy,
    Supervisor,
    WorkerExit,
    WorkerStopped,
    WorkerTimeout,
    current_context,
)

from .. import inside
from ..waiting import turns, until

BRIEF = EscalationPolicy(Ask(0.05))


def fail(error):
    raise error


async def stuck(sup, leftovers, **options):
    """A call that has come to block, and is deaf to whatever stops it."""
    before = len(leftovers.entered)
    task = asyncio.create_task(sup.run(leftovers.block, **options))
    await until(lambda: len(leftovers.entered) > before)
    return task


async def held(sup, *, entered, release, value="value", **options):
    """A call that is in the middle of its function."""

    def work():
        entered.set()
        release.wait(10)
        return value

    task = asyncio.create_task(sup.run(work, **options))
    while not entered.is_set():
        await asyncio.sleep(0)
    return task


@pytest.fixture
def entered():
    return threading.Event()


@pytest.fixture
def release():
    event = threading.Event()
    yield event
    event.set()


async def test_an_error_comes_as_it_is():
    error = ValueError("mine")
    async with Supervisor() as sup:
        with pytest.raises(ValueError, match="mine") as caught:
            await sup.run(fail, error)
    assert caught.value is error
    assert not [entry for entry in caught.traceback if str(entry.path) == inside.GATE_FILE]


async def test_the_callers_context_variables_are_visible():
    request = contextvars.ContextVar("request", default="none")
    request.set("r-1")
    async with Supervisor() as sup:
        assert await sup.run(request.get) == "r-1"
        worker = await sup.start(lambda ctx: request.get())
        assert (await worker.wait()).value == "r-1"


async def test_a_timeout_that_is_not_reached_leaves_no_trace():
    async with Supervisor() as sup:
        for _ in range(300):
            assert await sup.run(int, "5", timeout=1000) == 5
        assert inside.alarms_set(sup) < 200


async def test_by_default_a_cancelled_call_is_not_injected(events, leftovers):
    """A client that disconnects must not have an exception thrown into a pool of a service that lives on."""
    async with Supervisor() as sup:
        task = await stuck(sup, leftovers)
        task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert [step.name for step in inside.steps_of(inside.runs(sup)[0])] == ["ask"]
        leftovers.release.set()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert "inject" not in [event.get("step") for event in events]


def test_abandoned_work_is_reported_not_left_behind_in_silence(virtual, leftovers):
    async def main(time):
        async with Supervisor() as sup:
            task = await stuck(sup, leftovers, timeout=1, policy=BRIEF, name="stuck")
            await time.advance(2)
            with pytest.raises(WorkerTimeout) as caught:
                await task
            outcome = caught.value.outcome
            assert (outcome.ended, outcome.step) == ("abandoned", "ask")
            assert outcome.stack is not None
            assert "in block" in outcome.stack
            assert sup.workers() == ()
            assert await sup.run(int, "5") == 5

    virtual(main)


def test_a_stop_before_the_timeout_keeps_its_meaning(virtual, entered, release):
    async def main(loop):
        async with Supervisor(policy=EscalationPolicy(Ask(60))) as sup:
            task = await held(sup, entered=entered, release=release, timeout=5)
            stopping = asyncio.create_task(sup.workers()[0].stop())
            await loop.advance(6)
            assert not task.done()
            release.set()
            await stopping
            assert await task == "value"

    virtual(main)


async def test_idle_threads_are_reused_and_grown_on_demand():
    async with Supervisor(max_threads=4) as sup:
        for _ in range(50):
            await sup.run(int)
        assert inside.threads(sup).size == 1
        barrier = threading.Barrier(4)
        await asyncio.gather(*(sup.run(barrier.wait, 5) for _ in range(4)))
        assert inside.threads(sup).size == 4


async def test_abandoned_threads_are_replaced_up_to_as_many_again(leftovers):
    async with Supervisor(max_threads=2, shutdown_timeout=0.5) as sup:
        for _ in range(2):
            with pytest.raises(WorkerTimeout):
                await sup.run(leftovers.block, timeout=0, policy=BRIEF)  # withdrawn: never on a thread
        assert inside.threads(sup).stuck == 0
        for number in range(1, 5):
            task = await stuck(sup, leftovers, policy=EscalationPolicy(Ask(0)))
            await sup.workers()[0].stop()
            with pytest.raises(WorkerStopped):
                await task
            assert inside.threads(sup).stuck == number
            if number < 4:
                assert await sup.run(int, "5") == 5
        assert inside.threads(sup).capacity == 0
        queued = asyncio.create_task(sup.run(int, "6"))
        await turns()
        assert sup.statistics().queued == 1
        assert not queued.done()
        leftovers.release.set()  # the threads come back, end, and make room
        assert await queued == 6


async def test_a_late_end_is_logged_and_changes_nothing(events, leftovers):
    async with Supervisor(max_threads=1) as sup:
        task = await stuck(sup, leftovers, policy=BRIEF, name="stuck")
        await sup.workers()[0].stop()
        with pytest.raises(WorkerStopped):
            await task
        leftovers.release.set()
        while "worker.late_end" not in [event["event"] for event in events]:
            await asyncio.sleep(0.001)
        ended = [event["ended"] for event in events if event["event"] == "worker.ended" and event["worker"] == "stuck"]
        assert ended == ["abandoned"]
        assert inside.threads(sup).stuck == 0


async def test_unnamed_workers_are_named_after_their_function():
    def inner():
        return current_context().name

    class Callable:
        def __call__(self):
            return current_context().name

    async with Supervisor() as sup:
        names = [await sup.run(fn) for fn in (inner, functools.partial(inner), Callable(), lambda: inner())]
    stem = "test_unnamed_workers_are_named_after_their_function.<locals>."
    assert names == [f"{stem}inner-1", f"{stem}inner-2", f"{stem}Callable-3", f"{stem}<lambda>-4"]


async def test_a_generated_name_is_not_given_twice_either(entered, release):
    async with Supervisor() as sup:
        taken = await sup.start(lambda ctx: ctx.stop.wait(), name="getter-2")

        def getter():
            entered.set()
            release.wait(10)
            return current_context().name

        getter.__qualname__ = "getter"
        first = asyncio.create_task(sup.run(getter))
        while not entered.is_set():
            await asyncio.sleep(0)
        (name,) = (worker.name for worker in sup.workers() if worker.name != "getter-2")
        assert name == "getter-3"
        with pytest.raises(ValueError, match="getter-3"):
            await sup.run(int, name="getter-3")
        release.set()
        assert await first == "getter-3"
        await taken.stop()


async def test_a_refused_call_leaves_nothing_behind():
    async with Supervisor() as sup:
        blocker = await sup.start(lambda ctx: ctx.stop.wait(), name="x")
        for _ in range(3):
            with pytest.raises(ValueError, match="live worker"):
                await sup.run(int, name="x")
        assert sup.workers() == (blocker,)


async def test_a_result_is_not_kept_alive():
    import gc
    import weakref

    class Thing:
        pass

    async with Supervisor() as sup:
        thing = await sup.run(Thing, timeout=1000)
        argument = Thing()
        await sup.run(id, argument, timeout=1000)
        gone = [weakref.ref(thing), weakref.ref(argument)]
        del thing, argument
        gc.collect()
        await sup.run(int)
        assert [ref() for ref in gone] == [None, None]


async def test_a_call_leaves_no_garbage_cycle():
    import gc

    async with Supervisor() as sup:
        await sup.run(int)
        gc.collect()
        gc.disable()
        try:
            for _ in range(50):
                await sup.run(int)
                with pytest.raises(ValueError):
                    await sup.run(int, "x")
            assert gc.collect() < 50
        finally:
            gc.enable()


async def test_errors_that_are_odd_objects_end_their_call_alone():
    import dataclasses

    @dataclasses.dataclass(frozen=True)
    class Frozen(Exception):
        code: int

    class Falsy(Exception):
        def __bool__(self):
            return False

    class Unequal:
        def __eq__(self, other):
            raise RuntimeError("cannot be compared")

        __hash__ = None  # type: ignore[assignment]

    async with Supervisor(max_threads=1) as sup:
        for error in (Frozen(5), Falsy()):
            with pytest.raises(type(error)) as caught:
                await sup.run(fail, error)
            assert caught.value is error
        with pytest.raises(WorkerExit):
            await sup.run(fail, SystemExit(Unequal()))
        assert await sup.run(int, "5") == 5


async def test_a_context_that_was_kept_cannot_reach_the_next_call_on_its_thread():
    kept = []
    async with Supervisor(max_threads=1) as sup:
        await sup.run(lambda: kept.append(current_context()))

        def next_call():
            kept[0].extend(0)
            with pytest.raises(RuntimeError), kept[0].shield():
                pass
            return "untouched"

        assert await sup.run(next_call) == "untouched"


async def test_an_error_that_came_before_the_stop_comes_as_it_is():
    async with Supervisor() as sup:
        ended = threading.Event()

        def work():
            try:
                raise ValueError("mine")
            finally:
                ended.set()

        task = asyncio.create_task(sup.run(work))
        await asyncio.sleep(0)
        (worker,) = sup.workers()
        ended.wait(5)
        while not inside.an_end_is_posted(sup):
            pass
        outcome = await worker.stop()
        assert outcome.ended == "failed"
        with pytest.raises(ValueError, match="mine"):
            await task


async def test_a_run_that_has_ended_when_its_time_is_up_is_not_abandoned(monkeypatch):
    """Its completion is found at the last moment, while the ladder is about to give it up."""
    async with Supervisor(max_threads=2, policy=EscalationPolicy(Ask(0))) as sup:
        for _ in range(5):
            release, entered = threading.Event(), threading.Event()
            task = await held(sup, entered=entered, release=release)
            inside.stop_with_a_late_look(monkeypatch, sup, release.set)
            assert await task == "value"
        assert (inside.threads(sup).stuck, sup.statistics().abandoned) == (0, 0)


async def test_withdrawn_calls_let_go_of_what_they_held(entered, release):
    async with Supervisor(max_threads=1) as sup:
        first = await held(sup, entered=entered, release=release)
        queued = asyncio.create_task(sup.run(id, object()))
        await asyncio.sleep(0)
        run = inside.runs(sup)[1]
        assert inside.held_by(run)[0]
        queued.cancel()
        with pytest.raises(asyncio.CancelledError):
            await queued
        assert inside.held_by(run) == ((), None, "let_go")
        release.set()
        await first


async def test_a_failed_call_lets_its_arguments_go_without_the_collector():
    import gc
    import weakref

    class Thing:
        pass

    def boom(thing):
        raise ValueError

    async with Supervisor() as sup:
        gc.disable()
        try:
            thing = Thing()
            gone = weakref.ref(thing)
            try:
                await sup.run(boom, thing)
            except ValueError:
                pass
            del thing
            await sup.run(int)
            assert gone() is None
        finally:
            gc.enable()
