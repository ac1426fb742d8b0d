"""What many workers of `start()` cost, live ones and short-lived ones: their number must not make each one dearer."""

from __future__ import annotations

import asyncio
import gc
import math
from dataclasses import dataclass
from statistics import median
from time import monotonic, thread_time
from typing import TYPE_CHECKING, TypeVar

from supervisor import Supervisor

from .measure import SILENT, Row

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from supervisor import WorkerContext

__all__ = ["workers"]

T = TypeVar("T")

LIVE = (1_000, 2_000, 4_000)
SHORT = (2_500, 5_000, 10_000)
PROMISED = (2_000, 10_000)
"""Of each, how many must not hold the loop for long."""
ROUNDS = 3
GROWTH = 1.5
"""How much dearer each may be among the most than among the fewest: caches, the collector, and noise."""
GAP = 50.0
"""Milliseconds for which the event loop may be held."""


@dataclass(frozen=True, slots=True)
class Took:
    """How long something took, in seconds; how much of that the loop's thread ran; the loop's longest gap, in ms.

    What grows with the number of workers is looked for in the second: in the first the system has its share, for which
    a thread among 4,000 is dearer than one among 1,000.
    """

    seconds: float
    own: float
    gap: float


async def timed(work: Awaitable[T]) -> Took:
    """Measures some work, and how long the loop did not come round while a timer of a millisecond was due."""
    gap = 0.0

    async def tick() -> None:
        nonlocal gap
        last = monotonic()
        while True:
            await asyncio.sleep(0.001)
            now = monotonic()
            gap, last = max(gap, (now - last) * 1e3), now

    ticker = asyncio.create_task(tick())
    await asyncio.sleep(0)
    began_at, ran = monotonic(), thread_time()
    await work
    seconds, own = monotonic() - began_at, thread_time() - ran
    await asyncio.sleep(0.002)  # the ticker sees the last gap as well
    ticker.cancel()
    return Took(seconds, own, gap)


def wait(ctx: WorkerContext) -> None:
    ctx.stop.wait()


def end(_: WorkerContext) -> None:
    """Ends at once."""


async def _live(number: int) -> tuple[Took, Took]:
    sup = Supervisor("live", logger=SILENT)

    async def start() -> None:
        for _ in range(number):
            await sup.start(wait)

    started = await timed(start())
    stopped = await timed(sup.shutdown())
    assert sup.report is not None
    assert sup.report.counts() == {"stopped": number}
    return started, stopped


async def _short(number: int) -> tuple[Took]:
    async with Supervisor("short", logger=SILENT) as sup:

        async def start() -> None:
            for worker in [await sup.start(end) for _ in range(number)]:
                await worker.wait()

        return (await timed(start()),)


def workers() -> list[Row]:
    """Workers that wait for their stop Event, and workers that end at once, started one after the other."""
    return [
        *_rows("live workers", LIVE, _live, "start", "stop"),
        *_rows("short-lived workers", SHORT, _short, "start to end"),
    ]


def _rows(
    what: str, numbers: tuple[int, ...], measure: Callable[[int], Awaitable[tuple[Took, ...]]], *phases: str
) -> list[Row]:
    """Of each phase: what each of the workers costs, beside the fewest; and the loop's longest gaps."""
    measured: dict[int, list[tuple[Took, ...]]] = {number: [] for number in numbers}

    async def one(number: int) -> None:
        measured[number].append(await measure(number))

    for _ in range(ROUNDS):
        for number in numbers:
            gc.collect()
            asyncio.run(one(number))
    fewest, rows = numbers[0], list[Row]()
    for place, phase in enumerate(phases):
        took = {number: [measures[place] for measures in rounds] for number, rounds in measured.items()}
        own = {number: median(one.own for one in took[number]) / number * 1e6 for number in numbers}
        for number in numbers:
            name = f"{number:,} {what}: {phase}"
            rows.append(Row(f"{name}, in all", "ms", median(one.seconds for one in took[number]) * 1e3))
            beside = ("", math.nan, math.nan) if number == fewest else (f"{fewest:,}", own[fewest], GROWTH)
            rows.append(Row("... the loop's own time for each", "µs", own[number], *beside))
            gap = median(one.gap for one in took[number])
            rows.append(Row("... longest gap", "ms", gap, at_most=GAP if number in PROMISED else math.nan))
    return rows
