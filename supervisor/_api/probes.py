"""What a scope answers to the probes of a platform."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .._core.report import Health
from .._runtime.health import SHUTTING_DOWN

if TYPE_CHECKING:
    from .._runtime.nodes import GroupNode
    from .binding import Binding

__all__ = ["health_by_default"]


def health_by_default(
    binding: Binding,
    scope: GroupNode,
    max_abandoned: int | None = None,
    max_exhausted: int = 0,
    max_failed: int | None = None,
) -> Health:
    """Returns whether a scope takes work, and can go on; see `Supervisor.health`. Any thread."""
    runtime, name = binding.runtime, scope.name or binding.settings.name
    if binding.lost is not None:
        return Health(name, ready=False, live=False, reasons=(binding.lost,))
    asked = scope.shutdown.asked is not None
    if runtime is None:
        return Health(name, ready=not asked, live=True, reasons=(SHUTTING_DOWN,) if asked else ())
    return runtime.snapshot.health(
        scope,
        max_abandoned=binding.settings.pools["thread"].size if max_abandoned is None else max_abandoned,
        max_exhausted=max_exhausted,
        max_failed=math.inf if max_failed is None else max_failed,
    )
