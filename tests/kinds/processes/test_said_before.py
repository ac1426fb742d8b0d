"""What a process has said before it is to be stopped counts, also where the loop has not come to hear it."""

import asyncio
import os
import time

from supervisor import Supervisor

from ... import inside
from .faults import wait_until


async def said_while_the_loop_stands_still(sup):
    """Begins a call that ends while the loop stands still; returns its task, and the number of its process."""
    pid = await sup.run(os.getpid, kind="process")
    (process,) = inside.idle_processes(sup)
    call = asyncio.create_task(sup.run(time.sleep, 0.05, kind="process"))
    await asyncio.sleep(0)
    wait_until(lambda: inside.has_said(process, b"ended"))
    return call, pid


async def test_a_call_that_has_ended_is_not_stopped_by_its_cancellation(events):
    async with Supervisor(max_processes=1) as sup:
        call, pid = await said_while_the_loop_stands_still(sup)
        call.cancel()
        assert sup.workers() == ()
        await asyncio.wait((call,))
        assert call.cancelled()
        assert await sup.run(os.getpid, kind="process") == pid, "its process was ended"
    assert not [event for event in events if event["event"] == "worker.stopping"]


async def test_a_call_that_has_ended_is_not_stopped_by_a_shutdown(events):
    sup = Supervisor(max_processes=1)
    call, _ = await said_while_the_loop_stands_still(sup)
    report = await sup.shutdown(timeout=1)
    assert [outcome.ended for outcome in report.outcomes] == ["returned"]
    assert await call is None
    assert not [event for event in events if event["event"] == "worker.stopping"]
