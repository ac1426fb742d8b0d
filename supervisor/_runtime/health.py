"""Whether a supervisor, or a group, may be given work and can go on. Any thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._core.lifecycle import Up
from .._core.report import Health
from .nodes import GroupNode, WorkerNode, scope_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from .._run.run import Run
    from .shutdown import Shutdown
    from .tree import Tree

__all__ = ["SHUTTING_DOWN", "health_of"]

SHUTTING_DOWN = "is shutting down"

NAMED = 5
"""Names at most in one reason."""


def health_of(
    name: str,
    scope: GroupNode,
    tree: Tree,
    abandoned_runs: Iterable[Run],
    exhausted_names: Iterable[str],
    failed: Sequence[str],
    pools: Mapping[str, str],
    *,
    max_abandoned: int,
    max_exhausted: int,
    max_failed: float,
) -> Health:
    """Looks at a scope: the supervisor, or a group.

    Args:
        name: What it is called in the answer.
        scope: What is looked at.
        tree: The tree that it is in.
        abandoned_runs: The runs that were given up and have not come back, of all scopes.
        exhausted_names: The workers and groups that were given up alone, of all scopes.
        failed: The workers of the scope that have failed for good.
        pools: Why pools of the scope are not ready, by their names.
        max_abandoned: How many runs that were abandoned it may have and be live.
        max_exhausted: How many workers and groups that were given up.
        max_failed: How many workers that have failed.
    """
    abandoned = [run.name for run in abandoned_runs if scope.holds(scope_of(run))]
    exhausted = [other for other in exhausted_names if _named_in(scope, other)]
    ill: list[str] = []
    if len(abandoned) > max_abandoned:
        ill.append(f"more than max_abandoned={max_abandoned} have not come back: {_named(abandoned)}")
    if len(exhausted) > max_exhausted:
        ill.append(f"more than max_exhausted={max_exhausted} were given up: {_named(exhausted)}")
    if len(failed) > max_failed:
        ill.append(f"more than max_failed={max_failed} have failed for good: {_named(failed)}")
    unready = list(_down(tree.root.shutdown, scope))
    if not unready:
        if late := sorted(node.name for node in tuple(tree.workers.values()) if _late(scope, node)):
            unready.append(f"not ready: {_named(late)}")
        if renewed := [inner.name for inner in _renewed_in(scope)]:
            unready.append(f"being started again: {_named(renewed)}")
        unready += (f"pool {pool!r}: {why}" for pool, why in pools.items())
    return Health(name, ready=not ill and not unready, live=not ill, reasons=(*ill, *unready), failed=tuple(failed))


def _down(whole: Shutdown, scope: GroupNode) -> Iterator[str]:
    """Why it takes no work; `whole` is the shutdown of the supervisor."""
    if whole.begun or whole.asked is not None:
        yield SHUTTING_DOWN if whole.report is None else "has shut down"
        return
    for around in scope.around:
        which = "" if around is scope else f"group {around.name!r} "
        if around.over or around.shutdown.report is not None:
            yield f"{which}has ended"
        elif around.shutdown.begun or around.shutdown.asked is not None:
            yield f"{which}{SHUTTING_DOWN}"
        elif _is_renewed(around):
            yield f"{which}is being stopped or started again"
        else:
            continue
        return


def _late(group: GroupNode, node: WorkerNode) -> bool:
    """Whether a worker of this group ought to be ready, and is not; one that is about to end need not."""
    if node.ready_timeout is None or node.ready or not group.holds(node.group):
        return False
    state = node.state
    return not (node.over or (isinstance(state, Up) and state.asked))


def _renewed_in(group: GroupNode) -> Iterator[GroupNode]:
    """The groups in a group that are down, though nobody has shut them down; without those in them."""
    for member in tuple(group.members.values()):
        if not isinstance(member, GroupNode) or member.over or member.shutdown.begun:
            continue
        if _is_renewed(member):
            yield member
        else:
            yield from _renewed_in(member)


def _is_renewed(group: GroupNode) -> bool:
    return group.ending or group.between_runs or group.renewing


def _named_in(group: GroupNode, name: str) -> bool:
    return group.group is None or name == group.name or name.startswith(f"{group.name}/")


def _named(names: Sequence[str]) -> str:
    shown: Iterable[str] = map(repr, names[:NAMED])
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(shown) + more
