"""`shutdown(drain=...)`: calls go on for a while, new ones are refused, long-lived workers are asked at once."""

import asyncio
import math
import signal
import threading
import time

import pytest

from supervisor import (
    Ask,
    EscalationPolicy,
    Inject,
    Supervisor,
    SupervisorClosed,
    WorkerStopped,
    WorkerTimeout,
    current_context,
)

from .. import inside
from ..waiting import LIMIT, until

KINDS = ("thread", "process")


def once_begun(begun, fn, argument):
    """Does that once there is a file that says that the shutdown has begun."""
    while not begun.exists():
        time.sleep(0.005)
    return fn(argument)


@pytest.fixture
def begun(tmp_path):
    return tmp_path / "begun"


def current_stop():
    return current_context().stop.wait()


def states(sup):
    return [worker.state for worker in sup.workers()]


@pytest.fixture
def release():
    gate = threading.Event()
    yield gate
    gate.set()


@pytest.mark.parametrize("kind", KINDS)
async def test_all_calls_that_are_queued_when_the_block_is_left_return(kind):
    async with Supervisor(drain=math.inf, shutdown_timeout=60, max_threads=4, max_processes=4) as sup:
        calls = [asyncio.ensure_future(sup.run(time.sleep, 0.02, kind=kind)) for _ in range(100)]
        await asyncio.sleep(0)
    assert await asyncio.gather(*calls) == [None] * 100
    assert set(sup.report.counts()) == {"returned"}  # the first ones may have ended before
    assert sup.report.clean


@pytest.mark.parametrize("kind", KINDS)
async def test_without_a_drain_they_are_withdrawn(kind, begun):
    sup = Supervisor(max_threads=1, max_processes=1, policy=EscalationPolicy(Ask(60)), shutdown_timeout=80)
    calls = [asyncio.ensure_future(sup.run(once_begun, begun, int, "5", kind=kind)) for _ in range(20)]
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(sup.shutdown())
    await until(lambda: inside.drains(sup))
    begun.touch()
    await closing
    ended = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(error, WorkerStopped) for error in ended) == sup.report.never_started >= 19


@pytest.mark.parametrize("kind", KINDS)
async def test_it_ends_with_the_last_call_and_has_an_outcome_for_each(kind, begun):
    async with Supervisor(max_threads=2, max_processes=2, shutdown_timeout=80) as sup:
        calls = [
            asyncio.ensure_future(sup.run(once_begun, begun, int, text, kind=kind)) for text in ("1", "2", "three")
        ]
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(sup.shutdown(drain=math.inf))
        await asyncio.sleep(0)
        begun.touch()
        report = await closing
    assert report.seconds < LIMIT
    assert [type(done) for done in await asyncio.gather(*calls, return_exceptions=True)] == [int, int, ValueError]
    assert report.counts() == {"returned": 2, "failed": 1}
    assert {outcome.step for outcome in report.outcomes} == {None}


async def test_new_work_is_refused_meanwhile_also_that_of_a_call_that_goes_on(release):
    sup, entered = Supervisor(), threading.Event()
    group, executor = sup.group("group"), sup.executor()

    def asks():
        entered.set()
        release.wait(10)
        with pytest.raises(SupervisorClosed):
            executor.submit(int)
        with pytest.raises(SupervisorClosed):
            current_context().call(sup.run, int)
        return current_context().stop.is_set()

    call = asyncio.ensure_future(sup.run(asks))
    await until(entered.is_set)
    closing = asyncio.ensure_future(sup.shutdown(drain=10))
    await asyncio.sleep(0)
    for refused in (sup.run(int), sup.start(print), group.run(int)):
        with pytest.raises(SupervisorClosed):
            await refused
    release.set()
    assert await call is False
    assert (await closing).counts() == {"returned": 1}


async def test_workers_of_start_are_asked_at_once(release):
    sup = Supervisor()
    worker = await sup.start(lambda ctx: ctx.stop.wait())
    call = asyncio.ensure_future(sup.run(release.wait, 10))
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(sup.shutdown(drain=10))
    assert (await worker.wait()).ended == "stopped"
    assert not call.done()
    release.set()
    assert await call
    assert (await closing).counts() == {"returned": 1, "stopped": 1}


def test_what_is_left_when_it_is_over_is_stopped_within_the_same_timeout(virtual, events, leftovers):
    async def main(loop):
        sup = Supervisor(policy=EscalationPolicy(Ask(2), Inject(2, every=10)), max_threads=1)
        stuck = asyncio.ensure_future(sup.run(leftovers.block, name="stuck"))
        waits = asyncio.ensure_future(sup.run(int))
        await until(lambda: states(sup) == ["running", "queued"])
        closing = asyncio.ensure_future(sup.shutdown(10, drain=3))
        await loop.advance(2.9)
        assert states(sup) == ["running", "queued"]
        await loop.advance(0.2)
        assert states(sup) == ["stopping"]
        await loop.advance(4)
        report = await closing
        assert isinstance(stuck.exception(), WorkerStopped)
        assert isinstance(waits.exception(), WorkerStopped)
        assert report.counts() == {"abandoned": 1, "cancelled": 1}
        assert report.never_started == 1
        assert report.seconds == pytest.approx(7, abs=0.5)

    virtual(main)
    began, over = (event for event in events if event["event"] in ("supervisor.stopping", "supervisor.drained"))
    assert (began["timeout"], began["drain"]) == (10, 3)
    assert (over["running"], over["queued"], over["level"]) == (1, 1, "warning")
    assert over["elapsed"] == pytest.approx(3, abs=0.2)


@pytest.mark.parametrize(("timeout", "drain", "lasts"), [(8, 8, 6), (8, math.inf, 6), (8, 7, 6), (8, 5, 5)])
def test_the_ladders_keep_a_quarter_of_the_time(virtual, leftovers, timeout, drain, lasts):
    async def main(loop):
        sup = Supervisor(policy=EscalationPolicy(Ask(2)), drain=drain, shutdown_timeout=timeout)
        call = asyncio.ensure_future(sup.run(leftovers.block))
        await until(lambda: states(sup) == ["running"])
        closing = asyncio.ensure_future(sup.shutdown())
        await loop.advance(lasts - 0.1)
        assert sup.workers()[0].state == "running"
        await loop.advance(0.2)
        assert sup.workers()[0].state == "stopping"
        await loop.advance(2)
        await closing
        assert isinstance(call.exception(), WorkerStopped)

    virtual(main)


def ends_at_once(again):
    async def main(loop):
        sup = Supervisor(policy=EscalationPolicy(Ask(math.inf)), drain=50, shutdown_timeout=100)
        call = asyncio.ensure_future(sup.run(current_stop))
        await until(lambda: states(sup) == ["running"])
        closing = asyncio.ensure_future(sup.shutdown())
        await loop.advance(1)
        assert not call.done()
        again(sup)
        assert await closing is sup.report
        assert await call
        assert sup.report.seconds < 10

    return main


@pytest.mark.parametrize(
    "again",
    [
        lambda sup: asyncio.ensure_future(sup.shutdown(timeout=1)),
        lambda sup: asyncio.ensure_future(sup.shutdown(drain=0)),
        lambda sup: asyncio.ensure_future(sup.shutdown(40, drain=0)),
    ],
)
def test_a_second_call_ends_it(virtual, again):
    virtual(ends_at_once(again))


def test_a_second_call_that_names_no_nearer_end_changes_nothing(virtual, release):
    async def main(loop):
        sup = Supervisor(drain=50, shutdown_timeout=100)
        call = asyncio.ensure_future(sup.run(release.wait, 10))
        await until(lambda: states(sup) == ["running"])
        closing = [asyncio.ensure_future(sup.shutdown(*args)) for args in ((), (200,), ())]
        closing.append(asyncio.ensure_future(sup.shutdown(80, drain=60)))
        await loop.advance(30)
        assert sup.workers()[0].state == "running"
        release.set()
        assert await call
        assert {await done for done in closing} == {sup.report}

    virtual(main)


def test_a_drain_that_is_left_of_a_nearer_timeout_is_kept(virtual, release):
    async def main(loop):
        sup = Supervisor(drain=50, shutdown_timeout=100)
        call = asyncio.ensure_future(sup.run(current_stop))
        await until(lambda: states(sup) == ["running"])
        closing = asyncio.ensure_future(sup.shutdown())
        await loop.advance(1)
        again = asyncio.ensure_future(sup.shutdown(20, drain=5))
        await loop.advance(4)
        assert not call.done()
        await loop.advance(1.5)
        assert await call
        assert await closing is await again

    virtual(main)


def test_a_call_that_times_out_or_is_cancelled_meanwhile_ends_as_ever(virtual, release):
    async def main(loop):
        sup = Supervisor(policy=EscalationPolicy(Ask(5)))
        late = asyncio.ensure_future(sup.run(current_stop, timeout=1))
        left = asyncio.ensure_future(sup.run(current_stop))
        stays = asyncio.ensure_future(sup.run(release.wait, 10))
        await until(lambda: states(sup) == ["running"] * 3)
        closing = asyncio.ensure_future(sup.shutdown(drain=10))
        await asyncio.sleep(0)
        left.cancel()
        await loop.advance(1)
        ended = await asyncio.gather(late, left, return_exceptions=True)
        assert [type(error) for error in ended] == [WorkerTimeout, asyncio.CancelledError]
        release.set()
        assert await stays
        assert (await closing).counts() == {"returned": 1, "stopped": 2}

    virtual(main)


# ------------------------------------------------------------------------------------------------ executors


@pytest.mark.parametrize("kind", KINDS)
async def test_calls_of_executors_go_on_too(kind, begun):
    async with Supervisor(drain=math.inf, shutdown_timeout=60, max_threads=2, max_processes=2) as sup:
        executor = sup.executor(kind)
        futures = [executor.submit(once_begun, begun, abs, -number) for number in range(50)]
        asyncio.get_running_loop().call_later(0.01, begun.touch)  # when the block has been left
    assert [future.result(0) for future in futures] == list(range(50))
    assert sup.report.counts() == {"returned": 50}


async def test_each_call_of_executors_of_many_threads_resolves_and_is_counted(release):
    """They submit until they are refused; what was taken returns, and the report has it if it came after the begin."""
    sup = Supervisor(drain=10, max_threads=2)
    executor, futures, taken = sup.executor(), [], threading.Event()

    def submits():
        mine = []
        while True:
            try:
                mine.append(executor.submit(time.sleep, 0.001))
            except SupervisorClosed:
                return
            futures.append(mine[-1])
            taken.set()
            if len(mine) > 50:  # else so many may be queued, where the loop comes late, that no drain lasts for them
                mine.pop(0).result(LIMIT)
            time.sleep(0.0005)

    threads = [threading.Thread(target=submits) for _ in range(4)]
    for thread in threads:
        thread.start()
    await until(taken.is_set)
    await asyncio.sleep(0.05)
    report = await sup.shutdown()
    for thread in threads:
        thread.join()
    assert [future.result(0) for future in futures] == [None] * len(futures)
    assert set(report.counts()) <= {"returned"}
    assert report.clean


async def test_one_that_is_cancelled_before_its_turn_is_withdrawn(release):
    sup = Supervisor(max_threads=1, drain=10)
    executor = sup.executor()
    first, second = executor.submit(release.wait, 10), executor.submit(int)
    closing = asyncio.ensure_future(sup.shutdown())
    await asyncio.sleep(0)
    assert second.cancel()
    release.set()
    report = await closing
    assert first.result(0)
    assert report.counts() == {"returned": 1, "cancelled": 1}


async def test_late_calls_of_the_default_executor_drain_at_its_end():
    sup = Supervisor(max_threads=1, drain=60, shutdown_timeout=100)
    sup.install_as_default_executor()
    await sup.shutdown()
    loop = asyncio.get_running_loop()
    calls = [asyncio.ensure_future(asyncio.to_thread(time.sleep, 0.01)) for _ in range(10)]
    await asyncio.sleep(0)
    await loop.shutdown_default_executor()
    assert await asyncio.gather(*calls) == [None] * 10


# ------------------------------------------------------------------------------------------------ groups


async def test_a_group_drains_alone(release, events):
    async with Supervisor(max_threads=1) as sup:
        group = sup.group("feeds")
        worker = await group.start(lambda ctx: ctx.stop.wait())
        calls = [asyncio.ensure_future(group.run(release.wait, 10)) for _ in range(3)]
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(group.shutdown(drain=10))
        assert (await worker.wait()).ended == "stopped"
        with pytest.raises(SupervisorClosed, match="group 'feeds' has ended, or is being stopped"):
            await group.run(int)
        release.set()
        assert await asyncio.gather(*calls) == [True] * 3
        assert (await closing).counts() == {"returned": 3, "stopped": 1}
        assert await sup.run(int) == 0
    over = next(event for event in events if event["event"] == "supervisor.drained")
    assert (over["group"], over["running"], over["queued"], over["level"]) == ("feeds", 0, 0, "info")
    assert sup.report.counts() == {}


async def test_a_group_without_workers_drains_too(release):
    async with Supervisor(drain=10, max_threads=1) as sup:
        group = sup.group("feeds")
        calls = [asyncio.ensure_future(group.run(release.wait, 10)) for _ in range(3)]
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(group.shutdown())
        await asyncio.sleep(0.01)
        assert not closing.done()
        release.set()
        assert (await closing).counts() == {"returned": 3}
        assert await asyncio.gather(*calls) == [True] * 3


async def test_calls_in_groups_drain_with_the_supervisor(release):
    sup = Supervisor(max_threads=1)
    feeds = sup.group("feeds")
    inner = feeds.group("inner")
    calls = [asyncio.ensure_future(scope.run(release.wait, 10)) for scope in (inner, feeds, sup)]
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(sup.shutdown(drain=10))
    await asyncio.sleep(0.01)
    release.set()
    assert await asyncio.gather(*calls) == [True] * 3
    assert (await closing).counts() == {"returned": 3}
    assert [group.report.counts() for group in (feeds, inner)] == [{"returned": 2}, {"returned": 1}]


@pytest.mark.parametrize("inner_drains", [True, False])
async def test_whichever_scope_drains_no_longer_stops_its_calls(release, inner_drains):
    sup = Supervisor(max_threads=2, policy=EscalationPolicy(Ask(30)))
    group = sup.group("feeds")
    running = asyncio.ensure_future(group.run(current_stop))
    outside = asyncio.ensure_future(sup.run(current_stop))
    queued = asyncio.ensure_future(group.run(int))
    await until(lambda: [worker.state for worker in sup.workers()] == ["running", "running", "queued"])
    first, second = (group, sup) if inner_drains else (sup, group)
    closing = asyncio.ensure_future(first.shutdown(drain=10))
    await asyncio.sleep(0.01)
    assert not running.done()
    await second.shutdown(drain=0)
    assert await running
    assert isinstance((await asyncio.gather(queued, return_exceptions=True))[0], WorkerStopped)
    assert outside.done() is inner_drains
    await sup.shutdown(drain=0)
    assert await outside
    await closing


# ------------------------------------------------------------------------------------------------ how it begins


async def test_a_body_that_a_signal_ends_drains_and_a_second_signal_ends_that(release, monkeypatch):
    inside.patch(monkeypatch, LAST_LEAST=LIMIT, LAST_RESORT_SLACK=LIMIT)  # who obeys has time for it, on any machine
    began = time.monotonic()
    async with Supervisor(drain=60, shutdown_timeout=100, policy=EscalationPolicy(Ask(30))) as sup:
        calls = [asyncio.ensure_future(sup.run(current_stop)) for _ in range(2)]
        await until(lambda: states(sup) == ["running"] * 2)
        asyncio.get_running_loop().call_later(0.05, signal.raise_signal, signal.SIGTERM)
        assert await sup.wait_for_signal() is signal.SIGTERM
        asyncio.get_running_loop().call_later(0.2, signal.raise_signal, signal.SIGTERM)
        asyncio.get_running_loop().call_later(0.1, lambda: seen.extend(states(sup)))
        seen = []
    assert seen == ["running"] * 2
    assert await asyncio.gather(*calls) == [True] * 2
    assert time.monotonic() - began < 2 * LIMIT


async def test_a_request_drains_as_the_supervisor_says(release):
    sup = Supervisor(drain=10)
    call = asyncio.ensure_future(sup.run(release.wait, 10))
    await asyncio.sleep(0)
    sup.request_shutdown("deploy")
    await asyncio.sleep(0.02)
    closing = asyncio.ensure_future(sup.shutdown())  # as leaving the block does: it shares what goes on
    await asyncio.sleep(0.02)
    assert not call.done()
    release.set()
    assert await call
    assert (await closing).reason == "deploy"


@pytest.mark.parametrize("drain", [-1, math.nan, "5", True])
async def test_a_wrong_drain_is_refused(drain):
    sup = Supervisor()
    for refused in (lambda: Supervisor(drain=drain), lambda: sup.shutdown(drain=drain).send(None)):
        with pytest.raises((TypeError, ValueError), match="drain="):
            refused()
    await sup.shutdown()


async def test_what_is_lost_on_the_way_is_ended_by_the_last_resort(monkeypatch, release):
    """The timer of the drain never rings."""
    inside.break_timer_of_drains(monkeypatch)
    inside.patch(monkeypatch, LAST_LOOK=LIMIT)  # who ends then is heard, on any machine
    sup = Supervisor(policy=EscalationPolicy(Ask(0.05)))
    call = asyncio.ensure_future(sup.run(current_stop))
    await until(lambda: [worker.state for worker in sup.workers()] == ["running"])
    began = time.monotonic()
    await sup.shutdown(0.3, drain=0.1)
    (ended,) = await asyncio.gather(call, return_exceptions=True)
    assert ended is True or isinstance(ended, WorkerStopped)  # the latter where the machine is too busy to hear of it
    assert time.monotonic() - began < LIMIT / 2
