"""What the user has said once and for all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .._core.cluster import ClusterSettings
    from .._core.control import Control
    from .._core.policy import EscalationPolicy
    from .._core.restart import OnExhausted, Strategy
    from ..config import Config
    from .pools import Pools
    from .shutdown import OnAbandoned

__all__ = ["Settings"]


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user has said once and for all; checked by the Supervisor."""

    name: str
    policy: EscalationPolicy | None
    shutdown_timeout: float
    drain: float
    pools: Pools
    process_start_timeout: float
    strategy: Strategy
    on_exhausted: OnExhausted
    on_abandoned: OnAbandoned
    wake_signal: int | None
    slow_after: float | None
    stall_after: float | None
    incidents: int
    origins: bool
    control: Control | None
    dump_signal: int | None
    cluster: ClusterSettings | None
    config: Config | None
    logger: Any
