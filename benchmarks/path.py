"""The fast path, taken to pieces: what is executed for one call, part by part, and how long the parts take.

The counts are the same on every machine, for one version of Python; only the times are measured.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
from collections import Counter
from contextvars import copy_context
from pathlib import Path
from statistics import median
from time import thread_time
from typing import TYPE_CHECKING, Any

from supervisor import Supervisor
from supervisor._kinds.processes.child.serve import Child
from supervisor._kinds.processes.pickling import pickled_call
from supervisor._kinds.processes.wire import HEAD
from supervisor._kinds.threads import Threads
from supervisor._kinds.threads.gate import Gate
from supervisor._run.futures import CallFuture
from supervisor._run.run import Run

from .measure import SILENT, Table, in_turns, pinned, sized
from .peers import EXECUTOR, FLOOR, RIE, RUN, VIEW, noop, peers, view_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType

    from .peers import Call

__all__ = ["path"]

COUNTED = sized(50, 5)
PACKAGE = str(Path(sys.modules["supervisor"].__file__ or "").parent)


def path() -> list[Table]:
    """What a call executes, by path; the library's own part of it, function by function; and what its parts take."""
    with pinned():
        counts = _counts()
        took, parts = asyncio.run(_times()), asyncio.run(_parts())
    totals: dict[str, list[float | None]] = {
        name: [
            count.bytecodes("loop"),
            count.bytecodes("loop", ours=True),
            count.bytecodes("thread"),
            count.bytecodes("thread", ours=True),
            count.functions(),
            count.of_c(),
        ]
        for name, count in counts.items()
    }
    columns = ["loop's thread", "... ours", "worker's thread", "... of it ours", "Python calls", "C calls"]
    ours = counts[RUN].of_ours()
    return [
        Table("What is executed for one call", "bytecodes; calls", columns, totals),
        Table(
            "Our own bytecodes in one `sup.run`, function by function",
            "bytecodes",
            ["loop's thread", "worker's thread"],
            {f"`{name}`": [loop or None, thread or None] for name, (loop, thread) in ours.items()},
        ),
        Table(
            "One call at a time",
            "µs",
            ["each"],
            {name: [value] for name, value in took.items()},
            beside=FLOOR,
            pinned=True,
        ),
        Table(
            "What the parts take, each by itself",
            "ns",
            ["each"],
            {name: [value] for name, value in parts.items()},
            note="CPU time of one thread, with the calls that lead there.",
            pinned=True,
        ),
    ]


async def _paths(calls: dict[str, Call], sup: Supervisor) -> dict[str, Call]:
    loop = asyncio.get_running_loop()
    view, executor = view_of(sup), sup.executor()
    paths: dict[str, Call] = {
        FLOOR: calls[FLOOR],
        VIEW: lambda: loop.run_in_executor(view, noop),
        RUN: lambda: sup.run(noop),
        RIE: calls[RIE],
        EXECUTOR: lambda: loop.run_in_executor(executor, noop),
    }
    for call in paths.values():
        for _ in range(5):
            await call()
    return paths


# ------------------------------------------------------------------------------------------------ counts


class Count:
    """What is executed for some calls, in both threads, as the interpreter's tracer sees it."""

    def __init__(self) -> None:
        self._loop_thread = threading.get_ident()
        self._bytecodes: Counter[tuple[str, CodeType]] = Counter()
        self._functions = self._of_c = 0
        self._on = False

    async def take(self, call: Call) -> None:
        """Counts; its threads have been started under the same tracer."""
        gc.collect()
        gc.disable()
        self._on = True
        for _ in range(COUNTED):
            await call()
        self._on = False
        gc.enable()

    def trace(self, frame: FrameType, event: str, _: Any) -> Any:
        if event == "call":
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
            self._functions += self._on
        elif event == "opcode" and self._on:
            where = "loop" if threading.get_ident() == self._loop_thread else "thread"
            self._bytecodes[where, frame.f_code] += 1
        return self.trace

    def profile(self, _: FrameType, event: str, __: Any) -> None:
        if self._on and event == "c_call":
            self._of_c += 1

    def bytecodes(self, where: str, *, ours: bool = False) -> float:
        return _each(
            sum(
                number
                for (there, code), number in self._bytecodes.items()
                if there == where and (not ours or _is_ours(code)) and code.co_filename != __file__
            )
        )

    def functions(self) -> float:
        return _each(self._functions)

    def of_c(self) -> float:
        return _each(self._of_c)

    def of_ours(self) -> dict[str, tuple[float, float]]:
        """Returns the bytecodes of each function of the library in the two threads, the longest first."""
        both: dict[str, list[float]] = {}
        for (where, code), number in self._bytecodes.items():
            if _is_ours(code):
                name = f"{Path(code.co_filename).relative_to(PACKAGE)}: {code.co_qualname}"
                both.setdefault(name, [0.0, 0.0])[where == "thread"] += number
        each = {name: (_each(loop), _each(thread)) for name, (loop, thread) in both.items()}
        executed = {name: both for name, both in each.items() if any(both)}
        return dict(sorted(executed.items(), key=lambda item: -sum(item[1])))


def _is_ours(code: CodeType) -> bool:
    return code.co_filename.startswith(PACKAGE)


def _each(number: float) -> float:
    return float(round(number / COUNTED))


def _counts() -> dict[str, Count]:
    """Counts each path; a tracer is for new threads and frames only, so each path has an event loop under its own."""
    counts = {name: Count() for name in (FLOOR, VIEW, RUN, RIE, EXECUTOR)}
    for name, count in counts.items():
        threading.settrace(count.trace)
        threading.setprofile(count.profile)
        sys.settrace(count.trace)
        sys.setprofile(count.profile)
        try:
            asyncio.run(_counted(count, name))
        finally:
            sys.setprofile(None)
            sys.settrace(None)
            threading.settrace(None)
            threading.setprofile(None)
    return counts


async def _counted(count: Count, name: str) -> None:
    with peers(1) as calls:
        async with Supervisor("counted", logger=SILENT, max_threads=1) as sup:
            await count.take((await _paths(calls, sup))[name])


# ------------------------------------------------------------------------------------------------ times


async def _times() -> dict[str, float]:
    with peers(1) as calls:
        async with Supervisor("timed", logger=SILENT, max_threads=1) as sup:
            paths = await _paths(calls, sup)
            return await in_turns({name: _in_sequence(call) for name, call in paths.items()}, sized(9, 1))


def _in_sequence(call: Call) -> Callable[[], Any]:
    number = sized(1_000, 20)

    async def measure() -> float:
        began_at = asyncio.get_running_loop().time()
        for _ in range(number):
            await call()
        return (asyncio.get_running_loop().time() - began_at) / number * 1e6

    return measure


async def _parts() -> dict[str, float]:
    loop = asyncio.get_running_loop()
    number = sized(10_000, 50)
    async with Supervisor("parts", logger=SILENT) as sup:
        view_of(sup)
        runtime = sup._binding.bind()
        inbox = runtime._inbox
        inbox._armed = True  # so that nothing is rung

        def made() -> Run:
            future = CallFuture(loop=loop)
            future.run = recorded(future)
            return future.run

        def recorded(future: CallFuture) -> Run:
            threads, context = runtime.kinds.threads, copy_context()
            return Run(runtime.calls, threads, runtime.root, 0, noop, (), context, 0.0, future, None, None)

        def given() -> Run:
            run = made()
            run.handle = run
            return run

        threads = runtime.kinds.threads
        assert isinstance(threads, Threads)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        child = Child(nowhere, nowhere, nowhere)
        packed = pickled_call(1, "noop-1", 1, None, noop, ())[0][HEAD:]
        parts: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
            "make the future": (lambda: None, lambda _: CallFuture(loop=loop)),
            "make the record": (
                lambda: CallFuture(loop=loop),
                recorded,
            ),
            "make a gate": (lambda: None, lambda _: Gate()),
            "run an empty function behind its gate": (Gate, lambda gate: gate.run(noop, ())),
            "carry a call out, all of it, in the worker's thread": (made, threads._carry_out),
            "take its end in, in the loop's thread": (given, runtime._arrived),
            "of a call in a process: pack it": (lambda: None, lambda _: pickled_call(1, "noop-1", 1, None, noop, ())),
            "... carry it out there, and send what came of it nowhere": (
                lambda: packed,
                lambda pickle: child._carry_out(pickle, ()),
            ),
        }
        took = {name: median(_timed(*part, number) for _ in range(sized(9, 1))) for name, part in parts.items()}
        os.close(nowhere)
        inbox._items.clear()
        inbox._armed = False
        await asyncio.sleep(0)
        return took


def _timed(prepare: Callable[[], Any], do: Callable[[Any], Any], number: int) -> float:
    """Returns the nanoseconds of CPU time that `do` takes for each."""
    given = [prepare() for _ in range(number)]
    gc.collect()
    gc.disable()
    began_at = thread_time()
    for each in given:
        do(each)
    took = thread_time() - began_at
    gc.enable()
    return took / number * 1e9
