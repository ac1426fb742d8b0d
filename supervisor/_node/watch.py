"""Whether an owner is still there, as a node knows it."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._core.leases import Lease

__all__ = ["Watch", "awake_or_not"]

awake_or_not: Callable[[], float] = (
    partial(time.clock_gettime, time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic
)
"""The monotonic clock that goes on while the machine sleeps: the owner's does."""


class Watch:
    """Watches over the lease of one owner. On the node's loop.

    Args:
        lease: What was agreed on.
        say: Tells the owner what time it is here; it says that back.
        clock: That of this machine.
    """

    def __init__(self, lease: Lease, say: Callable[[float], object], clock: Callable[[], float] = awake_or_not) -> None:
        self._lease = lease
        self._say = say
        self._clock = clock
        self._renewed_at = self._said_at = clock()
        self._asked_at: float | None = None

    def say(self) -> None:
        """Says what time it is."""
        self._said_at = self._clock()
        self._say(self._said_at)

    def renew(self, moment: float) -> None:
        """The owner has heard what was said at a moment."""
        self._renewed_at = max(self._renewed_at, min(moment, self._clock()))

    @property
    def holds(self) -> bool:
        """Whether the lease has not run out, whoever else has noticed that by now."""
        return self._clock() - self._renewed_at <= self._lease.seconds

    def alone_until(self, ladder: float) -> float:
        """Returns until when processes go on, on the clock, should this one stand still from now on."""
        return self._renewed_at + self._lease.alone(ladder)

    def ran_out(self) -> bool:
        """Returns whether the lease has run out; to be called again and again.

        This process may have stood still, and have asked nothing meanwhile: so it asks once more, and waits for a
        moment, before it is sure. The owner reckons with that.
        """
        now = self._clock()
        silent = now - self._renewed_at
        if silent < self._lease.seconds - self._lease.grace:
            self._asked_at = None
            if now - self._said_at >= self._lease.tick:
                self.say()
            return False
        if self._asked_at is None:
            self._asked_at = now
            self.say()
        return silent > self._lease.seconds and now - self._asked_at >= self._lease.grace
