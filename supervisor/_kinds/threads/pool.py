"""The pool of the threads that carry out calls: its queue, and how many threads there are."""

from __future__ import annotations

from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from ..._worker.locks import ScopedLock

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from ..._core.pools import PoolSettings
    from ..._run.ports import Services
    from ..._run.run import Run
    from .launcher import Launcher

__all__ = ["Pool"]


class Pool:
    """Threads that take calls from one queue. It grows while there are more calls than threads, and never shrinks.

    Args:
        settings: What is set for it; its size is without those that were abandoned.
        calls: The calls that have not concluded.
        resolving: Calls that have ended, whose threads are in the callbacks of their futures.
        carry_out: Carries out a call in the thread that calls it; returns whether that thread was abandoned over it.
        lost: Ends the call over which an exception of somebody else's has struck a thread; returns the same.

    Attributes:
        size: The threads that take calls, or are being started.
        stuck: The threads that were abandoned and have not come back.
    """

    def __init__(
        self,
        settings: PoolSettings,
        calls: Mapping[int, Run],
        resolving: Collection[int],
        launcher: Launcher,
        services: Services,
        carry_out: Callable[[Run], bool],
        lost: Callable[[Run | None, BaseException], bool],
    ) -> None:
        self._max_size = settings.size
        self._calls = calls
        self._resolving = resolving
        self._launcher = launcher
        self._post = services.post
        self._settle = services.settle
        self._carry_out = carry_out
        self._lost = lost
        self._queue: SimpleQueue[Run | None] = SimpleQueue()
        self._named = 0
        # Executors grow the pool from any thread, and a signal handler may come in between.
        self._counting = ScopedLock()
        self.size = 0
        self.stuck = 0
        self._to_dismiss = 0
        self._retired = False
        self._gone: Callable[[], object] | None = None

    @property
    def capacity(self) -> int:
        """How many calls can run at once: abandoned threads are replaced, up to as many as there may be."""
        return max(0, min(self._max_size, 2 * self._max_size - self.stuck))

    # -------------------------------------------------------------------------------- calls come in

    def submit(self, run: Run) -> None:
        """Runs a call on the next thread that is free. Any thread."""
        self._queue.put(run)
        if self._short:
            self._grow()

    @property
    def _short(self) -> bool:
        """Whether there are fewer threads than calls, and there may be more."""
        return len(self._calls) + len(self._resolving) > self.size < self.capacity

    def _grow(self) -> None:
        with self._counting:
            if self._retired or not self._short:
                return
            self.size += 1
            self._named += 1
            name = f"thread-{self._named}"
        self._launcher.start(name, self._serve, self._unserved)

    def _unserved(self, error: RuntimeError) -> None:
        """A thread cannot be started: the others carry out its call, or all calls that wait fail."""
        self._post(lambda: self._shrunk(error))

    def _shrunk(self, error: RuntimeError) -> None:
        self._left()
        if self.size > 0:
            return
        while True:
            try:
                run = self._queue.get_nowait()  # never blocks: a thread that has come up meanwhile may be faster
            except Empty:
                return
            if run is not None and run.claim.acquire(False):
                run.error = error
                (self._post if run.settle is None else self._settle)(run)

    # -------------------------------------------------------------------------------- in the threads

    def _serve(self) -> None:
        """What each thread does: carries out one call after another."""
        get, carry_out = self._queue.get, self._carry_out
        if self._retired:
            self._queue.put(None)  # it may have been struck as it left, and be here again
        run = None
        try:
            while True:
                run = get()
                if run is None:
                    self._post(self._left)
                    return
                if carry_out(run):
                    return  # abandoned: it has been replaced, and does not count
                run = None  # or it would live on while this thread waits
        except BaseException as error:  # from outside: nothing here raises by itself
            if not self._lost(run, error):
                self._post(self._replace_lost)

    def _replace_lost(self) -> None:
        """A thread has ended between two calls, perhaps with one in its hands: all that nobody has claimed come again.

        Those that are in the queue are then there twice, which the claim bears.
        """
        for run in tuple(self._calls.values()):
            if not run.claim.locked():
                self._queue.put(run)
        self._left()
        self._replace()

    # -------------------------------------------------------------------------------- threads come and go

    def lose(self) -> None:
        """A thread was abandoned: another one takes its place."""
        with self._counting:
            self.size -= 1
            self.stuck += 1
        self._replace()

    def regain(self) -> None:
        """A thread that was abandoned has ended after all: there may be one more again."""
        with self._counting:
            self.stuck -= 1
        self._replace()

    def _replace(self) -> None:
        if self._short:
            self._grow()

    def _left(self) -> None:
        with self._counting:
            self.size -= 1
        if self.size <= 0 and self._gone is not None:  # one that was struck as it left may count twice
            self._gone()

    def retire(self) -> None:
        """Lets each thread end after its present call."""
        with self._counting:
            if not self._retired:
                self._to_dismiss = self.size
            self._retired = True
        while self._to_dismiss > 0:
            self._queue.put(None)
            self._to_dismiss -= 1  # only now: where that has failed, it is done again

    def when_gone(self, gone: Callable[[], object]) -> None:
        """Calls `gone` once the threads have ended, but for those that were abandoned."""
        self._gone = gone
        if self.size == 0:
            gone()
