"""Alarms: many moments, one timer of the loop."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from . import aside
from .clock import Timer, call_at, monotonic
from .errors import insist, report_error
from .inbox import TURN

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

__all__ = ["Alarms"]


class Ending(Protocol):
    """What an alarm is set for: an alarm of something that is over no longer rings."""

    @property
    def over(self) -> bool: ...


E_contra = TypeVar("E_contra", bound=Ending, contravariant=True)


class Alarms(Generic[E_contra]):
    """Alarms on the loop's clock, all with one timer of the loop. On the loop's thread.

    Of those that are due at the same moment, as many ring in one turn as fit into it.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float], ring: Callable[[E_contra], None]
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._ring = ring
        self._heap: list[tuple[float, int, E_contra]] = []
        self._count = 0
        self._over = 0  # of how many targets that are over there may be entries
        self._timer: Timer | None = None
        self._timer_at = self._called_at = 0.0

    def set(self, at: float, target: E_contra) -> None:
        """Calls `ring(target)` at this moment, unless the target is over by then; perhaps a little early.

        Where that raises an Exception, it is called once more.
        """
        self._count += 1
        heappush(self._heap, (at, self._count, target))
        if self._timer is None or at < self._timer_at:
            self._arm(at)
        elif self._timer_at < self._clock() and monotonic() >= self._called_at + TURN:
            # It is about to ring, and must not be put off; or an interrupt has kept it from ringing.
            aside.call_soon(self._loop, self._rung)
            self._called_at = monotonic()  # once for many: each rings for a whole turn

    def forget(self) -> None:
        """Takes note that a target is over; its entries, of which it may have some, go when they are many."""
        self._over += 1
        if self._over > 64 + len(self._heap) // 8:
            self._heap = [entry for entry in self._heap if not entry[2].over]
            heapify(self._heap)
            self._over = 0

    def close(self) -> None:
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = call_at(self._loop, self._clock, at, self._rung)

    def _report(self, error: Exception) -> None:
        report_error(self._loop, "supervisor: an alarm failed", error)

    def _rung(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        try:
            now = self._clock()
            until = monotonic() + TURN
            while self._heap and (self._heap[0][0] <= now or self._heap[0][2].over):
                entry = heappop(self._heap)
                try:
                    if not entry[2].over:
                        insist(self._report, self._ring, entry[2])
                except (KeyboardInterrupt, SystemExit):
                    heappush(self._heap, entry)  # a signal handler raised it here: ring again
                    raise
                if monotonic() >= until:
                    break  # the others in the next turn
        finally:
            # What rang may have set alarms, and so the timer, for later than the earliest that is left.
            if self._heap and (self._timer is None or self._heap[0][0] < self._timer_at):
                self._arm(self._heap[0][0])
