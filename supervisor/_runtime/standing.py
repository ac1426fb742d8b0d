"""Where a worker or a call stands at this moment: what its handle says, and its row in a survey. Any thread.

The loop's thread may change it at any time: each of these looks once at what may be replaced, and then uses that.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from .._core.ladder import Stopping
from .._run.run import Run
from .nodes import WorkerNode

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .._core.outcome import WorkerState
    from .._core.policy import StepName
    from .._run.run import WorkerKind
    from .nodes import Node

__all__ = [
    "Live",
    "Position",
    "attempt_of",
    "beat_at",
    "group_of",
    "is_ready",
    "pool_of",
    "position_of",
    "present_run",
    "restarts_left",
    "run_of",
    "stacks_of",
    "started_at",
    "state_of",
]

Live: TypeAlias = Run | WorkerNode
"""A call, or a worker of `start()`."""


class Position(NamedTuple):
    """Where a run is on its ladder.

    Attributes:
        step: The present step.
        next_step: The one that comes next, or "abandon"; None where nothing is left to try.
        next_at: When that comes, on the loop's clock; None where it never does.
    """

    step: StepName
    next_step: StepName | Literal["abandon"] | None
    next_at: float | None


def run_of(of: Live) -> Run:
    """Returns its present run, or its last one."""
    return of.run if isinstance(of, WorkerNode) else of


def present_run(of: Live) -> Run | None:
    """Returns the run that it has now; None between two, and after the end."""
    run = run_of(of)
    return None if run.over else run


def stacks_of(runs: Iterable[Run]) -> dict[int, str]:
    """Returns where runs stand, by their numbers; of those that do not run, nothing. May block for a while."""
    by_kind: dict[WorkerKind, list[Run]] = {}
    for run in runs:
        if not run.over:
            by_kind.setdefault(run.kind, []).append(run)
    found = ((kind.stacks(of), of) for kind, of in by_kind.items())
    return {run.number: stack for stacks, of in found for run, stack in zip(of, stacks, strict=True) if stack}


def state_of(of: Live) -> WorkerState:
    """Returns where it is in its life."""
    if not isinstance(of, WorkerNode):
        return of.state_name
    run = of.run
    state = run.state_name
    if of.over or of.between_runs:
        return "ended" if of.over else "backing_off"
    if state == "ended":  # and what follows is being decided
        return "running" if run.climb is None else "stopping"
    return state


def attempt_of(of: Live) -> int:
    """Returns which run this is, from 1; also where the first one of a worker that its group has made is still due."""
    return max(1, of.attempt)


def is_ready(of: Live) -> bool:
    """Whether its present run is ready; of a call: whether it runs."""
    return of.ready if isinstance(of, WorkerNode) else of.state_name == "running"


def started_at(of: Live, *, replaced: bool) -> float | None:
    """Returns when its present run was entered, on the loop's clock; None where none was.

    Args:
        of: A worker or a call.
        replaced: The clock is that of a test, which stands while a worker is started: it is the moment of the
            submission, then.
    """
    run = present_run(of)
    if run is None or not run.started_at:
        return None
    return run.submitted_at if replaced else run.started_at


def beat_at(of: Live) -> float | None:
    """Returns when its present run gave its last heartbeat, on the loop's clock; None where it has given none."""
    run = present_run(of)
    return None if run is None else run.beat_at or None


def position_of(of: Live) -> Position | None:
    """Returns where its present run is on its ladder; None where nobody stops it."""
    run = present_run(of)
    climb = None if run is None else run.climb
    state = None if climb is None else climb.state
    if not isinstance(state, Stopping):
        return None
    if state.ends_at == inf:
        return Position(state.step.name, None, None)
    return Position(state.step.name, state.later[0].name if state.later else "abandon", state.ends_at)


def restarts_left(of: Live | Node, now: float) -> int | None:
    """Returns how often it would be started again if it failed now, and again at once; None: nothing is counted."""
    if isinstance(of, Run) or of.restart.when == "never":
        return None
    restart, past = of.restart, of.state.past
    return max(0, restart.max_restarts - sum(now - at < restart.within for at in past.restarts))


def pool_of(of: Live) -> str | None:
    """Returns the name of the pool of a call; None for a worker."""
    return None if isinstance(of, WorkerNode) else of.kind.settings.name


def group_of(of: Live) -> str | None:
    """Returns the name of the group that it is in, with those of the groups around that; None: none."""
    return (of.group.name if isinstance(of, WorkerNode) else of.scope.name) or None
