"""What many workers of `start()` cost, live ones and short-lived ones: their number must not make each one dearer."""

from __future__ import annotations

import asyncio
import gc
import threading
from dataclasses import dataclass
from statistics import median
from time import monotonic, thread_time
from typing import TYPE_CHECKING, Any, TypeVar

from supervisor import Supervisor

from .measure import SILENT, Gap, Goal, Table, sized

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from supervisor import WorkerContext

__all__ = ["burst", "crowd", "workers"]

T = TypeVar("T")

LIVE = sized((10, 100, 1_000, 4_000), (5, 10))
SHORT = sized(10_000, 20)
BESIDE = sized(2_000, 10)
ROUNDS = sized(3, 1)
GROWTH = 1.5
"""How much dearer each may be among the most than among a tenth of them: caches, the collector, and noise."""
LONGEST_GAP = 50.0
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
    """Measures some work, and how long the loop did not come round meanwhile."""
    gap = Gap()
    await asyncio.sleep(0)
    began_at, ran = monotonic(), thread_time()
    await work
    seconds, own = monotonic() - began_at, thread_time() - ran
    await asyncio.sleep(0.002)
    return Took(seconds, own, gap.end())


def wait(ctx: WorkerContext) -> None:
    ctx.stop.wait()


def end(_: WorkerContext) -> None:
    """Ends at once."""


async def _ours(number: int) -> tuple[Took, Took]:
    sup = Supervisor("live", logger=SILENT)

    async def start() -> None:
        for _ in range(number):
            await sup.start(wait)

    started = await timed(start())
    stopped = await timed(sup.shutdown())
    assert sup.report is not None
    assert sup.report.counts() == {"stopped": number}
    return started, stopped


async def _bare(number: int) -> tuple[Took, Took]:
    """The least that can be done: threads, each awaited until it has been entered, and one Event for all."""
    loop, event, gone = asyncio.get_running_loop(), threading.Event(), asyncio.Event()
    left = 0

    def leave() -> None:
        nonlocal left
        left += 1
        if left == number:
            gone.set()

    def work(entered: asyncio.Future[None]) -> None:
        loop.call_soon_threadsafe(entered.set_result, None)
        event.wait()
        loop.call_soon_threadsafe(leave)

    async def start() -> None:
        for _ in range(number):
            entered = loop.create_future()
            threading.Thread(target=work, args=(entered,), daemon=True).start()
            await entered

    async def stop() -> None:
        event.set()
        await gone.wait()

    return await timed(start()), await timed(stop())


def workers() -> list[Table]:
    """Workers that wait for their stop Event: start, one after the other, and stop of all."""
    took: dict[str, list[list[tuple[Took, Took]]]] = {"floor: threads and one Event": [], "ours": []}
    for number in LIVE:
        for name, rounds in zip(took, _rounds(number, _bare, _ours), strict=True):
            took[name].append(rounds)
    columns = [f"{number:,}" for number in LIVE]
    tables = []
    for place, phase in enumerate(("start", "stop")):
        all_, own, gap = "in all", "the loop's own time", "longest gap of the loop"
        each: dict[str, list[float | None]] = {}
        gaps: dict[str, list[float | None]] = {}
        for name, measured in took.items():
            of = [[one[place] for one in rounds] for rounds in measured]
            for what, attribute in ((all_, "seconds"), (own, "own")):
                each[f"{name}, {what}"] = [
                    median(getattr(one, attribute) for one in rounds) / number * 1e6
                    for number, rounds in zip(LIVE, of, strict=True)
                ]
            gaps[f"{name}: {gap}"] = [median(one.gap for one in rounds) for rounds in of]
        dearer = Goal(f"ours, {own}", columns[-1], GROWTH, beside_column=columns[-2])
        tables += [
            Table(f"{phase.capitalize()} of so many live workers; for each", "µs", columns, each, goals=[dearer]),
            Table(f"{phase.capitalize()} of so many live workers: the loop", "ms", columns, gaps),
        ]
    return tables


def _rounds(
    number: int, *measures: Callable[[int], Coroutine[Any, Any, tuple[Took, Took]]]
) -> list[list[tuple[Took, Took]]]:
    """Measures each in turn, after a first round that does not count; returns the rounds of each."""
    rounds: list[list[tuple[Took, Took]]] = [[] for _ in measures]
    for _ in range(ROUNDS + 1):
        for each, measure in zip(rounds, measures, strict=True):
            gc.collect()
            each.append(asyncio.run(measure(number)))
    return [each[1:] for each in rounds]


def burst() -> list[Table]:
    """Workers that are started in one turn of the loop, by `gather`."""
    started: dict[str, list[float]] = {BARE: [], OURS: []}
    gaps: list[float] = []
    for turn in range(sized(6, 1) + 1):
        gc.collect()
        bare = _bare_burst(BESIDE)
        gc.collect()
        each, gap = asyncio.run(_burst(BESIDE))
        if turn:  # the first one does not count
            started[BARE].append(bare)
            started[OURS].append(each)
            gaps.append(gap)
    together = f"{BESIDE:,} together"
    figures: dict[str, list[float | None]] = {name: [median(took)] for name, took in started.items()}
    return [
        Table(
            "Start of workers in one turn of the loop; for each",
            "µs",
            [together],
            figures,
            beside=BARE,
            goals=[Goal(OURS, together, 1.3, BARE)],
        ),
        Table(
            "Start of workers in one turn of the loop: longest gap of the loop",
            "ms",
            [together],
            {OURS: [median(gaps)]},
            goals=[Goal(OURS, together, 20)],
            note="The tasks are there already: to make them holds the loop as well, and is asyncio's.",
        ),
    ]


BARE, OURS = "floor: bare `Thread.start`, one after the other", "**`start()`**, by `gather`"


async def _burst(number: int) -> tuple[float, float]:
    async with Supervisor("burst", logger=SILENT) as sup:
        await sup.start(wait)
        tasks = [asyncio.ensure_future(sup.start(wait)) for _ in range(number)]
        gap, began_at = Gap(), monotonic()
        await asyncio.gather(*tasks)
        each = (monotonic() - began_at) / number * 1e6
        longest = gap.end()
    return each, longest


def _bare_burst(number: int) -> float:
    event = threading.Event()
    threads = [threading.Thread(target=event.wait, daemon=True) for _ in range(number)]
    began_at = monotonic()
    for thread in threads:
        thread.start()
    each = (monotonic() - began_at) / number * 1e6
    event.set()
    for thread in threads:
        thread.join()
    return each


def crowd() -> list[Table]:
    """Many short-lived workers beside many live ones; then all of them are stopped."""
    took: dict[str, list[tuple[Took, ...]]] = {"floor": [], "ours": []}
    for turn in range(ROUNDS + 1):
        for name, measure in {"floor": _bare_crowd, "ours": _crowd}.items():
            gc.collect()
            measured = asyncio.run(measure())
            if turn:  # the first one does not count
                took[name].append(measured)
    phases = ["start of the live", "short-lived: start to end", "stop"]
    seconds: dict[str, list[float | None]] = {}
    gaps: dict[str, list[float | None]] = {}
    for name, rounds in took.items():
        row = "floor: threads and one Event" if name == "floor" else "ours"
        seconds[row] = [median(one[place].seconds for one in rounds) for place in range(len(phases))]
        gaps[row] = [median(one[place].gap for one in rounds) for place in range(len(phases))]
    what = f"{SHORT:,} short-lived workers beside {BESIDE:,} live ones"
    return [
        Table(what, "s", phases, seconds),
        Table(
            f"{what}: longest gap of the loop",
            "ms",
            phases,
            gaps,
            goals=[Goal("ours", each, LONGEST_GAP) for each in phases],
        ),
    ]


async def _crowd() -> tuple[Took, ...]:
    sup = Supervisor("crowd", logger=SILENT)

    async def live() -> None:
        for _ in range(BESIDE):
            await sup.start(wait)

    async def short() -> None:
        for worker in [await sup.start(end) for _ in range(SHORT)]:
            await worker.wait()

    started, ended = await timed(live()), await timed(short())
    return started, ended, await timed(sup.shutdown())


async def _bare_crowd() -> tuple[Took, ...]:
    loop, event, gone = asyncio.get_running_loop(), threading.Event(), asyncio.Event()
    left = 0

    def leave() -> None:
        nonlocal left
        left += 1
        if left == BESIDE:
            gone.set()

    async def start(number: int, *, stay: bool) -> None:
        for _ in range(number):
            entered = loop.create_future()

            def work(entered: asyncio.Future[None] = entered) -> None:
                loop.call_soon_threadsafe(entered.set_result, None)
                if stay:
                    event.wait()
                    loop.call_soon_threadsafe(leave)

            threading.Thread(target=work, daemon=True).start()
            await entered

    async def stop() -> None:
        event.set()
        await gone.wait()

    return await timed(start(BESIDE, stay=True)), await timed(start(SHORT, stay=False)), await timed(stop())
