"""In a worker process of which it was said for how long it may go on without hearing of its owner."""

from __future__ import annotations

import select
import time

__all__ = ["hears_in_time"]

ONCE_MORE = 0.5
"""Seconds for which it listens once more at the end: it may have stood still itself, together with its owner."""


def hears_in_time(fd: int, until: float) -> bool:
    """Waits until there is something to be read, or a moment of the clock that goes on in a machine's sleep."""
    listening = select.poll()
    listening.register(fd, select.POLLIN)
    while (left := until - _now()) > 0:
        if listening.poll(left * 1000):
            return True
    return bool(listening.poll(ONCE_MORE * 1000))


def _now() -> float:
    """The clock of the node that says until when; see `supervisor._node.watch`."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()
