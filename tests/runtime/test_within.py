"""`run(within=)`: a call and its ladder, together, take no longer than that. Time is virtual."""

import asyncio
import math

import pytest

from supervisor import Ask, EscalationPolicy, Inject, Supervisor, SupervisorBusy, WorkerStopped, WorkerTimeout
from supervisor.testing import FakeWorkers

from ..waiting import until


def work():
    """Is never called: its runs are scripted."""


def story(virtual, kind, *, until_end, obeys=None, delay=0.0, cause=None, group=False, policy=None, **options):
    """How a call ends that is scripted, and after how many seconds; something else may stop it after `cause[1]`."""

    async def main(time):
        with FakeWorkers() as fakes:
            fakes.script(work, obeys=obeys, delay=delay)
            async with Supervisor(policy=policy, shutdown_timeout=1000) as sup:
                scope = sup.group("group") if group else sup
                began = time.now
                task = asyncio.ensure_future(scope.run(work, kind=kind, **options))
                await time.advance(0)
                if cause is not None:
                    await time.advance(cause[1])
                    cause[0](scope, task)
                await time.advance(until_end - (time.now - began) - 0.001)
                early = task.done()
                await time.advance(0.002)
                late = not task.done()
                await time.advance(100)
                error = task.exception() if not task.cancelled() else None
                return early, late, error

    return virtual(main)


@pytest.mark.parametrize("group", [False, True], ids=["supervisor", "group"])
@pytest.mark.parametrize("kind", ["thread", "process"])
@pytest.mark.parametrize(("timeout", "within"), [(None, 8), (6, 8), (8, 8), (100, 8), (7.9, 8), (None, 0.1)])
def test_a_call_that_obeys_nothing_is_given_up_at_the_end(virtual, kind, timeout, within, group):
    early, late, error = story(virtual, kind, until_end=within, timeout=timeout, within=within, group=group)
    assert (early, late) == (False, False)
    assert isinstance(error, WorkerTimeout)
    assert error.outcome.ended == "abandoned"
    assert error.outcome.step == ("kill" if kind == "process" else "ask")


@pytest.mark.parametrize(
    ("ladder", "timeout", "within", "asked_at"),
    [
        (Ask(1), None, 10, 9),  # the whole ladder fits
        (Ask(5), None, 10, 7.5),  # it takes a quarter at most
        (Ask(math.inf), None, 10, 7.5),
        (Ask(5), 4, 10, 4),  # where its caller says so
        (Ask(5), 9, 10, 9),
        (Ask(5), 10, 10, 7.5),  # but some time is left for it
        (Ask(5), math.inf, 10, 7.5),
    ],
)
def test_the_ladder_begins_when_it_must(virtual, ladder, timeout, within, asked_at):
    policy = EscalationPolicy(ladder)
    options = {"policy": policy, "timeout": timeout, "within": within}
    early, late, error = story(virtual, "thread", until_end=asked_at + 0.01, obeys="ask", delay=0.01, **options)
    assert (early, late) == (False, False)
    assert error.outcome.ended == "stopped"


@pytest.mark.parametrize(
    ("stop", "ended"),
    [
        (lambda scope, task: task.cancel(), None),
        (lambda scope, task: asyncio.ensure_future(scope.workers()[0].stop()), WorkerStopped),
        (lambda scope, task: scope.request_shutdown(), WorkerStopped),
        (lambda scope, task: (scope.request_shutdown(), task.cancel()), None),
    ],
    ids=["cancel", "stop", "shutdown", "both"],
)
def test_whatever_stops_it_it_has_ended_by_then(virtual, stop, ended):
    early, late, error = story(
        virtual, "thread", until_end=8, cause=(stop, 3), policy=EscalationPolicy(Ask(30), Inject(30)), within=8
    )
    assert (early, late) == (False, False)
    assert error is None if ended is None else type(error) is ended


def test_a_ladder_that_ends_in_time_is_not_shrunk(virtual):
    stop = (lambda scope, task: task.cancel(), 1)
    early, late, _ = story(virtual, "thread", until_end=4, cause=stop, policy=EscalationPolicy(Ask(3)), within=60)
    assert (early, late) == (False, False)


def test_what_ends_by_itself_is_returned(virtual):
    async def main(time):
        with FakeWorkers() as fakes:
            fakes.script(work, after=5, returns="value")
            async with Supervisor() as sup:
                task = asyncio.ensure_future(sup.run(work, within=10))
                await time.advance(6)
                return await task

    assert virtual(main) == "value"


async def test_queueing_counts(leftovers):
    async with Supervisor(max_threads=1, policy=EscalationPolicy(Ask(0.01))) as sup:
        first = asyncio.ensure_future(sup.run(leftovers.block))
        await until(lambda: leftovers.entered)
        with pytest.raises(WorkerTimeout, match="had not started") as caught:
            await sup.run(work, within=0.02)
        assert caught.value.outcome.ended == "cancelled"
        with pytest.raises(WorkerTimeout):
            await sup.run(work, within=0)
        leftovers.release.set()
        await first


async def test_wrong_values_are_refused_by_name():
    async with Supervisor() as sup:
        for value, error in ((-1, ValueError), (math.nan, ValueError), ("5", TypeError), (True, TypeError)):
            with pytest.raises(error, match=r"within="):
                await sup.run(work, within=value)
        assert await sup.run(int, "5", within=math.inf) == 5
        assert sup.statistics().queued == 0


async def test_within_works_beside_the_bound_of_the_queue(leftovers):
    async with Supervisor(max_threads=1, max_queued=0, policy=EscalationPolicy(Ask(0.01))) as sup:
        first = asyncio.ensure_future(sup.run(leftovers.block))
        await until(lambda: leftovers.entered)
        with pytest.raises(SupervisorBusy):
            await sup.run(work, within=1)
        leftovers.release.set()
        await first
