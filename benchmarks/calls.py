"""What a call in a thread costs: one after the other, many at once, in memory while it waits its turn, and in logs."""

from __future__ import annotations

import asyncio
import gc
import timeit
from contextlib import asynccontextmanager
from functools import partial
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import structlog

from supervisor import Supervisor
from supervisor._loop.inbox import Inbox

from .measure import LOOPS, SILENT, Goal, Loop, Table, in_turns, pinned, run_on, sized
from .peers import EXECUTOR, FLOOR, NO_EVENTFD, RIE, RUN, TIMEOUT, TO_THREAD, VIEW, noop, peers, view_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from supervisor._run.run import Run
    from supervisor._runtime.runtime import Runtime

    from .peers import Call

__all__ = ["latency", "linearity", "logging", "throughput"]

GROWTH = 1.5
"""How much dearer each may be among the most than among the fewest: caches, the collector, and noise."""


class PipeInbox(Inbox[Any]):
    """Wakes the loop as it is done where there is no eventfd."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options, eventfd=False)


@asynccontextmanager
async def contenders(threads: int) -> AsyncIterator[dict[str, Call]]:
    """Gives the peers and the library, with so many threads each."""
    loop = asyncio.get_running_loop()
    with peers(threads) as calls:
        async with Supervisor("ours", logger=SILENT, max_threads=threads) as sup:
            view, executor = view_of(sup), sup.executor()
            calls[RUN] = lambda: sup.run(noop)
            calls[VIEW] = lambda: loop.run_in_executor(view, noop)
            calls[EXECUTOR] = lambda: loop.run_in_executor(executor, noop)
            yield calls


# ------------------------------------------------------------------------------------------------ one at a time


def latency() -> list[Table]:
    """One call at a time, on one core: the way to a thread and back."""
    with pinned():
        took = {loop: run_on(loop, _latency()) for loop in LOOPS}
    figures: dict[str, list[float | None]] = {name: [took[loop][name] for loop in LOOPS] for name in took["asyncio"]}
    goals = {RUN: 0.65, NO_EVENTFD: 0.85, EXECUTOR: 1.0}
    return [
        Table(
            "One call at a time",
            "µs",
            [*LOOPS],
            figures,
            beside=RIE,
            goals=[Goal(name, "asyncio", at_most, RIE) for name, at_most in goals.items()],
            pinned=True,
        )
    ]


async def _latency() -> dict[str, float]:
    async with contenders(1) as calls:
        loop_sup = Supervisor("piped", logger=SILENT, max_threads=1)
        timed_sup = Supervisor("timed", logger=SILENT, max_threads=1)
        with patch("supervisor._runtime.runtime.Inbox", PipeInbox):
            loop_sup._binding.bind()
        async with loop_sup, timed_sup:
            calls[TIMEOUT] = lambda: timed_sup.run(noop, timeout=60)
            calls[NO_EVENTFD] = lambda: loop_sup.run(noop)
            return await in_turns({name: _in_sequence(call) for name, call in calls.items()}, sized(15, 1))


def _in_sequence(call: Call) -> Callable[[], Awaitable[float]]:
    number = sized(1_000, 20)

    async def measure() -> float:
        began_at = perf_counter()
        for _ in range(number):
            await call()
        return (perf_counter() - began_at) / number * 1e6

    return measure


# ------------------------------------------------------------------------------------------------ many at once


def throughput() -> list[Table]:
    """Many calls at once, garbage collection included, on all cores."""
    return [*(_throughput_on(loop) for loop in LOOPS), asyncio.run(_mapped())]


def _throughput_on(loop: Loop) -> Table:
    threads, number = sized((1, 8, 32), (1, 2)), sized(10_000, 100)
    most = f"{threads[-1]} threads"
    rounds = sized(3 if loop == "asyncio" else 2, 1)
    took = [run_on(loop, _throughput(each, number, rounds)) for each in threads]
    figures: dict[str, list[float | None]] = {name: [one[name] for one in took] for name in took[0]}
    goals = [Goal(VIEW, most, 0.2, RIE), Goal(RUN, most, 0.35, RIE), Goal(RUN, most, 0.27, TO_THREAD)]
    return Table(
        f"{number:,} calls at once, on {loop}; for each",
        "µs",
        [f"{each} thread{'s' if each > 1 else ''}" for each in threads],
        figures,
        beside=RIE,
        goals=goals if loop == "asyncio" else [],
        note="The floor has one thread in all columns.",
    )


async def _throughput(threads: int, number: int, rounds: int) -> dict[str, float]:
    async with contenders(threads) as calls:
        return await in_turns({name: _at_once(call, number) for name, call in calls.items()}, rounds)


def _at_once(call: Call, number: int) -> Callable[[], Awaitable[float]]:
    async def measure() -> float:
        began_at = perf_counter()
        await asyncio.gather(*(call() for _ in range(number)))
        return (perf_counter() - began_at) / number * 1e6

    return measure


MAP, UNORDERED = "**`sup.map`**", "**`sup.map(..., ordered=False)`**"


async def _mapped() -> Table:
    """Measures one call for each item, without a task for each: as many at once as there are threads, and 1,000."""
    threads, number = sized(32, 2), sized(10_000, 100)
    bounds = {"as many as threads": None, "1,000 at once": 1_000}
    async with contenders(threads) as calls, Supervisor("maps", logger=SILENT, max_threads=threads) as sup:
        each = {name: _at_once(calls[name], number) for name in (FLOOR, RIE, VIEW)}
        for column, limit in bounds.items():
            each[MAP + column] = _taken(sup, number, limit, ordered=True)
            each[UNORDERED + column] = _taken(sup, number, limit, ordered=False)
        took = await in_turns(each, sized(5, 1))
    figures: dict[str, list[float | None]] = {name: [took[name]] * len(bounds) for name in (FLOOR, RIE, VIEW)}
    figures |= {name: [took[name + column] for column in bounds] for name in (MAP, UNORDERED)}
    return Table(
        f"A call for each of {number:,} items, {threads} threads; for each",
        "µs",
        [*bounds],
        figures,
        beside=VIEW,
        goals=[Goal(name, column, 1.3, VIEW) for name in (MAP, UNORDERED) for column in bounds],
        note=f"The columns say how many results of `map` may be under way, or wait to be taken; the others have all "
        f"{number:,} at once.",
    )


def _taken(sup: Supervisor, number: int, limit: int | None, *, ordered: bool) -> Callable[[], Awaitable[float]]:
    def same(item: int) -> int:
        return item

    async def measure() -> float:
        began_at, seen = perf_counter(), 0
        async for _ in sup.map(same, range(number), limit=limit, ordered=ordered):
            seen += 1
        assert seen == number
        return (perf_counter() - began_at) / number * 1e6

    return measure


def linearity() -> list[Table]:
    """Ever more queued calls: each must not become dearer."""
    return [asyncio.run(_linearity())]


async def _linearity() -> Table:
    numbers = sized((1_000, 10_000, 100_000), (50, 100))
    async with contenders(sized(32, 2)) as calls:
        chosen = {name: calls[name] for name in (FLOOR, RIE, VIEW, RUN)}
        took = []
        for number in numbers:
            each = {name: _at_once(call, number) for name, call in chosen.items()}
            each |= {f"{name}{UNCOLLECTED}": _uncollected(each[name]) for name in (RIE, VIEW, RUN)}
            took.append(await in_turns(each, sized(2, 1)))
    columns = [f"{number:,}" for number in numbers]
    return Table(
        "So many calls queued at once, 32 threads; for each",
        "µs",
        columns,
        {name: [one[name] for one in took] for name in took[0]},
        beside=RIE,
        goals=[Goal(name, columns[-1], GROWTH, beside_column=columns[0]) for name in (VIEW, RUN)],
        note="Each full garbage collection looks through all that lives: among few calls there is none.",
    )


UNCOLLECTED = ", without garbage collection"


def _uncollected(measure: Callable[[], Awaitable[float]]) -> Callable[[], Awaitable[float]]:
    async def measure_uncollected() -> float:
        gc.disable()
        try:
            return await measure()
        finally:
            gc.enable()

    return measure_uncollected


# ------------------------------------------------------------------------------------------------ logs


def logging() -> list[Table]:
    """What a call pays for its three debug events: nobody wants them, or somebody does."""
    with pinned():
        looks = asyncio.run(_looks())
        took = asyncio.run(_logging())
    column = "each call"
    return [
        Table(
            "What nobody wants to hear of",
            "ns",
            [column],
            {name: [value] for name, value in looks.items()},
            goals=[Goal(LOOKS, column, 50)],
            pinned=True,
        ),
        Table(
            "One call at a time, with its logs",
            "µs",
            [column],
            {name: [value] for name, value in took.items()},
            beside="off",
            goals=[Goal("on", column, 2.5, "off"), Goal(HEARD, column, 1.5, "off")],
            note="On: three debug events, rendered as JSON and thrown away. A listener is one of `transitions()`.",
            pinned=True,
        ),
    ]


async def _looks() -> dict[str, float]:
    """Returns the nanoseconds that a call takes to learn that nobody wants to hear of it."""
    async with Supervisor("ours", logger=SILENT) as sup:
        await sup.run(noop)
        runtime = sup._binding.bind()
        future = runtime.calls.call(runtime.root, noop, ())
        looks = {LOOKS: _look, "": _look_for_nobody}
        times = sized(200_000, 1_000)
        took = {
            name: median(timeit.repeat(partial(look, runtime, future.run), number=times, repeat=15)) / times * 1e9
            for name, look in looks.items()
        }
        await future
        return {LOOKS: took[LOOKS] - took[""]}


HEARD = "off, one listener"
LOOKS = "off: whether a log, or a listener, wants a call's three events"


def _look(runtime: Runtime, run: Run) -> None:
    """What is executed from the submit of a call to its end."""
    if runtime.publisher.watching:
        run.watched = True
    if run.watched:
        pass
    if run.watched:
        pass
    if run.watched or runtime.publisher.watching:
        pass


def _look_for_nobody(runtime: Runtime, run: Run) -> None: ...


class Nowhere:
    """Takes what is logged, and drops it."""

    def msg(self, _: str) -> None: ...

    debug = info = warning = error = critical = msg


async def _logging() -> dict[str, float]:
    json: Any = structlog.wrap_logger(
        Nowhere(), processors=[structlog.processors.add_log_level, structlog.processors.JSONRenderer()]
    )
    quiet, listened, read = (Supervisor(name, logger=SILENT) for name in ("quiet", "listened", "read"))
    logged, both = Supervisor("logged", logger=json), Supervisor("both", logger=json)
    with peers(1) as calls:
        async with quiet, listened, read, logged, both:
            listeners = [sup.transitions(buffer=10) for sup in (listened, both)]
            reading = asyncio.create_task(_read(read))
            measures = {
                FLOOR: calls[FLOOR],
                "off": lambda: quiet.run(noop),
                HEARD: lambda: listened.run(noop),
                f"{HEARD}, which a task reads": lambda: read.run(noop),
                "on": lambda: logged.run(noop),
                "on, one listener": lambda: both.run(noop),
            }
            took = await in_turns({name: _in_sequence(call) for name, call in measures.items()}, sized(9, 1))
            reading.cancel()
            del listeners
    return took


async def _read(sup: Supervisor) -> None:
    async for _ in sup.transitions():
        pass
