"""The initializer of a pool of processes: who calls it, when, and what becomes of it where it fails."""

import asyncio
import contextvars
import functools
import os
import signal
import sys
import threading
import time

import pytest

from supervisor import (
    RemoteError,
    Supervisor,
    SupervisorError,
    WorkerExit,
    WorkerFailed,
    WorkerTimeout,
    current_context,
)

from ... import inside
from ...contract import functions as f
from . import tasks
from .faults import alive, sound, until

SEEN = contextvars.ContextVar("SEEN", default="nothing")
STATE = {}


def notes(board, *, and_sets="model"):
    board.add("initialized", os.getpid())
    STATE["loaded"] = and_sets
    SEEN.set(and_sets)


def finds():
    return os.getpid(), STATE.get("loaded"), SEEN.get()


def worker_finds(ctx, board):
    board.post("found", repr(STATE.get("loaded")))
    ctx.stop.wait()


def takes_until(board, notice):
    board.add("initialized", os.getpid())
    board.wait(notice)


def complains(board, how):
    board.add("initialized", os.getpid())
    print("no such device", file=sys.stderr)
    how()


def raises():
    raise ValueError("not a model")


def stops():
    raise f.Stop("by itself")


def kills_itself():
    os.kill(os.getpid(), signal.SIGKILL)


def raises_what_is_not_there():
    raise tasks.Unpicklable


def fails_unless(board, notice):
    board.add("initialized", os.getpid())
    if not board.has(notice):
        raise ValueError("not yet")


def fails_but_once(board):
    board.add("initialized", os.getpid())
    if len(board.lines("initialized")) > 1:
        raise ValueError("only one of us")


async def test_it_is_called_once_in_each_process_before_its_first_call(board):
    async with sound(), Supervisor() as sup:
        pool = sup.pool("gpu", kind="process", size=2, initializer=functools.partial(notes, board))
        found = await asyncio.gather(*(pool.run(finds) for _ in range(20)))
        assert {seen for _, *both in found for seen in both} == {"model"}
        assert {str(pid) for pid, *_ in found} <= set(board.lines("initialized"))
        assert len(board.lines("initialized")) == len(set(board.lines("initialized"))) <= 2


async def test_workers_of_start_do_not_call_it_and_a_process_of_theirs_takes_no_calls(board):
    async with sound(), Supervisor() as sup:
        sup.pool("process", kind="process", size=1, initializer=functools.partial(notes, board))
        worker = await sup.start(worker_finds, board, kind="process")
        assert await board.posted("found") == "None"
        pid, loaded, _ = await sup.run(finds, kind="process")
        assert loaded == "model"
        assert pid != worker.pid
        starting = asyncio.create_task(sup.start(f.wait_for_stop, kind="process"))
        await asyncio.sleep(0)
        starting.cancel()  # its process comes up, and nobody has any use for it
        os.kill(pid, signal.SIGKILL)
        await until(lambda: not alive(pid))
        assert (await sup.run(finds, kind="process"))[1] == "model"


async def test_a_process_that_takes_the_place_of_a_lost_one_calls_it(board):
    async with sound(), Supervisor() as sup:
        pool = sup.pool("gpu", kind="process", size=1, initializer=functools.partial(notes, board))
        pid, *_ = await pool.run(finds)
        os.kill(pid, signal.SIGKILL)
        await until(lambda: not alive(pid))
        other, loaded, _ = await pool.run(finds)
        assert (other != pid, loaded) == (True, "model")


@pytest.mark.parametrize(
    ("how", "cause", "text"),
    [
        (raises, ValueError, "not a model"),
        (functools.partial(sys.exit, 3), WorkerExit, r"sys\.exit\(3\)"),
        (functools.partial(sys.exit, 0), WorkerExit, r"sys\.exit"),
        (stops, WorkerFailed, "by itself"),
        (functools.partial(os._exit, 4), RemoteError, "exit code 4"),
        (tasks.segfaults, RemoteError, "exit code -11"),
        (raises_what_is_not_there, RemoteError, "Unpicklable"),
    ],
    ids=["raises", "exits", "exits with 0", "stops", "exits hard", "segfaults", "unpicklable"],
)
async def test_calls_that_wait_fail_with_what_it_wrote_and_raised_and_it_is_not_tried_again(
    board, events, how, cause, text
):
    async with sound(), Supervisor("app") as sup:
        pool = sup.pool("gpu", kind="process", size=2, initializer=functools.partial(complains, board, how), warm=1)
        calls = [asyncio.create_task(pool.run(int)) for _ in range(5)]
        await asyncio.wait(calls)
        for error in (call.exception() for call in calls):
            assert type(error) is SupervisorError
            assert "'app'" in str(error)
            assert "'gpu'" in str(error)
            assert "no such device" in str(error)
            assert isinstance(error.__cause__, cause)
            with pytest.raises(cause, match=text):
                f.fail(error.__cause__)
        with pytest.raises(SupervisorError, match="no such device"):
            await pool.ready()
        await until(lambda: not inside.processes(sup, "gpu"))
        tried = len(board.lines("initialized"))
        assert tried <= 2  # both that were started
        await asyncio.sleep(0.5)
        assert len(board.lines("initialized")) == tried
        with pytest.raises(SupervisorError, match="no such device"):
            await pool.run(int)
        assert len(board.lines("initialized")) == tried + 1
        (logged,) = (event for event in events if event["event"] == "supervisor.pool_not_ready")
        assert logged["pool"] == "gpu"
        assert "no such device" in logged["reason"]


async def test_the_traceback_of_what_it_raised_is_there(board):
    async with sound(), Supervisor() as sup:
        pool = sup.pool("gpu", kind="process", initializer=functools.partial(complains, board, raises))
        with pytest.raises(SupervisorError) as caught:
            await pool.run(int)
        remote = caught.value.__cause__.__cause__
        assert isinstance(remote, RemoteError)
        assert "in raises\n" in str(remote)
        assert "initialize(" not in str(remote)


async def test_the_next_call_tries_again(board):
    async with sound(), Supervisor() as sup:
        pool = sup.pool(
            "gpu", kind="process", size=1, initializer=functools.partial(fails_unless, board, "there"), warm=1
        )
        with pytest.raises(SupervisorError, match="not yet"):
            await pool.ready()
        board.post("there")
        assert await pool.run(int, "5") == 5
        await pool.ready()
        assert len(board.lines("initialized")) == 2


async def test_where_one_has_come_up_and_others_fail_it_serves_all_calls(board):
    async with sound(), Supervisor() as sup:
        pool = sup.pool("gpu", kind="process", size=3, initializer=functools.partial(fails_but_once, board))
        assert await pool.run(int, "5") == 5
        began = time.monotonic()
        while len(board.lines("initialized")) < 2:
            await asyncio.gather(*(pool.run(time.sleep, 0.01) for _ in range(8)))
        await asyncio.gather(*(pool.run(time.sleep, 0.01) for _ in range(40)))
        assert len(board.lines("initialized")) < 10 + 10 * (time.monotonic() - began)
        assert sup.health().ready


async def test_those_that_are_to_be_warm_come_up_once_a_call_has_been_carried_out(board):
    async with sound(), Supervisor() as sup:
        initializer = functools.partial(fails_unless, board, "there")
        pool = sup.pool("gpu", kind="process", size=3, initializer=initializer, warm=2)
        with pytest.raises(SupervisorError, match="not yet"):
            await pool.ready()
        await until(lambda: not inside.processes(sup, "gpu"))
        assert not sup.health().ready
        board.post("there")
        assert await pool.run(int, "5") == 5
        await pool.ready()
        assert inside.ready_for_calls(sup, "gpu") == 2
        assert sup.health().ready


async def test_one_that_is_killed_in_it_costs_no_call(board):
    async with sound(), Supervisor() as sup:
        pool = sup.pool("gpu", kind="process", size=1, initializer=functools.partial(takes_until, board, "go"))
        call = asyncio.create_task(pool.run(int, "5"))
        await board.posted("initialized", lines=1)
        os.kill(int(board.lines("initialized")[0]), signal.SIGKILL)
        await board.posted("initialized", lines=2)
        board.post("go")
        assert await call == 5


async def test_one_that_is_killed_in_it_again_and_again_is_the_error_of_the_pool(board):
    async with sound(), Supervisor() as sup:
        pool = sup.pool("gpu", kind="process", size=1, initializer=functools.partial(complains, board, kills_itself))
        with pytest.raises(SupervisorError, match=r"(?s)exit code -9.*no such device"):
            await pool.run(int)
        assert len(board.lines("initialized")) == 3


async def test_the_start_timeout_does_not_count_its_time_and_nor_does_that_of_a_call(board):
    async with sound(), Supervisor(process_start_timeout=20) as sup:
        pool = sup.pool("gpu", kind="process", size=1, initializer=functools.partial(takes_until, board, "go"))
        assert inside.warming(sup, "gpu") == 0
        call = asyncio.create_task(pool.run(int, "5"))
        await board.posted("initialized", lines=1)
        (process,) = inside.processes(sup, "gpu")
        await until(lambda: process.initializing)
        assert not inside.start_is_timed(process)
        await asyncio.sleep(0.1)
        assert inside.warming(sup, "gpu") >= 0.1
        board.post("go")
        assert await call == 5
        total = inside.warming(sup, "gpu")
        await asyncio.sleep(0.05)
        assert inside.warming(sup, "gpu") == total


async def test_a_call_has_its_timeout_for_itself_and_its_within_for_all(board, ladder_time):
    async with sound(), Supervisor() as sup:
        pool = sup.pool("gpu", kind="process", size=1, initializer=functools.partial(takes_until, board, "go"))
        calls = [asyncio.create_task(pool.run(int, "5", timeout=0.3)) for _ in range(3)]
        bounded = asyncio.create_task(pool.run(int, within=0.5))
        await board.posted("initialized", lines=1)
        await ladder_time.advance(0.5)
        with pytest.raises(WorkerTimeout):
            await bounded
        await ladder_time.advance(10)
        assert not any(call.done() for call in calls)
        board.post("go")
        assert await asyncio.gather(*calls) == [5, 5, 5]


@pytest.mark.parametrize("warm", [0, 1])
async def test_a_shutdown_ends_a_process_that_is_in_it(board, warm):
    async with sound():
        sup = Supervisor()
        pool = sup.pool(
            "gpu", kind="process", size=1, initializer=functools.partial(takes_until, board, "never"), warm=warm
        )
        async with sup:
            call = asyncio.create_task(pool.run(int))
            await board.posted("initialized", lines=1)
            began = time.monotonic()
        assert time.monotonic() - began < 5
        with pytest.raises(SupervisorError):
            await call
        assert not alive(int(board.lines("initialized")[0]))


async def test_what_it_writes_is_not_lost(capfd):
    async with sound(), Supervisor() as sup:
        pool = sup.pool("gpu", kind="process", size=1, initializer=functools.partial(os.write, 2, b"loading\n"))
        assert await pool.run(int, "5") == 5
    assert "loading" in capfd.readouterr().err


async def test_one_that_cannot_be_sent_is_refused():
    async with sound(), Supervisor() as sup:
        pool = sup.pool("gpu", kind="process", initializer=functools.partial(print, threading.Lock()))
        with pytest.raises(TypeError, match=r"initializer=.*cannot be sent"):
            await pool.run(int)


def looks_around(board):
    ctx = current_context()
    ctx.sleep(0.01)
    board.post("looked", f"{ctx.name} {ctx.stop.is_set()}")


async def test_it_has_a_context_that_ends_with_it(board):
    async with sound(), Supervisor() as sup:
        pool = sup.pool("gpu", kind="process", size=1, initializer=functools.partial(looks_around, board))
        assert await pool.run(int, "5") == 5
        assert board.read("looked").endswith("False")


def forks(board):
    if os.fork():
        notes(board)


async def test_a_copy_that_it_forks_takes_no_calls(board):
    async with sound(), Supervisor() as sup:
        pool = sup.pool("gpu", kind="process", size=1, initializer=functools.partial(forks, board))
        pids = {(await pool.run(finds))[0] for _ in range(5)}
        assert [str(pid) for pid in pids] == board.lines("initialized")


async def test_what_it_returns_goes_nowhere():
    async with sound(), Supervisor() as sup:
        pool = sup.pool("gpu", kind="process", initializer=tasks.returns_a_lambda)
        assert await pool.run(int, "5") == 5


async def test_so_many_are_started_before_there_is_any_call(board):
    async with sound():
        sup = Supervisor()
        pool = sup.pool("gpu", kind="process", size=3, initializer=functools.partial(notes, board), warm=2)
        async with sup:
            await pool.ready()
            assert inside.ready_for_calls(sup, "gpu") == 2
            assert len(board.lines("initialized")) == 2
            pid, *_ = await pool.run(finds)
            os.kill(pid, signal.SIGKILL)
            await until(lambda: not alive(pid))
            await until(lambda: inside.ready_for_calls(sup, "gpu") == 2)  # without any call


async def test_a_call_costs_no_turn_of_the_loop_for_a_spare_process_that_is_not_wanted(monkeypatch):
    async with Supervisor("app") as sup:
        pool = sup.pool("gpu", kind="process", size=1, initializer=int)
        await pool.run(os.getpid)
        asked = inside.asked_for_spares(sup, "gpu", monkeypatch)
        for _ in range(3):
            await pool.run(os.getpid)
        await asyncio.sleep(0)
        assert not asked
