"""What a worker process costs: a call there and back, many at once, large data, a death, and a start."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from time import perf_counter, sleep
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
import anyio.to_process

from supervisor import Supervisor
from supervisor.processes._process import Process

from .measure import SILENT, Row, in_turns, pinned, several
from .peers import noop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from multiprocessing.connection import Connection

__all__ = ["echo", "kill", "latency", "start", "throughput"]

Call: TypeAlias = "Callable[..., Awaitable[Any]]"
"""Calls a function with arguments in a process."""

STDLIB = "ProcessPoolExecutor"
ANYIO = "anyio.to_process"
FLOOR = "a bare pipe"

WARM = 2
IN_SEQUENCE = 200
AT_ONCE = 1_000
LARGE = b"\xa5" * 10_000_000


def same(data: bytes) -> bytes:
    """The work on large data: none."""
    return data


# ------------------------------------------------------------------------------------------------ the contenders


class Floor:
    """The least that can be done: one process, and a pipe on which the loop's own thread waits for each result."""

    def __init__(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(target=serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    async def call(self, fn: Callable[..., Any], *args: Any) -> Any:
        self._pipe.send((fn, args))
        return self._pipe.recv()

    def close(self) -> None:
        self._pipe.close()
        self._process.join()


def serve(pipe: Connection[Any, Any]) -> None:
    while True:
        try:
            fn, args = pipe.recv()
        except EOFError:
            return
        pipe.send(fn(*args))


@contextmanager
def stock_pools(processes: int) -> Iterator[dict[str, Call]]:
    """Gives the peers by their names, with so many processes each; the optional ones where they are installed."""
    loop = asyncio.get_running_loop()
    limiter = anyio.CapacityLimiter(processes)
    spawn = multiprocessing.get_context("spawn")
    pools: list[Any] = [ProcessPoolExecutor(processes, spawn)]
    calls: dict[str, Call] = {
        STDLIB: lambda fn, *args: loop.run_in_executor(pools[0], fn, *args),
        ANYIO: lambda fn, *args: anyio.to_process.run_sync(fn, *args, limiter=limiter),
    }
    try:
        from loky import ProcessPoolExecutor as LokyPool  # noqa: PLC0415  # optional
    except ImportError:
        pass
    else:
        loky = LokyPool(processes)
        pools.append(loky)
        calls["loky"] = lambda fn, *args: loop.run_in_executor(loky, fn, *args)
    pebble: Any = None
    try:
        from pebble import ProcessPool  # noqa: PLC0415  # optional
    except ImportError:
        pass
    else:
        pebble = ProcessPool(max_workers=processes, context=spawn)
        calls["pebble"] = lambda fn, *args: asyncio.wrap_future(pebble.schedule(fn, args=args))
    try:
        yield calls
    finally:
        for pool in pools:
            pool.shutdown()
        if pebble is not None:
            pebble.close()
            pebble.join()


@asynccontextmanager
async def contenders(processes: int) -> AsyncIterator[dict[str, Call]]:
    """Gives the library, the peers and the floor, all of them warm."""
    floor = Floor()
    try:
        with stock_pools(processes) as calls:
            async with Supervisor("ours", logger=SILENT, max_processes=processes) as sup:
                calls[FLOOR] = floor.call
                calls["sup.run"] = lambda fn, *args: sup.run(fn, *args, kind="process")
                for call in calls.values():
                    for _ in range(5):
                        await asyncio.gather(*(call(noop) for _ in range(processes * 10)))
                yield calls
    finally:
        floor.close()


async def _measured(
    work: str, unit: str, one: Callable[[Call], Callable[[], Awaitable[float]]], rounds: int, **targets: float
) -> list[Row]:
    async with contenders(WARM) as calls:
        took = await in_turns({name: one(call) for name, call in calls.items()}, rounds)
    return _rows(work, unit, took, targets)


def _rows(work: str, unit: str, took: dict[str, float], targets: dict[str, float]) -> list[Row]:
    ours = took.pop("sup.run")
    return [
        Row(work, unit, ours, peer, theirs, at_most=targets.get(peer, float("nan"))) for peer, theirs in took.items()
    ]


# ------------------------------------------------------------------------------------------------ what is measured


def latency() -> list[Row]:
    """One call at a time, on one core: the way to a warm process and back."""

    def in_sequence(call: Call) -> Callable[[], Awaitable[float]]:
        async def measure() -> float:
            began_at = perf_counter()
            for _ in range(IN_SEQUENCE):
                await call(noop)
            return (perf_counter() - began_at) / IN_SEQUENCE * 1e6

        return measure

    work = 'one sup.run(kind="process")'
    with pinned():  # to wake another core takes longer than all the rest, and as long for everybody
        return asyncio.run(_measured(work, "µs", in_sequence, rounds=31, **{STDLIB: 0.4, ANYIO: 0.7}))


def throughput() -> list[Row]:
    """A thousand calls at once on two warm processes; for each call."""

    def at_once(call: Call) -> Callable[[], Awaitable[float]]:
        async def measure() -> float:
            began_at = perf_counter()
            await asyncio.gather(*(call(noop) for _ in range(AT_ONCE)))
            return (perf_counter() - began_at) / AT_ONCE * 1e6

        return measure

    return asyncio.run(_measured("1,000 of them at once, each", "µs", at_once, rounds=11, **{STDLIB: 0.5}))


def echo() -> list[Row]:
    """Ten megabytes there and back."""

    def there_and_back(call: Call) -> Callable[[], Awaitable[float]]:
        async def measure() -> float:
            began_at = perf_counter()
            assert len(await call(same, LARGE)) == len(LARGE)
            return (perf_counter() - began_at) * 1e3

        return several(measure, 5)

    return asyncio.run(_measured("10 MB there and back", "ms", there_and_back, rounds=11, **{STDLIB: 0.8}))


def kill() -> list[Row]:
    """From SIGKILL of a process that sleeps to its call's error; the stock pools are made anew for each."""
    return asyncio.run(_kill())


async def _kill() -> list[Row]:
    bare, with_thread = "a bare pidfd", "a bare pidfd, of two threads"
    async with Supervisor("ours", logger=SILENT, max_processes=1) as sup:
        measures: dict[str, Callable[[], Awaitable[float]]] = {
            "sup.run": several(lambda: _killed(lambda fn, *args: sup.run(fn, *args, kind="process")), 5),
            bare: several(lambda: _killed_bare(SLEEP), 5),
            with_thread: several(lambda: _killed_bare(SLEEP_WITH_THREAD), 5),
        }
        with stock_pools(1) as calls:
            measures |= {name: _killed_in_new_pool(name) for name in calls}
        took = await in_turns(measures, rounds=7)
    return _rows("SIGKILL to the call's error", "ms", took, {bare: 3.0})


def _killed_in_new_pool(name: str) -> Callable[[], Awaitable[float]]:
    async def measure() -> float:
        with stock_pools(1) as calls:
            return await _killed(calls[name])

    return measure


async def _killed(call: Call) -> float:
    pid = await call(os.getpid)
    sleeping = asyncio.ensure_future(call(sleep, 3600))
    await asyncio.sleep(0.1)  # it does by then; a process that was launched meanwhile is up
    began_at = perf_counter()
    os.kill(pid, signal.SIGKILL)
    await asyncio.wait((sleeping,))
    took = perf_counter() - began_at
    assert sleeping.exception() is not None
    return took * 1e3


SLEEP = "import time; time.sleep(3600)"
SLEEP_WITH_THREAD = f"import _thread, time; _thread.start_new_thread(time.sleep, (3600,)); {SLEEP}"


async def _killed_bare(code: str) -> float:
    loop = asyncio.get_running_loop()
    dead = loop.create_future()
    with subprocess.Popen([sys.executable, "-c", code]) as child:
        pidfd = os.pidfd_open(child.pid)
        loop.add_reader(pidfd, dead.set_result, None)
        await asyncio.sleep(0.1)
        began_at = perf_counter()
        child.kill()
        await dead
        took = perf_counter() - began_at
        loop.remove_reader(pidfd)
        os.close(pidfd)
    return took * 1e3


def start() -> list[Row]:
    """From the launch of a process until it takes calls; and the first call of each pool, its building included."""
    return asyncio.run(_start())


async def _start() -> list[Row]:
    bare = "python -c pass"
    with stock_pools(1) as calls:
        first = {name: _first_call(name) for name in calls if name != ANYIO}  # it keeps its processes for the next
    measures = {"ready": _ready, bare: _bare_interpreter, "sup.run": _first_call_of_ours, **first}
    took = await in_turns(measures, rounds=9)
    ready, interpreter = took.pop("ready"), took.pop(bare)
    return [
        Row("launch of a process until it is ready", "ms", ready, bare, interpreter),
        *_rows("the first call of a new supervisor", "ms", took, {}),
    ]


class Waiter:
    """Waits for one process."""

    def __init__(self) -> None:
        self.ready, self.dead = asyncio.Event(), asyncio.Event()

    def up(self, _: Process) -> None:
        self.ready.set()

    def heard(self, _: Process, __: str, ___: tuple[Any, ...]) -> None: ...

    def gone(self, _: Process) -> None:
        self.dead.set()


async def _ready() -> float:
    waiter = Waiter()
    began_at = perf_counter()
    process = Process(asyncio.get_running_loop(), waiter, 30.0)
    await waiter.ready.wait()
    took = perf_counter() - began_at
    process.kill()
    await waiter.dead.wait()
    return took * 1e3


async def _bare_interpreter() -> float:
    began_at = perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return (perf_counter() - began_at) * 1e3


async def _first_call_of_ours() -> float:
    began_at = perf_counter()
    async with Supervisor("ours", logger=SILENT, max_processes=1) as sup:
        await sup.run(int, kind="process")
        took = perf_counter() - began_at
    return took * 1e3


def _first_call(name: str) -> Callable[[], Awaitable[float]]:
    async def measure() -> float:
        began_at = perf_counter()
        with stock_pools(1) as calls:
            await calls[name](int)
            took = perf_counter() - began_at
        return took * 1e3

    return measure
