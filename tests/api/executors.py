"""What the tests of executors share."""

import asyncio
import threading

from supervisor import (
    Ask,
    EscalationPolicy,
    Inject,
    current_context,
)

PATIENT = EscalationPolicy(Ask(5), Inject(5))  # who obeys has all the time it needs, on any machine


LIMIT = 20  # seconds after which a test that waits gives up


async def aside(fn, *args):
    """Calls a blocking function in a thread that has nothing to do with the supervisor."""
    return await asyncio.wait_for(asyncio.to_thread(fn, *args), LIMIT)


class Gatekeeper:
    """Calls that say that they run, and go on only when they are let."""

    def __init__(self):
        self.entered = threading.Semaphore(0)
        self.open = threading.Event()

    def __call__(self, value=None):
        self.entered.release()
        self.open.wait(LIMIT)
        return value

    async def wait_entered(self, number=1):
        for _ in range(number):
            assert await aside(self.entered.acquire, True, LIMIT)


def obedient(entered=None):
    ctx = current_context()
    if entered is not None:
        entered.set()
    while True:
        ctx.sleep(LIMIT)
