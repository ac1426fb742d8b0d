"""Starts threads, each by the one before it."""

from __future__ import annotations

from _thread import RLock
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable


__all__ = ["Launcher"]


class Launcher:
    """Starts threads, each by the one before it: the caller is held up for the first alone."""

    def __init__(self) -> None:
        self._lock = RLock()  # a signal handler may come in between
        self._waiting: deque[tuple[threading.Thread, Callable[[RuntimeError], object]]] = deque()
        self._busy = False

    def start(self, thread: threading.Thread, failed: Callable[[RuntimeError], object]) -> None:
        """Starts the thread now or soon; it must call `next` first of all. `failed` is called where it cannot start."""
        with self._lock:
            self._waiting.append((thread, failed))
            if self._busy:
                return
            self._busy = True
        self.next()

    def next(self) -> None:
        """Starts the next thread that waits for it."""
        while True:
            with self._lock:
                if not self._waiting:
                    self._busy = False
                    return
                thread, failed = self._waiting.popleft()
            try:
                thread.start()
            except RuntimeError as error:  # the system has no more threads, or the interpreter is going down
                failed(error)
            except BaseException:  # a signal handler raised it: the thread may have been started, or not
                with self._lock:
                    self._busy = False
                raise
            else:
                return
