"""A KeyboardInterrupt in the loop, at every line that restarts or ends workers together, loses none of them."""

import asyncio
import sys
import threading
import time

import pytest

from supervisor import Ask, EscalationPolicy, Restart, Supervisor, current_context

from .. import inside
from .striking import LIMIT, run_struck, strike_everywhere

PATIENT = EscalationPolicy(Ask(30))


class Band:
    """Workers that say who runs; one of them fails in its first run when it is told to."""

    def __init__(self):
        self.running, self.twice, self.runs = [], [], 0
        self.fail = threading.Event()

    def waits(self, ctx, fails=False):
        if ctx.name in self.running:
            self.twice.append(ctx.name)
        self.running.append(ctx.name)
        self.runs += 1
        first = self.runs <= 3
        while not ctx.stop.wait(0.001) and not (fails and first and self.fail.is_set()):
            pass
        self.running.remove(ctx.name)
        if not ctx.stop.is_set():
            raise ValueError(ctx.name)

    def fails(self, ctx):
        self.waits(ctx, fails=True)

    async def is_up_again(self, sup, striker):
        """Has the one fail, and waits until all three run once more."""
        sys.settrace(striker.trace)
        self.fail.set()
        until = time.monotonic() + LIMIT
        while not (self.runs == 6 and [worker.state for worker in sup.workers()] == ["running"] * 3):
            assert time.monotonic() < until, f"struck in {striker.struck}: {sup.workers()}"
            await asyncio.sleep(0.001)
        sys.settrace(None)
        assert not self.twice, f"struck in {striker.struck}: {self.twice} ran twice"
        assert len(self.running) == 3
        report = await asyncio.wait_for(sup.shutdown(), LIMIT)
        assert report.counts() == {"stopped": 3}, f"struck in {striker.struck}"


async def workers_restart_together(striker):
    band, sup = Band(), Supervisor(strategy="one_for_all", policy=PATIENT)
    restart = Restart("failure", backoff=0)
    for name, work in (("a", band.waits), ("b", band.fails), ("c", band.waits)):
        await sup.start(work, name=name, restart=restart)
    await band.is_up_again(sup, striker)


async def a_group_is_started_again(striker):
    band, sup = Band(), Supervisor(policy=PATIENT)
    feeds = sup.group("feeds", restart=Restart("always", backoff=0))
    await feeds.start(band.waits, name="a")
    await feeds.start(band.waits, name="b", after=("a",))
    await feeds.start(band.fails, name="c", restart=Restart("failure", max_restarts=0))
    await band.is_up_again(sup, striker)
    assert sorted(outcome.worker for outcome in sup.report.outcomes) == ["feeds/a", "feeds/b", "feeds/c"]


def wait(ctx):
    ctx.stop.wait()


async def populated(sup):
    """Has a group with a group in it, an order, and a call; returns the groups and the call."""
    feeds = sup.group("feeds")
    inner = feeds.group("inner")
    await feeds.start(wait, name="a")
    await inner.start(wait, name="b")
    await feeds.start(wait, name="c", after=("a",))
    entered = threading.Event()

    def call():
        entered.set()
        return current_context().stop.wait()

    calling = asyncio.ensure_future(feeds.run(call))
    while not entered.is_set():
        await asyncio.sleep(0)
    return feeds, inner, calling


async def a_group_is_shut_down(striker):
    sup = Supervisor(policy=PATIENT)
    feeds, inner, calling = await populated(sup)
    sys.settrace(striker.trace)
    asyncio.get_running_loop().call_soon(feeds.request_shutdown)
    report = await asyncio.wait_for(feeds.wait_closed(), LIMIT)
    sys.settrace(None)
    assert report.counts() == {"stopped": 4}, f"struck in {striker.struck}"
    assert (await asyncio.wait_for(inner.wait_closed(), LIMIT)).counts() == {"stopped": 1}
    report = await asyncio.wait_for(sup.shutdown(), LIMIT)
    assert report.counts() == {}, f"struck in {striker.struck}: {report.outcomes}"
    assert await calling


async def a_tree_is_shut_down(striker):
    sup = Supervisor(policy=PATIENT)
    feeds, inner, calling = await populated(sup)
    later = sup.group("later", after=("feeds",))
    await later.start(wait, name="d")
    empty = sup.group("empty", after=("later",))
    sys.settrace(striker.trace)
    asyncio.get_running_loop().call_soon(sup.request_shutdown)
    report = await asyncio.wait_for(sup.wait_closed(), LIMIT)
    sys.settrace(None)
    assert report.counts() == {"stopped": 5}, f"struck in {striker.struck}"
    counts = [group.report.counts() for group in (feeds, inner, later, empty)]
    assert counts == [{"stopped": 4}, {"stopped": 1}, {"stopped": 1}, {}], f"struck in {striker.struck}"
    assert await calling


@pytest.mark.timeout(240)
@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(
    ("scenario", "where"),
    [
        (workers_restart_together, inside.WHEN_A_GROUP_RESTARTS),
        (a_group_is_started_again, inside.WHEN_A_GROUP_RESTARTS),
        (a_group_is_shut_down, inside.WHEN_A_SCOPE_IS_SHUT_DOWN),
        (a_tree_is_shut_down, inside.WHEN_A_SCOPE_IS_SHUT_DOWN),
    ],
)
def test_an_interrupt_at_any_line_loses_no_worker(scenario, where):
    strike_everywhere(scenario, where, often=2)


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("last", ["worker", "call"])
def test_an_end_that_is_interrupted_and_done_again_is_in_no_report_of_what_begins_meanwhile(monkeypatch, last):
    async def scenario(striker):
        async with Supervisor(policy=PATIENT) as sup:
            await sup.start(wait, name="outside")
            feeds = sup.group("feeds")
            entered = threading.Event()
            if last == "worker":
                await feeds.start(wait)
            else:
                calling = asyncio.ensure_future(feeds.run(lambda: entered.set() or current_context().stop.wait()))
                while not entered.is_set():
                    await asyncio.sleep(0)
            asyncio.get_running_loop().call_soon(feeds.request_shutdown)
            while feeds.report is None:
                await asyncio.sleep(0)
            report = await sup.shutdown()
        assert feeds.report.counts() == {"stopped": 1}
        assert [outcome.worker for outcome in report.outcomes] == ["outside"]
        if last == "call":
            await calling

    with inside.interrupted_once_a_group_has_ended(monkeypatch) as struck:
        run_struck(0, inside.WHEN_A_SCOPE_IS_SHUT_DOWN, scenario)
    assert struck
