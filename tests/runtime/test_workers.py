"""`await sup.start(fn)`: workers of their own, and the handle."""

import asyncio
import sys
import threading

import pytest

from supervisor import Ask, EscalationPolicy, Supervisor, SupervisorClosed, WorkerStopped

from .. import inside
from ..waiting import LIMIT, until


def wait_for_stop(ctx):
    return ctx.stop.wait()


async def test_a_worker_has_a_daemon_thread_that_bears_its_name():
    async with Supervisor() as sup:
        worker = await sup.start(wait_for_stop, name="w")
        (thread,) = (thread for thread in threading.enumerate() if thread.ident == worker.ident)
        assert thread.daemon
        assert thread.name == "supervisor/w"


async def test_cancelling_start_climbs_the_ladder(monkeypatch):
    """The thread is held back before it enters the function, so the start is really under way."""
    hold, begun, ran = threading.Event(), threading.Event(), []
    original = threading.Thread.run

    def held_run(thread):
        if thread.name == "supervisor/slow":
            begun.set()
            hold.wait(10)
        original(thread)

    monkeypatch.setattr(threading.Thread, "run", held_run)
    async with Supervisor() as sup:
        starting = asyncio.create_task(sup.start(ran.append, name="slow"))
        while not begun.is_set():
            await asyncio.sleep(0)
        (worker,) = sup.workers()
        assert worker.state == "starting"
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert worker.outcome is not None
        assert worker.outcome.ended == "cancelled"
        hold.set()
    assert ran == []


async def test_a_worker_that_is_stopped_before_it_was_entered_makes_start_raise(monkeypatch):
    hold, begun = threading.Event(), threading.Event()
    original = threading.Thread.run

    def held_run(thread):
        if thread.name == "supervisor/slow":
            begun.set()
            hold.wait(10)
        original(thread)

    monkeypatch.setattr(threading.Thread, "run", held_run)
    async with Supervisor() as sup:
        starting = asyncio.create_task(sup.start(wait_for_stop, name="slow"))
        await until(begun.is_set)
        await sup.workers()[0].stop()
        with pytest.raises(WorkerStopped, match="had not started"):
            await starting
        hold.set()


async def test_a_system_without_threads_makes_start_and_run_raise(monkeypatch):
    def no_more(thread):
        raise RuntimeError("can't start new thread")

    async with Supervisor() as sup:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", no_more)
            with pytest.raises(RuntimeError, match="new thread"):
                await sup.start(wait_for_stop)
            with pytest.raises(RuntimeError, match="new thread"):
                await sup.run(int)
        assert sup.workers() == ()
        assert await sup.run(int, "5") == 5
        assert (await (await sup.start(wait_for_stop)).stop()).ended == "stopped"


async def test_a_stack_without_python_code_names_the_function():
    async with Supervisor(policy=EscalationPolicy(Ask(0))) as sup:
        lock = threading.Lock()
        with lock:
            calling = asyncio.create_task(sup.run(lock.acquire, name="w"))
            await until(lambda: sup.stacks() == {"w": "  in lock.acquire(), which is no Python code\n"})
        await calling


async def test_a_thousand_workers():
    async with Supervisor(policy=EscalationPolicy(Ask(LIMIT))) as sup:
        workers = await asyncio.gather(*(sup.start(wait_for_stop) for _ in range(1000)))
        assert len(sup.workers()) == 1000
        report = await sup.shutdown()
    assert report.counts() == {"stopped": 1000}
    assert all(worker.outcome for worker in workers)


async def test_sys_exit_in_a_thread_of_the_pool_ends_no_thread():
    async with Supervisor(max_threads=1) as sup:
        for _ in range(5):
            assert await sup.run(sys.exit) is None
        assert await sup.run(int, "5") == 5


async def test_a_supervisor_is_entered_once():
    async with Supervisor() as sup:
        with pytest.raises(RuntimeError, match="entered already"):
            async with sup:
                pass
        assert await sup.run(int, "5") == 5


def test_in_a_worker_without_a_loop_the_error_says_how_to_get_there():
    async def main():
        async with Supervisor() as sup:

            def work():
                call = sup.run(int)
                try:
                    call.send(None)
                except RuntimeError as error:
                    return str(error)

            return await sup.run(work)

    assert "run_coroutine_threadsafe" in asyncio.run(main())


async def test_the_repr_says_where_it_is_in_its_life():
    sup = Supervisor("app")
    assert repr(sup) == "<Supervisor 'app': not used yet>"
    worker = await sup.start(lambda ctx: ctx.stop.wait(), name="w")
    assert repr(sup) == "<Supervisor 'app': running, 1 workers>"
    assert repr(worker) == "<Worker 'w' on a thread: running>"
    assert "<Run 'w' running>" in repr(inside.runs(sup))
    closing = asyncio.create_task(sup.shutdown())
    await asyncio.sleep(0)
    assert repr(sup) == "<Supervisor 'app': shutting down, 1 workers>"
    await closing
    assert repr(sup) == "<Supervisor 'app': shut down>"
    assert repr(worker) == "<Worker 'w' on a thread: stopped>"


async def test_many_that_are_started_at_once_hold_the_loop_for_a_turn_at_most(monkeypatch):
    """The loop comes round in between, however long each start takes; they start in their order."""
    turns, now = [0], [0.0]
    monkeypatch.setattr(inside.pace, "monotonic", lambda: now[0])

    def tick():
        turns.append(0)
        ticking.append(asyncio.get_running_loop().call_soon(tick))

    enlist, ticking = inside.names.Names.name_worker, []

    def slow(names, node):
        now[0] += 0.001
        turns[-1] += 1
        enlist(names, node)

    monkeypatch.setattr(inside.names.Names, "name_worker", slow)
    async with Supervisor() as sup:
        tick()
        workers = await asyncio.gather(*(sup.start(wait_for_stop) for _ in range(200)))
        ticking[-1].cancel()
        assert max(turns) <= inside.Pace.LEAST
        assert [worker.name for worker in workers] == sorted((worker.name for worker in workers), key=number_in)


async def test_a_start_that_is_cancelled_while_it_waits_for_its_turn_starts_nothing(monkeypatch):
    monkeypatch.setattr(inside.Pace, "LEAST", 1)
    inside.patch(monkeypatch, TURN=0.0)
    async with Supervisor() as sup:
        starting = [asyncio.create_task(sup.start(wait_for_stop, name=f"w{n}")) for n in range(3)]
        await asyncio.sleep(0)
        assert len(sup.workers()) == 1
        starting[1].cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting[1]
        assert [(await starting[n]).name for n in (0, 2)] == ["w0", "w2"]
        assert len(sup.workers()) == 2
    assert sup.report.counts() == {"stopped": 2}


async def test_a_shutdown_refuses_those_that_wait_for_their_turn(monkeypatch):
    monkeypatch.setattr(inside.Pace, "LEAST", 1)
    inside.patch(monkeypatch, TURN=0.0)
    async with Supervisor() as sup:
        starting = [asyncio.create_task(sup.start(wait_for_stop)) for _ in range(3)]
        await asyncio.sleep(0)
        sup.request_shutdown()
        await asyncio.wait(starting)
    assert [type(task.exception()) for task in starting[1:]] == [SupervisorClosed] * 2
    assert sup.report.counts() in ({"stopped": 1}, {"cancelled": 1})


def test_a_stop_takes_no_turn_of_the_loop_for_waking_where_nobody_waits():
    """A worker that spins, or waits for something else, is asked, injected into and heard without it."""

    class Loop:
        def __init__(self):
            self.due = []

        def call_soon(self, callback, *args, context):
            self.due.append(callback)

    loop, chain = Loop(), inside.Chain()
    wakeups = inside.WakeUps(loop, chain, lambda: False)
    wakeups.announce()
    assert not loop.due
    waiter = threading.Lock()
    waiter.acquire()
    chain.add(waiter)
    wakeups.announce()
    (wake,) = loop.due
    wake()
    assert not waiter.locked()


def number_in(name):
    return int(name.rpartition("-")[2])
