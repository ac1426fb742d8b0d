"""Time that the loop may stand still for something, all in all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..._loop.clock import monotonic

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Allowance"]


class Allowance:
    """So many seconds of each window: who is given nothing of them must do without. On the loop's thread.

    `with allowance as seconds:` says how many are left, 0 or more, and counts those that the block takes.
    """

    def __init__(self, seconds: float, window: float) -> None:
        self._seconds = seconds
        self._window = window
        self._since = self._taken = self._entered_at = 0.0

    def __enter__(self) -> float:
        self._entered_at = monotonic()
        if self._entered_at >= self._since + self._window:
            self._since, self._taken = self._entered_at, 0.0
        return max(0.0, self._seconds - self._taken)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._taken += monotonic() - self._entered_at
