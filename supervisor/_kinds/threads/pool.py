"""The pool of the threads that carry out calls: its queue, and how many threads there are."""

from __future__ import annotations

from _thread import get_ident
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

from ..._worker.locks import ScopedLock
from .launcher import Start
from .queue import Empty, RunQueue
from .seat import Seat

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from ..._core.pools import PoolSettings
    from ..._run.ports import Services
    from ..._run.readiness import Readiness
    from ..._run.run import Run
    from .launcher import Launcher

__all__ = ["Pool"]


class Pool:
    """Threads that take calls from one queue. It grows while there are more calls than threads.

    Each thread has a seat. Seats and runs are put into sets, and taken out: where an exception from outside strikes,
    that can be done twice.

    Args:
        settings: What is set for it; its size is without those that were abandoned.
        calls: The calls that have not concluded.
        resolving: Calls that have ended, whose threads are in the callbacks of their futures.
        readiness: Is told how many threads there are.
        carry_out: Carries out a call in the thread that calls it; returns whether that thread was abandoned over it.
        lost: Ends the call over which an exception of somebody else's has struck a thread; returns the same.

    Attributes:
        capacity: How many calls can run at once. Any thread reads it.
    """

    def __init__(
        self,
        settings: PoolSettings,
        calls: Mapping[int, Run],
        resolving: Collection[int],
        launcher: Launcher,
        services: Services,
        readiness: Readiness,
        carry_out: Callable[[Run], bool],
        lost: Callable[[Run | None, BaseException], bool],
    ) -> None:
        self._name = settings.name
        self._max_size = settings.size
        self._lent = 0  # how many more there may be
        self._warm = settings.warm
        self._calls = calls
        self._resolving = resolving
        self._launcher = launcher
        self._loop = services.loop
        self._clock = services.clock
        self._post = services.post
        self._settle = services.settle
        self._readiness = readiness
        self._carry_out = carry_out
        self._lost = lost
        self._queue = RunQueue(timed=settings.idle_timeout is not None or settings.max_lifetime is not None)
        self._numbers = count(1)  # of threads, for their names
        # Executors grow the pool from any thread, and a signal handler may come in between.
        self._counting = ScopedLock()
        self._seats: set[Seat] = set()
        self._heirs: set[Seat] = set()  # of threads that are to take the place of others
        self._abandoned: set[Run] = set()
        self.capacity = self._max_size  # kept, as each call asks for it
        self._surplus = False  # there may be more threads than there are to be
        self._retired = False
        self._gone: Callable[[], object] | None = None

    @property
    def size(self) -> int:
        """The threads that take calls, or are being started."""
        return len(self._seats)

    @property
    def stuck(self) -> int:
        """The threads that were abandoned and have not come back."""
        return len(self._abandoned)

    def _fit_capacity(self) -> None:
        """Takes account of what has changed: abandoned threads are replaced, up to as many as there may be."""
        replaced = min(self._max_size, 2 * self._max_size - len(self._abandoned))
        self.capacity = max(0, replaced) + self._lent

    # -------------------------------------------------------------------------------- calls come in

    def submit(self, run: Run) -> None:
        """Runs a call on the next thread that is free. Any thread."""
        self._queue.put(run)
        if len(self._calls) + len(self._resolving) > len(self._seats) < self.capacity:
            self._grow()

    def _is_short(self, least: int = 0) -> bool:
        """Whether there are fewer threads than calls, or than so many, and there may be more."""
        return max(least, len(self._calls) + len(self._resolving)) > len(self._seats) < self.capacity

    def _grow(self, least: int = 0) -> bool:
        """Starts one more thread where that is so; returns whether it was."""
        if not self._is_short(least):
            return False
        seat = Seat()
        start = self._start_of(seat)
        try:
            with self._counting:
                if self._retired or not self._is_short(least):
                    return False
                self._seats.add(seat)
            self._launcher.launch(start)
        except BaseException:
            if seat in self._seats:
                self._launcher.launch(start)  # it counts, so it must come up
            raise
        return True

    def _start_of(self, seat: Seat) -> Start:
        name = f"{self._name}-{next(self._numbers)}"
        return Start(name, partial(self._serve, seat), partial(self._unserved, seat))

    def warm_up(self) -> None:
        """Starts the threads that are missing: as many as are kept warm, or as calls wait for."""
        wanted = min(self.capacity, max(self._warm, len(self._calls) + len(self._resolving)))
        for _ in range(wanted - len(self._seats)):  # no more: each may be gone again, if it cannot be set up
            self._grow(self._warm)

    def _unserved(self, seat: Seat, error: RuntimeError) -> None:
        """A thread cannot be started: the others carry out its call, or all calls that wait fail."""
        self._post(lambda: self._shrunk(seat, error))
        self._ended(seat)

    def _shrunk(self, seat: Seat, error: RuntimeError) -> None:
        self._left(seat)
        if not self._seats:
            self._fail_waiting(lambda: error)

    def _fail_waiting(self, error: Callable[[], Exception]) -> None:
        """Ends all calls that wait."""
        while True:
            try:
                run = self._queue.get_nowait()  # never blocks: a thread that has come up meanwhile may be faster
            except Empty:
                return
            if run is not None and run.claim():
                run.error = error()
                (self._post if run.settle is None else self._settle)(run)

    # -------------------------------------------------------------------------------- in the threads

    def _serve(self, seat: Seat) -> None:
        """What each thread does: carries out one call after another."""
        if seat not in self._seats and seat not in self._heirs:
            self._say()  # it was struck as it left, and is here again
            return
        try:
            seat.ident = get_ident()
            if self._begin(seat):
                self._take_calls(seat)
        except BaseException as error:  # from outside: nothing here raises by itself
            self._queue.rouse()  # this thread may have been woken, and not have looked
            if self._retired:
                self._queue.put(None)  # which it may have had in its hands
            if not self._lost(seat.run, error):
                self._post(partial(self._replace_lost, seat))
                self._ended(seat)

    def _begin(self, seat: Seat) -> bool:
        """A thread has come up; returns whether it is to take calls."""
        seat.ready = True
        self._say()
        return True

    def _take_calls(self, seat: Seat) -> None:
        get, carry_out = self._queue.get, self._carry_out
        while True:
            run = seat.run = get()
            if run is None:
                if self._leaves(seat):
                    return
            elif carry_out(run):
                return  # abandoned: it has been replaced, and does not count
            run = seat.run = None  # or it would live on while this thread waits
            if self._surplus and self._leaves(seat):
                return

    def _leaves(self, seat: Seat) -> bool:
        """Whether a thread that is between two calls is to end: then it does not count any more."""
        with self._counting:
            self._surplus = len(self._seats) > self.capacity
            if not (self._surplus or self._retired):
                return False
            self._vacate(seat)
        if self._retired:
            self._queue.put(None)  # for the next one
        self._say()
        return True

    def _replace_lost(self, seat: Seat) -> None:
        """A thread has ended between two calls, perhaps with one in its hands: all that nobody has claimed come again.

        Those that are in the queue are then there twice, which the claim bears.
        """
        for run in tuple(self._calls.values()):
            if not run.claimed:
                self._queue.put(run)
        self._left(seat)
        self.warm_up()

    # -------------------------------------------------------------------------------- threads come and go

    def lose(self, run: Run) -> None:
        """A thread was abandoned: another one takes its place."""
        with self._counting:
            self._abandoned.add(run)
            self._fit_capacity()
            for seat in (*self._seats, *self._heirs):
                if seat.run is run and run.ident in (None, seat.ident):
                    self._vacate(seat)
                    break
        self._note()
        self.warm_up()

    def regain(self, run: Run) -> None:
        """A thread that was abandoned has ended after all: there may be one more again."""
        with self._counting:
            self._abandoned.discard(run)
            self._fit_capacity()
        self.warm_up()

    def resize(self, size: int) -> None:
        """Has so many calls run at once from now on. Threads that are too many end once their present calls have."""
        with self._counting:
            self._max_size = size
            self._fit_capacity()
        self._fit()

    def lend(self, more: int) -> None:
        """Has so many more calls run at once, or fewer: beside those whose threads only wait for others. Any thread."""
        with self._counting:
            self._lent += more
            self._fit_capacity()
        self._fit()

    def _fit(self) -> None:
        """Has threads start that are missing, and those end that are too many."""
        with self._counting:
            surplus = len(self._seats) - self.capacity
            self._surplus = surplus > 0
        for _ in range(surplus):
            self._queue.put(None)  # for those that have no call
        self.warm_up()

    def _left(self, seat: Seat) -> None:
        with self._counting:
            self._vacate(seat)
        self._note()

    def _vacate(self, seat: Seat) -> None:
        """A thread takes no more calls, and does not count. With the lock; idempotent."""
        self._seats.discard(seat)

    def _ended(self, seat: Seat) -> None:
        """A thread has ended, or cannot be started, and what follows from that is in the inbox. Any thread."""
        seat.over = True
        self._close_once_empty()

    def _say(self) -> None:
        """Has the loop take note of how many threads there are. Any thread."""
        self._post(self._note)
        self._close_once_empty()

    def _note(self) -> None:
        """Takes note of how many threads there are. On the loop's thread."""
        with self._counting:
            size, ready = len(self._seats), sum(seat.ready for seat in self._seats)
        self._readiness.note(size - ready, ready, self._clock())
        self._close_once_empty()
        self._look_whether_gone()

    def retire(self) -> None:
        """Lets each thread end after its present call: the first tells the next one, and so on. Idempotent."""
        self._retired = True
        self._queue.put(None)
        self._close_once_empty()

    def _close_once_empty(self) -> None:
        """Closes the queue of a pool that is retired, once no thread comes to it any more. Any thread.

        The last thread to leave does it, as nobody may read the inbox by then. Who calls this has first written that
        the pool is retired, or that a thread has left.
        """
        if self._retired:
            with self._counting:  # in it, who starts a thread looks whether the pool is retired
                empty = all(seat.over for seat in (*self._seats, *self._heirs))
            if empty:
                self.close()

    def when_gone(self, gone: Callable[[], object]) -> None:
        """Calls `gone` once the threads have ended, but for those that were abandoned."""
        self._gone = gone
        self._look_whether_gone()

    def _look_whether_gone(self) -> None:
        if self._gone is not None and not (self._seats or self._heirs):
            self._gone()

    def close(self) -> None:
        """No thread takes calls any more: it has ended, or is in the process from which this one was forked."""
        self._queue.close()
