"""What a client wants done, and only the event loop does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .protocol import ControlError, answer, failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from .protocol import Request

__all__ = ["Deed"]


class Deed:
    """One command on its way through the loop.

    Attributes:
        request: What is wanted.
        pid: Of the process that wants it.
        since: When it was handed to the loop, on the server's clock.
        done: The loop has done it, or has found out that it cannot be done. Written by the loop's thread.
    """

    def __init__(self, request: Request, pid: int, since: float, wake: Callable[[], object]) -> None:
        self.request = request
        self.pid = pid
        self.since = since
        self.done = False
        self._wake = wake
        self._data: dict[str, Any] = {}
        self._error: ControlError | None = None

    def conclude(self, data: dict[str, Any]) -> None:
        """It was done. On the loop's thread."""
        self._data = data
        self.done = True  # last: who sees this sees the rest
        self._wake()

    def fail(self, error: ControlError) -> None:
        """It cannot be done. On the loop's thread."""
        self._error = error
        self.done = True
        self._wake()

    def answer(self) -> bytes:
        """Returns the line that says what has become of it."""
        if self._error is None:
            return answer(self.request.id, self._data)
        self._error.id = self.request.id
        return failure(self._error)

    def blocked(self, seconds: float) -> bytes:
        """Returns the line that says that the loop has not come to it yet."""
        message = (
            f"the event loop has not come to a turn for {seconds:.1f} s: something blocks it; "
            f"{self.request.do} will still be done, as soon as it does"
        )
        more = {"blocked_for": round(seconds, 3)}
        return failure(ControlError("loop_blocked", message, of=self.request.id, more=more))
