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

__all__ = ["Launcher"]


class Launcher:
    """Starts threads, each by the one before it: the caller waits for the first alone.

    All of them are daemon threads of our own. Those of the standard pools are joined when the interpreter exits, and a
    stuck one would block that.

    Args:
        supervisor: Its name, which the names of the threads begin with.

    Attributes:
        living: The threads that are alive.
    """

    def __init__(self, supervisor: str) -> None:
        self._supervisor = supervisor
        self.living: set[threading.Thread] = set()
        self._lock = ScopedLock()  # a signal handler may come in between
        self._waiting: deque[tuple[threading.Thread, Callable[[RuntimeError], object]]] = deque()
        self._busy = False

    def start(self, name: str, target: Callable[[], object], failed: Callable[[RuntimeError], object]) -> None:
        """Starts a thread now or soon, which calls `target`. `failed` is called where it cannot start. Any thread."""
        thread = threading.Thread(name=f"{self._supervisor}/{name}", daemon=True, target=self._run, args=(target,))
        with self._lock:
            self._waiting.append((thread, failed))
            if self._busy:
                return
            self._busy = True
        self._next()

    def _next(self) -> None:
        """Starts the next thread that waits for it."""
        while True:
            with self._lock:
                if not self._waiting:
                    self._busy = False
                    return
                thread, failed = self._waiting.popleft()
            try:
                aside.start(thread)
            except RuntimeError as error:  # the system has no more threads, or the interpreter is going down
                failed(error)
            except BaseException:  # a signal handler raised it: the thread may have been started, or not
                with self._lock:
                    self._busy = False
                raise
            else:
                return

    def _run(self, target: Callable[[], object]) -> None:
        """What each thread does.

        A target sees to what strikes it. What comes out, or strikes before it has begun, is an exception of another
        library: the target is called again, or what the thread was started for would be lost.
        """
        try:
            try:
                self._begin()
                target()
            except BaseException:
                self._begin()
                target()
        finally:
            left()
            self.living.discard(threading.current_thread())

    def _begin(self) -> None:
        self._next()
        self.living.add(threading.current_thread())
        known()

    def join(self, seconds: float, but: set[int | None]) -> None:
        """Waits for threads that are past their last line, so that none is seen alive after a shutdown."""
        until = monotonic() + seconds
        for thread in self.living.copy():
            if thread.ident not in but:
                thread.join(max(0.0, until - monotonic()))
