"""Pure: when stops begin, and by when each worker must have ended, so that what comes after it still has its time."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["deadlines", "drain_within", "seconds_before_stop"]

K = TypeVar("K")

LADDER_SHARE = 0.25
"""How much of the time that there is in all ladders have: that of a call without a timeout of its own at most, those of
a shutdown at least, whatever its drain."""


def seconds_before_stop(timeout: float | None, within: float, budget: float) -> float:
    """Returns after how many seconds a call is stopped that is to have ended, ladder included, `within` some.

    Args:
        timeout: After how many its caller wants it stopped, if at all; it counts only where that leaves any time.
        within: How many it has in all.
        budget: How many its ladder takes.
    """
    if timeout is not None and timeout < within:
        return timeout
    return within - min(budget, within * LADDER_SHARE)


def drain_within(timeout: float, drain: float) -> float:
    """Returns for how many seconds calls go on in a shutdown that takes `timeout` and is to drain for `drain`."""
    return min(drain, timeout * (1 - LADDER_SHARE))


def deadlines(
    budgets: Mapping[K, float], now: float, deadline: float, later: Callable[[K], Sequence[K]]
) -> dict[K, float]:
    """Returns by when each of those that are stopped, which are those that have a budget, must have ended.

    Where the longest path of ladders does not fit, all graces shrink by one factor.

    Args:
        budgets: How many seconds each of them may take; `math.inf` counts as all that are left.
        now: The present moment.
        deadline: When the last one must have ended.
        later: Returns those that are stopped only once this one has ended. There may be some without a budget among
            them, such as groups, which need no time of their own. There is no circle.
    """
    left = max(0.0, deadline - now)
    after: dict[K, float] = {}  # seconds that are needed once this one has ended
    needed: dict[K, float] = {}  # for it, and all that comes later
    for first in budgets:
        path = [first]  # no recursion: chains may be as long as they like
        while path:
            key = path[-1]
            others = () if key in needed else later(key)
            missing = [other for other in others if other not in needed]
            if missing:
                path += missing
                continue
            path.pop()
            if key in needed:
                continue
            longest = max((needed[other] for other in others), default=0.0)
            if key in budgets:
                after[key] = longest
                longest += min(budgets[key], left)
            needed[key] = longest
    longest = max(needed.values(), default=0.0)
    factor = 1.0 if longest <= left else left / longest
    return {key: deadline - factor * seconds if seconds else deadline for key, seconds in after.items()}
