"""What each of many costs that are stopped, that end, or that fail at once; and how the loop goes on meanwhile."""

from __future__ import annotations

import asyncio
import gc
import threading
from contextlib import contextmanager
from statistics import median
from time import process_time
from typing import TYPE_CHECKING

from supervisor import Restart, Supervisor, current_context

from .measure import SILENT, Gap, Goal, Table, sized

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from supervisor import WorkerContext

    Cost = Callable[[int], Awaitable[float]]

__all__ = ["backlogs"]

GROWTH = 1.3
"""How much dearer each may be among ten times as many."""

QUEUED = sized(100_000, 200)
"""Calls, for the gaps of the loop."""

ASYNCIO, GAP = "floor: as many tasks of asyncio, cancelled", "**`shutdown()`**"


def backlogs() -> list[Table]:
    """Ten times as many: each must not become dearer. And a backlog of calls, while the loop goes on."""
    return [asyncio.run(_costs()), asyncio.run(_gaps())]


# ------------------------------------------------------------------------------------------------ each of many


async def _costs() -> Table:
    costs: dict[str, tuple[Cost, int]] = {
        "stop of queued calls": (_queued_calls, sized(2000, 10)),
        "stop of queued calls of a group": (_queued_calls_of_a_group, sized(2000, 10)),
        "stop of calls that run": (_running_calls, sized(60, 3)),
        "stop of workers": (_workers, sized(60, 3)),
        "stop of members of a group": (_members, sized(60, 3)),
        "end of groups": (_groups, sized(300, 3)),
        "failure of all members, `one_for_all`": (_failures("one_for_all"), sized(60, 3)),
        "failure of all members, `rest_for_one`": (_failures("rest_for_one"), sized(60, 3)),
    }
    figures: dict[str, list[float | None]] = {}
    for name, (cost, number) in costs.items():
        figures[name] = [await _each(cost, number), await _each(cost, 10 * number)]
    return Table(
        "A stop, an end or a failure of many at once: CPU time for each",
        "µs",
        ["N", "10 N"],
        figures,
        goals=[Goal(name, "10 N", GROWTH, beside_column="N") for name in figures],
        note="N is 2,000 calls that are queued, 300 groups, and 60 of what has a thread. Without garbage collection.",
    )


async def _each(cost: Cost, number: int) -> float:
    took = []
    for turn in range(sized(6, 2)):
        with _uncollected():
            seconds = await cost(number)
        if turn:  # the first one does not count
            took.append(seconds / number * 1e6)
    return median(took)


@contextmanager
def _uncollected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def _shutdown_of(sup: Supervisor) -> float:
    began = process_time()
    await sup.shutdown()
    return process_time() - began


def _wait_in_a_call() -> None:
    current_context().stop.wait()


def _wait(ctx: WorkerContext) -> None:
    ctx.stop.wait()


async def _call(of: Supervisor, number: int, queued: int) -> list[asyncio.Task[None]]:
    """Returns so many calls, of which some wait for a thread."""
    calls = [asyncio.ensure_future(of.run(_wait_in_a_call)) for _ in range(number)]
    while of.statistics().queued != queued or of.statistics().workers.get("running") != number - queued:
        await asyncio.sleep(0.01)
    return calls


async def _queued_calls(number: int) -> float:
    async with Supervisor(max_threads=1, logger=SILENT) as sup:
        calls = await _call(sup, number + 1, number)
        took = await _shutdown_of(sup)
        await asyncio.gather(*calls, return_exceptions=True)
    return took


async def _queued_calls_of_a_group(number: int) -> float:
    async with Supervisor(max_threads=1, logger=SILENT) as sup:
        group = sup.group("group")
        calls = await _call(group, number + 1, number)
        took = await _shutdown_of(group)
        await asyncio.gather(*calls, return_exceptions=True)
    return took


async def _running_calls(number: int) -> float:
    async with Supervisor(max_threads=number, logger=SILENT) as sup:
        calls = await _call(sup, number, 0)
        took = await _shutdown_of(sup)
        await asyncio.gather(*calls, return_exceptions=True)
    return took


async def _workers(number: int) -> float:
    async with Supervisor(logger=SILENT) as sup:
        await asyncio.gather(*(sup.start(_wait) for _ in range(number)))
        return await _shutdown_of(sup)


async def _members(number: int) -> float:
    async with Supervisor(logger=SILENT) as sup:
        group = sup.group("group")
        await asyncio.gather(*(group.start(_wait) for _ in range(number)))
        return await _shutdown_of(group)


async def _groups(number: int) -> float:
    async with Supervisor(logger=SILENT) as sup:
        groups = [sup.group(f"group{n}") for n in range(number)]
        await groups[-1].start(_wait)
        return await _shutdown_of(sup)


def _failures(strategy: str) -> Cost:
    async def cost(number: int) -> float:
        go = threading.Event()

        def work(ctx: WorkerContext) -> None:
            if ctx.attempt == 1:
                with ctx.on_stop(go.set):
                    go.wait()
                raise ValueError
            ctx.stop.wait()

        async with Supervisor(strategy=strategy, logger=SILENT) as sup:  # type: ignore[arg-type]
            restart = Restart("always", max_restarts=number, backoff=0)
            workers = [await sup.start(work, restart=restart) for _ in range(number)]
            began = process_time()
            go.set()
            while not all(worker.attempt >= 2 and worker.state == "running" for worker in workers[::-1]):
                await asyncio.sleep(0.01)
            return process_time() - began

    return cost


# ------------------------------------------------------------------------------------------------ the loop goes on


async def _gaps() -> Table:
    figures: dict[str, list[float | None]] = {ASYNCIO: [], GAP: []}
    for collected in (False, True):
        for name, measure in ((ASYNCIO, _cancelled), (GAP, _stopped)):
            gc.collect()
            if not collected:
                gc.disable()
            figures[name].append(await measure())
            gc.enable()
    columns = ["without garbage collection", "with it"]
    return Table(
        f"Longest gap of the loop while {QUEUED:,} calls are stopped that are queued",
        "ms",
        columns,
        figures,
        beside=ASYNCIO,
        goals=[Goal(GAP, columns[0], 50)],
        note="Each full garbage collection looks through all that lives, the tasks that wait for these calls included.",
    )


async def _cancelled() -> float:
    loop = asyncio.get_running_loop()

    async def wait() -> None:
        await loop.create_future()

    tasks = [asyncio.ensure_future(wait()) for _ in range(QUEUED)]
    await asyncio.sleep(0.1)
    gap = Gap()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    return gap.end()


async def _stopped() -> float:
    async with Supervisor(max_threads=1, logger=SILENT) as sup:
        calls = await _call(sup, QUEUED + 1, QUEUED)
        await asyncio.sleep(0.1)
        gap = Gap()
        await sup.shutdown()
        longest = gap.end()
        await asyncio.gather(*calls, return_exceptions=True)
    return longest
