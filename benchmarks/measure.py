"""How things are measured: side by side, in turns, on one core where latency counts; and what a measurement is."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from statistics import median
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import structlog

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping

__all__ = [
    "LOOPS",
    "QUICK",
    "SILENT",
    "Gap",
    "Goal",
    "Loop",
    "Table",
    "in_turns",
    "pinned",
    "run_on",
    "several",
    "sized",
    "spinning",
]

T = TypeVar("T")
N = TypeVar("N", int, float, tuple[int, ...], tuple[str, ...])

QUICK = "BENCHMARKS_QUICK" in os.environ
"""Everything is done in small, to see that it works: the figures mean nothing."""

SILENT: Any = structlog.wrap_logger(
    structlog.ReturnLogger(), wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL)
)
"""A logger that leaves out all that the library has to say, in the time that structlog takes for it."""

Loop = Literal["asyncio", "uvloop"]
LOOPS: tuple[Loop, ...] = ("asyncio", "uvloop") if find_spec("uvloop") else ("asyncio",)


def sized(full: N, quick: N) -> N:
    """Returns how many there shall be of something."""
    return quick if QUICK else full


# ------------------------------------------------------------------------------------------------ what was measured


@dataclass(frozen=True, slots=True)
class Goal:
    """What a figure must not exceed.

    Attributes:
        row, column: Which figure.
        at_most: The figure itself, or its ratio to another one if either of the next two is given.
        beside_row, beside_column: Where the other one stands; empty: in the same row, or column.
    """

    row: str
    column: str
    at_most: float
    beside_row: str = ""
    beside_column: str = ""

    @property
    def is_ratio(self) -> bool:
        """Whether it is for the ratio of two figures."""
        return bool(self.beside_row or self.beside_column)


@dataclass(frozen=True, slots=True)
class Table:
    """Figures of one unit; the smaller, the better.

    Attributes:
        title: What was measured.
        unit: Of all figures.
        columns: Under which circumstances.
        figures: By the contenders' names, the floor first; one figure for each column, None where there is none.
        beside: The contender to which the others' ratios are given.
        goals: What the figures must not exceed.
        note: What the reader has to know.
        pinned: It was measured on one core.
    """

    title: str
    unit: str
    columns: list[str]
    figures: dict[str, list[float | None]]
    beside: str = ""
    goals: list[Goal] = field(default_factory=list)
    note: str = ""
    pinned: bool = False

    def figure(self, row: str, column: str) -> float:
        """Returns what stands in a cell that is not empty."""
        value = self.figures[row][self.columns.index(column)]
        assert value is not None
        return value

    def reached(self, goal: Goal) -> float:
        """Returns what stands against the goal: the figure, or its ratio."""
        value = self.figure(goal.row, goal.column)
        if not goal.is_ratio:
            return value
        return value / self.figure(goal.beside_row or goal.row, goal.beside_column or goal.column)

    def as_data(self) -> dict[str, Any]:
        """Returns what JSON can hold."""
        return asdict(self)

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> Table:
        """Returns the table that `as_data` was called of."""
        return cls(**{**data, "goals": [Goal(**goal) for goal in data["goals"]]})


# ------------------------------------------------------------------------------------------------ how it is measured


def run_on(loop: Loop, main: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine on an event loop of this kind."""
    factory = asyncio.new_event_loop
    if loop == "uvloop":
        from uvloop import new_event_loop as factory  # noqa: PLC0415  # there is none for PyPy, nor for Windows
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)


async def in_turns(contenders: Mapping[str, Callable[[], Awaitable[float]]], rounds: int) -> dict[str, float]:
    """Measures each contender once a round, after a first round that does not count; returns their medians."""
    measured: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds + 1):
        for name, measure in contenders.items():
            gc.collect()  # nobody pays for what another has left behind
            measured[name].append(await measure())
    return {name: median(numbers[1:]) for name, numbers in measured.items()}


def several(measure: Callable[[], Awaitable[float]], times: int) -> Callable[[], Awaitable[float]]:
    """Returns what measures `times` times without a pause, warm from the second on, and gives the median."""

    async def measure_several() -> float:
        return median([await measure() for _ in range(times)])

    return measure_several


@contextmanager
def pinned() -> Iterator[None]:
    """Keeps this thread, and those that are started meanwhile, on one core, where the system can.

    Otherwise the same call takes 26 or 65 microseconds, depending on the cores on which its two threads happen to be.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


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


class Gap:
    """For how long the event loop did not come round while a timer of a millisecond was due; in milliseconds."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._last = monotonic()
        self._timer: asyncio.Handle = self._loop.call_soon(self._tick)
        self.each: list[float] = []

    def _tick(self) -> None:
        self._look()
        self._timer = self._loop.call_later(0.001, self._tick)

    def _look(self) -> None:
        now = monotonic()
        self.each.append((now - self._last) * 1e3)
        self._last = now

    def end(self) -> float:
        """Returns the longest one."""
        self._look()
        self._timer.cancel()
        return max(self.each)
