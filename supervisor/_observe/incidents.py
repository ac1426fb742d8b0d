"""The last failures and stops of one supervisor, as texts that hold nothing of what has failed."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from .._core.incident import Incident, error_text, is_incident, stack_to_keep
from .._core.outcome import Outcome, cut
from .._worker.locks import ScopedLock

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._run.run import Run

__all__ = ["Incidents"]


class Incidents:
    """Keeps the last incidents of one supervisor. Any thread.

    Args:
        clock: The loop's.
        most: How many are kept.
    """

    def __init__(self, clock: Callable[[], float], most: int) -> None:
        self._clock = clock
        self._most = most
        self._kept: dict[int, Incident] = {}  # by the number of the run, which an interrupt may have end twice
        self._lock = ScopedLock()  # a signal handler may come in between

    def note(self, run: Run, outcome: Outcome) -> None:
        """Keeps the end of a run, where it is an incident. Idempotent."""
        climb = run.climb
        if not self._most or not is_incident(outcome.ended, None if climb is None else climb.cause):
            return
        incident = Incident(
            worker=run.name,
            kind=run.kind.name,
            role="worker" if run.own else "call",
            ended=outcome.ended,
            pool=None if run.own else run.kind.settings.name,
            group=run.scope.name or None,
            attempt=outcome.attempt,
            reason=None if climb is None else cut(climb.reason),
            step=outcome.step,
            error=error_text(outcome),
            stack=stack_to_keep(outcome.stack),
            elapsed=max(0.0, self._clock() - run.submitted_at),
            at=time.time(),
            submitted_from=run.submitted_from,
            node=None if run.place is None else run.place.node,
        )
        with self._lock:
            self._kept[run.number] = incident
            if len(self._kept) > self._most:
                del self._kept[next(iter(self._kept))]

    def note_failure(self, run: Run) -> None:
        """Keeps the end of a call that has raised an error, and of which nobody makes an outcome. Idempotent."""
        if self._most:
            self.note(run, Outcome(run.name, run.kind.name, ended="failed", error=run.error))

    def came_back(self, number: int) -> None:
        """A run that was abandoned has ended after all."""
        with self._lock:
            incident = self._kept.get(number)
            if incident is not None and incident.late_end is None:
                self._kept[number] = replace(incident, late_end=time.time())

    def of(self, group: str = "") -> tuple[Incident, ...]:
        """Returns those of a group and of the groups in it, by its name, the newest last; without one, all."""
        with self._lock:
            kept = tuple(self._kept.values())
        within = f"{group}/"
        return tuple(one for one in kept if not group or f"{one.group}/".startswith(within))
