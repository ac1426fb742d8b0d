"""What a supervisor has lost, and nobody has replaced: for as long as that is so, reports and probes say it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .._core.errors import RestartLimitExceeded
from .._core.outcome import without_objects
from .nodes import WorkerNode
from .scopes import PoolScope, holds_run

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .._core.outcome import Outcome
    from .._run.run import Run
    from .nodes import GroupNode, Node
    from .scopes import AnyScope

__all__ = ["Loss", "Losses"]

REMEMBERED = 1000
"""How many workers and groups that were given up are remembered, and how many workers that have failed."""


class Loss(NamedTuple):
    """A worker that has failed.

    Attributes:
        number: Its number.
        scope: What it was in.
        outcome: How it ended.
    """

    number: int
    scope: GroupNode
    outcome: Outcome


class Losses:
    """Remembers losses until others have the names of what was lost. On the loop's thread; any thread may read.

    Attributes:
        exhausted: The names of the workers and groups that were given up alone.
        failed: The workers that have failed, or died, for good, by their names.
        forgotten: How many more there were.
    """

    def __init__(self) -> None:
        self.exhausted: dict[str, None] = {}
        self.failed: dict[str, Loss] = {}
        self.forgotten = 0
        self._failed_in: dict[GroupNode, dict[str, Loss]] = {}  # the same by scope, also those in groups of that

    # ------------------------------------------------------------------------------------ what is lost

    def give_up(self, node: Node) -> bool:
        """Remembers that a worker or group was given up alone; returns whether that is new."""
        new = node.name not in self.exhausted
        self.exhausted[node.name] = None
        if len(self.exhausted) > REMEMBERED:
            del self.exhausted[next(iter(self.exhausted))]
        return new

    def note(self, node: WorkerNode) -> None:
        """Remembers a worker that has ended for good, if it has failed. Idempotent.

        Where it failed before it was started, whoever has called `start()` got the error.
        """
        final = node.final
        if final is None or not node.started or not _is_failure(final):
            return
        self.failed[node.name] = loss = Loss(node.number, node.group, without_objects(final))
        for scope in node.groups:
            self._failed_in.setdefault(scope, {})[node.name] = loss
        if len(self.failed) > REMEMBERED:
            self.forgotten += 1
            self._forget(next(iter(self.failed)))

    # ------------------------------------------------------------------------------------ what is replaced

    def replaced(self, name: str) -> None:
        """A worker or a group has this name now, or comes in the place of the worker that had it."""
        self.exhausted.pop(name, None)
        self._forget(name)

    def closed(self, group: GroupNode) -> None:
        """A group has ended for good: it counts itself, or was shut down. Its own report says what was lost in it."""
        within = f"{group.name}/"
        for name in [name for name in self.exhausted if name.startswith(within)]:
            del self.exhausted[name]
        if group.shutdown.begun:
            for name in tuple(self._failed_in.get(group, ())):
                self._forget(name)

    def _forget(self, name: str) -> None:
        """Removes a worker that has failed. Idempotent."""
        loss = self.failed.get(name)
        if loss is None:
            return
        for scope in loss.scope.around:
            inside = self._failed_in.get(scope, {})
            inside.pop(name, None)
            if not inside:
                self._failed_in.pop(scope, None)
        self.failed.pop(name, None)  # last: an interrupt before that has all of it done again

    # ------------------------------------------------------------------------------------ what there is

    def failed_in(self, scope: GroupNode) -> list[Loss]:
        """Returns the workers of a scope that have failed, the oldest first. Any thread."""
        return [loss for loss in tuple(self._failed_in.get(scope, {}).values()) if not _comes_back(loss)]

    def all_in(self, scope: AnyScope, abandoned: Iterable[Run]) -> dict[int, Outcome]:
        """Returns how they ended, by their numbers; and the runs of the scope that were abandoned and go on."""
        found: dict[int, Outcome] = {}
        for run in abandoned:
            if run.climb is not None and run.climb.outcome is not None and holds_run(scope, run):
                number = run.node.number if isinstance(run.node, WorkerNode) else run.number
                found[number] = run.climb.outcome
        if isinstance(scope, PoolScope):
            return found
        return found | {loss.number: loss.outcome for loss in self.failed_in(scope)}


def _comes_back(loss: Loss) -> bool:
    """Whether its group is about to start it again."""
    renewed = any(group.ending or group.between_runs for group in loss.scope.around)
    return renewed and any(node.number == loss.number for node in tuple(loss.scope.originals))


def _is_failure(final: Outcome) -> bool:
    return final.ended in ("failed", "died") or isinstance(final.error, RestartLimitExceeded)
