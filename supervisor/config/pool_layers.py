"""Pure: what a configuration says of a pool."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .._core.policy import EscalationPolicy
    from .._core.pools import Limits, PoolSettings

__all__ = ["PoolLayer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLayer:
    """What holds for the pool of a name, whatever the code says.

    Attributes:
        name: The name of the pool; "thread" and "process" are those of the pools that are always there.
        size, max_queued, max_tasks, max_lifetime, max_rss, idle_timeout, warm, policy, limits, slow_after: As in
            `Supervisor.pool`; None where the layer does not say.

    Example:
        >>> from supervisor.config import load
        >>> config = load({"pools": {"gpu": {"size": 2, "warm": 1}}}, environ={})
        >>> config.pool("gpu").said()
        {'size': 2, 'warm': 1}
    """

    name: str
    size: int | None = None
    max_queued: int | None = None
    max_tasks: int | None = None
    max_lifetime: float | None = None
    max_rss: int | None = None
    idle_timeout: float | None = None
    warm: int | None = None
    policy: EscalationPolicy | None = None
    limits: Limits | None = None
    slow_after: float | None = None

    def said(self) -> dict[str, Any]:
        """Returns what it says, by the names of the settings."""
        values = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "name"}
        return {name: value for name, value in values.items() if value is not None}

    def over(self, settings: PoolSettings) -> PoolSettings:
        """Returns the settings of the pool with what this says in their place."""
        return replace(settings, **self.said())
