"""`await sup.run(fn)`: how a call ends, one promise at a time."""

import asyncio
import contextvars
import functools
import threading

import pytest

from supervisor import (
    Ask,
    EscalationPolicy,
    Inject,
    StopRequested,
    Supervisor,
    SupervisorBusy,
    SupervisorClosed,
    WorkerExit,
    WorkerFailed,
    WorkerStopped,
    WorkerTimeout,
    current_context,
)

from .. import inside

BRIEF = EscalationPolicy(Ask(0.05))


class Stop(BaseException):
    pass


def fail(error):
    raise error


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


async def test_the_value_is_returned():
    async with Supervisor() as sup:
        assert await sup.run(divmod, 17, 5) == (3, 2)
        assert await sup.run(functools.partial(int, "ff", base=16)) == 255


async def test_an_error_comes_as_it_is():
    error = ValueError("mine")
    async with Supervisor() as sup:
        with pytest.raises(ValueError, match="mine") as caught:
            await sup.run(fail, error)
    assert caught.value is error
    assert not [entry for entry in caught.traceback if "_gate" in str(entry.path)]


async def test_stop_iteration_comes_as_runtime_error():
    async with Supervisor() as sup:
        with pytest.raises(RuntimeError, match="StopIteration") as caught:
            await sup.run(next, iter([]))
    assert isinstance(caught.value.__cause__, StopIteration)


@pytest.mark.parametrize("code", [0, None])
async def test_a_successful_exit_is_a_return_of_none(code):
    async with Supervisor() as sup:
        assert await sup.run(fail, SystemExit(code)) is None


@pytest.mark.parametrize("code", [1, 255, "message"])
async def test_another_exit_is_a_worker_exit(code):
    async with Supervisor() as sup:
        with pytest.raises(WorkerExit) as caught:
            await sup.run(fail, SystemExit(code), name="leaver")
    assert (caught.value.worker, caught.value.code) == ("leaver", code)


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), GeneratorExit(), Stop(), asyncio.CancelledError(), StopRequested()]
)
async def test_no_base_exception_reaches_the_loop(error):
    async with Supervisor() as sup:
        with pytest.raises(WorkerFailed) as caught:
            await sup.run(fail, error)
        assert await sup.run(int, "5") == 5
    assert caught.value.error is error
    assert caught.value.__cause__ is error


async def test_the_callers_context_variables_are_visible():
    request = contextvars.ContextVar("request", default="none")
    request.set("r-1")
    async with Supervisor() as sup:
        assert await sup.run(request.get) == "r-1"
        worker = await sup.start(lambda ctx: request.get())
        assert (await worker.wait()).value == "r-1"


async def test_the_context_is_there_inside_and_nowhere_else():
    def within():
        ctx = current_context()
        assert current_context() is ctx
        helper = []

        def other_thread():
            try:
                current_context()
            except LookupError as error:
                helper.append(error)

        thread = threading.Thread(target=other_thread)
        thread.start()
        thread.join()
        return ctx.name, ctx.kind, ctx.attempt, ctx.reason, len(helper)

    async with Supervisor() as sup:
        assert await sup.run(within, name="me") == ("me", "thread", 1, None, 1)
        with pytest.raises(LookupError):
            current_context()


async def test_a_timeout_ends_in_worker_timeout_when_the_work_has_ended(entered, release):
    async with Supervisor() as sup:
        task = await held(sup, entered=entered, release=release, timeout=0.05)
        ctx = sup.workers()[0]
        await asyncio.sleep(0.1)
        assert ctx.state == "stopping"
        assert not task.done()  # never left behind
        release.set()
        with pytest.raises(WorkerTimeout) as caught:
            await task
    outcome = caught.value.outcome
    assert (outcome.ended, outcome.value, outcome.step) == ("stopped", "value", "ask")
    assert isinstance(caught.value, TimeoutError)


async def test_an_error_after_the_timeout_is_the_cause():
    def obey():
        ctx = current_context()
        ctx.stop.wait(10)
        raise ValueError(ctx.reason)

    async with Supervisor() as sup:
        with pytest.raises(WorkerTimeout) as caught:
            await sup.run(obey, timeout=0.01)
    assert isinstance(caught.value.__cause__, ValueError)
    assert str(caught.value.__cause__) == "timeout"
    assert caught.value.outcome.error is caught.value.__cause__


async def test_a_timeout_counts_the_queue_and_a_queued_call_never_starts(entered, release):
    started = []
    async with Supervisor(max_threads=1) as sup:
        first = await held(sup, entered=entered, release=release)
        with pytest.raises(WorkerTimeout) as caught:
            await sup.run(started.append, 1, timeout=0.02)
        assert caught.value.outcome.ended == "cancelled"
        release.set()
        assert await first == "value"
        await sup.run(int)
    assert started == []


async def test_a_timeout_of_zero_never_starts_anything():
    async with Supervisor(max_threads=1) as sup:
        with pytest.raises(WorkerTimeout):
            await sup.run(current_context, timeout=0)


async def test_a_timeout_that_is_not_reached_leaves_no_trace():
    async with Supervisor() as sup:
        for _ in range(300):
            assert await sup.run(int, "5", timeout=1000) == 5
        assert inside.alarms_set(sup) < 200


async def test_a_cancellation_waits_for_the_end_of_the_work(entered, release):
    async with Supervisor() as sup:
        task = await held(sup, entered=entered, release=release)
        for _ in range(3):
            task.cancel("client left")
            await asyncio.sleep(0.01)
            assert not task.done()
        assert sup.workers()[0].state == "stopping"
        release.set()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
    assert caught.value.args == ("client left",)


async def test_a_cancelled_queued_call_never_starts(entered, release):
    started = []
    async with Supervisor(max_threads=1) as sup:
        first = await held(sup, entered=entered, release=release)
        queued = asyncio.create_task(sup.run(started.append, 1))
        await asyncio.sleep(0)
        queued.cancel()
        with pytest.raises(asyncio.CancelledError):
            await queued
        release.set()
        await first
        await sup.run(int)
    assert started == []


async def test_by_default_a_cancelled_call_is_not_injected(events, leftovers):
    """A client that disconnects must not have an exception thrown into a pool of a service that lives on."""
    async with Supervisor() as sup:
        task = asyncio.create_task(sup.run(leftovers.block))
        await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert [step.name for step in inside.steps_of(inside.runs(sup)[0])] == ["ask"]
        leftovers.release.set()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert "inject" not in [event.get("step") for event in events]


@pytest.mark.parametrize("named", ["supervisor", "call"])
async def test_a_policy_that_the_user_names_is_followed_as_it_stands(named):
    policy = EscalationPolicy(Ask(0.02), Inject(5, every=0.02))
    unwound = []

    def spin():
        while True:
            pass

    def work():
        try:
            spin()
        finally:
            unwound.append(True)

    async with Supervisor(policy=policy if named == "supervisor" else None) as sup:
        with pytest.raises(WorkerTimeout) as caught:
            await sup.run(work, timeout=0.02, policy=policy if named == "call" else None)
    assert caught.value.outcome.ended == "injected"
    assert unwound == [True]


async def test_abandoned_work_is_reported_not_left_behind_in_silence(leftovers):
    async with Supervisor() as sup:
        with pytest.raises(WorkerTimeout) as caught:
            await sup.run(leftovers.block, timeout=0.01, policy=BRIEF, name="stuck")
        outcome = caught.value.outcome
        assert (outcome.ended, outcome.step) == ("abandoned", "ask")
        assert outcome.stack is not None
        assert "in block" in outcome.stack
        assert sup.workers() == ()
        assert await sup.run(int, "5") == 5


async def test_under_stop_a_value_is_delivered(entered, release):
    async with Supervisor() as sup:
        task = await held(sup, entered=entered, release=release)
        stopping = asyncio.create_task(sup.workers()[0].stop("because"))
        await asyncio.sleep(0.01)
        release.set()
        assert await task == "value"
        assert (await stopping).ended == "stopped"


async def test_under_stop_any_other_end_is_worker_stopped():
    def obey():
        current_context().sleep(10)

    def fail_when_asked():
        ctx = current_context()
        ctx.stop.wait(10)
        raise ValueError(ctx.reason)

    async with Supervisor() as sup:
        for fn, cause in ((obey, type(None)), (fail_when_asked, ValueError)):
            task = asyncio.create_task(sup.run(fn))
            while not (workers := sup.workers()) or workers[0].state != "running":
                await asyncio.sleep(0)
            outcome = await workers[0].stop("because")
            with pytest.raises(WorkerStopped) as caught:
                await task
            assert not isinstance(caught.value, WorkerTimeout)
            assert caught.value.outcome == outcome
            assert isinstance(caught.value.__cause__, cause)


async def test_the_first_cause_wins(entered, release):
    async with Supervisor() as sup:
        task = await held(sup, entered=entered, release=release, timeout=0.02)
        await asyncio.sleep(0.05)
        stopping = asyncio.create_task(sup.workers()[0].stop())
        await asyncio.sleep(0.01)
        release.set()
        await stopping
        with pytest.raises(WorkerTimeout):
            await task


async def test_a_stop_before_the_timeout_keeps_its_meaning(entered, release):
    async with Supervisor() as sup:
        task = await held(sup, entered=entered, release=release, timeout=0.05)
        stopping = asyncio.create_task(sup.workers()[0].stop())
        await asyncio.sleep(0.1)
        release.set()
        await stopping
        assert await task == "value"


async def test_queued_calls_end_with_the_shutdown_and_later_ones_are_refused(entered, release):
    sup = Supervisor(max_threads=1)
    first = await held(sup, entered=entered, release=release)
    queued = [asyncio.create_task(sup.run(fail, ValueError())) for _ in range(3)]
    await asyncio.sleep(0)
    closing = asyncio.create_task(sup.shutdown())
    await asyncio.sleep(0.01)
    with pytest.raises(SupervisorClosed, match="is shutting down"):
        await sup.run(int)
    with pytest.raises(SupervisorClosed):
        await sup.start(lambda ctx: None)
    for task in queued:
        with pytest.raises(WorkerStopped) as caught:
            await task
        assert caught.value.outcome.ended == "cancelled"
    release.set()
    assert await first == "value"
    report = await closing
    assert report.counts() == {"stopped": 1, "cancelled": 3}
    assert len(report.outcomes) == 1
    with pytest.raises(SupervisorClosed, match="has shut down"):
        await sup.run(int)


async def test_max_queued_refuses_at_once_and_loses_nothing(entered, release):
    async with Supervisor(max_threads=1, max_queued=2) as sup:
        first = await held(sup, entered=entered, release=release)
        queued = [asyncio.create_task(sup.run(int, str(n))) for n in range(2)]
        await asyncio.sleep(0)
        for _ in range(3):
            with pytest.raises(SupervisorBusy, match="max_queued=2"):
                await sup.run(int)
        release.set()
        assert [await first, *[await task for task in queued]] == ["value", 0, 1]
        assert await sup.run(int, "7") == 7


async def test_max_queued_of_zero_runs_what_can_run_at_once(entered, release):
    async with Supervisor(max_threads=1, max_queued=0) as sup:
        first = await held(sup, entered=entered, release=release)
        with pytest.raises(SupervisorBusy):
            await sup.run(int)
        release.set()
        await first
        assert await sup.run(int, "7") == 7


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
        for stuck in range(1, 5):
            with pytest.raises(WorkerTimeout):
                await sup.run(leftovers.block, timeout=0.05, policy=EscalationPolicy(Ask(0)))
            assert inside.threads(sup).stuck == stuck
            if stuck < 4:
                assert await sup.run(int, "5") == 5
        assert inside.threads(sup).capacity == 0
        queued = asyncio.create_task(sup.run(int, "6"))
        await asyncio.sleep(0.05)
        assert not queued.done()
        leftovers.release.set()  # the threads come back, end, and make room
        assert await queued == 6


async def test_a_late_end_is_logged_and_changes_nothing(events, leftovers):
    async with Supervisor(max_threads=1) as sup:
        with pytest.raises(WorkerTimeout):
            await sup.run(leftovers.block, timeout=0.02, policy=BRIEF, name="stuck")
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


async def test_a_live_name_is_not_given_twice(entered, release):
    async with Supervisor() as sup:
        first = await held(sup, entered=entered, release=release, name="same")
        with pytest.raises(ValueError, match="name='same': a live worker"):
            await sup.run(int, name="same")
        with pytest.raises(ValueError, match="name='same'"):
            await sup.start(lambda ctx: None, name="same")
        release.set()
        await first
        assert await sup.run(int, "5", name="same") == 5


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


async def test_many_calls_at_once():
    async with Supervisor(max_threads=8) as sup:
        values = await asyncio.gather(*(sup.run(int, str(n)) for n in range(5000)))
    assert values == list(range(5000))


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
        while not inside.something_is_posted(sup):
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
