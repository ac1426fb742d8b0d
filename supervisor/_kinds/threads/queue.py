"""The queue of a pool's threads, which wakes no more of them than there is work for."""

from __future__ import annotations

from collections import deque
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..._run.run import Run

__all__ = ["Empty", "RunQueue"]

SPREAD = 2
"""How many threads one wakes that was woken itself, where more calls wait than its own.

With one, of many calls that keep the interpreter busy each would begin a turn of that after the one before it.
"""


class RunQueue:
    """Calls for the threads of a pool, in order; None: whoever gets it looks whether he is to end.

    To wake a thread takes longer than a short call. So who puts a call here wakes one thread, and further calls wake
    none until that one has looked. Before it carries out its call, it wakes others, where more are waiting. So a few
    threads carry out many calls that are short, and all threads come for those that take long.

    Any thread may put something here, a signal handler too. No lock of ours is taken: what is changed is changed in one
    step of the interpreter.
    """

    __slots__ = ("_called", "_calls", "_runs")

    def __init__(self) -> None:
        self._runs: deque[Run | None] = deque()
        self._calls: SimpleQueue[None] = SimpleQueue()  # each wakes a thread
        self._called = False  # one is on its way, and the thread that it wakes has not looked yet

    def put(self, run: Run | None) -> None:
        """Appends a call. Never blocks."""
        self._runs.append(run)
        if not self._called:
            self._call()

    def get(self, timeout: float | None = None) -> Run | None:
        """Takes the first call, and waits for one where there is none.

        Raises:
            Empty: There was none for so many seconds.
        """
        runs = self._runs
        most = 1
        while True:
            if runs:
                try:
                    run = runs.popleft()
                except IndexError:
                    continue  # another thread was faster
                if runs and not self._called:
                    for _ in range(min(most, len(runs))):
                        self._call()
                return run
            self._called = False  # first this, then the look: what is put here from now on wakes somebody
            if not runs:
                self._calls.get(True, timeout)
                self._called = False
                most = SPREAD

    def get_nowait(self) -> Run | None:
        """Takes the first call.

        Raises:
            Empty: There is none.
        """
        try:
            return self._runs.popleft()
        except IndexError:
            raise Empty from None

    def rouse(self) -> None:
        """Wakes a thread in any case: one that had been woken has ended before it has looked."""
        self._calls.put(None)

    def _call(self) -> None:
        try:
            self._called = True  # two threads may both do this: one too many is woken
            self._calls.put(None)
        except BaseException:
            self._calls.put(None)  # or nobody would be woken any more
            raise
