"""What a call holds while it waits for a thread: each contender in a process of its own, which has held nothing yet.

`python -m benchmarks.memory NAME HOW` measures one of them in one way, and prints the figure.
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

import anyio
import anyio.to_thread

from supervisor import Supervisor
from supervisor._api.view import LoopView

from .measure import SILENT, Goal, Table, sized
from .peers import ANYIO, EXECUTOR, FLOOR, PEBBLE, RIE, RUN, TO_THREAD, VIEW, Floor, PebblePool, noop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["memory"]

HOW = ("traced", "resident")
QUEUED = sized(100_000, 1_000)
PATIENT = f"{VIEW}, with a timeout"


def memory() -> list[Table]:
    """Bytes of each of many queued calls: what Python has allocated for them, and what the process has grown by."""
    keys = [
        key for key in sized(tuple(NAMES), ("floor", "rie", "patient")) if key != "pebble" or PebblePool is not None
    ]
    figures: dict[str, list[float | None]] = {NAMES[key]: [_measured(key, how) for how in HOW] for key in keys}
    return [
        Table(
            f"{QUEUED:,} calls queued for one busy thread; each",
            "bytes",
            [*HOW],
            figures,
            beside=RIE,
            goals=[Goal(PATIENT, "traced", 1_000)],
            note="Traced by `tracemalloc`; resident: growth of the process's resident set. Each of the last "
            "three is a coroutine, whose task counts.",
        )
    ]


def _measured(key: str, how: str) -> float:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", key, how],
        check=True,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[1],
    )
    return float(json.loads(done.stdout))


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


async def _main(key: str, how: str) -> float:
    gc.disable()  # what is garbage is collected before each look
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    limiter, floor = anyio.CapacityLimiter(1), Floor(loop)
    pebble: Any = None if PebblePool is None else PebblePool(max_workers=1)
    sup = Supervisor("ours", logger=SILENT, max_threads=1)
    runtime = sup._binding.bind()
    view, patient, executor = (
        LoopView(runtime.calls, scope=runtime.root),
        LoopView(runtime.calls, timeout=600, scope=runtime.root),
        sup.executor(),
    )
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
    if how == "resident":
        return await _held_by_each(submit, _resident)
    tracemalloc.start()
    return await _held_by_each(submit, lambda: tracemalloc.get_traced_memory()[0])


async def _held_by_each(submit: Callable[[Callable[[], object]], Awaitable[Any]], held: Callable[[], int]) -> float:
    busy = asyncio.Event()
    loop = asyncio.get_running_loop()

    def block() -> None:
        loop.call_soon_threadsafe(busy.set)
        threading.Event().wait()

    first = submit(block)
    await busy.wait()
    futures: list[Awaitable[Any]] = [first] * (QUEUED + 1)  # its own memory does not count
    gc.collect()
    before = held()
    for number in range(QUEUED):
        futures[number] = submit(noop)
    await asyncio.sleep(0)  # tasks have begun
    gc.collect()
    return (held() - before) / QUEUED


def _resident() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0  # it is not to be had here


async def _print(key: str, how: str) -> None:
    print(json.dumps(await _main(key, how)), flush=True)
    os._exit(0)  # what is queued is not to be carried out


if __name__ == "__main__":
    asyncio.run(_print(*sys.argv[1:]))
