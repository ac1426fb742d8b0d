"""Asks many workers to stop, without holding the event loop up."""

from __future__ import annotations

import logging
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from .._loop import aside
from .._loop.clock import monotonic
from .._loop.errors import insist
from .._loop.inbox import TURN

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

    from .._observe.log import Log
    from .nodes import WorkerNode

__all__ = ["Asking"]


class Asking:
    """Asks the workers of `start()` to stop, as many as fit into one turn of the loop. On the loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, log: Log) -> None:
        self._loop = loop
        self._log = log
        self._nodes: deque[WorkerNode] = deque()

    def is_under_way(self) -> bool:
        """Whether some have not been asked yet."""
        return bool(self._nodes)

    def begin(
        self, nodes: Iterable[WorkerNode], ask: Callable[[WorkerNode], object], done: Callable[[], object]
    ) -> None:
        """Calls `ask(node)` for each of them, and then `done()`; each of these at least once, whatever it raises."""
        self._nodes = deque(nodes)
        self._take_turn(ask, done)

    def _failed(self, node: WorkerNode, error: Exception) -> None:
        self._log.write(logging.ERROR, "supervisor.fault", doing="ask", worker=node.name, exc_info=error)

    def _take_turn(self, ask: Callable[[WorkerNode], object], done: Callable[[], object]) -> None:
        if not self._nodes:
            try:
                done()
            except (KeyboardInterrupt, SystemExit):
                aside.call_soon(self._loop, self._take_turn, ask, done)
                raise
            return
        # First, so that an interrupt here leaves nobody unasked.
        aside.call_soon(self._loop, self._take_turn, ask, done)
        self._log.refresh()
        until = monotonic() + TURN
        while self._nodes and monotonic() < until:
            node = self._nodes[0]
            insist(partial(self._failed, node), ask, node)
            if self._nodes and self._nodes[0] is node:
                self._nodes.popleft()
