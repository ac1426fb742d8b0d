"""What a worker process costs: a call there and back, many at once, large data, a death, and a start."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from time import perf_counter, sleep
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
import anyio.to_process

from supervisor import Supervisor
from supervisor._kinds.processes.process import Process

from .measure import SILENT, Goal, Table, in_turns, pinned, several, sized
from .peers import InterpreterPool, noop, optional

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from multiprocessing.connection import Connection

__all__ = ["calls", "deaths", "starts"]

LokyPool = optional("loky", "ProcessPoolExecutor")
PebblePool = optional("pebble", "ProcessPool")
AiomiscPool = optional("aiomisc", "WorkerPool")

Call: TypeAlias = "Callable[..., Awaitable[Any]]"
"""Calls a function with arguments in a process."""

STDLIB = "`ProcessPoolExecutor`"
ANYIO = "`anyio.to_process`"
FLOOR = "floor: a bare pipe, on which the loop waits"
RUN = '**`sup.run(kind="process")`**'

WARM = 2
AT_ONCE = sized(1_000, 10)
LARGE = b"\xa5" * sized(10_000_000, 1_000_000)


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


@asynccontextmanager
async def _stdlib(processes: int) -> AsyncIterator[Call]:
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        yield partial(asyncio.get_running_loop().run_in_executor, pool)


@asynccontextmanager
async def _interpreters(interpreters: int) -> AsyncIterator[Call]:
    with InterpreterPool(interpreters) as pool:
        yield partial(asyncio.get_running_loop().run_in_executor, pool)


@asynccontextmanager
async def _anyio(processes: int) -> AsyncIterator[Call]:
    yield partial(anyio.to_process.run_sync, limiter=anyio.CapacityLimiter(processes))


@asynccontextmanager
async def _loky(processes: int) -> AsyncIterator[Call]:
    with LokyPool(processes) as pool:
        yield partial(asyncio.get_running_loop().run_in_executor, pool)


@asynccontextmanager
async def _pebble(processes: int) -> AsyncIterator[Call]:
    with PebblePool(max_workers=processes, context=multiprocessing.get_context("spawn")) as pool:
        yield lambda fn, *args: asyncio.wrap_future(pool.schedule(fn, args=args))


@asynccontextmanager
async def _aiomisc(processes: int) -> AsyncIterator[Call]:
    async with AiomiscPool(processes) as pool:
        yield pool.create_task


INTERPRETERS = "`InterpreterPoolExecutor`, no process"

POOLS: dict[str, Callable[[int], AbstractAsyncContextManager[Call]]] = {
    name: pool
    for name, pool, there in (
        (STDLIB, _stdlib, True),
        (ANYIO, _anyio, True),
        ("loky", _loky, LokyPool),
        ("pebble", _pebble, PebblePool),
        ("aiomisc", _aiomisc, AiomiscPool),
        (INTERPRETERS, _interpreters, InterpreterPool),
    )
    if there
}
"""The peers by their names, each to be made with so many processes; some, where they are installed."""


@asynccontextmanager
async def contenders(processes: int) -> AsyncIterator[dict[str, Call]]:
    """Gives the library, the peers and the floor, all of them warm."""
    async with AsyncExitStack() as stack:
        floor = Floor()
        stack.callback(floor.close)
        peers = {name: await stack.enter_async_context(pool(processes)) for name, pool in POOLS.items()}
        sup = await stack.enter_async_context(Supervisor("ours", logger=SILENT, max_processes=processes))
        calls: dict[str, Call] = {FLOOR: floor.call, **peers}
        calls[RUN] = lambda fn, *args: sup.run(fn, *args, kind="process")
        for call in calls.values():
            for _ in range(sized(5, 1)):
                await asyncio.gather(*(call(noop) for _ in range(processes * sized(10, 2))))
        yield calls


async def _in_turns(one: Callable[[Call], Callable[[], Awaitable[float]]], rounds: int) -> dict[str, float]:
    async with contenders(WARM) as calls:
        return await in_turns({name: one(call) for name, call in calls.items()}, rounds)


# ------------------------------------------------------------------------------------------------ what is measured


def calls() -> list[Table]:
    """Calls in warm processes: one at a time, many at once, and large data."""
    # When anyio kills its processes, `Popen.kill` may reap them before asyncio's watcher does, which warns on 3.12.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    with pinned():
        one = asyncio.run(_in_turns(_in_sequence, sized(31, 1)))
    apart = asyncio.run(_in_turns(_in_sequence, sized(31, 1)))
    many = asyncio.run(_in_turns(_at_once, sized(11, 1)))
    large = asyncio.run(_in_turns(_there_and_back, sized(11, 1)))
    each, processes = "each", f"{WARM} processes"
    return [
        Table(
            "One call in a process at a time",
            "µs",
            [each],
            _column(one),
            beside=STDLIB,
            goals=[Goal(RUN, each, 0.25, STDLIB), Goal(RUN, each, 0.7, ANYIO)],
            pinned=True,
        ),
        Table(
            "One call in a process at a time, on all cores",
            "µs",
            [each],
            _column(apart),
            beside=STDLIB,
            goals=[Goal(RUN, each, 0.25, STDLIB), Goal(RUN, each, 0.7, ANYIO)],
        ),
        Table(
            f"{AT_ONCE:,} calls in processes at once; for each",
            "µs",
            [processes],
            _column(many),
            beside=STDLIB,
            goals=[Goal(RUN, processes, 0.35, STDLIB)],
        ),
        Table(
            f"{len(LARGE) / 1e6:g} MB there and back",
            "ms",
            [each],
            _column(large),
            beside=STDLIB,
            goals=[Goal(RUN, each, 0.55, STDLIB)],
        ),
    ]


def _column(took: dict[str, float]) -> dict[str, list[float | None]]:
    return {name: [value] for name, value in took.items()}


def _in_sequence(call: Call) -> Callable[[], Awaitable[float]]:
    number = sized(200, 5)

    async def measure() -> float:
        began_at = perf_counter()
        for _ in range(number):
            await call(noop)
        return (perf_counter() - began_at) / number * 1e6

    return measure


def _at_once(call: Call) -> Callable[[], Awaitable[float]]:
    async def measure() -> float:
        began_at = perf_counter()
        await asyncio.gather(*(call(noop) for _ in range(AT_ONCE)))
        return (perf_counter() - began_at) / AT_ONCE * 1e6

    return measure


def _there_and_back(call: Call) -> Callable[[], Awaitable[float]]:
    async def measure() -> float:
        began_at = perf_counter()
        assert len(await call(same, LARGE)) == len(LARGE)
        return (perf_counter() - began_at) * 1e3

    return several(measure, sized(5, 1))


def deaths() -> list[Table]:
    """From SIGKILL of a process that sleeps to its call's error; the stock pools are made anew for each."""
    took = asyncio.run(_deaths())
    death = "a death"
    return [
        Table(
            "SIGKILL of a process to the error of its call",
            "ms",
            [death],
            _column(took),
            beside=PIDFD,
            goals=[Goal(RUN, death, 3.0, PIDFD)],
        )
    ]


PIDFD = "floor: a bare pidfd"


async def _deaths() -> dict[str, float]:
    async with Supervisor("ours", logger=SILENT, max_processes=1) as sup:
        times = sized(5, 1)
        measures: dict[str, Callable[[], Awaitable[float]]] = {
            PIDFD: several(lambda: _killed_bare(SLEEP), times),
            "a bare pidfd, of a process with two threads": several(lambda: _killed_bare(SLEEP_WITH_THREAD), times),
        }
        measures |= {name: _killed_in_new_pool(pool) for name, pool in POOLS.items() if name != INTERPRETERS}
        measures[RUN] = several(lambda: _killed(lambda fn, *args: sup.run(fn, *args, kind="process")), times)
        return await in_turns(measures, sized(5, 1))


def _killed_in_new_pool(pool: Callable[[int], AbstractAsyncContextManager[Call]]) -> Callable[[], Awaitable[float]]:
    async def measure() -> float:
        async with pool(1) as call:
            return await _killed(call)

    return measure


async def _killed(call: Call) -> float:
    pid = await call(os.getpid)
    sleeping = asyncio.ensure_future(call(sleep, 3600))
    await asyncio.sleep(sized(0.1, 0.05))  # it does by then; a process that was launched meanwhile is up
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


def starts() -> list[Table]:
    """From the launch of a process until it takes calls; and the first call of each pool, its building included."""
    took = asyncio.run(_starts())
    launch = {name: took.pop(name) for name in (BARE, READY)}
    return [
        Table("Start of a worker process, until it takes calls", "ms", ["a process"], _column(launch), beside=BARE),
        Table(
            "The first call in a process of a new pool",
            "ms",
            ["a call"],
            _column({BARE: launch[BARE]} | took),
            beside=STDLIB,
            note="`anyio.to_process` has no pool of its own that could be new.",
        ),
    ]


BARE = "floor: `python -c pass`"
READY = "a worker process"


async def _starts() -> dict[str, float]:
    first = {name: _first_call(pool) for name, pool in POOLS.items() if name != ANYIO}  # it keeps its processes
    measures = {BARE: _bare_interpreter, READY: _ready, **first, RUN: _first_call_of_ours}
    return await in_turns(measures, sized(9, 1))


class Waiter:
    """Waits for one process."""

    def __init__(self) -> None:
        self.ready, self.dead = asyncio.Event(), asyncio.Event()

    def up(self, _: Process) -> None:
        self.ready.set()

    def ended(self, *_: object) -> None: ...

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


def _first_call(pool: Callable[[int], AbstractAsyncContextManager[Call]]) -> Callable[[], Awaitable[float]]:
    async def measure() -> float:
        began_at = perf_counter()
        async with pool(1) as call:
            await call(int)
            took = perf_counter() - began_at
        return took * 1e3

    return measure
