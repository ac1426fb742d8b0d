"""What each item costs that a generator yields in a thread or process, for an `async for` in the loop."""

from __future__ import annotations

import asyncio
import queue
import threading
from time import perf_counter
from typing import TYPE_CHECKING

import anyio.to_thread

from supervisor import Supervisor

from .measure import SILENT, Goal, Table, in_turns, sized

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from supervisor import Iteration

__all__ = ["items"]

ITEMS = sized(1_000_000, 500)
FEWER = sized(20_000, 100)
"""Of those that take long for each."""

FLOOR = "floor: a thread and a `SimpleQueue`, the loop's own thread waits"
ANYIO = "`anyio.to_thread.run_sync(next, it)` for each"
STDLIB = "`asyncio.to_thread(next, it)` for each"
THREAD, PROCESS = "**`sup.iterate(...)`**", '**`sup.iterate(..., kind="process")`**'
WAITS = "each is waited for"


def numbers(count: int) -> Iterator[int]:
    """Small items, made in no time."""
    yield from range(count)


def items() -> list[Table]:
    """Returns what an item costs: where they come as fast as they are made, and where each is waited for."""
    return [asyncio.run(_items())]


async def _items() -> Table:
    async with Supervisor("items", logger=SILENT, max_processes=1) as sup:
        await sup.run(len, "", kind="process")
        contenders: dict[str, Callable[[], Awaitable[float]]] = {
            FLOOR: _floor,
            STDLIB: lambda: _one_by_one(asyncio.to_thread),
            ANYIO: lambda: _one_by_one(anyio.to_thread.run_sync),
            THREAD: lambda: _iterated(sup.iterate(numbers, ITEMS), ITEMS),
            PROCESS: lambda: _iterated(sup.iterate(numbers, ITEMS, kind="process"), ITEMS),
        }
        waited: dict[str, Callable[[], Awaitable[float]]] = {
            ANYIO: contenders[ANYIO],
            THREAD: lambda: _iterated(sup.iterate(numbers, FEWER, buffer=1), FEWER),
            PROCESS: lambda: _iterated(sup.iterate(numbers, FEWER, buffer=1, kind="process"), FEWER),
        }
        fast, slow = await in_turns(contenders, sized(3, 1)), await in_turns(waited, sized(3, 1))
    return Table(
        "An item that a generator yields",
        "µs",
        [f"{ITEMS:,} items", WAITS],
        {name: [fast[name], slow.get(name)] for name in contenders},
        beside=ANYIO,
        goals=[
            Goal(THREAD, f"{ITEMS:,} items", 0.25, ANYIO),
            Goal(PROCESS, f"{ITEMS:,} items", 0.25, ANYIO),
            Goal(THREAD, WAITS, 1.25, ANYIO),
        ],
        note=f"Those that take each item from a thread by a call of its own have {FEWER:,} of them. In the last column "
        "the buffer has room for one item.",
    )


async def _iterated(each: Iteration[int], count: int) -> float:
    began = perf_counter()
    seen = 0
    async for _ in each:
        seen += 1
    assert seen == count
    return (perf_counter() - began) / count * 1e6


async def _one_by_one(call: Callable[..., Awaitable[int | None]]) -> float:
    it = numbers(FEWER)
    began = perf_counter()
    while await call(next, it, None) is not None:
        pass
    return (perf_counter() - began) / FEWER * 1e6


async def _floor() -> float:
    items: queue.SimpleQueue[int] = queue.SimpleQueue()

    def make() -> None:
        for item in numbers(ITEMS):
            items.put(item)

    began = perf_counter()
    thread = threading.Thread(target=make)
    thread.start()
    for _ in range(ITEMS):
        items.get()
    thread.join()
    return (perf_counter() - began) / ITEMS * 1e6
