"""Starts threads, and knows those that are alive."""

from __future__ import annotations

import sys
import threading
from collections import deque
from typing import TYPE_CHECKING

from ..._loop import aside
from ..._loop.clock import monotonic
from .sections import known, left

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Launcher", "Start"]


class _UpUnawaited(threading.Event):
    """Says that a thread is up, for which `Thread.start` does not wait."""

    def wait(self, timeout: float | None = None) -> bool:  # noqa: ARG002
        return True

    def outwait(self, seconds: float) -> None:
        """Waits for it all the same, for so long at most."""
        super().wait(seconds)


class _Thread(threading.Thread):
    """A thread for whose coming up one that has just come up itself does not wait: each wait costs two switches.

    It does on Python 3.11: there, one that is not up yet bears the number of its starter, and would be struck in its
    place. Who asks for a thread waits, unless it hears of it anyway: else what it is for may be over before it is up,
    where the machine is busy.
    """

    def __init__(self, name: str, target: Callable[..., object], start: Start, *, awaited: bool) -> None:
        super().__init__(name=name, daemon=True, target=target, args=(start,))
        self._unawaited: _UpUnawaited | None = None
        if not awaited and sys.version_info >= (3, 12):
            self._started = self._unawaited = _UpUnawaited()

    def come_up(self, seconds: float) -> bool:
        """Waits until it is up, for so long at most, if that has not been waited for; returns whether it lives."""
        if self._unawaited is not None:
            self._unawaited.outwait(seconds)
        return self.is_alive()


class Start:
    """A thread that somebody has asked for.

    Attributes:
        name: Its name, without that of the supervisor.
        target: What it calls.
        failed: Is called, in any thread, where it cannot be started.
        goes_on: The thread that takes it starts the next that waits.
    """

    __slots__ = ("_takers", "failed", "goes_on", "name", "target")

    def __init__(self, name: str, target: Callable[[], object], failed: Callable[[RuntimeError], object]) -> None:
        self.name = name
        self.target = target
        self.failed = failed
        self.goes_on = True
        self._takers: list[threading.Thread] = []

    @property
    def taken(self) -> bool:
        """Whether a thread has taken it: it calls the target, or could not be started."""
        return bool(self._takers)

    def take(self, thread: threading.Thread) -> bool:
        """Returns whether it is for this thread to do, or to report: for the first that has asked. Any thread."""
        self._takers.append(thread)
        return self._takers[0] is thread


class Launcher:
    """Starts threads: those of a pool each by the one before it, where the caller waits for the first alone.

    Those of workers are started by the caller, who waits for none: it hears of each once that is up. So they come up
    while it goes on, and not one after the other.

    All of them are daemon threads of our own. Those of the standard pools are joined when the interpreter exits, and a
    stuck one would block that.

    What was asked for waits until a thread that has come up takes it. So whoever is struck in here, by a signal handler
    or by another library, loses nothing: where one thread is started too many, it finds its work taken, and ends. For
    the same reason no lock is needed, at which the caller would wait for threads that wait for the interpreter.

    Args:
        supervisor: Its name, which the names of the threads begin with.

    Attributes:
        living: The threads that are alive.
    """

    def __init__(self, supervisor: str) -> None:
        self._supervisor = supervisor
        self.living: set[threading.Thread] = set()
        self._coming: set[_Thread] = set()  # those that have been started, and are not among the living yet
        self._waiting: deque[Start] = deque()
        self._busy = False  # a thread is about to be started, which goes on with those that wait

    def start(self, name: str, target: Callable[[], object], failed: Callable[[RuntimeError], object]) -> None:
        """Starts a thread now or soon, which calls `target`. `failed` is called where it cannot start. Any thread."""
        self.launch(Start(name, target, failed))

    def start_unawaited(
        self, name: str, target: Callable[[], object], failed: Callable[[RuntimeError], object]
    ) -> None:
        """Does the same for who hears of it once the target is called: no thread waits for this one. Any thread.

        It is started at once, also where others wait: so as many can come up at the same time as are asked for.
        """
        start = Start(name, target, failed)
        start.goes_on = False  # or each would start one more for the first that waits, until that is up
        try:
            self._start(start, awaited=False)
        except BaseException:
            start.goes_on = True
            self._waiting.append(start)  # where its thread has been started, that one has taken it, or this is too many
            self._next()
            raise

    def launch(self, start: Start) -> None:
        """Does the same as `start`. Called again where it was struck, it starts what was not started. Any thread."""
        try:
            self._waiting.append(start)
            if not self._busy:
                self._next()
        except BaseException:
            self._waiting.append(start)  # twice, perhaps: one of the two is taken then
            self._next()  # whoever was to do so may have been this thread
            raise

    def _next(self, *, awaited: bool = True) -> None:
        """Starts a thread for the next that waits, if any does; that thread goes on with those after it."""
        try:
            while (start := self._first()) is not None:
                if self._start(start, awaited=awaited):
                    return
        except BaseException:
            self._busy = False
            raise

    def _start(self, start: Start, *, awaited: bool) -> bool:
        """Starts a thread for it; returns False where that is not possible, which is reported."""
        thread = _Thread(f"{self._supervisor}/{start.name}", self._run, start, awaited=awaited)
        try:
            self._coming.add(thread)
            aside.start(thread)
        except RuntimeError as error:  # the system has no more threads, or the interpreter is going down
            self._coming.discard(thread)
            if start.take(thread):
                start.failed(error)
            return False
        except BaseException:
            self._coming.discard(thread)  # it may not have been started, and nobody is to wait for that
            raise
        return True

    def _first(self) -> Start | None:
        """Returns the first that waits and that nobody has taken; where there is none, nobody is busy from then on."""
        while True:
            self._busy = True
            while (start := self._head()) is not None:
                if not start.taken:
                    return start
                self._drop(start)
            self._busy = False
            # First written, then looked: who asks for a thread writes and looks as well, so one of the two goes on.
            if not self._waiting:
                return None

    def _head(self) -> Start | None:
        try:
            return self._waiting[0]
        except IndexError:
            return None

    def _drop(self, start: Start) -> None:
        try:
            self._waiting.remove(start)
        except ValueError:
            pass  # another thread was faster

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
        mine = start.take(thread)
        if mine and start.goes_on:  # where it is not mine, whoever has taken it goes on
            self._next(awaited=False)
        self.living.add(thread)
        self._coming.discard(thread)
        known()
        return mine

    def join(self, seconds: float, but: set[int | None]) -> None:
        """Waits for threads that are past their last line, so that none is seen alive after a shutdown."""
        until = monotonic() + seconds
        for coming in self._coming.copy():
            if coming.come_up(max(0.0, until - monotonic())) and coming.ident not in but:
                coming.join(max(0.0, until - monotonic()))
        for thread in self.living.copy():
            if thread.ident not in but:
                thread.join(max(0.0, until - monotonic()))
