"""Owners that stood still: what came in time is judged as in time, before their clocks say that it is late."""

import asyncio
import os
import signal
import time

import pytest

from supervisor import Supervisor, WorkerDied

from ... import inside


def stand_still(seconds):
    """The process is stopped while its loop waits for something to happen, as by SIGSTOP or a laptop's sleep.

    The system call that it was in then reports nothing, whatever has happened meanwhile, and the time has passed.
    """
    selector = asyncio.get_running_loop()._selector
    select = selector.select

    def stopped(timeout=None):
        selector.select = select
        time.sleep(seconds)
        return []

    selector.select = stopped


def beats(ctx):
    ctx.ready()
    while not ctx.stop.wait(0.02):
        ctx.heartbeat()


def dies_soon():
    time.sleep(0.3)
    os.kill(os.getpid(), signal.SIGKILL)


async def a_result():
    async with Supervisor(max_processes=1) as sup:
        await sup.run(abs, -1, kind="process")
        call = asyncio.ensure_future(sup.run(time.sleep, 0.3, kind="process", timeout=1.2))
        await asyncio.sleep(0)
        stand_still(2)
        await call


async def a_death():
    async with Supervisor(max_processes=1) as sup:
        await sup.run(abs, -1, kind="process")
        call = asyncio.ensure_future(sup.run(dies_soon, kind="process", timeout=1.2))
        await asyncio.sleep(0)
        stand_still(2)
        with pytest.raises(WorkerDied):
            await call


async def a_start():
    async with Supervisor(max_processes=1, process_start_timeout=2.5) as sup:
        call = asyncio.ensure_future(sup.run(abs, -1, kind="process"))
        while not inside.processes(sup):
            await asyncio.sleep(0)
        stand_still(3)
        assert await call == 1


async def heartbeats():
    async with Supervisor() as sup:
        worker = await sup.start(beats, kind="process", heartbeat=1.2, ready_timeout=20)
        stand_still(2)
        await asyncio.sleep(2.5)
        assert worker.state == "running"
        assert (await worker.stop()).ended == "stopped"


@pytest.mark.parametrize("what", [a_result, a_death, a_start, heartbeats])
def test_the_owner_was_stopped(what):
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(what())


async def test_a_worker_whose_process_had_started_in_time_has_its_time_to_become_ready():
    async with Supervisor() as sup:
        stand_still(3)
        await sup.start(beats, kind="process", ready_timeout=2)
