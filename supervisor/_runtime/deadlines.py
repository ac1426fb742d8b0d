"""By when shutdowns must have ended what they stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._core.stop_order import deadlines
from .nodes import GroupNode, Node, WorkerNode, scope_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .._run.run import Run, WorkerKind
    from .scopes import PoolScope

__all__ = ["Deadlines", "stop_deadlines"]


class Deadlines:
    """The deadlines of runs, on the loop's clock; `inf` outside of a shutdown. On the loop's thread.

    Args:
        budget: Returns how many seconds the ladder of a run takes.
        pools: The pools that are shut down alone, by what carries out their calls.
    """

    def __init__(self, budget: Callable[[Run], float], pools: Mapping[WorkerKind, PoolScope]) -> None:
        self._budget = budget
        self._pools = pools
        self._of_workers: dict[Node, float] = {}  # of those that are stopped, and that others wait for

    def of_scope(self, scope: GroupNode) -> float:
        """Returns by when shutdowns must have ended what is in a scope."""
        at = scope.shutdown.deadline
        for around in scope.groups:
            at = min(at, around.shutdown.deadline)
        return at

    def of_call(self, run: Run) -> float:
        """Returns the same for a call, which its pool may have end before."""
        pool = self._pools.get(run.kind)
        at = self.of_scope(scope_of(run))
        return at if pool is None else min(at, pool.shutdown.deadline)

    def of_worker(self, node: WorkerNode) -> float:
        """Returns the same for a worker: those that it comes after still need time after it."""
        at = self.of_scope(node.group)
        return min(at, self._of_workers.get(node, at)) if self._of_workers else at

    def reserve(self, nodes: list[WorkerNode], now: float, deadline: float) -> None:
        """Keeps the time that workers need which others come after; what is kept already is only brought nearer."""
        budgets: dict[Node, float] = {node: self._budget(node.run) for node in nodes}
        for node, at in stop_deadlines(budgets, now, deadline).items():
            self._of_workers[node] = min(at, self._of_workers.get(node, at))

    def ended(self, node: WorkerNode) -> None:
        """A worker has ended for good."""
        self._of_workers.pop(node, None)


def stop_deadlines(budgets: Mapping[Node, float], now: float, deadline: float) -> dict[Node, float]:
    """Returns by when each of the workers that are stopped, which have a budget, must have ended.

    Those that they come after then still have their time. Who comes after a group comes after all that is in it.
    """

    def later(node: Node) -> list[Node]:
        if isinstance(node, GroupNode):
            return list(node.crew.values())
        if node not in budgets:
            return []
        return [other for around in (node, *node.groups) for other in around.after if not other.over]

    return deadlines(budgets, now, deadline, later)
