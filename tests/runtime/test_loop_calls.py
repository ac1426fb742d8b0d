"""`ctx.call` in threads: which thread, which loop, what else runs there, and a KeyboardInterrupt at any line."""

import asyncio
import gc
import random
import sys
import threading
import time
from concurrent.futures import CancelledError
from contextlib import suppress

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import pytest
import uvloop

from supervisor import (
    Ask,
    EscalationPolicy,
    StopInjected,
    StopRequested,
    Supervisor,
    SupervisorClosed,
    WorkerExit,
    WorkerFailed,
    current_context,
)

from .. import inside
from ..waiting import turns, until
from .striking import strike_everywhere

PATIENT = EscalationPolicy(Ask(20))
LIMIT = 10


async def double(number):
    await asyncio.sleep(0)
    return number * 2


async def forever():
    await asyncio.sleep(3600)


def call(fn, *args, **options):
    return current_context().call(fn, *args, **options)


# ------------------------------------------------------------------------------------------------ threads and loops


async def test_the_loops_own_thread_is_refused_rather_than_blocked():
    async with Supervisor() as sup:
        contexts = []
        worker = await sup.start(lambda ctx: contexts.append(ctx) or ctx.stop.wait(), name="w")
        while not contexts:
            await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match=r"'w': call\(fn=double\) in the event loop's own thread would wait"):
            contexts[0].call(double, 1)
        await worker.stop()


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_calls_on_each_loop(factory):
    async def main():
        async with Supervisor(policy=PATIENT) as sup:
            assert await asyncio.gather(*(sup.run(call, double, n) for n in range(200))) == list(range(0, 400, 2))
            await sup.start(lambda ctx: ctx.call(forever))
        return sup.report

    with asyncio.Runner(loop_factory=factory) as runner:
        report = runner.run(main())
    assert report.counts() == {"stopped": 1}
    assert report.seconds < 5


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in 3.12")
async def test_with_eager_tasks():
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    async with Supervisor(policy=PATIENT) as sup:
        assert await sup.run(call, double, 4) == 8
        assert await sup.run(call, int, "5") == 5
        await sup.start(lambda ctx: ctx.call(forever))
        assert (await sup.shutdown()).seconds < 5


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in 3.12")
async def test_eager_tasks_call_once_what_has_the_inbox_read():
    """Were it called before its errand had a task, whoever reads the inbox would begin the errand again."""
    called = []

    async def halt(worker):
        called.append(worker.name)
        return (await worker.stop()).ended

    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    async with Supervisor(policy=PATIENT) as sup:
        idle = await sup.start(lambda ctx: ctx.stop.wait(), name="idle")
        assert await asyncio.wait_for(sup.run(call, halt, idle), LIMIT) == "stopped"
    assert called == ["idle"]


async def test_an_error_of_the_loops_task_factory_is_the_calls():
    loop = asyncio.get_running_loop()
    async with Supervisor() as sup:
        task = asyncio.ensure_future(sup.run(call, double, 4))

        def factory(*_, **__):
            raise ValueError("no tasks today")

        loop.set_task_factory(factory)
        try:
            while not task.done():
                await asyncio.sleep(0)
        finally:
            loop.set_task_factory(None)
        with pytest.raises(ValueError, match="no tasks today"):
            await task
        assert not inside.calls_open(sup)


def test_workers_of_a_closed_loop_hear_that_it_is_closed(monkeypatch):
    inside.patch(monkeypatch, LOOK_AGAIN=0.05)
    heard, begun, closed = [], threading.Event(), threading.Event()

    def waiting(ctx):
        try:
            ctx.call(forever)
        except SupervisorClosed as error:
            heard.append(str(error))

    def late(ctx):
        begun.set()
        closed.wait(LIMIT)
        try:
            ctx.call(double, 1)
        except SupervisorClosed as error:
            heard.append(str(error))

    async def main():
        sup = Supervisor()
        await sup.start(waiting, name="w")
        await sup.start(late, name="l")
        while not (inside.calls_open(sup) and begun.is_set()):
            await asyncio.sleep(0)
        return sup, [(task.get_coro(), task) for task in asyncio.all_tasks() if task.get_name() == "w/forever"]

    loop = asyncio.new_event_loop()
    sup, ((coroutine, task),) = loop.run_until_complete(main())
    loop.close()
    closed.set()
    until = time.monotonic() + LIMIT
    while len(heard) < 2:
        assert time.monotonic() < until
        time.sleep(0.001)
    assert sorted(heard) == [f"worker {name!r} cannot call its event loop, which is closed" for name in "lw"]
    task._log_destroy_pending = False
    coroutine.close()
    with pytest.warns(ResourceWarning, match="never shut down"):
        del sup


async def test_an_abandoned_worker_that_calls_late_is_stopped(leftovers):
    heard = []

    def work(ctx):
        leftovers.release.wait(LIMIT)
        for cleanup in (False, True):
            try:
                ctx.call(double, 1, cleanup=cleanup)
            except StopRequested as error:
                heard.append(type(error))

    async with Supervisor(policy=EscalationPolicy(Ask(0))) as sup:
        await sup.start(work)
        assert (await sup.shutdown()).abandoned
        leftovers.release.set()
        while sup.statistics().abandoned:
            await asyncio.sleep(0.001)
    assert heard == [StopRequested, StopRequested]


@pytest.mark.parametrize(
    ("error", "outcome"), [(SystemExit(3), WorkerExit), (KeyboardInterrupt(), WorkerFailed)], ids=["exit", "interrupt"]
)
def test_what_ends_a_loop_ends_it_from_a_call_too_and_is_raised_in_the_worker(error, outcome):
    async def leave():
        raise error

    sup = Supervisor()

    async def main():
        worker = await sup.start(lambda ctx: ctx.call(leave), name="w")
        workers.append(worker)
        await worker.wait()

    async def rest():
        result = await workers[0].wait()
        await sup.shutdown()
        return result

    workers = []
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        task = loop.create_task(main())
        with pytest.raises(type(error)):
            loop.run_until_complete(task)
        assert isinstance(loop.run_until_complete(rest()).error, outcome)
        loop.run_until_complete(task)


async def test_a_task_that_was_given_up_is_still_held():
    """An event loop holds its tasks weakly: one that waits for what nobody holds would be collected."""

    async def refuses():
        begun.set()
        while not over:
            try:
                await asyncio.Future()
            except asyncio.CancelledError:
                pass

    begun, over = asyncio.Event(), []
    async with Supervisor(policy=PATIENT) as sup:
        await sup.start(lambda ctx: ctx.call(refuses), name="w")
        await begun.wait()
        await sup.shutdown(timeout=0.2)
        gc.collect()
        (task,) = (task for task in asyncio.all_tasks() if task.get_name().startswith("w/"))
        over.append(True)
        task.cancel()
        await asyncio.wait([task])


async def test_a_group_waits_for_what_its_workers_have_called():
    log = []

    async def unwinds_slowly():
        begun.set()
        try:
            await asyncio.sleep(3600)
        finally:
            await unwind.wait()
            log.append("coroutine unwound")

    def leaves_a_helper(ctx):
        def helper():
            try:
                ctx.call(unwinds_slowly)
            except BaseException as error:
                log.append(type(error).__name__)

        threading.Thread(target=helper, daemon=True).start()
        entered.wait(LIMIT)

    begun, unwind, entered = asyncio.Event(), asyncio.Event(), threading.Event()
    async with Supervisor(policy=PATIENT) as sup:
        group = sup.group("g")
        worker = await group.start(leaves_a_helper)
        await begun.wait()
        entered.set()
        await worker.wait()
        closing = asyncio.create_task(group.shutdown())
        await turns()
        assert not closing.done()
        assert "coroutine unwound" not in log
        unwind.set()
        await closing
        assert "coroutine unwound" in log
        await sup.shutdown()
    await until(lambda: len(log) == 2)  # the helper has a thread of its own
    assert sorted(log) == ["CancelledError", "coroutine unwound"]


class Deaf:
    """What a worker calls, and what no cancellation ends."""

    def __init__(self):
        self.cancelled = 0
        self.entered, self.release = asyncio.Event(), asyncio.Event()

    async def __call__(self):
        self.entered.set()
        while not self.release.is_set():
            try:
                await self.release.wait()
            except asyncio.CancelledError:
                self.cancelled += 1


@pytest.mark.parametrize("shortened", [False, True])
def test_a_call_that_does_not_end_holds_up_no_shutdown_of_a_group(virtual, monkeypatch, shortened):
    inside.patch(monkeypatch, LEFT_GRACE=600.0)

    async def main(time):
        deaf = Deaf()
        async with Supervisor(policy=EscalationPolicy(Ask(10)), shutdown_timeout=600) as sup:
            group = sup.group("g")
            await group.start(lambda ctx: ctx.call(deaf))
            await deaf.entered.wait()
            closing = asyncio.ensure_future(group.shutdown(timeout=30 if shortened else 2))
            await time.advance(6 if shortened else 1.1)  # half of its grace, and what it has called is left alone
            await until(lambda: not sup.statistics().workers)
            assert not closing.done()
            if shortened:
                closing = asyncio.ensure_future(group.shutdown(timeout=2))
            await time.advance(2)
            report = await asyncio.wait_for(closing, LIMIT)
            assert report.counts() == {"stopped": 1}
            assert deaf.cancelled == 1
            deaf.release.set()
            while asyncio.all_tasks() - {asyncio.current_task()}:
                await asyncio.sleep(0)

    virtual(main)


async def test_what_a_worker_of_a_group_has_left_keeps_to_the_groups_deadline(monkeypatch):
    """It is the group's shutdown that hastens it, not the end of the worker."""
    inside.patch(monkeypatch, LEFT_GRACE=600.0)
    deaf = Deaf()

    def leaves_a_helper(ctx):
        def helper():
            with suppress(CancelledError):
                ctx.call(deaf)

        threading.Thread(target=helper, daemon=True).start()
        entered.wait(LIMIT)

    entered = threading.Event()
    async with Supervisor(policy=PATIENT) as sup:
        group = sup.group("g")
        worker = await group.start(leaves_a_helper)
        await deaf.entered.wait()
        entered.set()
        await worker.wait()
        await asyncio.wait_for(group.shutdown(timeout=0.1), LIMIT)
        deaf.release.set()
        while asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.sleep(0)


# ------------------------------------------------------------------------------------------------ anyio


async def test_anyio_works_inside_what_is_called():
    """Task groups, timeouts, and its own threads, from which it gets back to the loop."""

    async def inner():
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 0)
        with anyio.move_on_after(0.01) as scope:
            await anyio.sleep_forever()
        assert scope.cancelled_caught
        return await anyio.to_thread.run_sync(anyio.from_thread.run, double, 21)

    async with Supervisor() as sup:
        assert await sup.run(call, inner) == 42


async def test_what_anyio_offers_to_threads_in_a_worker():
    """By itself it knows only its own threads; with a portal, or a token, it works in any."""

    def by_itself():
        for function in (lambda: anyio.from_thread.run(double, 1), anyio.from_thread.check_cancelled):
            with pytest.raises(RuntimeError):
                function()

    async with Supervisor() as sup, anyio.from_thread.BlockingPortal() as portal:
        await sup.run(by_itself)
        assert await sup.run(portal.call, double, 21) == 42


@pytest.mark.skipif(not hasattr(anyio.lowlevel, "EventLoopToken"), reason="tokens for it are new in anyio 4.11")
async def test_anyio_runs_from_a_worker_with_a_token():
    token = anyio.lowlevel.current_token()
    async with Supervisor() as sup:
        assert await sup.run(lambda: anyio.from_thread.run(double, 21, token=token)) == 42
        assert await sup.run(lambda: anyio.from_thread.run_sync(int, "5", token=token)) == 5


# ------------------------------------------------------------------------------------------------ attacks


@pytest.mark.parametrize("seconds", [1.5, pytest.param(60, marks=pytest.mark.slow)])
async def test_calls_in_a_storm_of_injections(seconds):
    """Workers call in a loop while threads inject into them without a pause: none mixes results, hangs or dies."""
    sys.settrace(None)
    over, wrong, calls, hits = threading.Event(), [], [0] * 4, [0] * 4

    def work(ctx, which):
        number = which
        while not over.is_set():
            try:
                while not over.is_set():
                    number += 4
                    got = ctx.call(double, number)
                    if got != number * 2:
                        wrong.append((number, got))
                    calls[which] += 1
            except StopInjected:
                hits[which] += 1

    def guarded(ctx, which):
        while True:
            try:
                work(ctx, which)
                with ctx.shield():
                    return which
            except StopInjected:
                pass

    def inject(gates):
        choose = random.Random(7)
        while not over.is_set():
            choose.choice(gates).inject()
            time.sleep(choose.random() * 2e-4)

    interval = sys.getswitchinterval()
    async with Supervisor(policy=PATIENT) as sup:
        workers = [await sup.start(guarded, which) for which in range(4)]
        gates = inside.gates(sup)
        injectors = [threading.Thread(target=inject, args=(gates,)) for _ in range(2)]
        sys.setswitchinterval(1e-6)
        try:
            for injector in injectors:
                injector.start()
            await asyncio.sleep(seconds)
            while min(*calls, *hits) <= 20:  # the machine is busy
                await asyncio.sleep(0.01)
        finally:
            over.set()
            sys.setswitchinterval(interval)
        for injector in injectors:
            injector.join(LIMIT)
        async with asyncio.timeout(LIMIT):
            outcomes = [await worker.wait() for worker in workers]
    assert not wrong
    assert {outcome.ended for outcome in outcomes} <= {"returned", "failed"}  # the very last may strike anywhere
    assert not inside.calls_open(sup)
    assert not inside.tasks_of_calls(sup)


async def workers_call(striker):
    """Calls come in, end, and are stopped, while the loop is struck."""
    sup = Supervisor(policy=EscalationPolicy(Ask(2 * LIMIT)))
    go, entered = threading.Event(), threading.Semaphore(0)

    def work(ctx):
        entered.release()
        go.wait(LIMIT)
        return [ctx.call(double, n) for n in range(3)]

    async def waits():
        begun.append(1)
        await asyncio.sleep(3600)

    begun = []
    workers = [await sup.start(work) for _ in range(2)]
    waiter = await sup.start(lambda ctx: ctx.call(waits))
    while not begun:
        await asyncio.sleep(0)
    for _ in range(2):
        entered.acquire()
    sys.settrace(striker.trace)
    go.set()
    ends = [asyncio.create_task(worker.wait()) for worker in workers]
    done, pending = await asyncio.wait(ends, timeout=LIMIT)
    stopping = asyncio.create_task(waiter.stop())
    await asyncio.wait([stopping], timeout=0.1)
    sys.settrace(None)
    assert not pending, f"struck in {striker.struck}: {len(pending)} calls were never answered"
    assert [end.result().value for end in ends] == [[0, 2, 4]] * 2
    report = await asyncio.wait_for(sup.shutdown(), LIMIT)
    assert report.clean, f"struck in {striker.struck}"
    await asyncio.wait([stopping])
    stopping.exception()  # it may have been struck itself
    assert not inside.calls_open(sup)
    return len(done)


@pytest.mark.timeout(240)
def test_an_interrupt_at_any_line_leaves_no_call_unanswered():
    strike_everywhere(workers_call, inside.WHEN_WORKERS_CALL)
