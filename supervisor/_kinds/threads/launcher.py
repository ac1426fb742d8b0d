"""Starts threads, each by the one before it, and knows those that are alive."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

from ..._loop import aside
from ..._loop.clock import monotonic
from ..._worker.locks import ScopedLock
from .sections import known, left

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Launcher", "Start"]


class Start:
    """A thread that somebody has asked for.

    Attributes:
        name: Its name, without that of the supervisor.
        target: What it calls.
        failed: Is called, in any thread, where it cannot be started.
        taken_by: The thread that calls the target; or, where none could be started, the one that should have been.
    """

    __slots__ = ("failed", "name", "taken_by", "target")

    def __init__(self, name: str, target: Callable[[], object], failed: Callable[[RuntimeError], object]) -> None:
        self.name = name
        self.target = target
        self.failed = failed
        self.taken_by: threading.Thread | None = None


class Launcher:
    """Starts threads, each by the one before it: the caller waits for the first alone.

    All of them are daemon threads of our own. Those of the standard pools are joined when the interpreter exits, and a
    stuck one would block that.

    What was asked for waits until a thread that has come up takes it. So whoever is struck in here, by a signal handler
    or by another library, loses nothing: where one thread is started too many, it finds its work taken, and ends.

    Args:
        supervisor: Its name, which the names of the threads begin with.

    Attributes:
        living: The threads that are alive.
    """

    def __init__(self, supervisor: str) -> None:
        self._supervisor = supervisor
        self.living: set[threading.Thread] = set()
        self._lock = ScopedLock()  # a signal handler may come in between
        self._waiting: deque[Start] = deque()
        self._busy = False  # a thread is about to be started, which goes on with those that wait

    def start(self, name: str, target: Callable[[], object], failed: Callable[[RuntimeError], object]) -> None:
        """Starts a thread now or soon, which calls `target`. `failed` is called where it cannot start. Any thread."""
        self.launch(Start(name, target, failed))

    def launch(self, start: Start) -> None:
        """Does the same. Called again where it was struck, it starts what has not been started. Any thread."""
        try:
            with self._lock:
                self._waiting.append(start)
                if self._busy:
                    return
                self._busy = True
            self._next()
        except BaseException:
            self._waiting.append(start)  # twice, perhaps: one of the two is taken then
            self._next()  # whoever was to do so may have been this thread
            raise

    def _next(self) -> None:
        """Starts a thread for the next that waits, if any does; that thread goes on with those after it."""
        while True:
            with self._lock:
                while self._waiting and self._waiting[0].taken_by is not None:
                    self._waiting.popleft()
                self._busy = bool(self._waiting)
                if not self._busy:
                    return
                start = self._waiting[0]
            try:
                name = f"{self._supervisor}/{start.name}"
                thread = threading.Thread(name=name, daemon=True, target=self._run, args=(start,))
                try:
                    aside.start(thread)
                except RuntimeError as error:  # the system has no more threads, or the interpreter is going down
                    if self._take(start, thread):
                        start.failed(error)
                else:
                    return
            except BaseException:
                self._busy = False
                raise

    def _take(self, start: Start, thread: threading.Thread) -> bool:
        """Returns whether it is for this thread to do, or to report."""
        with self._lock:
            if start.taken_by is None:
                start.taken_by = thread
            return start.taken_by is thread

    def _run(self, start: Start) -> None:
        """What each thread does.

        A target sees to what strikes it. What comes out, or strikes before it has begun, is an exception of another
        library: the target is called again, or what the thread was started for would be lost.
        """
        try:
            try:
                if self._begin(start):
                    start.target()
            except BaseException:
                if self._begin(start):
                    start.target()
        finally:
            left()
            self.living.discard(threading.current_thread())

    def _begin(self, start: Start) -> bool:
        thread = threading.current_thread()
        mine = self._take(start, thread)
        self._next()
        self.living.add(thread)
        known()
        return mine

    def join(self, seconds: float, but: set[int | None]) -> None:
        """Waits for threads that are past their last line, so that none is seen alive after a shutdown."""
        until = monotonic() + seconds
        for thread in self.living.copy():
            if thread.ident not in but:
                thread.join(max(0.0, until - monotonic()))
