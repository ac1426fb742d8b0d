"""`await sup.start(fn)`: workers of their own, and the handle."""

import asyncio
import sys
import threading
import time

import pytest

from supervisor import Ask, EscalationPolicy, Inject, Supervisor, WorkerFailed, WorkerStopped

from ..waiting import refused_elsewhere


def wait_for_stop(ctx):
    return ctx.stop.wait()


async def test_start_returns_when_the_function_has_been_entered():
    entered = threading.Event()

    def work(ctx):
        entered.set()
        return ctx.stop.wait()

    async with Supervisor() as sup:
        worker = await sup.start(work, name="w")
        assert entered.wait(1)
        assert (worker.name, worker.kind, worker.state, worker.attempt) == ("w", "thread", "running", 1)
        assert worker.outcome is None
        assert sup.workers() == (worker,)
        (thread,) = (thread for thread in threading.enumerate() if thread.ident == worker.ident)
        assert thread.daemon
        assert thread.name == "supervisor/w"
    assert worker.state == "ended"
    assert worker.ident is None
    assert worker.outcome is not None
    assert worker.outcome.ended == "stopped"


async def test_workers_have_threads_of_their_own():
    async with Supervisor(max_threads=1) as sup:
        for _ in range(5):
            await sup.start(wait_for_stop)
        assert await sup.run(int, "5") == 5


async def test_a_worker_that_ends_at_once_is_still_returned():
    async with Supervisor() as sup:
        worker = await sup.start(lambda ctx, a, b: a + b, 2, 3)
        outcome = await worker.wait()
    assert (outcome.ended, outcome.value, outcome.step, outcome.stop_seconds) == ("returned", 5, None, 0.0)


@pytest.mark.parametrize(
    ("error", "kept"), [(ValueError("x"), ValueError), (KeyboardInterrupt(), WorkerFailed), (SystemExit(0), type(None))]
)
async def test_an_error_is_in_the_outcome_and_touches_nobody_else(error, kept):
    def work(ctx):
        raise error

    async with Supervisor() as sup:
        other = await sup.start(wait_for_stop)
        worker = await sup.start(work)
        outcome = await worker.wait()
        assert isinstance(outcome.error, kept)
        assert outcome.ended == ("failed" if outcome.error else "returned")
        assert other.state == "running"


async def test_cancelling_wait_stops_only_the_waiting():
    async with Supervisor() as sup:
        worker = await sup.start(wait_for_stop)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(worker.wait(), 0.01)
        assert worker.state == "running"
        waiting = [asyncio.create_task(worker.wait()) for _ in range(3)]
        await asyncio.sleep(0)
        await worker.stop()
        assert len({id(await task) for task in waiting}) == 1


async def test_stop_can_be_called_by_many_and_again():
    async with Supervisor() as sup:
        worker = await sup.start(wait_for_stop)
        outcomes = await asyncio.gather(*(worker.stop(f"caller {n}") for n in range(20)))
        assert len({id(outcome) for outcome in outcomes}) == 1
        assert await worker.stop() is outcomes[0]
        assert worker.outcome is outcomes[0]


async def test_a_cancelled_stop_goes_on_to_the_end():
    release = threading.Event()

    def slow_to_obey(ctx):
        ctx.stop.wait()
        release.wait(10)

    async with Supervisor() as sup:
        worker = await sup.start(slow_to_obey)
        stopping = asyncio.create_task(worker.stop())
        for _ in range(5):
            await asyncio.sleep(0.005)
            stopping.cancel()
        await asyncio.sleep(0.01)
        assert not stopping.done()
        release.set()
        with pytest.raises(asyncio.CancelledError):
            await stopping
        assert worker.state == "ended"


async def test_the_reason_reaches_the_worker_and_the_first_one_stays():
    reasons = []

    def work(ctx):
        ctx.stop.wait()
        time.sleep(0.02)
        reasons.append(ctx.reason)

    async with Supervisor() as sup:
        worker = await sup.start(work)
        first = asyncio.create_task(worker.stop("first"))
        await asyncio.sleep(0)
        await worker.stop("second")
        await first
        await (await sup.start(work)).stop()
        await sup.start(work)
        await sup.shutdown(reason="deploy")
        assert reasons == ["first", "stop", "deploy"]


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
    hold = threading.Event()
    original = threading.Thread.run

    def held_run(thread):
        if thread.name == "supervisor/slow":
            hold.wait(10)
        original(thread)

    monkeypatch.setattr(threading.Thread, "run", held_run)
    async with Supervisor() as sup:
        starting = asyncio.create_task(sup.start(wait_for_stop, name="slow"))
        await asyncio.sleep(0.01)
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


async def test_where_it_stands_can_be_seen_from_any_thread():
    def waits_here(ctx):
        there.set()
        ctx.stop.wait()

    there, seen = threading.Event(), []
    async with Supervisor() as sup:
        worker = await sup.start(waits_here, name="w")
        while not there.is_set():
            await asyncio.sleep(0)

        def look():
            seen.extend([sup.stacks(), worker.stack(), [worker.name for worker in sup.workers()]])

        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        stacks, stack, names = seen
        assert "in waits_here" in stack
        assert "threads/gate.py" not in stack
        assert list(stacks) == names == ["w"]
    assert worker.stack() == ""
    assert sup.stacks() == {}


async def test_workers_are_listed_the_oldest_first_calls_included():
    async with Supervisor() as sup:
        release = threading.Event()
        first = await sup.start(wait_for_stop, name="first")
        second = asyncio.create_task(sup.run(release.wait, 10, name="second"))
        await asyncio.sleep(0.01)
        await sup.start(wait_for_stop, name="third")
        workers = sup.workers()
        assert [worker.name for worker in workers] == ["first", "second", "third"]
        assert workers[0] is first
        assert sup.workers() == workers  # the same handles
        release.set()
        await second
        assert workers[1].outcome is not None
        assert workers[1].outcome.value is True
        assert [worker.name for worker in sup.workers()] == ["first", "third"]


async def test_a_stack_without_python_code_names_the_function():
    async with Supervisor(policy=EscalationPolicy(Ask(0))) as sup:
        calling = asyncio.create_task(sup.run(time.sleep, 0.2, name="w"))
        await asyncio.sleep(0.05)
        assert sup.stacks() == {"w": "  in sleep(), which is no Python code\n"}
        await calling


async def test_a_thousand_workers():
    async with Supervisor() as sup:
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


async def test_an_injected_worker_unwinds():
    unwound = []

    def spin():
        while True:
            pass

    def work(ctx):
        try:
            spin()
        except Exception:
            unwound.append("eaten")
        finally:
            unwound.append("finally")

    async with Supervisor(policy=EscalationPolicy(Ask(0.01), Inject(5))) as sup:
        outcome = await (await sup.start(work)).stop()
    assert (outcome.ended, outcome.error, unwound) == ("injected", None, ["finally"])


async def test_a_value_computed_as_the_exception_was_on_its_way_is_kept():
    """It swallows what is injected and returns: the value counts, and so does the step."""

    def spin():
        while True:
            pass

    def work(ctx):
        try:
            spin()
        except BaseException:
            return "saved"

    async with Supervisor(policy=EscalationPolicy(Ask(0.01), Inject(5))) as sup:
        outcome = await (await sup.start(work)).stop()
    assert (outcome.ended, outcome.value) == ("injected", "saved")


async def test_a_handle_belongs_to_its_supervisors_loop():
    async with Supervisor() as sup:
        worker = await sup.start(wait_for_stop, name="w")
        errors = await refused_elsewhere(worker.wait, worker.stop)
        assert worker.state == "running"
    assert len(errors) == 2
    assert all("'w' belongs to another event loop" in error for error in errors)


async def test_a_generator_function_is_refused_as_a_worker():
    def poll(ctx):
        yield

    async with Supervisor() as sup:
        with pytest.raises(TypeError, match=r"poll\): is a generator function"):
            await sup.start(poll)


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
