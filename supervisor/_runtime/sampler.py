"""Looks at what those runs use that have limits, and has those stopped that use too much."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

from .._core.usage import seconds_until_excess
from .._loop.errors import insist

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._core.usage import Usage
    from .._loop.alarms import Alarms
    from .._observe.publisher import Publisher
    from .._run.limited import Limited
    from .._run.run import Run, WorkerKind

__all__ = ["Sampler"]

OFTEN, SELDOM = 0.05, 0.5
"""Seconds between two looks: where a limit is near, and at most."""

CPUS = os.cpu_count() or 1
"""On which what a run has started can use time at once."""

SHARE = 20
"""A look that takes so long is followed by a pause of so many times that: it costs the loop a twentieth at most."""


class Sampler:
    """All runs that have limits, which it looks at together, while there are any. On the loop's thread.

    Args:
        alarms: It sets alarms for itself, and `rung` is to be called when one rings.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        alarms: Alarms[Sampler],
        publisher: Publisher,
    ) -> None:
        self._clock = clock
        self._alarms = alarms
        self._publisher = publisher
        self._runs: dict[Run, Limited] = {}
        self._next_at: float | None = None  # None: no alarm is set, or an interrupt has struck while one rang

    @property
    def over(self) -> bool:
        """Whether there is nothing to be looked at."""
        return not self._runs

    def begin(self, run: Run) -> None:
        """A run that has limits begins: the CPU that its process has used before does not count."""
        limited = run.limited
        assert limited is not None
        if limited.limits.cpu_seconds is not None:
            [used] = run.kind.usages([run])
            if used is not None:
                limited.begin(used)
        self._runs[run] = limited
        self._look_in(OFTEN)

    def _look_in(self, seconds: float) -> None:
        at = self._clock() + seconds
        if self._next_at is None or at < self._next_at:
            self._alarms.set(at, self)
            self._next_at = at

    def rung(self) -> None:
        """Looks at all of them, unless this alarm has been replaced by another one."""
        if self._next_at is not None and self._clock() < self._next_at - OFTEN / 2:  # they ring a little early
            return
        self._next_at = None
        began, pause = self._clock(), SELDOM  # where a test holds the clock, a look takes no time
        try:
            for kind, runs in self._by_kind().items():
                for run, used in zip(runs, kind.usages(runs), strict=True):
                    if used is not None:
                        pause = min(pause, self._judge(run, used))
        finally:
            if self._runs:
                self._look_in(max(OFTEN, pause, SHARE * (self._clock() - began)))

    def _by_kind(self) -> dict[WorkerKind, list[Run]]:
        """Returns those that have not concluded, and forgets the others."""
        found: dict[WorkerKind, list[Run]] = {}
        for run in tuple(self._runs):
            if run.over:
                self._runs.pop(run, None)
            else:
                found.setdefault(run.kind, []).append(run)
        return found

    def _judge(self, run: Run, used: Usage) -> float:
        """Has a run stopped that uses too much; returns the seconds within which it need not be looked at again."""
        limited = self._runs[run]
        excess = limited.measured(used)
        if excess is None:
            return seconds_until_excess(limited.limits, limited.used, CPUS)
        if not limited.stopped:
            limited.excess = limited.excess or excess
            report = partial(self._publisher.fault, "limit", run.name)
            limited.stopped = insist(report, self._stop, run, limited)  # an interrupt in there has it done again
        return SELDOM

    def _stop(self, run: Run, limited: Limited) -> None:
        run.owner.stop(run, "limit", f"over its limit: {limited.excess}")
