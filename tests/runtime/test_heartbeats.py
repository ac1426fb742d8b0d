"""Heartbeats: a worker that is silent for too long is stopped, and restarted."""

import asyncio
import math
import threading

import pytest

from supervisor import (
    Ask,
    EscalationPolicy,
    Inject,
    Restart,
    RestartLimitExceeded,
    Supervisor,
)

from ..waiting import until
from .restarting import (
    AT_ONCE,
    LIMIT,
    PATIENT,
    readies,
    spin,
    wait_for_stop,
)

pytestmark = pytest.mark.usefixtures("quiet")


def beating(beat, then):
    """A worker that gives a heartbeat whenever `beat` is released, and ends its life as `then` does."""

    def work(ctx):
        ctx.ready()
        while not silent.is_set() and beat.acquire(timeout=LIMIT):
            ctx.heartbeat()
            beaten.release()
        then(ctx)

    silent, beaten = threading.Event(), threading.Semaphore(0)
    return work, silent, beaten


def test_a_heartbeat_in_time_keeps_a_worker_alive(virtual, events):
    async def main(loop):
        beat = threading.Semaphore(0)
        work, silent, beaten = beating(beat, lambda ctx: ctx.stop.wait())
        async with Supervisor() as sup:
            worker = await sup.start(work, heartbeat=10, restart=AT_ONCE, ready_timeout=5)
            for _ in range(5):
                await loop.advance(9.9)
                beat.release()
                await until(lambda: beaten.acquire(blocking=False))
            assert (worker.state, worker.attempt) == ("running", 1)
            silent.set()
            beat.release()
            await until(lambda: beaten.acquire(blocking=False))
            await loop.advance(9.9)
            assert worker.state == "running"
            await loop.advance(0.2)
            await until(lambda: worker.attempt == 2)
            assert worker.last_outcome.ended == "stopped"

    virtual(main)
    stuck = [event["reason"] for event in events if event["event"] == "worker.stuck"]
    assert stuck == ["no heartbeat for 10 s"]


def test_a_heartbeat_is_due_from_readiness_on(virtual):
    async def main(loop):
        go_on = threading.Event()

        def work(ctx):
            go_on.wait(LIMIT)
            return readies(ctx)

        async with Supervisor() as sup:
            starting = asyncio.create_task(sup.start(work, heartbeat=1, ready_timeout=100))
            await until(lambda: [worker.state for worker in sup.workers()] == ["running"])
            await loop.advance(99)
            go_on.set()
            worker = await starting
            await loop.advance(0.9)
            assert worker.state == "running"
            await loop.advance(0.1)
            assert (await worker.wait()).ended == "stopped"

    virtual(main)


def test_the_stop_event_does_not_beat_for_a_worker(virtual):
    async def main(loop):
        def work(ctx):
            while not ctx.stop.wait(0.001):
                ctx.remaining()

        async with Supervisor() as sup:
            worker = await sup.start(work, heartbeat=10)
            await loop.advance(10)
            outcome = await worker.wait()
            assert (outcome.ended, worker.restarts) == ("stopped", 0)  # nobody has asked for a restart

    virtual(main)


def stuck_story(virtual, fn, policy, where, **options):
    """A worker with a heartbeat of 10 s that is silent in that function; returns it, and the supervisor's report."""

    async def main(loop):
        sup = Supervisor(policy=policy)
        worker = await sup.start(fn, name="w", heartbeat=10, **options)
        await until(lambda: f"in {where}" in worker.stack() and worker.state == "running")
        await loop.advance(10)
        for _ in range(10):
            await loop.advance(0.1)
        await until(lambda: worker.attempt == 2 or worker.outcome is not None)
        state = worker.state
        report = await sup.shutdown(timeout=0)
        return worker, state, report

    return virtual(main)


def first_then_obey(fn):
    def work(ctx):
        if ctx.attempt == 1:
            fn()
        return ctx.stop.wait()

    return work


def test_a_silent_worker_that_obeys_is_stopped_and_restarted(virtual, events):
    worker, _, report = stuck_story(virtual, wait_for_stop, PATIENT, "wait_for_stop", restart=AT_ONCE)
    assert (worker.last_outcome.attempt, worker.restarts) == (2, 1)
    assert [outcome.attempt for outcome in report.outcomes] == [2]
    told = [(event["event"], event.get("reason")) for event in events if event.get("worker") == "w"]
    why = "no heartbeat for 10 s"
    assert told[1:4] == [("worker.stuck", why), ("worker.stopping", why), ("worker.restarting", why)]
    assert "in wait_for_stop" in next(event for event in events if event["event"] == "worker.stuck")["stack"]


def test_a_silent_loop_is_injected_and_restarted(virtual, events):
    policy = EscalationPolicy(Ask(0.1), Inject(math.inf))
    worker, _, _ = stuck_story(virtual, first_then_obey(spin), policy, "spin", restart=AT_ONCE)
    assert (worker.attempt, worker.restarts) == (2, 1)
    (restarting,) = (event for event in events if event["event"] == "worker.restarting")
    assert (restarting["ended"], restarting["step"]) == ("injected", "inject")
    escalated = next(event for event in events if event["event"] == "worker.escalated")
    assert "in spin" in escalated["stack"]


def test_a_silent_c_call_is_abandoned_and_nothing_runs_beside_it(virtual, events, leftovers):
    policy = EscalationPolicy(Ask(0.1), Inject(0.1))
    worker, state, report = stuck_story(virtual, first_then_obey(leftovers.block), policy, "block", restart=AT_ONCE)
    assert (state, worker.attempt, worker.restarts) == ("ended", 1, 0)
    assert worker.outcome.ended == "abandoned"
    assert isinstance(worker.outcome.error, RestartLimitExceeded)
    assert report.outcomes == ()
    (ended,) = (event for event in events if event["event"] == "worker.ended")
    assert (ended["level"], ended["ended"], ended["exc_info"]) == ("error", "abandoned", worker.outcome.error)


def test_a_worker_that_is_stopped_is_not_asked_for_heartbeats(virtual, events):
    async def main(loop):
        release = threading.Event()

        def work(ctx):
            ctx.stop.wait()
            release.wait(LIMIT)

        async with Supervisor(policy=PATIENT) as sup:
            worker = await sup.start(work, heartbeat=10, restart=AT_ONCE)
            stopping = asyncio.create_task(worker.stop("mine"))
            await until(lambda: worker.state == "stopping")
            await loop.advance(100)
            release.set()
            await stopping

    virtual(main)
    assert "worker.stuck" not in [event["event"] for event in events]


def test_stopping_a_worker_that_is_found_stuck_ends_it(virtual):
    async def main(loop):
        release = threading.Event()

        def work(ctx):
            ctx.stop.wait()
            release.wait(LIMIT)

        async with Supervisor(policy=PATIENT) as sup:
            worker = await sup.start(work, heartbeat=10, restart=AT_ONCE)
            await loop.advance(10)
            assert worker.state == "stopping"
            stopping = asyncio.create_task(worker.stop())
            await asyncio.sleep(0)
            release.set()
            assert (await stopping).attempt == 1

    virtual(main)


async def test_an_infinite_heartbeat_or_ready_timeout_is_none():
    async with Supervisor() as sup:
        worker = await sup.start(readies, heartbeat=math.inf)
        assert worker.state == "running"


# ------------------------------------------------------------------------------------------------ without inject


DEAF = EscalationPolicy(Ask(0.1))
FAILURE = Restart("failure")


@pytest.mark.parametrize(
    ("policy", "options", "told"),
    [
        (DEAF, {"heartbeat": 60, "restart": FAILURE}, True),
        (DEAF, {"ready_timeout": 60, "restart": Restart("always")}, True),
        (DEAF, {"heartbeat": 60, "restart": FAILURE, "kind": "process"}, False),  # it is killed at last
        (None, {"heartbeat": 60, "restart": FAILURE}, False),
        (PATIENT, {"heartbeat": 60, "restart": FAILURE}, False),  # it is waited for
        (DEAF, {"heartbeat": 60, "restart": None}, False),  # nobody wants it to be replaced
        (DEAF, {"restart": FAILURE}, False),  # nobody would find it stuck
    ],
)
async def test_a_ladder_that_cannot_end_what_is_to_be_replaced_is_told_once(events, policy, options, told):
    async with Supervisor() as sup:
        for _ in range(2):
            await sup.start(readies, policy=policy, **options)
    found = [(event["level"], event["reason"]) for event in events if event["event"] == "worker.irreplaceable"]
    why = "stuck, it cannot be replaced: without inject nothing ends a thread that does not stop when it is asked"
    assert found == [("warning", why)] * told
