"""What a stop costs: many workers at once, the last end, a stuck one, an injection; and a busy interpreter."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import math
import sys
import threading
from dataclasses import dataclass, replace
from statistics import median, quantiles
from time import monotonic, sleep
from typing import TYPE_CHECKING
from unittest.mock import patch

from supervisor import Ask, EscalationPolicy, Inject, StopEvent, StopInjected, Supervisor
from supervisor._runtime.calls import Calls
from supervisor._worker.stop_event import Chain

from .measure import SILENT, Gap, Goal, Table, in_turns, pinned, several, sized, spinning

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from supervisor import WorkerContext
    from supervisor._core.policy import Step
    from supervisor._run.run import Run

__all__ = ["busy", "ends", "waiters"]

WAITERS = sized((1, 10, 100, 1_000), (1, 10))
CPU_BOUND = 2

SETTLED = 0.3
"""Seconds after which a thread that has been entered is surely waiting."""

COLUMNS = [f"{number:,}" for number in WAITERS]

EVENT_OUT, EVENT_GAP = "floor: one `threading.Event` for all: last out", "floor: one `threading.Event` for all"
EVENTS_OUT, EVENTS_GAP = "an Event for each, set one after the other: last out", "an Event for each"
CHAIN_OUT, CHAIN_GAP = (
    "our chain of Events, without a supervisor: last out",
    "our chain of Events, without a supervisor",
)
OUT, KNOWN, GAP = "**`shutdown()`**: last worker out", "`shutdown()`: report there", "**`shutdown()`**"

Stop = dict[str, float]

# ------------------------------------------------------------------------------------------------ many at once


def waiters() -> list[Table]:
    """Workers that each wait for their stop Event, stopped together: on a calm machine, and on a busy one."""
    calm, hectic = asyncio.run(_waiters(0)), asyncio.run(_waiters(CPU_BOUND))
    most, beside = f"{WAITERS[-1]:,}", f", beside {CPU_BOUND} CPU-bound threads"
    return [
        _ends_of("", calm, [Goal(OUT, most, 0.75, EVENT_OUT)]),
        _gaps_of("", calm, [Goal(GAP, most, 20)]),
        _ends_of(beside, hectic, [Goal(OUT, most, 400)]),
        _gaps_of(beside, hectic, []),
    ]


def _ends_of(where: str, took: list[Stop], goals: list[Goal]) -> Table:
    rows = (EVENT_OUT, EVENTS_OUT, CHAIN_OUT, OUT, KNOWN)
    return Table(f"Stop of so many waiting workers{where}", "ms", COLUMNS, _rows(rows, took), EVENT_OUT, goals)


def _gaps_of(where: str, took: list[Stop], goals: list[Goal]) -> Table:
    rows = (EVENT_GAP, EVENTS_GAP, CHAIN_GAP, GAP)
    title = f"Longest gap of the loop in that stop{where}"
    return Table(title, "ms", COLUMNS, _rows(rows, took), EVENT_GAP, goals)


def _rows(names: tuple[str, ...], took: list[Stop]) -> dict[str, list[float | None]]:
    return {name: [one[name] for one in took] for name in names}


async def _waiters(cpu_bound: int) -> list[Stop]:
    took = []
    for number in WAITERS:
        stops: list[Stop] = []
        for turn in range(sized(6, 2)):
            stop: Stop = {}
            for one in (_stop_workers, _set_chain, _set_events, _set_one_event):
                gc.collect()
                stop |= await one(number, cpu_bound)
            if turn:  # the first one does not count
                stops.append(stop)
        took.append({name: median(stop[name] for stop in stops) for name in stops[0]})
    return took


async def _stop_workers(number: int, cpu_bound: int) -> Stop:
    left_at: list[float] = []

    def wait(ctx: WorkerContext) -> None:
        ctx.stop.wait()
        left_at.append(monotonic())

    sup = Supervisor("waiters", logger=SILENT)
    await asyncio.gather(*(sup.start(wait) for _ in range(number)))
    await asyncio.sleep(sized(SETTLED, 0.05))
    with spinning(cpu_bound):
        gap, began_at = Gap(), monotonic()
        await sup.shutdown()
        known = monotonic() - began_at
        longest = gap.end()
    assert len(left_at) == number
    return {OUT: (max(left_at) - began_at) * 1e3, KNOWN: known * 1e3, GAP: longest}


async def _set_one_event(number: int, cpu_bound: int) -> Stop:
    event = threading.Event()
    out, gap = await _set([event] * number, event.set, cpu_bound)
    return {EVENT_OUT: out, EVENT_GAP: gap}


async def _set_events(number: int, cpu_bound: int) -> Stop:
    events = [threading.Event() for _ in range(number)]

    def stop() -> None:
        for event in events:
            event.set()

    out, gap = await _set(events, stop, cpu_bound)
    return {EVENTS_OUT: out, EVENTS_GAP: gap}


async def _set_chain(number: int, cpu_bound: int) -> Stop:
    chain = Chain()
    events = [StopEvent(chain) for _ in range(number)]

    def stop() -> None:
        for event in events:
            event.set()
        chain.start()

    out, gap = await _set(events, stop, cpu_bound)
    return {CHAIN_OUT: out, CHAIN_GAP: gap}


async def _set(
    events: Sequence[threading.Event | StopEvent], stop: Callable[[], None], cpu_bound: int
) -> tuple[float, float]:
    """Stops threads that wait for Events, with nobody to know what becomes of them."""
    loop = asyncio.get_running_loop()
    left_at: list[float] = []
    all_out = asyncio.Event()

    def wait(event: threading.Event | StopEvent) -> None:
        event.wait()
        left_at.append(monotonic())
        if len(left_at) == len(events):
            loop.call_soon_threadsafe(all_out.set)

    threads = [threading.Thread(target=wait, args=(event,), daemon=True) for event in events]
    for thread in threads:
        thread.start()
    await asyncio.sleep(sized(SETTLED, 0.05))
    with spinning(cpu_bound):
        gap, began_at = Gap(), monotonic()
        stop()
        await all_out.wait()
        longest = gap.end()
    for thread in threads:
        thread.join()
    return (max(left_at) - began_at) * 1e3, longest


# ------------------------------------------------------------------------------------------------ single ones


def ends() -> list[Table]:
    """The last end of a shutdown, an injection, and a shutdown that has to give one worker up."""
    last, report = "shutdown: last line of the last worker to the report", "a shutdown"
    bare, by_ladder, by_stop = (
        "floor: bare `PyThreadState_SetAsyncExc`, `call_soon_threadsafe`",
        "the step Inject to the outcome",
        "`stop()` to the outcome, Ask(0), the stack and Inject",
    )
    bare_end = "floor: a thread's last line, `call_soon_threadsafe`"
    with pinned():
        ended = asyncio.run(in_turns({bare_end: several(_end_bare, 10), last: several(_last_end, 10)}, sized(5, 1)))
        ways = {bare: _inject_bare, by_ladder: _inject_by_ladder, by_stop: _stop_by_injection}
        struck = asyncio.run(_struck(ways))
    stuck_of, late = sized(1_000, 5), "later than the ladder's graces"
    stuck = f"shutdown with one stuck of {stuck_of:,} waiting workers"
    timer = "floor: `call_later` of the same time, in an idle loop"
    lateness = asyncio.run(in_turns({timer: _late_timer, stuck: lambda: _stuck(stuck_of)}, sized(5, 1)))
    return [
        Table(
            "The end of the last worker", "ms", [report], _column(ended), goals=[Goal(last, report, 0.5)], pinned=True
        ),
        Table(
            "An exception injected into a thread that spins in Python, until its end is known in the loop",
            "µs",
            list(STRETCHES),
            {
                name: [median(stretch(at) for at in struck[name]) * 1e6 for stretch in STRETCHES.values()]
                for name in ways
            },
            beside=bare,
            goals=[Goal(by_ladder, "in all", 2, bare)],
            pinned=True,
        ),
        Table(
            "A worker that has to be given up",
            "ms",
            [late],
            _column(lateness),
            goals=[Goal(stuck, late, 250)],
            note=f"The graces are {GRACE * 2:g} s in all. A shutdown promises to end within 250 ms of its timeout.",
        ),
    ]


def _column(took: dict[str, float]) -> dict[str, list[float | None]]:
    return {name: [value] for name, value in took.items()}


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


async def _end_bare() -> float:
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    last_line_at = 0.0

    def work() -> None:
        nonlocal last_line_at
        sleep(0.01)
        last_line_at = monotonic()
        loop.call_soon_threadsafe(over.set)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    await over.wait()
    thread.join()
    return (monotonic() - last_line_at) * 1e3


GRACE = sized(0.2, 0.05)


async def _stuck(number: int) -> float:
    release = threading.Lock()  # an injection ends waits for most others
    release.acquire()

    def wait(ctx: WorkerContext) -> None:
        ctx.stop.wait()

    sup = Supervisor("stuck", logger=SILENT, policy=EscalationPolicy(Ask(GRACE), Inject(GRACE)))
    await asyncio.gather(*(sup.start(wait) for _ in range(number - 1)))
    await sup.start(lambda _: release.acquire())
    began_at = monotonic()
    report = await sup.shutdown()
    took = monotonic() - began_at
    assert report.counts() == {"stopped": number - 1, "abandoned": 1}
    release.release()
    return (took - GRACE * 2) * 1e3


async def _late_timer() -> float:
    began_at = monotonic()
    await asyncio.sleep(GRACE * 2)
    return (monotonic() - began_at - GRACE * 2) * 1e3


# ------------------------------------------------------------------------------------------------ injection


def _spin() -> None:
    # The loop stands in a function of its own, below the `try` of who calls it: on 3.13 its back edge is a place at
    # which an injected exception passes by a handler in the same function.
    number = 0
    while True:
        number += 1


@dataclass(slots=True)
class Moments:
    """When what happened, in an injection."""

    begun: float = 0.0
    struck: float = 0.0
    heard: float = 0.0
    known: float = 0.0


STRETCHES: dict[str, Callable[[Moments], float]] = {
    "in all": lambda at: at.known - at.begun,
    "until it strikes": lambda at: at.struck - at.begun,
    "until the loop hears of the end": lambda at: at.heard - at.struck,
    "until the outcome is there": lambda at: at.known - at.heard,
}


async def _struck(ways: Mapping[str, Callable[[], Awaitable[Moments]]]) -> dict[str, list[Moments]]:
    """Injects in turns, some times each; the first turn, and the first time of each, do not count."""
    struck: dict[str, list[Moments]] = {name: [] for name in ways}
    for turn in range(sized(10, 2)):
        for name, way in ways.items():
            gc.collect()
            each = [await way() for _ in range(sized(20, 2))]
            if turn:
                struck[name] += each[1:]
    return struck


async def _inject_by_ladder() -> Moments:
    return (await _injected())[0]


async def _stop_by_injection() -> Moments:
    at, asked_at = await _injected()
    return replace(at, begun=asked_at)


async def _injected() -> tuple[Moments, float]:
    """Returns the moments since a worker was injected, and when its stop had begun."""
    loop = asyncio.get_running_loop()
    spinning_now = asyncio.Event()
    at = Moments()

    def work(_: WorkerContext) -> None:
        loop.call_soon_threadsafe(spinning_now.set)
        try:
            _spin()
        finally:
            at.struck = monotonic()

    async with Supervisor("spinning", logger=SILENT, policy=EscalationPolicy(Ask(0), Inject(5))) as sup:
        runtime = sup._binding.bind()
        threads, settle = runtime.kinds.threads, Calls.ended
        perform = threads.perform

        def performing(run: Run, step: Step) -> str | None:
            if isinstance(step, Inject):
                at.begun = monotonic()
            return perform(run, step)

        def settling(calls: Calls, run: Run) -> None:
            at.heard = monotonic()
            settle(calls, run)

        worker = await sup.start(work)
        await spinning_now.wait()
        with patch.object(threads, "perform", performing), patch.object(Calls, "ended", settling):
            asked_at = monotonic()
            outcome = await worker.stop()
            at.known = monotonic()
    assert outcome.ended == "injected"
    return at, asked_at


async def _inject_bare() -> Moments:
    loop = asyncio.get_running_loop()
    spinning_now, ended = asyncio.Event(), asyncio.Event()
    at = Moments()

    def work() -> None:
        try:
            loop.call_soon_threadsafe(spinning_now.set)
            _spin()
        except StopInjected:
            at.struck = monotonic()
            loop.call_soon_threadsafe(hear)

    def hear() -> None:
        at.heard = monotonic()
        ended.set()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    await spinning_now.wait()
    at.begun = monotonic()
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(StopInjected))
    await ended.wait()
    at.known = monotonic()
    thread.join()
    return at


# ------------------------------------------------------------------------------------------------ a busy interpreter


def busy() -> list[Table]:
    """The event loop among many CPU-bound threads: it waits for the interpreter, and so do the ladder's timers."""
    threads = sized(32, 4)
    usual = sys.getswitchinterval()
    intervals = (usual, usual / 10)
    columns = [f"switch interval {interval * 1e3:g} ms" for interval in intervals]
    took: list[dict[str, float]] = []
    for interval in intervals:
        sys.setswitchinterval(interval)
        try:
            took.append(asyncio.run(_busy(threads)))
        finally:
            sys.setswitchinterval(usual)
    return [
        Table(
            f"The loop beside {threads} CPU-bound threads",
            "ms",
            columns,
            {name: [one[name] for one in took] for name in took[0]},
            note="The first three are asyncio's own, without the library: when a timer comes is the interpreter's "
            "affair. A shorter switch interval costs throughput, and is the application's to choose.",
        )
    ]


TIMER = sized(0.5, 0.05)


async def _busy(threads: int) -> dict[str, float]:
    with spinning(threads):
        gap = Gap()
        await asyncio.sleep(sized(5.0, 0.2))
        gap.end()
        late = {"timer": lambda: _late(_timer), "step": lambda: _late(_step)}
        took = await in_turns(late, sized(3, 1))
    percentile = quantiles(gap.each, n=100, method="inclusive")[98] if len(gap.each) > 1 else math.nan
    return {
        "floor: longest gap of the loop": max(gap.each),
        "99th percentile of the gaps": percentile,
        f"`call_later({TIMER:g})`: late by": took["timer"],
        f"the step after Ask({TIMER:g}): late by": took["step"],
    }


async def _late(moment: Callable[[], Awaitable[float]]) -> float:
    return (await moment() - TIMER) * 1e3


async def _timer() -> float:
    began_at = monotonic()
    await asyncio.sleep(TIMER)
    return monotonic() - began_at


async def _step() -> float:
    """Returns the seconds from the beginning of a stop to its second step."""
    at: dict[str | None, float] = {}
    release = threading.Event()
    sup = Supervisor("late", logger=SILENT, policy=EscalationPolicy(Ask(TIMER), Inject(5)))
    async with sup:
        transitions = sup.transitions()
        worker = await sup.start(lambda _: release.wait())
        stopping = asyncio.create_task(worker.stop())
        async for transition in transitions:
            at.setdefault(transition.step, transition.at)
            if transition.step == "inject":
                break
        release.set()
        await stopping
    return at["inject"] - at["ask"]
