"""A pace: many tasks that each begin something at once, as many in one turn of the loop as fit into it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from . import aside
from .clock import monotonic
from .inbox import TURN

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

__all__ = ["Pace"]


class Pace:
    """Lets tasks go on in the order in which they came, few of them in one turn of the loop. On the loop's thread.

    Who comes alone goes on at once, and so do the first `LEAST` in each turn.

    Args:
        loop: The event loop.
        each_turn: Is called before the first one of a turn goes on: what need not be done for each.
    """

    LEAST = 32

    def __init__(self, loop: asyncio.AbstractEventLoop, each_turn: Callable[[], object]) -> None:
        self._loop = loop
        self._each_turn = each_turn
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._number = 0  # how many have gone on in this turn
        self._began_at = 0.0  # when the first of them did
        self._fitting = self.LEAST  # how many are let go on in the next one
        self._due = False

    async def turn(self) -> None:
        """Waits until whoever calls may go on. Cancelled, nothing has been done."""
        if not self._due:
            self._come_back()
        if self._waiting or (self._number >= self.LEAST and monotonic() >= self._began_at + TURN):
            place = self._loop.create_future()
            self._waiting.append(place)
            await place
        if not self._number:
            self._began_at = monotonic()
            self._each_turn()
        self._number += 1

    def _come_back(self) -> None:
        aside.call_soon(self._loop, self._next_turn)
        self._due = True

    def _next_turn(self) -> None:
        try:
            self._due = False
            if self._waiting:
                self._let_go_on()
                self._come_back()  # after those that go on, who tell how long they take
            self._number = 0
        except (KeyboardInterrupt, SystemExit):
            self._come_back()
            raise

    def _let_go_on(self) -> None:
        """Has so many go on as would have fitted into the last turn, but not many more than did."""
        if self._number:
            took = max(monotonic() - self._began_at, 1e-9)
            self._fitting = min(2 * self._number, max(self.LEAST, int(self._number * TURN / took)))
        for _ in range(max(self.LEAST, self._fitting)):
            while self._waiting and self._waiting[0].done():
                self._waiting.popleft()  # it was cancelled, or has been let go on
            if not self._waiting:
                break
            self._waiting[0].set_result(None)

    def __repr__(self) -> str:
        return f"<Pace: {len(self._waiting)} wait>"
