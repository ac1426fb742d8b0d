"""A KeyboardInterrupt in the loop, at every line of the supervisor's own code, loses no completion."""

import asyncio
import concurrent.futures
import functools
import sys
import threading

import pytest

from supervisor import Ask, EscalationPolicy, Supervisor, WorkerStopped, current_context

from .. import inside
from .striking import LIMIT, strike_everywhere


async def calls_end(striker):
    sup = Supervisor(max_threads=2)
    await sup.run(int)
    release = threading.Event()
    calls = [asyncio.create_task(sup.run(lambda n=n: release.wait(LIMIT) and n)) for n in range(4)]
    worker = await sup.start(lambda ctx: release.wait(LIMIT))
    sys.settrace(striker.trace)
    release.set()
    done, pending = await asyncio.wait([*calls, asyncio.create_task(worker.wait())], timeout=LIMIT)
    sys.settrace(None)
    assert not pending, f"struck in {striker.struck}: {len(pending)} never resolved"
    report = await asyncio.wait_for(sup.shutdown(), LIMIT)
    assert report.counts() == {}, f"struck in {striker.struck}"
    return len(done)


async def all_hear_of_an_end(striker, how):
    """Of a stopped call of an executor, whose future the loop resolves."""
    sup = Supervisor(policy=EscalationPolicy(Ask(30)))
    entered = threading.Event()
    future = sup.executor().submit(a_stopped_call, entered, how)
    while not entered.is_set():
        await asyncio.sleep(0)
    heard = []
    future.add_done_callback(heard.append)
    ways = [
        future.exception,
        lambda: concurrent.futures.wait([future]),
        lambda: list(concurrent.futures.as_completed([future])),
    ]
    waiting = [threading.Thread(target=lambda way=way: heard.append(way()), daemon=True) for way in ways]
    for thread in waiting:
        thread.start()
    while not inside.all_wait_for(future, 1, 2):
        await asyncio.sleep(0)
    wrapped = asyncio.wrap_future(future)
    sys.settrace(striker.trace)
    stopping = threading.Thread(target=future.cancel)
    stopping.start()
    await asyncio.wait([wrapped], timeout=LIMIT)
    sys.settrace(None)
    for thread in (stopping, *waiting):
        thread.join(LIMIT)
        assert not thread.is_alive(), f"struck in {striker.struck}: somebody still waits"
    assert len(heard) == 4, f"struck in {striker.struck}"
    assert (wrapped.exception() is None) == (how == "returns")
    await sup.shutdown()


def a_stopped_call(entered, how):
    ctx = current_context()
    entered.set()
    ctx.stop.wait()
    if how == "fails":
        raise ValueError(how)


async def a_stop_ends(striker):
    sup = Supervisor(policy=EscalationPolicy(Ask(LIMIT)))
    worker = await sup.start(lambda ctx: ctx.stop.wait())
    call = asyncio.create_task(sup.run(lambda: hold.wait(LIMIT), timeout=0.005, policy=EscalationPolicy(Ask(0.005))))
    hold = threading.Event()
    await asyncio.sleep(0)
    sys.settrace(striker.trace)
    await asyncio.wait([call], timeout=0.05)
    sys.settrace(None)
    # An alarm that was struck as it began to ring is heard at the latest when something else is stopped.
    assert (await worker.stop()).ended == "stopped"
    await sup.shutdown(timeout=0.05)
    done, pending = await asyncio.wait([call], timeout=LIMIT)
    assert not pending, f"struck in {striker.struck}: the call never resolved"
    assert isinstance(call.exception(), WorkerStopped)
    hold.set()
    while sup.statistics().abandoned:
        await asyncio.sleep(0.001)
    return len(done)


async def a_shutdown_asks_all(striker):
    sup = Supervisor(max_threads=1, policy=EscalationPolicy(Ask(30)))

    def waits():
        entered.set()
        return current_context().stop.wait()

    for _ in range(3):
        await sup.start(lambda ctx: ctx.stop.wait())
    entered = threading.Event()
    calls = [asyncio.create_task(sup.run(waits)) for _ in range(2)]
    while not entered.is_set():
        await asyncio.sleep(0)
    sys.settrace(striker.trace)
    asyncio.get_running_loop().call_soon(sup.request_shutdown)
    await asyncio.wait(calls, timeout=LIMIT)
    sys.settrace(None)
    report = await asyncio.wait_for(sup.shutdown(), LIMIT)
    assert report.counts() == {"stopped": 4, "cancelled": 1}, f"struck in {striker.struck}"
    assert report.never_started == 1
    assert [type(call.exception()) for call in calls] == [type(None), WorkerStopped]
    return 2


async def many_are_started(striker):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(inside.Pace, "LEAST", 2)
        inside.patch(patched, TURN=0.0)
        sup = Supervisor(policy=EscalationPolicy(Ask(LIMIT)))
        starting = [asyncio.create_task(sup.start(lambda ctx: ctx.stop.wait())) for _ in range(7)]
        sys.settrace(striker.trace)
        _, pending = await asyncio.wait(starting, timeout=LIMIT)
        sys.settrace(None)
        assert not pending, f"struck in {striker.struck}: {len(pending)} never started"
        report = await asyncio.wait_for(sup.shutdown(), LIMIT)
    assert report.counts() == {"stopped": 7}, f"struck in {striker.struck}"
    return 7


async def set_once_it_drains(held, release):
    while not inside.drains(held):
        await asyncio.sleep(0.001)
    release.set()


async def a_drain_ends_with_its_calls(striker):
    sup = Supervisor(max_threads=1, shutdown_timeout=60, drain=30)
    group, release = sup.group("group"), threading.Event()
    calls = [asyncio.create_task(scope.run(release.wait, LIMIT)) for scope in (sup, group, sup)]
    await asyncio.sleep(0)
    sys.settrace(striker.trace)
    asyncio.get_running_loop().call_soon(sup.request_shutdown)
    releasing = asyncio.create_task(set_once_it_drains(sup, release))
    await asyncio.wait([*calls, releasing], timeout=LIMIT)
    report = await asyncio.wait_for(sup.wait_closed(), LIMIT)
    sys.settrace(None)
    assert report.counts() == {"returned": 3}, f"struck in {striker.struck}"
    assert group.report.counts() == {"returned": 1}, f"struck in {striker.struck}"
    assert [await call for call in calls] == [True] * 3
    return 3


async def a_drain_is_over(striker):
    sup = Supervisor(max_threads=1, shutdown_timeout=60, drain=0.01, policy=EscalationPolicy(Ask(30)))

    def waits():
        entered.set()
        return current_context().stop.wait()

    group, entered = sup.group("group"), threading.Event()
    calls = [asyncio.create_task(scope.run(waits)) for scope in (group, sup, group)]
    while not entered.is_set():
        await asyncio.sleep(0)
    sys.settrace(striker.trace)
    asyncio.get_running_loop().call_soon(sup.request_shutdown)
    await asyncio.wait(calls, timeout=LIMIT)
    report = await asyncio.wait_for(sup.wait_closed(), LIMIT)
    sys.settrace(None)
    assert report.counts() == {"stopped": 1, "cancelled": 2}, f"struck in {striker.struck}"
    assert group.report.counts() == {"stopped": 1, "cancelled": 1}, f"struck in {striker.struck}"
    assert [type(call.exception()) for call in calls] == [type(None), WorkerStopped, WorkerStopped]
    return 3


async def a_pool_drains(striker):
    async with Supervisor(shutdown_timeout=60) as sup:
        lane, release = sup.pool("lane", kind="thread", size=1), threading.Event()
        calls = [asyncio.create_task(scope.run(release.wait, LIMIT, pool=lane)) for scope in (sup, sup.group("group"))]
        await asyncio.sleep(0)
        sys.settrace(striker.trace)
        releasing = asyncio.create_task(set_once_it_drains(lane, release))
        report = await ended(lane, drain=30)
        await releasing
        sys.settrace(None)
        assert report.counts() == {"returned": 2}, f"struck in {striker.struck}"
        assert [await call for call in calls] == [True] * 2
        assert await sup.pool("lane", kind="thread").run(int) == 0


async def a_pool_is_shut_down(striker):
    async with Supervisor(shutdown_timeout=60, policy=EscalationPolicy(Ask(30))) as sup:

        def waits():
            entered.set()
            return current_context().stop.wait()

        lane, entered = sup.pool("lane", kind="thread", size=1), threading.Event()
        calls = [asyncio.create_task(lane.run(waits)) for _ in range(2)]
        while not entered.is_set():
            await asyncio.sleep(0)
        sys.settrace(striker.trace)
        report = await ended(lane, drain=0.01)
        sys.settrace(None)
        assert report.counts() == {"stopped": 1, "cancelled": 1}, f"struck in {striker.struck}"
        await asyncio.wait(calls, timeout=LIMIT)
        assert [type(call.exception()) for call in calls] == [type(None), WorkerStopped]
        assert await sup.pool("lane", kind="thread").run(int) == 0


async def ended(pool, drain):
    """Shuts a pool down from a callback of the loop, which an interrupt may end."""
    reports = []

    async def shutdown():
        reports.append(await pool.shutdown(drain=drain))

    until = asyncio.get_running_loop().time() + LIMIT
    while not reports:  # a task that an interrupt ends is begun again, as whoever else wants its end would do
        assert asyncio.get_running_loop().time() < until, "it does not end"
        task = asyncio.create_task(shutdown())
        await asyncio.wait([task], timeout=LIMIT)
        assert task.done(), "it does not end"
        task.exception()
    return reports[0]


@pytest.mark.timeout(240)
@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(
    ("scenario", "where"),
    [
        (calls_end, inside.WHEN_CALLS_END),
        (a_stop_ends, inside.WHEN_ALARMS_RING),
        (a_shutdown_asks_all, inside.WHEN_A_SHUTDOWN_ASKS),
        (a_drain_ends_with_its_calls, inside.WHEN_A_SCOPE_IS_SHUT_DOWN),
        (a_drain_is_over, inside.WHEN_A_SCOPE_IS_SHUT_DOWN),
        (a_pool_drains, inside.WHEN_A_SCOPE_IS_SHUT_DOWN),
        (a_pool_is_shut_down, inside.WHEN_A_SCOPE_IS_SHUT_DOWN),
    ],
)
def test_an_interrupt_at_any_line_loses_nothing(scenario, where):
    strike_everywhere(scenario, where)


@pytest.mark.usefixtures("quiet")
def test_an_interrupt_keeps_no_start_waiting():
    strike_everywhere(many_are_started, inside.WHEN_MANY_ARE_STARTED, least=8)


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("how", ["returns", "fails"])
def test_an_interrupt_keeps_nobody_waiting_for_a_future(how):
    strike_everywhere(functools.partial(all_hear_of_an_end, how=how), inside.WHEN_A_FUTURE_IS_RESOLVED, least=8)
