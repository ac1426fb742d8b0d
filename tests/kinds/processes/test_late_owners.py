"""Owners that stood still: what came in time is judged as in time, before their clocks say that it is late."""

import asyncio
import os
import signal
import time

import pytest

from supervisor import Supervisor, WorkerDied

from ... import inside
from .faults import until, wait_until
from .light import is_ready_at_once


def stand_still(seconds, happened=lambda: True):
    """The process is stopped while its loop waits for something to happen, as by SIGSTOP or a laptop's sleep.

    The system call that it was in then reports nothing, whatever has happened meanwhile, and the time has passed.

    Args:
        seconds: For how long at least.
        happened: What happens meanwhile, however long that takes on a busy machine.
    """
    selector = asyncio.get_running_loop()._selector
    select = selector.select

    def stopped(timeout=None):
        selector.select = select
        time.sleep(seconds)
        wait_until(happened)
        return []

    selector.select = stopped


def beats(ctx):
    ctx.ready()
    while not ctx.stop.wait(0.02):
        ctx.heartbeat()


def dies_soon():
    time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGKILL)


async def a_result():
    async with Supervisor(max_processes=1) as sup:
        await sup.run(abs, -1, kind="process")
        (process,) = inside.processes_for_calls(sup)
        call = asyncio.ensure_future(sup.run(time.sleep, 0.1, kind="process", timeout=0.5))
        await asyncio.sleep(0)
        stand_still(1, lambda: inside.has_said(process, b"ended"))
        await call


async def a_death():
    async with Supervisor(max_processes=1) as sup:
        pid = await sup.run(os.getpid, kind="process")
        call = asyncio.ensure_future(sup.run(dies_soon, kind="process", timeout=0.5))
        await asyncio.sleep(0)
        stand_still(1, lambda: inside.is_dead(pid))  # with all of its threads
        with pytest.raises(WorkerDied):
            await call


async def a_start():
    async with Supervisor(max_processes=1, process_start_timeout=0.5) as sup:
        call = asyncio.ensure_future(sup.run(abs, -1, kind="process"))
        while not inside.processes(sup):
            await asyncio.sleep(0)
        (process,) = inside.processes(sup)
        stand_still(1, lambda: inside.has_said(process, b"ready"))
        assert await call == 1


async def heartbeats():
    async with Supervisor() as sup:
        worker = await sup.start(beats, kind="process", heartbeat=4, ready_timeout=20)
        stand_still(4.5)
        last = asyncio.get_running_loop().time() + 4.5
        await until(lambda: worker.beat_at is None or worker.beat_at > last)
        assert worker.state == "running"
        assert (await worker.stop()).ended == "stopped"


@pytest.mark.parametrize("what", [a_result, a_death, a_start, heartbeats])
def test_the_owner_was_stopped(what):
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(what())


async def test_a_worker_whose_process_had_started_in_time_has_its_time_to_become_ready():
    async with Supervisor() as sup:
        starting = asyncio.ensure_future(sup.start(is_ready_at_once, kind="process", ready_timeout=5))
        while not inside.processes(sup):
            await asyncio.sleep(0)
        (process,) = inside.processes(sup)
        stand_still(6, lambda: inside.has_said(process, b"ready"))
        await starting
