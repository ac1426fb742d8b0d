"""What a call holds while it waits for a thread: each contender in a process of its own, which has held nothing yet.

`python -m benchmarks.memory NAME` measures one of them and prints its figures.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor import Supervisor
from supervisor._supervisor import LoopView

from .measure import SILENT, Goal, Table, sized
from .peers import ANYIO, EXECUTOR, FLOOR, PEBBLE, RIE, RUN, TO_THREAD, VIEW, Floor, noop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["memory"]

QUEUED = sized(100_000, 1_000)
PATIENT = f"{VIEW}, with a timeout"


def memory() -> list[Table]:
    """Bytes of each of many queued calls: what Python has allocated for them, and what the process has grown by."""
    took = {NAMES[key]: _measured(key) for key in sized(tuple(NAMES), ("floor", "rie", "patient"))}
    figures: dict[str, list[float | None]] = {name: [one["traced"], one["resident"]] for name, one in took.items()}
    return [
        Table(
            f"{QUEUED:,} calls queued for one busy thread; each",
            "bytes",
            ["traced", "resident"],
            figures,
            beside=RIE,
            goals=[Goal(PATIENT, "traced", 1_000)],
            note="Traced by `tracemalloc`; resident: growth of the process's resident set. Each of the last "
            "three is a coroutine, whose task counts.",
        )
    ]


def _measured(key: str) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", key],
        check=True,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[1],
    )
    return json.loads(done.stdout)  # type: ignore[no-any-return]


NAMES = {
    "floor": FLOOR,
    "rie": RIE,
    "pebble": PEBBLE,
    "view": VIEW,
    "patient": PATIENT,
    "executor": EXECUTOR,
    "to_thread": TO_THREAD,
    "anyio": ANYIO,
    "run": RUN,
}


async def _main(key: str) -> dict[str, float]:
    import anyio.to_thread  # noqa: PLC0415  # before anything is measured
    from pebble import ThreadPool  # noqa: PLC0415

    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    limiter, floor = anyio.CapacityLimiter(1), Floor(loop)
    pebble: Any = ThreadPool(max_workers=1)
    async with Supervisor("ours", logger=SILENT, max_threads=1) as sup:
        sup._attach()
        view, patient, executor = LoopView(sup._attached()), LoopView(sup._attached(), timeout=600), sup.executor()
        submits: dict[str, Callable[[Callable[[], object]], Awaitable[Any]]] = {
            "floor": floor.call,
            "rie": lambda fn: loop.run_in_executor(None, fn),
            "pebble": lambda fn: asyncio.wrap_future(pebble.schedule(fn)),
            "view": lambda fn: loop.run_in_executor(view, fn),
            "patient": lambda fn: loop.run_in_executor(patient, fn),
            "executor": lambda fn: loop.run_in_executor(executor, fn),
            "to_thread": lambda fn: asyncio.create_task(asyncio.to_thread(fn)),
            "anyio": lambda fn: asyncio.create_task(anyio.to_thread.run_sync(fn, limiter=limiter)),
            "run": lambda fn: asyncio.create_task(sup.run(fn)),
        }
        submit = submits[key]
        await submit(noop)  # the thread is there
        resident = await _held_by_each(submit, _resident)
        tracemalloc.start()
        traced = await _held_by_each(submit, lambda: tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
    floor.close()
    pebble.close()
    pebble.join()
    return {"traced": traced, "resident": resident}


async def _held_by_each(submit: Callable[[Callable[[], object]], Awaitable[Any]], held: Callable[[], int]) -> float:
    busy, gate = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def block() -> None:
        loop.call_soon_threadsafe(busy.set)
        gate.wait()

    first = submit(block)
    await busy.wait()
    gc.collect()
    futures: list[Awaitable[Any]] = [first] * (QUEUED + 1)  # its own memory does not count
    before = held()
    for number in range(QUEUED):
        futures[number] = submit(noop)
    await asyncio.sleep(0)  # tasks have begun
    gc.collect()
    after = held()
    gate.set()
    await asyncio.gather(*futures)
    return (after - before) / QUEUED


def _resident() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0  # it is not to be had here


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_main(sys.argv[1]))))
