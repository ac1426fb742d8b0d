"""A backlog: much that is to be done and can wait, in turns of the loop that are short."""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from . import aside
from .clock import monotonic
from .errors import insist
from .inbox import TURN

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

__all__ = ["Backlog"]

T = TypeVar("T")


class Backlog:
    """Queues of things to do, which share one turn of the loop: one thing of each, again and again, while it lasts.

    One for a whole supervisor: however many have much to do, the loop goes on. A thing is taken out only after it was
    done, so one that an interrupt has struck is done again. On the loop's thread.

    Args:
        each_turn: Is called once before each turn: what need not be done for each thing.
        failed: Is called where something has failed, with the thing, or None; it is then done once more.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        each_turn: Callable[[], object],
        failed: Callable[[Any, Exception], object],
    ) -> None:
        self._loop = loop
        self._failed = failed
        self._each_turn = each_turn
        self._queues: deque[tuple[deque[Any], Callable[[Any], object], Callable[[], object]]] = deque()
        self._due = self._busy = False

    def __bool__(self) -> bool:
        """Whether anything is left to do."""
        return bool(self._queues)

    def add(self, queue: deque[T], do: Callable[[T], object], done: Callable[[], object] = lambda: None) -> None:
        """Has `do(thing)` called for each in a queue, which may grow meanwhile, and `done()` once it is empty."""
        self._queues.append((queue, do, done))
        if not self._due:
            self._due = True
            aside.call_soon(self._loop, self._take_turn)

    def go_on(self) -> None:
        """Does at once what fits into a turn; the rest comes by itself."""
        if not self._busy:
            self._take_turn()

    def _take_turn(self) -> None:
        try:
            self._due = self._busy = False
            if self._queues:
                self._work()
        except (KeyboardInterrupt, SystemExit):
            aside.call_soon(self._loop, self._take_turn)
            raise

    def _work(self) -> None:
        aside.call_soon(self._loop, self._take_turn)
        self._due = self._busy = True
        self._each_turn()
        until = monotonic() + TURN
        while self._queues:
            queue, do, done = self._queues[0]
            if queue:
                thing = queue[0]
                insist(partial(self._failed, thing), do, thing)
                if queue and queue[0] is thing:
                    queue.popleft()
                self._queues.rotate(-1)
            else:
                insist(partial(self._failed, None), done)
                self._queues.popleft()
            if monotonic() >= until:
                break
        self._busy = False

    def __repr__(self) -> str:
        return f"<Backlog: {[len(queue) for queue, _, _ in self._queues]}{', at work' if self._busy else ''}>"
