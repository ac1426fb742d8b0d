"""`install_as_anyio_threads()`: what anyio runs in threads is supervised, and all else stays as anyio has it."""

import asyncio
import contextvars
import functools
import gc
import subprocess
import sys
import tempfile
import threading
import weakref
from queue import SimpleQueue

import anyio
import pytest
from anyio import CapacityLimiter, from_thread, to_thread
from anyio._core._eventloop import current_async_library

from supervisor import (
    Ask,
    EscalationPolicy,
    Inject,
    Supervisor,
    SupervisorClosed,
    WorkerExit,
    WorkerFailed,
    WorkerStopped,
    current_context,
)
from supervisor.config import load

from .. import inside
from ..waiting import until
from .default_executors import PATIENT, who


@pytest.fixture
def stuck():
    """Gives what a function blocks on that no step of a ladder ends, and only the test."""
    queue = SimpleQueue()
    yield queue.get
    for _ in range(10):
        queue.put(None)


INJECTING = EscalationPolicy(Ask(0), Inject(20))


def thread():
    return threading.current_thread().name


def supervised(test):
    """Runs a test with a supervisor that is installed."""

    def run(runner):
        async def main():
            async with Supervisor("app", policy=PATIENT) as sup:
                sup.install_as_anyio_threads()
                await test(sup)

        runner.run(main())

    run.__name__ = test.__name__
    return run


async def leaves(sup, function):
    """Makes a call, and leaves it once it has been entered; before, it would be withdrawn."""
    scopes, entered = [], threading.Event()

    @functools.wraps(function)
    def enters():
        entered.set()
        return function()

    async def calls():
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            await to_thread.run_sync(enters, abandon_on_cancel=True)

    task = asyncio.ensure_future(calls())
    await until(entered.is_set)
    await until(lambda: [worker.state for worker in sup.workers()] == ["running"])
    scopes[0].cancel()
    await task
    assert scopes[0].cancelled_caught


# ------------------------------------------------------------------------------------------------ what runs there


@supervised
async def test_run_sync_runs_on_a_supervised_thread_by_the_name_of_its_function(sup):
    assert await to_thread.run_sync(thread) == "app/anyio-1"
    assert await to_thread.run_sync(who) == "who-2"
    gate = threading.Event()
    waiting = asyncio.ensure_future(to_thread.run_sync(gate.wait))
    await until(lambda: "self._cond" in sup.stacks().get("Event.wait-3", ""))
    assert [worker.name for worker in sup.workers()] == ["Event.wait-3"]
    gate.set()
    assert await waiting


@supervised
async def test_nothing_of_ours_is_in_a_stack(sup):
    gate = threading.Event()

    def blocks():
        gate.wait()

    waiting = asyncio.ensure_future(to_thread.run_sync(blocks))
    await until(lambda: "gate.wait" in "".join(sup.stacks().values()))
    (stack,) = sup.stacks().values()
    gate.set()
    await waiting
    assert "in blocks" in stack.splitlines()[0]


@supervised
async def test_files_and_uploads_are_supervised(sup):
    seen = []

    class File(tempfile.SpooledTemporaryFile):
        def read(self, *args):
            seen.append(current_context().name)
            return super().read(*args)

    with File() as file:
        await anyio.wrap_file(file).write(b"rows")
        await anyio.wrap_file(file).seek(0)
        assert await anyio.wrap_file(file).read() == b"rows"
    (name,) = seen
    assert name.endswith("File.read-3")


@supervised
async def test_the_limiter_bounds_the_calls_and_nothing_else_does(sup):
    default = to_thread.current_default_thread_limiter()
    default.total_tokens = 100
    together = threading.Barrier(100 + 1)
    calls = [asyncio.ensure_future(to_thread.run_sync(together.wait, 20)) for _ in range(100)]
    more = asyncio.ensure_future(to_thread.run_sync(together.wait, 20, limiter=CapacityLimiter(1)))
    await asyncio.gather(*calls, more)  # all at once, or the barrier would break
    assert default.borrowed_tokens == 0
    one = CapacityLimiter(1)
    ran = []

    def alone():
        ran.append(one.borrowed_tokens)

    await asyncio.gather(*(to_thread.run_sync(alone, limiter=one) for _ in range(10)))
    assert ran == [1] * 10


def test_calls_that_wait_for_others_of_their_pool_do_not_deadlock(runner):
    def nested(depth):
        return 1 + (from_thread.run(to_thread.run_sync, nested, depth - 1) if depth else 0)

    async def main():
        async with Supervisor(max_threads=1, max_queued=0) as sup:
            sup.install_as_anyio_threads()
            to_thread.current_default_thread_limiter().total_tokens = 200
            async with asyncio.timeout(60):
                return await to_thread.run_sync(nested, 99)

    assert runner.run(main()) == 100


@supervised
async def test_abandoned_calls_take_no_threads_from_others(sup):
    to_thread.current_default_thread_limiter().total_tokens = 200
    gate = threading.Event()
    calls = [asyncio.ensure_future(to_thread.run_sync(gate.wait)) for _ in range(100)]
    await until(lambda: len(sup.stacks()) == 100)
    assert sup.statistics().pools["anyio"].capacity >= 100
    gate.set()
    assert await asyncio.gather(*calls) == [True] * 100


# ------------------------------------------------------------------------------------------------ as anyio has it


@supervised
async def test_context_variables_and_the_library_are_as_anyio_has_them(sup):
    variable = contextvars.ContextVar("variable")
    variable.set("the caller's")
    assert await to_thread.run_sync(variable.get) == "the caller's"
    await to_thread.run_sync(variable.set, "the thread's")
    assert variable.get() == "the caller's"
    assert await to_thread.run_sync(current_async_library) is None


@supervised
async def test_from_thread_works_there(sup):
    async def on_the_loop(value):
        await asyncio.sleep(0)
        return value, threading.get_ident()

    def works():
        with from_thread.start_blocking_portal() as portal:
            elsewhere = portal.call(threading.get_ident)
        return from_thread.run(on_the_loop, 1), from_thread.run_sync(threading.get_ident), elsewhere

    loop = threading.get_ident()
    ran, plain, elsewhere = await to_thread.run_sync(works)
    assert ran == (1, loop)
    assert plain == loop
    assert elsewhere not in (loop, None)


@supervised
async def test_a_cancellation_is_shielded_until_the_function_has_ended(sup):
    entered, gate, seen = anyio.Event(), threading.Event(), []

    def works():
        from_thread.run_sync(entered.set)
        gate.wait()
        seen.append(current_context().stop.is_set())
        from_thread.check_cancelled()
        seen.append("goes on")

    async with anyio.create_task_group() as group:
        group.start_soon(to_thread.run_sync, works)
        await entered.wait()
        group.cancel_scope.cancel()
        asyncio.get_running_loop().call_later(0.05, gate.set)
    assert seen == [False]
    assert sup.workers() == ()


@supervised
async def test_a_call_that_is_left_runs_its_course_and_is_still_seen(sup):
    gate, done = threading.Event(), threading.Event()

    def left():
        gate.wait()
        done.set()

    await leaves(sup, left)
    assert [(worker.name.rpartition(".")[2], worker.state) for worker in sup.workers()] == [("left-1", "running")]
    gate.set()
    assert done.wait(20)
    await until(lambda: not sup.workers())


def test_a_task_that_is_cancelled_leaves_and_injects_nothing(runner):
    entered, gate, ended = threading.Event(), threading.Event(), SimpleQueue()

    def works():
        try:
            entered.set()
            gate.wait()
        except BaseException as error:
            ended.put(error)
            raise
        ended.put("ended by itself")

    async def main():
        async with Supervisor("app", policy=EscalationPolicy(Ask(0), Inject(0))) as sup:
            sup.install_as_anyio_threads()
            for how in (False, True):
                entered.clear()
                gate.clear()
                task = asyncio.ensure_future(to_thread.run_sync(works, abandon_on_cancel=how))
                await until(entered.is_set)  # one that has not been entered would be withdrawn
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                await asyncio.sleep(0.1)
                assert [worker.state for worker in sup.workers()] == ["running"]
                gate.set()
                await until(lambda: not sup.workers())
                assert ended.get() == "ended by itself"

    runner.run(main())


@supervised
async def test_a_call_that_is_cancelled_before_it_begins_never_does(sup):
    limiter, called, gate = CapacityLimiter(1), [], threading.Event()
    first = asyncio.ensure_future(to_thread.run_sync(gate.wait, limiter=limiter))
    await until(sup.stacks)
    with anyio.move_on_after(0.05):
        await to_thread.run_sync(called.append, 1, limiter=limiter)
    gate.set()
    await first
    assert called == []


@pytest.mark.parametrize(
    ("error", "arrives"),
    [
        (ValueError("x"), ValueError),
        (SystemExit(3), WorkerExit),
        (KeyboardInterrupt(), WorkerFailed),
        (GeneratorExit(), WorkerFailed),
        (asyncio.CancelledError(), asyncio.CancelledError),  # its caller's own, from check_cancelled()
    ],
)
def test_errors_arrive_as_they_are_but_for_those_that_would_end_the_loop(runner, error, arrives):
    def fails():
        raise error

    async def main():
        async with Supervisor() as sup:
            sup.install_as_anyio_threads()
            with pytest.raises(arrives) as caught:
                await to_thread.run_sync(fails)
            return caught.value

    caught = runner.run(main())
    assert error in (caught, caught.__cause__)


@supervised
async def test_a_stop_iteration_becomes_a_runtime_error(sup):
    with pytest.raises(RuntimeError, match="coroutine raised StopIteration") as caught:
        await to_thread.run_sync(next, iter(()))
    assert isinstance(caught.value.__cause__, StopIteration)


def test_trio_and_other_loops_go_on_as_they_were(runner):
    trio = pytest.importorskip("trio")

    async def elsewhere():
        return await to_thread.run_sync(thread)

    async def main():
        async with Supervisor("app") as sup:
            sup.install_as_anyio_threads()
            assert await elsewhere() == "app/anyio-1"
            under_asyncio = await to_thread.run_sync(anyio.run, elsewhere)
            under_trio = await to_thread.run_sync(trio.run, elsewhere)
        return under_asyncio, under_trio

    under_asyncio, under_trio = runner.run(main())
    assert under_asyncio == "AnyIO worker thread"
    assert not under_trio.startswith("app/")


# ------------------------------------------------------------------------------------------------ a shutdown


def test_a_shutdown_climbs_the_ladders_and_whoever_awaits_gets_worker_stopped(runner, stuck, ladder_time):
    def obeys():
        current_context().stop.wait()

    def checks():
        while True:
            current_context().sleep(60)

    def blocks():
        threading.Event().wait()

    def never_ends():
        stuck()

    async def main():
        async with Supervisor("app", policy=EscalationPolicy(Ask(0.1), Inject(0.5))) as sup:
            sup.install_as_anyio_threads()
            calls = [asyncio.ensure_future(to_thread.run_sync(fn)) for fn in (obeys, checks, blocks, never_ends)]
            await until(lambda: len(sup.stacks()) == 4)
            closing = asyncio.ensure_future(sup.shutdown())
            await until(lambda: len(sup.workers()) == 2)
            await ladder_time.advance(0.1)
            await until(lambda: len(sup.workers()) == 1)
            await ladder_time.advance(0.5)
            await closing
        return sup.report, await asyncio.gather(*calls, return_exceptions=True)

    report, (obeyed, checked, blocked, gave_up) = runner.run(main())
    assert {outcome.worker.rpartition(".")[2]: outcome.ended for outcome in report.outcomes} == {
        "obeys-1": "stopped",
        "checks-2": "stopped",
        "blocks-3": "injected",
        "never_ends-4": "abandoned",
    }
    assert obeyed is None  # the value that it had in time
    assert [type(error) for error in (checked, blocked, gave_up)] == [WorkerStopped] * 3


@supervised
async def test_stop_of_its_worker_stops_a_call(sup):
    call = asyncio.ensure_future(to_thread.run_sync(lambda: current_context().sleep(60)))
    await until(sup.stacks)
    await sup.workers()[0].stop()
    with pytest.raises(WorkerStopped):
        await call


def test_a_call_that_was_left_is_stopped_by_the_shutdown(runner):
    async def main():
        async with Supervisor(policy=INJECTING) as sup:
            sup.install_as_anyio_threads()
            await leaves(sup, threading.Event().wait)
        return sup.report

    assert [outcome.ended for outcome in runner.run(main()).outcomes] == ["injected"]


def test_after_the_shutdown_anyio_has_its_own_threads_again(runner):
    async def main():
        async with Supervisor("app") as sup:
            sup.install_as_anyio_threads()
            assert await to_thread.run_sync(thread) == "app/anyio-1"
        return await to_thread.run_sync(thread)

    assert runner.run(main()) == "AnyIO worker thread"


async def begin_shutdown(sup):
    """Begins a shutdown that goes on until another one shortens it; returns what waits for its end."""
    (worker,) = sup.workers()
    closing = asyncio.ensure_future(sup.shutdown(60))
    await until(lambda: worker.step == "ask")
    return closing


def test_calls_during_the_shutdown_run_under_a_supervisor_of_their_own_which_ends_after_it(runner, stuck):
    async def main():
        sup = Supervisor("app", policy=EscalationPolicy(Ask(60)), shutdown_timeout=0.1)
        sup.install_as_anyio_threads()
        held = asyncio.ensure_future(to_thread.run_sync(stuck))
        await until(sup.stacks)
        closing = await begin_shutdown(sup)
        assert await to_thread.run_sync(thread) == "app-late/anyio-1"
        entered = threading.Event()
        late = asyncio.ensure_future(to_thread.run_sync(lambda: entered.set() or stuck()))
        await until(entered.is_set)
        await sup.shutdown(0.1)
        await closing
        with pytest.raises(WorkerStopped):
            await late
        with pytest.raises(WorkerStopped):
            await held

    runner.run(main())


def test_calls_that_wait_for_their_limiter_when_the_shutdown_begins_are_refused_and_never_begin(runner):
    began = []

    def blocks(number):
        began.append(number)
        threading.Event().wait()

    async def main():
        async with Supervisor("app", policy=INJECTING) as sup:
            sup.install_as_anyio_threads()
            limiter = CapacityLimiter(2)
            calls = [asyncio.ensure_future(to_thread.run_sync(blocks, n, limiter=limiter)) for n in range(20)]
            await until(lambda: len(began) == 2)
        assert sorted(began) == [0, 1]
        return [type(error) for error in await asyncio.gather(*calls, return_exceptions=True)]

    assert runner.run(main()) == [WorkerStopped] * 2 + [SupervisorClosed] * 18


def test_while_it_drains_they_still_begin(runner):
    async def main():
        async with Supervisor("app", policy=PATIENT) as sup:
            sup.install_as_anyio_threads()
            limiter, gate, last = CapacityLimiter(1), threading.Event(), threading.Event()
            calls = [asyncio.ensure_future(to_thread.run_sync(gate.wait, limiter=limiter)) for _ in range(3)]
            under_way = asyncio.ensure_future(to_thread.run_sync(last.wait))
            await until(lambda: len(sup.stacks()) == 2)
            closing = asyncio.ensure_future(sup.shutdown(10, drain=5))
            await asyncio.sleep(0.02)
            gate.set()
            assert await asyncio.gather(*calls) == [True] * 3
            last.set()
            assert await under_way
            assert (await closing).clean

    runner.run(main())


def test_those_end_with_the_loop_where_the_default_executor_needs_them(runner, stuck):
    async def main():
        async with Supervisor("app", policy=EscalationPolicy(Ask(60))) as sup:
            sup.install_as_default_executor()
            sup.install_as_anyio_threads()
            held = asyncio.ensure_future(to_thread.run_sync(stuck))
            await until(sup.stacks)
            closing = await begin_shutdown(sup)
            assert await to_thread.run_sync(thread) == "app-late/anyio-1"
            await sup.shutdown(0.1)
            await closing
        with pytest.raises(WorkerStopped):
            await held
        return await asyncio.to_thread(thread)

    assert runner.run(main()) == "app-late/thread-1"


def test_the_program_ends_though_calls_do_not():
    script = """if True:
        import anyio, queue, threading
        from functools import partial
        from anyio import to_thread
        from supervisor import Ask, EscalationPolicy, Supervisor
        entered = threading.Event()
        def blocks():
            entered.set()
            queue.SimpleQueue().get()
        async def main():
            async with Supervisor(policy=EscalationPolicy(Ask(0.1))) as sup:
                sup.install_as_anyio_threads()
                async with anyio.create_task_group() as group:
                    group.start_soon(partial(to_thread.run_sync, blocks, abandon_on_cancel=True))
                    while not entered.is_set():
                        await anyio.sleep(0.001)
                    group.cancel_scope.cancel()
            print(sup.report)
        anyio.run(main)
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert "1 abandoned" in done.stdout


# ------------------------------------------------------------------------------------------------ installing it


def test_of_two_supervisors_the_last_one_counts_and_the_other_one_after_it(runner):
    async def main():
        async with Supervisor("first") as first:
            async with Supervisor("second") as second:
                first.install_as_anyio_threads()
                second.install_as_anyio_threads()
                assert await to_thread.run_sync(thread) == "second/anyio-1"
                first.install_as_anyio_threads()
                assert await to_thread.run_sync(thread) == "first/anyio-1"
                second.install_as_anyio_threads()
            return await to_thread.run_sync(thread)

    assert runner.run(main()) == "first/anyio-1"


@supervised
async def test_a_group_cannot_be_installed(sup):
    async with sup.group("feeds") as group:
        with pytest.raises(RuntimeError, match=r"group 'feeds' cannot have anyio's threads.*on the supervisor 'app'"):
            group.install_as_anyio_threads()


def test_nor_one_that_shuts_down_nor_one_without_a_loop(runner):
    with pytest.raises(RuntimeError, match="needs a running asyncio event loop"):
        Supervisor().install_as_anyio_threads()

    async def main():
        async with Supervisor("app") as sup:
            pass
        with pytest.raises(SupervisorClosed, match="'app' has shut down"):
            sup.install_as_anyio_threads()

    runner.run(main())


def test_a_callback_of_the_loop_may_install_it(runner):
    async def main():
        async with Supervisor("app") as sup:
            asyncio.get_running_loop().call_soon(sup.install_as_anyio_threads)
            await asyncio.sleep(0.01)
            return await to_thread.run_sync(thread)

    assert runner.run(main()) == "app/anyio-1"


def test_the_name_of_its_pool_must_be_free(runner):
    async def main():
        async with Supervisor("app") as sup:
            sup.pool("anyio", kind="thread")
            with pytest.raises(ValueError, match="give that one another name"):
                sup.install_as_anyio_threads()
            return await to_thread.run_sync(thread)

    assert runner.run(main()) == "AnyIO worker thread"


def test_the_configuration_may_give_it_a_ladder_but_no_bound(runner, stuck):
    async def main(config):
        options = {"policy": EscalationPolicy(Ask(600)), "shutdown_timeout": 1000}
        async with Supervisor("app", config=load({"pools": {"anyio": config}}, environ={}), **options) as sup:
            sup.install_as_anyio_threads()
            call = asyncio.ensure_future(to_thread.run_sync(stuck))
            await until(sup.stacks)
        with pytest.raises(WorkerStopped):
            await call
        return sup.report.seconds

    assert runner.run(main({"policy": {"ask": 0.1}})) < 60
    with pytest.raises(ValueError, match="bounds the pool 'anyio'"):
        runner.run(main({"size": 2}))


def test_a_supervisor_that_nobody_holds_is_not_kept_alive_nor_its_loop():
    async def main():
        async with Supervisor() as sup:
            sup.install_as_anyio_threads()
            await to_thread.run_sync(thread)
        return weakref.ref(asyncio.get_running_loop()), weakref.ref(sup)

    refs = anyio.run(main)
    gc.collect()
    assert [ref() for ref in refs] == [None, None]


@pytest.mark.filterwarnings("ignore:supervisor 'app' was never shut down:ResourceWarning")
def test_where_it_was_forgotten_anyio_has_its_own_threads_again(runner):
    async def main():
        sup = Supervisor("app")
        sup.install_as_anyio_threads()
        del sup
        gc.collect()
        return await to_thread.run_sync(thread)

    assert runner.run(main()) == "AnyIO worker thread"


# ------------------------------------------------------------------------------------------------ the installed anyio


@pytest.fixture
def unproven(monkeypatch):
    monkeypatch.setattr(inside.anyio_proof, "_proven", [])
    return monkeypatch


def refusal(runner):
    async def main():
        async with Supervisor("app") as sup:
            with pytest.raises(RuntimeError) as caught:
                sup.install_as_anyio_threads()
            assert "anyio" not in sup.statistics().pools
            assert await to_thread.run_sync(thread) == "AnyIO worker thread"
            return str(caught.value)

    text = runner.run(main())
    assert text.startswith("supervisor 'app' cannot take over the threads of the installed anyio ")
    assert "await sup.run(...)" in text
    return text


def test_a_version_that_is_not_known_is_refused(runner, unproven):
    unproven.setattr(inside.anyio_proof.metadata, "version", lambda _: "5.0.1")
    text = refusal(runner)
    assert "anyio 5.0.1: only those of its major version 4 are known. Install" in text


@pytest.mark.parametrize("name", ["_threadpool_idle_workers", "_threadpool_workers", "AsyncIOBackend"])
def test_one_that_lacks_what_is_replaced_is_refused(runner, unproven, name):
    backend = sys.modules["anyio._backends._asyncio"]
    with unproven.context() as context:
        context.delattr(backend, name)
        with pytest.raises(RuntimeError, match=f"it is made in another way.*{name}"):
            runner.run(_install())


async def _install():
    async with Supervisor("app") as sup:
        sup.install_as_anyio_threads()


BROKEN = {
    "it does not look at the list of idle threads": "await cls.checkpoint(); return func(*args)",
    "it has no limiter": "return await plain(cls, func, args, abandon_on_cancel, CapacityLimiter(5))",
    "it loses the context": "return await plain(cls, Context().run, (func, *args), abandon_on_cancel, limiter)",
    "it always abandons": "return await plain(cls, func, args, True, limiter)",
    "it never abandons": "return await plain(cls, func, args, False, limiter)",
    "it swallows errors": """
try:
    return await plain(cls, func, args, abandon_on_cancel, limiter)
except Exception:
    return None
""",
}


@pytest.mark.parametrize("way", BROKEN)
def test_one_that_behaves_in_another_way_is_refused(runner, unproven, way):
    backend = sys.modules["anyio._backends._asyncio"].AsyncIOBackend
    names = {"plain": backend.run_sync_in_worker_thread.__func__, "CapacityLimiter": CapacityLimiter}
    names["Context"] = contextvars.Context
    body = "\n".join(f"    {line}" for line in BROKEN[way].strip().splitlines())
    exec(  # noqa: S102
        f"async def run(cls, func, args, abandon_on_cancel=False, limiter=None):\n{body}",
        names,
    )
    with unproven.context() as context:
        context.setattr(inside.anyio_proof, "PATIENCE", 1.0)
        context.setattr(backend, "run_sync_in_worker_thread", classmethod(names["run"]))
        with pytest.raises(RuntimeError, match="cannot take over the threads of the installed anyio"):
            runner.run(_install())
    runner.run(_install())


def test_nothing_of_it_is_imported_where_it_is_not_asked_for():
    script = (
        "import sys; from supervisor import Supervisor; Supervisor(); print([n for n in sys.modules if 'anyio_' in n])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
