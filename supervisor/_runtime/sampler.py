"""Looks at what those runs use that have limits, and has those stopped that use too much."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .._core.usage import seconds_until_excess
from .._loop.clock import Timer, call_at, monotonic
from .._loop.errors import insist

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from .._core.usage import Usage
    from .._observe.publisher import Publisher
    from .._run.limited import Limited
    from .._run.run import Run, WorkerKind
    from .escalation import Escalation

__all__ = ["Sampler"]

OFTEN, SELDOM = 0.05, 0.5
"""Seconds between two looks: where a limit is near, and at most."""

SHARE = 20
"""A look that takes so long is followed by a pause of so many times that: it costs the loop a twentieth at most."""


class Sampler:
    """All runs that have limits, with one timer of the loop, while there are any. On the loop's thread."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        publisher: Publisher,
        escalation: Escalation,
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._publisher = publisher
        self._escalation = escalation
        self._runs: dict[Run, Limited] = {}
        self._timer: Timer | None = None
        self._timer_at = 0.0
        self._cpus = os.cpu_count() or 1

    def begin(self, run: Run) -> None:
        """A run that has limits begins: what its process has used before does not count."""
        limited = run.limited
        assert limited is not None
        [used] = run.kind.usages([run])
        if used is not None:
            limited.begin(used)
        self._runs[run] = limited
        self._arm(OFTEN)

    def _arm(self, seconds: float) -> None:
        at = self._clock() + seconds
        if self._timer is not None:
            if self._timer_at <= at:
                return
            self._timer.cancel()
        self._timer_at = at
        self._timer = call_at(self._loop, self._clock, at, self._look)

    def _look(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        began = monotonic()
        pause = SELDOM
        try:
            kinds: dict[WorkerKind, list[Run]] = {}
            for run in tuple(self._runs):
                if run.over:
                    del self._runs[run]
                else:
                    kinds.setdefault(run.kind, []).append(run)
            for kind, runs in kinds.items():
                for run, used in zip(runs, kind.usages(runs), strict=True):
                    if used is not None:
                        pause = min(pause, self._pause_after(run, used))
        finally:
            if self._runs:
                self._arm(max(OFTEN, pause, SHARE * (monotonic() - began)))

    def _pause_after(self, run: Run, used: Usage) -> float:
        """Judges what a run uses; returns the seconds within which it need not be looked at again."""
        limited = self._runs[run]
        excess = limited.measured(used)
        if excess is None:
            return seconds_until_excess(limited.limits, limited.used, self._cpus)
        if limited.excess is None:
            limited.excess = excess
            insist(lambda error: self._publisher.fault("limit", run.name, error), self._stop, run)
        return SELDOM

    def _stop(self, run: Run) -> None:
        limited = self._runs[run]
        run.owner.stop(run, "limit", f"over its limit: {limited.excess}")
