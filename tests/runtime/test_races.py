"""What meets at an unlucky moment; each moment is made, by threads that stand still at a line."""

import asyncio
import logging
import sys
import threading
import time

import pytest
import structlog

from supervisor import Supervisor, SupervisorClosed

from .. import inside
from ..stepper import Halt, Stepper
from ..waiting import LIMIT, turns, until
from .files import wait_for, wait_for_file

pytestmark = pytest.mark.skipif(sys.version_info < (3, 12), reason="with a tracer active, 3.11 injects nothing")


async def test_a_call_that_ends_while_the_shutdown_looks_for_calls_holds_it_up_no_longer():
    """It is over, so that nobody waits for it, and still listed, so that the shutdown has not ended."""
    with Halt(inside.NOTES_AN_UNSEEN_END) as halt:
        sup = Supervisor()
        async with sup:
            future = sup.executor().submit(int)
            await asyncio.to_thread(halt.stands.wait, LIMIT)
            shutting = asyncio.create_task(sup.shutdown())
            await until(lambda: sup.statistics().stopping)
            await turns()
            halt.go.set()
            assert (await asyncio.wait_for(shutting, LIMIT)).clean
    assert future.result(LIMIT) == 0


@pytest.mark.parametrize("how", ["call", "executor"])
@pytest.mark.parametrize("kind", ["thread", "process"])
@pytest.mark.parametrize(("scope", "begins"), [("supervisor", "stopping"), ("pool", "pool_stopping")])
async def test_a_shutdown_waits_no_longer_for_a_call_that_ends_as_it_begins(scope, begins, kind, how, tmp_path):
    """Its end comes after the shutdown has caught up with what has ended, and before it stops the call."""
    entered, go = tmp_path / "entered", tmp_path / "go"
    has_ended = inside.has_returned if kind == "thread" else inside.has_spoken

    def ends_now(logger, method, event):
        if event["event"] == f"supervisor.{begins}":
            go.touch()
            wait_for(lambda: has_ended(run))
        raise structlog.DropEvent

    # Nobody watches the call: neither a log with each start and end, nor one who has its handle.
    structlog.configure(processors=[ends_now], wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    async with Supervisor(shutdown_timeout=LIMIT) as sup:
        pool = sup.pool("lane", kind=kind, size=1)
        if how == "call":
            call = asyncio.ensure_future(sup.run(wait_for_file, entered, go, pool=pool))
        else:
            call = asyncio.wrap_future(sup.executor(pool=pool).submit(wait_for_file, entered, go))
        await until(entered.exists)
        (run,) = inside.runs(sup)
        if kind == "process":
            await until(lambda: not inside.has_spoken(run))  # it is heard to have entered the function
        report = await (sup if scope == "supervisor" else pool).shutdown()
        assert await call == "ended by itself"
    assert report.clean
    assert report.seconds < LIMIT / 2


@pytest.mark.parametrize("kind", ["thread", "process"])
async def test_a_call_that_comes_too_late_is_taken_back_and_holds_nothing_up(kind):
    entered, go = threading.Event(), threading.Event()
    sup = Supervisor(max_processes=1)
    async with sup:
        busy = asyncio.create_task(sup.run(lambda: entered.set() or go.wait()))
        await until(entered.is_set)
        executor = sup.executor(kind)
        late = await asyncio.to_thread(Stepper, lambda: executor.submit(int), inside.LISTS_A_CALL)
        await asyncio.to_thread(late.until, inside.LISTS_A_CALL)
        shutting = asyncio.create_task(sup.shutdown())
        await until(lambda: sup.statistics().stopping)
        await asyncio.to_thread(late.until, inside.LOOKS_FOR_A_SHUTDOWN)
        (worker,) = (worker for worker in sup.workers() if worker.name.startswith("int"))
        go.set()
        await busy
        await asyncio.to_thread(late.finish)
        assert isinstance(late.error, SupervisorClosed)
        report = await asyncio.wait_for(shutting, LIMIT)
        assert (await asyncio.wait_for(worker.wait(), LIMIT)).ended == "cancelled"
    assert report.counts() == {"stopped": 1}


async def test_a_call_that_is_given_up_as_a_thread_takes_it_does_not_end_the_thread():
    with Halt(inside.TAKES_A_RUN) as halt:
        async with Supervisor(max_threads=1) as sup:
            call = asyncio.create_task(sup.run(time.sleep, 0.01))
            await asyncio.to_thread(halt.stands.wait, LIMIT)
            report = await sup.shutdown(timeout=0)
            assert report.counts() == {"abandoned": 1}
            await asyncio.wait([call])
            call.exception()
            halt.go.set()
            await until(lambda: not sup.statistics().abandoned)


async def test_a_done_callback_may_wait_for_another_call_of_its_executor():
    """Its thread is not free meanwhile, though its call has ended."""
    values = []
    async with Supervisor(max_threads=2) as sup:
        executor, go = sup.executor(), threading.Event()
        first = executor.submit(go.wait)
        first.add_done_callback(lambda _: values.append(executor.submit(int, "7").result(LIMIT)))
        go.set()
        await until(lambda: values)
    assert values == [7]


async def test_an_interrupt_of_who_posts_leaves_the_loop_to_be_woken():
    seen = []
    inbox = inside.StruckInbox(asyncio.get_running_loop(), seen.append)
    with pytest.raises(KeyboardInterrupt):
        inbox.post(1)
    inbox.post(2)
    await until(lambda: len(seen) == 2)
    inbox.close()
