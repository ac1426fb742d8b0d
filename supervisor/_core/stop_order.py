"""Pure: by when each worker must have ended, so that those it comes after still have their time."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

from .._runtime.nodes import GroupNode, Node, WorkerNode

__all__ = ["deadlines"]


# ------------------------------------------------------------------------------------------------ the order of stops


def deadlines(
    lives: Iterable[WorkerNode], now: float, deadline: float, budget: Callable[[WorkerNode], float]
) -> dict[WorkerNode, float]:
    """Returns by when each worker must have ended, so that those that it comes after still have their time.

    Where the longest path of ladders does not fit, all graces shrink by one factor.
    """
    stopped = dict.fromkeys(lives)
    left = max(0.0, deadline - now)
    later: dict[WorkerNode, float] = {}  # what is needed once this worker has ended
    needed: dict[Node, float] = {}  # for it, and what comes later

    def before(member: Node) -> list[Node]:
        """What must wait for a member: that which it comes after; of a group, all that is in it counts."""
        if isinstance(member, GroupNode):
            return list(member.lives)
        if member not in stopped:
            return []
        return [other for around in (member, *member.groups) for other in around.after if not other.over]

    for life in stopped:
        path: list[Node] = [life]  # no recursion: chains may be as long as they like
        while path:
            member = path[-1]
            others = [] if member in needed else before(member)
            missing = [other for other in others if other not in needed]
            if missing:
                path += missing
                continue
            path.pop()
            if member in needed:
                continue
            longest = max((needed[other] for other in others), default=0.0)
            if isinstance(member, WorkerNode) and member in stopped:
                later[member] = longest
                longest += min(budget(member), left)
            needed[member] = longest

    longest = max(needed.values(), default=0.0)
    factor = 1.0 if longest <= left else left / longest
    return {life: deadline - factor * after if after else deadline for life, after in later.items()}
