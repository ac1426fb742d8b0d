"""What a run carries that has limits."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from .._core.usage import Excess, Usage, excess_of

if TYPE_CHECKING:
    from .._core.pools import Limits

__all__ = ["Limited"]

OVER_CPU: int = getattr(signal, "SIGXCPU", 0)
"""What the kernel ends a process by that has used more CPU than it may."""


class Limited:
    """The limits of a run, and what it has used. On the loop's thread.

    Attributes:
        limits: What it may use.
        patience: The seconds that its ladder takes where it uses more.
        excess: Which limit it has exceeded; the first one stays.
        stopped: It is being stopped for that.
    """

    __slots__ = ("_before", "_used", "excess", "limits", "patience", "stopped")

    def __init__(self, limits: Limits, patience: float) -> None:
        self.limits = limits
        self.patience = patience
        self.excess: Excess | None = None
        self.stopped = False
        self._before = 0.0  # seconds of CPU that its process had used before it
        self._used = Usage(0, 0.0)

    @property
    def used(self) -> Usage:
        """What it has used, as far as is known."""
        return self._used

    def begin(self, used: Usage) -> None:
        """Its process has used so much before it."""
        self._before = used.cpu_seconds

    def measured(self, used: Usage) -> Excess | None:
        """Takes note of what its process uses now; returns which limit that exceeds, if any.

        Seconds of CPU never become fewer: those of a descendant whose parent did not wait for it are gone with it.
        """
        seconds = max(self._used.cpu_seconds, used.cpu_seconds - self._before)
        self._used = Usage(used.rss, seconds)
        return excess_of(self.limits, self._used)

    def is_exceeded_by(self, rss: int | None) -> bool:
        """Whether a process that has so many bytes resident, where that is known, would be over the limit at once."""
        most = self.limits.rss
        return most is not None and rss is not None and rss > most

    def ended(self, cpu_seconds: float | None) -> None:
        """Its process has ended, and has used so much CPU, where that is known."""
        if cpu_seconds is not None:
            self._used = Usage(self._used.rss, max(self._used.cpu_seconds, cpu_seconds - self._before))

    def died(self, exit_code: int | None) -> None:
        """Its process has ended by itself: perhaps the kernel has ended it for using too much CPU, and for no other."""
        allowed, used = self.limits.cpu_seconds, self._used.cpu_seconds
        if allowed is not None and used > allowed and exit_code == -OVER_CPU and self.excess is None:
            self.excess = Excess("cpu_seconds", allowed, used)
