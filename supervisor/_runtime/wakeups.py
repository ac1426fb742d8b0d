"""Wakes the workers that wait for their stop Event, a few at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._loop import aside

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from .._worker.stop_event import Chain

__all__ = ["WakeUps"]

CHAIN_SLACK = 0.05
"""Seconds after which a chain of waiters that has not moved on is started again."""


class WakeUps:
    """Starts the chain of waiters, and starts it again where it has come to a halt. On the loop's thread.

    Args:
        loop: The event loop.
        chain: The waiters.
        held_back: Says whether a shutdown still asks others. Until it has, the waiters sleep on: awake, they would
            compete with the loop for the interpreter.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, chain: Chain, held_back: Callable[[], bool]) -> None:
        self._loop = loop
        self._chain = chain
        self._held_back = held_back
        self._due = False

    def announce(self) -> None:
        """Wakes those whose stop Event has been set, those of this turn of the loop together.

        Where nobody waits, it takes no turn of the loop: the next step, or the end, comes that much sooner.
        """
        if self._chain and not self._due and not self._held_back():
            aside.call_soon(self._loop, self._start)
            self._due = True

    def _start(self) -> None:
        try:
            self._due = False
            if self._chain.start():
                aside.call_later(self._loop, CHAIN_SLACK, self._look_after, len(self._chain))
        except (KeyboardInterrupt, SystemExit):
            aside.call_soon(self._loop, self._start)
            raise

    def _look_after(self, before: int) -> None:
        """Starts the chain again where it has come to a halt."""
        left = len(self._chain)
        try:
            if left >= before:
                self._chain.start()
            if left:
                aside.call_later(self._loop, CHAIN_SLACK, self._look_after, len(self._chain))
        except (KeyboardInterrupt, SystemExit):
            aside.call_soon(self._loop, self._look_after, left)
            raise
