"""A KeyboardInterrupt at any line at which processes of a pool come, are replaced, idle or dead: no call hangs."""

import asyncio
import os
import signal
import sys

import pytest

from supervisor import Supervisor

from ... import inside
from ...runtime.striking import run_struck, strike_everywhere
from .light import naps

LIMIT = 40
"""Seconds after which a call is lost; all processes of the pool may have to be started within them."""


async def processes_come_and_go(striker):
    async with Supervisor() as sup:
        pool = sup.pool("p", kind="process", size=2, max_tasks=2, max_lifetime=0.3, idle_timeout=0.05)

        async def calls(number):
            for _ in range(number):
                await pool.run(naps, 0.001)

        async def all_end(*clients):
            tasks = [asyncio.ensure_future(client) for client in clients]
            async with asyncio.timeout(LIMIT):
                while not all(task.done() for task in tasks):
                    sys.settrace(striker.trace if striker.struck is None else None)
                    await asyncio.sleep(0.005)
            errors = [task.exception() for task in tasks]  # an interrupt may strike as one makes its call
            assert all(error is None or isinstance(error, KeyboardInterrupt) for error in errors)

        await all_end(*(calls(3) for _ in range(3)))
        for process in inside.processes_for_calls(sup, "p")[:1]:
            os.kill(process.pid, signal.SIGKILL)
            await asyncio.sleep(0.02)
        await all_end(calls(1), calls(1))
        await all_end(asyncio.sleep(0.12))
        sys.settrace(None)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_interrupt_at_any_line_leaves_no_call_waiting():
    strike_everywhere(processes_come_and_go, inside.WHEN_PROCESSES_COME_AND_GO, often=2)


async def a_call_fails(striker):
    async with Supervisor() as sup:
        call = asyncio.ensure_future(sup.run(int, "meant", kind="process"))
        await asyncio.sleep(0)
        sys.settrace(striker.trace)
        await asyncio.wait([call], timeout=LIMIT)
        sys.settrace(None)
        return call.exception()


@pytest.mark.slow
def test_an_interrupt_as_an_error_arrives_is_not_taken_for_an_error_of_the_call():
    struck, strike_at = set(), 0
    while None not in struck:
        strike_at += 1
        striker, error = run_struck(strike_at, inside.WHEN_A_PROCESS_HAS_SAID_ITS_END, a_call_fails)
        assert isinstance(error, ValueError), striker.struck
        struck.add(striker.struck)
    assert len(struck) > 5
