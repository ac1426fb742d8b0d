"""What a stop costs: a thousand workers at once, the way from the last end to the report, and an injection."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import math
import threading
from contextlib import contextmanager
from statistics import median
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from supervisor import Ask, EscalationPolicy, Inject, StopInjected, Supervisor

from .measure import SILENT, Row, in_turns, pinned, several

if TYPE_CHECKING:
    from collections.abc import Iterator

    from supervisor import WorkerContext
    from supervisor._run import Run

__all__ = ["injection", "last_end", "waiters", "waiters_busy"]

WAITERS = 1_000

SETTLED = 0.3
"""Seconds after which a thread that has been entered is surely waiting."""


class Stop:
    """One stop, in milliseconds from here on.

    Attributes:
        out: Until the last thread had left its wait.
        known: Until that was known in the event loop.
        gap: The longest time for which the loop did not come round; looked at each millisecond if it is `ticking`.
    """

    def __init__(self, *, ticking: bool) -> None:
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.Handle | None = self._loop.call_soon(self._tick) if ticking else None
        self._began_at = self._last = monotonic()
        self.out = self.known = self.gap = 0.0

    def _tick(self) -> None:
        self._look()
        self._timer = self._loop.call_later(0.001, self._tick)

    def _look(self) -> float:
        now = monotonic()
        self.gap = max(self.gap, (now - self._last) * 1e3)
        self._last = now
        return now

    def end(self, left_at: list[float]) -> None:
        self.known = (self._look() - self._began_at) * 1e3
        self.out = (max(left_at) - self._began_at) * 1e3
        if self._timer is not None:
            self._timer.cancel()
        assert len(left_at) == WAITERS


async def stop_workers(cpu_bound: int, *, ticking: bool) -> Stop:
    """Stops a thousand workers, each waiting for its own stop Event, by a shutdown of their supervisor."""
    left_at: list[float] = []

    def wait(ctx: WorkerContext) -> None:
        ctx.stop.wait()
        left_at.append(monotonic())

    sup = Supervisor("waiters", logger=SILENT)
    await asyncio.gather(*(sup.start(wait) for _ in range(WAITERS)))
    await asyncio.sleep(SETTLED)
    with spinning(cpu_bound):
        stop = Stop(ticking=ticking)
        await sup.shutdown()
        stop.end(left_at)
    return stop


async def set_one_event(cpu_bound: int, *, ticking: bool) -> Stop:
    """Stops a thousand threads that wait for the same Event, as it is done without a library."""
    loop = asyncio.get_running_loop()
    left_at: list[float] = []
    event, all_out = threading.Event(), asyncio.Event()

    def wait() -> None:
        event.wait()
        left_at.append(monotonic())
        if len(left_at) == WAITERS:
            loop.call_soon_threadsafe(all_out.set)

    threads = [threading.Thread(target=wait, daemon=True) for _ in range(WAITERS)]
    for thread in threads:
        thread.start()
    await asyncio.sleep(SETTLED)
    with spinning(cpu_bound):
        stop = Stop(ticking=ticking)
        event.set()
        await all_out.wait()
        stop.end(left_at)
    for thread in threads:
        thread.join()
    return stop


@contextmanager
def spinning(threads: int) -> Iterator[None]:
    """Keeps threads busy with Python code inside the block."""
    over = False

    def spin() -> None:
        while not over:
            pass

    spinners = [threading.Thread(target=spin, daemon=True) for _ in range(threads)]
    for spinner in spinners:
        spinner.start()
    try:
        yield
    finally:
        over = True
        for spinner in spinners:
            spinner.join()


def waiters() -> list[Row]:
    """A thousand workers that wait for their stop Event, stopped together."""
    ours, theirs = asyncio.run(_stops(rounds=7, ticking=True))
    calm, theirs_calm = asyncio.run(_stops(rounds=7, ticking=False))
    return [
        _beside("1,000 waiters: last out", "out", ours, theirs, at_most=0.75),
        _beside("1,000 waiters: reported", "known", ours, theirs),
        _beside("1,000 waiters: loop's longest gap", "gap", ours, theirs, at_most=20, absolute=True),
        _beside("... in a loop without a tick: last out", "out", calm, theirs_calm),
    ]


def waiters_busy() -> list[Row]:
    """The same beside two CPU-bound threads; one Event takes so long then that it is tried only once."""
    ours, theirs = asyncio.run(_stops(rounds=5, rounds_of_theirs=1, cpu_bound=2, ticking=True))
    return [
        _beside("... beside 2 CPU-bound threads: last out", "out", ours, theirs, at_most=400, absolute=True),
        _beside("... beside 2 CPU-bound threads: reported", "known", ours, theirs),
    ]


def _beside(
    work: str, what: str, ours: list[Stop], theirs: list[Stop], *, at_most: float = math.nan, absolute: bool = False
) -> Row:
    ms, theirs_ms = (median(getattr(stop, what) for stop in stops) for stops in (ours, theirs))
    return Row(work, "ms", ms, "one threading.Event", theirs_ms, at_most=at_most, absolute=absolute)


async def _stops(
    rounds: int, rounds_of_theirs: int | None = None, cpu_bound: int = 0, *, ticking: bool
) -> tuple[list[Stop], list[Stop]]:
    ours: list[Stop] = []
    theirs: list[Stop] = []
    for number in range(rounds):
        gc.collect()
        ours.append(await stop_workers(cpu_bound, ticking=ticking))
        if rounds_of_theirs is None or number < rounds_of_theirs:
            gc.collect()
            theirs.append(await set_one_event(cpu_bound, ticking=ticking))
    return ours, theirs


def last_end() -> list[Row]:
    """From the last line of the last worker to the report in the hands of who awaits the shutdown."""
    with pinned():
        took = asyncio.run(in_turns({"ours": several(_last_end, 10)}, rounds=5))
    return [Row("end of the last worker to report", "ms", took["ours"], at_most=0.5)]


async def _last_end() -> float:
    last_line_at = 0.0

    def wait(ctx: WorkerContext) -> None:
        nonlocal last_line_at
        ctx.stop.wait()
        sleep(0.01)  # the loop has gone to sleep by then
        last_line_at = monotonic()

    sup = Supervisor("last", logger=SILENT)
    await sup.run(int)  # one idle thread of the pool must be gone, too
    await sup.start(wait)
    await sup.shutdown()
    return (monotonic() - last_line_at) * 1e3


def injection() -> list[Row]:
    """From the injection into a thread that spins in Python to its end, known in the loop; beside the bare call."""
    contenders = {"step": _inject_by_ladder, "stop": _stop_by_injection, "bare": _inject_bare}
    with pinned():
        took = asyncio.run(in_turns({name: several(one, 20) for name, one in contenders.items()}, rounds=5))
    bare = "PyThreadState_SetAsyncExc"
    return [
        Row("injection to outcome", "ms", took["step"], bare, took["bare"], at_most=2),
        Row("stop() to outcome, Ask(0) and the stack included", "ms", took["stop"], bare, took["bare"]),
    ]


def _spin() -> None:
    # The loop stands in a function of its own, below the `try` of who calls it: on 3.13 its back edge is a place at
    # which an injected exception passes by a handler in the same function.
    number = 0
    while True:
        number += 1


async def _inject_by_ladder() -> float:
    injected_at, _, ended_at = await _injected()
    return (ended_at - injected_at) * 1e3


async def _stop_by_injection() -> float:
    _, asked_at, ended_at = await _injected()
    return (ended_at - asked_at) * 1e3


async def _injected() -> tuple[float, float, float]:
    """Returns when a worker was injected, when its stop had begun, and when its outcome was there."""
    loop = asyncio.get_running_loop()
    spinning = asyncio.Event()
    injected_at = 0.0

    def work(_: WorkerContext) -> None:
        loop.call_soon_threadsafe(spinning.set)
        _spin()

    async with Supervisor("spinning", logger=SILENT, policy=EscalationPolicy(Ask(0), Inject(5))) as sup:
        threads = sup._attached().threads
        inject = threads.inject

        def noted(run: Run) -> Any:
            nonlocal injected_at
            injected_at = monotonic()
            return inject(run)

        worker = await sup.start(work)
        await spinning.wait()
        with patch.object(threads, "inject", noted):
            asked_at = monotonic()
            outcome = await worker.stop()
            ended_at = monotonic()
    assert outcome.ended == "injected"
    return injected_at, asked_at, ended_at


async def _inject_bare() -> float:
    loop = asyncio.get_running_loop()
    spinning, ended = asyncio.Event(), asyncio.Event()

    def work() -> None:
        try:
            loop.call_soon_threadsafe(spinning.set)
            _spin()
        except StopInjected:
            loop.call_soon_threadsafe(ended.set)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    await spinning.wait()
    began_at = monotonic()
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(StopInjected))
    await ended.wait()
    took = monotonic() - began_at
    thread.join()
    return took * 1e3
