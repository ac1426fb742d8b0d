"""Readiness: who waits for it, for how long, and what happens where it does not come."""

import asyncio
import threading

import pytest

from supervisor import (
    Restart,
    Supervisor,
    SupervisorError,
    WorkerStopped,
    WorkerTimeout,
)

from ..waiting import until
from .restarting import (
    AT_ONCE,
    LIMIT,
    PATIENT,
    SLOWLY,
    backing_off,
    fail_but_last,
    runs,
    wait_for_stop,
)

pytestmark = pytest.mark.usefixtures("quiet")


def test_a_worker_that_is_not_ready_in_time_is_stopped_and_start_raises(virtual, events):
    async def main(loop):
        reasons = []

        def work(ctx):
            ctx.stop.wait()
            reasons.append(ctx.reason)

        async with Supervisor() as sup:
            starting = asyncio.create_task(sup.start(work, name="w", restart=AT_ONCE, ready_timeout=5))
            await until(lambda: "in work" in sup.stacks().get("w", ""))
            (worker,) = sup.workers()
            await loop.advance(4.9)
            assert worker.state == "running"
            await loop.advance(0.1)
            with pytest.raises(WorkerTimeout) as caught:
                await starting
        assert caught.value.outcome is worker.outcome
        assert (worker.outcome.ended, worker.attempt) == ("stopped", 1)
        assert reasons == ["not ready within 5 s"]

    virtual(main)
    (stuck,) = (event for event in events if event["event"] == "worker.stuck")
    assert (stuck["worker"], stuck["reason"], stuck["level"]) == ("w", "not ready within 5 s", "warning")
    assert "in work" in stuck["stack"]


def test_a_worker_that_is_ready_only_once_it_is_being_stopped_has_missed_its_time(virtual):
    async def main(loop):
        release = threading.Event()

        def work(ctx):
            ctx.stop.wait()
            ctx.ready()
            release.wait(LIMIT)

        async with Supervisor(policy=PATIENT) as sup:
            starting = asyncio.create_task(sup.start(work, restart=AT_ONCE, ready_timeout=5))
            await until(lambda: [worker.state for worker in sup.workers()] == ["running"])
            (worker,) = sup.workers()
            await loop.advance(5)
            await until(lambda: "release.wait" in worker.stack())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            release.set()
            with pytest.raises(WorkerTimeout):
                await starting
            assert worker.attempt == 1

    virtual(main)


def test_a_restart_that_is_not_ready_in_time_is_a_failure(virtual):
    async def main(loop):
        def work(ctx):
            if ctx.attempt in (1, 4):
                ctx.ready()
            return ctx.stop.wait()

        async with Supervisor() as sup:
            worker = await sup.start(
                work, restart=Restart("failure", max_restarts=9, within=1000, backoff=0), ready_timeout=5
            )
            restarting = asyncio.create_task(worker.restart())
            for attempt in (2, 3):
                await until(runs(worker, attempt))
                await loop.advance(5)
            await restarting
            assert (worker.attempt, worker.last_outcome.ended) == (4, "stopped")
            await loop.advance(1000)  # once it is ready, nobody waits for a sign of it
            assert worker.state == "running"

    virtual(main)


async def test_a_worker_that_returns_before_it_is_ready_makes_start_raise():
    async with Supervisor() as sup:
        with pytest.raises(SupervisorError, match=r"'w' returned before it had called ctx.ready\(\)"):
            await sup.start(lambda ctx: 5, name="w", ready_timeout=LIMIT, restart=Restart("always", backoff=0))
        assert sup.workers() == ()


async def test_a_worker_that_is_stopped_before_it_is_ready_makes_start_raise():
    async with Supervisor() as sup:
        starting = asyncio.create_task(sup.start(wait_for_stop, ready_timeout=LIMIT))
        await until(lambda: [worker.state for worker in sup.workers()] == ["running"])
        await sup.workers()[0].stop()
        with pytest.raises(WorkerStopped):
            await starting


def test_ready_waits_for_the_next_run(virtual):
    async def main(loop):
        async with Supervisor() as sup:
            worker = await sup.start(fail_but_last(2), restart=SLOWLY)
            await until(backing_off(worker))
            waiting = asyncio.create_task(worker.ready())
            impatient = asyncio.create_task(worker.ready())
            await asyncio.sleep(0)
            impatient.cancel()
            assert not waiting.done()
            await loop.advance(10)
            await waiting
            assert (worker.state, worker.attempt) == ("running", 2)

    virtual(main)


async def test_a_worker_that_is_being_stopped_is_not_ready():
    release = threading.Event()

    def slow(ctx):
        ctx.stop.wait()
        release.wait(LIMIT)

    async with Supervisor(policy=PATIENT) as sup:
        worker = await sup.start(slow, name="db")
        stopping = asyncio.create_task(worker.stop())
        await until(lambda: worker.state == "stopping")
        waiting = asyncio.create_task(worker.ready())
        starting = asyncio.create_task(sup.start(wait_for_stop, after=("db",)))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not waiting.done()
        assert sup.workers() == (worker,)
        release.set()
        await stopping
        for task in (waiting, starting):
            with pytest.raises(WorkerStopped):
                await task
