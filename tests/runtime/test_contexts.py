"""Context variables: nothing of one request is to be seen in another, nor held for it."""

import ast
import asyncio
import contextlib
import contextvars
import gc
import signal
import socket
import threading
import weakref
from concurrent.futures import wait
from pathlib import Path

import pytest
import structlog
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry

import supervisor
from supervisor import Ask, EscalationPolicy, Restart, Supervisor, metrics, otel, systemd

from ..waiting import LIMIT, until
from . import context_functions as f
from .context_functions import request

QUICK = EscalationPolicy(Ask(5))


class Session:
    """What a request has in its context."""


@pytest.fixture
def seen():
    """The log events that bear a request's variable, in the order in which they came."""
    captured = []

    def capture(logger, method, event):
        captured.append((event["event"], event.get("worker"), event.get("request_id")))
        raise structlog.DropEvent

    structlog.configure(processors=[structlog.contextvars.merge_contextvars, capture])
    yield captured
    structlog.reset_defaults()


# ------------------------------------------------------------------------------------------------ what a request does


async def call(sup, kind):
    await sup.run(f.look, kind=kind)


async def call_that_is_timed_out(sup, kind):
    with contextlib.suppress(TimeoutError):
        await sup.run(f.obey, kind=kind, timeout=0.1)


async def call_that_is_cancelled(sup, kind):
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.1):
            await sup.run(f.obey, kind=kind)


async def call_of_an_executor(sup, kind):
    await asyncio.wrap_future(sup.executor(kind).submit(f.look))


async def call_of_an_executor_that_is_stopped(sup, kind):
    future = sup.executor(kind).submit(f.obey)
    await until(future.running)
    future.cancel()
    await until(future.done)


async def call_that_calls_the_loop(sup, kind):
    await sup.run(f.call_back, kind=kind)


async def call_whose_process_dies(sup, kind):
    if kind == "process":
        with contextlib.suppress(supervisor.WorkerDied):
            await sup.run(f.die, kind=kind)


async def worker_that_is_stopped(sup, kind):
    worker = await sup.start(f.wait_for_stop, kind=kind)
    await worker.stop()


async def worker_that_says_that_it_is_ready(sup, kind):
    worker = await sup.start(f.be_ready, kind=kind, ready_timeout=60, heartbeat=60)
    await worker.stop()


async def worker_that_fails_again_and_again(sup, kind):
    restart = Restart("failure", max_restarts=1, backoff=0.01)
    with contextlib.suppress(supervisor.RestartLimitExceeded, ValueError):
        worker = await sup.start(f.fail, kind=kind, restart=restart)
        await worker.wait()


async def worker_that_is_restarted(sup, kind):
    worker = await sup.start(f.wait_for_stop, kind=kind)
    await worker.restart()
    await worker.stop()


async def group(sup, kind):
    name = f"group of {request.get()}"
    async with sup.group(name, strategy="one_for_all") as group:
        await group.start(f.wait_for_stop, kind=kind)
        worker = await group.start(f.wait_for_stop, kind=kind)
        await worker.restart()


async def listener(sup, kind):
    async with sup.transitions() as transitions:
        await sup.run(f.look, kind=kind)
        assert (await anext(transitions)).new == "queued"


async def counted(sup, kind):
    registry = CollectorRegistry()
    metrics.register(sup, registry=registry)
    await sup.run(f.look, kind=kind)
    metrics.unregister(sup, registry=registry)


async def signals(sup, kind):
    waiting = asyncio.create_task(sup.wait_for_signal(signal.SIGUSR1))
    await asyncio.sleep(0)
    waiting.cancel()


async def questions(sup, kind):
    call = asyncio.ensure_future(sup.run(f.obey, kind=kind))
    await until(lambda: any(worker.state == "running" for worker in sup.workers()))
    sup.health(), sup.statistics(), sup.stacks()
    await sup.workers()[0].stop()
    with contextlib.suppress(supervisor.WorkerStopped):
        await call


WAYS = [
    call,
    call_that_is_timed_out,
    call_that_is_cancelled,
    call_of_an_executor,
    call_of_an_executor_that_is_stopped,
    call_that_calls_the_loop,
    call_whose_process_dies,
    worker_that_is_stopped,
    worker_that_says_that_it_is_ready,
    worker_that_fails_again_and_again,
    worker_that_is_restarted,
    group,
    listener,
    counted,
    signals,
    questions,
]


async def handle(sup, way, kind, number):
    structlog.contextvars.bind_contextvars(request_id=number)
    session = Session()
    request.set(number)
    contextvars.ContextVar("session").set(session)
    await way(sup, kind)
    return weakref.ref(session)


@pytest.fixture(params=["thread", "process"])
def kind(request):
    return request.param


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_a_request_is_not_held_by_what_it_was_the_first_to_need(seen, kind, way):
    sup = Supervisor(max_threads=1, max_processes=1, policy=QUICK)
    try:
        session = await asyncio.create_task(handle(sup, way, kind, 1))
        gc.collect()
        await until(lambda: session() is None)
    finally:
        await asyncio.create_task(sup.shutdown(), context=contextvars.Context())


async def test_nor_by_what_serves_several(seen, kind):
    async with Supervisor(max_threads=1, max_processes=1, policy=QUICK) as sup:
        sessions = [await asyncio.create_task(handle(sup, way, kind, number)) for number, way in enumerate(WAYS)]
        gc.collect()
        await until(lambda: not any(session() for session in sessions))


async def test_nor_by_what_observes_it(seen, kind, monkeypatch, tmp_path):
    async def observe(sup, kind):
        otel.instrument(sup, tracer_provider=TracerProvider())
        systemd.notify(sup)

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", manager.getsockname())
        monkeypatch.setenv("WATCHDOG_USEC", "1000000")
        async with Supervisor(max_threads=1, max_processes=1, policy=QUICK) as sup:
            sessions = [
                await asyncio.create_task(handle(sup, way, kind, number))
                for number, way in enumerate([observe, call, worker_that_is_stopped, call_of_an_executor])
            ]
            gc.collect()
            await until(lambda: not any(session() for session in sessions))


async def test_nor_by_a_supervisor_that_it_shuts_down(seen, kind):
    async def way(sup, kind):
        future = sup.executor(kind).submit(f.obey)
        await until(future.running)
        await sup.shutdown()

    sup = Supervisor(policy=QUICK)
    session = await asyncio.create_task(handle(sup, way, kind, 1))
    gc.collect()
    await until(lambda: session() is None)


async def test_nor_by_calls_of_the_default_executor(seen):
    async def way(sup, kind):
        assert await asyncio.to_thread(f.look) == 1
        await asyncio.get_running_loop().run_in_executor(None, f.look)

    async with Supervisor(max_threads=1) as sup:
        sup.install_as_default_executor()
        session = await asyncio.create_task(handle(sup, way, "thread", 1))
        gc.collect()
        await until(lambda: session() is None)


# ------------------------------------------------------------------------------------------------ what is logged


async def test_log_events_of_one_request_never_bear_the_variables_of_another(seen, kind):
    async def two(sup, kind):
        number = request.get()
        await sup.run(f.look, kind=kind, name=f"run of {number}")
        await asyncio.wrap_future(sup.executor(kind).submit(f.look))
        worker = await sup.start(f.wait_for_stop, kind=kind, name=f"worker of {number}")
        with contextlib.suppress(TimeoutError):
            await sup.run(f.obey, kind=kind, timeout=0.05, name=f"obeys {number}")
        await worker.stop()

    sup = Supervisor(max_threads=1, max_processes=1, policy=QUICK)
    for number in (1, 2):
        await asyncio.create_task(handle(sup, two, kind, number))
    await asyncio.create_task(sup.shutdown(), context=contextvars.Context())
    assert {"worker.queued", "worker.running", "worker.stopping", "worker.ended"} <= {event for event, *_ in seen}
    strange = [line for line in seen if line[2] is not None and (not line[1] or not line[1].endswith(str(line[2])))]
    assert not strange


async def test_what_has_ended_meanwhile_is_not_logged_in_the_name_of_who_stops_something(seen):
    async def stop(sup, kind):
        done = sup.executor().submit(f.look)
        wait([done])  # its end is in the inbox now
        await sup.workers()[0].stop()

    async with Supervisor(max_threads=2, policy=QUICK) as sup:
        await sup.start(f.wait_for_stop, name="waits")
        await asyncio.create_task(handle(sup, stop, "thread", 1))
    assert {bound for event, worker, bound in seen if worker and worker.startswith("look")} == {None}


# ------------------------------------------------------------------------------------------------ who runs in what


async def test_done_callbacks_of_an_executor_do_not_see_each_other(kind):
    looks = []

    def callback(_):
        looks.append(request.get())
        request.set("left behind")

    async with Supervisor(max_threads=1, max_processes=1) as sup:
        for _ in range(2):
            before = sup.executor(kind).submit(f.obey)
            future = sup.executor(kind).submit(f.look)  # which is not over before its callbacks are there
            future.add_done_callback(callback)
            future.add_done_callback(lambda _: looks.append(request.get()))
            await until(before.running)
            before.cancel()
            await until(future.done)
            await until(lambda: len(looks) % 2 == 0)
        request.set("of the test")
        waiting = [sup.executor(kind).submit(f.obey) for _ in range(2)]
        waiting[1].add_done_callback(callback)
        assert waiting[1].cancel()
        await until(waiting[0].running)
        waiting[0].cancel()
    assert looks == [None, "left behind", None, "left behind", None]


async def test_a_call_does_not_see_what_the_one_before_it_has_set(kind):
    async with Supervisor(max_threads=1, max_processes=1) as sup:
        assert await sup.run(f.leave_behind, "something", kind=kind) is None
        assert await sup.run(f.look, kind=kind) is None


async def test_threads_begin_without_the_variables_of_who_happens_to_start_them(monkeypatch):
    """Python 3.14 can have them inherit these."""
    inherited = {}
    begin = threading.Thread.start

    def start(thread):
        inherited[thread.name] = dict(contextvars.copy_context())
        begin(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    async with Supervisor("app", policy=QUICK) as sup:
        request.set("of the test")
        worker = await sup.start(f.wait_for_stop, name="own")
        await sup.run(f.look)
        registered = threading.Event()

        def helped():
            with supervisor.current_context().on_stop(called.set):
                registered.set()
                called.wait(LIMIT)

        called = threading.Event()
        call = asyncio.create_task(sup.run(helped, name="helped"))
        await until(registered.is_set)
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await call
        await worker.stop()
    assert inherited.keys() >= {"app/own", "app/thread-1", "app/helped/on_stop"}
    assert not any(inherited.values())


REGISTERING = {
    "add_done_callback",
    "add_reader",
    "add_signal_handler",
    "add_writer",
    "call_at",
    "call_later",
    "call_soon",
    "call_soon_threadsafe",
}


def _registers(node, owner):
    """Whether a piece of code registers something with the loop, or starts a thread, by another way than the one."""
    if isinstance(node, ast.Attribute) and node.attr in REGISTERING:
        # VirtualTime is a clock; a future that overrides such a method calls it by super().
        return ast.unparse(node.value) not in ("aside", "clock", "super()")
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "start":
        return "thread" in ast.unparse(node.func.value).lower()
    return False


APART = [("_cli",), ("celery",)]
"""Programs of their own: the command line, and Celery's worker, whose loop is no asyncio."""


def test_nothing_is_registered_by_another_way():
    package = Path(supervisor.__file__).parent
    found = [
        f"{path.relative_to(package)}:{node.lineno}"
        for path in sorted(package.rglob("*.py"))
        if path.name != "aside.py" and path.parent.parts[len(package.parts) :][:1] not in APART
        for node in ast.walk(ast.parse(path.read_text()))
        if _registers(node, path)
    ]
    assert not found
