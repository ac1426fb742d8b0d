"""What goes to a process and comes back from it: what can, arrives; what cannot ends its own call alone."""

import asyncio
import functools
import socket
import sys
import threading

import pytest

from supervisor import RemoteError, Supervisor, WorkerExit, WorkerFailed

from ... import inside
from ...contract import functions as f
from . import tasks
from .faults import sound


@pytest.fixture
async def run():
    """Calls in one process, which every call must leave in order."""
    async with Supervisor(max_processes=1) as sup:
        pid = await sup.run(tasks.pid_of, kind="process")
        yield functools.partial(sup.run, kind="process")
        assert await sup.run(tasks.pid_of, kind="process") == pid


@pytest.mark.parametrize(
    ("kind", "args", "text"),
    [
        (tasks.Unpicklable, ("text",), "Unpicklable: text"),
        (tasks.NeedsTwo, (1, 2), "NeedsTwo: 1 and 2"),
        (tasks.BecomesAnother, ("text",), "BecomesAnother: text"),
    ],
)
async def test_an_exception_that_cannot_be_sent_comes_as_remote_error(run, kind, args, text):
    with pytest.raises(RemoteError, match=text) as caught:
        await run(tasks.raises, kind, *args)
    assert "in raises" in str(caught.value.__cause__)


async def test_an_exception_with_an_argument_that_cannot_be_pickled(run):
    with pytest.raises(RemoteError, match="ValueError: <unlocked"):
        await run(tasks.raises_unpicklable_argument)


async def test_an_exception_that_refuses_attributes_comes_as_it_is(run):
    with pytest.raises(tasks.Frozen) as caught:
        await run(tasks.raises, tasks.Frozen, "text")
    assert "in raises" in str(caught.value.__cause__)


async def test_an_exception_without_a_text_comes_as_it_is(run):
    with pytest.raises(tasks.WithoutText):
        await run(tasks.raises, tasks.WithoutText)


async def test_an_exit_whose_code_is_not_to_be_had_ends_its_call_alone(run):
    with pytest.raises(Exception, match=r"no code|SystemExit|OddExit") as caught:
        await run(tasks.raises, tasks.OddExit)
    assert isinstance(caught.value, Exception)


@pytest.mark.parametrize("fn", [tasks.returns_poor, tasks.returns_a_lambda, threading.Lock])
async def test_a_result_that_cannot_be_pickled(run, fn):
    with pytest.raises(RemoteError, match="the result cannot be pickled"):
        await run(fn)


@pytest.mark.parametrize("error", [ValueError, SystemExit, GeneratorExit, f.Stop])
async def test_a_result_that_cannot_be_unpickled(run, error):
    """Whatever is raised here, in the loop's own thread, is the call's alone."""
    with pytest.raises(RemoteError, match=r"the result of worker .* cannot be unpickled") as caught:
        await run(tasks.returns_what_loads, tasks.raises, error, "from afar")
    assert type(caught.value.__cause__) is error


async def test_a_call_that_cannot_be_unpickled_in_its_process(run):
    with pytest.raises(RemoteError, match="the call cannot be unpickled in its process: ValueError: here"):
        await run(tasks.length, tasks.Loads(tasks.raises, ValueError, "here"))
    with pytest.raises(RemoteError, match=r"SystemExit"):
        await run(tasks.length, tasks.Loads(tasks.raises, SystemExit, 3))


async def test_arguments_that_cannot_be_pickled_are_refused_at_once(run):
    for argument in (threading.Lock(), tasks.Poor()):
        with pytest.raises(TypeError, match=r"fn=length: cannot be sent to a process"):
            await run(tasks.length, argument)


async def test_a_refused_call_leaves_nothing_behind():
    async with sound(), Supervisor(max_queued=0) as sup:
        for _ in range(3):
            for method in (sup.run, sup.start):
                with pytest.raises(TypeError, match="cannot be sent"):
                    await method(tasks.length, threading.Lock(), kind="process", name="same")
            with pytest.raises(TypeError, match="cannot be sent"):
                sup.executor("process").submit(tasks.length, threading.Lock())
        assert sup.workers() == ()
        assert sup.statistics().queued == 0
        assert await sup.run(int, "5", kind="process", name="same") == 5


async def test_an_exit_of_any_code_and_a_base_exception_come_as_from_a_thread(run):
    with pytest.raises(WorkerExit) as caught:
        await run(f.leave, 300)
    assert caught.value.code == 300
    with pytest.raises(WorkerFailed):
        await run(f.fail, f.Stop())


async def test_lambdas_and_closures_are_sent_by_cloudpickle(run):
    pytest.importorskip("cloudpickle")
    outer = 5
    assert await run(lambda inner: (outer, inner), 6) == (5, 6)

    class Local:
        def __call__(self, value):
            return value + outer

    assert await run(Local(), 1) == 6


async def test_without_cloudpickle_a_lambda_is_refused_with_what_to_do(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    with pytest.raises(TypeError, match=r"<lambda>.* cannot be sent to a process.*stopladder\[cloudpickle\]"):
        await run(lambda: None)


async def test_a_function_of_this_test_module_is_found_in_the_process(run):
    assert await run(here, 5) == 6


def here(value):
    return value + 1


# ------------------------------------------------------------------------------------------------ large ones


async def test_large_buffers_travel_out_of_band_and_may_be_written_to(run):
    buffers = await run(tasks.returns_buffers, 1_000_000, 3)
    assert [len(buffer) for buffer in buffers] == [1_000_000] * 3
    buffers[0][0] = 7
    assert buffers[0][0] == 7
    assert await run(tasks.length, buffers[0]) == 1_000_000


async def test_many_buffers_in_one_frame(run):
    assert [len(buffer) for buffer in await run(tasks.returns_buffers, 10, 2000)] == [10] * 2000


async def test_a_large_argument(run):
    assert await run(tasks.length, bytes(50_000_000)) == 50_000_000


async def test_a_large_result():
    async with sound(), Supervisor(max_processes=1) as sup:
        assert len(await sup.run(tasks.returns_bytes, 200_000_000, kind="process")) == 200_000_000


@pytest.mark.slow
async def test_a_result_of_a_gigabyte_lets_the_loop_go_on():
    async with sound(), Supervisor(max_processes=1) as sup:
        await sup.run(int, kind="process")
        task = asyncio.create_task(sup.run(tasks.returns_bytes, 1_000_000_000, kind="process"))
        turns = 0
        while not task.done():
            await asyncio.sleep(0)
            turns += 1
        assert len(await task) == 1_000_000_000
        assert turns > 20


async def test_a_process_that_sends_without_end_leaves_the_loop_its_turns():
    frame = b"".join(inside.framed(b"x" * (1024 - inside.HEAD)))  # so many fill the buffer, and no read is a short one
    heard = []

    def endless(view):
        view[:] = frame * (len(view) // len(frame))
        return len(view)

    ours, theirs = socket.socketpair()
    with theirs:
        stream = inside.stream_that_receives(endless, ours, lambda *frame: heard.append(frame))
        stream.read()
        stream.close()
    assert 0 < len(heard) <= inside.BYTES_A_TURN / len(frame) + 100


async def test_an_error_that_does_not_take_its_own_arguments_arrives_as_it_was():
    async with Supervisor() as sup:
        with pytest.raises(tasks.HttpError) as caught:
            await sup.run(tasks.fails_by_http, kind="process")
        assert str(caught.value) == "the server said 503"
        assert caught.value.args == ("the server said 503",)
        assert (caught.value.code, caught.value.url) == (503, "http://here")
        assert caught.value.__notes__ == ["once"]
        with pytest.raises(tasks.Unlike, match="made 2 times"):  # as its class has it
            await sup.run(tasks.fails_unlike, kind="process")


@pytest.mark.parametrize("size", [0, 1, inside.CAPACITY - 1, inside.CAPACITY, 3_000_000])
async def test_bytes_of_any_size_arrive_as_bytes(run, size):
    data = bytes(index % 251 for index in range(size))
    kinds, value = await run(tasks.types_and_first, data, bytearray(data), [data], data)
    assert kinds == [bytes, bytearray, list, bytes]
    assert type(value) is bytes
    assert value == data


async def test_large_bytes_that_a_function_keeps_stay_as_they_are(run):
    data = b"a" * 1_000_000
    kept = await run(f.same, data)
    for other in (b"b" * 1_000_000, b"c" * 1_000_001):
        assert await run(f.same, other) == other
    assert kept == data
