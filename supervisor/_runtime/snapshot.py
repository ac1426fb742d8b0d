"""What there is in a supervisor at this moment. Any thread."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, cast

from .._core.report import Statistics
from .._loop.clock import moment_on
from .._worker.locks import ScopedLock
from .health import health_of
from .names import full_name
from .nodes import WorkerNode
from .standing import stacks_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .._core.outcome import WorkerState
    from .._core.report import Health
    from .._observe.counters import Key
    from .._run.run import Handle, Run
    from .kinds import Kinds
    from .losses import Losses
    from .names import Names
    from .nodes import GroupNode
    from .tree import Tree

__all__ = ["Snapshot"]


class Snapshot:
    """Looks at what has not ended. Any thread.

    Args:
        supervisor: Its name.
        clock: The loop's clock.
        abandoned: The runs that were given up and have not come back, by their numbers.
        losses: The workers and groups that were given up, and the workers that have failed.
        new_handle: Makes what users hold of a call.
    """

    def __init__(
        self,
        supervisor: str,
        clock: Callable[[], float],
        kinds: Kinds,
        names: Names,
        tree: Tree,
        abandoned: Mapping[int, Run],
        losses: Losses,
        new_handle: Callable[[Run], Handle],
    ) -> None:
        self._supervisor = supervisor
        self._clock = clock
        self._kinds = kinds
        self._names = names
        self._tree = tree
        self._abandoned = abandoned
        self._losses = losses
        self._new_handle = new_handle
        self._handles = ScopedLock()  # a signal handler may come in between

    def live(self) -> list[Run]:
        """Returns the present runs of all workers, and the calls, that have not concluded, oldest first."""
        runs = [node.run for node in list(self._tree.workers.values())]
        return sorted((run for run in runs + self._kinds.calls() if not run.over), key=lambda run: run.number)

    def handles(self, scope: GroupNode) -> list[Handle]:
        """Returns the handles of all in a scope that has not ended, the oldest first."""
        numbered = [(node.number, node.worker) for node in self._tree.workers_in(scope)]
        handles = ((run.number, self.handle(run)) for run in self._kinds.calls_in(scope))
        numbered += [(number, handle) for number, handle in handles if handle is not None]
        return [handle for _, handle in sorted(numbered, key=lambda item: item[0])]

    def stacks(self, scope: GroupNode) -> dict[str, str]:
        """Returns where all in a scope that runs stands, by its name, the oldest first."""
        runs = [(node.number, node.run) for node in self._tree.workers_in(scope)]
        runs += [(run.number, run) for run in self._kinds.calls_in(scope)]
        names = {run.number: run.name for _, run in sorted(runs, key=lambda item: item[0])}
        stacks = stacks_of(run for _, run in runs)
        return {name: stacks[number] for number, name in names.items() if number in stacks}

    def named(self, scope: GroupNode, name: str) -> Handle | None:
        """Returns the handle of a live worker or call of a scope, by its name there or by its full name."""
        full = name if not scope.name or name.startswith(f"{scope.name}/") else ""
        for candidate in dict.fromkeys((full_name(scope, name), full)):
            found = self._names.find(candidate)
            if isinstance(found, WorkerNode):
                return found.worker
            if found is not None and (handle := self.handle(found)) is not None:
                return handle
        return None

    def handle(self, run: Run) -> Handle | None:
        """Returns the handle of a run; None where it has concluded."""
        with self._handles:
            if run.worker is None:
                run.worker = self._new_handle(run)
        # Who concludes a run first sets `over` and then looks for a handle: one of the two sees the other.
        return None if run.over else run.worker

    def census(self, scope: GroupNode) -> Counter[Key]:
        """Counts what has not ended in a scope, by kind, role and state."""
        calls: list[Key] = [(run.kind.name, "call", run.state_name) for run in self._kinds.calls_in(scope)]
        nodes: list[Key] = [(node.kind.name, "worker", node.worker.state) for node in self._tree.workers_in(scope)]
        return Counter(key for key in calls + nodes if key[2] != "ended")

    def statistics(self, scope: GroupNode) -> Statistics:
        """Counts. The threads and processes, and what was abandoned, are those of the whole supervisor alone."""
        states: Counter[WorkerState] = Counter()
        for (_, _, state), number in self.census(scope).items():
            states[cast("WorkerState", state)] += number
        if scope is not self._tree.root:
            stopping = scope.shutdown.begun or scope.gone
            failed = len(self._losses.failed_in(scope))
            return Statistics(
                scope.name, workers=dict(states), queued=states["queued"], failed=failed, stopping=stopping
            )
        alive = Counter[str]()
        for kind in self._kinds:
            if kind.settings.on is None:
                alive[kind.name] += kind.alive
        return Statistics(
            self._supervisor,
            workers=dict(states),
            queued=states["queued"],
            threads=alive["thread"],
            processes=alive["process"],
            abandoned=len(self._abandoned),
            failed=len(self._losses.failed_in(scope)) + self._losses.forgotten,
            stopping=scope.shutdown.begun,
            pools=self._kinds.statistics(tuple(self._abandoned.values())),
            nodes=self._kinds.nodes,
        )

    def oldest(self) -> dict[str, tuple[float, float]]:
        """Returns for how long the oldest call of each pool has been running, and waiting; 0: there is none."""
        return {kind.settings.name: self._oldest_of(list(kind.calls.values())) for kind in self._kinds}

    def _oldest_of(self, calls: list[Run]) -> tuple[float, float]:
        now = self._clock()
        running = min((run.started_at for run in calls if run.started_at and not run.ended_at), default=None)
        queued = min((run.submitted_at for run in calls if run.state_name == "queued"), default=now)
        since = now if running is None else moment_on(self._clock, running)
        return max(0.0, now - since), max(0.0, now - queued)

    def health(self, scope: GroupNode, *, max_abandoned: int, max_exhausted: int, max_failed: float) -> Health:
        """Returns whether a scope takes work, and whether it can go on; see `health_of`."""
        return health_of(
            scope.name or self._supervisor,
            scope,
            self._tree,
            tuple(self._abandoned.values()),
            tuple(self._losses.exhausted),
            [loss.outcome.worker for loss in self._losses.failed_in(scope)],
            self._kinds.unready() if scope is self._tree.root else {},
            max_abandoned=max_abandoned,
            max_exhausted=max_exhausted,
            max_failed=max_failed,
        )
