"""The time limits of tasks, which count from when a task has begun."""

from __future__ import annotations

from math import inf
from time import monotonic
from typing import TYPE_CHECKING

from .._loop import aside

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from .job import Job

__all__ = ["TimeLimits"]


class TimeLimits:
    """Looks at the tasks that run when the first of their limits passes: there are never many, and one timer does.

    Args:
        loop: The event loop in which it looks.
        soft: What is done at a soft limit.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, soft: Callable[[Job], object]) -> None:
        self._loop = loop
        self._soft = soft
        self._running: set[Job] = set()
        self._next = inf
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, job: Job) -> None:
        """A task has been accepted. Any thread."""
        if job.next_limit == inf:
            return
        self._running.add(job)
        if job.over:
            self._running.discard(job)
        elif job.next_limit < self._next:
            aside.call_soon_threadsafe(self._loop, self._look)

    def end(self, job: Job) -> None:
        """A task has ended. Any thread."""
        self._running.discard(job)

    def _look(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        # First said, then looked: a task that begins in between is seen, or sees that nobody waits for it.
        self._next = inf
        now = monotonic()
        running = self._running.copy()
        for job in running:
            limit = job.passed(now)
            if limit == "soft":
                self._soft(job)
            elif limit == "hard":
                self._running.discard(job)
                job.stop("time limit")
        self._next = min((job.next_limit for job in running), default=inf)
        if self._next < inf:
            self._timer = aside.call_later(self._loop, max(0.0, self._next - now), self._look)
