"""`await sup.run(fn)` and how a call ends by itself: values, errors as they are, names, and the queue."""

import asyncio
import functools

import pytest

from supervisor import (
    StopRequested,
    Supervisor,
    SupervisorBusy,
    SupervisorClosed,
    WorkerExit,
    WorkerFailed,
    current_context,
)

from .. import inside
from ..waiting import until
from . import functions as f
from .clustered import ON_CLUSTER

NAMES_OF_FUNCTIONS = [
    (f.name_of_current, "name_of_current"),
    (functools.partial(f.name_of_current), "name_of_current"),
    (functools.partial(functools.partial(f.name_of_current)), "name_of_current"),
]


async def held(sup, board, kind, *args, fn=f.hold, **options):
    """A call that is in the middle of its function."""
    task = asyncio.create_task(sup.run(fn, board, *args, kind=kind, **options))
    await board.posted("entered")
    return task


async def test_the_value_is_returned(kind):
    async with Supervisor() as sup:
        assert await sup.run(divmod, 17, 5, kind=kind) == (3, 2)
        assert await sup.run(functools.partial(int, "ff", base=16), kind=kind) == 255
        assert await sup.run(functools.partial(f.add, 1, c=3), 2, kind=kind) == 6


@pytest.mark.parametrize(
    "fn",
    [f.Adder(2), f.Adder(2).method, functools.partial(f.Adder.of_class, 2), functools.partial(f.Adder.static, 2)],
    ids=["object", "method", "classmethod", "staticmethod"],
)
async def test_whatever_is_callable_can_be_called(kind, fn):
    async with Supervisor() as sup:
        assert await sup.run(fn, 3, kind=kind) == 5


async def test_a_value_is_what_it_was(kind):
    values = [None, b"", "", {}, [], 0, False, b"x" * 1_000_000, NotImplemented, ..., 2**4000, bytearray(100_000)]
    async with Supervisor() as sup:
        for value in values:
            assert await sup.run(f.same, value, kind=kind) == value


async def test_an_error_comes_with_its_type_its_arguments_and_its_notes(kind):
    async with Supervisor() as sup:
        with pytest.raises(f.Refusal, match="refused with 7") as caught:
            await sup.run(f.refuse, 7, "a note", kind=kind)
    assert caught.value.code == 7
    assert caught.value.__notes__ == ["a note"]


async def test_where_an_error_was_raised_can_be_seen(kind, where):
    """In a traceback, or in the text of one that was sent along; our own frames are not in it."""
    async with Supervisor() as sup:
        with pytest.raises(LookupError, match="second") as caught:
            await sup.run(f.fail_with_a_cause, kind=kind)
    if where == "thread":
        assert isinstance(caught.value.__cause__, ValueError)
        assert caught.traceback[-1].name == "fail_with_a_cause"
    else:
        text = str(caught.value.__cause__)
        assert ("on node" if where in ON_CLUSTER else "in process") in text
        assert "ValueError: invalid literal" in text
        assert "in fail_with_a_cause" in text
        assert inside.CHILD_FOLDER not in text


async def test_stop_iteration_comes_as_runtime_error(kind):
    async with Supervisor() as sup:
        with pytest.raises(RuntimeError, match="StopIteration") as caught:
            await sup.run(f.first_of_nothing, kind=kind)
        assert isinstance(caught.value.__cause__, StopIteration)
        assert await sup.run(int, "5", kind=kind) == 5


@pytest.mark.parametrize("code", [0, None])
async def test_a_successful_exit_is_a_return_of_none(kind, code):
    async with Supervisor() as sup:
        assert await sup.run(f.leave, code, kind=kind) is None
        assert await sup.run(int, "5", kind=kind) == 5


@pytest.mark.parametrize("code", [3, 255, "message"])
async def test_another_exit_is_a_worker_exit_and_ends_that_call_alone(kind, code):
    async with Supervisor() as sup:
        with pytest.raises(WorkerExit) as caught:
            await sup.run(f.leave, code, kind=kind, name="leaver")
        assert (caught.value.worker, caught.value.code) == ("leaver", code)
        assert await sup.run(int, "5", kind=kind) == 5


@pytest.mark.parametrize("error", [KeyboardInterrupt, GeneratorExit, f.Stop, asyncio.CancelledError, StopRequested])
async def test_no_base_exception_reaches_the_loop(kind, where, error):
    async with Supervisor() as sup:
        raised = error("text")
        with pytest.raises(WorkerFailed) as caught:
            await sup.run(f.fail, raised, kind=kind)
        assert await sup.run(int, "5", kind=kind) == 5
    assert type(caught.value.error) is error
    assert where != "thread" or caught.value.error is raised
    assert caught.value.error.args == ("text",)
    assert caught.value.__cause__ is caught.value.error


async def test_the_context_is_there_inside_and_nowhere_else(kind):
    async with Supervisor() as sup:
        assert await sup.run(f.identity, kind=kind, name="me") == (
            *("me", kind, 1, None),
            *(float("inf"), 0.0, True, ["LookupError"]),
        )
        with pytest.raises(LookupError):
            current_context()


async def test_the_context_of_each_call_is_its_own(kind):
    async with Supervisor(max_threads=1, max_processes=1) as sup:
        assert [await sup.run(f.name_of_current, kind=kind, name=name) for name in ("a", "b")] == ["a", "b"]


@pytest.mark.parametrize(("fn", "name"), NAMES_OF_FUNCTIONS)
async def test_unnamed_calls_are_named_after_their_function(kind, fn, name):
    async with Supervisor() as sup:
        assert await sup.run(fn, kind=kind) == f"{name}-1"
        assert await sup.run(fn, kind=kind) == f"{name}-2"


async def test_a_live_name_is_not_given_twice(kind, board):
    async with Supervisor() as sup:
        first = await held(sup, board, kind, fn=f.hold_name, name="same")
        for method in (sup.run, sup.start):
            with pytest.raises(ValueError, match="name='same': a live worker"):
                await method(f.wait_for_stop, kind=kind, name="same")
        assert len(sup.workers()) == 1
        board.post("release")
        assert await first == "same"
        assert await sup.run(f.name_of_current, kind=kind, name="same") == "same"


async def test_calls_wait_for_room_and_run_in_their_order(kind, board):
    async with Supervisor(max_threads=1, max_processes=1) as sup:
        first = await held(sup, board, kind)
        queued = [asyncio.create_task(sup.run(board.add, "order", n, kind=kind)) for n in range(5)]
        await asyncio.sleep(0)
        assert [worker.state for worker in sup.workers()] == ["running"] + ["queued"] * 5
        assert sup.statistics().queued == 5
        board.post("release")
        assert await first == "value"
        await asyncio.gather(*queued)
        assert board.lines("order") == ["0", "1", "2", "3", "4"]


async def test_calls_run_side_by_side(kind, board):
    async with Supervisor(max_threads=2, max_processes=2) as sup:
        tasks = [
            asyncio.create_task(sup.run(f.hold, board, n, f"entered {n}", f"entered {1 - n}", kind=kind))
            for n in range(2)
        ]
        assert await asyncio.gather(*tasks) == [0, 1]


async def test_max_queued_refuses_at_once_and_loses_nothing(kind, board):
    async with Supervisor(max_threads=1, max_processes=1, max_queued=2) as sup:
        first = await held(sup, board, kind)
        queued = [asyncio.create_task(sup.run(int, str(n), kind=kind)) for n in range(2)]
        await asyncio.sleep(0)
        for _ in range(3):
            with pytest.raises(SupervisorBusy, match="max_queued=2"):
                await sup.run(int, kind=kind)
        board.post("release")
        assert [await first, *[await task for task in queued]] == ["value", 0, 1]
        assert await sup.run(int, "7", kind=kind) == 7


async def test_max_queued_of_zero_runs_what_can_run_at_once(kind, board):
    async with Supervisor(max_threads=1, max_processes=1, max_queued=0) as sup:
        first = await held(sup, board, kind)
        with pytest.raises(SupervisorBusy):
            await sup.run(int, kind=kind)
        board.post("release")
        await first
        assert await sup.run(int, "7", kind=kind) == 7


async def test_the_kinds_have_queues_of_their_own(kind, board):
    other = {"thread": "process", "process": "thread"}[kind]
    async with Supervisor(max_threads=1, max_processes=1, max_queued=0) as sup:
        first = await held(sup, board, kind)
        assert await sup.run(int, "7", kind=other) == 7
        board.post("release")
        await first


async def test_many_calls_at_once(kind):
    async with Supervisor(max_threads=4, max_processes=2) as sup:
        assert await asyncio.gather(*(sup.run(int, str(n), kind=kind) for n in range(2000))) == list(range(2000))
        assert sup.workers() == ()


async def test_a_call_after_the_shutdown_is_refused(kind):
    sup = Supervisor()
    assert await sup.run(int, "5", kind=kind) == 5
    await sup.shutdown()
    for method in (sup.run, sup.start):
        with pytest.raises(SupervisorClosed, match="has shut down"):
            await method(f.wait_for_stop, kind=kind)


@pytest.mark.parametrize("fn", [f.coroutine_function, functools.partial(f.coroutine_function), 3])
async def test_what_cannot_run_is_refused_and_leaves_nothing(kind, fn):
    async with Supervisor() as sup:
        for method in (sup.run, sup.start):
            with pytest.raises(TypeError, match="fn="):
                await method(fn, kind=kind)
        assert sup.workers() == ()


async def test_a_failed_call_keeps_nothing_alive(kind):
    import gc
    import weakref

    async with Supervisor() as sup:
        value = await sup.run(f.Board, "somewhere", kind=kind, timeout=1000)
        argument = f.Board("somewhere")
        await sup.run(f.same, argument, kind=kind, timeout=1000)
        with pytest.raises(OSError):
            await sup.run(f.Board.read, argument, "nothing", kind=kind, timeout=1000)
        gone = [weakref.ref(value), weakref.ref(argument)]
        del value, argument
        await sup.run(int, kind=kind)
        gc.collect()
        await until(lambda: [ref() for ref in gone] == [None, None])  # a thread lets go of its call last
