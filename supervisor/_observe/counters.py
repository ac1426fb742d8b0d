"""What becomes of the workers of one supervisor, in numbers. No call is watched for that: it costs one addition."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import TYPE_CHECKING, TypeAlias

from .._worker.locks import ScopedLock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._core.outcome import Ended, Outcome, WorkerState
    from .._core.policy import StepName
    from .._run.run import Run

__all__ = ["Counters", "Key", "Stops", "role_of"]

Key: TypeAlias = tuple[str, ...]
"""What is counted apart: a kind ("thread", "process"), a role ("call", "worker", "group"), and so on."""

Stops: TypeAlias = tuple[tuple[int, ...], float]
"""How many stops took up to each bound, and longer than the last one; and the sum of their seconds."""


class Counters:
    """Counts from the moment at which it is added to the subscribers of a supervisor.

    The counts only grow. They are written under a lock, on the loop's thread and where a call ends; any thread may read
    them, without that lock, as each is replaced in one piece.

    Attributes:
        transitions: By kind, role and new state: the changes of states, but for those of calls in `unseen`.
        escalations: By kind and step: the steps that have begun.
        exits: By kind, role and ending: the runs that have ended, but for those in `unseen`.
        pool_exits: By pool and ending: the calls that have ended.
        unseen: By kind, ending and whether it was entered: the calls that have ended without a transition.
        restarts: By role: the restarts.
        exhausted: By role: those that were given up.
        bounds: The upper bounds of `stops`, in seconds.
        stops: By kind: how long it took those to end that were stopped.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.transitions: Counter[Key] = Counter()
        self.escalations: Counter[Key] = Counter()
        self.exits: Counter[Key] = Counter()
        self.pool_exits: Counter[Key] = Counter()
        self.unseen: Counter[tuple[str, Ended, bool]] = Counter()
        self.restarts: Counter[str] = Counter()
        self.exhausted: Counter[str] = Counter()
        self.stops: dict[str, Stops] = {}
        self._lock = ScopedLock()  # a finalizer may come in between, and end a call

    def call_ended(self, run: Run, ended: Ended) -> None:
        """A call has ended for which no transition is published. Any thread."""
        with self._lock:
            self.unseen[run.kind.name, ended, run.started_at > 0] += 1
            self.pool_exits[run.kind.settings.name, ended] += 1

    def transition(
        self, run: Run, old: WorkerState | None, new: WorkerState, step: StepName | None, outcome: Outcome | None
    ) -> None:
        """A run has changed its state, or a step has begun. On the loop's thread."""
        kind, role = run.kind.name, role_of(run)
        with self._lock:
            if new == "ended" and not run.watched:  # what came before was not published
                self.transitions[kind, role, "queued"] += 1
                self.transitions[kind, role, "running"] += run.started_at > 0
            if old != new:
                self.transitions[kind, role, new] += 1
            if outcome is None:
                if step is not None:
                    self.escalations[kind, step] += 1
                return
            self.restarts[role] += new == "backing_off"
            if old == "backing_off":
                return  # between two runs: the end of the last one has been counted
            self.exits[kind, role, outcome.ended] += 1
            if not run.own:
                self.pool_exits[run.kind.settings.name, outcome.ended] += 1
            if outcome.step is not None:
                self._stopped(kind, outcome.stop_seconds)

    def group_restarted(self) -> None:
        """A group is started again. On the loop's thread."""
        with self._lock:
            self.restarts["group"] += 1

    def given_up(self, role: str) -> None:
        """A worker or a group has failed too often. On the loop's thread."""
        with self._lock:
            self.exhausted[role] += 1

    def _stopped(self, kind: str, seconds: float) -> None:
        counts, total = self.stops.get(kind) or ((0,) * (len(self.bounds) + 1), 0.0)
        place = bisect_left(self.bounds, seconds)
        self.stops[kind] = (*counts[:place], counts[place] + 1, *counts[place + 1 :]), total + seconds


def role_of(run: Run) -> str:
    return "worker" if run.own else "call"
