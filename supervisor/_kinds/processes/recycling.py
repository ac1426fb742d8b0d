"""When a process has served its time, by what is set for its pool."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from ..._core.pools import head_start, lifetime_of_one
from .usage import rss

if TYPE_CHECKING:
    from ..._core.pools import PoolSettings

__all__ = ["Due", "Recycling", "Service"]


class Due(IntEnum):
    """How urgent it is to replace a process."""

    NOT = 0
    SOON = 1  # another is started
    ONCE_REPLACED = 2  # it goes on until the other one is ready
    NOW = 3  # it takes no further call


@dataclass(slots=True)
class Service:
    """What a process has done for its pool, and for how much longer it may.

    Attributes:
        tasks: How many calls it has carried out.
        share: How much of its time it has, up to 1: those that begin together do not end together.
        max_tasks: After how many calls it is replaced.
        expires_at: When it is, on the loop's clock.
        due: Whether it is to be replaced; only rises.
        idle_since: Since when it has had nothing to do, on the loop's clock.
    """

    tasks: int = 0
    share: float = 1.0
    max_tasks: int | None = None
    expires_at: float = math.inf
    due: Due = Due.NOT
    idle_since: float = 0.0


class Recycling:
    """Judges processes between two of their calls. False where nothing is set by which they are replaced."""

    def __init__(self, settings: PoolSettings) -> None:
        self._max_tasks = settings.max_tasks
        self._max_lifetime = settings.max_lifetime
        self._max_rss = settings.max_rss

    def __bool__(self) -> bool:
        return not (self._max_tasks is self._max_lifetime is self._max_rss is None)

    def begin(self, service: Service, now: float) -> None:
        """A process begins to take calls."""
        if self._max_tasks is not None:
            service.max_tasks = math.ceil(self._max_tasks * service.share)
            _judge_tasks(service, service.max_tasks)
        if self._max_lifetime is not None:
            seconds = lifetime_of_one(self._max_lifetime, random.random())  # noqa: S311  # no secret
            service.expires_at = now + seconds * service.share

    def judge(self, service: Service, pid: int, now: float, *, alone: bool) -> None:
        """Judges a process that has nothing to do.

        Args:
            service: What it has done.
            pid: The process.
            now: On the loop's clock.
            alone: No other is missing, so that it may leave before another is ready.
        """
        if service.max_tasks is not None:
            _judge_tasks(service, service.max_tasks)
        if now >= service.expires_at:
            service.due = max(service.due, Due.ONCE_REPLACED)
        if self._max_rss is not None and (rss(pid) or 0) > self._max_rss:
            service.due = Due.NOW if alone else max(service.due, Due.ONCE_REPLACED)


def _judge_tasks(service: Service, max_tasks: int) -> None:
    left = max_tasks - service.tasks
    if left <= 0:
        service.due = Due.NOW
    elif left <= head_start(max_tasks):
        service.due = max(service.due, Due.SOON)
