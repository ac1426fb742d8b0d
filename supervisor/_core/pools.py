"""Pure: what is set for a pool, and the limits of its calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from .policy import EscalationPolicy, Kind

__all__ = ["Limits", "PoolSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one call may use at most. None: as much as there is.

    Attributes:
        rss: Bytes of memory that its process, and the descendants of that, have resident.
        cpu_seconds: Seconds of CPU that these have used for it.

    Example:
        >>> Limits(rss=512 << 20)
        Limits(rss=536870912, cpu_seconds=None)
    """

    rss: int | None = None
    cpu_seconds: float | None = None


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
