"""The pool of threads that are set up before their first call, or that come and go: with an initializer, say."""

from __future__ import annotations

import math
import random
from _thread import get_ident
from functools import partial
from typing import TYPE_CHECKING

from ..._core.errors import SupervisorError, described
from ..._core.pools import delay_after, head_start, lifetime_of_one
from ..._core.verdict import converted
from ..._loop import aside
from ..._loop.clock import monotonic
from .initialization import Initialization
from .pool import Pool
from .queue import Empty
from .seat import Seat

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..._core.pools import PoolSettings
    from ..._run.run import Run

__all__ = ["ManagedPool", "is_managed"]

LOOK_AGAIN = 0.05
"""Seconds after which a thread without work, whose time is over, looks again whether the next one is ready."""

LONGEST = 1e6
"""Seconds for which a thread waits in one go: the system takes no more than some."""


def is_managed(settings: PoolSettings) -> bool:
    """Whether a pool of threads needs more than to carry out calls."""
    kept = (settings.initializer, settings.idle_timeout, settings.max_tasks, settings.max_lifetime)
    return any(setting is not None for setting in kept)


class ManagedPool(Pool):
    """Threads that are set up by an initializer, and that end when they have been idle, or are used up.

    Args:
        own_call: Makes the run of a call of the pool's own.
    """

    def __init__(self, settings: PoolSettings, *args: Any, own_call: Callable[[Callable[[], object]], Run]) -> None:
        super().__init__(settings, *args)
        self._own_call = own_call
        self._initializer = settings.initializer
        self._idle_timeout = settings.idle_timeout
        self._max_tasks = settings.max_tasks or math.inf
        self._early = 0 if settings.max_tasks is None else head_start(settings.max_tasks)
        self._max_lifetime = settings.max_lifetime
        self._tries = 0  # to set up a thread, which have failed since one has come up
        self._not_before = 0.0

    # -------------------------------------------------------------------------------- a thread comes up

    def _begin(self, seat: Seat) -> bool:
        elder = seat.elder
        if not seat.ready:
            if self._initializer is not None and not self._initialize(seat, self._initializer):
                return False
            seat.idle_since = monotonic()
            if self._max_lifetime is not None:
                seat.ends_at = seat.idle_since + lifetime_of_one(self._max_lifetime, random.random())  # noqa: S311
            super()._begin(seat)
            self._tries = 0
            if elder is not None:
                elder.turn.put(None)
        while seat in self._heirs and not self._retired:
            seat.turn.get()  # its elder tells it, once it has its place
        if seat in self._seats:
            return True
        self._heirs.discard(seat)
        self._say()
        return False

    def _initialize(self, seat: Seat, initializer: Callable[[], object]) -> bool:
        """Sets this thread up, outside of any call; returns whether it is to go on.

        That is a run as that of a call, so that a shutdown asks it to stop, and climbs its ladder.
        """
        self._say()
        initialization = Initialization(initializer)
        run = seat.run = self._own_call(initialization)
        if self._carry_out(run):
            return False
        seat.run = None
        if run.ident != get_ident():  # a shutdown has begun, which may not have seen it
            self._post(partial(aside.call_soon, self._loop, run.owner.stop, run, "shutdown"))
        error = initialization.taken_error()
        if initialization.over or (error is not None and converted(run, error, stopping=False) is None):
            return True
        self._tries += 1
        self._not_before = monotonic() + delay_after(self._tries)
        with self._counting:
            self._vacate(seat)
        self._post(partial(self._failed, error))
        self._ended(seat)
        return False

    def _failed(self, cause: BaseException | None) -> None:
        """A thread could not be set up: where none is, the calls that wait fail."""
        self._note()
        if self._retired:
            return
        reason = "has been stopped" if cause is None else f"has failed: {described(cause)}"

        def error() -> SupervisorError:
            made = SupervisorError(f"the initializer of pool {self._name!r} {reason}; the next call tries it again")
            made.__cause__ = cause
            return made

        ready = [seat.ready for seat in tuple(self._seats)]
        if all(ready) or not any(ready):
            self._readiness.failed(error())
        if not any(ready):
            self._fail_waiting(error)

    # -------------------------------------------------------------------------------- a thread takes calls

    def _take_calls(self, seat: Seat) -> None:
        get, carry_out = self._queue.get, self._carry_out
        while True:
            try:
                run = seat.run = get(self._patience(seat))
            except Empty:
                if self._makes_way(seat) or self._idles_out(seat):
                    return
                continue
            if run is None:
                if self._leaves(seat):
                    return
                continue
            seat.tried = False
            if self._initializer is not None and self._max_tasks - seat.tasks <= self._early:
                self._summon_heir(seat)  # now, as setting it up may take long
            if carry_out(run):
                return  # abandoned: it has been replaced, and does not count
            if run.ident == seat.ident:
                seat.tasks += 1
            run = seat.run = None  # or it would live on while this thread waits
            seat.idle_since = monotonic()
            seat.stays = False
            if (self._surplus and self._leaves(seat)) or self._makes_way(seat):
                return

    def _patience(self, seat: Seat) -> float | None:
        """Returns the seconds without work after which a thread looks whether it is to end; None: it need not."""
        now = monotonic()
        patience = math.inf
        if self._idle_timeout is not None and not seat.stays:
            patience = seat.idle_since + self._idle_timeout - now
        if now < seat.ends_at:
            patience = min(patience, seat.ends_at - now)
        elif seat.heir is not None or not seat.tried:
            patience = min(patience, LOOK_AGAIN)
        return None if patience == math.inf else min(max(0.0, patience), LONGEST)

    # -------------------------------------------------------------------------------- a thread goes

    def _idles_out(self, seat: Seat) -> bool:
        """Whether a thread ends that has no work, and is not needed."""
        now = monotonic()
        if self._idle_timeout is None or now < seat.idle_since + self._idle_timeout:
            return False
        with self._counting:
            if len(self._seats) <= self._warm:
                seat.stays = True
                return False
            self._seats.discard(seat)  # first, and then the look at the calls: who submits one does the same
            if self._is_short():
                self._seats.add(seat)
                seat.idle_since = now
                return False
            self._vacate(seat)
        self._say()
        return True

    def _makes_way(self, seat: Seat) -> bool:
        """Whether a thread ends that is between two calls, as another one takes its place, which is set up by then.

        One that is used up waits for that. One whose lifetime is over goes on meanwhile.
        """
        used_up = seat.tasks >= self._max_tasks
        if not used_up and monotonic() < seat.ends_at:
            return False
        if used_up or not self._heirs:
            self._summon_heir(seat, alone=not used_up)
        while used_up and self._is_awaiting(seat):
            self._say()
            seat.turn.get()
        with self._counting:
            if self._retired or seat.heir is None or not seat.heir.ready:
                return False
            self._vacate(seat)
        self._say()
        return True

    def _is_awaiting(self, seat: Seat) -> bool:
        """Whether a thread has an heir that is not set up, and may be. Until then it takes no calls."""
        with self._counting:
            awaiting = seat.heir is not None and not seat.heir.ready and not self._retired
            seat.ready = not awaiting
            return awaiting

    def _summon_heir(self, seat: Seat, *, alone: bool = False) -> None:
        """Starts the thread that takes this one's place; `alone`: not where another is on its way to its own."""
        if seat.tried or seat.heir is not None or monotonic() < self._not_before:
            return
        heir = Seat(seat)
        start = self._start_of(heir)
        try:
            with self._counting:
                if self._retired or (alone and self._heirs):  # whose lifetimes are over go one after the other
                    return
                seat.tried = True
                self._heirs.add(heir)
                seat.heir = heir
            self._launcher.launch(start)
        except BaseException:
            if heir in self._heirs:
                self._launcher.launch(start)  # its elder may leave, and give it its place
            raise

    def _vacate(self, seat: Seat) -> None:
        """A thread does not count any more; its heir, if it has one, does. With the lock."""
        super()._vacate(seat)
        self._heirs.discard(seat)
        elder = seat.elder
        if elder is not None and elder.heir is seat:
            elder.heir = None  # it goes on
            elder.ready = True
            elder.turn.put(None)
        heir = seat.heir
        if heir is not None:
            if heir in self._heirs and not self._retired and len(self._seats) < self.capacity:
                self._seats.add(heir)
            self._heirs.discard(heir)
            heir.turn.put(None)  # and if it does not count, it ends
            seat.heir = heir.elder = None

    def retire(self) -> None:
        super().retire()
        for seat in (*tuple(self._seats), *tuple(self._heirs)):
            seat.turn.put(None)
