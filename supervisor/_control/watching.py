"""What a client sees of all that happens, as far as it reads quickly enough."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from .protocol import line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .ports import Port

__all__ = ["Watch"]

MOST_WAITING = 1000
"""Events that wait for a slow client; beyond them the oldest is lost, and counted."""


class Watch:
    """What one client watches.

    Args:
        number: The id of the request.
        wake: Has the server look here; called by the loop's thread.
    """

    def __init__(self, number: int | str | None, port: Port, wake: Callable[[], object]) -> None:
        self.id = number
        self._port = port
        self._wake = wake
        self._waiting: deque[Any] = deque()
        self._lost = 0
        self._end: Callable[[], object] | None = None

    def begin(self, *, matching: str, calls: bool) -> None:
        self._end = self._port.watch(self._hear, matching=matching, calls=calls)

    def end(self) -> None:
        end, self._end = self._end, None
        if end is not None:
            end()

    def _hear(self, heard: Any) -> None:
        """On the loop's thread. Loses the oldest where the client is slow."""
        waiting = self._waiting
        if len(waiting) >= MOST_WAITING:
            try:
                waiting.popleft()
                self._lost += 1
            except IndexError:
                pass  # the server has taken all of them meanwhile
        waiting.append(heard)
        self._wake()

    def lines(self) -> Iterator[bytes]:
        """Gives what has come since, as lines. In the server's thread."""
        lost, self._lost = self._lost, 0
        if lost:
            yield line(self.id, dropped=lost)
        for _ in range(MOST_WAITING):
            try:
                heard = self._waiting.popleft()
            except IndexError:
                return
            event = self._port.event_of(heard)
            if event is not None:
                yield line(self.id, event=event)

    def last_line(self) -> bytes:
        """Returns the line with which it ends: the report, or null where the supervisor has ended without one."""
        return line(self.id, report=self._port.report())
