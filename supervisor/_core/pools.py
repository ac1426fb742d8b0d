"""Pure: what is set for a pool, and the limits of its calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from .placement import ANYWHERE, Placement
from .values import checked_count, checked_seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from .policy import EscalationPolicy, Kind

__all__ = ["ANY_SIZE", "Limits", "On", "PoolSettings", "delay_after", "head_start", "lifetime_of_one"]

On: TypeAlias = Literal["cluster"] | None
"""Where calls run: on the nodes of a cluster; None: here."""

ANY_SIZE = 1_000_000
"""The size of a pool on a cluster where nobody has said it: as many calls at once as its nodes take."""

JITTER = 0.2
"""The share of a lifetime by which it may be shorter: those that begin together do not end together."""

AHEAD = 8
"""The next thread or process is prepared while one in so many calls of the present one are left."""

RETRY_DELAY, LONGEST_DELAY = 0.2, 10.0
"""Seconds after which another one is started in place of one that could not: at first, and at most; they double."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one call in a process, or one run of a worker, may use. One that uses more is stopped by its ladder.

    It then raises WorkerOverLimit. What is used is looked at every 0.05 s, or more rarely where a limit is too far away
    to be reached meanwhile. On Linux. Immutable.

    Attributes:
        rss: Bytes of memory, 1 or more, that its process and all descendants of that have resident together, what they
            had before the call included. None: without limit.
        cpu_seconds: Seconds of CPU, above 0, that these use from the beginning of the call on. None: without limit.

    Raises:
        TypeError, ValueError: An argument is wrong; the message names it.

    Example:
        >>> Limits(rss=512 << 20)
        Limits(rss=536870912, cpu_seconds=None)
        >>> Limits(rss=0)
        Traceback (most recent call last):
            ...
        ValueError: Limits(rss=0): must be 1 or more
    """

    rss: int | None = None
    cpu_seconds: float | None = None

    def __post_init__(self) -> None:
        if self.rss is not None:
            checked_count("Limits(rss={!r})", self.rss, least=1)
        if self.cpu_seconds is not None and not checked_seconds("Limits(cpu_seconds={!r})", self.cpu_seconds):
            raise ValueError(f"Limits(cpu_seconds={self.cpu_seconds!r}): must be more than 0 seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSettings:
    """What is set for a pool; checked by who makes it.

    Attributes:
        name: Its name; those of the two pools that are always there are their kinds'.
        kind: How its calls run.
        size: How many of them run at once.
        max_queued: How many more may wait; None: without bound.
        max_tasks: Calls after which a thread or process is replaced; None: never.
        max_lifetime: Seconds after which it is; each takes somewhat less, so that not all go at once. None: never.
        max_rss: Bytes that a process has resident after a call, above which it is replaced; None: never.
        idle_timeout: Seconds after which one that has nothing to do ends, down to `warm` of them. None: never.
        initializer: Is called once in each thread or process, before its first call.
        warm: How many are started before there is any call.
        policy: The ladder of its calls that have none of their own; None: that of their group.
        limits: What each of its calls may use, where the call says nothing else; None: no limits.
        slow_after: Seconds after which one of its calls that still runs is logged; infinite: never. None: what the
            supervisor says.
        on: Where its calls run: "cluster", or here.
        placement: Which nodes take its calls, where a call says nothing else. Only with `on`.
    """

    name: str
    kind: Kind
    size: int
    max_queued: int | None = None
    max_tasks: int | None = None
    max_lifetime: float | None = None
    max_rss: int | None = None
    idle_timeout: float | None = None
    initializer: Callable[[], object] | None = None
    warm: int = 0
    policy: EscalationPolicy | None = None
    limits: Limits | None = None
    slow_after: float | None = None
    on: On = None
    placement: Placement = ANYWHERE


def lifetime_of_one(most: float, dice: float) -> float:
    """Returns the seconds after which one thread or process of a pool is replaced; `dice` is from 0 to 1."""
    return most * (1 - JITTER * dice)


def head_start(max_tasks: int) -> int:
    """Returns how many of its calls are left to a thread or process, 1 or more, while the next one is prepared."""
    return max(1, max_tasks // AHEAD)


def delay_after(tries: int) -> float:
    """Returns the seconds until another one is started, where so many in a row, 1 or more, could not.

    Example:
        >>> delay_after(1), delay_after(3), delay_after(10_000)
        (0.2, 0.8, 10.0)
    """
    doublings = min(tries - 1, 10)  # a number without end is too large for a float
    return min(RETRY_DELAY * 2.0**doublings, LONGEST_DELAY)
