"""`executor(kind)`: what the standard library promises of an Executor."""

import asyncio
import concurrent.futures
import time
from concurrent.futures import FIRST_COMPLETED, as_completed, wait

import pytest

from supervisor import (
    Supervisor,
    SupervisorBusy,
    SupervisorClosed,
    WorkerExit,
    WorkerFailed,
    WorkerStopped,
)

from .. import inside
from . import functions as f
from .clustered import ON_CLUSTER
from .test_stopping import INJECTING, PATIENT

WAYS = [("thread", "quiet"), ("thread", "logged"), ("thread", "seen"), ("process", "quiet")]
WAYS += [pytest.param((where, "quiet"), marks=pytest.mark.xdist_group("cluster")) for where in ON_CLUSTER]
"""The calls of threads go another way where anybody watches them: a debug log, or a reader of the transitions."""


@pytest.fixture(params=WAYS, ids="-".join)
def way(request):
    return request.param


@pytest.fixture
def where(way):
    return way[0]


@pytest.fixture
def policy():
    """Who obeys has the time that it needs for it, on a busy machine too."""
    return PATIENT


@pytest.fixture
async def sup(way, kind, policy, request):
    if "logged" in way:
        request.getfixturevalue("events")
    async with Supervisor(
        "pool", max_threads=2, max_processes=2, policy=policy, shutdown_timeout=2 * f.LIMIT
    ) as supervisor:
        reader = supervisor.transitions() if "seen" in way else None
        yield supervisor
    del reader


@pytest.fixture
def ex(sup, kind):
    return sup.executor(kind)


async def aside(fn, *args):
    """Calls a blocking function in a thread that has nothing to do with the supervisor."""
    return await asyncio.wait_for(asyncio.to_thread(fn, *args), f.LIMIT)


async def test_submit_gives_a_future_of_concurrent_futures_with_the_value(ex):
    future = ex.submit(pow, 2, 10)
    assert isinstance(ex, concurrent.futures.Executor)
    assert isinstance(future, concurrent.futures.Future)
    assert await aside(future.result) == 1024
    assert await aside(future.exception) is None
    assert future.done()
    assert future.result() == 1024


async def test_keyword_arguments_reach_the_function(ex):
    assert await aside(ex.submit(int, "ff", base=16).result) == 255


async def test_run_in_executor_takes_it(ex):
    assert await asyncio.get_running_loop().run_in_executor(ex, pow, 2, 4) == 16


@pytest.mark.parametrize(
    ("fn", "args", "error", "says"),
    [
        (int, "x", ValueError, "invalid literal"),
        (f.leave, 3, WorkerExit, r"sys\.exit\(3\)"),
        (f.fail, KeyboardInterrupt(), WorkerFailed, "KeyboardInterrupt"),
        (f.fail, StopIteration(), RuntimeError, "StopIteration"),
    ],
)
async def test_an_error_comes_as_it_is_and_the_pool_goes_on(ex, fn, args, error, says):
    future = ex.submit(fn, args)
    with pytest.raises(error, match=says):
        await aside(future.result)
    assert isinstance(future.exception(), error)
    assert await aside(ex.submit(int).result) == 0


async def test_a_future_is_running_while_its_function_runs_and_done_afterwards(ex, board):
    future = ex.submit(f.hold, board)
    await board.posted("entered")
    assert (future.running(), future.done()) == (True, False)
    with pytest.raises(TimeoutError):
        await aside(future.result, 0.01)
    board.post("release")
    assert await aside(future.result) == "value"
    assert (future.running(), future.done()) == (False, True)


async def test_calls_that_wait_are_not_running(ex, board):
    futures = [ex.submit(f.hold, board, n, f"entered {n}") for n in range(4)]
    for n in range(2):
        await board.posted(f"entered {n}")
    assert [future.running() for future in futures] == [True, True, False, False]
    board.post("release")
    assert [await aside(future.result) for future in futures] == [0, 1, 2, 3]


async def test_other_threads_may_submit(ex):
    def many():
        return [ex.submit(pow, number, 2) for number in range(50)]

    futures = [future for batch in await asyncio.gather(*(aside(many) for _ in range(4))) for future in batch]
    results = await aside(lambda: [future.result(f.LIMIT) for future in futures])
    assert sorted(results) == sorted(number**2 for number in range(50) for _ in range(4))


async def test_beyond_max_queued_a_call_is_refused(kind, board):
    async with Supervisor(max_threads=1, max_processes=1, max_queued=1) as sup:
        ex = sup.executor(kind)
        futures = [ex.submit(f.hold, board), ex.submit(f.hold, board)]
        with pytest.raises(SupervisorBusy, match="max_queued=1"):
            ex.submit(int)
        with pytest.raises(SupervisorBusy):
            await aside(ex.submit, int)
        board.post("release")
        await aside(wait, futures)
        assert await aside(ex.submit(int).result) == 0


@pytest.mark.parametrize(
    "way", [("process", "quiet")]
)  # a thread ends its call by itself, so blocking the loop is harmless
async def test_blocking_the_loop_on_a_call_that_it_must_end_is_refused(ex, kind, board):
    future = ex.submit(f.hold, board)
    for method in (future.result, future.exception):
        with pytest.raises(RuntimeError, match="would block its event loop's own thread"):
            method(f.LIMIT)
    with pytest.raises(RuntimeError, match="would block its event loop's own thread"):
        list(ex.map(int, ["1"]))
    board.post("release")
    assert await aside(future.result) == "value"
    assert future.result() == "value"


async def test_wait_and_as_completed(ex, board):
    slow, quick = ex.submit(f.hold, board, "slow"), ex.submit(str, "quick")
    done, pending = await aside(lambda: wait([slow, quick], f.LIMIT, FIRST_COMPLETED))
    assert (done, pending) == ({quick}, {slow})
    completed = as_completed([slow, quick], f.LIMIT)
    assert (await aside(lambda: next(completed))).result() == "quick"
    board.post("release")
    assert (await aside(lambda: next(completed))).result() == "slow"


async def test_a_done_callback_is_called_once(ex):
    seen = []
    future = ex.submit(int)
    future.add_done_callback(seen.append)
    await aside(future.result)
    while not seen:
        await asyncio.sleep(0)
    future.add_done_callback(seen.append)
    assert seen == [future, future]


async def test_a_done_callback_that_raises_keeps_nothing_from_going_on(ex, board, caplog):
    seen = []
    future = ex.submit(f.hold, board)
    future.add_done_callback(lambda _: 1 / 0)
    future.add_done_callback(seen.append)
    board.post("release")
    await aside(future.result)
    assert await aside(ex.submit(int).result) == 0
    while not seen:
        await asyncio.sleep(0)
    assert "exception calling callback" in caplog.text
    caplog.clear()  # the error's frames hold the inbox, where the loop has ended the call


# ------------------------------------------------------------------------------------------------ cancel


async def test_cancelling_a_call_that_waits_withdraws_it(ex, board, sup):
    futures = [ex.submit(f.hold, board, n, f"entered {n}") for n in range(2)]
    for n in range(2):
        await board.posted(f"entered {n}")
    future = ex.submit(f.touch, board)
    assert future.cancel()
    assert (future.cancelled(), future.done()) == (True, True)
    assert future.cancel()
    with pytest.raises(concurrent.futures.CancelledError):
        future.result()
    board.post("release")
    await aside(wait, futures)
    assert await aside(ex.submit(int).result) == 0
    assert not board.has("ran")
    assert sup.workers() == ()


async def test_cancelling_a_call_that_runs_stops_it(ex, board, sup):
    future = ex.submit(f.obey, board)
    await board.posted("entered")
    assert not future.cancel()
    assert not future.cancelled()
    with pytest.raises(WorkerStopped) as caught:
        await aside(future.result)
    assert caught.value.outcome.ended == "stopped"
    assert not future.cancel()
    assert sup.workers() == ()


async def test_a_value_that_a_cancelled_call_still_returns_is_delivered(ex, board):
    future = ex.submit(f.obey_and_return, board)
    await board.posted("entered")
    assert not await aside(future.cancel)
    assert await aside(future.result) == "value"


async def test_an_error_after_a_cancel_is_the_cause(ex, board):
    future = ex.submit(f.obey_and_fail, board)
    await board.posted("entered")
    future.cancel()
    with pytest.raises(WorkerStopped) as caught:
        await aside(future.result)
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize("policy", [INJECTING])
async def test_cancelling_whoever_awaits_run_in_executor_begins_the_ladder(ex, board, sup):
    task = asyncio.get_running_loop().run_in_executor(ex, f.spinner, board)
    await board.posted("entered")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    while sup.workers():
        await asyncio.sleep(0.001)
    assert board.lines("unwound") == ["finally"]


async def test_cancel_racing_with_the_end_and_the_beginning_of_calls_loses_none(ex, kind):
    for _ in range({"thread": 30, "process": 10}[kind]):
        futures = [ex.submit(int) for _ in range(20)]
        await aside(lambda futures=futures: [future.cancel() for future in futures])
        assert not (await aside(wait, futures, f.LIMIT)).not_done
        for future in futures:
            assert future.cancelled() or future.exception() is not None or future.result() == 0
    assert await aside(ex.submit(int).result) == 0


# ------------------------------------------------------------------------------------------------ map, shutdown


@pytest.mark.parametrize("chunksize", [1, 7, 50])
async def test_map_keeps_the_order_of_the_items(ex, chunksize):
    results = await aside(lambda: list(ex.map(pow, range(20), [2] * 20, chunksize=chunksize)))
    assert results == [number**2 for number in range(20)]


@pytest.mark.parametrize("chunksize", [1, 3, 100])
async def test_map_raises_an_error_where_its_result_would_be(ex, chunksize):
    results = ex.map(int, ["1", "2", "3", "x", "5"], chunksize=chunksize)
    if chunksize < 4:
        assert [await aside(next, results) for _ in range(3)] == [1, 2, 3]
    with pytest.raises(ValueError, match="'x'"):
        await aside(next, results)


@pytest.mark.parametrize(("chunksize", "buffersize"), [(1, 1), (1, 3), (2, 2), (3, 100)])
async def test_map_with_a_buffer_reads_no_more_items_than_it_holds(ex, chunksize, buffersize):
    read = []
    items = (read.append(number) or number for number in range(20))
    results = ex.map(str, items, chunksize=chunksize, buffersize=buffersize)
    assert len(read) == min(20, chunksize * buffersize)
    for number in range(20):
        assert await aside(next, results) == str(number)
        assert len(read) == min(20, chunksize * (buffersize + 1 + number // chunksize))
    with pytest.raises(StopIteration):
        next(results)


async def test_map_with_a_buffer_reads_on_where_results_are_taken_alone(ex):
    def items():
        yield "1"
        yield "2"
        raise OSError("no more")

    results = ex.map(int, items(), buffersize=1)
    assert await aside(next, results) == 1
    with pytest.raises(OSError, match="no more"):
        await aside(next, results)
    with pytest.raises(StopIteration):
        next(results)


@pytest.mark.parametrize("end", ["close", "shutdown"])
async def test_map_with_a_buffer_submits_nothing_after_its_end(ex, end):
    results = ex.map(int, ["1", "2", "3"], buffersize=1)
    if end == "close":
        results.close()
        with pytest.raises(StopIteration):
            next(results)
    else:
        await aside(ex.shutdown)
        with pytest.raises(SupervisorClosed):
            await aside(next, results)
    assert not inside.under_way(ex)


async def test_map_with_a_timeout_raises_and_stops_what_runs(ex, board):
    results = ex.map(f.obey, [board], timeout=0.2)
    with pytest.raises(TimeoutError):
        await aside(next, results)
    while inside.under_way(ex):
        await asyncio.sleep(0.001)


async def test_a_shutdown_closes_one_executor_alone(ex, sup, kind, board):
    other = sup.executor(kind)
    held = other.submit(f.hold, board)
    future = ex.submit(str, "mine")
    await aside(ex.shutdown)
    assert future.done()
    assert not held.done()
    with pytest.raises(SupervisorClosed):
        ex.submit(int)
    assert await aside(other.submit(int).result) == 0
    assert await sup.run(int, kind=kind) == 0
    board.post("release")
    assert await aside(held.result) == "value"


async def test_shutdown_with_cancel_futures_withdraws_what_waits_and_leaves_what_runs(ex, board):
    futures = [ex.submit(f.hold, board, n, f"entered {n}") for n in range(5)]
    for n in range(2):
        await board.posted(f"entered {n}")
    ex.shutdown(wait=False, cancel_futures=True)
    assert [future.cancelled() for future in futures] == [False, False, True, True, True]
    board.post("release")
    assert [await aside(future.result) for future in futures[:2]] == [0, 1]


async def test_on_the_loops_thread_a_shutdown_that_would_block_is_refused_but_closes(ex, board):
    future = ex.submit(f.hold, board)
    with pytest.raises(RuntimeError, match=r"shutdown\(wait=True\).*would block its event loop's own thread"):
        ex.shutdown()
    with pytest.raises(SupervisorClosed):
        ex.submit(int)
    board.post("release")
    assert await aside(future.result) == "value"
    ex.shutdown()


async def test_a_shutdown_of_the_supervisor_ends_its_calls_and_reports_them(kind, tmp_path):
    boards = {name: f.Board(tmp_path / name) for name in ("finishing", "obeying", "spinning")}
    for board in boards.values():
        board.path.mkdir()
    async with Supervisor(max_threads=2, max_processes=2, policy=PATIENT) as sup:
        ex, spinning = sup.executor(kind), sup.pool("spinning", kind=kind, size=1, policy=INJECTING).executor()
        futures = [
            ex.submit(f.obey_and_return, boards["finishing"]),
            ex.submit(f.obey, boards["obeying"]),
            spinning.submit(f.spinner, boards["spinning"]),
            ex.submit(int),
        ]
        for board in boards.values():
            await board.posted("entered")
    assert futures[0].result() == "value"
    ended = []
    for future in futures[1:]:
        with pytest.raises(WorkerStopped) as caught:
            future.result()
        ended.append(caught.value.outcome.ended)
    assert ended == ["stopped", "injected", "cancelled"]
    assert sup.report.counts() == {"stopped": 2, "injected": 1, "cancelled": 1}
    with pytest.raises(SupervisorClosed, match="has shut down"):
        ex.submit(int)


async def test_calls_that_race_with_a_shutdown_all_resolve(kind):
    rounds, pause = {"thread": (20, 0), "process": (1, 0.0001)}[kind]
    for _ in range(rounds):
        futures = []

        def submit_on(ex, futures=futures):
            try:
                while True:
                    futures.append(ex.submit(int))
                    if pause:
                        time.sleep(pause)
            except SupervisorClosed:
                return

        async with Supervisor(max_threads=2, max_processes=2) as sup:
            submitting = [asyncio.ensure_future(aside(submit_on, sup.executor(kind))) for _ in range(2)]
            while len(futures) < 20:
                await asyncio.sleep(0)
        await asyncio.gather(*submitting)
        assert not (await aside(wait, futures, f.LIMIT)).not_done
