"""The runs of a pool on a cluster that wait for a node."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from ..._loop.clock import monotonic

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..._run.run import Run
    from .node import RemoteNode

__all__ = ["Waiting"]


class Waiting:
    """They, in the order in which they came. On the loop's thread.

    Each is taken out only once it waits no more: an interrupt in between has it looked at again.

    Args:
        find_place: Sends a run to one of some nodes, where one has room; returns whether it waits no more.
    """

    def __init__(self, find_place: Callable[[Run, list[RemoteNode]], bool]) -> None:
        self._find_place = find_place
        self._calls: deque[Run] = deque()
        self._choosy: deque[Run] = deque()  # workers, and calls that not every node may take

    def add(self, run: Run, *, choosy: bool) -> None:
        """Has a run wait; what is choosy holds nobody up."""
        (self._choosy if choosy else self._calls).append(run)

    def place(self, nodes: list[RemoteNode]) -> None:
        """Sends to nodes what they have room for."""
        while self._calls and self._find_place(self._calls[0], nodes):
            self._calls.popleft()
        for _ in range(len(self._choosy)):
            if not self._find_place(self._choosy[0], nodes):
                self._choosy.append(self._choosy[0])
            self._choosy.popleft()

    def refuse(self, problem: str, ended: Callable[[Run], object]) -> None:
        """Has all of them fail."""
        for waiting in (self._calls, self._choosy):
            while waiting:
                run = waiting[0]
                if not run.held and run.claim():
                    run.error = ConnectionError(problem)
                    run.started_at = run.ended_at = monotonic()
                    ended(run)
                waiting.popleft()
