"""Whether a slow lane that is full holds up a quick one: the slowest calls of the latter, alone and beside it."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

from supervisor import Supervisor

from .measure import SILENT, Goal, Table, in_turns, pinned, sized
from .peers import noop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from supervisor import Pool

    Call = Callable[[], Awaitable[object]]

__all__ = ["lanes"]

SIZE, QUEUED = 4, 64
"""Of the slow lane."""

SLOW = 0.02
"""Seconds that each of its calls takes."""

CALLS = sized(1000, 5)
"""Quick calls, one after the other, of which each measurement takes the slowest hundredth."""

FLOOR, ALONE, BESIDE, AMONG = (
    "floor: a stock pool, alone",
    "alone",
    "**beside a slow lane that is full**",
    "in the pool of the slow calls",
)


def lanes() -> list[Table]:
    """The slowest of the quick calls, in threads and in processes."""
    with pinned():
        threads = asyncio.run(_in_threads())
    processes = asyncio.run(_in_processes())
    columns = ["threads", "processes"]
    return [
        Table(
            "One quick call at a time: the slowest hundredth",
            "µs",
            columns,
            {name: [threads.get(name), processes.get(name)] for name in (FLOOR, ALONE, BESIDE, AMONG)},
            beside=ALONE,
            goals=[Goal(BESIDE, column, 1.2, beside_row=ALONE) for column in columns],
            note=f"The slow lane has {SIZE} calls of {SLOW:g} s that run, {QUEUED} that wait, as many as may, and a "
            "further one for each that ends. Threads are pinned.",
        )
    ]


async def _in_threads() -> dict[str, float]:
    loop = asyncio.get_running_loop()
    async with Supervisor(logger=SILENT, max_threads=1) as sup:
        quick = sup.pool("quick", kind="thread", size=1)
        slow = sup.pool("slow", kind="thread", size=SIZE, max_queued=QUEUED)
        shared = sup.pool("shared", kind="thread", size=SIZE, max_queued=QUEUED + 1)
        with ThreadPoolExecutor(1) as stock:
            measures = {
                FLOOR: partial(_slowest, lambda: loop.run_in_executor(stock, noop), CALLS),
                ALONE: partial(_slowest, lambda: quick.run(noop), CALLS),
                BESIDE: partial(_while_full, slow, lambda: quick.run(noop), CALLS),
                AMONG: partial(_while_full, shared, lambda: shared.run(noop), sized(5, 1)),
            }
            return await in_turns(measures, sized(9, 1))


async def _in_processes() -> dict[str, float]:
    async with Supervisor(logger=SILENT) as sup:
        quick = sup.pool("quick", kind="process", size=1)
        slow = sup.pool("slow", kind="process", size=SIZE, max_queued=QUEUED)
        measures = {
            ALONE: partial(_slowest, lambda: quick.run(noop), CALLS),
            BESIDE: partial(_while_full, slow, lambda: quick.run(noop), CALLS),
        }
        return await in_turns(measures, sized(9, 1))


async def _slowest(call: Call, number: int) -> float:
    """Returns how long the slowest hundredth of so many calls takes at least."""
    took = []
    for _ in range(number):
        began = perf_counter()
        await call()
        took.append((perf_counter() - began) * 1e6)
    return sorted(took)[-1 - number // 100]


async def _while_full(slow: Pool, call: Call, number: int) -> float:
    async with _full(slow):
        return await _slowest(call, number)


@asynccontextmanager
async def _full(slow: Pool) -> AsyncIterator[None]:
    """Keeps a lane as full as it may be."""
    over = threading.Event()

    async def go_on() -> None:
        while not over.is_set():
            await slow.run(time.sleep, SLOW)

    callers = [asyncio.create_task(go_on()) for _ in range(SIZE + QUEUED)]
    while slow.statistics().running < SIZE:  # processes have to start
        await asyncio.sleep(SLOW)
    try:
        yield
    finally:
        over.set()
        await asyncio.gather(*callers)
