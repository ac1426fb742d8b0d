"""A process that forks while its loop runs hears of all that ends, though its copy runs that loop, too, at its end."""

import sys

from ..programs import run_program

OWNER = """
import asyncio, os, sys, time
from supervisor import Supervisor

async def takes_its_time():
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        await asyncio.sleep(1)

async def main():
    async with Supervisor() as sup:
        task = asyncio.ensure_future(takes_its_time())
        call = asyncio.ensure_future(sup.run(time.sleep, 0.3))
        while not any(worker.state == "running" for worker in sup.workers()):
            await asyncio.sleep(0)
        copy = os.fork()
        if copy == 0:
            sys.exit()  # asyncio cancels all tasks, and has the loop run until they have ended
        time.sleep(0.8)  # the copy alone hears that the call has ended
        await asyncio.wait_for(call, 10)
        print("heard", flush=True)
        os.waitpid(copy, 0)
        task.cancel()

asyncio.run(main())
"""


def test_a_copy_hushes_nothing_that_rings_for_the_other_one():
    done = run_program(sys.executable, "-W", "ignore", "-c", OWNER, timeout=60)
    assert "heard" in done.stdout, done.stderr
