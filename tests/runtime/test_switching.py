"""While a shutdown takes longer than those need who obey, threads let each other have the interpreter sooner."""

import asyncio
import sys
import threading

import pytest

from supervisor import Ask, EscalationPolicy, Inject, Supervisor

from .. import inside
from ..waiting import LIMIT, until


@pytest.fixture(autouse=True)
def interval():
    before = sys.getswitchinterval()
    yield before
    assert sys.getswitchinterval() == before
    sys.setswitchinterval(before)


async def shut_down_two(monkeypatch, meanwhile):
    """Shuts two supervisors down whose workers take their time; calls this in the worker of each when that is over."""
    seen, at_once, later = [], [], threading.Event()

    def work(ctx):
        ctx.stop.wait()
        at_once.append(sys.getswitchinterval())
        later.wait(LIMIT)
        seen.append(sys.getswitchinterval())
        meanwhile()

    before, loop = sys.getswitchinterval(), asyncio.get_running_loop()
    first, second = Supervisor(), Supervisor()
    await first.start(work)
    await second.start(work)
    with monkeypatch.context() as stopped:  # no timer rings until both have looked
        now = loop.time()
        stopped.setattr(loop, "time", lambda: now)
        first.request_shutdown()
        shutdown = asyncio.ensure_future(second.shutdown())
        await until(lambda: len(at_once) == 2)
    loop.call_later(inside.PATIENCE + 0.01, later.set)  # the loop calls it after theirs
    await shutdown
    await first.wait_closed()
    assert at_once == [before] * 2, "those who obey at once need no haste"
    return seen


async def test_the_interval_is_short_during_a_longer_shutdown_and_as_before_after_the_last(interval, monkeypatch):
    seen = await shut_down_two(monkeypatch, lambda: None)
    assert all(seconds == pytest.approx(inside.FAST) for seconds in seen)
    assert sys.getswitchinterval() == interval


async def test_what_the_application_has_set_stays(interval, monkeypatch):
    await shut_down_two(monkeypatch, lambda: sys.setswitchinterval(0.003))
    assert sys.getswitchinterval() == pytest.approx(0.003)
    sys.setswitchinterval(interval)
    sys.setswitchinterval(inside.FAST / 2)
    seen = await shut_down_two(monkeypatch, lambda: None)
    assert all(seconds == pytest.approx(inside.FAST / 2) for seconds in seen), "it is never made longer"
    sys.setswitchinterval(interval)


def test_who_is_gone_holds_it_no_longer(interval):
    class Holder:
        pass

    holder = Holder()
    inside.hold(holder)
    inside.hold(holder)
    assert sys.getswitchinterval() < interval
    del holder
    assert sys.getswitchinterval() == interval


async def test_workers_that_obey_are_heard_beside_those_that_compute_and_swallow_everything():
    over = threading.Event()

    def swallow(ctx):
        while not over.is_set():
            try:
                while not over.is_set():
                    sum(range(50))
            except BaseException:
                pass

    sup = Supervisor(policy=EscalationPolicy(Ask(LIMIT)))
    try:
        for number in range(3):
            await sup.start(swallow, name=f"swallows-{number}x", policy=EscalationPolicy(Ask(1), Inject(0.3)))
        for number in range(60):
            await sup.start(lambda ctx: ctx.stop.wait(), name=f"listens-{number}x")
        report = await sup.shutdown(timeout=LIMIT)
    finally:
        over.set()
    assert {outcome.worker for outcome in report.abandoned} == {f"swallows-{number}x" for number in range(3)}
    assert report.counts()["stopped"] == 60


def test_the_least_that_anybody_holds_counts_in_whatever_order_they_release_it(interval):
    class Holder:
        pass

    first, second = Holder(), Holder()
    for order in ((first, second), (second, first)):
        inside.hold(first)
        inside.hold(second, inside.FAST / 10)
        assert sys.getswitchinterval() < inside.FAST / 5
        inside.release(order[0])
        assert sys.getswitchinterval() < interval
        inside.release(order[1])
        assert sys.getswitchinterval() == interval
