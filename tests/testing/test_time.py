"""Virtual time: what takes seconds on a ladder takes milliseconds in a test, with real threads and processes."""

import asyncio
import math
import threading
import time as real

import pytest
import uvloop

from supervisor import (
    Ask,
    EscalationPolicy,
    Inject,
    Kill,
    Restart,
    Supervisor,
    Terminate,
    WorkerTimeout,
    current_context,
)
from supervisor.testing import VirtualTime

from .. import inside

LONG = EscalationPolicy(Ask(500), Inject(200, every=1000), Terminate(300), Kill(200))


def wait_for_stop(ctx):
    ctx.stop.wait()


def spin(ctx):
    while True:
        pass


def check_for_ever():
    while True:
        current_context().check()


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request):
    def run(main):
        with asyncio.Runner(loop_factory=request.param) as runner:
            return runner.run(main())

    return run


async def test_it_stands_still_until_it_is_moved(ladder_time, leftovers):
    began = ladder_time.now
    async with Supervisor(policy=EscalationPolicy(Ask(0.01))) as sup:
        worker = await sup.start(leftovers.block)
        stopping = asyncio.create_task(worker.stop())
        await asyncio.sleep(0.1)
        assert not stopping.done()
        assert ladder_time.now == began
        await ladder_time.advance(0.01)
        assert (await stopping).ended == "abandoned"
        assert ladder_time.now == began + 0.01


def test_a_ladder_of_minutes_takes_no_time(run, leftovers):
    async def main():
        with VirtualTime() as time:
            sup = Supervisor(policy=LONG, shutdown_timeout=math.inf)
            await sup.start(leftovers.block, name="stuck")
            await sup.start(spin, name="spins")
            await sup.start(wait_for_stop, name="obeys")
            closing = asyncio.create_task(sup.shutdown())
            while len(sup.workers()) > 2:
                await asyncio.sleep(0)  # the clock stands: however long this takes, nobody is given up
            await time.advance(500 - 0.1)
            assert {worker.name for worker in sup.workers()} == {"stuck", "spins"}
            await time.advance(0.1)
            while len(sup.workers()) > 1:
                await asyncio.sleep(0)
            await time.advance(200)
            return await closing

    began = real.monotonic()
    report = run(main)
    assert {outcome.worker: outcome.ended for outcome in report.outcomes} == {
        "stuck": "abandoned",
        "spins": "injected",
        "obeys": "stopped",
    }
    assert report.seconds == pytest.approx(700, abs=0.01)
    assert real.monotonic() - began < 30


async def test_workers_have_real_time_to_react_when_the_clock_moves_over_several_steps(leftovers):
    with VirtualTime(patience=2) as time:
        async with Supervisor(policy=LONG, shutdown_timeout=math.inf) as sup:
            worker = await sup.start(spin)
            stopping = asyncio.create_task(worker.stop())
            await time.advance(700)
            assert (await stopping).ended == "injected"


async def test_a_process_climbs_its_ladder_in_it(ladder_time):
    async with Supervisor(policy=LONG, shutdown_timeout=math.inf) as sup:
        worker = await sup.start(deaf, kind="process", ready_timeout=3600)
        stopping = asyncio.create_task(worker.stop())
        await ladder_time.advance(500 + 200)
        outcome = await stopping
    assert outcome.ended in ("injected", "terminated")
    assert 500 <= outcome.stop_seconds <= 700.01


def deaf(ctx):
    import signal

    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    ctx.ready()
    while True:
        try:
            real.sleep(60)
        except BaseException:  # not even an injection ends it
            pass


async def test_the_timeout_of_a_call(ladder_time):
    async with Supervisor() as sup:
        call = asyncio.create_task(sup.run(check_for_ever, timeout=3600))
        await ladder_time.advance(3599)
        assert not call.done()
        await ladder_time.advance(1)
        with pytest.raises(WorkerTimeout):
            await call


async def test_the_pauses_before_restarts_and_a_missed_heartbeat(ladder_time):
    attempts = []

    def fail(ctx):
        attempts.append(ctx.attempt)
        if ctx.attempt < 3:
            raise OSError
        wait_for_stop(ctx)

    async with Supervisor() as sup:
        restart = Restart("failure", backoff=60, max_backoff=120, jitter=0)
        worker = await sup.start(fail, restart=restart, heartbeat=600)
        while worker.state != "backing_off":
            await asyncio.sleep(0)
        await ladder_time.advance(59)
        assert attempts == [1]
        await ladder_time.advance(1)
        while worker.state != "backing_off" or worker.attempt < 2:
            await asyncio.sleep(0)
        await ladder_time.advance(120)
        while len(attempts) < 3:
            await asyncio.sleep(0)
        await ladder_time.advance(600)
        while worker.last_outcome.attempt < 3:
            await asyncio.sleep(0)
        assert worker.last_outcome.ended == "stopped"


async def test_when_it_flows_every_wait_is_soon_over(leftovers):
    began = real.monotonic()
    with VirtualTime(patience=0.01) as time:
        time.flow()
        async with Supervisor(policy=LONG, shutdown_timeout=math.inf) as sup:
            await sup.start(leftovers.block)
    assert sup.report.counts() == {"abandoned": 1}
    assert sup.report.seconds == pytest.approx(700, abs=0.01)
    assert real.monotonic() - began < 10


async def test_it_flows_once_its_block_is_left(leftovers):
    with VirtualTime(patience=0):
        sup = Supervisor(policy=LONG, shutdown_timeout=math.inf)
        worker = await sup.start(leftovers.block)
        stopping = asyncio.create_task(worker.stop())
        await asyncio.sleep(0.02)
        assert not stopping.done()
    assert (await stopping).ended == "abandoned"
    await sup.shutdown()


async def test_supervisors_outside_its_block_have_real_time():
    async with Supervisor() as before:
        await before.run(int)
        with VirtualTime() as time:
            assert inside.clock_of(before) is not time
            async with Supervisor() as within:
                assert inside.clock_of(within) is time
        async with Supervisor() as after:
            assert inside.clock_of(after) is not time


def test_it_reaches_supervisors_of_other_loops(leftovers):
    """As of an application that a test client runs in a thread of its own."""
    with VirtualTime(patience=0.01) as time:
        started, reports = threading.Event(), []

        async def serve():
            async with Supervisor(policy=EscalationPolicy(Ask(500)), shutdown_timeout=500) as sup:
                await sup.start(leftovers.block)
                closing = asyncio.create_task(sup.shutdown())
                await asyncio.sleep(0)
                started.set()
                reports.append(await closing)

        async def test():
            while not started.is_set():
                await asyncio.sleep(0.001)
            await time.advance(500)

        server = threading.Thread(target=asyncio.run, args=(serve(),))
        server.start()
        asyncio.run(test())
        server.join(10)
    assert [report.counts() for report in reports] == [{"abandoned": 1}]


async def test_timers_of_a_loop_that_was_closed_are_forgotten(ladder_time):
    rang = []
    elsewhere = asyncio.new_event_loop()
    ladder_time.call_at(elsewhere, ladder_time.now + 1, rang.append)
    elsewhere.close()
    await ladder_time.advance(2)
    ladder_time.flow()
    assert rang == []


async def test_a_cancelled_advance_leaves_the_clock_where_it_is(ladder_time):
    rang = []
    began = ladder_time.now
    ladder_time.call_at(asyncio.get_running_loop(), began + 1, lambda: rang.append(True))
    moving = asyncio.create_task(ladder_time.advance(2))
    await asyncio.sleep(0)
    moving.cancel()
    await asyncio.wait([moving])
    assert (moving.cancelled(), ladder_time.now, rang) == (True, began, [])


async def test_time_that_flows_waits_while_something_happens():
    with VirtualTime(patience=1) as time:
        loop, began = asyncio.get_running_loop(), time.now
        time.call_at(loop, began + 1, lambda: None)
        time.flow()
        until = real.monotonic() + 2.5
        while real.monotonic() < until:
            time.call_at(loop, began + 2, lambda: None)
            await asyncio.sleep(0.001)
        assert time.now == began


async def test_time_goes_on_flowing_after_a_timer_that_failed(ladder_time):
    rang, failed = [], []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: failed.append(context["exception"]))
    ladder_time.call_at(loop, ladder_time.now + 1, lambda: 1 / 0)
    ladder_time.call_at(loop, ladder_time.now + 2, lambda: rang.append(True))
    ladder_time.flow()
    while not rang:
        await asyncio.sleep(0.001)
    assert isinstance(failed[0], ZeroDivisionError)


def test_only_one_is_in_force():
    with VirtualTime(), pytest.raises(RuntimeError, match="one in force already"), VirtualTime():
        pass
    with VirtualTime():
        pass


@pytest.mark.parametrize("seconds", [-1, math.nan, "5"])
async def test_a_wrong_time_is_refused(seconds):
    with pytest.raises((TypeError, ValueError), match="patience="):
        VirtualTime(patience=seconds)
    with pytest.raises((TypeError, ValueError), match="seconds="):
        await VirtualTime().advance(seconds)


async def test_two_advances_make_one():
    """2 s and 3 s are 5 s, whatever the rounding says."""
    with VirtualTime(patience=0) as time:
        for start in (0.1, 0.7, 1e6 / 3, 12345.678):
            inside.set_time(time, start)
            rang = []
            time.call_at(asyncio.get_running_loop(), start + 0.3, lambda rang=rang: rang.append(True))
            await time.advance(0.1)
            await time.advance(0.1)
            assert not rang
            await time.advance(0.1)
            assert rang
