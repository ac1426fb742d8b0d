"""The stop Event of a worker, and the chain that wakes a thousand of them."""

from __future__ import annotations

from _thread import TIMEOUT_MAX, allocate_lock
from collections import deque

TYPE_CHECKING = False  # light: worker processes import it
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Chain", "StopEvent"]


class Chain:
    """Wakes many waiting workers without a stampede.

    Releasing a thousand threads at once makes them all fight for the interpreter, and the caller with them. Here a stop
    sets each flag by a plain store and releases `links` waiters; each that leaves its wait releases the next. A link
    breaks where a waiter left at the same moment for another reason, so whoever starts the chain looks after it: where
    it has not moved on meanwhile, it is started again.
    """

    LINKS = 24
    """With more of them the loop waits longer for the interpreter; with fewer the chain does, where others are busy."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: deque[Any] = deque()  # locks; only appended to by the thread that stops

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, waiter: Any) -> None:
        self._waiting.append(waiter)

    def start(self) -> bool:
        """Releases the first waiters; returns whether any are left for the chain."""
        for _ in range(self.LINKS):
            if not self.release_next():
                return False
        return bool(self._waiting)

    def release_next(self) -> bool:
        try:
            waiter = self._waiting.popleft()
        except IndexError:
            return False
        try:
            waiter.release()
        except RuntimeError:
            pass  # it was in the chain twice
        return True

    def release_all(self) -> None:
        while self.release_next():
            pass


class StopEvent:
    """The Event by which a worker is asked to stop: set once, never cleared.

    Any thread may read it and wait for it, so a worker can hand it to helpers. Waiting costs no lock and no Condition
    until somebody waits; `set` takes no lock at all, so it cannot deadlock with a frame that a signal interrupted.

    Example:
        >>> event = StopEvent()
        >>> event.is_set(), event.wait(0.001)
        (False, False)
    """

    __slots__ = ("_chain", "_set", "_waiters")

    def __init__(self, chain: Chain | None = None) -> None:
        self._set = False
        self._chain = Chain() if chain is None else chain
        self._waiters: list[Any] = []

    def is_set(self) -> bool:
        """Returns whether a stop was asked."""
        return self._set

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until a stop is asked, at most `timeout` seconds; returns whether it was.

        None waits without end; 0 or less does not wait. Safe from any thread.
        """
        if self._set:
            return True
        waiter = allocate_lock()
        waiter.acquire()
        return self._wait(waiter, -1 if timeout is None else min(max(timeout, 0.0), TIMEOUT_MAX))

    def wait_with(self, waiter: Any) -> bool:
        """Waits until a stop is asked, which it returns, or somebody else releases `waiter`, a lock that is taken.

        Whoever releases it may find that a stop was faster: a RuntimeError.
        """
        return self._wait(waiter, -1)

    def _wait(self, waiter: Any, timeout: float) -> bool:
        # Each side first writes and then reads what the other wrote, so one of them sees the other: either this thread
        # sees the flag, or `set` sees this waiter. An exception that is injected in between leaves a lock that nobody
        # waits for, and costs another worker at most the delay until the chain is started again.
        self._waiters.append(waiter)
        if not self._set:
            waiter.acquire(True, timeout)
        if not self._set:
            try:
                self._waiters.remove(waiter)
            except ValueError:
                pass  # `set` has taken it and is about to finish
            if not self._set:
                return False
        self._chain.release_next()
        return True

    def set(self) -> None:
        """Sets the flag and puts whoever waits into the chain; `Chain.start` wakes them."""
        self._set = True
        try:
            while self._waiters:
                waiter = self._waiters[-1]
                self._chain.add(waiter)
                if self._waiters[-1] is waiter:
                    self._waiters.pop()  # only now: what has failed, or was interrupted, is done again
        except IndexError:
            pass  # the last one has left by itself

    def release(self) -> None:
        """Wakes whoever waits, all of them."""
        self._chain.release_all()

    def __repr__(self) -> str:
        return f"<StopEvent: {'set' if self._set else 'not set'}>"
