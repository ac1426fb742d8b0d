"""What a call costs: in time, one after the other and many at once, and in memory while it waits its turn."""

from __future__ import annotations

import asyncio
import threading
import timeit
import tracemalloc
from time import perf_counter
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from supervisor import Supervisor
from supervisor._loop import Inbox
from supervisor._supervisor import LoopView

from .measure import SILENT, Row, in_turns, pinned
from .peers import noop, peers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from supervisor._shell import Shell

    from .peers import Call

__all__ = ["bytes_queued", "latency", "logging_off", "throughput"]

RIE = "run_in_executor(None)"

IN_SEQUENCE = 1_000
AT_ONCE = 10_000
THREADS = 32


class PipeInbox(Inbox[Any]):
    """Wakes the loop as it is done where there is no eventfd."""

    def __init__(self, loop: asyncio.AbstractEventLoop, handle: Callable[[Any], None]) -> None:
        super().__init__(loop, handle, eventfd=False)


def latency() -> list[Row]:
    """One call at a time, on one core: the way to a thread and back."""
    with pinned():
        return asyncio.run(_latency())


async def _latency() -> list[Row]:
    loop = asyncio.get_running_loop()
    with peers(1) as calls:
        piped = Supervisor("piped", logger=SILENT)
        with patch("supervisor._shell.Inbox", PipeInbox):
            piped._attach()
        async with Supervisor("ours", logger=SILENT) as sup, piped:
            view, executor = _view(sup), sup.executor()
            calls["sup.run"] = lambda: sup.run(noop)
            calls["sup.run, timeout"] = lambda: sup.run(noop, timeout=60)
            calls["sup.run, no eventfd"] = lambda: piped.run(noop)
            calls["view"] = lambda: loop.run_in_executor(view, noop)
            calls["executor"] = lambda: loop.run_in_executor(executor, noop)
            took = await in_turns({name: _in_sequence(call) for name, call in calls.items()}, rounds=15)
    own = ("sup.run", "sup.run, timeout", "sup.run, no eventfd", "view", "executor")
    return [
        Row("one sup.run", "µs", took["sup.run"], RIE, took[RIE], at_most=0.75),
        Row("one sup.run without eventfd", "µs", took["sup.run, no eventfd"], RIE, took[RIE], at_most=0.85),
        Row("one sup.run with a timeout", "µs", took["sup.run, timeout"], RIE, took[RIE]),
        Row("one run_in_executor(view)", "µs", took["view"], RIE, took[RIE]),
        Row("one run_in_executor(executor())", "µs", took["executor"], RIE, took[RIE], at_most=1.0),
        *(Row("one sup.run", "µs", took["sup.run"], peer, took[peer]) for peer in took if peer not in (*own, RIE)),
    ]


def _in_sequence(call: Call) -> Callable[[], Awaitable[float]]:
    async def measure() -> float:
        began_at = perf_counter()
        for _ in range(IN_SEQUENCE):
            await call()
        return (perf_counter() - began_at) / IN_SEQUENCE * 1e6

    return measure


def throughput() -> list[Row]:
    """Ten thousand calls at once on 32 threads, garbage collection included, on all cores."""
    return asyncio.run(_throughput())


async def _throughput() -> list[Row]:
    loop = asyncio.get_running_loop()
    with peers(THREADS) as calls:
        async with Supervisor("ours", logger=SILENT, max_threads=THREADS) as sup:
            view = _view(sup)
            calls["sup.run"] = lambda: sup.run(noop)
            calls["view"] = lambda: loop.run_in_executor(view, noop)
            took = await in_turns({name: _at_once(call) for name, call in calls.items()}, rounds=5)
    work, through_view = "10,000 sup.run at once", "10,000 run_in_executor(view) at once"
    own, targets = ("sup.run", "view"), {RIE: 0.4, "asyncio.to_thread": 0.3}
    return [
        Row(through_view, "µs", took["view"], RIE, took[RIE], at_most=0.2),
        *(Row(work, "µs", took["sup.run"], peer, took[peer], at_most=target) for peer, target in targets.items()),
        *(Row(work, "µs", took["sup.run"], peer, took[peer]) for peer in took if peer not in (*own, *targets)),
    ]


def _at_once(call: Call) -> Callable[[], Awaitable[float]]:
    async def measure() -> float:
        began_at = perf_counter()
        await asyncio.gather(*(call() for _ in range(AT_ONCE)))
        return (perf_counter() - began_at) / AT_ONCE * 1e6

    return measure


def bytes_queued() -> list[Row]:
    """What a call holds while it waits for a thread: its record, its future and its deadline, without a task."""
    return asyncio.run(_bytes_queued())


async def _bytes_queued() -> list[Row]:
    loop = asyncio.get_running_loop()
    with peers(1):
        async with Supervisor("ours", logger=SILENT, max_threads=1) as sup:
            view, patient = _view(sup), LoopView(sup._attached(), timeout=60)
            ours = await _held_by_each(lambda fn: loop.run_in_executor(patient, fn))
            without = await _held_by_each(lambda fn: loop.run_in_executor(view, fn))
            theirs = await _held_by_each(lambda fn: loop.run_in_executor(None, fn))
    return [
        Row("a queued call with a timeout", "bytes", ours, RIE, theirs, at_most=1_000, absolute=True),
        Row("a queued call without a timeout", "bytes", without, RIE, theirs),
    ]


async def _held_by_each(submit: Callable[[Callable[[], object]], Awaitable[Any]]) -> float:
    gate = threading.Event()
    first = submit(gate.wait)
    futures: list[Awaitable[Any]] = [submit(noop) for _ in range(AT_ONCE)]  # lists and tables have grown by now
    gate.set()
    await asyncio.gather(first, *futures)
    futures.clear()
    gate.clear()
    tracemalloc.start()
    try:
        first = submit(gate.wait)
        before, _ = tracemalloc.get_traced_memory()
        futures += [submit(noop) for _ in range(AT_ONCE)]
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    gate.set()
    await asyncio.gather(first, *futures)
    return (after - before) / AT_ONCE


def logging_off() -> list[Row]:
    """What a call pays for the events that nobody wants: the three places at which it looks whether somebody does."""
    return asyncio.run(_logging_off())


async def _logging_off() -> list[Row]:
    async with Supervisor("ours", logger=SILENT) as sup:
        await sup.run(noop)
        shell = sup._attached()
        run = shell.call(noop, ()).run
        looks = _nanoseconds("shell.log.debug is not None; run.watched; run.watched", shell, run)
        return [Row("logging off, for each call", "ns", looks, at_most=50)]


def _nanoseconds(statement: str, shell: Shell, run: object) -> float:
    names = {"shell": shell, "run": run}
    times = 200_000
    took, empty = (min(timeit.repeat(code, globals=names, number=times, repeat=15)) for code in (statement, "pass"))
    return (took - empty) / times * 1e9


def _view(sup: Supervisor) -> LoopView:
    assert sup._view is not None
    return sup._view
