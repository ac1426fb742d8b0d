"""Keeps the event loop awake for a moment after a call was sent, where processes answer soon."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..._loop import aside
from ..._loop.clock import monotonic
from .child.lookout import PATIENCE, Wakeful

if TYPE_CHECKING:
    import asyncio

__all__ = ["Vigil"]


class Vigil(Wakeful):
    """Has the loop take turns, in which it does whatever else there is, in place of going to sleep. On its thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._loop = loop
        self._until = 0.0
        self._awake = False  # a turn is on its way

    def sent(self, now: float) -> None:
        """A call was sent, at this moment of the monotonic clock."""
        if self.soon and self.is_due():
            self._until = now + PATIENCE
            if not self._awake:
                self._stay()

    def answered(self, after: float) -> None:
        """One has ended, so many seconds after it was sent."""
        self.came(after)
        if self._until:
            self._until = 0.0
            self.paid()

    def _stay(self) -> None:
        self._awake = True
        aside.call_soon(self._loop, self._turn)

    def _turn(self) -> None:
        self._awake = False  # first: an interrupt does not end it for good
        if not self._until:
            return
        if monotonic() < self._until:
            self._stay()
        else:
            self._until = 0.0
            self.was_in_vain()
