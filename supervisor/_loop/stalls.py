"""Watches from a thread of its own whether an event loop comes to its turns.

The thread does not wake a loop that waits: asyncio's own loops show by the frames of their thread that they do. Others
are asked, by a callback that they call in their next turn: a question at a time, a few times while `after` passes.

Time in which this thread itself did not run does not count: the machine was suspended, or the process was stopped,
and the loop is not to blame. But where it waited for the interpreter (GIL) meanwhile, as C code had it, it does.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import selectors
import sys
import time
from _thread import allocate_lock, get_ident
from abc import ABC, abstractmethod
from asyncio import base_events, events, runners
from math import inf
from threading import Thread
from typing import TYPE_CHECKING, TypeAlias
from weakref import WeakKeyDictionary, ref

from . import aside
from .clock import monotonic

if sys.platform == "linux":
    import resource

if TYPE_CHECKING:
    from types import CodeType, FrameType
    from typing import Any

__all__ = ["Frames", "Watched", "watch"]

Frames: TypeAlias = "tuple[tuple[CodeType, dict[str, Any], int], ...]"
"""Where a thread stands, the outermost frame first: of each frame its code, its globals, and its line."""

PARTS = 4
"""How many times a loop is looked at while the seconds pass after which it is blocked."""

OFTEN, SELDOM = 0.02, 1.0
"""Seconds between two looks: at least, and at most."""

LATE = 0.1
"""Seconds that this thread may be late without a reason."""

SHORTEST = 0.1
"""Seconds of which a loop that has not answered is not yet said to be blocked."""

INNERMOST = 30
"""Frames of a stack: the innermost say where the loop is blocked."""

JOIN = 0.1
"""Seconds at most that the interpreter's exit waits for this thread."""

_WAITING = {
    selector.select.__code__
    for name in ("SelectSelector", "PollSelector", "EpollSelector", "DevpollSelector", "KqueueSelector")
    if (selector := getattr(selectors, name, None)) is not None
}
_TURN: CodeType = base_events.BaseEventLoop._run_once.__code__  # type: ignore[attr-defined]  # typeshed leaves it out
_OUTSIDE: set[CodeType] = {_TURN, events.Handle._run.__code__, runners.Runner.run.__code__}
"""What calls the callbacks of a loop, or the loop itself."""

_DEBUGGERS = ("bdb", "pdb", "_pydevd", "pydevd", "debugpy")
_LOOKED_THROUGH = 15
"""Innermost frames among which those of a debugger are found that has stopped the thread."""


class Watched(ABC):
    """Who wants to know that its loop is blocked. The methods are called in the thread that watches; none may block.

    Args:
        after: Seconds, above 0, after which the loop is blocked.

    Attributes:
        due: After how many seconds it is told next.
        over: It does not want to know any more.
    """

    def __init__(self, after: float) -> None:
        self.after = after
        self.due = after
        self.over = False
        self._watch: Watch | None = None

    @abstractmethod
    def stalled(self, seconds: float, frames: Frames, *, first: bool, held: bool) -> None:
        """The loop has not come to a turn for so long, and still has not; or, where that was `held`, only now can.

        Args:
            seconds: For how long, at least.
            frames: Where its thread stands; none where that is in no Python code.
            first: It is the first time that this stall is told.
            held: Nobody could look before, as C code held the interpreter.
        """

    @abstractmethod
    def recovered(self, seconds: float) -> None:
        """A loop that was blocked, for so long, comes to its turns again."""

    @property
    def is_stalled(self) -> bool:
        """Whether it has been told that the loop is blocked, and not yet that it no longer is."""
        return self.due > self.after

    def seconds(self) -> float:
        """Returns for how long the loop has been blocked, or was where it has just come to a turn. Any thread."""
        return 0.0 if self._watch is None else self._watch.seconds()

    def blocked_for(self) -> float | None:
        """Returns for how long the loop has not come to a turn; None where it does. Any thread."""
        return None if self._watch is None or self.over else self._watch.blocked_for()

    @property
    def thread(self) -> Thread | None:
        """The thread that watches; None before it does."""
        return None if self._watch is None else self._watch.thread

    def leave(self) -> None:
        """Ends it. On the loop's thread."""
        self.over = True
        if self._watch is not None:
            self._watch.left()


def watch(loop: asyncio.AbstractEventLoop, watched: Watched) -> None:
    """Has a loop watched, by one thread however many want that, until the last has left or is gone. On its thread.

    Raises:
        RuntimeError: The system has no more threads.
    """
    present = _watches.get(loop)
    if present is None or not present.add(watched):
        present = Watch(loop)
        present.add(watched)
        present.start()
        _watches[loop] = present  # last: one that could not be started watches nothing


class Watch:
    """Watches one loop, which it does not hold, nor those who want to know."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = ref(loop)
        self._ident = get_ident()
        self._watched: tuple[ref[Watched], ...] = ()
        self._wake = allocate_lock()
        self._wake.acquire()
        self._over = False
        self._asked = False  # and the loop has not answered
        self._running = True
        self._answered_at = self._looked_at = monotonic()
        self._blocked = 0.0  # seconds until the last look
        self._period = SELDOM
        self.thread = Thread(target=self._run, name="supervisor/stalls", daemon=True)

    def start(self) -> None:
        aside.start(self.thread)

    def add(self, watched: Watched) -> bool:
        """Takes in somebody; returns False where the thread is about to end. First written, then looked."""
        watched._watch = self
        self._watched = (*(ref(other) for other in self._living()), ref(watched))
        if self._over:
            self._watched = ()
            return False
        self._hurry()
        return True

    def left(self) -> None:
        """Somebody has left: the thread ends with the last one."""
        self._hurry()

    def end(self) -> None:
        """The interpreter ends."""
        self._watched = ()
        self._hurry()
        self.thread.join(JOIN)

    def _hurry(self) -> None:
        try:
            self._wake.release()
        except RuntimeError:
            pass  # somebody has done so

    def _living(self) -> list[Watched]:
        return [watched for each in self._watched if (watched := each()) is not None and not watched.over]

    # ------------------------------------------------------------------------------------ what any thread asks

    def seconds(self) -> float:
        """Returns for how long the loop has been blocked, or was where it has answered since the last look."""
        until = monotonic() if self._asked else self._answered_at
        return self._blocked + min(max(0.0, until - self._looked_at), 2 * self._period)

    def blocked_for(self) -> float | None:
        """Returns for how long it has not come to a turn; None where it has."""
        seconds = self.seconds()
        return seconds if self._asked and self._running and seconds >= SHORTEST else None

    def _answer(self) -> None:
        """The loop has come to a turn. On its thread."""
        self._ident = get_ident()
        self._answered_at = monotonic()
        self._asked = False
        if any(watched.is_stalled for watched in self._living()):
            self._hurry()

    # ------------------------------------------------------------------------------------ the thread

    def _run(self) -> None:
        pause, passed, held = 0.0, 0.0, False
        began, evidence = monotonic(), _waits()
        while True:
            watched, loop = self._living(), self._loop()
            if not watched or loop is None or loop.is_closed():
                self._over = True
                if loop is None or loop.is_closed() or not self._living():
                    return
                self._over = False  # somebody has come in between
                continue
            pause = self._look(loop, watched, passed, held=held)
            del watched, loop  # nobody is held while this waits
            self._wake.acquire(timeout=pause)
            ended = monotonic()
            passed = ended - began  # with the look itself, as C code may have the interpreter in the midst of it
            late = passed - pause
            held = late > LATE and _held(late, evidence)
            began, evidence = ended, _waits()
            if late > LATE and not held:
                passed = pause + LATE  # it was not there either

    def _look(self, loop: asyncio.AbstractEventLoop, watched: list[Watched], passed: float, *, held: bool) -> float:
        """Looks at the loop, and says what is to be said; returns the seconds until the next look."""
        self._period = min(SELDOM, max(OFTEN, min(each.after for each in watched) / PARTS))
        running = self._running = loop.is_running()
        frame = self._frame(loop) if running else None
        if not self._asked:
            self._recover(watched)
            self._blocked = max(0.0, passed - self._period) if held else 0.0
        elif running and not _is_debugged(frame):
            self._blocked += passed
        elif not running:
            self._recover(watched)
            self._blocked = 0.0
        self._looked_at = monotonic()
        self._say(watched, frame, held=held)
        if running and not self._asked and (not _is_waiting(frame) or any(each.is_stalled for each in watched)):
            self._ask(loop)
        until_due = min((each.due for each in watched), default=inf) - self._blocked
        return min(self._period, max(until_due, 0.001)) if self._asked else self._period

    def _ask(self, loop: asyncio.AbstractEventLoop) -> None:
        self._asked = True
        try:
            aside.call_soon_threadsafe(loop, self._answer)
        except RuntimeError:
            self._asked = False  # it has been closed

    def _say(self, watched: list[Watched], frame: FrameType | None, *, held: bool) -> None:
        frames: Frames | None = None
        for each in watched:
            if self._blocked < each.due:
                continue
            if frames is None:
                frames = () if frame is None or _is_waiting(frame) else _frames(frame)
            first = not each.is_stalled
            while each.due <= self._blocked:
                each.due *= 2
            each.stalled(self._blocked, frames, first=first, held=held)

    def _recover(self, watched: list[Watched]) -> None:
        seconds = self.seconds()
        for each in watched:
            if each.is_stalled:
                each.recovered(seconds)
                each.due = each.after

    def _frame(self, loop: asyncio.AbstractEventLoop) -> FrameType | None:
        """Returns the innermost frame of the thread that runs the loop."""
        return sys._current_frames().get(getattr(loop, "_thread_id", None) or self._ident)


def _is_waiting(frame: FrameType | None) -> bool:
    """Whether a thread is in the turn of asyncio's own loop, and waits for something to happen."""
    return frame is not None and frame.f_code in _WAITING and frame.f_back is not None and frame.f_back.f_code is _TURN


def _is_debugged(frame: FrameType | None) -> bool:
    """Whether a debugger has stopped a thread: somebody looks at it already."""
    for _ in range(_LOOKED_THROUGH):
        if frame is None or frame.f_code is _TURN:
            return False
        if str(frame.f_globals.get("__name__")).startswith(_DEBUGGERS):
            return True
        frame = frame.f_back
    return False


def _frames(frame: FrameType | None) -> Frames:
    found: list[tuple[CodeType, dict[str, Any], int]] = []
    while frame is not None and frame.f_code not in _OUTSIDE and len(found) < INNERMOST:
        found.append((frame.f_code, frame.f_globals, frame.f_lineno))
        frame = frame.f_back
    return tuple(reversed(found))


# ------------------------------------------------------------------------------------ who had the interpreter


def _waits() -> float:
    """Returns what grows while this thread waits for the interpreter, and not while it is stopped.

    Who waits for the interpreter looks again after each switch interval, and so gives the processor back that often.
    """
    if sys.platform == "linux":
        return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
    return time.process_time()


FEW = 4
"""Times that a thread gives the processor back where it is stopped once, and does nothing else."""


def _held(late: float, before: float) -> bool:
    """Whether it was for want of the interpreter that this thread is late by so many seconds."""
    since = _waits() - before
    if sys.platform == "linux":
        return (since - FEW) * max(0.005, sys.getswitchinterval()) >= late / 10
    return since >= late / 4  # somebody has computed meanwhile


# ------------------------------------------------------------------------------------------------ all of them

_watches: WeakKeyDictionary[asyncio.AbstractEventLoop, Watch] = WeakKeyDictionary()


@atexit.register
def _end_all() -> None:
    """A thread that writes while the interpreter ends could have it abort."""
    for each in list(_watches.values()):
        each.end()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_watches.clear)
