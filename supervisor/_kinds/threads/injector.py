"""Injects into runs; into those that stand where they must not be struck, as soon as they do not."""

from __future__ import annotations

from time import sleep
from typing import TYPE_CHECKING

from ..._loop import switching
from ..._worker.locks import ScopedLock

if TYPE_CHECKING:
    from collections.abc import Callable

    from .gate import Gate
    from .launcher import Launcher

__all__ = ["Injector"]

SHORTEST = 0.0002
LONGEST = 0.05
"""Seconds between two looks at the threads that wait to be struck: few at first, more for those that stay there."""

LONGER = 1.02
"""By this factor each pause is longer than the one before."""

QUICK = 0.00001
"""The switch interval at first.

A thread that gives the interpreter up only where it writes or waits would be seen nowhere else. So it has to be
interrupted.
"""

QUICK_UNTIL = 0.005
"""The pause beyond which the switch interval is what it was."""


class Injector:
    """Injects into runs, each as soon as its thread stands where it may be struck. Any thread.

    A thread of its own looks at those that must not be struck yet, for as long as there are any: also once they have
    been abandoned.

    Args:
        wake: Is called with a thread that has been struck, which is alive meanwhile: it may be blocked.
    """

    def __init__(self, launcher: Launcher, wake: Callable[[int], object]) -> None:
        self._launcher = launcher
        self._wake = wake
        self._lock = ScopedLock()  # a signal handler may come in between
        self._waiting: dict[int, Gate] = {}
        self._looking = False
        self._pause = SHORTEST

    def inject(self, gate: Gate, exception: type[BaseException] | None = None) -> bool:
        """Injects now or soon; returns whether the run has been waited for since the last time, and still is."""
        if gate.inject(self._wake, exception) != "waiting":
            return False
        with self._lock:
            again = id(gate) in self._waiting
            self._waiting[id(gate)] = gate
            self._pause = SHORTEST
            start, self._looking = not self._looking, True
        if start:
            self._launcher.start("injector", self._look, self._cannot_look)
        return again

    def _cannot_look(self, _: RuntimeError) -> None:
        """The system has no thread for this: the ladder injects again."""
        with self._lock:
            self._looking = False

    def _look(self) -> None:
        try:
            while self._wait_and_look():
                if self._pause < QUICK_UNTIL:
                    switching.hold(self, QUICK)
                else:
                    switching.release(self)
        finally:
            switching.release(self)

    def _wait_and_look(self) -> bool:
        """Returns whether any are left."""
        sleep(self._pause)
        for key, gate in tuple(self._waiting.items()):
            if gate.inject(self._wake) != "waiting":
                self._waiting.pop(key, None)
        with self._lock:
            self._looking = bool(self._waiting)
            self._pause = min(self._pause * LONGER, LONGEST)
            return self._looking
