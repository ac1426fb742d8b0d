"""How things are measured: side by side, in turns, on one core where latency counts."""

from __future__ import annotations

import gc
import logging
import math
import os
import platform
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

__all__ = ["SILENT", "Row", "in_turns", "machine", "pinned", "several", "table"]

SILENT: Any = structlog.wrap_logger(
    structlog.ReturnLogger(), wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL)
)
"""A logger that leaves out all that the library has to say, in the time that structlog takes for it."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        work: What was measured.
        unit: Of both numbers.
        ours: Of the library.
        peer: What it is compared with; empty where it stands alone.
        theirs: Of the peer, NaN where there is none.
        at_most: The target for `ours / theirs`, or for `ours` where there is no peer or `absolute` is set. NaN: none.
        absolute: The target is for `ours`, and the peer is there for the sake of comparison.
    """

    work: str
    unit: str
    ours: float
    peer: str = ""
    theirs: float = math.nan
    at_most: float = math.nan
    absolute: bool = False

    @property
    def ratio(self) -> float:
        """Ours for each of theirs."""
        return self.ours / self.theirs

    @property
    def missed(self) -> bool:
        """There is a target, and it is not met."""
        return (self.ours if self._alone else self.ratio) > self.at_most

    @property
    def cells(self) -> tuple[str, ...]:
        """The line as text, in the order of `HEADINGS`."""
        target = f"<= {self.at_most:g}{f' {self.unit}' if self._alone else ' x'}"
        return (
            self.work,
            f"{_number(self.ours)} {self.unit}",
            self.peer,
            "" if math.isnan(self.theirs) else f"{_number(self.theirs)} {self.unit}",
            "" if math.isnan(self.theirs) else f"{self.ratio:.2f}",
            "" if math.isnan(self.at_most) else target,
            "" if math.isnan(self.at_most) else "MISSED" if self.missed else "met",
        )

    @property
    def _alone(self) -> bool:
        return self.absolute or math.isnan(self.theirs)


HEADINGS = ("work", "ours", "beside", "theirs", "ratio", "target", "")


def table(rows: Sequence[Row]) -> str:
    """Returns the rows as text; words stand left, numbers right."""
    lines = [HEADINGS, *(row.cells for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    aligned = (str.ljust, str.rjust, str.ljust, str.rjust, str.rjust, str.ljust, str.ljust)
    return "\n".join(
        "  ".join(align(cell, width) for align, cell, width in zip(aligned, line, widths, strict=True)).rstrip()
        for line in lines
    )


def machine() -> str:
    """Returns what the numbers depend on, in one line."""
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return (
        f"{platform.python_implementation()} {platform.python_version()}, {platform.system()} {platform.release()}, "
        f"{os.cpu_count()} cores, switch interval {sys.getswitchinterval() * 1000:g} ms{load}"
    )


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


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
