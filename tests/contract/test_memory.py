"""No call, whatever becomes of it, leaves anything behind that waits for the garbage collector."""

import asyncio
import concurrent.futures
import contextlib
import gc
import traceback

import pytest

from supervisor import Ask, EscalationPolicy, Inject, Restart, Supervisor

from ..waiting import until
from . import memory_functions as m

QUICK = EscalationPolicy(Ask(0.05), Inject(5))
SOON = 0.2


@pytest.fixture(params=["thread", "process"])
def kind(request):
    return request.param


@pytest.fixture
def no_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def nothing_left(sup, kind):
    await until(lambda: not m.alive)
    if kind == "process":
        assert await sup.run(m.things_alive, kind=kind) == 0


async def begin(sup, kind):
    if kind == "process":
        await sup.run(m.without_collector, kind=kind)


async def run(sup, kind, fn):
    with contextlib.suppress(Exception):
        await sup.run(fn, m.Thing(), kind=kind, timeout=None if fn is not m.obeys else SOON)


async def cancelled(sup, kind, fn):
    task = asyncio.create_task(sup.run(fn, m.Thing(), kind=kind))
    await asyncio.sleep(SOON)
    task.cancel()
    with contextlib.suppress(Exception, asyncio.CancelledError):
        await task
    del task  # it has the error, whose traceback has this frame


async def by_an_executor(sup, kind, fn):
    future = sup.executor(kind).submit(fn, m.Thing())
    with contextlib.suppress(Exception, concurrent.futures.CancelledError):
        if fn is m.obeys:
            await asyncio.sleep(SOON)
            future.cancel()
        await asyncio.wrap_future(future)
    del future


ENDS = [
    m.returns,
    m.fails,
    m.fails_in_a_chain,
    m.registers,
    m.registers_and_fails,
    m.obeys,
    m.returns_what_cannot_be_sent,
    m.fails_with_what_cannot_be_sent,
    m.exits,
]


@pytest.mark.parametrize("way", [run, cancelled, by_an_executor])
@pytest.mark.parametrize("fn", ENDS)
async def test_a_call(no_collector, kind, way, fn):
    async with Supervisor(max_threads=1, max_processes=1, policy=QUICK) as sup:
        await begin(sup, kind)
        await way(sup, kind, fn)
        await nothing_left(sup, kind)


async def test_a_call_that_is_injected(no_collector):
    async with Supervisor(policy=QUICK) as sup:
        with contextlib.suppress(Exception):
            await sup.run(m.spins, m.Thing(), timeout=SOON)
        await nothing_left(sup, "thread")


async def test_a_call_that_cannot_be_sent(no_collector):
    async with Supervisor() as sup:
        with contextlib.suppress(TypeError):
            await sup.run(m.returns, (m.Thing(), lambda: 1, asyncio.current_task()), kind="process")
        await nothing_left(sup, "thread")


async def test_results_of_map(no_collector, kind):
    def take_all():
        for thing in sup.executor(kind).map(m.returns, [m.Thing() for _ in range(10)]):
            del thing

    async with Supervisor(max_threads=2, max_processes=1) as sup:
        await begin(sup, kind)
        await asyncio.to_thread(take_all)
        await nothing_left(sup, kind)


async def test_each_result_of_map_as_soon_as_its_taker_lets_go_of_it(no_collector, kind):
    """While processes are started, too."""

    def take_all():
        for number, thing in enumerate(sup.executor(kind).map(m.returns, [m.Thing() for _ in range(10)])):
            before = len(m.alive)
            del thing
            seen.append((number, before))

    seen = []
    async with Supervisor(max_threads=2, max_processes=2, max_tasks=2) as sup:
        await asyncio.to_thread(take_all)
        assert [number for number, _ in seen] == list(range(10))
        await until(lambda: not m.alive)


async def test_the_future_of_a_call_holds_what_has_come_of_it_alone(no_collector, kind):
    async with Supervisor(policy=QUICK) as sup:
        await begin(sup, kind)
        future = sup.executor(kind).submit(m.takes, thing=m.Thing())
        assert await asyncio.wrap_future(future) is None
        await nothing_left(sup, kind)
        assert future.done()


# ------------------------------------------------------------------------------------------------ workers of start()


async def ended(sup, kind, fn, **options):
    """Starts a worker; returns its handle once it has ended, or was stopped."""
    worker = await sup.start(fn, m.Thing(), kind=kind, **options)
    if fn is m.worker_that_waits:
        await worker.stop()
    await worker.wait()
    return worker


@pytest.mark.parametrize("fn", [m.worker_that_returns, m.worker_that_waits])
async def test_the_handle_of_a_worker_that_has_ended(no_collector, kind, fn):
    async with Supervisor(policy=QUICK) as sup:
        worker = await ended(sup, kind, fn, ready_timeout=60, heartbeat=60)
        await until(lambda: not m.alive)
        assert (worker.state, worker.attempt, worker.restarts, worker.ident) == ("ended", 1, 0, None)
        assert worker.stack() == ""
        assert worker.last_outcome is worker.outcome


@pytest.mark.parametrize("restart", [None, Restart("failure", max_restarts=1, backoff=0.01)])
async def test_a_worker_that_fails(no_collector, quiet, kind, restart):
    async with Supervisor(policy=QUICK) as sup:
        worker = await ended(sup, kind, m.worker_that_fails, restart=restart)
        outcome = worker.outcome
        assert worker.restarts == (restart is not None)
        errors = [worker.last_outcome.error, outcome.error]
        for error in errors:
            traceback.clear_frames(error.__traceback__)  # what its frames hold is all that is left
        del error, errors
        await until(lambda: not m.alive)
        del worker, outcome
        worker = await ended(sup, kind, m.worker_that_fails, restart=restart)
        del worker
        await until(lambda: not m.alive)


async def test_a_worker_that_has_failed_and_goes_on(no_collector, quiet, kind):
    """What the runs before the present one held is gone."""
    async with Supervisor(policy=QUICK) as sup:
        restart = Restart("always", backoff=0)
        worker = await sup.start(m.worker_that_fails_at_first, m.Thing(), kind=kind, restart=restart)
        await until(lambda: worker.attempt == 3 and worker.state == "running")
        await worker.stop()
        await until(lambda: not m.alive)


async def test_workers_of_a_group(no_collector, quiet, kind, tmp_path):
    """While it can be started again it holds what they are made from, and no longer."""
    async with Supervisor(policy=QUICK) as sup:
        group = sup.group("group", strategy="one_for_all", restart=Restart("always", backoff=0.01))
        first = await group.start(m.worker_that_waits, m.Thing(), kind=kind, name="first")
        await group.start(m.worker_that_waits, m.Thing(), kind=kind, name="second", after=("first",))
        given_up = Restart("failure", max_restarts=0)
        await group.start(m.worker_that_fails_once, tmp_path / "failed", kind=kind, restart=given_up)
        await until(lambda: first.state == "ended" and [each.state for each in group.workers()] == ["running"] * 3)
        again = group.workers()[0]
        assert m.alive
        await group.shutdown()
        await until(lambda: not m.alive)
        assert first.state == again.state == "ended"


@pytest.mark.parametrize("fn", [m.worker_that_spins, m.worker_that_checks, m.worker_that_calls_the_loop])
async def test_a_worker_that_is_stopped_by_any_step(no_collector, quiet, kind, fn):
    async with Supervisor(policy=QUICK) as sup:
        worker = await sup.start(fn, m.Thing(), kind=kind)
        await worker.stop()
        await until(lambda: not m.alive)


@pytest.mark.parametrize("options", [{"ready_timeout": 0.1}, {"heartbeat": 0.1}])
async def test_a_worker_that_is_stuck(no_collector, quiet, kind, options):
    async with Supervisor(policy=QUICK) as sup:
        with contextlib.suppress(Exception):
            worker = await sup.start(m.worker_that_checks, m.Thing(), kind=kind, **options)
            await worker.wait()
        await until(lambda: not m.alive)


async def test_a_worker_that_exits(no_collector, quiet, kind):
    async with Supervisor(policy=QUICK) as sup:
        with contextlib.suppress(Exception):
            worker = await sup.start(m.worker_that_exits, m.Thing(), kind=kind)
            await worker.wait()
        worker = None
        await until(lambda: not m.alive)


async def test_a_call_that_was_stopped_by_its_handle(no_collector, quiet, kind):
    async with Supervisor(policy=QUICK) as sup:
        call = asyncio.create_task(sup.run(m.obeys, m.Thing(), kind=kind))
        await until(lambda: [each.state for each in sup.workers()] == ["running"])
        (worker,) = sup.workers()
        await worker.stop()
        with contextlib.suppress(Exception):
            await call
        del call
        await until(lambda: not m.alive)
        assert (worker.state, worker.attempt, worker.restarts) == ("ended", 1, 0)
