"""Pure: what a platform gives a process to end, and which ladders take longer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .._core.stop_order import drain_within
from .schema import PLATFORMS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .._core.policy import EscalationPolicy, Kind

__all__ = ["OverBudget", "Platform", "over_budget"]

SLACK = 0.25
"""Seconds that a shutdown may take beyond its ladders; `Supervisor.shutdown` promises it."""


@dataclass(frozen=True, slots=True)
class Platform:
    """What the platform gives a process from SIGTERM to SIGKILL, in seconds; None where it was not said.

    Attributes:
        kubernetes: `terminationGracePeriodSeconds`.
        docker: `--stop-timeout`, or `stop_grace_period`.
        systemd: `TimeoutStopSec`.
        gunicorn: `--graceful-timeout`.
        other: That of any other.
        reserve: Seconds of these that are not the supervisor's.
    """

    kubernetes: float | None = None
    docker: float | None = None
    systemd: float | None = None
    gunicorn: float | None = None
    other: float | None = None
    reserve: float = 0.0

    def limits(self) -> dict[str, float]:
        """Returns the seconds by platform, of those that were said.

        Example:
            >>> Platform(docker=10, reserve=2).limits()
            {'docker': 10}
        """
        said = {name: getattr(self, name) for name in PLATFORMS}
        return {name: seconds for name, seconds in said.items() if seconds is not None}


@dataclass(frozen=True, slots=True)
class OverBudget:
    """A ladder that takes longer than a platform gives.

    Attributes:
        pattern: Whose it is; "*": that of all workers that no layer has one for.
        kind: For which kind of worker.
        ladder: Seconds of the ladder; `math.inf` has no end of its own.
        seconds: What a shutdown may take for it: the drain and the ladder, or `shutdown_timeout` where that is
            infinite, and 0.25 s.
        platform: Which platform.
        given: Seconds that it gives.
        reserve: Seconds of these that are not the supervisor's.
        shrunk_to: `shutdown_timeout`, where it is shorter than the ladder; else None.
        drain: Seconds for which calls go on before.

    Example:
        >>> from supervisor.config import load
        >>> [over] = load({"platform": {"docker": 10}}, environ={}).over_budget("process")
        >>> print(over)
        a process's ladder may take 12.25 s, but docker gives 10 s (--stop-timeout, or stop_grace_period)
    """

    pattern: str
    kind: Kind
    ladder: float
    seconds: float
    platform: str
    given: float
    reserve: float
    shrunk_to: float | None = None
    drain: float = 0.0

    def __str__(self) -> str:
        but = f", of which {self.reserve:g} s are in reserve" if self.reserve else ""
        after = f", after a drain of {self.drain:g} s," if self.drain else ""
        text = (
            f"a {self.kind}'s ladder{after} may take {self.seconds:g} s, but {self.platform} gives {self.given:g} s "
            f"({PLATFORMS[self.platform]}){but}"
        )
        return text if self.shrunk_to is None else f"{text}; a shutdown shrinks the ladder to {self.shrunk_to:g} s"


def over_budget(
    ladders: Mapping[str, EscalationPolicy], kind: Kind, shutdown_timeout: float, drain: float, platform: Platform
) -> Iterator[OverBudget]:
    """Finds the ladders, by their patterns, that take longer for workers of a kind than what the platform gives."""
    drained = drain_within(shutdown_timeout, drain)
    for pattern, ladder in ladders.items():
        budget = ladder.budget(kind)
        seconds = (shutdown_timeout if math.isinf(budget) else drained + budget) + SLACK
        shrunk_to = shutdown_timeout if shutdown_timeout < budget else None
        for name, given in platform.limits().items():
            if seconds + platform.reserve > given:
                yield OverBudget(pattern, kind, budget, seconds, name, given, platform.reserve, shrunk_to, drained)
