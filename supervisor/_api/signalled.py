"""The body of `async with Supervisor(signals=True)`, which a signal ends."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .._loop import aside

if TYPE_CHECKING:
    import signal

    from .._runtime.runtime import Runtime

__all__ = ["SignalledBody"]

HEAD_START = 0.1
"""Seconds that the body has to be left before the shutdown begins all the same.

So the tasks in it end by the cancellation, and not by the errors that a shutdown has for those who wait for a call.
"""


class SignalledBody:
    """Cancels the task that has entered the block at each signal, until the block is left. On the loop's thread."""

    def __init__(self, runtime: Runtime) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._runtime = runtime
        self._task = task
        self._cancelled_before = task.cancelling()
        self._cancellations = 0
        self._left = False

    def signalled(self, number: signal.Signals) -> None:
        """A signal has come: cancels the body, and begins the shutdown, at the latest in a moment."""
        runtime = self._runtime
        if self._left:
            return
        self._cancellations += 1
        self._task.cancel(f"supervisor {runtime.settings.name!r}: {number.name}")
        aside.call_later(runtime.loop, HEAD_START, runtime.teardown.begin, runtime.root)

    def leave(self, error: BaseException | None) -> bool:
        """The block is being left; returns whether that is by our cancellation alone, which goes no further."""
        self._left = True
        cancelling = self._task.cancelling()
        for _ in range(self._cancellations):
            cancelling = self._task.uncancel()
        ours = self._cancellations > 0 and cancelling <= self._cancelled_before
        return ours and isinstance(error, asyncio.CancelledError)
