"""`Supervisor(dump_signal=...)`: at a signal, what there is to see of a process goes to its standard error, as text."""

from __future__ import annotations

import logging
import os
import platform
import sys
import threading
import time
from contextlib import suppress
from functools import partial
from signal import Signals
from traceback import format_exc
from typing import TYPE_CHECKING, NamedTuple
from weakref import ref

from .. import __version__
from .._core.survey_text import text_of_survey
from .._core.values import printable
from .._kinds.threads.stack import stack_of
from .._loop import aside
from .._loop.clock import monotonic
from .._loop.dump_signal import DumpSignal, write_to_stderr
from .._observe.notices import ShutdownEnded
from .._run.frames import text_of_frames
from .integration import Integration

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from .._core.outcome import WorkerState
    from .._core.survey import Survey
    from .._observe.notices import Notice
    from .binding import Binding

__all__ = ["begin_dump"]

SHOWN: tuple[WorkerState, ...] = ("starting", "running", "stopping", "backing_off")
"""Who is shown by name; those that are queued are only counted."""

MOST_STACKS = 200
"""Different stacks of threads that are shown, and processes that are asked for theirs."""

INNERMOST = 50
"""Frames of a thread that is nobody's worker."""

LONGEST = 1 << 20
"""Characters of a dump."""

ASKING = 3.0
"""Seconds for which worker processes are asked where they stand."""


def begin_dump(binding: Binding, number: int) -> None:
    """Has the signal dump this supervisor, from now on until it has shut down. On its loop's thread."""
    if threading.current_thread() is not threading.main_thread():
        _log_missing(
            binding,
            number,
            "the event loop does not run in the main thread, and no other can handle signals; control=True works "
            "there, and so does `python -m supervisor dump PID` on Python 3.14 and later",
        )
        return
    dumps = _dumps.get(number)
    if dumps is None:
        dumps = Dumps(number)
        missing = dumps.begin()
        if missing is not None:
            _log_missing(binding, number, missing)
            return
        _dumps[number] = dumps
    dumps.add(binding)


def _log_missing(binding: Binding, number: int, why: str) -> None:
    reason = f"the signal {_name(number)} dumps nothing: {why}"
    Integration(binding).log(logging.WARNING, "supervisor.dump_signal_missing", reason=reason)


class Dumps:
    """All supervisors of this process that one signal dumps. On the main thread, where it does not say otherwise."""

    def __init__(self, number: int) -> None:
        self._number = number
        # Weakly: one that nobody holds any more must shut down by itself.
        self._bindings: list[ref[Binding]] = []
        self._signal = DumpSignal(number, self._dump, self._wake)

    def begin(self) -> str | None:
        """Installs the handler; returns why it cannot, or None."""
        return self._signal.begin()

    def add(self, binding: Binding) -> None:
        """Dumps this one, too."""
        mine = ref(binding)
        self._bindings.append(mine)
        binding.subscribers.subscribe(partial(self._receive, mine), watch=False)

    def _receive(self, mine: ref[Binding], notice: Notice) -> None:
        match notice:
            case ShutdownEnded(group=""):
                self._remove(mine)
            case _:
                pass

    def _remove(self, mine: ref[Binding]) -> None:
        if mine in self._bindings:
            self._bindings.remove(mine)
        gone = [other for other in self._bindings if (binding := other()) is None or binding.lost is not None]
        self._bindings = [other for other in self._bindings if other not in gone]
        if not self._bindings:
            _dumps.pop(self._number, None)
            self._signal.close()

    def _wake(self) -> None:
        """Any thread."""
        for binding in self._present():
            if binding.loop is not None:
                with suppress(RuntimeError):  # it is closed
                    aside.call_soon_threadsafe(binding.loop, _nothing)

    def _present(self) -> list[Binding]:
        return [binding for mine in tuple(self._bindings) if (binding := mine()) is not None]

    def _dump(self) -> None:
        """In a thread of ours: writes all that there is to see, part by part. Never raises."""
        try:
            for part in _bounded(_parts(self._number, [Integration(binding) for binding in self._present()])):
                if not write_to_stderr(part):
                    return
        except Exception:
            write_to_stderr(f"the dump has failed:\n{format_exc()}")


_dumps: dict[int, Dumps] = {}
"""Those that are in force, by their signals."""


def _forget() -> None:
    _dumps.clear()  # the handlers are put back by the module that has them


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _nothing() -> None:
    pass


def _name(number: int) -> str:
    try:
        return Signals(number).name
    except ValueError:  # a real-time signal
        return str(number)


# ---------------------------------------------------------------------------------------------- the text


def _bounded(parts: Iterator[str]) -> Iterator[str]:
    left = LONGEST
    for part in parts:
        yield part[:left]
        left -= len(part)
        if left <= 0:
            yield "\n... the rest is left out\n"
            return


def _parts(number: int, supervisors: list[Integration]) -> Iterator[str]:
    now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    yield (
        f"\n=== dump of process {os.getpid()} at {now}, by {_name(number)} "
        f"(stopladder {__version__}, Python {platform.python_version()}) ===\n"
    )
    surveys = [supervisor.survey(states=SHOWN) for supervisor in supervisors]
    for survey in surveys:
        yield text_of_survey(survey) + "\n"
    yield from _threads(_carried(supervisors, surveys))
    yield from _processes(supervisors, surveys)
    yield "=== end of the dump ===\n"


def _carried(supervisors: list[Integration], surveys: list[Survey]) -> dict[int, str]:
    """Returns what each thread carries that carries something."""
    carried = {
        row.ident: f"{row.role} {row.name}" for survey in surveys for row in survey.workers if row.ident is not None
    }
    for supervisor in supervisors:
        carried |= {ident: f"{name}, which was abandoned" for name, ident in supervisor.abandoned_threads()}
    main = threading.main_thread().ident
    if main is not None:
        carried[main] = f"the event loop of {', '.join(supervisor.name for supervisor in supervisors)}"
    return carried


class _Stack(NamedTuple):
    text: str
    threads: list[str]


def _threads(carried: dict[int, str]) -> Iterator[str]:
    """Gives the stacks of all threads, those that carry something first; equal ones once."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    stacks: dict[str, _Stack] = {}
    frames = sys._current_frames()
    own = threading.get_ident()
    for ident in sorted(frames, key=lambda ident: ident not in carried):
        if ident == own:
            continue
        worker = stack_of(ident) if ident in carried else None
        text = worker or _whole(frames[ident])
        title = f"thread {ident} ({printable(names.get(ident, 'not started by threading'))})"
        if ident in carried:
            title += f": {printable(carried[ident])}"
        stacks.setdefault(text, _Stack(text, [])).threads.append(title)
    del frames
    for number, stack in enumerate(stacks.values()):
        if number >= MOST_STACKS:
            yield f"and {len(stacks) - MOST_STACKS} more stacks\n"
            return
        yield "".join(f"{title}\n" for title in stack.threads) + stack.text + "\n"


def _whole(frame: FrameType | None) -> str:
    frames: list[tuple[FrameType, int]] = []
    while frame is not None and len(frames) < INNERMOST:
        frames.append((frame, frame.f_lineno))
        frame = frame.f_back
    return text_of_frames(reversed(frames))


def _processes(supervisors: list[Integration], surveys: list[Survey]) -> Iterator[str]:
    """Gives the stacks of worker processes that run something."""
    until = monotonic() + ASKING
    rows = [
        (supervisor, row)
        for supervisor, survey in zip(supervisors, surveys, strict=True)
        for row in survey.workers
        if row.pid is not None and row.node is None
    ]
    for number, (supervisor, row) in enumerate(rows):
        if number >= MOST_STACKS or monotonic() > until:
            yield f"and {len(rows) - number} more processes, which were not asked\n"
            return
        yield f"process {row.pid}: {printable(row.role)} {printable(row.name)}\n"
        yield (supervisor.stack(row.name) or "  it has ended meanwhile\n") + "\n"
