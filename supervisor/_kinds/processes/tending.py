"""What is done with processes that have nothing to do, as time passes; with one timer for all of a pool."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..._loop.clock import call_at
from .recycling import Due

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from ..._core.pools import PoolSettings
    from ..._loop.clock import Timer
    from ..._run.ports import Services
    from .process import Process
    from .spare import Spare

__all__ = ["Tending"]

LOOK_AGAIN = 1.0
"""Seconds after which it is looked again where that has failed."""


class Tending:
    """Replaces idle processes that are too old, and lets go those that were idle for too long. On the loop's thread.

    Args:
        counted: The processes of the pool that are for calls.
        idle: Those of them that have nothing to do, in the order in which they came.
        dismiss: Lets a process go, which is not idle any more then.
        replace: Has the spare process take the place of one.
    """

    spare: Spare

    def __init__(
        self,
        settings: PoolSettings,
        services: Services,
        counted: Collection[Process],
        idle: list[Process],
        dismiss: Callable[[Process], object],
        replace: Callable[[Process], object],
    ) -> None:
        self._timeout = math.inf if settings.idle_timeout is None else settings.idle_timeout
        self._warm = settings.warm
        self._loop = services.loop
        self._clock = services.clock
        self._counted = counted
        self._idle = idle
        self._dismiss = dismiss
        self._replace = replace
        self._timer: Timer | None = None
        self._at = math.inf
        self._closed = False

    def rest(self, process: Process) -> None:
        """A process has nothing to do from now on, the spare one included."""
        service = process.service
        if self._timeout < math.inf:
            service.idle_since = self._clock()
            self.by(service.idle_since + self._timeout)
        if service.expires_at < math.inf and service.due < Due.ONCE_REPLACED:
            self.by(service.expires_at)

    def replace_idle(self) -> None:
        """Replaces those that are due, as long as there is a spare process that is up."""
        for process in tuple(self._idle):
            if process.service.due >= Due.ONCE_REPLACED and self.spare.is_up:
                self._replace(process)

    def by(self, at: float) -> None:
        """Looks at all of them at this moment, on the loop's clock; perhaps in vain."""
        if at >= self._at or self._closed:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = call_at(self._loop, self._clock, at, self._ring)
        self._at = at

    def close(self) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        self._at, self._timer = math.inf, None
        again = self._clock() + LOOK_AGAIN  # where an interrupt strikes
        try:
            again = self._tend(self._clock())
        finally:
            self.by(again)

    def _tend(self, now: float) -> float:
        """Does what is due; returns the next moment at which anything is."""
        expired = [process for process in self._idle if now >= process.service.expires_at]
        for process in expired:
            process.service.due = max(process.service.due, Due.ONCE_REPLACED)
        self.replace_idle()
        if expired:
            self.spare.make()
        expire = (each.service.expires_at for each in self._idle if each.service.due < Due.ONCE_REPLACED)
        return min(self._dismiss_idle(now), *expire, math.inf)

    def _dismiss_idle(self, now: float) -> float:
        """Lets go who was idle for too long, down to as many as are kept warm; returns the next moment for that."""
        moments = [math.inf]
        while self._idle and len(self._counted) > self._warm:
            oldest = self._idle[0]
            if now < oldest.service.idle_since + self._timeout:
                moments.append(oldest.service.idle_since + self._timeout)
                break
            self._dismiss(oldest)
        spare = self.spare.process
        if spare is not None and spare.ready and len(self._idle) == len(self._counted):  # nobody is busy
            if now < spare.service.idle_since + self._timeout:
                moments.append(spare.service.idle_since + self._timeout)
            else:
                self.spare.process = None
                self._dismiss(spare)
        return min(moments)
