"""What the tests of the default executor share."""

import asyncio
from pathlib import Path

import uvloop

from supervisor import (
    Ask,
    EscalationPolicy,
    Inject,
    current_context,
)

ROOT = Path(__file__).parents[2]
LIMIT = 20  # seconds after which a test that waits gives up
PATIENT = EscalationPolicy(Ask(5), Inject(1))  # who obeys has all the time it needs, on any machine
SHORT = EscalationPolicy(Ask(0.1))  # for those who never obey
FACTORIES = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


async def until(condition):
    async with asyncio.timeout(LIMIT):
        while not condition():
            await asyncio.sleep(0.001)


def who():
    return current_context().name
