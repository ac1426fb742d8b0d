"""Looks at all that one supervisor has, for whoever shows it. Any thread, also while the loop is blocked."""

from __future__ import annotations

import os
import platform
import time
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from .._core.strategy import Restarting
from .._core.survey import GroupRow, ShutdownProgress, Survey, WorkerRow
from .._loop.clock import is_replaced
from .nodes import GroupNode, WorkerNode
from .standing import (
    attempt_of,
    beat_at,
    group_of,
    is_ready,
    pool_of,
    position_of,
    restarts_left,
    run_of,
    started_at,
    state_of,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from typing import Literal

    from .._core.outcome import WorkerState
    from .._core.report import Health, PoolStatistics
    from .runtime import Runtime
    from .standing import Live

__all__ = ["loop_blocked_for", "survey", "unused"]


def survey(
    runtime: Runtime,
    version: str,
    health: Health,
    *,
    matching: str = "*",
    states: Collection[WorkerState] = (),
    first: int = 0,
    limit: int | None = None,
) -> Survey:
    """Looks at a supervisor that is in use. Any thread.

    Args:
        runtime: The supervisor's.
        version: Of this library.
        health: What it says of itself.
        matching: Only workers whose names match this pattern, as a shell's: `*`, `?`, `[...]`.
        states: Only those in one of these states; none: in any.
        first: How many of the oldest are left out.
        limit: How many are shown at most; None: all.
    """
    shutdown, now, replaced = runtime.shutdown, runtime.clock(), is_replaced(runtime.clock)
    there = sorted(_all(runtime), key=lambda of: of.number)
    wanted = [of for of in there if _is_wanted(of, matching, states)]
    shown = wanted[first:] if limit is None else wanted[first : first + limit]
    report = shutdown.report
    return Survey(
        supervisor=runtime.settings.name,
        pid=os.getpid(),
        version=version,
        python=platform.python_version(),
        at=time.time(),
        state="shut_down" if report is not None else "shutting_down" if shutdown.begun else "running",
        health=health,
        pools=tuple(runtime.kinds.statistics(tuple(runtime.escalation.abandoned.values())).values()),
        groups=tuple(_groups_in(runtime.root, now)),
        workers=tuple(row for of in shown if (row := _row(of, now, replaced=replaced)) is not None),
        matching=len(wanted),
        unended=len(there),
        loop_blocked_for=loop_blocked_for(runtime),
        incidents=runtime.incidents.of(),
        shutdown=ShutdownProgress(
            reason=shutdown.reason,
            begun_ago=shutdown.seconds_since(now),
            deadline_in=shutdown.deadline - now,
            draining=shutdown.draining,
            ended=report is not None,
        )
        if shutdown.begun
        else None,
        report=report,
    )


def loop_blocked_for(runtime: Runtime) -> float | None:
    """Returns for how long the loop has not come to a turn; None where nobody watches it, or it has. Any thread."""
    return None if runtime.stalls is None else runtime.stalls.blocked_for()


def unused(name: str, version: str, health: Health, pools: tuple[PoolStatistics, ...]) -> Survey:
    """Returns what there is to see of a supervisor that nobody has used yet. Any thread."""
    return Survey(
        supervisor=name,
        pid=os.getpid(),
        version=version,
        python=platform.python_version(),
        at=time.time(),
        state="unused",
        health=health,
        pools=pools,
    )


def _all(runtime: Runtime) -> list[Live]:
    calls = [run for run in runtime.kinds.calls_in(runtime.root) if not run.over]
    return [*runtime.tree.workers_in(runtime.root), *calls]


def _is_wanted(of: Live, matching: str, states: Collection[WorkerState]) -> bool:
    return (not states or state_of(of) in states) and (matching == "*" or fnmatchcase(of.name, matching))


def _row(of: Live, now: float, *, replaced: bool) -> WorkerRow | None:
    """Returns its row; None where it has ended meanwhile: its name is none any more, then."""
    run, state, position = run_of(of), state_of(of), position_of(of)
    started, beat, climb = started_at(of, replaced=replaced), beat_at(of), run.climb
    node, ident, pid = (None, None, None) if run.over else run.carrier
    row = WorkerRow(
        name=of.name,
        kind=of.kind.name,
        role="worker" if isinstance(of, WorkerNode) else "call",
        state=state,
        pool=pool_of(of),
        group=group_of(of),
        attempt=attempt_of(of),
        restarts=attempt_of(of) - 1,
        restarts_left=restarts_left(of, now),
        ready=is_ready(of),
        ident=ident,
        pid=pid,
        queued_for=max(0.0, now - run.submitted_at) if state == "queued" else None,
        running_for=None if started is None or run.ended_at else max(0.0, now - started),
        beat_ago=None if beat is None else max(0.0, now - beat),
        reason=None if climb is None or run.over else climb.reason,
        step=None if position is None else position.step,
        step_ends_in=None if position is None or position.next_at is None else position.next_at - now,
        next_step=None if position is None else position.next_step,
        submitted_from=of.submitted_from,
        node=node,
    )
    return None if "ended" in (state, state_of(of)) else row


def _groups_in(group: GroupNode, now: float) -> Iterator[GroupRow]:
    """Gives the groups in this one that have not ended, and those in them."""
    for node in tuple(group.members.values()):
        if not isinstance(node, GroupNode) or node.over or node.shutdown.report is not None:
            continue
        yield GroupRow(
            name=node.name,
            state=_state_of_group(node),
            strategy=node.strategy,
            workers=len(node.crew),
            calls=len(node.calls),
            restarts=node.restarts,
            restarts_left=restarts_left(node, now),
        )
        yield from _groups_in(node, now)


def _state_of_group(group: GroupNode) -> Literal["running", "restarting", "stopping", "backing_off"]:
    if group.between_runs:
        return "backing_off"
    if any(around.shutdown.begun or around.ending for around in group.around):
        return "stopping"
    return "restarting" if isinstance(group.phase, Restarting) else "running"
